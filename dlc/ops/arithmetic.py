"""Arithmetic, elementwise."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlc import dtypes
from dlc.errors import DTypeError
from dlc.ops.definition import Array, located
from dlc.ops.elementwise import elementwise, where
from dlc.ops.tensor import Tensor, wrap

FLOAT = dtypes.FLOATING
SIGNED = dtypes.SIGNED + FLOAT


@elementwise("{0} + {1}", reference=np.add, vjp=lambda g, y, a, b: (g, g), commutative=True)
def add(a: Any, b: Any) -> Any:
    """The sum a + b.

    >>> import dlc
    >>> dlc.evaluate(dlc.add(2.0, 3.0)).item()
    5.0
    """


@elementwise("{0} - {1}", reference=np.subtract, vjp=lambda g, y, a, b: (g, negative(g)))
def subtract(a: Any, b: Any) -> Any:
    """The difference a - b.

    >>> import dlc
    >>> dlc.evaluate(dlc.subtract(2.0, 3.0)).item()
    -1.0
    """


@elementwise("{0} * {1}", reference=np.multiply, vjp=lambda g, y, a, b: (g * b, g * a), commutative=True)
def multiply(a: Any, b: Any) -> Any:
    """The product a * b.

    >>> import dlc
    >>> dlc.evaluate(dlc.multiply(2.0, 3.0)).item()
    6.0
    """


@elementwise(
    "masked_multiply({0}, {1})",
    reference=lambda g, d: np.where(g == 0, np.zeros((), g.dtype), g * d).astype(g.dtype),
    accepts=FLOAT,
    vjp=lambda h, y, g, d: (masked_multiply(h, d), masked_multiply(h, g)),
)
def masked_multiply(g: Any, d: Any) -> Any:
    """g * d, but exactly 0 where g is 0, whatever d: how VJPs scale a cotangent by a derivative that may be infinite.

    It keeps NaN out of the branches that `where` masks.

    >>> import dlc
    >>> dlc.evaluate(dlc.ops.masked_multiply([0.0, 2.0], [float("inf"), 3.0])).tolist()
    [0.0, 6.0]
    """


@elementwise(
    "{0} / {1}",
    reference=np.divide,
    accepts=FLOAT,
    domains=((-2.0, 2.0), (0.5, 2.0)),
    vjp=lambda g, y, a, b: (masked_multiply(g, 1.0 / b), masked_multiply(g, negative(y) / b)),
)
def divide(a: Any, b: Any) -> Any:
    """The quotient a / b of floating-point tensors.

    >>> import dlc
    >>> dlc.evaluate(dlc.divide(3.0, 2.0)).item()
    1.5
    """


@elementwise("floor_divide({0}, {1})", reference=np.floor_divide, domains=((-9.0, 9.0), (1.0, 4.0)), gradient=False,
             vjp=lambda g, y, a, b: (None, None))  # fmt: skip
def floor_divide(a: Any, b: Any) -> Any:
    """a / b rounded towards minus infinity; its derivative is 0 almost everywhere. An integer divided by 0 gives 0.

    >>> import dlc
    >>> dlc.evaluate(dlc.floor_divide(-7.0, 2.0)).item()
    -4.0
    """


@elementwise("remainder({0}, {1})", reference=np.remainder, domains=((-9.0, 9.0), (1.0, 4.0)), gradient=False,
             vjp=lambda g, y, a, b: (g, negative(g) * floor_divide(a, b)))  # fmt: skip
def remainder(a: Any, b: Any) -> Any:
    """a - b * floor(a / b): the remainder with the sign of b.

    >>> import dlc
    >>> dlc.evaluate(dlc.remainder(-7.0, 2.0)).item()
    1.0
    """


def _pow_vjp(g: Tensor, y: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    from dlc.ops.functions import isnan, log

    power = where(b == 0, 0.0, b * pow(a, where(b == 0, 1.0, b) - 1.0))
    logarithm = where(a > 0, y * log(where(a > 0, a, 1.0)), where(isnan(y), y, 0.0))
    return masked_multiply(g, power), masked_multiply(g, logarithm)


def _power_reference(a: Array, b: Array) -> Array:
    """In float64; NumPy's `power` takes the root where one exponent is 0.5, with another value at -0 and -inf."""
    found: Array = np.float_power(a, b).astype(a.dtype)
    return found


@elementwise("power({0}, {1})", reference=_power_reference, accepts=FLOAT, domains=((0.5, 2.0), (-2.0, 2.0)),
             vjp=_pow_vjp)  # fmt: skip
def pow(a: Any, b: Any) -> Any:
    """a to the power b. The derivative by b is taken as 0 where a <= 0, unless the power is NaN.

    >>> import dlc
    >>> dlc.evaluate(dlc.pow(2.0, 3.0)).item()
    8.0
    """


@elementwise("-{0}", reference=np.negative, accepts=SIGNED, vjp=lambda g, y, x: (negative(g),))
def negative(x: Any) -> Any:
    """-x.

    >>> import dlc
    >>> dlc.evaluate(dlc.negative(2.0)).item()
    -2.0
    """


@elementwise("absolute({0})", reference=np.abs, accepts=SIGNED, domains=((0.5, 2.0),),
             vjp=lambda g, y, x: (g * sign(x),))  # fmt: skip
def abs(x: Any) -> Any:
    """The absolute value; its derivative at 0 is 0.

    >>> import dlc
    >>> dlc.evaluate(dlc.abs(-2.0)).item()
    2.0
    """


@elementwise("sign({0})", reference=lambda x: np.where(x == 0, x, np.sign(x)), accepts=SIGNED,
             vjp=lambda g, y, x: (None,), gradient=False)  # fmt: skip
def sign(x: Any) -> Any:
    """-1, 0 or 1 by the sign of x; NaN and both zeros stay as they are. Its derivative is 0 almost everywhere.

    >>> import dlc
    >>> dlc.evaluate(dlc.sign([-2.0, 0.0, 3.0])).tolist()
    [-1.0, 0.0, 1.0]
    """


@elementwise("maximum({0}, {1})", reference=np.maximum, vjp=lambda g, y, a, b: _share(g, a, b, a > b), commutative=True)
def maximum(a: Any, b: Any) -> Any:
    """The larger of a and b; NaN wins. Where they are equal the cotangent is split in halves.

    >>> import dlc
    >>> dlc.evaluate(dlc.maximum(2.0, 3.0)).item()
    3.0
    """


@elementwise("minimum({0}, {1})", reference=np.minimum, vjp=lambda g, y, a, b: _share(g, a, b, a < b), commutative=True)
def minimum(a: Any, b: Any) -> Any:
    """The smaller of a and b; NaN wins. Where they are equal the cotangent is split in halves.

    >>> import dlc
    >>> dlc.evaluate(dlc.minimum(2.0, 3.0)).item()
    2.0
    """


@located
def positive(x: Any) -> Tensor:
    """x itself, a number.

    >>> import dlc
    >>> dlc.evaluate(dlc.positive(-2.0)).item()
    -2.0
    """
    t = wrap(x)
    if t.dtype not in dtypes.NUMERIC:
        raise DTypeError(f"positive takes numbers, not {t.type}; convert with .astype('int8')")
    return t


def _share(g: Tensor, a: Tensor, b: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
    half, tie = g * 0.5, a == b
    return where(tie, half, where(first, g, 0.0)), where(tie, half, where(first, 0.0, g))
