"""Group, instance, RMS and local response normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dlc.dims import product
from dlc.dtypes import epsilon
from dlc.errors import AttributeValueError, ShapeError
from dlc.frontend import initialisers
from dlc.frontend.nn.linear import known_size
from dlc.frontend.nn.module import Module, layer_name
from dlc.frontend.nn.normalisation import TrailingNorm
from dlc.frontend.parameter import Buffer, Parameter
from dlc.ops import (
    TRAINING,
    group_norm,
    instance_norm,
    local_response_norm,
    maximum,
    reshape,
    rms_norm,
    size_of,
    sqrt,
    stop_gradient,
    where,
)
from dlc.ops.tensor import Tensor, wrap
from dlc.provenance import here


class _ChannelNorm(Module):
    """The parameters of a norm that scales and moves channels."""

    def _set_up(self, channels: int | None, eps: float, affine: bool, dtype: Any) -> None:
        self.eps = eps
        self.weight = Parameter((channels,), initialisers.ones, dtype) if affine else None
        self.bias = Parameter((channels,), initialisers.zeros, dtype) if affine else None

    def _scales(self, x: Tensor) -> tuple[Tensor | None, Tensor | None]:
        if self.weight is None or self.bias is None:
            return None, None
        shape, what = (known_size(self, x, 1, "channels in axis 1"),), f"{layer_name(self)}, given {x.type},"
        return self.weight.resolve(shape, what), self.bias.resolve(shape, what)


class GroupNorm(_ChannelNorm):
    """x [N, C, ...] normalised over groups of neighbouring channels, times weight [C] plus bias [C].

    Y. Wu and K. He, arXiv:1803.08494. `num_channels` None is told by the first input.

    >>> import dlc
    >>> from dlc import nn
    >>> nn.GroupNorm(2, 6)(dlc.input("x", ("N", 6, 8, 8))).shape
    (N, 6, 8, 8)
    """

    def __init__(
        self, num_groups: int, num_channels: int | None = None, eps: float = 1e-5, affine: bool = True,
        dtype: Any = "float32",
    ) -> None:  # fmt: skip
        if num_channels is not None and (num_groups < 1 or num_channels % num_groups):
            raise AttributeValueError(
                f"GroupNorm: num_channels={num_channels} is not a multiple of num_groups={num_groups}", where=here()
            )
        self.num_groups = num_groups
        self._set_up(num_channels, eps, affine, dtype)

    def forward(self, x: Any) -> Tensor:
        """x [N, C, ...] -> the same shape."""
        t = wrap(x)
        return group_norm(t, self.num_groups, *self._scales(t), eps=self.eps)

    def describe(self) -> str:
        """Groups and eps."""
        return f"{self.num_groups}, eps={self.eps:g}"


class _InstanceNorm(_ChannelNorm):
    rank = 0

    def __init__(
        self,
        num_features: int | None = None,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        dtype: Any = "float32",
    ) -> None:
        self._set_up(num_features, eps, affine, dtype)
        self.momentum = momentum
        tracked = track_running_stats
        self.running_mean = Buffer((num_features,), initialisers.zeros, dtype) if tracked else None
        self.running_var = Buffer((num_features,), initialisers.ones, dtype) if tracked else None

    def forward(self, x: Any) -> Tensor:
        """x [N, C, ...] -> the same shape."""
        t = wrap(x)
        if t.ndim != self.rank + 2:
            raise ShapeError(f"{layer_name(self)} takes {self.rank + 2} axes, not {t.type}", where=here())
        if self.running_mean is None or self.running_var is None:
            return instance_norm(t, *self._scales(t), eps=self.eps)
        return self._tracked(t, self.running_mean, self.running_var)

    def _tracked(self, t: Tensor, running_mean: Buffer, running_var: Buffer) -> Tensor:
        """In training as without statistics, which move towards the means over N; otherwise by these statistics."""
        shape, what = (known_size(self, t, 1, "channels in axis 1"),), f"{layer_name(self)}, given {t.type},"
        mean, var = running_mean.resolve(shape, what), running_var.resolve(shape, what)
        axes = tuple(range(2, t.ndim))
        own_mean = t.mean(axis=axes, keepdims=True)
        centred = t - own_mean
        own_var = (centred * centred).mean(axis=axes, keepdims=True)
        used_mean, used_var = (
            where(TRAINING, own, reshape(kept, (1, *shape, *(1,) * self.rank)))
            for own, kept in ((own_mean, mean), (own_var, var))
        )
        y = (t - used_mean) * (1.0 / sqrt(used_var + self.eps))
        weight, bias = self._scales(t)
        if weight is not None and bias is not None:
            y = y * reshape(weight, (*shape, *(1,) * self.rank)) + reshape(bias, (*shape, *(1,) * self.rank))
        count = size_of(product(t.shape[2:]), t.dtype)
        over = (0, *axes)
        unbiased = own_var.mean(axis=over) * (count / maximum(count - 1.0, 1.0))
        return y.with_updates(
            (running_mean.state, self._moved(mean, own_mean.mean(axis=over))),
            (running_var.state, self._moved(var, unbiased)),
        )

    def _moved(self, running: Tensor, seen: Tensor) -> Tensor:
        return running * (1.0 - self.momentum) + stop_gradient(seen) * self.momentum

    def describe(self) -> str:
        """Eps, whether there are parameters, and the momentum of running statistics."""
        kept = "" if self.running_mean is None else f", momentum={self.momentum:g}, track_running_stats=True"
        return f"eps={self.eps:g}, affine={self.weight is not None}{kept}"


class InstanceNorm1d(_InstanceNorm):
    """x [N, C, L] normalised for each image and channel; with `affine`, times weight [C] plus bias [C].

    D. Ulyanov, A. Vedaldi and V. Lempitsky, arXiv:1607.08022. With `track_running_stats`, running_mean
    and running_var [C] move by `momentum` towards the means over N of the images' mean and unbiased variance in
    training, and take their place otherwise, as in torch.

    >>> import dlc
    >>> from dlc import nn
    >>> nn.InstanceNorm1d()(dlc.input("x", ("N", 6, 8))).shape
    (N, 6, 8)
    """

    rank = 1


class InstanceNorm2d(_InstanceNorm):
    """x [N, C, H, W] normalised for each image and channel. As `InstanceNorm1d`."""

    rank = 2


class InstanceNorm3d(_InstanceNorm):
    """x [N, C, D, H, W] normalised for each image and channel. As `InstanceNorm1d`."""

    rank = 3


class LocalResponseNorm(Module):
    """x [N, C, ...] over (k + alpha / size * the sum of squares over `size` channels around) ** beta.

    A. Krizhevsky, I. Sutskever and G. E. Hinton, 2012; alpha is divided by the size as in torch.

    >>> import dlc
    >>> from dlc import nn
    >>> nn.LocalResponseNorm(5)(dlc.input("x", ("N", 6, 8, 8))).shape
    (N, 6, 8, 8)
    """

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        self.size = size
        self.alpha = alpha
        self.beta = beta
        self.k = k

    def forward(self, x: Any) -> Tensor:
        """x [N, C, ...] -> the same shape."""
        return local_response_norm(x, self.size, self.alpha, self.beta, self.k)

    def describe(self) -> str:
        """The four numbers."""
        return f"{self.size}, alpha={self.alpha:g}, beta={self.beta:g}, k={self.k:g}"


class RMSNorm(TrailingNorm):
    """x / sqrt(mean(x * x) + eps) * weight over the last axes, which `normalized_shape` and the weight have.

    Without `normalized_shape` it is the last axis, as long as the first input says. `eps` None is the spacing of the
    dtype's numbers at 1, as in torch. B. Zhang and R. Sennrich, arXiv:1910.07467.

    >>> import dlc
    >>> from dlc import nn
    >>> nn.RMSNorm(8)(dlc.input("x", ("N", "T", 8))).shape
    (N, T, 8)
    """

    def __init__(
        self, normalized_shape: int | Sequence[int] | None = None, eps: float | None = None,
        elementwise_affine: bool = True, dtype: Any = "float32",
    ) -> None:  # fmt: skip
        shape = self._set_up(normalized_shape, eps)
        self.weight = Parameter(shape, initialisers.ones, dtype) if elementwise_affine else None

    def forward(self, x: Any) -> Tensor:
        """x [..., *normalized_shape] -> the same shape."""
        t = wrap(x)
        axes = self._axes(t)
        eps = epsilon(t.dtype) if self.eps is None else self.eps
        return rms_norm(t, self._resolved(self.weight, t), axis=axes, eps=eps)
