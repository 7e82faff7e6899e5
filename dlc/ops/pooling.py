"""Pooling over 1 to 3 trailing axes, by windows: maximum, mean and p-norm; over everything, and to a given size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from dlc.dtypes import FLOATING
from dlc.errors import AttributeValueError, DTypeError, ShapeError
from dlc.ops.arithmetic import abs as abs_
from dlc.ops.arranging import part
from dlc.ops.composed import mean
from dlc.ops.definition import located
from dlc.ops.elementwise import where
from dlc.ops.fill import ones_like
from dlc.ops.index import concat, pad
from dlc.ops.reduce import max as max_
from dlc.ops.reduce import sum as sum_
from dlc.ops.tensor import Tensor, wrap
from dlc.ops.view import windows


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


def _windows(
    t: Tensor, kernel: Any, stride: Any, padding: Any, dilation: Any, fill: float, name: str
) -> tuple[Tensor, tuple[int, ...]]:
    """The windows of the trailing axes, their own axes last, and those axes."""
    rank = t.ndim - 2
    sizes = _sizes(kernel, rank, 1, f"{name}: the kernel")
    strides = sizes if stride is None else _sizes(stride, rank, 1, f"{name}: the stride")
    gaps = _sizes(dilation, rank, 1, f"{name}: the dilation")
    pads = _sizes(padding, rank, 0, f"{name}: the padding")
    for width, size in zip(pads, sizes, strict=True):
        if 2 * width > size:
            raise AttributeValueError(f"{name}: the padding {width} is more than half of the window's {size}")
    padded = pad(t, [(0, 0), (0, 0), *((w, w) for w in pads)], value=fill)
    axes = tuple(range(2, t.ndim))
    return windows(padded, axes, sizes, strides, gaps), tuple(range(t.ndim, t.ndim + rank))


@located
def max_pool(x: Any, kernel: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1) -> Tensor:
    """The maximum over windows of x[N, C, ...], over each of its trailing axes.

    An axis of d becomes (d + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1. Attributes are ints, or one for
    each axis; `stride` is the kernel's size unless given. Padding, at most half of the kernel, is never the maximum.

    >>> import dlc
    >>> dlc.max_pool(dlc.input("x", ("N", 3, 8, 8, 8)), 2).shape
    (N, 3, 4, 4, 4)
    """
    seen, axes = _windows(_images(x, None, "max_pool"), kernel, stride, padding, dilation, -math.inf, "max_pool")
    return max_(seen, axis=axes)


@located
def avg_pool(
    x: Any, kernel: Any, stride: Any = None, padding: Any = 0, count_include_pad: bool = True
) -> Tensor:
    """The mean over windows of x[N, C, ...]; padding counts as zeros, and in what is divided by unless told otherwise.

    Shapes and attributes are those of `max_pool`.

    >>> import dlc
    >>> dlc.evaluate(dlc.avg_pool([[[1.0, 2.0, 3.0, 6.0]]], 2)).tolist()
    [[[1.5, 4.5]]]
    """
    t = _images(x, None, "avg_pool")
    seen, axes = _windows(t, kernel, stride, padding, 1, 0.0, "avg_pool")
    if count_include_pad:
        return mean(seen, axis=axes)
    inside, _ = _windows(ones_like(t), kernel, stride, padding, 1, 0.0, "avg_pool")
    return sum_(seen, axis=axes) / sum_(inside, axis=axes)


@located
def lp_pool(x: Any, p: float, kernel: Any, stride: Any = None) -> Tensor:
    """The p-norm of windows of x[N, C, ...], sum(|x| ** p) ** (1 / p); its derivative at 0 is taken as 0.

    Shapes and attributes are those of `max_pool`. torch sums x ** p, which differs for odd p and negative x.

    >>> import dlc
    >>> dlc.evaluate(dlc.lp_pool([[[3.0, 4.0]]], 2.0, 2)).tolist()
    [[[5.0]]]
    """
    if isinstance(p, bool) or not isinstance(p, (int, float)) or not p > 0:
        raise AttributeValueError(f"lp_pool: p is a number above 0, not {p!r}")
    seen, axes = _windows(_images(x, None, "lp_pool"), kernel, stride, 0, 1, 0.0, "lp_pool")
    size = abs_(seen)
    total = sum_(size * size if p == 2 else size ** float(p), axis=axes)
    return where(total == 0.0, 0.0, where(total == 0.0, 1.0, total) ** (1.0 / p))


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
