"""Convolutional layers."""

from __future__ import annotations

from typing import Any

from dlc.errors import AttributeValueError, ShapeError
from dlc.frontend import initialisers
from dlc.frontend.nn.linear import known_size
from dlc.frontend.nn.module import Module, layer_name
from dlc.frontend.parameter import Parameter
from dlc.ops import conv2d, reshape
from dlc.ops.convolution import pair
from dlc.ops.tensor import Tensor, wrap
from dlc.provenance import here

Pair = int | tuple[int, int]
Padding = Pair | tuple[tuple[int, int], tuple[int, int]] | str


class Conv2d(Module):
    """2-d convolution (cross-correlation, as usual): x [N, in, H, W] -> y [N, out, H', W'] with
    H' = (H + 2 padding - dilation (kernel - 1) - 1) // stride + 1; weight [out, in / groups, kh, kw], bias [out].

    `in_channels` None is told by the first input. `padding` is an int, a pair, two
    pairs (before, after), "same" or "valid".
    The weight starts normal by He's rule, the bias at 0.

    >>> import dlc
    >>> from dlc import nn
    >>> nn.Conv2d(None, 6, 5, padding=2)(dlc.input("image", ("N", 1, 28, 28))).shape
    (N, 6, 28, 28)
    """

    def __init__(
        self,
        in_channels: int | None,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Padding = 0,
        dilation: Pair = 1,
        groups: int = 1,
        bias: bool = True,
        dtype: Any = "float32",
    ) -> None:
        self.kernel_size = window_size(self, kernel_size)
        self.stride = stride
        self.dilation = dilation
        self.padding = padding
        self.groups = groups
        for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            if channels is not None and (groups < 1 or channels % groups):
                raise AttributeValueError(
                    f"Conv2d: {name}={channels} is not a multiple of groups={groups}", where=here()
                )
        inner = None if in_channels is None else in_channels // groups
        self.weight = Parameter((out_channels, inner, *self.kernel_size), initialisers.he_normal, dtype)
        self.bias = Parameter((out_channels,), initialisers.zeros, dtype) if bias else None

    def forward(self, x: Any) -> Tensor:
        """x [N, in, H, W] -> [N, out, H', W']. Raises `ShapeError` where the channels are not what the weight has."""
        x = wrap(x)
        if x.ndim != 4:
            raise ShapeError(f"{layer_name(self)} takes [N, channels, H, W], not {x.type}", where=here())
        channels = known_size(self, x, 1, "channels in axis 1")
        if channels % self.groups:
            raise ShapeError(
                f"{layer_name(self)}: {channels} channels in {x.type} are not a multiple of groups={self.groups}",
                where=here(),
            )
        outer = self.weight.open_shape[0]
        assert outer is not None
        shape = (outer, channels // self.groups, *self.kernel_size)
        weight = self.weight.resolve(shape, f"{layer_name(self)}, given {x.type},")
        y = conv2d(x, weight, stride=self.stride, padding=self.padding, dilation=self.dilation, groups=self.groups)
        return y if self.bias is None else y + reshape(self.bias, (1, outer, 1, 1))

    def describe(self) -> str:
        """The arguments that are not the defaults."""
        outer, inner, *_ = self.weight.open_shape
        text = f"{'?' if inner is None else inner * self.groups}, {outer}"
        text += f", kernel_size={self.kernel_size}, stride={self.stride}"
        given = (("padding", self.padding, 0), ("dilation", self.dilation, 1), ("groups", self.groups, 1))
        text += "".join(f", {name}={value!r}" for name, value, default in given if value != default)
        return text + ("" if self.bias is not None else ", bias=False")


def window_size(layer: Module, size: Any) -> tuple[int, int]:
    """A kernel size, an int or two, as two ints of at least 1; raises `AttributeValueError`."""
    what = f"{type(layer).__name__}: kernel_size"
    try:
        rows, columns = pair(size, what)
    except AttributeValueError as error:
        raise AttributeValueError(error.message, where=here()) from None
    if rows < 1 or columns < 1:
        raise AttributeValueError(f"{what} is at least 1, not {size!r}", where=here())
    return rows, columns
