"""Operators that repeat, mirror, cut out and rearrange blocks of elements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dlc import ops
from dlc.dims import Dim
from dlc.errors import FileFormatError
from dlc.frontend.onnx.arrays import dtype_of
from dlc.frontend.onnx.call import Call, Importer, Value, axis_of
from dlc.ops.tensor import Tensor

MAX_AXIS = 2**24  # elements of an axis whose places are written out one by one


def padded(c: Call, x: Tensor, pairs: Sequence[tuple[Any, Any]], mode: str, value: Any) -> Tensor:
    """`x` with more elements at its ends, or fewer where a width is negative. A mode other than constant copies."""
    if any(isinstance(w, Dim) for pair in pairs for w in pair):
        if mode != "constant":
            raise c.unsupported(f"padding by {mode!r:.40} with widths that are named dims")
        return ops.pad(x, pairs, value=value)
    cut = tuple(slice(max(0, -low), None if high >= 0 else high) for low, high in pairs)
    x = x[cut] if any(w < 0 for pair in pairs for w in pair) else x
    pairs = [(max(0, low), max(0, high)) for low, high in pairs]
    if mode == "constant":
        return ops.pad(x, pairs, value=value)
    if mode not in ("edge", "reflect", "wrap"):
        raise FileFormatError(f"{c.place}: there is no mode {mode!r:.40}")
    for axis, (low, high) in enumerate(pairs):
        if low or high:
            size = x.shape[axis]
            if isinstance(size, Dim) or size == 0:
                raise c.unsupported(f"padding of {x.type} by {mode!r:.40} along axis {axis}")
            if size + low + high > MAX_AXIS:
                raise FileFormatError(f"{c.place}: an axis of {size + low + high} elements to copy")
            kind: Any = mode
            places = np.pad(np.arange(size), (low, high), kind)
            x = ops.take(x, ops.constant(places), axis=axis)
    return x


def _tile(c: Call) -> Tensor:
    x, repeats = c[0], c.int_list(1)
    if len(repeats) != x.ndim or any(isinstance(r, Dim) or r < 0 for r in repeats):
        raise FileFormatError(f"{c.place}: the repeats {repeats[:8]} do not fit {x.type}")
    return ops.tile(x, repeats)


def _blocks(c: Call) -> tuple[Tensor, int]:
    x, size = c[0], c.int("blocksize", 0)
    if x.ndim != 4 or size < 1:
        raise FileFormatError(f"{c.place}: it takes [N, C, H, W] and a blocksize, not {x.type} and {size}")
    return x, size


def _depth_to_space(c: Call) -> Tensor:
    x, size = _blocks(c)
    n, channels, h, w = x.shape
    columns_first = c.text("mode", "DCR") == "DCR"
    inner = (size, size, channels // size**2) if columns_first else (channels // size**2, size, size)
    order = (0, 3, 4, 1, 5, 2) if columns_first else (0, 1, 4, 2, 5, 3)
    split = ops.reshape(x, (n, *inner, h, w))
    return ops.reshape(ops.permute_dims(split, order), (n, channels // size**2, h * size, w * size))


def _space_to_depth(c: Call) -> Tensor:
    x, size = _blocks(c)
    n, channels, h, w = x.shape
    split = ops.reshape(x, (n, channels, h // size, size, w // size, size))
    order = (0, 3, 5, 1, 2, 4) if c.text("mode", "DCR") == "DCR" else (0, 1, 3, 5, 2, 4)
    return ops.reshape(ops.permute_dims(split, order), (n, channels * size**2, h // size, w // size))


def _trilu(c: Call) -> Tensor:
    k = c.number(1) if c.has(1) else 0
    if isinstance(k, Dim):
        raise c.unsupported(f"the diagonal {k}")
    x = c[0]
    if x.ndim < 2:
        raise FileFormatError(f"{c.place}: it takes matrices, not {x.type}")
    k = min(max(k, -(2**31)), 2**31)
    rows, columns = (ops.iota(x.shape[-2:], a) for a in (0, 1))
    kept = ops.greater_equal(columns - rows, k) if c.int("upper", 1) else ops.less_equal(columns - rows, k)
    return ops.where(kept, x, ops.zeros_like(x))


def _eye_like(c: Call) -> Tensor:
    x = c[0]
    if x.ndim != 2:
        raise FileFormatError(f"{c.place}: it takes a matrix, not {x.type}")
    number = c.int("dtype")
    dtype = x.dtype if number is None else dtype_of(number, c.place)
    return ops.astype(ops.equal(ops.iota(x.shape, 1) - ops.iota(x.shape, 0), c.int("k", 0)), dtype)


def _compress(c: Call) -> Tensor:
    """The condition decides how many elements are left, so it must be known."""
    x, kept = c[0], np.flatnonzero(c.static(1))
    if c.int("axis") is None:
        return ops.take(ops.reshape(x, (-1,)), ops.constant(kept))
    return ops.take(x, ops.constant(kept), axis=axis_of(c, x, 0))


def _non_zero(c: Call) -> Value:
    """How many there are must be known."""
    return Value(static=np.array(np.nonzero(c.static(0)), np.int64))


def _unique(c: Call) -> list[Value]:
    """Which elements are equal must be known."""
    x, axis = c.static(0), c.int("axis")
    found, first, inverse, counts = np.unique(
        x, return_index=True, return_inverse=True, return_counts=True, axis=axis, equal_nan=True
    )
    inverse = inverse.reshape(-1)
    if not c.int("sorted", 1):
        order = np.argsort(first, kind="stable")
        rank = np.empty_like(order)
        rank[order] = np.arange(order.size)
        found, first, inverse, counts = np.take(found, order, axis or 0), first[order], rank[inverse], counts[order]
    return [Value(static=np.asarray(a)) for a in (found, *(v.astype(np.int64) for v in (first, inverse, counts)))]


def _reverse_sequence(c: Call) -> Tensor:
    """The first elements of each sequence, as many as its length says, in reverse."""
    x, lengths = c[0], ops.astype(c[1], "int64")
    time, batch = c.int("time_axis", 0), c.int("batch_axis", 1)
    if {time, batch} != {0, 1} or x.ndim < 2:
        raise FileFormatError(f"{c.place}: the axes of time and batch are 0 and 1, not {time} and {batch}")
    shape: list[Any] = [1] * x.ndim
    shape[batch] = x.shape[batch]
    ends = ops.reshape(lengths, shape)
    places = ops.iota(x.shape, time)
    return ops.take_along_axis(x, ops.where(ops.less(places, ends), ends - 1 - places, places), axis=time)


def _column_to_image(c: Call) -> Tensor:
    """Overlapping blocks summed up: the adjoint of cutting windows out."""
    x, image, block = c[0], c.int_list(1), c.int_list(2)
    rank = len(block)
    ones = [1] * rank
    gaps, pads, strides = c.ints("dilations", ones), c.ints("pads", [0] * (2 * rank)), c.ints("strides", ones)
    assert gaps is not None and pads is not None and strides is not None
    known = [*image, *block, *gaps, *strides, *pads]
    fits = len(image) == len(gaps) == len(strides) == rank > 0 and len(pads) == 2 * rank and x.ndim == 3
    if not fits or any(isinstance(v, Dim) or v < 0 for v in known) or 0 in (*gaps, *strides, *block):
        raise FileFormatError(f"{c.place}: the attributes do not fit {x.type}")
    lengths = [d + low + high for d, low, high in zip(image, pads[:rank], pads[rank:], strict=True)]
    how = zip(lengths, block, gaps, strides, strict=True)
    counts = [(d - g * (b - 1) - 1) // s + 1 for d, b, g, s in how]
    channels = x.shape[1] // int(np.prod(block))
    blocks = ops.reshape(x, (x.shape[0], channels, *block, *counts))
    order = (0, 1, *range(2 + rank, 2 + 2 * rank), *range(2, 2 + rank))
    whole = ops.fold(ops.permute_dims(blocks, order), range(2, 2 + rank), lengths, strides, gaps)
    return whole[(slice(None), slice(None), *(slice(low, low + d) for low, d in zip(pads, image, strict=False)))]


def _center_crop_pad(c: Call) -> Tensor:
    x, shape, axes = c[0], c.int_list(1), c.ints("axes")
    axes = list(range(x.ndim)) if axes is None else axes
    if len(axes) != len(shape) or any(not -x.ndim <= a < x.ndim for a in axes):
        raise FileFormatError(f"{c.place}: the shape {shape[:8]} does not fit {len(axes)} axes of {x.type}")
    pairs: list[tuple[Any, Any]] = [(0, 0)] * x.ndim
    for axis, d in zip(axes, shape, strict=True):
        size = x.shape[axis]
        if isinstance(size, Dim) or isinstance(d, Dim):
            raise c.unsupported(f"cropping {size} to {d}")
        less = d - size
        low = less // 2 if less >= 0 else -(-less // 2)
        pairs[axis] = (low, less - low)
    return padded(c, x, pairs, "constant", 0)


def _einsum(c: Call) -> Tensor:
    return ops.einsum(c.text("equation").replace(" ", ""), *(c[i] for i in range(len(c.operands))))


def _determinant(c: Call) -> Tensor:
    """By elimination without branches, for matrices of a known size."""
    x = c[0]
    if x.ndim < 2 or x.shape[-1] != x.shape[-2] or isinstance(x.shape[-1], Dim) or x.shape[-1] > 16:
        raise c.unsupported(f"the determinant of {x.type}")
    return _minors(x)


def _minors(x: Tensor) -> Tensor:
    """Pivot on the largest element of the first column, then the determinant of what is left."""
    n = x.shape[-1]
    assert isinstance(n, int)
    found: Any = 1.0
    for size in range(n, 1, -1):
        column = x[..., 0]
        at = ops.argmax(ops.abs(column), axis=-1, keepdims=True)
        places = ops.iota(column.shape, -1)
        swapped = ops.where(ops.equal(places, at), 0, places)  # row `at` moves up, row 0 takes its place
        rows = ops.where(ops.equal(places, 0), at, swapped)
        x = ops.take_along_axis(x, ops.broadcast_to(ops.expand_dims(rows, -1), x.shape), axis=-2)
        pivot = x[..., 0, 0]
        found = found * ops.where(ops.equal(ops.squeeze(at, -1), 0), pivot, -pivot)
        safe = ops.where(ops.equal(pivot, 0.0), 1.0, pivot)
        factors = x[..., 1:, :1] / ops.reshape(safe, (*safe.shape, 1, 1))
        x = x[..., 1:, 1:] - factors * x[..., :1, 1:]
        assert size > 1
    return x[..., 0, 0] * found


ARRANGEMENTS: dict[str, Importer] = {
    "CenterCropPad": _center_crop_pad,
    "Col2Im": _column_to_image,
    "Compress": _compress,
    "DepthToSpace": _depth_to_space,
    "Det": _determinant,
    "Einsum": _einsum,
    "EyeLike": _eye_like,
    "NonZero": _non_zero,
    "ReverseSequence": _reverse_sequence,
    "SpaceToDepth": _space_to_depth,
    "Tile": _tile,
    "Trilu": _trilu,
    "Unique": _unique,
}
