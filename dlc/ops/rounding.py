"""Rounding, signs and neighbours of floating-point numbers; bounds."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dlc import dtypes
from dlc.errors import DTypeError
from dlc.ops.arithmetic import abs as abs_
from dlc.ops.definition import located
from dlc.ops.elementwise import elementwise, where
from dlc.ops.tensor import Tensor, wrap

FLOAT = dtypes.FLOATING


@elementwise("trunc({0})", reference=np.trunc, accepts=FLOAT, vjp=lambda g, y, x: (None,), gradient=False)
def trunc(x: Any) -> Any:
    """x without its fraction, towards 0; its derivative is 0 almost everywhere.

    >>> import dlc
    >>> dlc.evaluate(dlc.trunc([-1.5, 1.5])).tolist()
    [-1.0, 1.0]
    """


@elementwise("rint({0})", reference=np.rint, accepts=FLOAT, vjp=lambda g, y, x: (None,), gradient=False)
def round(x: Any) -> Any:
    """The nearest integer, the even one of two; its derivative is 0 almost everywhere.

    >>> import dlc
    >>> dlc.evaluate(dlc.round([0.5, 1.5, 2.4])).tolist()
    [0.0, 2.0, 2.0]
    """


@elementwise("copysign({0}, {1})", reference=np.copysign, accepts=FLOAT,
             vjp=lambda g, y, a, b: (g * copysign(1.0, a) * copysign(1.0, b), None))  # fmt: skip
def copysign(a: Any, b: Any) -> Any:
    """The size of a with the sign of b, which -0.0 and NaN have too; the derivative by b is 0 almost everywhere.

    >>> import dlc
    >>> dlc.evaluate(dlc.copysign([1.0, 2.0], [-0.0, 3.0])).tolist()
    [-1.0, 2.0]
    """


@elementwise("nextafter({0}, {1})", reference=np.nextafter, accepts=FLOAT, vjp=lambda g, y, a, b: (g, None),
             gradient=False)  # fmt: skip
def nextafter(a: Any, b: Any) -> Any:
    """The floating-point number next to a in the direction of b.

    >>> import dlc
    >>> dlc.evaluate(dlc.nextafter(1.0, 2.0)).item() - 1.0
    1.1920928955078125e-07
    """


@located
def signbit(x: Any) -> Tensor:
    """Whether the sign of x is minus, as that of -0.0 is.

    >>> import dlc
    >>> dlc.evaluate(dlc.signbit([-0.0, 0.0, -2.0])).tolist()
    [True, False, True]
    """
    t = wrap(x)
    if t.dtype in dtypes.INTEGER:
        return t < 0
    return copysign(1.0, t) < 0.0


@located
def isinf(x: Any) -> Tensor:
    """Whether x is infinite.

    >>> import dlc
    >>> dlc.evaluate(dlc.isinf(dlc.constant([-float("inf"), 1.0]))).tolist()
    [True, False]
    """
    t = wrap(x)
    if t.dtype not in FLOAT:
        raise DTypeError(f"isinf takes floating-point tensors, not {t.type}; convert with .astype('float32')")
    return abs_(t) == math.inf


@located
def clip(x: Any, min: Any = None, max: Any = None) -> Tensor:
    """x, but `min` where it is below and `max` where it is above; bounds broadcast, and None is no bound.

    NaN stays. The cotangent goes to x within the bounds and on them, and to a bound where it is taken. Where `min`
    is above `max` the result is `max`.

    >>> import dlc
    >>> dlc.evaluate(dlc.clip([-2.0, 0.5, 3.0], 0.0, 1.0)).tolist()
    [0.0, 0.5, 1.0]
    """
    t = wrap(x)
    if min is not None:
        t = where(t < min, min, t)
    return t if max is None else where(t > max, max, t)
