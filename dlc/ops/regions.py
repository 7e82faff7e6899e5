"""Regions of images, of any place and size, made into small images of one size."""

from __future__ import annotations

import math
from typing import Any

from dlc.dims import DimLike
from dlc.dtypes import FLOATING
from dlc.errors import AttributeValueError, DTypeError, ShapeError
from dlc.ops.arithmetic import maximum
from dlc.ops.convolution import pair
from dlc.ops.definition import located, plain_number
from dlc.ops.elementwise import convert, promoted, rounded_once, where
from dlc.ops.fill import along, check_indices, iota, size_of
from dlc.ops.functions import ceil, floor
from dlc.ops.gather import take
from dlc.ops.leaves import scalar
from dlc.ops.logic import logical_and
from dlc.ops.reduce import any as any_
from dlc.ops.reduce import max as max_
from dlc.ops.reduce import sum as sum_
from dlc.ops.sampling import weighted_elements
from dlc.ops.tensor import Tensor, wrap
from dlc.ops.view import broadcast_to, expand_dims, permute_dims, reshape


def _operands(x: Any, boxes: Any, images: Any, name: str) -> tuple[Tensor, Tensor, Tensor]:
    t, corners = promoted([x, boxes])
    which = wrap(images)
    if t.dtype not in FLOATING:
        raise DTypeError(f"{name} takes floating-point tensors, not {t.type}; convert with .astype('float32')")
    check_indices(which.type, name)
    if t.ndim != 4 or corners.ndim != 2 or corners.shape[1] != 4 or which.shape != corners.shape[:1]:
        raise ShapeError(
            f"{name} takes x[N, C, H, W], boxes[K, 4] and the images[K] that they lie in, "
            f"not {t.type}, {corners.type} and {which.type}"
        )
    return t, corners, which


def _output(size: Any, name: str) -> tuple[int, int]:
    sizes = pair(size, f"{name}: the output's size")
    if min(sizes) < 1:
        raise AttributeValueError(f"{name}: the output's size is of ints of at least 1, not {size!r}")
    return sizes


@located
@rounded_once("x", "boxes")
def roi_align(
    x: Any, boxes: Any, images: Any, output_size: Any, spatial_scale: float = 1.0, sampling_ratio: int = 2,
    aligned: bool = True, mode: str = "avg",
) -> Tensor:  # fmt: skip
    """Regions of x[N, C, H, W] as images of one size: boxes[K, 4] in images[K] give [K, C, PH, PW].

    A box is x1, y1, x2, y2, times `spatial_scale`; with `aligned` less 1/2, so that whole numbers are the edges of
    elements, else boxes are at least 1 wide and high. Each output is the mean of `sampling_ratio`^2 places in its part
    of the box, read bilinearly; up to 1 beyond the ends the elements there go on, and further out are zeros. With a
    ratio of 0 there are as many places as elements, rounded up: that is slow, needs H and W that are known, and a box
    larger than the image by more than one element fails the run. `mode="max"` gives the largest of all elements around
    the places, times their bilinear weights, as ONNX has it. An image out of range fails the run. Boxes have gradients
    as well. K. He et al., "Mask R-CNN", arXiv:1703.06870.

    >>> import dlc
    >>> x = dlc.reshape(dlc.arange(16, dtype="float32"), (1, 1, 4, 4))
    >>> dlc.evaluate(dlc.roi_align(x, [[0.0, 0.0, 4.0, 4.0]], [0], 2)).tolist()
    [[[[2.5, 4.5], [10.5, 12.5]]]]
    """
    t, corners, which = _operands(x, boxes, images, "roi_align")
    out = _output(output_size, "roi_align")
    if isinstance(sampling_ratio, bool) or not isinstance(sampling_ratio, int) or sampling_ratio < 0:
        raise AttributeValueError(f"roi_align: sampling_ratio is an int of at least 0, not {sampling_ratio!r}")
    if mode not in ("avg", "max"):
        raise AttributeValueError(f"roi_align: mode={mode!r} is unknown; use 'avg' or 'max'")
    corners = corners * plain_number(spatial_scale, "roi_align", "spatial_scale") - (0.5 if aligned else 0.0)
    places, counted, counts = [], [], []
    for axis in (0, 1):  # down, then right
        first, last = corners[:, 1 - axis], corners[:, 3 - axis]
        size = last - first if aligned else maximum(last - first, 1.0)
        at, holds, count = _samples(first, size, t, 2 + axis, out[axis], sampling_ratio)
        places.append(_beside(at, axis))
        counted.append(_beside(holds, axis))
        counts.append(count)
    if not sampling_ratio:  # a box with more places than there are made is read from no image
        most = [size_of(at.shape[2 + 2 * axis], t.dtype) for axis, at in enumerate(places)]
        fits = logical_and(counts[0] <= most[0], counts[1] <= most[1])
        which = where(fits, convert(which, "int64"), -1)
    chosen = logical_and(*counted)  # [K, PH, S, PW, S], all of them broadcast
    near = logical_and(*(_near(at, d) for at, d in zip(places, t.shape[2:], strict=True)))
    read = weighted_elements(t, places, padding="border", images=which)  # [K, PH, S, PW, S, 2, 2, C]
    read = where(_at_the_end(logical_and(near, chosen), 3), read, scalar(0, t.dtype))
    axes = (2, 4, 5, 6)
    number = _at_the_end(maximum(counts[0] * counts[1], 1.0), 3)
    if mode == "avg":
        return permute_dims(sum_(read, axis=axes) / number, (0, 3, 1, 2))
    largest = max_(where(_at_the_end(chosen, 3), read, scalar(-math.inf, t.dtype)), axis=axes)
    nothing = _at_the_end(counts[0] * counts[1] == 0.0, 3)
    return permute_dims(where(nothing, scalar(0, t.dtype), largest), (0, 3, 1, 2))


def _samples(
    first: Tensor, size: Tensor, x: Tensor, axis: int, parts: int, ratio: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The places [K, parts, S] along one axis of boxes that begin at `first` [K]; which of them count; how many do."""
    each = size / float(parts)
    count, most = scalar(float(ratio), size.dtype), ratio
    if not ratio:
        d = x.shape[axis]
        if not isinstance(d, int):
            raise ShapeError(f"roi_align: with sampling_ratio=0 axis {axis} of {x.type} must be known before a call")
        count, most = maximum(ceil(each), 0.0), -(-(d + 1) // parts)
    count = broadcast_to(count, first.shape)
    part, sample = along(iota((parts,), 0, size.dtype), 1, 3), along(iota((most,), 0, size.dtype), 2, 3)
    step = _at_the_end(each / maximum(count, 1.0), 2)
    at = _at_the_end(first, 2) + part * _at_the_end(each, 2) + (sample + 0.5) * step
    return at, sample < _at_the_end(count, 2), count


def _beside(t: Tensor, axis: int) -> Tensor:
    """Down [K, PH, S] or right [K, PW, S], with axes of 1 for the other."""
    k, parts, samples = t.shape
    return reshape(t, (k, parts, samples, 1, 1) if axis == 0 else (k, 1, 1, parts, samples))


def _near(at: Tensor, d: DimLike) -> Tensor:
    return logical_and(at >= -1.0, at <= size_of(d, at.dtype))


def _at_the_end(t: Tensor, ones: int) -> Tensor:
    """With as many axes of 1 more, at the end."""
    return reshape(t, (*t.shape, *[1] * ones))


@located
@rounded_once("x", "boxes")
def roi_pool(x: Any, boxes: Any, images: Any, output_size: Any, spatial_scale: float = 1.0) -> Tensor:
    """Regions of x[N, C, H, W] as images of one size: boxes[K, 4] in images[K] give maxima [K, C, PH, PW].

    A box is x1, y1, x2, y2, times `spatial_scale` and rounded; its last row and column belong to it. Each output is
    the maximum of its part of the box, elements that are cut counting whole, and 0 where there are none. An image out
    of range fails the run. R. Girshick, "Fast R-CNN", arXiv:1504.08083.

    >>> import dlc
    >>> x = dlc.reshape(dlc.arange(16, dtype="float32"), (1, 1, 4, 4))
    >>> dlc.evaluate(dlc.roi_pool(x, [[0.0, 0.0, 2.0, 3.0]], [0], 2)).tolist()
    [[[[5.0, 6.0], [13.0, 14.0]]]]
    """
    t, corners, which = _operands(x, boxes, images, "roi_pool")
    out = _output(output_size, "roi_pool")
    scaled = corners * plain_number(spatial_scale, "roi_pool", "spatial_scale")
    ends = where(scaled < 0.0, ceil(scaled - 0.5), floor(scaled + 0.5))
    least = scalar(-math.inf, t.dtype)
    found, some = take(t, which), None
    for axis in (0, 1):
        first, last = ends[:, 1 - axis], ends[:, 3 - axis]
        each = _at_the_end(maximum(last - first + 1.0, 1.0) / float(out[axis]), 2)
        part = along(iota((out[axis],), 0, t.dtype), 1, 3)
        at = along(iota((t.shape[2 + axis],), 0, t.dtype), 2, 3) - _at_the_end(first, 2)
        holds = logical_and(at >= floor(part * each), at < ceil((part + 1.0) * each))  # [K, P, H]
        k, parts, d = holds.shape
        shape = (k, 1, parts, d, 1) if axis == 0 else (k, 1, 1, parts, d)
        found = max_(where(reshape(holds, shape), expand_dims(found, 2 + axis), least), axis=3 + axis)
        full = reshape(any_(holds, axis=2), (k, 1, parts, 1) if axis == 0 else (k, 1, 1, parts))
        some = full if some is None else logical_and(some, full)
    return where(some, found, scalar(0, t.dtype))
