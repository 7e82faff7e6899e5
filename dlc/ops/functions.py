"""Functions of one real number, elementwise."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dlc import dtypes
from dlc.ops.arithmetic import masked_multiply, negative
from dlc.ops.elementwise import elementwise, where

FLOAT = dtypes.FLOATING


@elementwise("exp({0})", reference=np.exp, accepts=FLOAT, vjp=lambda g, y, x: (masked_multiply(g, y),))
def exp(x: Any) -> Any:
    """e to the power x.

    >>> import dlc
    >>> dlc.evaluate(dlc.exp(0.0)).item()
    1.0
    """


@elementwise("expm1({0})", reference=np.expm1, accepts=FLOAT, vjp=lambda g, y, x: (masked_multiply(g, y + 1.0),))
def expm1(x: Any) -> Any:
    """exp(x) - 1, exact near 0.

    >>> import dlc
    >>> dlc.evaluate(dlc.expm1(0.0)).item()
    0.0
    """


@elementwise("log({0})", reference=np.log, accepts=FLOAT, domains=((0.5, 2.0),),
             vjp=lambda g, y, x: (masked_multiply(g, 1.0 / x),))  # fmt: skip
def log(x: Any) -> Any:
    """The natural logarithm; -inf at 0, NaN below.

    >>> import dlc
    >>> dlc.evaluate(dlc.log(1.0)).item()
    0.0
    """


@elementwise("log1p({0})", reference=np.log1p, accepts=FLOAT, domains=((-0.5, 2.0),),
             vjp=lambda g, y, x: (masked_multiply(g, 1.0 / (1.0 + x)),))  # fmt: skip
def log1p(x: Any) -> Any:
    """log(1 + x), exact near 0.

    >>> import dlc
    >>> dlc.evaluate(dlc.log1p(0.0)).item()
    0.0
    """


@elementwise("sqrt({0})", reference=np.sqrt, accepts=FLOAT, domains=((0.5, 2.0),),
             vjp=lambda g, y, x: (masked_multiply(g, 0.5 / y),))  # fmt: skip
def sqrt(x: Any) -> Any:
    """The square root; its derivative at 0 is infinite.

    >>> import dlc
    >>> dlc.evaluate(dlc.sqrt(9.0)).item()
    3.0
    """


@elementwise("rsqrt({0})", reference=lambda x: (1 / np.sqrt(x)).astype(x.dtype), accepts=FLOAT, domains=((0.5, 2.0),),
             vjp=lambda g, y, x: (masked_multiply(g, -0.5 * y / x),))  # fmt: skip
def rsqrt(x: Any) -> Any:
    """1 / sqrt(x); infinite at 0, NaN below.

    >>> import dlc
    >>> dlc.evaluate(dlc.rsqrt(4.0)).item()
    0.5
    """


@elementwise("sin({0})", reference=np.sin, accepts=FLOAT, vjp=lambda g, y, x: (g * cos(x),))
def sin(x: Any) -> Any:
    """The sine of x radians.

    >>> import dlc
    >>> dlc.evaluate(dlc.sin(0.0)).item()
    0.0
    """


@elementwise("cos({0})", reference=np.cos, accepts=FLOAT, vjp=lambda g, y, x: (negative(g) * sin(x),))
def cos(x: Any) -> Any:
    """The cosine of x radians.

    >>> import dlc
    >>> dlc.evaluate(dlc.cos(0.0)).item()
    1.0
    """


@elementwise("tanh({0})", reference=np.tanh, accepts=FLOAT, vjp=lambda g, y, x: (g * (1.0 - y * y),))
def tanh(x: Any) -> Any:
    """The hyperbolic tangent.

    >>> import dlc
    >>> dlc.evaluate(dlc.tanh(0.0)).item()
    0.0
    """


def _sigmoid_reference(x: np.ndarray[Any, Any]) -> Any:
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e)).astype(x.dtype)


@elementwise("sigmoid({0})", reference=_sigmoid_reference, accepts=FLOAT, vjp=lambda g, y, x: (g * (y * (1.0 - y)),))
def sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x)), without overflow for any x.

    >>> import dlc
    >>> dlc.evaluate(dlc.sigmoid(0.0)).item()
    0.5
    """


def _erf_reference(x: np.ndarray[Any, Any]) -> Any:
    return np.array([math.erf(v) for v in x.ravel()], x.dtype).reshape(x.shape)


@elementwise("erf({0})", reference=_erf_reference, accepts=FLOAT,
             vjp=lambda g, y, x: (g * (exp(negative(x * x)) * (2.0 / math.sqrt(math.pi))),))  # fmt: skip
def erf(x: Any) -> Any:
    """The error function, 2/sqrt(pi) times the integral of exp(-t^2) from 0 to x.

    >>> import dlc
    >>> dlc.evaluate(dlc.erf(0.0)).item()
    0.0
    """


@elementwise("relu({0})", reference=lambda x: np.where(x < 0, np.zeros((), x.dtype), x), accepts=dtypes.SIGNED + FLOAT,
             vjp=lambda g, y, x: (where(y > 0, g, 0.0),))  # fmt: skip
def relu(x: Any) -> Any:
    """max(x, 0), with derivative 0 at 0; NaN and -0.0 stay as they are.

    >>> import dlc
    >>> dlc.evaluate(dlc.relu([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """


@elementwise("floor({0})", reference=np.floor, accepts=FLOAT, vjp=lambda g, y, x: (None,), gradient=False)
def floor(x: Any) -> Any:
    """The largest integer not above x; its derivative is 0 almost everywhere.

    >>> import dlc
    >>> dlc.evaluate(dlc.floor(-1.5)).item()
    -2.0
    """


@elementwise("ceil({0})", reference=np.ceil, accepts=FLOAT, vjp=lambda g, y, x: (None,), gradient=False)
def ceil(x: Any) -> Any:
    """The smallest integer not below x; its derivative is 0 almost everywhere.

    >>> import dlc
    >>> dlc.evaluate(dlc.ceil(1.5)).item()
    2.0
    """


@elementwise("isnan({0})", reference=np.isnan, accepts=FLOAT, result="bool")
def isnan(x: Any) -> Any:
    """Whether x is NaN.

    >>> import dlc
    >>> dlc.evaluate(dlc.isnan(float("nan"))).item()
    True
    """


@elementwise("isfinite({0})", reference=np.isfinite, accepts=FLOAT, result="bool")
def isfinite(x: Any) -> Any:
    """Whether x is neither infinite nor NaN.

    >>> import dlc
    >>> dlc.evaluate(dlc.isfinite(1.0)).item()
    True
    """
