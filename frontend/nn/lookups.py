"""Rows of a table read by their numbers, alone or in bags."""

from __future__ import annotations

from typing import Any

from dlc.dims import DimLike, Shape
from dlc.dtypes import FLOATING
from dlc.errors import AttributeValueError, DTypeError, ShapeError
from dlc.ops import (
    arange,
    astype,
    broadcast_to,
    expand_dims,
    index_reduce,
    iota,
    maximum,
    ones_like,
    reshape,
    scalar,
    searchsorted,
    stop_gradient,
    take,
    take_adjoint,
    where,
)
from dlc.ops import max as max_
from dlc.ops.elementwise import rounded_once
from dlc.ops.tensor import Tensor, wrap
from dlc.provenance import here


def embedding(indices: Any, weight: Any, padding_idx: int | None = None) -> Tensor:
    """Row i of weight [rows, width] for each index i: integer [...] -> [..., width].

    The row `padding_idx`, from 0 to rows - 1, gets no gradient, as in torch; it is read like any other.

    >>> import dlc
    >>> dlc.evaluate(embedding([1, 0], [[1.0, 2.0], [3.0, 4.0]])).tolist()
    [[3.0, 4.0], [1.0, 2.0]]
    """
    table = wrap(weight)
    if padding_idx is not None:
        padding = iota((table.shape[0], 1), 0) == _row("embedding", table, padding_idx)
        table = where(padding, stop_gradient(table), table)
    return take(table, indices, axis=0)


@rounded_once("weight", "per_sample_weights")
def embedding_bag(
    indices: Any,
    weight: Any,
    offsets: Any = None,
    mode: str = "mean",
    per_sample_weights: Any = None,
    padding_idx: int | None = None,
    include_last_offset: bool = False,
) -> Tensor:
    """The sum, mean or maximum of the rows of weight [rows, width] that each bag of indices names: [bags, width].

    A bag is a row of indices [bags, n], or, with `offsets` [bags], the indices [n] from its offset to before the next;
    with `include_last_offset` the last offset is where the last bag ends. Offsets rise from 0. An empty bag gives 0.
    `per_sample_weights`, of the shape of the indices, scale the rows of a sum. Indices equal to `padding_idx` count for
    nothing. Raises `ShapeError` and `AttributeValueError` where the arguments do not fit; an index out of range fails
    the run with `IndexOutOfRangeError`.

    >>> import dlc
    >>> table = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]
    >>> dlc.evaluate(embedding_bag([[0, 1], [2, 2]], table)).tolist()
    [[2.0, 3.0], [5.0, 6.0]]
    >>> dlc.evaluate(embedding_bag([0, 1, 2], table, offsets=[0, 0], mode="sum")).tolist()
    [[0.0, 0.0], [9.0, 12.0]]
    """
    table, at = wrap(weight), wrap(indices)
    if mode not in ("sum", "mean", "max"):
        raise AttributeValueError(f"embedding_bag: mode={mode!r} is unknown; use 'sum', 'mean' or 'max'", where=here())
    if at.ndim != (2 if offsets is None else 1) or table.ndim != 2:
        raise ShapeError(
            f"embedding_bag takes indices [bags, n], or [n] with offsets, and a weight [rows, width], not {at.type} "
            f"and {table.type}", where=here()
        )  # fmt: skip
    scale = None if per_sample_weights is None else wrap(per_sample_weights)
    if scale is not None and table.dtype not in FLOATING:
        raise DTypeError(f"embedding_bag scales floating-point weights, not {table.type}", where=here())
    if scale is not None and (mode != "sum" or scale.shape != at.shape):
        raise AttributeValueError(
            f"embedding_bag: per_sample_weights {scale.type} are of the indices' shape and go with mode='sum'",
            where=here(),
        )
    bags, count = _bags(at, offsets, include_last_offset)
    flat = reshape(at, (-1,)) if at.ndim == 2 else at
    rows = take(table, flat, axis=0)
    kept = None if padding_idx is None else flat != _row("embedding_bag", table, padding_idx)
    ones = ones_like(flat, "float32") if kept is None else astype(kept, "float32")
    sizes = expand_dims(take_adjoint(ones, bags, 0, count), 1)
    if scale is not None:
        rows = rows * expand_dims(reshape(astype(scale, table.dtype), flat.shape), 1)
    if mode == "max":
        found = _greatest(rows, bags, sizes, kept, at.shape if at.ndim == 2 else None)
    else:
        counted = rows if kept is None else where(expand_dims(kept, 1), rows, 0.0)
        found = take_adjoint(counted, bags, 0, count)
        if mode == "mean":
            found = found / astype(maximum(sizes, 1.0), table.dtype)
    return found[: count - 1] if include_last_offset else found


def _bags(indices: Tensor, offsets: Any, include_last: bool) -> tuple[Tensor, DimLike]:
    """The bag of each index, flat, and how many bags there are (with what lies beyond the last offset)."""
    if offsets is None:
        if include_last:
            raise AttributeValueError("embedding_bag: include_last_offset goes with offsets", where=here())
        return reshape(iota(indices.shape, 0), (-1,)), indices.shape[0]
    starts = wrap(offsets)
    if starts.ndim != 1:
        raise ShapeError(f"embedding_bag takes a vector of offsets, not {starts.type}", where=here())
    return searchsorted(starts, arange(indices.shape[0]), "right") - 1, starts.shape[0]


def _greatest(rows: Tensor, bags: Tensor, sizes: Tensor, kept: Tensor | None, even: Shape | None) -> Tensor:
    """The maximum of the rows of each bag, 0 where there are none: where its size is 0."""
    nothing = scalar(float("-inf"), rows.dtype)
    rows = rows if kept is None else where(expand_dims(kept, 1), rows, nothing)
    if even is not None and isinstance(even[1], int) and even[1]:  # bags of one size lie side by side
        found = max_(reshape(rows, (*even, rows.shape[1])), axis=1)
    else:
        found = index_reduce(broadcast_to(nothing, (sizes.shape[0], rows.shape[1])), bags, rows, "max")
    return where(sizes == 0.0, 0.0, found)


def _row(name: str, table: Tensor, padding_idx: Any) -> int:
    rows = table.shape[0]
    if isinstance(padding_idx, bool) or not isinstance(padding_idx, int) or padding_idx < 0 or (
        isinstance(rows, int) and padding_idx >= rows
    ):  # fmt: skip
        raise AttributeValueError(
            f"{name}: padding_idx {padding_idx!r} is no row of {table.type}; use 0 to {rows - 1}", where=here()
        )
    return padding_idx
