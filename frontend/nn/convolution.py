"""Convolutional layers, over one to three axes, and their transposes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dlc.errors import AttributeValueError, ShapeError
from dlc.frontend import initialisers
from dlc.frontend.nn.linear import known_size
from dlc.frontend.nn.module import Module, layer_name
from dlc.frontend.parameter import Parameter
from dlc.ops import conv1d, conv2d, conv3d, conv_transpose1d, conv_transpose2d, conv_transpose3d, reshape
from dlc.ops.convolution import ints
from dlc.ops.tensor import Tensor, wrap
from dlc.provenance import here

Ints = int | tuple[int, ...]
Padding = Ints | tuple[tuple[int, int], ...] | str


class _Convolution(Module):
    """The arguments that a convolution and its transpose share, the parameters and the bias."""

    rank = 0
    function: Callable[..., Tensor]
    filters_first = True  # whether the weight is [out, in / groups, ...] or [in, out / groups, ...]

    def _set_up(
        self, in_channels: int | None, out_channels: int, kernel_size: Ints, bias: bool, dtype: Any, **how: Any
    ) -> None:
        self.kernel_size = window_size(self, kernel_size, self.rank)
        self.groups: int = how.pop("groups")
        for name, value in how.items():
            setattr(self, name, value)
        for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            if channels is not None and (self.groups < 1 or channels % self.groups):
                raise AttributeValueError(
                    f"{type(self).__name__}: {name}={channels} is not a multiple of groups={self.groups}", where=here()
                )
        self.out_channels = out_channels
        self.weight = Parameter(self._weight_shape(in_channels), initialisers.he_normal, dtype)
        self.bias = Parameter((out_channels,), initialisers.zeros, dtype) if bias else None

    def _weight_shape(self, channels: int | None) -> tuple[int | None, ...]:
        if not self.filters_first:
            return (channels, self.out_channels // self.groups, *self.kernel_size)
        return (self.out_channels, None if channels is None else channels // self.groups, *self.kernel_size)

    def forward(self, x: Any) -> Tensor:
        """x [N, in, ...] -> [N, out, ...]. Raises `ShapeError` where the channels are not what the weight has."""
        x = wrap(x)
        if x.ndim != self.rank + 2:
            axes = ", ".join(("L", "H, W", "D, H, W")[self.rank - 1 : self.rank])
            raise ShapeError(f"{layer_name(self)} takes [N, channels, {axes}], not {x.type}", where=here())
        channels = known_size(self, x, 1, "channels in axis 1")
        if channels % self.groups:
            raise ShapeError(
                f"{layer_name(self)}: {channels} channels in {x.type} are not a multiple of groups={self.groups}",
                where=here(),
            )
        shape = tuple(d for d in self._weight_shape(channels) if d is not None)
        weight = self.weight.resolve(shape, f"{layer_name(self)}, given {x.type},")
        y = type(self).function(x, weight, groups=self.groups, **self._geometry())
        return y if self.bias is None else y + reshape(self.bias, (1, self.out_channels, *(1,) * self.rank))

    def _geometry(self) -> dict[str, Any]:
        names = ("stride", "padding", "output_padding", "dilation")
        return {name: getattr(self, name) for name in names if hasattr(self, name)}

    def describe(self) -> str:
        """The arguments that are not the defaults."""
        inner = self.weight.open_shape[1 if self.filters_first else 0]
        channels = inner * self.groups if inner is not None and self.filters_first else inner
        text = f"{'?' if channels is None else channels}, {self.out_channels}, kernel_size={self.kernel_size}"
        given = {**self._geometry(), "groups": self.groups}
        defaults = {"padding": 0, "output_padding": 0, "dilation": 1, "groups": 1}
        text += "".join(f", {n}={v!r}" for n, v in given.items() if n not in defaults or v != defaults[n])
        return text + ("" if self.bias is not None else ", bias=False")


class _Forward(_Convolution):
    def __init__(
        self,
        in_channels: int | None,
        out_channels: int,
        kernel_size: Ints,
        stride: Ints = 1,
        padding: Padding = 0,
        dilation: Ints = 1,
        groups: int = 1,
        bias: bool = True,
        dtype: Any = "float32",
    ) -> None:
        how = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        self._set_up(in_channels, out_channels, kernel_size, bias, dtype, **how)


class _Transposed(_Convolution):
    filters_first = False

    def __init__(
        self,
        in_channels: int | None,
        out_channels: int,
        kernel_size: Ints,
        stride: Ints = 1,
        padding: Padding = 0,
        output_padding: Ints = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Ints = 1,
        dtype: Any = "float32",
    ) -> None:
        how = {"stride": stride, "padding": padding, "output_padding": output_padding, "dilation": dilation}
        self._set_up(in_channels, out_channels, kernel_size, bias, dtype, groups=groups, **how)


class Conv1d(_Forward):
    """1-d convolution of rows: x [N, in, L] -> [N, out, L']; weight [out, in / groups, k], bias [out].

    As `Conv2d`; `padding` is an int, ((before, after),), "same", "full" or "valid".

    >>> import dlc
    >>> from dlc import nn
    >>> nn.Conv1d(None, 6, 5, padding="same")(dlc.input("x", ("N", 4, "L"))).shape
    (N, 6, L)
    """

    rank = 1
    function = staticmethod(conv1d)


class Conv2d(_Forward):
    """2-d convolution (cross-correlation, as usual): x [N, in, H, W] -> y [N, out, H', W'] with
    H' = (H + 2 padding - dilation (kernel - 1) - 1) // stride + 1; weight [out, in / groups, kh, kw], bias [out].

    `in_channels` None is told by the first input. `padding` is an int, a pair, two
    pairs (before, after), "same", "full" or "valid".
    The weight starts normal by He's rule, the bias at 0.

    >>> import dlc
    >>> from dlc import nn
    >>> nn.Conv2d(None, 6, 5, padding=2)(dlc.input("image", ("N", 1, 28, 28))).shape
    (N, 6, 28, 28)
    """

    rank = 2
    function = staticmethod(conv2d)


class Conv3d(_Forward):
    """3-d convolution of volumes: x [N, in, D, H, W] -> [N, out, D', H', W']; weight [out, in / groups, kd, kh, kw].

    As `Conv2d`.

    >>> import dlc
    >>> from dlc import nn
    >>> nn.Conv3d(3, 6, (2, 3, 3), padding=(0, 1, 1))(dlc.input("x", ("N", 3, 8, 16, 16))).shape
    (N, 6, 7, 16, 16)
    """

    rank = 3
    function = staticmethod(conv3d)


class ConvTranspose1d(_Transposed):
    """The transpose of a 1-d convolution: x [N, in, L] -> [N, out, L']; weight [in, out / groups, k], bias [out].

    As `ConvTranspose2d`.

    >>> import dlc
    >>> from dlc import nn
    >>> nn.ConvTranspose1d(None, 6, 4, stride=2, padding=1)(dlc.input("x", ("N", 4, 10))).shape
    (N, 6, 20)
    """

    rank = 1
    function = staticmethod(conv_transpose1d)


class ConvTranspose2d(_Transposed):
    """The transpose of a 2-d convolution: x [N, in, H, W] -> [N, out, H', W'] with
    H' = (H - 1) stride - 2 padding + dilation (kernel - 1) + output_padding + 1; weight [in, out / groups, kh, kw].

    `in_channels` None is told by the first input. `padding` may also be "same", which gives H' = H stride.
    The weight starts normal by He's rule, the bias [out] at 0.

    >>> import dlc
    >>> from dlc import nn
    >>> nn.ConvTranspose2d(16, 8, 2, stride=2)(dlc.input("x", ("N", 16, "H", 7))).shape
    (N, 8, 2*H, 14)
    """

    rank = 2
    function = staticmethod(conv_transpose2d)


class ConvTranspose3d(_Transposed):
    """The transpose of a 3-d convolution: x [N, in, D, H, W] -> [N, out, D', H', W']; weight [in, out / groups, ...].

    As `ConvTranspose2d`.

    >>> import dlc
    >>> from dlc import nn
    >>> nn.ConvTranspose3d(4, 2, 3, stride=2, padding=1, output_padding=1)(dlc.input("x", ("N", 4, 3, 5, 5))).shape
    (N, 2, 6, 10, 10)
    """

    rank = 3
    function = staticmethod(conv_transpose3d)


def window_size(layer: Module, size: Any, rank: int) -> tuple[int, ...]:
    """A kernel size, an int or one for each of `rank` axes, as ints of at least 1; raises `AttributeValueError`."""
    what = f"{type(layer).__name__}: kernel_size"
    try:
        sizes = ints(size, rank, what)
    except AttributeValueError as error:
        raise AttributeValueError(error.message, where=here()) from None
    if min(sizes) < 1:
        raise AttributeValueError(f"{what} is at least 1, not {size!r}", where=here())
    return sizes
