"""torch's layers (torch.nn.functional) in dlc: convolution, pooling, normalisation, attention, resizing, padding."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import dlc
from dlc.nn import functional as F
from dlc.ops.sampling import PADDINGS
from dlc.ops.tensor import Tensor

from .registry import adapts, refuse, register


def batched(rank: int, layer: Callable[[Tensor], Any]) -> Callable[[Tensor], Any]:
    """A layer of [N, C, ...] for one image without N as well."""

    def applied(x: Tensor) -> Any:
        if x.ndim == rank + 2:
            return layer(x)
        found = layer(x.reshape((1, *x.shape)))
        return tuple(map(first, found)) if isinstance(found, tuple) else first(found)

    return applied


def first(t: Tensor) -> Tensor:
    return t.reshape(t.shape[1:])


def along_channels(v: Tensor, rank: int) -> Tensor:
    return v.reshape((*v.shape, *(1,) * rank))


# ---------------------------------------------------------------- convolution


def padding_of(padding: Any, rank: int) -> Any:
    return tuple(padding) if isinstance(padding, (list, tuple)) and len(padding) == rank else padding


def convolution(rank: int) -> Callable[..., Tensor]:
    conv = (F.conv1d, F.conv2d, F.conv3d)[rank - 1]

    def adapted(x: Tensor, w: Tensor, b: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
                groups: int = 1) -> Tensor:  # fmt: skip
        y = batched(rank, lambda t: conv(t, w, single(stride), single(padding), single(dilation), groups))(x)
        return y if b is None else y + along_channels(b, rank)

    return adapted


def single(value: Any) -> Any:
    """A list of one as the number, which stands for every axis."""
    return value[0] if isinstance(value, (list, tuple)) and len(value) == 1 else value


def transposed(rank: int) -> Callable[..., Tensor]:
    conv = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[rank - 1]

    def adapted(x: Tensor, w: Tensor, b: Any = None, stride: Any = 1, padding: Any = 0, output_padding: Any = 0,
                groups: int = 1, dilation: Any = 1) -> Tensor:  # fmt: skip
        how = map(single, (stride, padding, output_padding, groups, dilation))
        y = batched(rank, lambda t: conv(t, w, *how))(x)
        return y if b is None else y + along_channels(b, rank)

    return adapted


for _rank in (1, 2, 3):
    register(
        {
            f"nn.functional.conv{_rank}d": convolution(_rank),
            f"nn.functional.conv_transpose{_rank}d": transposed(_rank),
        }
    )


# ---------------------------------------------------------------- pooling


def max_pooling(rank: int) -> Callable[..., Any]:
    def adapted(x: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
                ceil_mode: bool = False, return_indices: bool = False) -> Any:  # fmt: skip
        how = (*map(single, (kernel_size, stride or None, padding, dilation)), ceil_mode)
        return batched(rank, lambda t: dlc.max_pool(t, *how, return_indices=return_indices))(x)

    return adapted


def avg_pooling(rank: int) -> Callable[..., Any]:
    def adapted(x: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
                count_include_pad: bool = True, divisor_override: Any = None) -> Tensor:  # fmt: skip
        refuse(divisor_override is not None and divisor_override < 1, "a divisor below 1")
        how = tuple(map(single, (kernel_size, stride or None, padding)))
        pool = lambda t: dlc.avg_pool(t, *how, count_include_pad, ceil_mode, divisor_override)  # noqa: E731
        return batched(rank, pool)(x)

    return adapted


def adaptive(rank: int, pool: Callable[..., Any]) -> Callable[..., Any]:
    def adapted(x: Tensor, output_size: Any, return_indices: bool = False) -> Any:
        refuse(return_indices, "adaptive_max_pool gives no indices")
        sizes = list(output_size) if isinstance(output_size, (tuple, list)) else [output_size] * rank
        sizes = [d if s is None else s for s, d in zip(sizes, x.shape[-rank:], strict=True)]
        return batched(rank, lambda t: pool(t, tuple(sizes)))(x)

    return adapted


def unpooling(rank: int) -> Callable[..., Any]:
    def adapted(x: Tensor, indices: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0,
                output_size: Any = None) -> Tensor:  # fmt: skip
        how = tuple(map(single, (kernel_size, stride or None, padding)))
        size = None if output_size is None else tuple(output_size)[-rank:]
        if x.ndim == rank + 2:
            return dlc.max_unpool(x, indices, *how, size)
        lead = tuple(t.reshape((1, *t.shape)) for t in (x, indices))
        return first(dlc.max_unpool(*lead, *how, size))

    return adapted


for _rank in (1, 2, 3):
    register(
        {
            f"nn.functional.max_pool{_rank}d": max_pooling(_rank),
            f"nn.functional.avg_pool{_rank}d": avg_pooling(_rank),
            f"nn.functional.adaptive_avg_pool{_rank}d": adaptive(_rank, dlc.adaptive_avg_pool),
            f"nn.functional.adaptive_max_pool{_rank}d": adaptive(_rank, dlc.adaptive_max_pool),
            f"nn.functional.max_unpool{_rank}d/grad": unpooling(_rank),
        }
    )


for _rank in (1, 2, 3):
    adapts(
        f"nn.functional.max_unpool{_rank}d",
        forward_only="where windows overlap torch gives all of equal places the cotangent of the one that was kept",
    )(unpooling(_rank))


# ---------------------------------------------------------------- normalisation


@adapts("nn.functional.layer_norm")
def _(x: Tensor, shape: Sequence[int], weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Tensor:
    return F.layer_norm(x, weight, bias, tuple(range(-len(shape), 0)), eps)


@adapts("native_layer_norm")
def _(x: Tensor, shape: Sequence[int], weight: Any, bias: Any, eps: float) -> Any:
    axes = tuple(range(-len(shape), 0))
    scale = dlc.rsqrt(dlc.var(x, axes, True) + eps)
    return F.layer_norm(x, weight, bias, axes, eps), dlc.mean(x, axes, True), scale


@adapts("nn.functional.rms_norm")
def _(x: Tensor, shape: Sequence[int], weight: Any = None, eps: Any = None) -> Tensor:
    return dlc.rms_norm(x, weight, tuple(range(-len(shape), 0)), 2.220446049250313e-16 if eps is None else eps)


@adapts("nn.functional.group_norm")
def _(x: Tensor, groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Tensor:
    return dlc.group_norm(x, groups, weight, bias, eps)


@adapts("native_group_norm")
def _(x: Tensor, weight: Any, bias: Any, n: int, c: int, rest: int, groups: int, eps: float) -> Any:
    grouped = x.reshape((n, groups, c // groups * rest))
    mean, scale = dlc.mean(grouped, 2), dlc.rsqrt(dlc.var(grouped, 2) + eps)
    return dlc.group_norm(x, groups, weight, bias, eps), mean, scale


@adapts("nn.functional.instance_norm")
def _(x: Tensor, running_mean: Any = None, running_var: Any = None, weight: Any = None, bias: Any = None,
      use_input_stats: bool = True, momentum: float = 0.1, eps: float = 1e-5) -> Tensor:  # fmt: skip
    if use_input_stats:
        return dlc.instance_norm(x, weight, bias, eps)
    return normalised(x, running_mean, running_var, weight, bias, eps)


def normalised(x: Tensor, mean: Tensor, var: Tensor, weight: Any, bias: Any, eps: float) -> Tensor:
    """Along the channels of axis 1."""
    mean, var, weight, bias = (
        v if v is None else along_channels(v, x.ndim - 2) for v in (mean, var, weight, bias)
    )  # fmt: skip
    y = (x - mean) * dlc.rsqrt(var + eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def batch_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    axes = (0, *range(2, x.ndim))
    return dlc.mean(x, axes), dlc.var(x, axes)


@adapts("nn.functional.batch_norm")
def _(x: Tensor, running_mean: Any, running_var: Any, weight: Any = None, bias: Any = None, training: bool = False,
      momentum: float = 0.1, eps: float = 1e-5) -> Tensor:  # fmt: skip
    refuse(x.ndim < 2, "an input without channels")
    mean, var = batch_moments(x) if training else (running_mean, running_var)
    return normalised(x, mean, var, weight, bias, eps)


def native_batch_norm(x: Tensor, weight: Any, bias: Any, running_mean: Any, running_var: Any, training: bool,
                      momentum: float, eps: float) -> Any:  # fmt: skip
    if not training:
        none = dlc.zeros((0,), x.dtype)
        return normalised(x, running_mean, running_var, weight, bias, eps), none, none
    mean, var = batch_moments(x)
    return normalised(x, mean, var, weight, bias, eps), mean, dlc.rsqrt(var + eps)


@adapts("_native_batch_norm_legit")
def _(x: Tensor, weight: Any, bias: Any, *rest: Any) -> Any:
    if len(rest) == 3:  # without running statistics
        return native_batch_norm(x, weight, bias, None, None, *rest)
    return native_batch_norm(x, weight, bias, *rest)


register({"native_batch_norm": native_batch_norm})


@adapts("nn.functional.local_response_norm")
def _(x: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Tensor:
    return dlc.local_response_norm(x, size, alpha, beta, k)


@adapts("nn.functional.normalize")
def _(x: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    if x.ndim == 0:
        return F.normalize(x.reshape((1,)), p, 0, eps).reshape(())
    return F.normalize(x, p, dim, eps)


@adapts("nn.functional.cosine_similarity")
def _(a: Tensor, b: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    if a.ndim == b.ndim == 0:
        return F.cosine_similarity(a.reshape((1,)), b.reshape((1,)), 0, eps)
    return F.cosine_similarity(a, b, dim, eps)


# ---------------------------------------------------------------- attention


@adapts("nn.functional.scaled_dot_product_attention")
def _(q: Tensor, k: Tensor, v: Tensor, attn_mask: Any = None, dropout_p: float = 0.0, is_causal: bool = False,
      scale: Any = None, enable_gqa: bool = False) -> Tensor:  # fmt: skip
    refuse(dropout_p, "random numbers: torch's are others")
    if enable_gqa:  # each head of keys and values serves several of queries
        k, v = (dlc.repeat(t, q.shape[-3] // t.shape[-3], -3) for t in (k, v))
    if attn_mask is not None and attn_mask.dtype != "bool":
        scores = q @ dlc.matrix_transpose(k) * (1 / math.sqrt(q.shape[-1]) if scale is None else scale)
        return dlc.softmax(scores + attn_mask, -1) @ v
    return F.attention(q, k, v, attn_mask, is_causal, scale)


# ---------------------------------------------------------------- padding, windows and resizing


def padded(x: Tensor, pad: Any, mode: str = "constant", value: Any = None) -> Tensor:
    """torch's widths run from the last axis to the first; a negative one crops."""
    pairs = [(0, 0)] * x.ndim
    pad = list(pad)
    for i in range(len(pad) // 2):
        pairs[-1 - i] = (pad[2 * i], pad[2 * i + 1])
    grown = [(max(a, 0), max(b, 0)) for a, b in pairs]
    if mode == "constant":
        y = dlc.pad(cropped(x, pairs), grown, value=0.0 if value is None else value)
        return y
    if mode == "circular":  # what is cropped does not come round again
        return dlc.pad_border(cropped(x, pairs), grown, "wrap")
    modes = {"reflect": "reflect", "replicate": "edge"}
    return cropped(dlc.pad_border(x, grown, modes[mode]), pairs)


def cropped(x: Tensor, pairs: Sequence[tuple[int, int]]) -> Tensor:
    if all(min(p) >= 0 for p in pairs):
        return x
    return x[tuple(slice(max(-a, 0), d - max(-b, 0)) for (a, b), d in zip(pairs, x.shape, strict=True))]


register(
    {
        **{f"nn.functional.pad/{mode}": padded for mode in ("constant", "reflect", "replicate", "circular")},
        "nn.functional.pad/replicate_negative": padded,
        "constant_pad_nd": lambda x, pad, value=0: padded(x, pad, "constant", value),
    }
)


@adapts("nn.functional.unfold")
def _(x: Tensor, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Tensor:
    def adapted(t: Tensor) -> Tensor:
        k, d, p, s = (v if isinstance(v, (tuple, list)) else (v, v) for v in (kernel_size, dilation, padding, stride))
        around = dlc.pad(t, [(0, 0), (0, 0), *((w, w) for w in p)])
        seen = dlc.permute_dims(dlc.ops.windows(around, (2, 3), tuple(k), tuple(s), tuple(d)), (0, 1, 4, 5, 2, 3))
        n, c, kh, kw, h, w = seen.shape
        return seen.reshape((n, c * kh * kw, h * w))

    return batched(2, adapted)(x)


@adapts(*(f"nn.functional.interpolate/{m}" for m in ("nearest", "nearest-exact", "linear", "bilinear", "trilinear",
                                                     "bicubic", "area")))  # fmt: skip
def _(x: Tensor, size: Any = None, scale_factor: Any = None, mode: str = "nearest", align_corners: Any = None,
      recompute_scale_factor: Any = None, antialias: bool = False) -> Tensor:  # fmt: skip
    if recompute_scale_factor or (mode == "area" and size is None):
        factors = scale_factor if isinstance(scale_factor, (tuple, list)) else [scale_factor] * (x.ndim - 2)
        size, scale_factor = tuple(math.floor(d * f) for d, f in zip(x.shape[2:], factors, strict=True)), None
    return F.interpolate(x, size, scale_factor, mode, align_corners, antialias)


@adapts("_upsample_bilinear2d_aa")
def _(x: Tensor, output_size: Any = None, align_corners: bool = False, scale_factors: Any = None, scales_h: Any = None,
      scales_w: Any = None) -> Tensor:  # fmt: skip
    refuse(align_corners, "a filter against aliasing between aligned corners")
    refuse(scales_h is not None or scales_w is not None, "a size and a scale at once")
    return F.interpolate(x, output_size, scale_factors, "bilinear", antialias=True)


@adapts("nn.functional.grid_sample")
def _(x: Tensor, grid: Tensor, mode: str = "bilinear", padding_mode: str = "zeros", align_corners: bool = False) -> Any:
    return F.grid_sample(x, grid, mode, padding_mode, align_corners)


@adapts("grid_sampler_2d", "grid_sampler_3d")
def _(x: Tensor, grid: Tensor, interpolation_mode: int, padding_mode: int, align_corners: bool) -> Tensor:
    """The numbers that stand for the modes in torch's own code."""
    mode, padding = ("bilinear", "nearest", "bicubic")[interpolation_mode], PADDINGS[padding_mode]
    return F.grid_sample(x, grid, mode, padding, align_corners)


@adapts("nn.functional.upsample_bilinear")
def _(x: Tensor, size: Any = None, scale_factor: Any = None) -> Tensor:
    return F.interpolate(x, size, scale_factor, "bilinear", True)


@adapts("nn.functional.upsample_nearest")
def _(x: Tensor, size: Any = None, scale_factor: Any = None) -> Tensor:
    return F.interpolate(x, size, scale_factor, "nearest")
