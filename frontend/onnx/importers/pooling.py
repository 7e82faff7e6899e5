"""Pooling, its reverse, and resizing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dlc import ops
from dlc.dims import Dim, product
from dlc.dtypes import FLOATING
from dlc.errors import FileFormatError
from dlc.frontend.onnx.call import Call, Importer
from dlc.frontend.onnx.importers.arrangements import MAX_AXIS
from dlc.frontend.onnx.importers.layers import padding, spatial
from dlc.ops.resizing import COORDINATES
from dlc.ops.tensor import Tensor


def _geometry(c: Call, x: Tensor) -> tuple[list[int], list[int], list[int], list[tuple[int, int]], list[int]]:
    """Sizes, strides, dilations and pads of windows; how much further they reach where counts round up."""
    rank = x.ndim - 2
    if rank < 1:
        raise c.unsupported(f"pooling of {x.type}")
    sizes, strides, gaps = (spatial(c, name, rank) for name in ("kernel_shape", "strides", "dilations"))
    pads = padding(c, x.shape[2:], sizes, strides, gaps)
    beyond = [0] * rank
    if c.int("ceil_mode", 0):
        for i, (size, stride, gap, (low, high)) in enumerate(zip(sizes, strides, gaps, pads, strict=True)):
            d = x.shape[2 + i]
            if isinstance(d, Dim):
                if stride == 1:
                    continue
                raise c.unsupported(f"pooling with ceil_mode=1 over the named dim {d}")
            reach = gap * (size - 1) + 1
            count = -(-(d + low + high - reach) // stride) + 1
            count -= (count - 1) * stride >= d + low  # the last window would begin in the padding
            beyond[i] = max(0, (count - 1) * stride + reach - d - low - high)
    return sizes, strides, gaps, pads, beyond


def _windows(c: Call, x: Tensor, fill: Any, padding_counts: bool) -> tuple[Tensor, Tensor, tuple[int, ...]]:
    """The windows of an operand, those of what counts (1 or 0) in its place, and the windows' axes."""
    sizes, strides, gaps, pads, beyond = _geometry(c, x)
    whole = [(0, 0), (0, 0), *((low, high + more) for (low, high), more in zip(pads, beyond, strict=True))]
    ones = ops.ones_like(x, dtype="float32" if x.dtype not in FLOATING else x.dtype)
    if padding_counts:
        ones = ops.pad(ops.pad(ones, [(0, 0), (0, 0), *pads], value=1), [(0, 0), (0, 0), *((0, b) for b in beyond)])
    else:
        ones = ops.pad(ones, whole)
    axes = tuple(range(2, x.ndim))
    seen, counted = (ops.windows(t, axes, sizes, strides, gaps) for t in (ops.pad(x, whole, value=fill), ones))
    return seen, counted, tuple(range(x.ndim, 2 * x.ndim - 2))


def _max_pool(c: Call) -> Any:
    x, by_columns = c[0], c.int("storage_order", 0)
    if c.results > 1:
        return _max_places(c, x, bool(by_columns))
    least = -math.inf if x.dtype in FLOATING else int(np.iinfo(x.dtype).min)
    seen, _, axes = _windows(c, x, least, False)
    return ops.max(seen, axis=axes)


def _max_places(c: Call, x: Tensor, by_columns: bool) -> list[Tensor]:
    """The maxima and their flat places in the whole of x; with storage order 1 the last two axes change places."""
    sizes, strides, gaps, pads, _ = _geometry(c, x)
    found, places = ops.max_pool(
        x, sizes, strides, pads, gaps, ceil_mode=bool(c.int("ceil_mode", 0)), return_indices=True
    )
    area = product(x.shape[2:])
    if by_columns:
        if x.ndim != 4:
            raise c.unsupported(f"places by columns of {x.type}")
        h, w = (ops.size_of(d, "int64") for d in x.shape[2:])
        places = places % w * h + places // w
    image = ops.iota((product(x.shape[:2]),), 0) * ops.size_of(area, "int64")
    return [found, places + ops.reshape(image, (*x.shape[:2], *[1] * (x.ndim - 2)))]


def _max_unpool(c: Call) -> Tensor:
    """Elements put back at their flat places in the whole tensor; a larger shape that is asked for has zeros beyond."""
    x, places = c[0], c[1]
    rank = x.ndim - 2
    sizes, strides = spatial(c, "kernel_shape", rank), spatial(c, "strides", rank)
    pads = padding(c, x.shape[2:], sizes, strides, [1] * rank)
    how = zip(x.shape[2:], sizes, strides, pads, strict=True)
    shape = (*x.shape[:2], *((d - 1) * s + k - low - high for d, k, s, (low, high) in how))
    empty = ops.zeros((product(shape), 1), x.dtype)
    flat = ops.put(empty, ops.reshape(places, (-1,)), ops.reshape(x, (-1, 1)))
    found = ops.reshape(flat, shape)
    if not c.has(2):
        return found
    wanted = c.int_list(2)
    if len(wanted) != x.ndim:
        raise FileFormatError(f"{c.place}: the shape {wanted[:8]} does not fit {x.type}")
    return ops.pad(found, [(0, n - d) for d, n in zip(shape, wanted, strict=True)])


def _average_pool(c: Call) -> Tensor:
    seen, counted, axes = _windows(c, c[0], 0.0, bool(c.int("count_include_pad", 0)))
    return ops.sum(seen, axis=axes) / ops.sum(counted, axis=axes)


def _lp_pool(c: Call) -> Tensor:
    p = float(c.int("p", 2))
    if p < 1:
        raise FileFormatError(f"{c.place}: p is {p}")
    seen, _, axes = _windows(c, c[0], 0.0, False)
    return ops.pow(ops.sum(ops.pow(ops.abs(seen), p), axis=axes), 1.0 / p)


def _resize(c: Call) -> Tensor:
    """Scales or sizes of all axes, or of those named; the first two must stay as they are."""
    x = c[0]
    axes = c.ints("axes") or list(range(x.ndim))
    axes = [a % x.ndim for a in axes if -x.ndim <= a < x.ndim]
    mode = c.text("mode", "nearest")
    filtered = {name: bool(c.int(name, 0)) and mode != "nearest" for name in ("antialias", "exclude_outside")}
    how = {
        "mode": mode,
        "coordinates": c.text("coordinate_transformation_mode", "half_pixel" if c.opset >= 11 else "asymmetric"),
        "rounding": c.text("nearest_mode", "round_prefer_floor" if c.opset >= 11 else "floor"),
        "cubic": c.float("cubic_coeff_a", -0.75),
        "beyond": c.float("extrapolation_value", 0.0),
        **filtered,
    }
    policy = c.text("keep_aspect_ratio_policy", "stretch")
    cropped = how["coordinates"] == "tf_crop_and_resize"
    if cropped:
        how["coordinates"] = "half_pixel"
    if how["coordinates"] not in COORDINATES:
        raise c.unsupported(f"resizing with coordinates {how['coordinates']!r:.40}")
    at = 2 if c.opset >= 11 else 1
    sizes = c.int_list(3) if c.has(3) else None
    if c.operator == "Upsample":
        how |= {"coordinates": "asymmetric", "rounding": "floor"}
    if c.operator == "Upsample" and c.opset < 9:
        scales = c.floats("scales")
    else:
        scales = None if sizes is not None else [float(s) for s in np.atleast_1d(c.static(at))]
    given: list[Any] = sizes if sizes is not None else scales or []
    if len(given) != len(axes):
        raise FileFormatError(f"{c.place}: {len(given)} sizes or scales for {len(axes)} axes of {x.type}")
    if sizes is not None and policy != "stretch":
        given = _in_proportion(c, x, axes, sizes, policy)
    crops = _crops(c, axes) if cropped else {}
    return _resized(c, x, dict(zip(axes, given, strict=True)), sizes is not None, how, crops)


def _crops(c: Call, axes: list[int]) -> dict[int, tuple[float, float]]:
    """Of each axis, which part of it is resized; of those that are not named, all."""
    ends = np.atleast_1d(c.static(1)).astype(float).tolist()
    if len(ends) != 2 * len(axes):
        raise FileFormatError(f"{c.place}: a roi of {len(ends)} numbers for {len(axes)} axes")
    return dict(zip(axes, zip(ends[: len(axes)], ends[len(axes) :], strict=True), strict=True))


def _in_proportion(c: Call, x: Tensor, axes: list[int], sizes: list[Any], policy: str) -> list[int]:
    """The sizes by the one scale that makes nothing larger, or nothing smaller, than what is asked for."""
    dims: list[Any] = [x.shape[a] for a in axes]
    if policy not in ("not_larger", "not_smaller") or any(isinstance(d, Dim) for d in (*dims, *sizes)):
        raise c.unsupported(f"resizing {x.type} with keep_aspect_ratio_policy={policy!r:.40}")
    scale = (min if policy == "not_larger" else max)(n / d for n, d in zip(sizes, dims, strict=True))
    return [math.floor(scale * d + 0.5) for d in dims]


def _resized(
    c: Call, x: Tensor, given: dict[int, Any], sizes: bool, how: dict[str, Any], crops: dict[int, tuple[float, float]]
) -> Tensor:
    """The axes that change, moved to the end, resized, and moved back."""
    whole = (0.0, 1.0)
    changing = [
        a for a, v in given.items() if v != (x.shape[a] if sizes else 1.0) or crops.get(a, whole) != whole
    ]
    if not changing:
        return x
    staying = [a for a in range(x.ndim) if a not in changing]
    order = (*staying, *changing)
    turned = ops.permute_dims(x, order)
    flat = ops.reshape(turned, (1, product([x.shape[a] for a in staying]), *(x.shape[a] for a in changing)))
    values = [given[a] for a in changing]
    if x.dtype not in FLOATING and how["mode"] != "nearest":
        raise c.unsupported(f"resizing {x.type} by {how['mode']!r:.40}")
    if not sizes and how["coordinates"] == "align_corners":  # of a result whose length may be broken
        how = {**how, "coordinates": "align_scaled_corners"}
    if crops:
        how = {**how, "crop": [crops[a] for a in changing]}
    wanted: dict[str, Any] = {"size" if sizes else "scale": values, **how}
    dims = [x.shape[a] for a in changing]
    lengths = values if sizes else [s * d for s, d in zip(values, dims, strict=True) if isinstance(d, int)]
    if any(isinstance(n, Dim) or not 0 < n <= MAX_AXIS for n in (*lengths, *values, *_long(dims, how))):
        raise FileFormatError(f"{c.place}: {x.type} cannot be resized by {values[:8]}")
    done = ops.resize(flat, **wanted)
    shape = [*(x.shape[a] for a in staying), *done.shape[2:]]
    back = [order.index(a) for a in range(x.ndim)]
    return ops.permute_dims(ops.reshape(done, shape), back)


def _long(dims: list[Any], how: dict[str, Any]) -> list[int]:
    """The axes that a filter against aliasing goes over as a whole."""
    return [d for d in dims if how["antialias"] and isinstance(d, int)]


POOLING: dict[str, Importer] = {
    "AveragePool": _average_pool,
    "GlobalAveragePool": lambda c: ops.global_avg_pool(c[0]),
    "GlobalLpPool": lambda c: ops.pow(
        ops.sum(ops.pow(ops.abs(c[0]), float(c.int("p", 2))), axis=tuple(range(2, c[0].ndim)), keepdims=True),
        1.0 / c.int("p", 2),
    ),
    "GlobalMaxPool": lambda c: ops.global_max_pool(c[0]),
    "LpPool": _lp_pool,
    "MaxPool": _max_pool,
    "MaxUnpool": _max_unpool,
    "Resize": _resize,
    "Upsample": _resize,
}
