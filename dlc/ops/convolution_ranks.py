"""Convolution over one and three axes, and transposed convolution over one to three, made of the 2-d ops.

A row is an image of height 1. In three dimensions the places of the kernel along depth join the channels: a volume
becomes, for each depth of the result, an image of C * KD channels, so that one 2-d convolution does all the sums.
"""

from __future__ import annotations

from typing import Any

from dlc.dims import DimLike, Shape
from dlc.dtypes import FLOATING
from dlc.errors import AttributeValueError, DTypeError, ShapeError
from dlc.ops.arranging import part
from dlc.ops.convolution import Pair, conv2d, conv2d_data_gradient, fixed_size, ints, pads_along
from dlc.ops.definition import located
from dlc.ops.elementwise import promoted, rounded_once
from dlc.ops.index import fold, pad
from dlc.ops.tensor import Tensor
from dlc.ops.view import expand_dims, permute_dims, reshape, squeeze, windows

Ints = tuple[int, ...]


def _operands(x: Any, w: Any, rank: int, name: str) -> tuple[Tensor, Tensor]:
    images, kernels = promoted([x, w])
    for t in (images, kernels):
        if t.dtype not in FLOATING:
            raise DTypeError(f"{name} takes floating-point tensors, not {t.type}; convert with .astype('float32')")
    if images.ndim != rank + 2 or kernels.ndim != rank + 2:
        raise ShapeError(f"{name} takes tensors of {rank + 2} axes, not {images.type} and {kernels.type}")
    return images, kernels


def _attributes(stride: Any, dilation: Any, rank: int, name: str) -> tuple[Ints, Ints]:
    strides, gaps = ints(stride, rank, f"{name}: the stride"), ints(dilation, rank, f"{name}: the dilation")
    if min(*strides, *gaps) < 1:
        raise AttributeValueError(f"{name}: stride {strides} and dilation {gaps} must be at least 1")
    return strides, gaps


# ---------------------------------------------------------------- convolution


@located
def conv1d(x: Any, w: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1) -> Tensor:
    """The cross-correlation of rows x[N, C, L] with filters w[O, C/groups, K]; gives [N, O, OL].

    OL = (L + low + high - dilation * (K - 1) - 1) // stride + 1. `padding` is an int, ((low, high),), "valid", "same"
    or "full", as in `conv2d`, whose errors these are.

    >>> import dlc
    >>> dlc.evaluate(dlc.conv1d([[[1.0, 2.0, 3.0]]], [[[1.0, 1.0]]], padding="full")).tolist()
    [[[1.0, 3.0, 5.0, 3.0]]]
    """
    rows, filters = _operands(x, w, 1, "conv1d")
    strides, gaps = _attributes(stride, dilation, 1, "conv1d")
    pads = pads_along(padding, rows.shape[2:], filters.shape[2:], strides, gaps)
    y = conv2d(
        expand_dims(rows, 2), expand_dims(filters, 2), (1, *strides), ((0, 0), *pads), (1, *gaps), groups=groups
    )
    return squeeze(y, 2)


@located
def conv3d(x: Any, w: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1) -> Tensor:
    """The cross-correlation of volumes x[N, C, D, H, W] with filters w[O, C/groups, KD, KH, KW]; [N, O, OD, OH, OW].

    Sizes, attributes and errors are those of `conv2d`, with three ints or pairs for three axes.

    >>> import dlc
    >>> dlc.conv3d(dlc.input("x", ("N", 3, 8, 28, 28)), dlc.input("w", (6, 3, 3, 5, 5)), padding="same").shape
    (N, 6, 8, 28, 28)
    """
    volumes, filters = _operands(x, w, 3, "conv3d")
    strides, gaps = _attributes(stride, dilation, 3, "conv3d")
    pads = pads_along(padding, volumes.shape[2:], filters.shape[2:], strides, gaps)
    n, c = volumes.shape[:2]
    o, inner, depth = filters.shape[:3]
    size = fixed_size(depth)
    if min(pads[0]) < 0:
        raise AttributeValueError(f"conv3d: the padding {pads} must not be negative")
    padded = pad(volumes, [(0, 0), (0, 0), pads[0], (0, 0), (0, 0)])
    slabs = windows(padded, (2,), (size,), strides[:1], gaps[:1])  # [N, C, OD, H, W, KD]
    out, rest = slabs.shape[2], slabs.shape[3:5]
    images = reshape(permute_dims(slabs, (0, 2, 1, 5, 3, 4)), (n * out, c * size, *rest))
    kernels = reshape(filters, (o, inner * size, *filters.shape[3:]))
    y = conv2d(images, kernels, strides[1:], pads[1:], gaps[1:], groups=groups)
    return permute_dims(reshape(y, (n, out, o, *y.shape[2:])), (0, 2, 1, 3, 4))


# ---------------------------------------------------------------- transposed convolution


def _cropped(padding: Any, x: Tensor, w: Tensor, strides: Ints, gaps: Ints) -> tuple[Pair, ...]:
    """The padding of the convolution whose adjoint is wanted; "same" makes d into d * stride."""
    sizes = w.shape[2:]
    if padding != "same":
        return pads_along(padding, x.shape[2:], sizes, strides, gaps)
    totals = [max(gap * (fixed_size(k) - 1) + 1 - s, 0) for k, s, gap in zip(sizes, strides, gaps, strict=True)]
    return tuple((t // 2, t - t // 2) for t in totals)


def _extra(output_padding: Any, padding: Any, w: Tensor, strides: Ints, gaps: Ints, name: str) -> Ints:
    """How much longer each axis of the result is made at its end."""
    extra = ints(output_padding, len(strides), f"{name}: output_padding")
    if padding == "same":
        reaches = (gap * (fixed_size(k) - 1) + 1 for k, gap in zip(w.shape[2:], gaps, strict=True))
        extra = tuple(e + max(s - r, 0) for e, s, r in zip(extra, strides, reaches, strict=True))
    if min(extra) < 0:
        raise AttributeValueError(f"{name}: output_padding {extra} must not be negative")
    return extra


def _length(d: DimLike, size: DimLike, stride: int, gap: int, pads: Pair) -> DimLike:
    return (d - 1) * stride + gap * (fixed_size(size) - 1) + 1 - pads[0] - pads[1]


def _transposed(
    name: str, rank: int, x: Any, w: Any, stride: Any, padding: Any, output_padding: Any, groups: Any, dilation: Any
) -> Tensor:
    t, kernels = _operands(x, w, rank, name)
    strides, gaps = _attributes(stride, dilation, rank, name)
    pads = _cropped(padding, t, kernels, strides, gaps)
    extra = _extra(output_padding, padding, kernels, strides, gaps, name)
    if isinstance(groups, bool) or not isinstance(groups, int) or groups < 1:
        raise AttributeValueError(f"{name}: groups is an int of at least 1, not {groups!r}")
    if min(min(p) for p in pads) < 0:
        raise AttributeValueError(f"{name}: the padding {pads} must not be negative")
    if t.shape[1] != kernels.shape[0] or kernels.shape[0] % groups != 0:
        raise ShapeError(
            f"{name}: the kernel [in, out / groups, ...] {kernels.type} does not take the {t.shape[1]} channels of "
            f"{t.type} in {groups} groups"
        )
    # elements past the end that the padding had cut off come back; those beyond are zeros
    kept = tuple((low, max(high - e, 0)) for (low, high), e in zip(pads, extra, strict=True))
    zeros = [max(e - high, 0) for (_, high), e in zip(pads, extra, strict=True)]
    lengths = tuple(map(_length, t.shape[2:], kernels.shape[2:], strides, gaps, kept))
    if any(isinstance(d, int) and d < 1 for d in lengths):
        raise ShapeError(f"{name}: the padding {pads} leaves nothing of the result of {t.type} with {kernels.type}")
    y = {1: _rows, 2: _images, 3: _volumes}[rank](t, kernels, lengths, strides, kept, gaps, groups)
    return pad(y, [(0, 0), (0, 0), *((0, z) for z in zeros)])


def _rows(t: Tensor, w: Tensor, lengths: Shape, strides: Ints, pads: tuple[Pair, ...], gaps: Ints, g: int) -> Tensor:
    rows, kernels = expand_dims(t, 2), expand_dims(w, 2)
    return squeeze(_images(rows, kernels, (1, *lengths), (1, *strides), ((0, 0), *pads), (1, *gaps), g), 2)


def _images(t: Tensor, w: Tensor, lengths: Shape, strides: Ints, pads: tuple[Pair, ...], gaps: Ints, g: int) -> Tensor:
    return conv2d_data_gradient(t, w, lengths, strides, pads, gaps, g)


def _volumes(t: Tensor, w: Tensor, lengths: Shape, strides: Ints, pads: tuple[Pair, ...], gaps: Ints, g: int) -> Tensor:
    """Each depth makes images of O * KD channels, which are added up at the depths that they reach."""
    n, c, depth = t.shape[:3]
    inner, size = w.shape[1:3]
    images = reshape(permute_dims(t, (0, 2, 1, 3, 4)), (n * depth, c, *t.shape[3:]))
    kernels = reshape(w, (c, inner * size, *w.shape[3:]))
    y = _images(images, kernels, lengths[1:], strides[1:], pads[1:], gaps[1:], g)
    slabs = permute_dims(reshape(y, (n, depth, inner * g, size, *lengths[1:])), (0, 2, 1, 4, 5, 3))
    low, high = pads[0]
    return part(fold(slabs, (2,), (lengths[0] + low + high,), strides[:1], gaps[:1]), 2, low, lengths[0])


@located
def conv_transpose1d(
    x: Any, w: Any, stride: Any = 1, padding: Any = 0, output_padding: Any = 0, groups: int = 1, dilation: Any = 1
) -> Tensor:
    """The adjoint of `conv1d` by its rows: x[N, C, L] and w[C, O/groups, K] give [N, O, OL].

    Attributes are as in `conv_transpose2d`.

    >>> import dlc
    >>> dlc.evaluate(dlc.conv_transpose1d([[[1.0, 2.0]]], [[[1.0, 10.0]]], stride=2)).tolist()
    [[[1.0, 10.0, 2.0, 20.0]]]
    """
    return _transposed("conv_transpose1d", 1, x, w, stride, padding, output_padding, groups, dilation)


@located
def conv_transpose2d(
    x: Any, w: Any, stride: Any = 1, padding: Any = 0, output_padding: Any = 0, groups: int = 1, dilation: Any = 1
) -> Tensor:
    """The adjoint of `conv2d` by its images, "transposed convolution": x[N, C, H, W], w[C, O/groups, KH, KW].

    It gives [N, O, OH, OW] with OH = (H - 1) * stride - low - high + dilation * (KH - 1) + 1 + output_padding.
    `padding` (as in `conv2d`) is that of the convolution, so it makes the result smaller; "same" gives OH = H * stride,
    and "full" cuts dilation * (KH - 1) off each end. The order of the arguments is torch's. Raises `ShapeError` where
    channels do not fit or nothing is left.

    >>> import dlc
    >>> w = dlc.input("w", (8, 3, 3, 3))
    >>> dlc.conv_transpose2d(dlc.input("x", ("N", 8, "H", 7)), w, stride=2, padding="same").shape
    (N, 3, 2*H, 14)
    """
    return _transposed("conv_transpose2d", 2, x, w, stride, padding, output_padding, groups, dilation)


@located
@rounded_once("x", "w")
def conv_transpose3d(
    x: Any, w: Any, stride: Any = 1, padding: Any = 0, output_padding: Any = 0, groups: int = 1, dilation: Any = 1
) -> Tensor:
    """The adjoint of `conv3d` by its volumes: x[N, C, D, H, W], w[C, O/groups, KD, KH, KW] give [N, O, OD, OH, OW].

    Attributes are as in `conv_transpose2d`.

    >>> import dlc
    >>> dlc.conv_transpose3d(dlc.input("x", ("N", 8, 4, 7, 7)), dlc.input("w", (8, 3, 2, 2, 2)), stride=2).shape
    (N, 3, 8, 14, 14)
    """
    return _transposed("conv_transpose3d", 3, x, w, stride, padding, output_padding, groups, dilation)
