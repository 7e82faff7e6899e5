"""Normalisations composed of moments: instance, group, RMS, and across neighbouring channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dlc.dims import product
from dlc.dtypes import FLOATING
from dlc.errors import AttributeValueError, DTypeError, ShapeError
from dlc.ops.composed import mean, square
from dlc.ops.definition import located
from dlc.ops.elementwise import rounded_once
from dlc.ops.fill import along
from dlc.ops.functions import sqrt
from dlc.ops.index import pad
from dlc.ops.reduce import Axis, normalized_axes
from dlc.ops.reduce import sum as sum_
from dlc.ops.tensor import Tensor, wrap
from dlc.ops.view import reshape, windows


def _channels(x: Any, name: str) -> Tensor:
    t = wrap(x)
    if t.dtype not in FLOATING:
        raise DTypeError(f"{name} takes floating-point tensors, not {t.type}; convert with .astype('float32')")
    if t.ndim < 2:
        raise ShapeError(f"{name} takes [N, C, ...] with channels on axis 1, not {t.type}")
    return t


def _normal(t: Tensor, axes: Sequence[int], eps: float) -> Tensor:
    centred = t - mean(t, axis=tuple(axes), keepdims=True)
    return centred / sqrt(mean(square(centred), axis=tuple(axes), keepdims=True) + eps)


def _affine(y: Tensor, weight: Any, bias: Any, name: str) -> Tensor:
    """Scaled and moved by a number for each channel."""
    for what, value in (("weight", weight), ("bias", bias)):
        if value is None:
            continue
        v = wrap(value)
        if v.shape != (y.shape[1],):
            raise ShapeError(f"{name}: the {what} has a number for each channel of {y.type}, not {v.type}")
        y = y * along(v, 1, y.ndim) if what == "weight" else y + along(v, 1, y.ndim)
    return y


@located
@rounded_once("x", "weight", "bias")
def instance_norm(x: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Tensor:
    """x[N, C, ...] normalised to mean 0 and variance 1 for each image and channel, then scaled by [C] vectors.

    D. Ulyanov, A. Vedaldi and V. Lempitsky, arXiv:1607.08022.

    >>> import dlc
    >>> dlc.evaluate(dlc.instance_norm([[[1.0, 3.0]]], eps=0.0)).tolist()
    [[[-1.0, 1.0]]]
    """
    t = _channels(x, "instance_norm")
    if t.ndim < 3:
        raise ShapeError(f"instance_norm takes [N, C, ...] with places to normalise over, not {t.type}")
    return _affine(_normal(t, range(2, t.ndim), eps), weight, bias, "instance_norm")


@located
@rounded_once("x", "weight", "bias")
def group_norm(x: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Tensor:
    """x[N, C, ...] normalised for each of `num_groups` groups of neighbouring channels, then scaled by [C] vectors.

    Y. Wu and K. He, arXiv:1803.08494. Raises `ShapeError` where the channels do not fall into equal groups.

    >>> import dlc
    >>> dlc.evaluate(dlc.group_norm([[1.0, 3.0]], 1, eps=0.0)).tolist()
    [[-1.0, 1.0]]
    """
    t = _channels(x, "group_norm")
    if isinstance(num_groups, bool) or not isinstance(num_groups, int) or num_groups < 1:
        raise AttributeValueError(f"group_norm: num_groups is an int of at least 1, not {num_groups!r}")
    n, c, rest = t.shape[0], t.shape[1], t.shape[2:]
    if c // num_groups * num_groups != c:
        raise ShapeError(f"group_norm: the channels of {t.type} do not fall into {num_groups} equal groups")
    grouped = reshape(t, (n, num_groups, c // num_groups * product(rest)))
    return _affine(reshape(_normal(grouped, (2,), eps), t.shape), weight, bias, "group_norm")


@located
@rounded_once("x", "weight")
def rms_norm(x: Any, weight: Any = None, axis: Axis = -1, eps: float = 1e-5) -> Tensor:
    """x / sqrt(mean(x * x) + eps) over `axis`, times `weight`, which broadcasts.

    B. Zhang and R. Sennrich, arXiv:1910.07467. torch's `eps` is the spacing of the dtype's numbers at 1.

    >>> import dlc
    >>> dlc.evaluate(dlc.rms_norm([3.0, -3.0], eps=0.0)).tolist()
    [1.0, -1.0]
    """
    t = wrap(x)
    if t.dtype not in FLOATING:
        raise DTypeError(f"rms_norm takes floating-point tensors, not {t.type}; convert with .astype('float32')")
    axes = normalized_axes(axis, t.ndim, "rms_norm")
    y = t / sqrt(mean(square(t), axis=axes, keepdims=True) + eps)
    return y if weight is None else y * weight


@located
@rounded_once("x")
def local_response_norm(x: Any, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Tensor:
    """x / (k + alpha / size * s) ** beta, s being the sum of squares over `size` channels around each of x[N, C, ...].

    They reach from size // 2 below to (size - 1) // 2 above, as in torch; outside there are zeros.
    A. Krizhevsky, I. Sutskever and G. E. Hinton, 2012, where alpha is not divided by the size.

    >>> import dlc
    >>> dlc.evaluate(dlc.local_response_norm([[3.0]], 1, alpha=1.0, beta=0.5, k=0.0)).tolist()
    [[1.0]]
    """
    t = _channels(x, "local_response_norm")
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise AttributeValueError(f"local_response_norm: size is an int of at least 1, not {size!r}")
    widths = [(size // 2, (size - 1) // 2) if a == 1 else (0, 0) for a in range(t.ndim)]
    around = sum_(windows(pad(square(t), widths), (1,), (size,)), axis=t.ndim)
    return t / (around * (alpha / size) + k) ** beta
