"""Convolution in two dimensions and its two adjoints.

The three ops share one trilinear form: the sum over images n, groups, output channels o, input channels i, outputs
(h, w) and kernel places (k, l) of

    x[n, i, h*stride + k*dilation - padding, w*stride + l*dilation - padding] * w[o, i, k, l] * g[n, o, h, w].

Each is the derivative of that form by one of x, w and g, so that each VJP is made of the other two.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from dlc.dims import DimLike, Shape, shape_of
from dlc.dtypes import FLOATING
from dlc.errors import AttributeValueError, DTypeError, ShapeError
from dlc.ir import TensorType
from dlc.ops.definition import Array, Kind, Sample, arrays, define, nbytes
from dlc.ops.elementwise import promoted
from dlc.ops.tensor import Tensor
from dlc.ops.view import window_count

Pair = tuple[int, int]
Pads = tuple[Pair, Pair]


# ---------------------------------------------------------------- type rules


def _check_operands(name: str, a: TensorType, b: TensorType) -> None:
    if a.dtype not in FLOATING or a.dtype != b.dtype:
        raise DTypeError(
            f"{name} takes floating-point tensors of one dtype, not {a} and {b}; convert with .astype('float32')"
        )
    if a.ndim != 4 or b.ndim != 4:
        raise ShapeError(f"{name} takes tensors of 4 axes, not {a} and {b}; add an axis with dlc.expand_dims")


def check_geometry(name: str, stride: Pair, padding: Pads, dilation: Pair, groups: int) -> None:
    """Whether the attributes of a convolution are in range."""
    if min(*stride, *dilation, groups) < 1:
        raise AttributeValueError(
            f"{name}: stride {stride}, dilation {dilation} and groups {groups} must be at least 1"
        )
    if min(min(p) for p in padding) < 0:
        raise AttributeValueError(f"{name}: the padding {padding} must not be negative")


def _check_channels(
    name: str, x: Any, w: Any, channels: DimLike, filters: DimLike, per_group: DimLike, groups: int
) -> None:
    """Whether the input's channels are `groups` times the kernel's, and the filters divide into groups."""
    if per_group * groups != channels:
        of = "" if groups == 1 else f" in each of {groups} groups, {per_group * groups} in all"
        raise ShapeError(
            f"{name}: the input {x} has {channels} channels, but the kernel {w} takes {per_group}{of}; "
            f"give the layer in_channels={channels}"
        )
    if filters % groups != 0:
        raise ShapeError(f"{name}: the {filters} filters of {w} do not divide into {groups} groups")


def _outputs(d: DimLike, size: int, stride: int, pads: Pair, dilation: int) -> DimLike:
    return window_count(d + pads[0] + pads[1], size, stride, dilation)


def output_dims(
    name: str, x: Any, w: Any, dims: Shape, sizes: Shape, stride: Pair, padding: Pads, dilation: Pair
) -> Shape:
    """The spatial dims of the convolution's result."""
    result = []
    for d, size, s, pads, gap in zip(dims, sizes, stride, padding, dilation, strict=True):
        if not isinstance(size, int):
            raise ShapeError(f"{name}: the size of a kernel is fixed when it is made, but {w} has the dim {size}")
        count = _outputs(d, size, s, pads, gap)
        if isinstance(count, int) and count < 1:
            raise ShapeError(
                f"{name}: a kernel of {w} (dilation {gap}) does not fit the input {x} with padding {pads}; "
                "pad more, or use a larger image or a smaller kernel"
            )
        result.append(count)
    return tuple(result)


def _conv2d_type(
    x: TensorType, w: TensorType, *, stride: Pair, padding: Pads, dilation: Pair, groups: int
) -> TensorType:
    _check_operands("conv2d", x, w)
    check_geometry("conv2d", stride, padding, dilation, groups)
    _check_channels("conv2d", x, w, x.shape[1], w.shape[0], w.shape[1], groups)
    dims = output_dims("conv2d", x, w, x.shape[2:], w.shape[2:], stride, padding, dilation)
    return TensorType(x.dtype, (x.shape[0], w.shape[0], *dims))


def _data_gradient_type(
    g: TensorType, w: TensorType, *, shape: Shape, stride: Pair, padding: Pads, dilation: Pair, groups: int
) -> TensorType:
    name = "conv2d_data_gradient"
    _check_operands(name, g, w)
    check_geometry(name, stride, padding, dilation, groups)
    dims = output_dims(name, f"of {shape}", w, shape, w.shape[2:], stride, padding, dilation)
    if g.shape[1] != w.shape[0] or g.shape[2:] != dims or w.shape[0] % groups != 0:
        raise ShapeError(f"{name}: {g} is not the result of a convolution of images {shape} with {w}")
    return TensorType(g.dtype, (g.shape[0], w.shape[1] * groups, *shape))


def _weight_gradient_type(
    x: TensorType, g: TensorType, *, size: Pair, stride: Pair, padding: Pads, dilation: Pair, groups: int
) -> TensorType:
    name = "conv2d_weight_gradient"
    _check_operands(name, x, g)
    check_geometry(name, stride, padding, dilation, groups)
    dims = output_dims(name, x, f"{size}", x.shape[2:], size, stride, padding, dilation)
    if x.shape[0] != g.shape[0] or g.shape[2:] != dims or x.shape[1] % groups != 0 or g.shape[1] % groups != 0:
        raise ShapeError(
            f"{name}: {g} is not the result of a convolution of {x} with a kernel of {size} in {groups} groups"
        )
    return TensorType(x.dtype, (g.shape[1], x.shape[1] // groups, *size))


# ---------------------------------------------------------------- references, in float64


def _grouped(a: Array, axis: int, groups: int) -> Array:
    """`a` with the axis of channels split into groups, which come first."""
    split = a.reshape(*a.shape[:axis], groups, a.shape[axis] // groups, *a.shape[axis + 1 :])
    return np.moveaxis(split.astype(np.float64), axis, 0)


def _places(size: Sequence[int], outputs: Sequence[int], stride: Pair, dilation: Pair) -> Iterator[tuple[Any, Any]]:
    """For each place (k, l) of a kernel, how the elements of padded images that it meets are picked."""
    for k in range(size[0]):
        for m in range(size[1]):
            rows, columns = (
                slice(at * d, at * d + max((n - 1) * s + 1, 0), s)
                for at, d, n, s in zip((k, m), dilation, outputs, stride, strict=True)
            )
            yield (k, m), (..., rows, columns)


def _padded(x: Array, padding: Pads) -> Array:
    return np.pad(x, [(0, 0)] * (x.ndim - 2) + list(padding))


def _conv2d_reference(x: Array, w: Array, *, stride: Pair, padding: Pads, dilation: Pair, groups: int) -> Array:
    outputs = [_outputs(*v) for v in zip(x.shape[2:], w.shape[2:], stride, padding, dilation, strict=True)]
    images, kernels = _padded(_grouped(x, 1, groups), padding), _grouped(w, 0, groups)
    result = np.zeros((x.shape[0], w.shape[0], *outputs))
    into = np.moveaxis(result.reshape(x.shape[0], groups, -1, *outputs), 1, 0) if result.size else result
    for (k, m), picked in _places(w.shape[2:], outputs, stride, dilation) if result.size else ():  # type: ignore[arg-type]
        into += np.einsum("gnihw,goi->gnohw", images[picked], kernels[..., k, m], optimize=True)
    return result.astype(x.dtype)


def _data_gradient_reference(
    g: Array, w: Array, *, shape: Any, stride: Pair, padding: Pads, dilation: Pair, groups: int
) -> Array:
    gradients, kernels = _grouped(g, 1, groups), _grouped(w, 0, groups)
    result = _padded(np.zeros((groups, g.shape[0], w.shape[1], *shape)), padding)
    for (k, m), picked in _places(w.shape[2:], g.shape[2:], stride, dilation):
        result[picked] += np.einsum("gnohw,goi->gnihw", gradients, kernels[..., k, m], optimize=True)
    (top, _), (left, _) = padding
    cropped = result[..., top : top + shape[0], left : left + shape[1]]
    return np.moveaxis(cropped, 0, 1).reshape(g.shape[0], w.shape[1] * groups, *shape).astype(g.dtype)


def _weight_gradient_reference(
    x: Array, g: Array, *, size: Pair, stride: Pair, padding: Pads, dilation: Pair, groups: int
) -> Array:
    images, gradients = _padded(_grouped(x, 1, groups), padding), _grouped(g, 1, groups)
    result = np.zeros((groups, g.shape[1] // groups, x.shape[1] // groups, *size))
    for (k, m), picked in _places(size, g.shape[2:], stride, dilation):
        result[..., k, m] = np.einsum("gnihw,gnohw->goi", images[picked], gradients, optimize=True)
    return result.reshape(g.shape[1], x.shape[1] // groups, *size).astype(x.dtype)


# ---------------------------------------------------------------- VJPs, costs, samples


def _conv2d_vjp(g: Tensor, y: Tensor, x: Tensor, w: Tensor, **how: Any) -> tuple[Tensor, Tensor]:
    dx = conv2d_data_gradient.op(g, w, shape=x.shape[2:], **how)
    return dx, conv2d_weight_gradient.op(x, g, size=w.shape[2:], **how)


def _data_gradient_vjp(
    h: Tensor, y: Tensor, g: Tensor, w: Tensor, *, shape: Shape, **how: Any
) -> tuple[Tensor, Tensor]:
    return conv2d.op(h, w, **how), conv2d_weight_gradient.op(h, g, size=w.shape[2:], **how)


def _weight_gradient_vjp(
    h: Tensor, y: Tensor, x: Tensor, g: Tensor, *, size: Pair, **how: Any
) -> tuple[Tensor, Tensor]:
    return conv2d_data_gradient.op(g, h, shape=x.shape[2:], **how), conv2d.op(x, h, **how)


def _multiply_adds(outputs: TensorType, inputs: DimLike, size: Shape, *moved: TensorType) -> tuple[DimLike, DimLike]:
    return 2 * outputs.size * inputs * size[0] * size[1], sum((nbytes(t) for t in moved), start=0)


def _samples() -> Iterable[tuple[dict[str, Any], tuple[int, ...], tuple[int, ...], tuple[int, ...]]]:
    """Attributes, and the shapes of x, w and g."""
    plain = {"stride": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1}
    yield plain, (2, 3, 6, 5), (4, 3, 3, 2), (2, 4, 4, 4)
    yield {**plain, "stride": (2, 3), "padding": ((1, 1), (0, 2))}, (2, 2, 6, 7), (3, 2, 3, 3), (2, 3, 3, 3)
    yield (
        {**plain, "dilation": (2, 1), "groups": 2, "padding": ((2, 2), (1, 0))},
        (1, 4, 5, 4),
        (6, 2, 3, 2),
        (1, 6, 5, 4),
    )
    yield {**plain, "groups": 3, "padding": ((1, 1), (1, 1))}, (2, 3, 4, 4), (3, 1, 3, 3), (2, 3, 4, 4)


# ---------------------------------------------------------------- the ops


@define(
    kind=Kind.CONTRACT,
    infer=_conv2d_type,
    reference=_conv2d_reference,
    vjp=_conv2d_vjp,
    cost=lambda y, x, w, **_: _multiply_adds(y, w.shape[1], w.shape[2:], x, w, y),
    samples=lambda: [Sample(arrays(x, w), how) for how, x, w, _ in _samples()],
)
def conv2d(x: Any, w: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1) -> Tensor:
    """The cross-correlation of images x[N, C, H, W] with filters w[O, C/groups, KH, KW]; gives [N, O, OH, OW].

    OH = (H + low + high - dilation*(KH-1) - 1) // stride + 1, and OW likewise. `stride` and `dilation` are ints or
    pairs; `padding` an int, a pair (rows, columns), two pairs (low, high), "valid" (none), "full" (every overlap) or
    "same" (ceil(H / stride) outputs; with a stride above 1 the dims must be known). Raises `ShapeError` where channels
    do not fit or the kernel is larger than the padded image, `AttributeValueError` for other attributes.

    >>> import dlc
    >>> dlc.conv2d(dlc.input("x", ("N", 3, 227, 227)), dlc.input("w", (96, 3, 11, 11)), stride=4)
    <Tensor conv2d f32[N,96,55,55]>
    """
    images, filters = promoted([x, w])
    _check_operands("conv2d", images.type, filters.type)
    strides, gaps = pair(stride, "conv2d: the stride"), pair(dilation, "conv2d: the dilation")
    pads = pads_of(padding, images.shape[2:], filters.shape[2:], strides, gaps)
    return conv2d.op(images, filters, stride=strides, padding=pads, dilation=gaps, groups=groups)


@define(
    kind=Kind.CONTRACT,
    infer=_data_gradient_type,
    reference=_data_gradient_reference,
    vjp=_data_gradient_vjp,
    cost=lambda y, g, w, **_: _multiply_adds(g, w.shape[1], w.shape[2:], g, w, y),
    samples=lambda: [Sample(arrays(g, w), {**how, "shape": x[2:]}) for how, x, w, g in _samples()],
)
def conv2d_data_gradient(
    g: Any, w: Any, shape: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Tensor:
    """The gradient of `conv2d` by its images, of height and width `shape`: also called transposed convolution.

    g[N, O, OH, OW] and w[O, C/groups, KH, KW] give [N, C, H, W]. Attributes are those of `conv2d`.

    >>> import dlc
    >>> g = dlc.input("g", ("N", 8, 4, 4))
    >>> dlc.ops.conv2d_data_gradient(g, dlc.input("w", (8, 3, 2, 2)), shape=(8, 8), stride=2)
    <Tensor conv2d_data_gradient f32[N,3,8,8]>
    """
    gradients, filters = promoted([g, w])
    _check_operands("conv2d_data_gradient", gradients.type, filters.type)
    dims, strides, gaps = shape_of(shape), pair(stride, "the stride"), pair(dilation, "the dilation")
    pads = pads_of(padding, dims, filters.shape[2:], strides, gaps)
    return conv2d_data_gradient.op(
        gradients, filters, shape=dims, stride=strides, padding=pads, dilation=gaps, groups=groups
    )


@define(
    kind=Kind.CONTRACT,
    infer=_weight_gradient_type,
    reference=_weight_gradient_reference,
    vjp=_weight_gradient_vjp,
    cost=lambda y, x, g, **_: _multiply_adds(g, y.shape[1], y.shape[2:], x, g, y),
    samples=lambda: [Sample(arrays(x, g), {**how, "size": w[2:]}) for how, x, w, g in _samples()],
)
def conv2d_weight_gradient(
    x: Any, g: Any, size: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Tensor:
    """The gradient of `conv2d` by its filters, of height and width `size`.

    x[N, C, H, W] and g[N, O, OH, OW] give [O, C/groups, KH, KW]. Attributes are those of `conv2d`.

    >>> import dlc
    >>> x, g = dlc.input("x", ("N", 3, 8, 8)), dlc.input("g", ("N", 8, 6, 6))
    >>> dlc.ops.conv2d_weight_gradient(x, g, size=3)
    <Tensor conv2d_weight_gradient f32[8,3,3,3]>
    """
    images, gradients = promoted([x, g])
    _check_operands("conv2d_weight_gradient", images.type, gradients.type)
    sizes, strides, gaps = pair(size, "the size"), pair(stride, "the stride"), pair(dilation, "the dilation")
    pads = pads_of(padding, images.shape[2:], sizes, strides, gaps)
    return conv2d_weight_gradient.op(
        images, gradients, size=sizes, stride=strides, padding=pads, dilation=gaps, groups=groups
    )


# ---------------------------------------------------------------- attributes as users write them


def ints(value: Any, rank: int, what: str) -> tuple[int, ...]:
    """An int for every one of `rank` axes, or as many ints, as a tuple."""
    if isinstance(value, int):
        value = (value,) * rank
    values = tuple(value) if isinstance(value, (tuple, list)) else ()
    if len(values) != rank or not all(isinstance(v, int) and not isinstance(v, bool) for v in values):
        wanted = {1: "an int", 2: "an int or a pair of ints"}.get(rank, f"an int or {rank} ints")
        raise AttributeValueError(f"{what} is {wanted}, not {value!r}")
    return values


def pair(value: Any, what: str) -> Pair:
    """An int, or two, as a pair of ints."""
    first, second = ints(value, 2, what)
    return first, second


def pads_along(
    padding: Any, dims: Shape, sizes: Shape, strides: Sequence[int], dilations: Sequence[int]
) -> tuple[Pair, ...]:
    """The padding (low, high) of each of some axes: from ints, pairs, "valid", "same" or "full"."""
    rank = len(dims)
    if isinstance(padding, str):
        rules = {"valid": _no_padding, "same": _same, "full": _full}
        if padding not in rules:
            raise AttributeValueError(
                f"the padding {padding!r} is unknown; use 'same', 'valid', 'full', an int or pairs"
            )
        return tuple(rules[padding](*v) for v in zip(dims, sizes, strides, dilations, strict=True))
    if isinstance(padding, (tuple, list)) and len(padding) == rank and all(
        isinstance(p, (tuple, list)) for p in padding
    ):  # fmt: skip
        return tuple(pair(p, "the padding of an axis") for p in padding)
    return tuple((width, width) for width in ints(padding, rank, "the padding"))


def pads_of(padding: Any, dims: Shape, sizes: Shape, stride: Pair, dilation: Pair) -> Pads:
    """The padding (low, high) of rows and columns: from ints, pairs, "valid", "same" or "full"."""
    rows, columns = pads_along(padding, dims, sizes, stride, dilation)
    return rows, columns


def _no_padding(d: DimLike, size: DimLike, stride: int, dilation: int) -> Pair:
    return (0, 0)


def _full(d: DimLike, size: DimLike, stride: int, dilation: int) -> Pair:
    """Padding for every window that has an element of the axis."""
    width = dilation * (fixed_size(size) - 1)
    return width, width


def fixed_size(size: DimLike) -> int:
    """The size of a kernel; raises `ShapeError` for a named dim."""
    if not isinstance(size, int):
        raise ShapeError(f"the size of a kernel is fixed when it is made, not {size}")
    return size


def _same(d: DimLike, size: DimLike, stride: int, dilation: int) -> Pair:
    """Padding for ceil(d / stride) outputs, the odd element at the high end."""
    reach = dilation * (fixed_size(size) - 1)
    if stride == 1:
        total = reach
    elif isinstance(d, int):
        total = max((-(-d // stride) - 1) * stride + reach + 1 - d, 0)
    else:
        raise AttributeValueError(
            f"padding='same' with stride {stride} needs a known dim, not {d}; give the padding as ints"
        )
    return total // 2, total - total // 2
