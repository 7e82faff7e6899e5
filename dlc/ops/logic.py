"""Comparisons, and logic on bools and the bits of integers, elementwise."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlc import dtypes
from dlc.ops.elementwise import elementwise

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
