"""Elements and slices put, or added, at computed places; elements read at places of several coordinates.

Indices are checked as in `take`: one out of range fails the run.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from dlc.dims import Shape, product
from dlc.dtypes import FLOATING, HALF, extremes
from dlc.errors import AttributeValueError, DTypeError, ShapeError
from dlc.ir import TensorType
from dlc.ops.arithmetic import floor_divide, maximum, minimum, negative
from dlc.ops.arranging import part
from dlc.ops.cumulative import shifted
from dlc.ops.definition import Array, Kind, Sample, arrays, define, located, nbytes
from dlc.ops.elementwise import convert, taken_as, where
from dlc.ops.fill import along, check_indices, full, iota, ones, size_of
from dlc.ops.gather import check_range, take, take_adjoint
from dlc.ops.indexing import getitem, leading_parts
from dlc.ops.leaves import scalar
from dlc.ops.reduce import one_axis, widest
from dlc.ops.sorting import argsort
from dlc.ops.tensor import Tensor, wrap
from dlc.ops.view import broadcast_to, permute_dims, reshape, squeeze

# ---------------------------------------------------------------- put


def _put_type(x: TensorType, indices: TensorType, values: TensorType) -> TensorType:
    check_indices(indices, "put")
    if x.ndim != 2 or indices.ndim != 1 or values.shape != (indices.shape[0], x.shape[1]):
        raise ShapeError(f"put sets rows of x[N, D] at indices [M] to values [M, D], not {x}, {indices} and {values}")
    if values.dtype != x.dtype:
        raise DTypeError(f"put takes values of x's dtype, not {values} for {x}")
    return x


def _put_reference(x: Array, indices: Array, values: Array) -> Array:
    check_range(indices, x.shape[0], "put", 0)
    result = np.array(x)
    for i, row in zip(indices.astype(np.int64), values, strict=True):
        result[i] = row
    return result


def _put_vjp(g: Tensor, y: Tensor, x: Tensor, indices: Tensor, values: Tensor) -> tuple[Tensor, None, Tensor]:
    """Rows that were set take nothing from x; of equal indices the last one's values have the cotangent."""
    order = iota(indices.shape, 0)
    last = put.op(full((x.shape[0], 1), -1, "int64"), indices, reshape(order, (indices.shape[0], 1)))
    kept = where(last < 0, g, scalar(0, g.dtype))
    wins = take(last, indices) == reshape(order, (indices.shape[0], 1))
    return kept, None, where(wins, take(g, indices), scalar(0, g.dtype))


def _put_samples() -> Iterable[Sample]:
    x, v = arrays((5, 3), (4, 3))
    yield Sample((x, np.array([4, 0, 2, 0], np.int32), v))
    yield Sample((x, np.array([1], np.uint8), v[:1]))
    yield Sample((*arrays((5, 1), dtype="bool"), np.array([3, 3]), np.array([[True], [False]])))
    yield Sample((x, np.zeros(0, np.int64), v[:0]))


@define(
    kind=Kind.OPAQUE,
    infer=_put_type,
    reference=_put_reference,
    vjp=_put_vjp,
    cost=lambda y, x, indices, values: (0, 2 * nbytes(y) + nbytes(indices) + 2 * nbytes(values)),
    samples=_put_samples,
    can_fail=True,
)
def put(x: Any, indices: Any, values: Any) -> Tensor:
    """Rows of x[N, D] set to values [M, D] at indices [M]; of equal indices the last one wins.

    >>> import dlc
    >>> dlc.evaluate(dlc.ops.put([[1.0], [2.0]], [1], [[5.0]])).tolist()
    [[1.0], [5.0]]
    """
    t = wrap(x)
    return put.op(t, wrap(indices), taken_as(values, t.dtype))


# ---------------------------------------------------------------- along one axis


def _rows(t: Tensor, axis: int) -> Tensor:
    """A tensor with `axis` first and all others flat."""
    order = (axis, *(a for a in range(t.ndim) if a != axis))
    return reshape(permute_dims(t, order), (t.shape[axis], product(d for a, d in enumerate(t.shape) if a != axis)))


def _from_rows(rows: Tensor, like: Tensor, axis: int) -> Tensor:
    order = (axis, *(a for a in range(like.ndim) if a != axis))
    back = tuple(order.index(a) for a in range(like.ndim))
    return permute_dims(reshape(rows, tuple(like.shape[a] for a in order)), back)


def _slices(x: Any, axis: int, indices: Any, values: Any, name: str) -> tuple[Tensor, int, Tensor, Tensor]:
    t, i = wrap(x), wrap(indices)
    v = taken_as(values, t.dtype)
    at = one_axis(axis, t.ndim, name)
    check_indices(i.type, name)
    if i.ndim != 1:
        raise ShapeError(f"{name} takes a vector of indices, not {i.type}")
    wanted = (*t.shape[:at], i.shape[0], *t.shape[at + 1 :])
    if v.ndim > len(wanted):
        raise ShapeError(f"{name}: {v.type} does not fit the slices [{','.join(map(str, wanted))}]")
    return t, at, i, broadcast_to(v, wanted)


@located
def index_add(x: Any, indices: Any, values: Any, axis: int = 0) -> Tensor:
    """`x` with the slices of `values` added at `indices` [M] along `axis`; equal indices add up.

    `values` broadcasts to the shape of `take(x, indices, axis)`.

    >>> import dlc
    >>> dlc.evaluate(dlc.index_add([1.0, 2.0], [1, 1], [10.0, 20.0])).tolist()
    [1.0, 32.0]
    """
    t, at, i, v = _slices(x, axis, indices, values, "index_add")
    return t + take_adjoint(v, i, at, t.shape[at])


@located
def index_put(x: Any, indices: Any, values: Any, axis: int = 0) -> Tensor:
    """`x` with its slices at `indices` [M] along `axis` set to those of `values`; of equal indices the last one wins.

    `values` broadcasts to the shape of `take(x, indices, axis)`.

    >>> import dlc
    >>> dlc.evaluate(dlc.index_put([1.0, 2.0, 3.0], [0, 2], 9.0)).tolist()
    [9.0, 2.0, 9.0]
    """
    t, at, i, v = _slices(x, axis, indices, values, "index_put")
    return _from_rows(put.op(_rows(t, at), i, _rows(v, at)), t, at)


@located
def index_reduce(
    x: Any, indices: Any, values: Any, reduction: str, axis: int = 0, include_self: bool = True
) -> Tensor:
    """`x` with the slices of `values` taken together with its own at `indices` [M] along `axis`.

    `reduction` is as in `put_along_axis`, or "mean": of x's slice and all that go there. Without `include_self` what
    `x` has at the indices does not count. `values` broadcasts to the shape of `take(x, indices, axis)`.

    >>> import dlc
    >>> dlc.evaluate(dlc.index_reduce([1.0, 2.0, 3.0], [0, 2, 0], [5.0, 1.0, 3.0], "max")).tolist()
    [5.0, 2.0, 3.0]
    >>> dlc.evaluate(dlc.index_reduce([1.0, 2.0], [0, 0], [5.0, 3.0], "mean", include_self=False)).tolist()
    [4.0, 2.0]
    """
    if reduction not in ("set", "add", "mul", "mean", "min", "max"):
        raise AttributeValueError(
            f"index_reduce: reduction={reduction!r} is unknown; use 'set', 'add', 'mul', 'mean', 'min' or 'max'"
        )
    t, at, i, v = _slices(x, axis, indices, values, "index_reduce")
    if reduction == "mean":
        wide = "float32" if t.dtype in HALF else widest(t.dtype)  # sums may be larger than any mean
        total = index_add(convert(t if include_self else index_put(t, i, 0, at), wide), i, convert(v, wide), at)
        count = take_adjoint(broadcast_to(scalar(1, wide), i.shape), i, 0, t.shape[at])
        count = along(count + 1 if include_self else maximum(count, 1), at, t.ndim)
        return convert(total / count if t.dtype in FLOATING else floor_divide(total, count), t.dtype)
    if not include_self and reduction != "set":
        t = index_put(t, i, _neutral(reduction, t.dtype), at)
    tail = (product(d for a, d in enumerate(t.shape) if a != at),)
    return _from_rows(_scattered(_rows(t, at), i, _rows(v, at), reduction, "index_reduce", tail), t, at)


def _neutral(reduction: str, dtype: str) -> Tensor:
    """What leaves every value as it is."""
    if reduction in ("add", "mul"):
        return scalar(int(reduction == "mul"), dtype)
    least, greatest = extremes(dtype)
    return scalar(greatest if reduction == "min" else least, dtype)


def _flat_along(t: Tensor, indices: Tensor, axis: int, name: str) -> Tensor:
    """Places in the flat `t` of `indices` along `axis`, the other coordinates being those of the index itself."""
    check_indices(indices.type, name)
    fits = t.ndim == indices.ndim and all(
        a == axis or d == e for a, (d, e) in enumerate(zip(t.shape, indices.shape, strict=True))
    )
    if not fits:
        raise ShapeError(f"{name}: {t.type} and the indices {indices.type} must have equal dims but for axis {axis}")
    checked = convert(indices, "int64")
    place = None
    for a, d in enumerate(t.shape):
        at = checked if a == axis else iota(indices.shape, a)
        place = at if place is None else place * size_of(d, "int64") + at
    assert place is not None
    return _or_outside(place, checked, t, axis)


def _or_outside(place: Tensor, index: Tensor, t: Tensor, axis: int) -> Tensor:
    """`place` where the index lies within its axis, else a place that no check lets through."""
    inside = (index >= 0) & (index < size_of(t.shape[axis], "int64"))
    return where(inside, place, -1)


@located
def put_along_axis(x: Any, indices: Any, values: Any, axis: int = -1, reduction: str = "set") -> Tensor:
    """`x` with values put at the places of `indices`, but for `axis`, where the index says which.

    `indices` and `values`, which broadcasts to them, are as in `take_along_axis`, of which this is the reverse.
    `reduction` "set" has the last of equal places win, "add" adds all to x's element, "mul", "min" and "max"
    do so with the product and the extremes, where one of equal values has all of the cotangent.

    >>> import dlc
    >>> dlc.evaluate(dlc.put_along_axis([[1.0, 2.0]], [[1]], 7.0)).tolist()
    [[1.0, 7.0]]
    """
    t, i = wrap(x), wrap(indices)
    at = one_axis(axis, t.ndim, "put_along_axis")
    flat = _flat_along(t, i, at, "put_along_axis")
    return _scattered(t, flat, broadcast_to(taken_as(values, t.dtype), i.shape), reduction, "put_along_axis")


def _scattered(t: Tensor, places: Tensor, values: Tensor, reduction: str, name: str, tail: Shape = ()) -> Tensor:
    """Slices of shape `tail`, which stand in a row in `t`, set or added to at places."""
    width = product(tail)
    rows = reshape(t, (product(t.shape[: t.ndim - len(tail)]), width))
    count = product(places.shape)
    if reduction == "set":
        return reshape(put.op(rows, reshape(places, (count,)), reshape(values, (count, width))), t.shape)
    if reduction == "add":
        added = take_adjoint(reshape(values, (count, width)), reshape(places, (count,)), 0, rows.shape[0])
        return t + reshape(added, t.shape)
    if reduction in ("mul", "min", "max"):
        at = reshape(places, (count, 1)) * size_of(width, "int64") + iota((1, width), 1)  # each element for itself
        row, at, v = (reshape(a, (product(a.shape),)) for a in (t, at, values))
        found = _multiplied(row, at, v, name) if reduction == "mul" else _extreme(row, at, v, reduction == "max")
        return reshape(found, t.shape)
    raise AttributeValueError(f"{name}: reduction={reduction!r} is unknown; use 'set', 'add', 'mul', 'min' or 'max'")


def _placed(row: Tensor, places: Tensor, values: Tensor) -> Tensor:
    return reshape(put.op(reshape(row, (*row.shape, 1)), places, reshape(values, (*values.shape, 1))), row.shape)


def _extreme(row: Tensor, places: Tensor, values: Tensor, largest: bool) -> Tensor:
    """Values are put in order, so that the most extreme of equal places comes last; NaN comes after all others."""
    rises = largest or values.dtype in FLOATING
    order = argsort(values if largest or not rises else negative(values), descending=not rises)
    found = _placed(row, take(places, order), take(values, order))
    return maximum(row, found) if largest else minimum(row, found)


def _multiplied(row: Tensor, places: Tensor, values: Tensor, name: str) -> Tensor:
    """Equal places side by side, and products of two neighbours, of four and so on within each place."""
    (count,) = values.shape
    if not isinstance(count, int):
        raise ShapeError(f"{name}: reduction='mul' needs a number of values that is known before a call, not {count}")
    order = argsort(places)
    at, v = take(places, order), take(values, order)
    distance = 1
    while distance < count:
        together = at == shifted(at, 0, False, -1, distance)
        v = where(together, v * shifted(v, 0, False, 1, distance), v)
        distance *= 2
    return row * _placed(ones(row.shape, row.dtype), at, v)


@located
def index_update(x: Any, index: Any, values: Any, reduction: str = "set") -> Tensor:
    """`x` with `values` at ``x[index]``, for any index that square brackets take: NumPy's ``x[index] = values``.

    `values` broadcasts to the shape of ``x[index]``. `reduction` is as in `put_along_axis`: "add" is ``np.add.at``.

    >>> import dlc
    >>> dlc.evaluate(dlc.index_update(dlc.zeros((2, 3)), (slice(None), [0, -1]), [1.0, 2.0])).tolist()
    [[1.0, 0.0, 2.0], [1.0, 0.0, 2.0]]
    """
    t = wrap(x)
    parts, whole = leading_parts(t, index)
    lead, tail = t.shape[: t.ndim - whole], t.shape[t.ndim - whole :]
    places = getitem(reshape(iota((product(lead),)), lead), parts)
    v = taken_as(values, t.dtype)
    return _scattered(t, places, broadcast_to(v, (*places.shape, *tail)), reduction, "index_update", tail)


# ---------------------------------------------------------------- places of several coordinates


def _flat_places(t: Tensor, indices: Any, name: str) -> tuple[Tensor, int]:
    """Places in the first K axes of `t`, flat, of indices [..., K]; and K."""
    i = wrap(indices)
    check_indices(i.type, name)
    depth = i.shape[-1] if i.ndim else 0
    if not isinstance(depth, int) or not 1 <= depth <= t.ndim:
        raise ShapeError(f"{name}: indices [..., K] have 1 to {t.ndim} coordinates for {t.type}, not {i.type}")
    coordinates = [convert(squeeze(part(i, i.ndim - 1, a, 1), -1), "int64") for a in range(depth)]
    place, inside = scalar(0, "int64"), scalar(True, "bool")
    for at, d in zip(coordinates, t.shape, strict=False):
        place = place * size_of(d, "int64") + at
        inside = inside & (at >= 0) & (at < size_of(d, "int64"))
    return where(inside, place, -1), depth


@located
def gather_nd(x: Any, indices: Any) -> Tensor:
    """The elements, or slices, of `x` at coordinates: indices [..., K] give [..., *x.shape[K:]].

    A coordinate out of range fails the run with `IndexOutOfRangeError`, which names it as -1.

    >>> import dlc
    >>> dlc.evaluate(dlc.gather_nd([[1.0, 2.0], [3.0, 4.0]], [[0, 1], [1, 0]])).tolist()
    [2.0, 3.0]
    """
    t = wrap(x)
    places, depth = _flat_places(t, indices, "gather_nd")
    return take(reshape(t, (product(t.shape[:depth]), *t.shape[depth:])), places)


@located
def scatter_nd(x: Any, indices: Any, values: Any, reduction: str = "set") -> Tensor:
    """`x` with values [..., *x.shape[K:]] put at coordinates indices [..., K]: the reverse of `gather_nd`.

    `reduction` is as in `put_along_axis`.

    >>> import dlc
    >>> dlc.evaluate(dlc.scatter_nd([[1.0, 2.0], [3.0, 4.0]], [[0, 1]], [9.0])).tolist()
    [[1.0, 9.0], [3.0, 4.0]]
    """
    t = wrap(x)
    places, depth = _flat_places(t, indices, "scatter_nd")
    v = broadcast_to(taken_as(values, t.dtype), (*places.shape, *t.shape[depth:]))
    return _scattered(t, places, v, reduction, "scatter_nd", t.shape[depth:])
