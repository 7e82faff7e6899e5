"""Activation functions as modules, for `Sequential`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dlc import ops
from dlc.frontend.nn.module import Module
from dlc.ops.tensor import Tensor


class _Activation(Module):
    """A function of one tensor without parameters; the result has the same shape and dtype."""

    function: Callable[..., Tensor]

    def forward(self, x: Any) -> Tensor:
        """The function of x, elementwise."""
        return type(self).function(x)


class ReLU(_Activation):
    """max(x, 0); derivative 0 at 0.

    >>> from dlc import nn
    >>> nn.ReLU()
    ReLU()
    """

    function = staticmethod(ops.relu)


class Tanh(_Activation):
    """The hyperbolic tangent."""

    function = staticmethod(ops.tanh)


class Sigmoid(_Activation):
    """1 / (1 + exp(-x))."""

    function = staticmethod(ops.sigmoid)


class SiLU(_Activation):
    """x * sigmoid(x). Elfwing, Uchibe and Doya (2018), arXiv:1702.03118."""

    function = staticmethod(ops.silu)


class LeakyReLU(Module):
    """x where x > 0, else negative_slope * x. Maas, Hannun and Ng (2013)."""

    def __init__(self, negative_slope: float = 0.01) -> None:
        self.negative_slope = negative_slope

    def forward(self, x: Any) -> Tensor:
        """The function of x, elementwise."""
        return ops.where(x > 0, x, self.negative_slope * x)

    def describe(self) -> str:
        """The slope."""
        return f"negative_slope={self.negative_slope:g}"


class GELU(_Activation):
    """x * Phi(x) with the normal distribution function Phi. Hendrycks and Gimpel (2016), arXiv:1606.08415."""

    function = staticmethod(ops.gelu)


class Softmax(Module):
    """exp(x_i) / sum_j exp(x_j) along `dim`.

    >>> import dlc
    >>> from dlc import nn
    >>> nn.Softmax(dim=-1)(dlc.input("x", ("N", 3))).shape
    (N, 3)
    """

    def __init__(self, dim: int = -1) -> None:
        self.dim = dim

    def forward(self, x: Any) -> Tensor:
        """x -> probabilities of the same shape."""
        return ops.softmax(x, axis=self.dim)

    def describe(self) -> str:
        """The axis."""
        return f"dim={self.dim}"


class LogSoftmax(Softmax):
    """x_i - log sum_j exp(x_j) along `dim`."""

    def forward(self, x: Any) -> Tensor:
        """x -> log-probabilities of the same shape."""
        return ops.log_softmax(x, axis=self.dim)
