"""Trigonometric and hyperbolic functions and their inverses, elementwise."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlc import dtypes
from dlc.ops.arithmetic import masked_multiply, negative
from dlc.ops.elementwise import elementwise, where
from dlc.ops.functions import rsqrt
from dlc.ops.powers import hypot
from dlc.ops.tensor import Tensor

FLOAT = dtypes.FLOATING


def _less_square(x: Tensor) -> Tensor:
    """1 - x * x, exact near 1 and -1."""
    return (1.0 - x) * (1.0 + x)


@elementwise("tan({0})", reference=np.tan, accepts=FLOAT, domains=((-1.2, 1.2),),
             vjp=lambda g, y, x: (g * (1.0 + y * y),))  # fmt: skip
def tan(x: Any) -> Any:
    """The tangent of x radians.

    >>> import dlc
    >>> dlc.evaluate(dlc.tan(0.0)).item()
    0.0
    """


@elementwise("asin({0})", reference=np.arcsin, accepts=FLOAT, domains=((-0.9, 0.9),),
             vjp=lambda g, y, x: (masked_multiply(g, rsqrt(_less_square(x))),))  # fmt: skip
def asin(x: Any) -> Any:
    """The angle in [-pi/2, pi/2] whose sine is x; NaN beyond 1 and -1, where the derivative is infinite.

    >>> import dlc
    >>> f"{dlc.evaluate(dlc.asin(1.0)):.4f}"
    '1.5708'
    """


@elementwise("acos({0})", reference=np.arccos, accepts=FLOAT, domains=((-0.9, 0.9),),
             vjp=lambda g, y, x: (masked_multiply(negative(g), rsqrt(_less_square(x))),))  # fmt: skip
def acos(x: Any) -> Any:
    """The angle in [0, pi] whose cosine is x; NaN beyond 1 and -1, where the derivative is infinite.

    >>> import dlc
    >>> dlc.evaluate(dlc.acos(1.0)).item()
    0.0
    """


@elementwise("atan({0})", reference=np.arctan, accepts=FLOAT, vjp=lambda g, y, x: (g / (1.0 + x * x),))
def atan(x: Any) -> Any:
    """The angle in [-pi/2, pi/2] whose tangent is x.

    >>> import dlc
    >>> f"{dlc.evaluate(dlc.atan(1.0)):.4f}"
    '0.7854'
    """


def _atan2_vjp(g: Tensor, y: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    size = hypot(a, b)
    size = where(size == 0, 1.0, size)
    return g * (b / size / size), negative(g) * (a / size / size)


@elementwise("atan2({0}, {1})", reference=np.arctan2, accepts=FLOAT, domains=((0.5, 2.0), (-2.0, -0.5)), vjp=_atan2_vjp)
def atan2(a: Any, b: Any) -> Any:
    """The angle in [-pi, pi] of the point with ordinate a and abscissa b. At the origin its derivatives are taken as 0.

    >>> import dlc
    >>> f"{dlc.evaluate(dlc.atan2(1.0, -1.0)):.4f}"
    '2.3562'
    """


@elementwise("sinh({0})", reference=np.sinh, accepts=FLOAT, vjp=lambda g, y, x: (masked_multiply(g, cosh(x)),))
def sinh(x: Any) -> Any:
    """The hyperbolic sine, (exp(x) - exp(-x)) / 2.

    >>> import dlc
    >>> dlc.evaluate(dlc.sinh(0.0)).item()
    0.0
    """


@elementwise("cosh({0})", reference=np.cosh, accepts=FLOAT, vjp=lambda g, y, x: (masked_multiply(g, sinh(x)),))
def cosh(x: Any) -> Any:
    """The hyperbolic cosine, (exp(x) + exp(-x)) / 2.

    >>> import dlc
    >>> dlc.evaluate(dlc.cosh(0.0)).item()
    1.0
    """


@elementwise("asinh({0})", reference=np.arcsinh, accepts=FLOAT, vjp=lambda g, y, x: (g / hypot(x, 1.0),))
def asinh(x: Any) -> Any:
    """The number whose hyperbolic sine is x.

    >>> import dlc
    >>> f"{dlc.evaluate(dlc.asinh(1.0)):.4f}"
    '0.8814'
    """


@elementwise("acosh({0})", reference=np.arccosh, accepts=FLOAT, domains=((1.5, 3.0),),
             vjp=lambda g, y, x: (masked_multiply(g, rsqrt(x - 1.0) * rsqrt(x + 1.0)),))  # fmt: skip
def acosh(x: Any) -> Any:
    """The number >= 0 whose hyperbolic cosine is x; NaN below 1, where the derivative is infinite.

    >>> import dlc
    >>> dlc.evaluate(dlc.acosh(1.0)).item()
    0.0
    """


@elementwise("atanh({0})", reference=np.arctanh, accepts=FLOAT, domains=((-0.9, 0.9),),
             vjp=lambda g, y, x: (masked_multiply(g, 1.0 / _less_square(x)),))  # fmt: skip
def atanh(x: Any) -> Any:
    """The number whose hyperbolic tangent is x; infinite at 1 and -1, NaN beyond.

    >>> import dlc
    >>> dlc.evaluate(dlc.atanh(0.0)).item()
    0.0
    """
