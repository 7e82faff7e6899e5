"""Dense layers."""

from __future__ import annotations

from typing import Any

from dlc.errors import ShapeError
from dlc.frontend import initialisers
from dlc.frontend.nn.module import Module, layer_name
from dlc.frontend.parameter import Parameter
from dlc.ops import permute_dims
from dlc.ops.tensor import Tensor, wrap
from dlc.provenance import here


class Linear(Module):
    """y = x W^T + b: x [..., in] -> y [..., out]; weight [out, in], bias [out].

    ``Linear(in, out)``, or ``Linear(out)`` with `in` told by the first input. The weight starts normal by He's rule,
    the bias at 0.

    >>> import dlc
    >>> from dlc import nn
    >>> nn.Linear(3)(dlc.input("x", ("N", 4)))
    <Tensor add f32[N,3]>
    """

    def __init__(self, *features: int, bias: bool = True, dtype: Any = "float32") -> None:
        if len(features) not in (1, 2):
            raise ShapeError(f"Linear takes (out) or (in, out), not {features}", where=here())
        inner, outer = (None, *features) if len(features) == 1 else features
        self.weight = Parameter((outer, inner), initialisers.he_normal, dtype)
        self.bias = Parameter((outer,), initialisers.zeros, dtype) if bias else None

    def forward(self, x: Any) -> Tensor:
        """x [..., in] -> [..., out]. Raises `ShapeError` where `in` is not what the weight has."""
        x = wrap(x)
        inner = known_size(self, x, -1, "features in the last axis")
        outer = self.weight.open_shape[0]
        assert outer is not None
        weight = self.weight.resolve((outer, inner), f"{layer_name(self)}, given {x.type},")
        y = x @ permute_dims(weight, (1, 0))
        return y if self.bias is None else y + self.bias

    def describe(self) -> str:
        """out and in."""
        outer, inner = self.weight.open_shape
        return f"{'?' if inner is None else inner}, {outer}{'' if self.bias is not None else ', bias=False'}"


def known_size(layer: Module, x: Tensor, axis: int, what: str) -> int:
    """The size of an axis that a layer's weights depend on. Raises `ShapeError` where it is missing or a named dim."""
    if x.ndim < -axis or x.ndim <= axis:
        raise ShapeError(f"{layer_name(layer)} takes a tensor with {what}, not {x.type}", where=here())
    size = x.shape[axis]
    if not isinstance(size, int):
        raise ShapeError(
            f"{layer_name(layer)} makes weights of the size of axis {axis}, but in {x.type} that is the named dim "
            f"{size}; give the input a plain number there",
            where=here(),
        )
    return size
