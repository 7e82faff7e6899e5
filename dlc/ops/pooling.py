"""Pooling over 1 to 3 trailing axes, by windows: maximum, mean and p-norm; over everything, and to a given size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, overload

from dlc.dims import product, shape_of
from dlc.dtypes import FLOATING
from dlc.errors import AttributeValueError, DTypeError, ShapeError
from dlc.ops.arithmetic import abs as abs_
from dlc.ops.arithmetic import minimum
from dlc.ops.arranging import part
from dlc.ops.composed import mean
from dlc.ops.convolution import pads_along
from dlc.ops.definition import located
from dlc.ops.elementwise import where
from dlc.ops.fill import check_indices, iota, ones, size_of, zeros
from dlc.ops.index import concat, pad
from dlc.ops.leaves import scalar
from dlc.ops.reduce import argmax
from dlc.ops.reduce import max as max_
from dlc.ops.reduce import sum as sum_
from dlc.ops.scattering import put_along_axis
from dlc.ops.tensor import Tensor, wrap
from dlc.ops.view import reshape, windows


def _images(x: Any, rank: int | None, name: str) -> Tensor:
    t = wrap(x)
    if t.dtype not in FLOATING:
        raise DTypeError(f"{name} takes floating-point tensors, not {t.type}; convert with .astype('float32')")
    if t.ndim < 3 or (rank is not None and t.ndim != rank + 2):
        wanted = "1 to 3 axes" if rank is None else f"{rank} axes"
        raise ShapeError(f"{name} takes [N, C, ...] with {wanted} to pool over, not {t.type}")
    return t


def _sizes(value: Any, rank: int, least: int, what: str) -> tuple[int, ...]:
    sizes = tuple(value) if isinstance(value, (tuple, list)) else (value,) * rank
    if len(sizes) != rank or any(isinstance(v, bool) or not isinstance(v, int) or v < least for v in sizes):
        raise AttributeValueError(f"{what} is an int of at least {least}, or {rank} of them, not {value!r}")
    return sizes


@dataclass(frozen=True)
class _Geometry:
    """Where the windows of one pooling lie, axis by axis."""

    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    gaps: tuple[int, ...]
    extra: tuple[int, ...]  # elements past the padded end that a last, partial window reaches to

    def windows(self, t: Tensor, fill: float, beyond: float | None = None) -> Tensor:
        """The windows of the trailing axes, their own axes last; `fill` is the padding, `beyond` what lies past it."""
        if beyond is None or beyond == fill:
            widths = [(low, high + e) for (low, high), e in zip(self.pads, self.extra, strict=True)]
            padded = pad(t, [(0, 0), (0, 0), *widths], value=fill)
        else:
            inner = pad(t, [(0, 0), (0, 0), *self.pads], value=fill)
            padded = pad(inner, [(0, 0), (0, 0), *((0, e) for e in self.extra)], value=beyond)
        return windows(padded, tuple(range(2, t.ndim)), self.sizes, self.strides, self.gaps)

    def own(self, ndim: int) -> tuple[int, ...]:
        """The windows' own axes."""
        return tuple(range(ndim, ndim + len(self.sizes)))


def _geometry(
    t: Tensor, name: str, kernel: Any, stride: Any, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False,
    only_padding: bool = True,
) -> _Geometry:  # fmt: skip
    """`only_padding`: whether a window may hold nothing else."""
    rank = t.ndim - 2
    sizes = _sizes(kernel, rank, 1, f"{name}: the kernel")
    strides = sizes if stride is None else _sizes(stride, rank, 1, f"{name}: the stride")
    gaps = _sizes(dilation, rank, 1, f"{name}: the dilation")
    pads = pads_along(padding, t.shape[2:], sizes, strides, gaps)
    for widths, size, gap in zip(pads, sizes, gaps, strict=True):
        if min(widths) < 0:
            raise AttributeValueError(f"{name}: the padding {widths} must not be negative")
        if not only_padding and max(widths) > gap * (size - 1):
            raise AttributeValueError(
                f"{name}: with padding {max(widths)} a window of {size} holds nothing but padding; "
                f"pad by at most {gap * (size - 1)}"
            )
    extra = (0,) * rank
    if ceil_mode:
        extra = tuple(_beyond(t, name, a, *v) for a, v in enumerate(zip(sizes, strides, pads, gaps, strict=True), 2))
    return _Geometry(sizes, strides, pads, gaps, extra)


def _beyond(t: Tensor, name: str, axis: int, size: int, stride: int, pads: tuple[int, int], gap: int) -> int:
    """How far the last window reaches past the padded end; it must begin before the high padding, as in torch."""
    if stride == 1:
        return 0
    d = t.shape[axis]
    if not isinstance(d, int):
        raise ShapeError(f"{name}: ceil_mode needs a size of axis {axis} of {t.type} that is known before a call")
    span, length = gap * (size - 1) + 1, d + sum(pads)
    last = -(-(length - span) // stride)
    if last * stride >= d + pads[0]:
        last -= 1
    return max(last * stride + span - length, 0)


@overload
def max_pool(
    x: Any, kernel: Any, stride: Any = ..., padding: Any = ..., dilation: Any = ..., ceil_mode: bool = ...,
    return_indices: Literal[False] = ...,
) -> Tensor: ...  # fmt: skip


@overload
def max_pool(
    x: Any, kernel: Any, stride: Any = ..., padding: Any = ..., dilation: Any = ..., ceil_mode: bool = ...,
    *, return_indices: Literal[True],
) -> tuple[Tensor, Tensor]: ...  # fmt: skip


@located
def max_pool(
    x: Any, kernel: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:  # fmt: skip
    """The maximum over windows of x[N, C, ...], over each of its trailing axes.

    An axis of d becomes (d + low + high - dilation * (kernel - 1) - 1) // stride + 1; with `ceil_mode` the division is
    rounded up, unless the last window would begin in the high padding. Attributes are ints, or one for each axis;
    `padding` is as in `conv2d`, and never the maximum; `stride` is the kernel's size unless given. The cotangent is
    shared equally among ties. With `return_indices` there is a second result, int64 of the same shape: the flat place
    in [...] of each (first) maximum, as `max_unpool` takes them; padding has none, not even beside -inf.

    >>> import dlc
    >>> dlc.max_pool(dlc.input("x", ("N", 3, 8, 8, 8)), 2).shape
    (N, 3, 4, 4, 4)
    >>> [dlc.evaluate(t).tolist() for t in dlc.max_pool([[[1.0, 3.0, 2.0]]], 2, ceil_mode=True, return_indices=True)]
    [[[[3.0, 2.0]]], [[[1, 2]]]]
    """
    t = _images(x, None, "max_pool")
    how = _geometry(t, "max_pool", kernel, stride, padding, dilation, ceil_mode, only_padding=False)
    seen = how.windows(t, -math.inf)
    found = max_(seen, axis=how.own(t.ndim))
    if not return_indices:
        return found
    rest = argmax(seen, axis=how.own(t.ndim))  # counted in the window
    place, scale = scalar(0, "int64"), scalar(1, "int64")
    for a in reversed(range(len(how.sizes))):
        begin, length = iota(found.shape, 2 + a) * how.strides[a] - how.pads[a][0], size_of(t.shape[2 + a], "int64")
        at = begin + rest % how.sizes[a] * how.gaps[a]
        if how.pads[a][0]:  # which a window of -inf alone is not told apart from
            at = where(found == -math.inf, _first_inside(begin, how.gaps[a], length), at)
        place, scale, rest = place + at * scale, scale * length, rest // how.sizes[a]
    return found, place


def _first_inside(begin: Tensor, gap: int, length: Tensor) -> Tensor:
    """The first of the places begin, begin + gap, ... that is not in the padding before an axis."""
    return minimum(where(begin < 0, begin % gap, begin), length - 1)


@located
def avg_pool(
    x: Any, kernel: Any, stride: Any = None, padding: Any = 0, count_include_pad: bool = True, ceil_mode: bool = False,
    divisor_override: int | None = None,
) -> Tensor:  # fmt: skip
    """The mean over windows of x[N, C, ...]; padding counts as zeros, and in what is divided by unless told otherwise.

    Shapes and attributes are those of `max_pool`; what a window has beyond the padding with `ceil_mode` is not counted.
    `divisor_override` divides all sums.

    >>> import dlc
    >>> dlc.evaluate(dlc.avg_pool([[[1.0, 2.0, 3.0, 6.0]]], 2)).tolist()
    [[[1.5, 4.5]]]
    """
    t = _images(x, None, "avg_pool")
    counted = count_include_pad or divisor_override is not None
    how = _geometry(t, "avg_pool", kernel, stride, padding, 1, ceil_mode, only_padding=counted)
    seen, axes = how.windows(t, 0.0), how.own(t.ndim)
    if divisor_override is not None:
        (divisor,) = _sizes(divisor_override, 1, 1, "avg_pool: divisor_override")
        return sum_(seen, axis=axes) / float(divisor)
    if count_include_pad and not any(how.extra):
        return mean(seen, axis=axes)
    inside = how.windows(ones((1, 1, *t.shape[2:]), t.dtype), 1.0 if count_include_pad else 0.0, beyond=0.0)
    return sum_(seen, axis=axes) / sum_(inside, axis=axes)


@located
def max_pool2d(
    x: Any, kernel: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> Tensor:
    """`max_pool` of images x[N, C, H, W]; gives [N, C, OH, OW].

    >>> import dlc
    >>> dlc.max_pool2d(dlc.input("x", ("N", 6, 28, 28)), 2)
    <Tensor max f32[N,6,14,14]>
    """
    return max_pool(_images(x, 2, "max_pool2d"), kernel, stride, padding, dilation, ceil_mode)


@located
def avg_pool2d(
    x: Any, kernel: Any, stride: Any = None, padding: Any = 0, count_include_pad: bool = True, ceil_mode: bool = False
) -> Tensor:
    """`avg_pool` of images x[N, C, H, W]; gives [N, C, OH, OW].

    >>> import dlc
    >>> dlc.evaluate(dlc.avg_pool2d([[[[1.0, 2.0], [3.0, 6.0]]]], 2)).item()
    3.0
    """
    return avg_pool(_images(x, 2, "avg_pool2d"), kernel, stride, padding, count_include_pad, ceil_mode)


@located
def lp_pool(x: Any, p: float, kernel: Any, stride: Any = None, ceil_mode: bool = False) -> Tensor:
    """The p-norm of windows of x[N, C, ...], sum(|x| ** p) ** (1 / p); its derivative at 0 is taken as 0.

    Shapes and attributes are those of `max_pool`. torch sums x ** p, which differs for odd p and negative x.

    >>> import dlc
    >>> dlc.evaluate(dlc.lp_pool([[[3.0, 4.0]]], 2.0, 2)).tolist()
    [[[5.0]]]
    """
    if isinstance(p, bool) or not isinstance(p, (int, float)) or not p > 0:
        raise AttributeValueError(f"lp_pool: p is a number above 0, not {p!r}")
    t = _images(x, None, "lp_pool")
    how = _geometry(t, "lp_pool", kernel, stride, ceil_mode=ceil_mode)
    size = abs_(how.windows(t, 0.0))
    total = sum_(size * size if p == 2 else size ** float(p), axis=how.own(t.ndim))
    return where(total == 0.0, 0.0, where(total == 0.0, 1.0, total) ** (1.0 / p))


@located
def max_unpool(
    x: Any, indices: Any, kernel: Any, stride: Any = None, padding: Any = 0, output_size: Any = None
) -> Tensor:
    """Zeros with the elements of x[N, C, ...] at the places that `max_pool` found them at.

    `indices`, of the same shape, are the flat places of each image and channel. An axis of d becomes (d - 1) * stride -
    2 * padding + kernel long, or what `output_size` says for each. Of equal places the last one wins. A place out of
    range fails the run. M. D. Zeiler and R. Fergus, "Visualizing and understanding convolutional networks", 2013.

    >>> import dlc
    >>> y, at = dlc.max_pool([[[1.0, 3.0, 2.0, 0.0]]], 2, return_indices=True)
    >>> dlc.evaluate(dlc.max_unpool(y, at, 2)).tolist()
    [[[0.0, 3.0, 2.0, 0.0]]]
    """
    t, places = _images(x, None, "max_unpool"), wrap(indices)
    check_indices(places.type, "max_unpool")
    if places.shape != t.shape:
        raise ShapeError(f"max_unpool takes an index for each element of {t.type}, not {places.type}")
    rank = t.ndim - 2
    sizes = _sizes(kernel, rank, 1, "max_unpool: the kernel")
    strides = sizes if stride is None else _sizes(stride, rank, 1, "max_unpool: the stride")
    pads = _sizes(padding, rank, 0, "max_unpool: the padding")
    spatial = tuple((d - 1) * s - 2 * p + k for d, k, s, p in zip(t.shape[2:], sizes, strides, pads, strict=True))
    if output_size is not None:
        spatial = shape_of(output_size)
        if len(spatial) != rank:
            raise AttributeValueError(f"max_unpool: output_size has a dim for each of {rank} axes, not {output_size!r}")
    lead, count = t.shape[:2], product(t.shape[2:])
    empty = zeros((*lead, product(spatial)), t.dtype)
    filled = put_along_axis(empty, reshape(places, (*lead, count)), reshape(t, (*lead, count)))
    return reshape(filled, (*lead, *spatial))


@located
def global_avg_pool(x: Any, keepdims: bool = True) -> Tensor:
    """The mean of each image and channel of x[N, C, ...]: [N, C, 1, ...], or [N, C] without `keepdims`.

    >>> import dlc
    >>> dlc.evaluate(dlc.global_avg_pool([[[1.0, 3.0]]])).tolist()
    [[[2.0]]]
    """
    t = _images(x, None, "global_avg_pool")
    return mean(t, axis=tuple(range(2, t.ndim)), keepdims=keepdims)


@located
def global_max_pool(x: Any, keepdims: bool = True) -> Tensor:
    """The maximum of each image and channel of x[N, C, ...]: [N, C, 1, ...], or [N, C] without `keepdims`.

    >>> import dlc
    >>> dlc.evaluate(dlc.global_max_pool([[[1.0, 3.0]]], keepdims=False)).tolist()
    [[3.0]]
    """
    t = _images(x, None, "global_max_pool")
    return max_(t, axis=tuple(range(2, t.ndim)), keepdims=keepdims)


def _adaptive(x: Any, output_size: int | Sequence[int], reduce: Any, name: str) -> Tensor:
    """One axis after the other: place i of n is over the elements from floor(i d / n) to ceil((i + 1) d / n)."""
    t = _images(x, None, name)
    for axis, n in enumerate(_sizes(output_size, t.ndim - 2, 1, f"{name}: the output's size"), start=2):
        d = t.shape[axis]
        if not isinstance(d, int) or d < 1:
            raise ShapeError(f"{name}: axis {axis} of {t.type} has a size that is not known before a call, or 0")
        if d % n == 0:
            t = reduce(windows(t, (axis,), (d // n,), (d // n,)), axis=t.ndim)
            continue
        bounds = [(i * d // n, -(-(i + 1) * d // n)) for i in range(n)]
        t = concat([reduce(part(t, axis, a, b - a), axis=axis, keepdims=True) for a, b in bounds], axis=axis)
    return t


@located
def adaptive_avg_pool(x: Any, output_size: int | Sequence[int]) -> Tensor:
    """Means over windows of x[N, C, ...] chosen so that the trailing axes, of known sizes, become `output_size`.

    Place i of n is the mean of elements floor(i d / n) up to ceil((i + 1) d / n) of d, as in torch.

    >>> import dlc
    >>> dlc.evaluate(dlc.adaptive_avg_pool([[[1.0, 2.0, 3.0]]], 2)).tolist()
    [[[1.5, 2.5]]]
    """
    return _adaptive(x, output_size, mean, "adaptive_avg_pool")


@located
def adaptive_max_pool(x: Any, output_size: int | Sequence[int]) -> Tensor:
    """Maxima over the windows of `adaptive_avg_pool`.

    >>> import dlc
    >>> dlc.evaluate(dlc.adaptive_max_pool([[[1.0, 2.0, 3.0]]], 2)).tolist()
    [[[2.0, 3.0]]]
    """
    return _adaptive(x, output_size, max_, "adaptive_max_pool")
