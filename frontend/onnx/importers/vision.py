"""Images read at computed places: sampling by a grid, regions, and convolution with offsets."""

from __future__ import annotations

from typing import Any

from dlc import ops
from dlc.errors import FileFormatError
from dlc.frontend.onnx.call import Call, Importer
from dlc.frontend.onnx.importers.arrangements import MAX_AXIS
from dlc.frontend.onnx.importers.layers import padding, spatial
from dlc.ops.tensor import Tensor

# the names of opset 16, where there were but images, and those since opset 20
_MODES = {"nearest": "nearest", "bilinear": "linear", "linear": "linear", "bicubic": "cubic", "cubic": "cubic"}


def _grid_sample(c: Call) -> Tensor:
    mode = c.text("mode", "linear")
    if mode not in _MODES:
        raise FileFormatError(f"{c.place}: there is no mode {mode!r:.40}")
    align = bool(c.int("align_corners", 0))
    return ops.grid_sample(c[0], c[1].astype(c[0].dtype), _MODES[mode], c.text("padding_mode", "zeros"), align)


def _deform_conv(c: Call) -> Tensor:
    x, w = c[0], c[1]
    if x.ndim != 4:
        raise c.unsupported(f"a convolution with offsets of {x.type}")
    sizes = [d for d in w.shape[2:] if isinstance(d, int)]
    if len(sizes) != 2 or c.ints("kernel_shape", sizes) != sizes:
        raise FileFormatError(f"{c.place}: the kernel {w.type} does not fit {x.type}, or its kernel_shape")
    strides, gaps = spatial(c, "strides", 2), spatial(c, "dilations", 2)
    pads = padding(c, x.shape[2:], sizes, strides, gaps)
    optional = [c[i] if c.has(i) else None for i in (3, 4)]
    groups, spread = c.int("group", 1), c.int("offset_group", 1)
    if w.ndim != 4 or w.shape[1] * groups != x.shape[1] or c[2].shape[1] != 2 * sizes[0] * sizes[1] * spread:
        raise FileFormatError(f"{c.place}: {groups} groups and {spread} of offsets do not fit {w.type}, {c[2].type}")
    return ops.deform_conv2d(x, c[2], w, optional[0], tuple(strides), tuple(pads), tuple(gaps), mask=optional[1])


def _roi_align(c: Call) -> Tensor:
    usual = "half_pixel" if c.opset >= 16 else "output_half_pixel"
    coordinates, mode = c.text("coordinate_transformation_mode", usual), c.text("mode", "avg")
    if coordinates not in ("half_pixel", "output_half_pixel"):
        raise FileFormatError(f"{c.place}: there are no coordinates {coordinates!r:.40}")
    size, ratio = _size(c, c.int("output_height", 1), c.int("output_width", 1)), c.int("sampling_ratio", 0)
    if not 0 <= ratio <= MAX_AXIS:
        raise FileFormatError(f"{c.place}: a sampling_ratio of {ratio}")
    scale, aligned = c.float("spatial_scale", 1.0), coordinates == "half_pixel"
    return ops.roi_align(c[0], c[1].astype(c[0].dtype), c[2], size, scale, ratio, aligned, mode)


def _max_roi_pool(c: Call) -> Tensor:
    rois = c[1]
    if rois.ndim != 2 or rois.shape[1] != 5:
        raise FileFormatError(f"{c.place}: the regions are [K, 5], not {rois.type}")
    size = c.ints("pooled_shape", [])
    if size is None or len(size) != 2:
        raise FileFormatError(f"{c.place}: pooled_shape must be two ints")
    images = rois[:, 0].astype("int64")
    return ops.roi_pool(c[0], rois[:, 1:].astype(c[0].dtype), images, _size(c, *size), c.float("spatial_scale", 1.0))


def _size(c: Call, *size: Any) -> tuple[Any, ...]:
    if not all(0 < n <= MAX_AXIS for n in size):
        raise FileFormatError(f"{c.place}: a result of size {size}")
    return size


VISION: dict[str, Importer] = {
    "DeformConv": _deform_conv,
    "GridSample": _grid_sample,
    "MaxRoiPool": _max_roi_pool,
    "RoiAlign": _roi_align,
}
