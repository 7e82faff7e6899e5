"""Images read at computed places, with torch's and torchvision's names and defaults."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dlc import ops
from dlc.errors import AttributeValueError, ShapeError
from dlc.ops.tensor import Tensor, wrap
from dlc.provenance import here

_MODES = {"nearest": "nearest", "bilinear": "linear", "bicubic": "cubic"}


def grid_sample(
    x: Any, grid: Any, mode: str = "bilinear", padding_mode: str = "zeros", align_corners: bool | None = None
) -> Tensor:
    """x [N, C, H, W] or [N, C, D, H, W] read at the places grid [N, ..., 2 or 3], as torch does it.

    `mode` is "nearest", "bilinear" (trilinear for volumes) or "bicubic", `padding_mode` "zeros", "border" or
    "reflection"; see `dlc.grid_sample`.

    >>> import dlc
    >>> dlc.evaluate(grid_sample([[[[1.0, 2.0], [3.0, 4.0]]]], [[[[0.0, 0.0]]]])).item()
    2.5
    """
    if not isinstance(mode, str) or mode not in _MODES:
        known = ", ".join(map(repr, _MODES))
        raise AttributeValueError(f"grid_sample: mode={mode!r} is unknown; use one of {known}", where=here())
    return ops.grid_sample(x, grid, _MODES[mode], padding_mode, bool(align_corners))


def roi_align(
    x: Any, boxes: Any, output_size: Any, spatial_scale: float = 1.0, sampling_ratio: int = -1, aligned: bool = False
) -> Tensor:
    """Regions of x [N, C, H, W] as images of one size, as torchvision has it; see `dlc.roi_align`.

    `boxes` is [K, 5], whose rows are the number of an image, x1, y1, x2 and y2, or a list of [L, 4], one of each image.

    >>> import dlc
    >>> x = dlc.reshape(dlc.arange(16, dtype="float32"), (1, 1, 4, 4))
    >>> dlc.evaluate(roi_align(x, [[0.0, 0.0, 0.0, 4.0, 4.0]], 2, sampling_ratio=2, aligned=True)).tolist()
    [[[[2.5, 4.5], [10.5, 12.5]]]]
    """
    corners, images = _regions(boxes, "roi_align")
    ratio = 0 if sampling_ratio == -1 else sampling_ratio
    return ops.roi_align(x, corners, images, output_size, spatial_scale, ratio, aligned)


def roi_pool(x: Any, boxes: Any, output_size: Any, spatial_scale: float = 1.0) -> Tensor:
    """Maxima over the parts of regions of x [N, C, H, W]; `boxes` as in `roi_align`. See `dlc.roi_pool`.

    >>> import dlc
    >>> x = dlc.reshape(dlc.arange(16, dtype="float32"), (1, 1, 4, 4))
    >>> dlc.evaluate(roi_pool(x, [dlc.constant([[0.0, 0.0, 3.0, 3.0]])], 1)).item()
    15.0
    """
    corners, images = _regions(boxes, "roi_pool")
    return ops.roi_pool(x, corners, images, output_size, spatial_scale)


def _regions(boxes: Any, name: str) -> tuple[Tensor, Tensor]:
    """The corners [K, 4] and the numbers of the images [K]."""
    if isinstance(boxes, (tuple, list)) and boxes and not _is_row(boxes[0]):
        found = [wrap(b) for b in boxes]
        if any(b.ndim != 2 or b.shape[1] != 4 for b in found):
            listed = ", ".join(str(b.type) for b in found)
            raise ShapeError(f"{name} takes boxes[K, 5], or a list of boxes[L, 4], not {listed}", where=here())
        images = [ops.full(b.shape[:1], i, "int64") for i, b in enumerate(found)]
        return ops.concat(found, axis=0), ops.concat(images, axis=0)
    rows = wrap(boxes)
    if rows.ndim != 2 or rows.shape[1] != 5:
        raise ShapeError(f"{name} takes boxes[K, 5], or a list of boxes[L, 4], not {rows.type}", where=here())
    return rows[:, 1:], rows[:, 0].astype("int64")


def _is_row(value: Any) -> bool:
    return isinstance(value, Sequence) and all(isinstance(v, (int, float)) for v in value)
