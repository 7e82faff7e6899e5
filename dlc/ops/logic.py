"""Comparisons, and logic on bools and the bits of integers, elementwise."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlc import dtypes
from dlc.ops.definition import located
from dlc.ops.elementwise import convert, elementwise
from dlc.ops.tensor import Tensor, wrap

BITS = dtypes.BOOL + dtypes.INTEGER


@elementwise("{0} == {1}", reference=np.equal, accepts=dtypes.ALL, result="bool", commutative=True)
def equal(a: Any, b: Any) -> Any:
    """Whether a equals b, elementwise.

    >>> import dlc
    >>> dlc.evaluate(dlc.equal([1.0, 2.0], [1.0, 3.0])).tolist()
    [True, False]
    """


@elementwise("{0} != {1}", reference=np.not_equal, accepts=dtypes.ALL, result="bool", commutative=True)
def not_equal(a: Any, b: Any) -> Any:
    """Whether a differs from b, elementwise.

    >>> import dlc
    >>> dlc.evaluate(dlc.not_equal(1.0, 2.0)).item()
    True
    """


@elementwise("{0} < {1}", reference=np.less, result="bool")
def less(a: Any, b: Any) -> Any:
    """Whether a < b, elementwise.

    >>> import dlc
    >>> dlc.evaluate(dlc.less(1.0, 2.0)).item()
    True
    """


@elementwise("{0} <= {1}", reference=np.less_equal, result="bool")
def less_equal(a: Any, b: Any) -> Any:
    """Whether a <= b, elementwise.

    >>> import dlc
    >>> dlc.evaluate(dlc.less_equal(2.0, 2.0)).item()
    True
    """


@elementwise("{0} > {1}", reference=np.greater, result="bool")
def greater(a: Any, b: Any) -> Any:
    """Whether a > b, elementwise.

    >>> import dlc
    >>> dlc.evaluate(dlc.greater(1.0, 2.0)).item()
    False
    """


@elementwise("{0} >= {1}", reference=np.greater_equal, result="bool")
def greater_equal(a: Any, b: Any) -> Any:
    """Whether a >= b, elementwise.

    >>> import dlc
    >>> dlc.evaluate(dlc.greater_equal(1.0, 2.0)).item()
    False
    """


@elementwise("{0} & {1}", reference=np.bitwise_and, accepts=BITS, commutative=True)
def bitwise_and(a: Any, b: Any) -> Any:
    """a & b of bools or integers.

    >>> import dlc
    >>> dlc.evaluate(dlc.bitwise_and(True, False)).item()
    False
    """


@elementwise("{0} | {1}", reference=np.bitwise_or, accepts=BITS, commutative=True)
def bitwise_or(a: Any, b: Any) -> Any:
    """a | b of bools or integers.

    >>> import dlc
    >>> dlc.evaluate(dlc.bitwise_or(True, False)).item()
    True
    """


@elementwise("{0} ^ {1}", reference=np.bitwise_xor, accepts=BITS, commutative=True)
def bitwise_xor(a: Any, b: Any) -> Any:
    """a ^ b of bools or integers.

    >>> import dlc
    >>> dlc.evaluate(dlc.bitwise_xor(True, True)).item()
    False
    """


@elementwise("invert({0})", reference=np.invert, accepts=BITS)
def bitwise_invert(x: Any) -> Any:
    """Not x, of bools or integers.

    >>> import dlc
    >>> dlc.evaluate(dlc.bitwise_invert(True)).item()
    False
    """


@elementwise("shift_left({0}, {1})", reference=np.left_shift, accepts=dtypes.INTEGER, domains=((-9.0, 9.0), (0.0, 7.0)))
def bitwise_left_shift(a: Any, b: Any) -> Any:
    """a * 2**b of integers, in their own dtype; 0 where b is negative or not below the number of bits.

    >>> import dlc
    >>> dlc.evaluate(dlc.bitwise_left_shift(dlc.constant(3), dlc.constant(2))).item()
    12
    """


@elementwise(
    "shift_right({0}, {1})", reference=np.right_shift, accepts=dtypes.INTEGER, domains=((-9.0, 9.0), (0.0, 7.0))
)
def bitwise_right_shift(a: Any, b: Any) -> Any:
    """a / 2**b of integers, rounded down; 0 or -1 by the sign of a where b is negative or not below the number of bits.

    >>> import dlc
    >>> dlc.evaluate(dlc.bitwise_right_shift(dlc.constant(-9), dlc.constant(2))).item()
    -3
    """


@located
def logical_and(a: Any, b: Any) -> Tensor:
    """Whether a and b are both true; of numbers, all but 0 are.

    >>> import dlc
    >>> dlc.evaluate(dlc.logical_and(dlc.constant([True, True]), dlc.constant([True, False]))).tolist()
    [True, False]
    """
    return bitwise_and(_truth(a), _truth(b))


@located
def logical_or(a: Any, b: Any) -> Tensor:
    """Whether a or b is true; of numbers, all but 0 are.

    >>> import dlc
    >>> dlc.evaluate(dlc.logical_or(False, True)).item()
    True
    """
    return bitwise_or(_truth(a), _truth(b))


@located
def logical_xor(a: Any, b: Any) -> Tensor:
    """Whether one of a and b is true and the other is not; of numbers, all but 0 are.

    >>> import dlc
    >>> dlc.evaluate(dlc.logical_xor(True, True)).item()
    False
    """
    return bitwise_xor(_truth(a), _truth(b))


@located
def logical_not(x: Any) -> Tensor:
    """Whether x is not true; of numbers, all but 0 are.

    >>> import dlc
    >>> dlc.evaluate(dlc.logical_not([0.0, 2.0])).tolist()
    [True, False]
    """
    return bitwise_invert(_truth(x))


def _truth(x: Any) -> Tensor:
    return convert(wrap(x), "bool")
