"""Batch and layer normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dlc.dims import product
from dlc.errors import AttributeValueError, ShapeError
from dlc.frontend import initialisers
from dlc.frontend.nn.linear import known_size
from dlc.frontend.nn.module import Module, layer_name
from dlc.frontend.parameter import Buffer, OpenShape, Parameter, fits, shape_text
from dlc.ops import TRAINING, layer_norm, maximum, reshape, size_of, sqrt, stop_gradient, where
from dlc.ops.tensor import Tensor, wrap
from dlc.provenance import here


class _BatchNorm(Module):
    """y = (x - mean) / sqrt(var + eps) * weight + bias per channel (axis 1).

    In training mean and variance are those of the batch, and the running statistics move by `momentum` towards them
    (the variance towards the unbiased one, as in torch); these updates ride on the result. Otherwise the running
    statistics are used. Ioffe and Szegedy (2015), arXiv:1502.03167, algorithm 1.
    """

    ndims: tuple[int, ...] = ()

    def __init__(
        self,
        num_features: int | None = None,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        dtype: Any = "float32",
    ) -> None:
        self.eps = eps
        self.momentum = momentum
        self.weight = Parameter((num_features,), initialisers.ones, dtype) if affine else None
        self.bias = Parameter((num_features,), initialisers.zeros, dtype) if affine else None
        self.running_mean = Buffer((num_features,), initialisers.zeros, dtype)
        self.running_var = Buffer((num_features,), initialisers.ones, dtype)

    def forward(self, x: Any) -> Tensor:
        """x [N, C, ...] -> the same shape. Raises `ShapeError` where C is not what the layer has."""
        x = wrap(x)
        if x.ndim not in self.ndims:
            raise ShapeError(
                f"{layer_name(self)} takes {' or '.join(map(str, self.ndims))} axes, not {x.type}", where=here()
            )
        channels = known_size(self, x, 1, "channels in axis 1")
        what = f"{layer_name(self)}, given {x.type},"
        running_mean = self.running_mean.resolve((channels,), what)
        running_var = self.running_var.resolve((channels,), what)
        axes = (0, *range(2, x.ndim))
        mean = x.mean(axis=axes)
        centred = x - _beside(mean, x)
        var = (centred * centred).mean(axis=axes)
        used_mean, used_var = where(TRAINING, mean, running_mean), where(TRAINING, var, running_var)
        y = (x - _beside(used_mean, x)) * _beside(1.0 / sqrt(used_var + self.eps), x)
        if self.weight is not None and self.bias is not None:
            y = y * _beside(self.weight.resolve((channels,), what), x) + _beside(
                self.bias.resolve((channels,), what), x
            )
        count = size_of(product(x.shape[a] for a in axes), x.dtype)
        unbiased = var * (count / maximum(count - 1.0, 1.0))
        return y.with_updates(
            (self.running_mean.state, self._moved(running_mean, mean)),
            (self.running_var.state, self._moved(running_var, unbiased)),
        )

    def _moved(self, running: Tensor, batch: Tensor) -> Tensor:
        return running * (1.0 - self.momentum) + stop_gradient(batch) * self.momentum

    def describe(self) -> str:
        """Features, eps and momentum."""
        (features,) = self.running_mean.open_shape
        return f"{'?' if features is None else features}, eps={self.eps:g}, momentum={self.momentum:g}"


class BatchNorm1d(_BatchNorm):
    """Batch normalisation of x [N, C] or [N, C, L], per channel; weight, bias, running_mean and running_var [C].

    In training y = (x - batch mean) / sqrt(batch variance + eps) * weight + bias, and the running statistics move by
    `momentum` towards the batch's mean and unbiased variance, as in torch; otherwise they take the batch's place.
    Ioffe and Szegedy (2015), arXiv:1502.03167, algorithm 1.

    >>> import dlc
    >>> from dlc import nn
    >>> nn.BatchNorm1d(3)(dlc.input("x", ("N", 3))).shape
    (N, 3)
    """

    ndims = (2, 3)


class BatchNorm2d(_BatchNorm):
    """Batch normalisation of x [N, C, H, W], per channel; weight, bias, running_mean and running_var [C].

    As `BatchNorm1d`, over N, H and W.

    >>> import dlc
    >>> from dlc import nn
    >>> nn.BatchNorm2d()(dlc.input("x", ("N", 6, 28, 28))).shape
    (N, 6, 28, 28)
    """

    ndims = (4,)


class BatchNorm3d(_BatchNorm):
    """Batch normalisation of x [N, C, D, H, W], per channel. As `BatchNorm1d`, over N, D, H and W."""

    ndims = (5,)


class TrailingNorm(Module):
    """What normalisations over the last axes share: the shape of these axes, which the weights have too.

    Without a shape it is the last axis, as long as the first input says.
    """

    eps: Any  # a float, or None where a subclass has a default of its own

    def _set_up(self, normalized_shape: int | Sequence[int] | None, eps: float | None) -> OpenShape:
        given: Any = (normalized_shape,) if normalized_shape is None else normalized_shape
        given = (given,) if hasattr(given, "__index__") else given
        if not isinstance(given, (tuple, list)) or not given:
            raise AttributeValueError(
                f"{type(self).__name__}: normalized_shape is an int or a tuple of ints, not {normalized_shape!r:.60}",
                where=here(),
            )
        self.normalized_shape: OpenShape = tuple(given)
        self.eps = eps
        return self.normalized_shape

    def _axes(self, x: Tensor) -> tuple[int, ...]:
        """The axes of `x` that are normalised. Raises `ShapeError` where they are not of the layer's shape."""
        rank = len(self.normalized_shape)
        if not fits(self.normalized_shape, x.shape[x.ndim - rank :]):  # type: ignore[arg-type]
            raise ShapeError(
                f"{layer_name(self)} normalises over {list(self.normalized_shape)}, which {x.type} does not end with",
                where=here(),
            )
        return tuple(range(-rank, 0))

    def _resolved(self, parameter: Parameter | None, x: Tensor) -> Tensor | None:
        if parameter is None:
            return None
        shape = [known_size(self, x, axis, "features in the last axis") for axis in self._axes(x)]
        return parameter.resolve(shape, f"{layer_name(self)}, given {x.type},")

    def describe(self) -> str:
        """Shape and eps."""
        return shape_text(self.normalized_shape) + ("" if self.eps is None else f", eps={self.eps:g}")


class LayerNorm(TrailingNorm):
    """y = (x - mean) / sqrt(var + eps) * weight + bias over the last axes; weight and bias have `normalized_shape`.

    Without `normalized_shape` it is the last axis, as long as the first input says.
    Ba, Kiros and Hinton (2016), arXiv:1607.06450, section 3.

    >>> import dlc
    >>> from dlc import nn
    >>> nn.LayerNorm(8)(dlc.input("x", ("N", "T", 8))).shape
    (N, T, 8)
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int] | None = None,
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        dtype: Any = "float32",
    ) -> None:
        shape = self._set_up(normalized_shape, eps)
        self.weight = Parameter(shape, initialisers.ones, dtype) if elementwise_affine else None
        self.bias = Parameter(shape, initialisers.zeros, dtype) if elementwise_affine and bias else None

    def forward(self, x: Any) -> Tensor:
        """x [..., *normalized_shape] -> the same shape."""
        t = wrap(x)
        axes = self._axes(t)
        weight, bias = self._resolved(self.weight, t), self._resolved(self.bias, t)
        return layer_norm(t, weight, bias, axis=axes, eps=self.eps)


def _beside(v: Tensor, x: Tensor) -> Tensor:
    """A vector of channels, shaped to broadcast against x [N, C, ...]."""
    return reshape(v, (1, v.shape[0], *(1,) * (x.ndim - 2)))
