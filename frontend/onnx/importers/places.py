"""Operators that gather, scatter, sort and sum up along an axis."""

from __future__ import annotations

from dlc import ops
from dlc.dims import Dim, product
from dlc.errors import FileFormatError
from dlc.frontend.onnx.call import Call, Importer, axis_of
from dlc.ops.tensor import Tensor


def from_front(indices: Tensor, d: object) -> Tensor:
    """Indices of which negative ones count from the end of an axis of `d`."""
    wide = ops.astype(indices, "int64")
    return ops.where(ops.less(wide, 0), wide + (d if isinstance(d, int) else ops.size_of(d, "int64")), wide)


def _gather(c: Call) -> Tensor:
    x = c[0]
    axis = axis_of(c, x, 0)
    return ops.take(x, from_front(c[1], x.shape[axis]), axis=axis)


def _inside(c: Call, x: Tensor, indices: Tensor, axis: int) -> tuple[slice, ...] | None:
    """The part of `x` that lies beside the indices in all axes but `axis`; None for the whole."""
    if indices.ndim != x.ndim:
        raise FileFormatError(f"{c.place}: {x.type} and the indices {indices.type} differ in their number of axes")
    pairs = zip(indices.shape, x.shape, strict=True)
    index = tuple(slice(None) if a == axis or d == e else slice(0, d) for a, (d, e) in enumerate(pairs))
    return None if all(i == slice(None) for i in index) else index


def _gather_elements(c: Call) -> Tensor:
    x, indices = c[0], c[1]
    axis = axis_of(c, x, 0)
    inner = _inside(c, x, indices, axis)
    places = from_front(indices, x.shape[axis])
    return ops.take_along_axis(x if inner is None else x[inner], places, axis=axis)


def _coordinates(c: Call, x: Tensor, indices: Tensor, batch: int = 0) -> Tensor:
    """Coordinates [..., K] of which negative ones count from the end; the first `batch` axes stand before them."""
    depth = indices.shape[-1] if indices.ndim else 0
    if not isinstance(depth, int) or not 1 <= depth <= x.ndim - batch:
        raise FileFormatError(f"{c.place}: the indices {indices.type} do not fit {x.type}")
    ends = ops.stack([ops.size_of(d, "int64") for d in x.shape[batch : batch + depth]])
    wide = ops.astype(indices, "int64")
    places = ops.where(ops.less(wide, 0), wide + ends, wide)
    if not batch:
        return places
    column = (*indices.shape[:-1], 1)
    return ops.concat([*(ops.iota(column, a) for a in range(batch)), places], axis=-1)


def _gather_nd(c: Call) -> Tensor:
    x, indices, batch = c[0], c[1], c.int("batch_dims", 0)
    if not 0 <= batch < min(x.ndim, indices.ndim) or x.shape[:batch] != indices.shape[:batch]:
        raise FileFormatError(f"{c.place}: {x.type} and the indices {indices.type} differ in the first {batch} axes")
    return ops.gather_nd(x, _coordinates(c, x, indices, batch))


def _reduction(c: Call, values: Tensor) -> str:
    """How values at equal places are brought together, as ops calls it."""
    mode = c.text("reduction", "none")
    if mode not in ("none", "add", "mul", "min", "max"):
        raise FileFormatError(f"{c.place}: there is no reduction {mode!r:.40}")
    if mode == "mul" and isinstance(product(values.shape), Dim):
        raise c.unsupported(f"{c.operator} with reduction='mul' of {values.type}, whose size is open")
    return "set" if mode == "none" else mode


def _scatter_nd(c: Call) -> Tensor:
    return ops.scatter_nd(c[0], _coordinates(c, c[0], c[1]), c[2], _reduction(c, c[2]))


def _scatter_elements(c: Call) -> Tensor:
    """Axes but the one may have fewer indices than elements: those beyond stay as they are."""
    x, indices = c[0], c[1]
    axis = axis_of(c, x, 0)
    places = from_front(indices, x.shape[axis])
    inner = _inside(c, x, indices, axis)
    cropped = x if inner is None else x[inner]
    found = ops.put_along_axis(cropped, places, c[2], axis, _reduction(c, c[2]))
    return found if inner is None else ops.index_update(x, inner, found)


def _cumulative(c: Call) -> Tensor:
    function = {"CumSum": ops.cumulative_sum, "CumProd": ops.cumulative_prod}[c.operator]
    axis = c.static(1)
    if axis.size != 1:
        raise FileFormatError(f"{c.place}: the axis must be one number")
    found = function(c[0], int(axis.item()), bool(c.int("reverse", 0)), bool(c.int("exclusive", 0)))
    return ops.astype(found, c[0].dtype)


def _top_k(c: Call) -> tuple[Tensor, ...]:
    x = c[0]
    axis = axis_of(c, x, -1)
    c.int("sorted", 1)  # a sorted result serves where none was asked for
    k = c.int_list(1)[0] if c.opset >= 10 else c.int("k", 1)
    if not isinstance(k, Dim) and k < 0:
        raise FileFormatError(f"{c.place}: k is {k}")
    return ops.topk(x, k, axis, largest=bool(c.int("largest", 1)))


def _one_hot(c: Call) -> Tensor:
    depth, values = c.static(1), c[2]
    if depth.size != 1:
        raise FileFormatError(f"{c.place}: the depth must be one number")
    d = int(depth.item())
    hot = ops.one_hot(from_front(c[0], d), d, "bool", axis=c.int("axis", -1))
    return ops.where(hot, values[1], values[0])


def _tensor_scatter(c: Call) -> Tensor:
    """Slices written into a cache from a place on that each sample has; "circular" goes on at the beginning."""
    past, update = c[0], c[1]
    axis, mode = axis_of(c, past, -2), c.text("mode", "linear")
    if axis == 0 or past.ndim != update.ndim or mode not in ("linear", "circular"):
        raise FileFormatError(f"{c.place}: {update.type} cannot be written into {past.type} along axis {axis}")
    size, length = (ops.size_of(t.shape[axis], "int64") for t in (past, update))
    starts = c[2].astype("int64") if c.has(2) else ops.zeros((past.shape[0],), "int64")
    starts = ops.reshape(starts, (past.shape[0], *[1] * (past.ndim - 1)))
    number = ops.iota(past.shape, axis) - starts
    if mode == "circular":
        number, fits = number % size, length <= size
    else:
        fits = (starts >= 0) & (starts + length <= size)
    written = (number >= 0) & (number < length)
    source = ops.where(fits, ops.clip(number, 0, length - 1), -1)  # which fails the run
    return ops.where(written, ops.take_along_axis(update, source, axis), past)


PLACES: dict[str, Importer] = {
    "CumProd": _cumulative,
    "CumSum": _cumulative,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "OneHot": _one_hot,
    "Scatter": _scatter_elements,
    "ScatterElements": _scatter_elements,
    "ScatterND": _scatter_nd,
    "TensorScatter": _tensor_scatter,
    "TopK": _top_k,
}
