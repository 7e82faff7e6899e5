"""torch.masked in dlc: what a mask leaves out counts as the element that changes nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import dlc
from dlc.ops.tensor import Tensor

from .products import norm
from .reductions import along, axes_of, typed, vector_norm
from .registry import adapts, register


def kept(x: Tensor, mask: Any, neutral: float) -> Tensor:
    """`x` where the mask holds, `neutral` elsewhere."""
    return x if mask is None else dlc.where(dlc.broadcast_to(mask, x.shape), x, neutral)


def counted(x: Tensor, mask: Any, axis: Any, keep: bool) -> Tensor:
    there = dlc.ones_like(x) if mask is None else dlc.broadcast_to(mask, x.shape).astype(x.dtype)
    return dlc.sum(there, axis, keep)


def reduction(function: Callable[..., Tensor], neutral: float) -> Any:
    def adapted(x: Tensor, dim: Any = None, *, keepdim: bool = False, dtype: Any = None, mask: Any = None) -> Tensor:
        return function(kept(typed(x, dtype), mask, neutral), axes_of(x, dim), keepdim)

    return adapted


def place(function: Callable[..., Tensor], neutral: float) -> Any:
    """torch gives places in the dtype of the tensor."""

    def adapted(x: Tensor, dim: Any = None, *, keepdim: bool = False, dtype: Any = None, mask: Any = None) -> Tensor:
        return function(kept(x, mask, neutral), axes_of(x, dim), keepdim).astype(dtype or x.dtype)

    return adapted


def running(function: Callable[..., Tensor], neutral: float) -> Any:
    def adapted(x: Tensor, dim: int, *, dtype: Any = None, mask: Any = None) -> Tensor:
        return along(function, kept(typed(x, dtype), mask, neutral), dim)

    return adapted


def share(function: Callable[..., Tensor], neutral: float) -> Any:
    """A softmax; where a mask leaves nothing torch has NaN."""
    shares = running(function, neutral)

    def adapted(x: Tensor, dim: int, *, dtype: Any = None, mask: Any = None) -> Tensor:
        found = shares(x, dim, dtype=dtype, mask=mask)
        if mask is None:
            return found
        there = dlc.broadcast_to(mask, x.shape)
        return dlc.where(dlc.any(there, dim if x.ndim else (), True), found, math.nan)

    return adapted


def softmin(x: Tensor, axis: int) -> Tensor:
    return dlc.softmax(-x, axis)


register(
    {
        "masked.sum": reduction(dlc.sum, 0.0),
        "masked.prod": reduction(dlc.prod, 1.0),
        "masked.amax": reduction(dlc.max, -math.inf),
        "masked.amin": reduction(dlc.min, math.inf),
        "masked.argmax": place(dlc.argmax, -math.inf),
        "masked.argmin": place(dlc.argmin, math.inf),
        "masked.logsumexp": reduction(dlc.logsumexp, -math.inf),
        "masked.cumsum": running(dlc.cumulative_sum, 0.0),
        "masked.cumprod": running(dlc.cumulative_prod, 1.0),
        "masked.softmax": share(dlc.softmax, -math.inf),
        "masked.log_softmax": share(dlc.log_softmax, -math.inf),
        "masked.softmin": share(softmin, math.inf),
    }
)


@adapts("masked.mean")
def _(x: Tensor, dim: Any = None, *, keepdim: bool = False, dtype: Any = None, mask: Any = None) -> Tensor:
    x, axis = typed(x, dtype), axes_of(x, dim)
    return dlc.sum(kept(x, mask, 0.0), axis, keepdim) / counted(x, mask, axis, keepdim)


def variance(x: Tensor, dim: Any = None, unbiased: bool = True, *, correction: Any = None, keepdim: bool = False,
             dtype: Any = None, mask: Any = None) -> Tensor:  # fmt: skip
    x, axis = typed(x, dtype), axes_of(x, dim)
    less = float(unbiased) if correction is None else float(correction)
    mean = dlc.sum(kept(x, mask, 0.0), axis, True) / counted(x, mask, axis, True)
    squares = kept(dlc.square(x - mean), mask, 0.0)
    return dlc.sum(squares, axis, keepdim) / dlc.maximum(counted(x, mask, axis, keepdim) - less, 0.0)


register({"masked.var": variance, "masked.std": lambda *args, **named: dlc.sqrt(variance(*args, **named))})


@adapts("masked.norm")
def _(x: Tensor, ord: float = 2.0, dim: Any = None, *, keepdim: bool = False, dtype: Any = None,
      mask: Any = None) -> Tensor:  # fmt: skip
    neutral = math.inf if ord == -math.inf else 0.0
    return vector_norm(kept(typed(x, dtype), mask, neutral), ord, axes_of(x, dim), keepdim)


@adapts("masked.normalize")
def _(x: Tensor, ord: float, dim: int, *, eps: float = 1e-12, dtype: Any = None, mask: Any = None) -> Tensor:
    x = typed(x, dtype)
    size = norm(kept(x, mask, 0.0).reshape((1,)) if x.ndim == 0 else kept(x, mask, 0.0), ord, dim, True)
    return kept(x / dlc.maximum(size, eps).reshape(() if x.ndim == 0 else size.shape), mask, 0.0)


@adapts("masked.logaddexp")
def _(x: Tensor, y: Tensor, *, dtype: Any = None, input_mask: Any = None, other_mask: Any = None) -> Tensor:
    return dlc.logaddexp(kept(typed(x, dtype), input_mask, -math.inf), kept(typed(y, dtype), other_mask, -math.inf))
