"""Diagonals of the last two axes: read, written, summed, and the triangles that they bound."""

from __future__ import annotations

from typing import Any

from dlc.dims import DimLike, dim
from dlc.dtypes import dtype_name
from dlc.errors import ShapeError
from dlc.ops.arranging import part, whole_number
from dlc.ops.definition import located
from dlc.ops.elementwise import convert, taken_as, where
from dlc.ops.fill import iota, zeros
from dlc.ops.index import pad
from dlc.ops.leaves import scalar
from dlc.ops.reduce import sum as sum_
from dlc.ops.tensor import Tensor, wrap
from dlc.ops.view import broadcast_to, expand_dims, reshape, squeeze


def _below(t: Tensor, k: int, name: str) -> Tensor:
    """Whether a place of the last two axes is on or below diagonal `k`."""
    if t.ndim < 2:
        raise ShapeError(f"{name} takes matrices and stacks of them, not {t.type}")
    shape = t.shape[-2:]
    return iota(shape, 1) <= iota(shape, 0) + scalar(whole_number(k, name, "the diagonal"), "int64")


@located
def tril(x: Any, k: int = 0) -> Tensor:
    """The last two axes on and below diagonal `k`, 0 above.

    >>> import dlc
    >>> dlc.evaluate(dlc.tril([[1.0, 2.0], [3.0, 4.0]])).tolist()
    [[1.0, 0.0], [3.0, 4.0]]
    """
    t = wrap(x)
    return where(_below(t, k, "tril"), t, scalar(0, t.dtype))


@located
def triu(x: Any, k: int = 0) -> Tensor:
    """The last two axes on and above diagonal `k`, 0 below.

    >>> import dlc
    >>> dlc.evaluate(dlc.triu([[1.0, 2.0], [3.0, 4.0]])).tolist()
    [[1.0, 2.0], [0.0, 4.0]]
    """
    t = wrap(x)
    return where(_below(t, whole_number(k, "triu", "the diagonal") - 1, "triu"), scalar(0, t.dtype), t)


@located
def eye(rows: Any, columns: Any = None, k: int = 0, dtype: Any = "float32") -> Tensor:
    """A matrix of ones on diagonal `k` and zeros elsewhere, square where `columns` is left out.

    >>> import dlc
    >>> dlc.evaluate(dlc.eye(2)).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    shape = (dim(rows), dim(rows if columns is None else columns))
    on = iota(shape, 1) == iota(shape, 0) + scalar(whole_number(k, "eye", "the diagonal"), "int64")
    return convert(on, dtype_name(dtype))


def _length(t: Tensor, k: int, name: str) -> DimLike:
    """How many elements diagonal `k` has."""
    rows, columns = t.shape[-2:]
    if isinstance(rows, int) and isinstance(columns, int):
        return max(min(rows, columns - k) if k >= 0 else min(rows + k, columns), 0)
    if rows != columns or k:
        raise ShapeError(f"{name} {k} of {t.type} has a length that is not known before a call")
    return rows


@located
def diagonal(x: Any, offset: int = 0) -> Tensor:
    """Diagonal `offset` of the last two axes, whose sizes are ints: [..., M, N] gives [..., D].

    >>> import dlc
    >>> dlc.evaluate(dlc.diagonal([[1.0, 2.0], [3.0, 4.0]])).tolist()
    [1.0, 4.0]
    """
    t, k = wrap(x), whole_number(offset, "diagonal", "the offset")
    if t.ndim < 2:
        raise ShapeError(f"diagonal takes matrices and stacks of them, not {t.type}")
    *lead, rows, columns = t.shape
    length = _length(t, k, "diagonal")
    if isinstance(length, int) and length == 0:
        return zeros((*lead, 0), t.dtype)
    # places k, k + (N+1), ... of the flat matrix: rows of N + 1 elements of which the first is wanted
    first = k if k >= 0 else -k * columns
    flat = reshape(t, (*lead, rows * columns))
    end = first + (length - 1) * (columns + 1) + 1
    kept = part(flat, len(lead), first, end - first)
    padded = pad(kept, [(0, 0)] * len(lead) + [(0, columns)])
    return squeeze(part(reshape(padded, (*lead, length, columns + 1)), len(lead) + 1, 0, 1), -1)


@located
def diagonal_scatter(x: Any, values: Any, offset: int = 0) -> Tensor:
    """`x` with diagonal `offset` of its last two axes set to `values`, which broadcast to what `diagonal` gives.

    >>> import dlc
    >>> dlc.evaluate(dlc.diagonal_scatter(dlc.zeros((2, 3)), [1.0, 2.0], 1)).tolist()
    [[0.0, 1.0, 0.0], [0.0, 0.0, 2.0]]
    """
    t, k = wrap(x), whole_number(offset, "diagonal_scatter", "the offset")
    if t.ndim < 2:
        raise ShapeError(f"diagonal_scatter takes matrices and stacks of them, not {t.type}")
    *lead, rows, columns = t.shape
    length = _length(t, k, "diagonal_scatter")
    if isinstance(length, int) and length == 0:
        broadcast_to(taken_as(values, t.dtype), (*lead, 0))  # refuses what does not fit
        return t
    v = broadcast_to(taken_as(values, t.dtype), (*lead, length))
    # above the main diagonal each of the first rows has one of the values, below it each of the first columns
    size, axis = (rows, len(lead) + 1) if k >= 0 else (columns, len(lead))
    spread = expand_dims(pad(v, [(0, 0)] * len(lead) + [(0, size - length)]), axis)
    return where(_on(t, k), spread, t)


def _on(t: Tensor, k: int) -> Tensor:
    """Whether a place of the last two axes is on diagonal `k`."""
    shape = t.shape[-2:]
    return iota(shape, 1) == iota(shape, 0) + scalar(k, "int64")


@located
def matrix_trace(x: Any, offset: int = 0) -> Tensor:
    """The sum of diagonal `offset` of the last two axes.

    >>> import dlc
    >>> dlc.evaluate(dlc.matrix_trace([[1.0, 2.0], [3.0, 4.0]])).item()
    5.0
    """
    t, k = wrap(x), whole_number(offset, "matrix_trace", "the offset")
    if t.ndim < 2:
        raise ShapeError(f"matrix_trace takes matrices and stacks of them, not {t.type}")
    return sum_(where(_on(t, k), t, scalar(0, t.dtype)), axis=(-2, -1))
