"""Powers and logarithms to other bases, and lengths, elementwise."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dlc import dtypes
from dlc.ops.arithmetic import masked_multiply
from dlc.ops.definition import located
from dlc.ops.elementwise import elementwise, where
from dlc.ops.functions import isfinite, sigmoid
from dlc.ops.tensor import Tensor, wrap

FLOAT = dtypes.FLOATING


def _rounded(function: Any) -> Any:
    """A function computed in float64 and rounded: exact powers have exact logarithms."""
    return lambda x: function(x.astype(np.float64)).astype(x.dtype)


@elementwise("exp2({0})", reference=np.exp2, accepts=FLOAT,
             vjp=lambda g, y, x: (masked_multiply(g, y * math.log(2)),))  # fmt: skip
def exp2(x: Any) -> Any:
    """2 to the power x.

    >>> import dlc
    >>> dlc.evaluate(dlc.exp2(3.0)).item()
    8.0
    """


@elementwise("log2({0})", reference=_rounded(np.log2), accepts=FLOAT, domains=((0.5, 2.0),),
             vjp=lambda g, y, x: (masked_multiply(g, 1.0 / math.log(2) / x),))  # fmt: skip
def log2(x: Any) -> Any:
    """The logarithm to base 2; -inf at 0, NaN below.

    >>> import dlc
    >>> dlc.evaluate(dlc.log2(8.0)).item()
    3.0
    """


@elementwise("log10({0})", reference=_rounded(np.log10), accepts=FLOAT, domains=((0.5, 2.0),),
             vjp=lambda g, y, x: (masked_multiply(g, 1.0 / math.log(10) / x),))  # fmt: skip
def log10(x: Any) -> Any:
    """The logarithm to base 10; -inf at 0, NaN below.

    >>> import dlc
    >>> dlc.evaluate(dlc.log10(100.0)).item()
    2.0
    """


def _logaddexp_vjp(g: Tensor, y: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    gap = where((a == b) & ~isfinite(a), 0.0, a - b)  # equal infinities share
    return g * sigmoid(gap), g * sigmoid(-gap)


@elementwise(
    f"select({{0}} == {{1}}, {{0}} + {{T}}({math.log(2)!r}), "
    "maximum({0}, {1}) + log1p(exp(-absolute({0} - {1}))))",
    reference=np.logaddexp,
    accepts=FLOAT,
    vjp=_logaddexp_vjp,
    commutative=True,
)  # fmt: skip
def logaddexp(a: Any, b: Any) -> Any:
    """log(exp(a) + exp(b)), without overflow.

    >>> import dlc
    >>> f"{dlc.evaluate(dlc.logaddexp(1000.0, 1000.0)):.2f}"
    '1000.69'
    """


def _hypot_vjp(g: Tensor, y: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    size = where(y == 0, 1.0, y)
    return g * (a / size), g * (b / size)


@elementwise("hypot({0}, {1})", reference=np.hypot, accepts=FLOAT, domains=((0.5, 2.0),), vjp=_hypot_vjp,
             commutative=True)  # fmt: skip
def hypot(a: Any, b: Any) -> Any:
    """sqrt(a * a + b * b), without overflow. Where both are 0 its derivatives are taken as 0.

    >>> import dlc
    >>> dlc.evaluate(dlc.hypot(3.0, 4.0)).item()
    5.0
    """


@located
def reciprocal(x: Any) -> Tensor:
    """1 / x of floating-point numbers.

    >>> import dlc
    >>> dlc.evaluate(dlc.reciprocal(4.0)).item()
    0.25
    """
    return 1.0 / wrap(x)
