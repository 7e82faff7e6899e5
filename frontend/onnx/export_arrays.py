"""Views, reductions, padding, gathering, scattering and sorting as ONNX nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dlc import dtypes
from dlc.dims import Dim, DimLike, Shape, product
from dlc.frontend.onnx.export_elementwise import choose
from dlc.frontend.onnx.writer import Value, Writer, exports
from dlc.ir import Node
from dlc.ops.view import inverse_permutation

FAR = 2**62  # beyond any axis

# Dtypes that an op is not made for, in ONNX or in ONNX Runtime, and what to compute in instead.
_TO_32 = dict.fromkeys(("int8", "uint8", "int16", "uint16"), "int32")
WIDER = {
    "ReduceMax": {**_TO_32, "uint32": "int64"},
    "ReduceMin": {**_TO_32, "uint32": "int64"},
    "ReduceSum": {"uint32": "int64", "uint64": "int64"},  # two's complement: the same bits
    "ReduceProd": {"uint32": "int64", "uint64": "int64"},
    "CumSum": {"uint32": "int64", "uint64": "int64"},
    "CumProd": {"uint32": "int64"},
    "ArgMax": {**_TO_32, "uint32": "int64"},
    "ArgMin": {**_TO_32, "uint32": "int64"},
    "TopK": {**_TO_32, "uint32": "int64"},
    "Pad": {"int16": "int32", "uint16": "int32"},
}


def widened(w: Writer, op: str, x: Value, dtype: str) -> tuple[Value, str]:
    """`x` in the dtype that `op` computes in."""
    wide = WIDER.get(op, {}).get(dtype, dtype)
    return w.cast(x, dtype, wide), wide


def ordered(w: Writer, op: str, x: Value, dtype: str) -> tuple[Value, str]:
    """`x` in a dtype that `op` computes in, in the same order; uint64 less 2^63 is int64."""
    if dtype != "uint64":
        return widened(w, op, x, dtype)
    return w.cast(w.op("BitwiseXor", x, w.constant(2**63, "uint64")), "uint64", "int64"), "int64"


def unordered(w: Writer, x: Value, wide: str, dtype: str) -> Value:
    """The reverse of `ordered`."""
    if dtype != "uint64":
        return w.cast(x, wide, dtype)
    return w.op("BitwiseXor", w.cast(x, "int64", "uint64"), w.constant(2**63, "uint64"))


def as_index(w: Writer, x: Value, dtype: str) -> Value:
    """Indices as ONNX takes them."""
    return x if dtype in ("int32", "int64") else w.cast(x, dtype, "int64")


@exports("constant")
def _constant(w: Writer, node: Node, xs: list[Value]) -> Value:
    return w.constant(node.attrs["value"].array, node.dtype)


# ---------------------------------------------------------------- views


@exports("reshape")
def _reshape(w: Writer, node: Node, xs: list[Value]) -> Value:
    return w.reshape(xs[0], node.inputs[0].shape, node.shape)


@exports("permute_dims")
def _permute_dims(w: Writer, node: Node, xs: list[Value]) -> Value:
    return w.transpose(xs[0], node.attrs["axes"])


@exports("broadcast_to")
def _broadcast_to(w: Writer, node: Node, xs: list[Value]) -> Value:
    return w.op("Expand", xs[0], _stretch(w, node.inputs[0].shape, node.shape))


def _stretch(w: Writer, source: Shape, shape: Shape) -> Value:
    """What Expand is told: 1 for the dims that stay."""
    lead = len(shape) - len(source)
    return w.dims(1 if i >= lead and source[i - lead] == d else d for i, d in enumerate(shape))


@exports("slice")
def _slice(w: Writer, node: Node, xs: list[Value]) -> Value:
    starts, ends, axes, steps = [], [], [], []
    rows = zip(node.inputs[0].shape, *(node.attrs[k] for k in ("starts", "sizes", "steps")), strict=True)
    for axis, (d, start, size, step) in enumerate(rows):
        if (start, size, step) == (0, d, 1):
            continue
        last = start + (size - 1) * step
        end = last + (1 if step > 0 else -1)
        axes.append(axis)
        starts.append(w.dim(start))
        steps.append(step)
        ends.append(_before_first(w, end) if step < 0 else w.dim(end))
    if not axes:
        return w.op("Identity", xs[0])
    return w.op("Slice", xs[0], _joined(w, starts), _joined(w, ends), w.ints(*axes), w.ints(*steps))


def _before_first(w: Writer, end: DimLike) -> Value:
    """The end of a slice that goes backwards; -1 would stand for the last element."""
    if not isinstance(end, Dim):
        return w.ints(-FAR if end < 0 else end)
    value = w.dim(end)
    return w.root_op("Where", w.root_op("Less", value, w.ints(0)), w.ints(-FAR), value)


def _joined(w: Writer, parts: Sequence[Value]) -> Value:
    """int64[1] values as one vector."""
    if len(parts) == 1:
        return parts[0]
    known = [w.root.initialisers.get(p) for p in parts]
    if all(k is not None for k in known):
        return w.ints(*(int(k[0]) for k in known if k is not None))
    return w.root_op("Concat", *parts, axis=0)


@exports("windows")
def _windows(w: Writer, node: Node, xs: list[Value]) -> Value:
    """One Gather for each axis, at positions [windows, size]; then the windows' own axes go last."""
    x, rank = xs[0], node.inputs[0].type.ndim
    axes, sizes, strides, dilations = (node.attrs[k] for k in ("axes", "sizes", "strides", "dilations"))
    order: list[Any] = list(range(rank))
    for i, (axis, size, stride, dilation) in enumerate(zip(axes, sizes, strides, dilations, strict=True)):
        at = order.index(axis)
        x = w.op("Gather", x, window_positions(w, node.shape[axis], size, stride, dilation), axis=at)
        order.insert(at + 1, ("window", i))
    last = [order.index(a) for a in range(rank)] + [order.index(("window", i)) for i in range(len(axes))]
    return w.transpose(x, last)


def window_positions(w: Writer, count: DimLike, size: int, stride: int, dilation: int) -> Value:
    """Where the elements of windows lie: window * stride + element * dilation, as int64[count, size]."""
    offsets = np.arange(size) * dilation
    if not isinstance(count, Dim):
        return w.constant(np.arange(count)[:, None] * stride + offsets, "int64", "positions")
    starts = w.op("Mul", w.positions(count), w.ints(stride))
    return w.op("Add", w.op("Unsqueeze", starts, w.ints(1)), w.constant(offsets, "int64", "positions"))


# ---------------------------------------------------------------- reductions


def _reduction(w: Writer, node: Node, op: str, x: Value) -> Value:
    axes = node.attrs["axes"]
    if not axes:
        return w.op("Identity", x)
    return w.op(op, x, w.ints(*axes), keepdims=0)


@exports("sum", "prod")
def _sum(w: Writer, node: Node, xs: list[Value]) -> Value:
    op = {"sum": "ReduceSum", "prod": "ReduceProd"}[node.op.name]
    x, wide = widened(w, op, xs[0], node.dtype)
    return w.cast(_reduction(w, node, op, x), wide, node.dtype)


@exports("min")
def extremum(w: Writer, node: Node, xs: list[Value]) -> Value:
    """The maximum or minimum over axes."""
    op = {"max": "ReduceMax", "min": "ReduceMin"}[node.op.name]
    x, wide = ordered(w, op, xs[0], node.dtype)
    return unordered(w, _reduction(w, node, op, x), wide, node.dtype)


@exports("any", "all")
def _any(w: Writer, node: Node, xs: list[Value]) -> Value:
    """By counting, which has a value for an empty axis as well."""
    counted = xs[0] if node.op.name == "any" else w.op("Not", xs[0])
    count = _reduction(w, node, "ReduceSum", w.cast(counted, "bool", "int64"))
    return w.op("Greater" if node.op.name == "any" else "Equal", count, w.constant(0, "int64"))


@exports("argmax", "argmin")
def _argmax(w: Writer, node: Node, xs: list[Value]) -> Value:
    op = {"argmax": "ArgMax", "argmin": "ArgMin"}[node.op.name]
    source, axes = node.inputs[0].type, node.attrs["axes"]
    x, _ = ordered(w, op, xs[0], source.dtype)
    if len(axes) == 1:
        return w.op(op, x, axis=axes[0], keepdims=0)
    order = (*(a for a in range(source.ndim) if a not in axes), *axes)
    moved = tuple(source.shape[a] for a in order)
    flat = (*node.shape, product(source.shape[a] for a in axes))
    return w.op(op, w.reshape(w.transpose(x, order), moved, flat), axis=len(node.shape), keepdims=0)


@exports("cumulative_sum", "cumulative_prod")
def _cumulative(w: Writer, node: Node, xs: list[Value]) -> Value:
    op, since = {"cumulative_sum": ("CumSum", 14), "cumulative_prod": ("CumProd", 26)}[node.op.name]
    x, wide = widened(w, op, xs[0], node.dtype)
    axis = w.constant(node.attrs["axis"], "int64")
    return w.cast(w.op(op, x, axis, since=since, reverse=int(node.attrs["reverse"])), wide, node.dtype)


# ---------------------------------------------------------------- positions, padding, joining


@exports("iota")
def _iota(w: Writer, node: Node, xs: list[Value]) -> Value:
    shape, axis = node.shape, node.attrs["axis"]
    column = w.cast(w.positions(shape[axis]), "int64", node.dtype)
    if len(shape) == 1:
        return column
    laid = tuple(d if a == axis else 1 for a, d in enumerate(shape))
    return w.op("Expand", w.reshape(column, (shape[axis],), laid), _stretch(w, laid, shape))


@exports("size_of")
def _size_of(w: Writer, node: Node, xs: list[Value]) -> Value:
    return w.cast(w.op("Squeeze", w.dim(node.attrs["size"])), "int64", node.dtype)


@exports("pad")
def _pad(w: Writer, node: Node, xs: list[Value]) -> Value:
    low, high, interior, value = (node.attrs[k] for k in ("low", "high", "interior", "value"))
    if any(interior):
        return _spread(w, node, xs[0])
    x, wide = widened(w, "Pad", xs[0], node.dtype)
    return w.cast(w.op("Pad", x, w.dims((*low, *high)), w.constant(value, wide)), wide, node.dtype)


def _spread(w: Writer, node: Node, x: Value) -> Value:
    """Padding between elements: axis by axis, slices are set at equal distances in a filled tensor."""
    low, _, interior, value = (node.attrs[k] for k in ("low", "high", "interior", "value"))
    shape = list(node.inputs[0].shape)
    for axis, (start, gap) in enumerate(zip(low, interior, strict=True)):
        places = w.op("Mul", w.positions(shape[axis]), w.ints(gap + 1)) if gap else w.positions(shape[axis])
        if not isinstance(start, int) or start:
            places = w.op("Add", places, w.dim(start))
        order = (axis, *(a for a in range(len(shape)) if a != axis))
        shape[axis] = node.shape[axis]
        filled = w.filled(value, node.dtype, tuple(shape[a] for a in order))
        rows = w.op("Unsqueeze", places, w.ints(1))
        x = w.op("ScatterND", filled, rows, w.transpose(x, order))
        x = w.transpose(x, inverse_permutation(order))
    return x


@exports("concat")
def _concat(w: Writer, node: Node, xs: list[Value]) -> Value:
    return w.op("Concat", *xs, axis=node.attrs["axis"])


@exports("fold")
def _fold(w: Writer, node: Node, xs: list[Value]) -> Value:
    """The adjoint of `windows`: axis by axis, slices are added where they were gathered from."""
    x, shape = xs[0], list(node.inputs[0].shape)
    rows = list(zip(*(node.attrs[k] for k in ("axes", "lengths", "strides", "dilations")), strict=True))
    for axis, length, stride, dilation in reversed(rows):
        window = len(shape) - 1
        size = shape.pop()
        assert isinstance(size, int)
        positions = window_positions(w, shape[axis], size, stride, dilation)
        others = [a for a in range(window) if a != axis]
        zeros = w.filled(0, node.dtype, (length, *(shape[a] for a in others)))
        updates = w.transpose(x, (axis, window, *others))
        added = w.op("ScatterND", zeros, w.op("Unsqueeze", positions, w.ints(2)), updates, reduction="add")
        x = w.transpose(added, inverse_permutation((axis, *others)))
        shape[axis] = length
    return x


# ---------------------------------------------------------------- gathering and scattering


@exports("take")
def _take(w: Writer, node: Node, xs: list[Value]) -> Value:
    return w.op("Gather", xs[0], as_index(w, xs[1], node.inputs[1].dtype), axis=node.attrs["axis"])


@exports("take_along_axis")
def _take_along_axis(w: Writer, node: Node, xs: list[Value]) -> Value:
    return w.op("GatherElements", xs[0], as_index(w, xs[1], node.inputs[1].dtype), axis=node.attrs["axis"])


def _rows(w: Writer, indices: Value, node: Node) -> Value:
    """Indices as ScatterND takes them: int64, each in a row of its own."""
    return w.op("Unsqueeze", w.cast(indices, node.dtype, "int64"), w.ints(node.type.ndim))


@exports("take_adjoint")
def _take_adjoint(w: Writer, node: Node, xs: list[Value]) -> Value:
    axis, count, rank = node.attrs["axis"], node.inputs[1].type.ndim, node.inputs[0].type.ndim
    others = [*range(axis), *range(axis + count, rank)]
    shape = node.inputs[0].shape
    zeros = w.filled(0, node.dtype, (node.attrs["size"], *(shape[a] for a in others)))
    updates = w.transpose(xs[0], (*range(axis, axis + count), *others))
    added = w.op("ScatterND", zeros, _rows(w, xs[1], node.inputs[1]), updates, reduction="add")
    return w.transpose(added, inverse_permutation((axis, *(a for a in range(len(others) + 1) if a != axis))))


@exports("put")
def _put(w: Writer, node: Node, xs: list[Value]) -> Value:
    """Which of equal indices wins in ScatterND is left open, so the last of each is found first."""
    x, indices, values = xs
    rows, count = node.shape[0], node.inputs[1].shape[0]
    last = w.op(
        "ScatterND",
        w.filled(-1, "int64", (rows,)),
        _rows(w, indices, node.inputs[1]),
        w.positions(count),
        reduction="max",
    )
    untouched = w.op("Less", last, w.constant(0, "int64"))
    extra = w.filled(0, node.dtype, (1, node.shape[1]))  # read where no value is set, so that values may be empty
    chosen = w.op("Where", untouched, w.dim(count), last)
    found = w.op("Gather", w.op("Concat", values, extra, axis=0), chosen, axis=0)
    return choose(w, w.op("Unsqueeze", untouched, w.ints(1)), x, found, node.dtype)


@exports("argsort")
def _argsort(w: Writer, node: Node, xs: list[Value]) -> Value:
    """TopK keeps the order of equal elements; floats are sorted once more by whether they are NaN."""
    axis, descending, dtype = node.attrs["axis"], int(node.attrs["descending"]), node.inputs[0].dtype
    count = w.dim(node.shape[axis])

    def positions(key: Value) -> Value:
        return w.emit("TopK", [key, count], results=2, axis=axis, largest=descending, sorted=1)[1]

    if dtype not in dtypes.FLOATING:
        return positions(ordered(w, "TopK", xs[0], dtype)[0])
    unknown = w.op("IsNaN", xs[0])
    by_value = positions(w.op("Where", unknown, w.constant(0, dtype), xs[0]))
    mask = w.op("GatherElements", w.cast(unknown, "bool", "int32"), by_value, axis=axis)
    return w.op("GatherElements", by_value, positions(mask), axis=axis)
