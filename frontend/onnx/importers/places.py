"""Operators that gather, scatter, sort and sum up along an axis."""

from __future__ import annotations

from dlc import ops
from dlc.dims import Dim, product
from dlc.dtypes import NUMERIC
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


def _gather_elements(c: Call) -> Tensor:
    x, indices = c[0], c[1]
    axis = axis_of(c, x, 0)
    if indices.ndim != x.ndim:
        raise FileFormatError(f"{c.place}: {x.type} and the indices {indices.type} differ in their number of axes")
    index = tuple(slice(None) if a == axis or d == e else slice(0, d) for a, (d, e) in enumerate(
        zip(indices.shape, x.shape, strict=True)))  # fmt: skip
    cropped = x if all(i == slice(None) for i in index) else x[index]
    return ops.take_along_axis(cropped, from_front(indices, x.shape[axis]), axis=axis)


def _coordinates(c: Call, x: Tensor, indices: Tensor) -> Tensor:
    """Coordinates [..., K] of which negative ones count from the end."""
    depth = indices.shape[-1] if indices.ndim else 0
    if not isinstance(depth, int) or not 1 <= depth <= x.ndim:
        raise FileFormatError(f"{c.place}: the indices {indices.type} do not fit {x.type}")
    ends = ops.stack([ops.size_of(d, "int64") for d in x.shape[:depth]])
    wide = ops.astype(indices, "int64")
    return ops.where(ops.less(wide, 0), wide + ends, wide)


def _gather_nd(c: Call) -> Tensor:
    if c.int("batch_dims", 0):
        raise c.unsupported("GatherND with batch_dims")
    return ops.gather_nd(c[0], _coordinates(c, c[0], c[1]))


def _scatter_nd(c: Call) -> Tensor:
    x, mode = c[0], c.text("reduction", "none")
    places = _coordinates(c, x, c[1])
    if mode in ("none", "add"):
        return ops.scatter_nd(x, places, c[2], {"none": "set", "add": "add"}[mode])
    if mode in ("max", "min") and places.shape[-1] == x.ndim and x.dtype in NUMERIC:
        return _extreme(x, places, c[2], mode)
    raise c.unsupported(f"ScatterND with reduction={mode!r:.40}")


def _extreme(x: Tensor, places: Tensor, values: Tensor, mode: str) -> Tensor:
    """Values in order, so that the most extreme of equal places is set last."""
    count = product(values.shape)
    flat = ops.reshape(values, (count,))
    order = ops.argsort(flat, descending=mode == "min")
    rows = ops.take(ops.reshape(places, (count, x.ndim)), order)
    found = ops.scatter_nd(x, rows, ops.take(flat, order))
    return (ops.maximum if mode == "max" else ops.minimum)(x, found)


def _scatter_elements(c: Call) -> Tensor:
    x, mode = c[0], c.text("reduction", "none")
    axis = axis_of(c, x, 0)
    if mode not in ("none", "add"):
        raise c.unsupported(f"{c.operator} with reduction={mode!r:.40}")
    places = from_front(c[1], x.shape[axis])
    return ops.put_along_axis(x, places, c[2], axis, {"none": "set", "add": "add"}[mode])


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
    "TopK": _top_k,
}
