"""Convolution whose filters read the image at places that are computed for each output."""

from __future__ import annotations

from typing import Any

from dlc.dims import DimLike, Shape, product
from dlc.dtypes import FLOATING
from dlc.errors import DTypeError, ShapeError
from dlc.ops.contract import matmul
from dlc.ops.convolution import Pads, Pair, check_geometry, fixed_size, output_dims, pads_of, pair
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
    strides, gaps = pair(stride, "deform_conv2d: the stride"), pair(dilation, "deform_conv2d: the dilation")
    pads = pads_of(padding, images.shape[2:], (kh, kw), strides, gaps)
    check_geometry("deform_conv2d", strides, pads, gaps, groups)
    wanted = output_dims("deform_conv2d", images.type, filters.type, images.shape[2:], (kh, kw), strides, pads, gaps)
    if out != wanted:
        raise ShapeError(f"deform_conv2d: the outputs are {_listed(wanted)}, but the offset is {offsets.type}")
    places = _places(reshape(offsets, (n * spread, kh, kw, 2, *out)), strides, pads, gaps)
    split = reshape(images, (n * spread, c // spread, *images.shape[2:]))
    seen = read_between(split, places)  # [N * D, C / D, KH, KW, OH, OW]
    if "mask" in given:
        if given["mask"].shape != (n, spread * kh * kw, *out):
            wanted = (n, spread * kh * kw, *out)
            raise ShapeError(f"deform_conv2d: the mask has the shape {_listed(wanted)}, not {given['mask'].type}")
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


def _places(offsets: Tensor, strides: Pair, pads: Pads, gaps: Pair) -> list[Tensor]:
    """Down and right, where each element of the filters is read for each output: [N * D, KH, KW, OH, OW]."""
    places = []
    for axis, (step, gap, (low, _)) in enumerate(zip(strides, gaps, pads, strict=True)):
        size, out = offsets.shape[1 + axis], offsets.shape[4 + axis]
        own = along(iota((size,), 0) * gap, axis, 4) + along(iota((out,), 0) * step - low, 2 + axis, 4)
        places.append(offsets[:, :, :, axis] + own.astype(offsets.dtype))
    return places


def _listed(shape: Shape) -> str:
    return f"[{','.join(map(str, shape))}]"
