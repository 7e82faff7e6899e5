"""Norms of vectors and matrices."""

from __future__ import annotations

import math
from typing import Any

from dlc.dtypes import FLOATING
from dlc.errors import AttributeValueError, DTypeError, ShapeError
from dlc.ops.arithmetic import abs as abs_
from dlc.ops.definition import located
from dlc.ops.elementwise import convert, rounded_once, where
from dlc.ops.functions import sqrt
from dlc.ops.leaves import scalar
from dlc.ops.logic import equal
from dlc.ops.reduce import Axis
from dlc.ops.reduce import max as max_
from dlc.ops.reduce import min as min_
from dlc.ops.reduce import sum as sum_
from dlc.ops.tensor import Tensor, wrap
from dlc.ops.view import reshape


def _numbers(x: Any, name: str) -> Tensor:
    t = wrap(x)
    if t.dtype not in FLOATING:
        raise DTypeError(f"{name} takes floating-point tensors, not {t.type}; convert with .astype('float32')")
    return t


@located
@rounded_once("x")
def vector_norm(x: Any, axis: Axis = None, keepdims: bool = False, ord: float = 2) -> Tensor:
    """The p-norm over `axis` (None: all) for p = `ord`: sum(|x| ** p) ** (1 / p); inf and -inf give extremes of |x|.

    0 counts what is not 0. The derivative at a norm of 0 is taken as 0, and for p below 1 that at an element of 0.
    The sum is not scaled against overflow.

    >>> import dlc
    >>> dlc.evaluate(dlc.vector_norm([3.0, -4.0])).item()
    5.0
    """
    t = _numbers(x, "vector_norm")
    if isinstance(ord, bool) or not isinstance(ord, (int, float)) or math.isnan(ord):
        raise AttributeValueError(f"vector_norm: ord is a number, not {ord!r}")
    size = abs_(t)
    if math.isinf(ord):
        return (max_ if ord > 0 else min_)(size, axis=axis, keepdims=keepdims)
    if ord == 0:
        return sum_(convert(t != 0.0, t.dtype), axis=axis, keepdims=keepdims)
    if ord == 1:
        return sum_(size, axis=axis, keepdims=keepdims)
    if 0 < ord < 1:  # a power whose slope at 0 is infinite; 0 here, as that of |x| is
        none = equal(size, scalar(0, t.dtype))
        powers = where(none, size, where(none, scalar(1, t.dtype), size) ** float(ord))
    else:
        powers = t * t if ord == 2 else size ** float(ord)
    total = sum_(powers, axis=axis, keepdims=keepdims)
    if ord < 0:
        return total ** (1.0 / ord)
    nothing = equal(total, scalar(0, t.dtype))
    rest = where(nothing, scalar(1, t.dtype), total)
    return where(nothing, total, sqrt(rest) if ord == 2 else rest ** (1.0 / ord))


@located
@rounded_once("x")
def matrix_norm(x: Any, keepdims: bool = False, ord: float | str = "fro") -> Tensor:
    """The norm of the matrices x[..., M, N]: "fro" is the root of the sum of squares.

    1 and -1 are the largest and smallest sum of a column's sizes, inf and -inf of a row's. Those of singular values,
    2, -2 and "nuc", are refused with `AttributeValueError`.

    >>> import dlc
    >>> dlc.evaluate(dlc.matrix_norm([[1.0, -2.0], [3.0, 4.0]], ord=1)).item()
    6.0
    """
    t = _numbers(x, "matrix_norm")
    if t.ndim < 2:
        raise ShapeError(f"matrix_norm takes matrices and stacks of them, not {t.type}")
    if isinstance(ord, str) and ord == "fro":
        return vector_norm(t, (-2, -1), keepdims)
    if isinstance(ord, str) or ord not in (1, -1, math.inf, -math.inf):
        raise AttributeValueError(f"matrix_norm: ord={ord!r} is not 'fro', 1, -1, inf or -inf")
    first, then = (-2, -1) if ord in (1, -1) else (-1, -2)
    sums = sum_(abs_(t), axis=first, keepdims=True)
    found = (max_ if ord > 0 else min_)(sums, axis=then, keepdims=True)
    return found if keepdims else reshape(found, t.shape[:-2])
