"""Operators that arrange elements. Those on shapes are computed while importing, by `FOLDED`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dlc import ops
from dlc.dims import Dim, product
from dlc.errors import FileFormatError
from dlc.frontend.onnx.arrays import MAX_ELEMENTS
from dlc.frontend.onnx.call import Call, Importer, Value
from dlc.frontend.onnx.importers.arrangements import padded
from dlc.ops.definition import Array
from dlc.ops.tensor import Tensor


def _shape(c: Call) -> Value:
    dims = np.empty(c[0].ndim, object)
    dims[:] = c[0].shape
    return Value(static=dims[c.int("start", 0) : c.int("end")])


def _reshape(c: Call) -> Tensor:
    """0 copies a dim, unless allowzero says that it means 0."""
    x, copies = c[0], not c.int("allowzero", 0)
    wanted = (c.ints("shape") or []) if c.opset < 5 else c.int_list(1)
    if any(copies and isinstance(d, int) and d == 0 and i >= x.ndim for i, d in enumerate(wanted)):
        raise FileFormatError(f"{c.place}: a 0 in the shape {wanted} copies a dim that {x.type} has not")
    return ops.reshape(x, [x.shape[i] if copies and isinstance(d, int) and d == 0 else d for i, d in enumerate(wanted)])


def _flatten(c: Call) -> Tensor:
    x, axis = c[0], c.int("axis", 1)
    if not -x.ndim <= axis <= x.ndim:
        raise FileFormatError(f"{c.place}: {x.type} has no axis {axis}")
    axis = axis + x.ndim if axis < 0 else axis
    return ops.reshape(x, (product(x.shape[:axis]), product(x.shape[axis:])))


def _squeeze(c: Call) -> Tensor:
    x, axes = c[0], c.axes(13)
    return ops.squeeze(x, tuple(i for i, d in enumerate(x.shape) if d == 1) if axes is None else tuple(axes))


def _unsqueeze(c: Call) -> Tensor:
    x, axes = c[0], c.axes(13) or []
    rank = x.ndim + len(axes)
    places = {a + rank if a < 0 else a for a in axes}
    if len(places) != len(axes) or not all(0 <= a < rank for a in places):
        raise FileFormatError(f"{c.place}: the axes {axes} do not fit a result of {rank} axes")
    dims = iter(x.shape)
    return ops.reshape(x, [1 if i in places else next(dims) for i in range(rank)])


def _transpose(c: Call) -> Tensor:
    return ops.permute_dims(c[0], c.ints("perm") or tuple(reversed(range(c[0].ndim))))


def _expand(c: Call) -> Tensor:
    """Either side may be the one that stretches."""
    x, shape = c[0], c.int_list(1)
    rank = max(x.ndim, len(shape))
    ours, theirs = [1] * (rank - x.ndim) + list(x.shape), [1] * (rank - len(shape)) + shape
    return ops.broadcast_to(x, [a if b == 1 else b for a, b in zip(ours, theirs, strict=True)])


def _slice(c: Call) -> Tensor:
    """Bounds beyond the ends are clamped."""
    x = c[0]
    starts, ends, axes, steps = _extents(c)
    index = [slice(None)] * x.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if not -x.ndim <= axis < x.ndim:
            raise FileFormatError(f"{c.place}: {x.type} has no axis {axis}")
        index[axis] = _bounds(start, end, step, x.shape[axis])
    return x[tuple(index)]


def _extents(c: Call) -> tuple[list[Any], list[Any], list[Any], list[Any]]:
    """Starts, ends, axes and steps. They were attributes before opset 10."""
    if c.opset < 10:
        starts, ends, axes, steps = c.ints("starts", []), c.ints("ends", []), c.ints("axes"), None
    else:
        starts, ends = c.int_list(1), c.int_list(2)
        axes, steps = (c.int_list(i) if c.has(i) else None for i in (3, 4))
    assert starts is not None and ends is not None
    axes = list(range(len(starts))) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    if not len(starts) == len(ends) == len(axes) == len(steps):
        raise FileFormatError(f"{c.place}: starts, ends, axes and steps differ in length")
    return starts, ends, axes, steps


def _bounds(start: Any, end: Any, step: Any, d: Any) -> slice:
    """Numbers near the ends of int64 mean 'to the end', which a named dim cannot be compared with."""
    far = 2**31 - 1
    if isinstance(d, Dim):
        start = None if isinstance(start, int) and start <= -far else start
        end = None if isinstance(end, int) and abs(end) >= far else end
        start = None if step < 0 and isinstance(start, int) and start >= far else start
    elif step < 0 and isinstance(end, int) and end < -d:
        end = None
    return slice(start, end, step)


def _split(c: Call) -> tuple[Tensor, ...]:
    x, axis = c[0], c.int("axis", 0)
    sizes = c.ints("split") if c.opset < 13 else c.int_list(1) if c.has(1) else None
    if not -x.ndim <= axis < x.ndim:
        raise FileFormatError(f"{c.place}: {x.type} has no axis {axis}")
    if sizes is None:
        d, parts = x.shape[axis], c.int("num_outputs", c.results)
        if isinstance(d, Dim) or not 1 <= parts <= 65536:
            raise c.unsupported(f"a split of {d} into {parts} equal parts")
        each = -(-d // parts)
        sizes = [max(0, min(each, d - i * each)) for i in range(parts)]
    if any(not isinstance(s, int) or s < 0 for s in sizes) or sum(sizes) != x.shape[axis]:
        raise FileFormatError(f"{c.place}: the parts {sizes[:8]} do not add up to {x.shape[axis]}")
    index: list[Any] = [slice(None)] * x.ndim
    parts_, start = [], 0
    for size in sizes:
        index[axis] = slice(start, start + size)
        parts_.append(x[tuple(index)])
        start += size
    return tuple(parts_)


def _pad(c: Call) -> Tensor:
    """Widths and value were attributes before opset 11."""
    x = c[0]
    if c.opset < 11:
        widths, value = c.ints("pads", []), c.float("value", 0.0)
    else:
        widths, value = c.int_list(1), c.static(2).item() if c.has(2) else 0
    assert widths is not None
    axes = c.int_list(3) if c.has(3) else list(range(x.ndim))
    if len(widths) != 2 * len(axes) or not all(-x.ndim <= a < x.ndim for a in axes):
        raise FileFormatError(f"{c.place}: {len(widths)} widths do not fit {len(axes)} axes of {x.type}")
    pairs = [(0, 0)] * x.ndim
    for i, axis in enumerate(axes):
        pairs[axis] = (widths[i], widths[len(axes) + i])
    return padded(c, x, pairs, c.text("mode", "constant"), value)


def _constant(c: Call) -> Value:
    for name, dtype in (("value_float", "float32"), ("value_floats", "float32"), ("value_int", "int64"),
                        ("value_ints", "int64")):
        if name in c.attributes:
            c.read.add(name)
            return Value(static=np.array(c.attributes[name], dtype))
    value = c.array("value")
    if value is None:
        raise c.unsupported("a constant that is no array of numbers")
    return Value(static=value)


def _constant_of_shape(c: Call) -> Tensor:
    value = c.array("value")
    element = np.zeros(1, np.float32) if value is None else value
    if element.size != 1:
        raise FileFormatError(f"{c.place}: the value must have one element")
    return ops.broadcast_to(ops.constant(element.reshape(())), c.int_list(0))


def _range(c: Call) -> Tensor:
    start, limit, delta = (c.static(i) for i in range(3))
    if any(a.size != 1 for a in (start, limit, delta)) or delta.item() == 0:
        raise FileFormatError(f"{c.place}: the bounds of a range are one number each, and its step is not 0")
    first, last, step = (a.item() for a in (start, limit, delta))
    if isinstance(step, Dim) or (step not in (1, -1) and any(isinstance(b, Dim) for b in (first, last))):
        raise c.unsupported("a range over named dims whose step is not 1")
    count = -int(-(last - first) // step) if not isinstance(last - first, Dim) else (last - first) * step
    if isinstance(count, int):
        count = max(0, count)
        if count > MAX_ELEMENTS:
            raise FileFormatError(f"{c.place}: a range of {count} elements")
    dtype = "int64" if start.dtype == object else start.dtype.name
    begin = ops.size_of(first, dtype) if isinstance(first, Dim) else first
    return ops.iota((count,), 0, dtype) * step + begin


SHAPES: dict[str, Importer] = {
    "Concat": lambda c: ops.concat([c[i] for i in range(len(c.operands))], axis=c.int("axis", 1)),
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Expand": _expand,
    "Flatten": _flatten,
    "Identity": lambda c: c.operands[0] or c[0],
    "Pad": _pad,
    "Range": _range,
    "Reshape": _reshape,
    "Shape": _shape,
    "Size": lambda c: Value(static=np.array(product(c[0].shape), object)),
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}

# ---------------------------------------------------------------- shapes, computed while importing


def _fold_slice(c: Call) -> Array:
    starts, ends, axes, steps = _extents(c)
    index = [slice(None)] * c.static(0).ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        index[axis] = slice(start, end, step)
    return c.static(0)[tuple(index)]


def _fold_reshape(c: Call) -> Array:
    source, wanted, copies = c.static(0), c.int_list(1), not c.int("allowzero", 0)
    return source.reshape([source.shape[i] if copies and d == 0 else int(d) for i, d in enumerate(wanted)])


def _fold_divide(c: Call) -> Array:
    a, b = c.static(0), c.static(1)
    if any(isinstance(v, (int, float, np.number)) and v <= 0 for v in b.flat):
        raise FileFormatError(f"{c.place}: a shape is divided by a number that is not positive")
    return a // b


FOLDED: dict[str, Callable[[Call], Array]] = {
    "Add": lambda c: c.static(0) + c.static(1),
    "Cast": lambda c: c.static(0),
    "Concat": lambda c: np.concatenate([c.static(i) for i in range(len(c.operands))], axis=c.int("axis", 1)),
    "Div": _fold_divide,
    "Gather": lambda c: np.take(c.static(0), c.static(1).astype(np.int64), axis=c.int("axis", 0)),
    "Identity": lambda c: c.static(0),
    "Mul": lambda c: c.static(0) * c.static(1),
    "Reshape": _fold_reshape,
    "Slice": _fold_slice,
    "Squeeze": lambda c: np.squeeze(c.static(0), None if (axes := c.axes(13)) is None else tuple(axes)),
    "Sub": lambda c: c.static(0) - c.static(1),
    "Unsqueeze": lambda c: np.expand_dims(c.static(0), tuple(c.axes(13) or ())),
}
