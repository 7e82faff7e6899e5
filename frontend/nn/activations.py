"""Activation functions as modules, for `Sequential`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dlc import ops
from dlc.frontend import initialisers
from dlc.frontend.nn.module import Module
from dlc.frontend.parameter import Parameter
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
        return ops.leaky_relu(x, self.negative_slope)

    def describe(self) -> str:
        """The slope."""
        return f"negative_slope={self.negative_slope:g}"


class PReLU(Module):
    """x where x > 0, else weight * x, with a learned slope, or one a channel (axis 1) where num_parameters is not 1.

    He, Zhang, Ren and Sun (2015), arXiv:1502.01852.

    >>> import dlc
    >>> from dlc import nn
    >>> nn.PReLU(3)(dlc.input("x", ("N", 3))).shape
    (N, 3)
    """

    def __init__(self, num_parameters: int = 1, init: float = 0.25, dtype: Any = "float32") -> None:
        self.weight = Parameter((num_parameters,), initialisers.constant(init), dtype)

    def forward(self, x: Any) -> Tensor:
        """The function of x, elementwise."""
        return ops.prelu(x, self.weight)

    def describe(self) -> str:
        """How many slopes."""
        return f"num_parameters={self.weight.open_shape[0]}"


class ELU(Module):
    """x where x > 0, else alpha * (exp(x) - 1). Clevert, Unterthiner and Hochreiter (2015), arXiv:1511.07289."""

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = alpha

    def forward(self, x: Any) -> Tensor:
        """The function of x, elementwise."""
        return ops.elu(x, self.alpha)

    def describe(self) -> str:
        """The scale of the negative side."""
        return f"alpha={self.alpha:g}"


class SELU(_Activation):
    """The self-normalising exponential linear unit. Klambauer and others (2017), arXiv:1706.02515."""

    function = staticmethod(ops.selu)


class Mish(_Activation):
    """x * tanh(softplus(x)). Misra (2019), arXiv:1908.08681."""

    function = staticmethod(ops.mish)


class ReLU6(_Activation):
    """x within 0 to 6."""

    function = staticmethod(ops.relu6)


class Hardtanh(Module):
    """x within `min_val` to `max_val`."""

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0) -> None:
        self.min_val = min_val
        self.max_val = max_val

    def forward(self, x: Any) -> Tensor:
        """The function of x, elementwise."""
        return ops.hardtanh(x, self.min_val, self.max_val)

    def describe(self) -> str:
        """The bounds."""
        return f"min_val={self.min_val:g}, max_val={self.max_val:g}"


class Hardsigmoid(_Activation):
    """x / 6 + 1/2 within 0 to 1."""

    function = staticmethod(ops.hardsigmoid)


class Hardswish(_Activation):
    """x * hardsigmoid(x). Howard and others (2019), arXiv:1905.02244."""

    function = staticmethod(ops.hardswish)


class Softplus(_Activation):
    """log(1 + exp(x))."""

    function = staticmethod(ops.softplus)


class Softsign(_Activation):
    """x / (1 + |x|)."""

    function = staticmethod(ops.softsign)


class LogSigmoid(_Activation):
    """log(sigmoid(x))."""

    function = staticmethod(ops.log_sigmoid)


class GELU(Module):
    """x * Phi(x), with ``approximate="tanh"`` by a formula of tanh. Hendrycks and Gimpel (2016), arXiv:1606.08415."""

    def __init__(self, approximate: str = "none") -> None:
        self.approximate = approximate

    def forward(self, x: Any) -> Tensor:
        """The function of x, elementwise."""
        return ops.gelu(x, self.approximate)

    def describe(self) -> str:
        """The formula, if not the exact one."""
        return "" if self.approximate == "none" else f"approximate={self.approximate!r}"


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


class CELU(Module):
    """x where x > 0, else alpha * (exp(x / alpha) - 1). J. T. Barron, arXiv:1704.07483."""

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = alpha

    def forward(self, x: Any) -> Tensor:
        """The function of x, elementwise."""
        return ops.celu(x, self.alpha)

    def describe(self) -> str:
        """The scale of the negative side."""
        return f"alpha={self.alpha:g}"


class Hardshrink(Module):
    """x where |x| > lambd, else 0."""

    def __init__(self, lambd: float = 0.5) -> None:
        self.lambd = lambd

    def forward(self, x: Any) -> Tensor:
        """The function of x, elementwise."""
        return ops.hardshrink(x, self.lambd)

    def describe(self) -> str:
        """The bound."""
        return f"lambd={self.lambd:g}"


class Softshrink(Hardshrink):
    """x moved towards 0 by lambd, and 0 where |x| <= lambd."""

    def forward(self, x: Any) -> Tensor:
        """The function of x, elementwise."""
        return ops.softshrink(x, self.lambd)


class Tanhshrink(_Activation):
    """x - tanh(x)."""

    function = staticmethod(ops.tanhshrink)


class GLU(Module):
    """a * sigmoid(b) of the halves a and b of x along `dim`. Dauphin and others (2017), arXiv:1612.08083.

    >>> import dlc
    >>> from dlc import nn
    >>> nn.GLU()(dlc.input("x", ("N", 6))).shape
    (N, 3)
    """

    def __init__(self, dim: int = -1) -> None:
        self.dim = dim

    def forward(self, x: Any) -> Tensor:
        """x [..., 2 a, ...] -> [..., a, ...]."""
        return ops.glu(x, axis=self.dim)

    def describe(self) -> str:
        """The axis."""
        return f"dim={self.dim}"
