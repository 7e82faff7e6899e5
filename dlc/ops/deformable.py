"""Convolution whose filters read the image at places that are computed for each output."""

from __future__ import annotations

from typing import Any

from dlc.dims import DimLike, product
from dlc.dtypes import FLOATING
from dlc.errors import DTypeError, ShapeError
from dlc.ops.contract import matmul
from dlc.ops.convolution import fixed_size, pads_of, pair
from dlc.ops.definition import located
from dlc.ops.elementwise import promoted, rounded_once
from dlc.ops.fill import along, iota
from dlc.ops.sampling import read_between
from dlc.ops.tensor import Tensor, wrap
from dlc.ops.view import reshape


@located
@rounded_once("x", "offset", "weight", "bias", "mask")
def deform_conv2d(
    x: Any, offset: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
    mask: Any = None,
) -> Tensor:  # fmt: skip
    """`conv2d` of x[N, C, H, W] with each element of a filter read from a place of its own; gives [N, O, OH, OW].

    weight[O, C/groups, KH, KW] and bias[O] are as in `conv2d`, and so are `stride`, `padding` and `dilation`.
    offset[N, D * KH * KW * 2, OH, OW] has for each of D equal groups of channels, for each element of a filter and for
    each output how far down and how far right of its own place it is read; between elements bilinearly, and beyond the
    ends as 0. mask[N, D * KH * KW, OH, OW] multiplies what is read. The gradients are those by all of them. J. Dai et
    al., "Deformable convolutional networks", arXiv:1703.06211; X. Zhu et al., arXiv:1811.11168, for the mask.

    >>> import dlc
    >>> x, w = dlc.constant([[[[1.0, 2.0, 4.0]]]]), dlc.constant([[[[1.0]]]])
    >>> dlc.evaluate(dlc.deform_conv2d(x, [[[[0.0, 0.0, 0.5]], [[0.0, 0.5, 0.0]]]], w)).tolist()
    [[[[1.0, 3.0, 2.0]]]]
    """
    optional = {n: v for n, v in (("bias", bias), ("mask", mask)) if v is not None}
    images, offsets, filters, *rest = promoted([x, offset, weight, *map(wrap, optional.values())])
    given = dict(zip(optional, rest, strict=True))
    if images.dtype not in FLOATING:
        raise DTypeError(f"deform_conv2d takes floating-point tensors, not {images.type}")
    if (images.ndim, offsets.ndim, filters.ndim) != (4, 4, 4):
        raise ShapeError(
            "deform_conv2d takes x[N, C, H, W], offset[N, D * KH * KW * 2, OH, OW] and weight[O, C/groups, KH, KW], "
            f"not {images.type}, {offsets.type} and {filters.type}"
        )
    n, c = images.shape[:2]
    o, kh, kw = filters.shape[0], *map(fixed_size, filters.shape[2:])
    groups = _parts(c, filters.shape[1], "x's channels", "the weight", filters)
    out = offsets.shape[2:]
    spread = _parts(offsets.shape[1], 2 * kh * kw, "the offset's channels", "2 * KH * KW", offsets)
    if c % spread != 0 or o % groups != 0 or offsets.shape[0] != n:
        raise ShapeError(
            f"deform_conv2d: {images.type} with weight {filters.type} and offset {offsets.type} has {groups} groups of "
            f"filters and {spread} groups of offsets, which must divide {o} and {c}"
        )
    places = _places(images, offsets, (kh, kw), spread, stride, padding, dilation)
    split = reshape(images, (n * spread, c // spread, *images.shape[2:]))
    seen = read_between(split, places)  # [N * D, C / D, KH, KW, OH, OW]
    if "mask" in given:
        if given["mask"].shape != (n, spread * kh * kw, *out):
            wanted = (n, spread * kh * kw, *out)
            raise ShapeError(f"deform_conv2d: the mask is {list(wanted)}, not {given['mask'].type}")
        seen = seen * reshape(given["mask"], (n * spread, 1, kh, kw, *out))
    columns = reshape(seen, (n, groups, c // groups * (kh * kw), product(out)))
    y = matmul(reshape(filters, (groups, o // groups, c // groups * (kh * kw))), columns)
    y = reshape(y, (n, o, *out))
    return y if "bias" not in given else y + reshape(given["bias"], (o, 1, 1))


def _parts(total: DimLike, each: DimLike, what: str, of: str, t: Tensor) -> int:
    count = total // each if isinstance(total, int) and isinstance(each, int) and each else 0
    if not count or count * each != total:
        raise ShapeError(f"deform_conv2d: {what} are {total}, which is no known multiple of {each} of {of} ({t.type})")
    return count


def _places(
    x: Tensor, offsets: Tensor, sizes: tuple[int, int], spread: int, stride: Any, padding: Any, dilation: Any
) -> list[Tensor]:
    """Down and right, where each element of the filters is read for each output: [N * D, KH, KW, OH, OW]."""
    strides, gaps = pair(stride, "deform_conv2d: the stride"), pair(dilation, "deform_conv2d: the dilation")
    pads = pads_of(padding, x.shape[2:], sizes, strides, gaps)
    out = offsets.shape[2:]
    for axis, (d, size, step, gap, (low, high)) in enumerate(
        zip(x.shape[2:], sizes, strides, gaps, pads, strict=True)
    ):
        wanted = (d + low + high - gap * (size - 1) - 1) // step + 1
        if out[axis] != wanted:
            raise ShapeError(f"deform_conv2d: axis {2 + axis} of the offset {offsets.type} must be {wanted}")
    moved = reshape(offsets, (x.shape[0] * spread, *sizes, 2, *out))
    places = []
    for axis, (size, step, gap, (low, _)) in enumerate(zip(sizes, strides, gaps, pads, strict=True)):
        windows = iota((out[axis],), 0) * step - low
        within = iota((size,), 0) * gap
        own = (along(within, axis, 4) + along(windows, 2 + axis, 4)).astype(x.dtype)
        places.append(moved[:, :, :, axis] + own)
    return places
