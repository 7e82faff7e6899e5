"""Padding layers, over one to three axes."""

from __future__ import annotations

from typing import Any

from dlc.errors import AttributeValueError, ShapeError
from dlc.frontend.nn.module import Module, layer_name
from dlc.ops import pad, pad_border
from dlc.ops.tensor import Tensor, wrap
from dlc.provenance import here


class _Pad(Module):
    """`padding` is an int, or (low, high) of the last axis, then of the one before it, and so on, as in torch."""

    rank = 0
    mode = "constant"
    value = 0.0

    def __init__(self, padding: int | tuple[int, ...]) -> None:
        self.padding = (padding,) * (2 * self.rank) if isinstance(padding, int) else tuple(padding)
        if len(self.padding) != 2 * self.rank or not all(isinstance(p, int) and p >= 0 for p in self.padding):
            raise AttributeValueError(
                f"{type(self).__name__}: padding is an int of at least 0, or {2 * self.rank} of them, not {padding!r}",
                where=here(),
            )

    def forward(self, x: Any) -> Tensor:
        """x [N, C, ...] -> [N, C, ...'], each axis longer by its two widths."""
        t = wrap(x)
        if t.ndim != self.rank + 2:
            raise ShapeError(f"{layer_name(self)} takes {self.rank + 2} axes, not {t.type}", where=here())
        pairs = list(zip(self.padding[::2], self.padding[1::2], strict=True))
        widths = [(0, 0), (0, 0), *reversed(pairs)]
        return pad(t, widths, value=self.value) if self.mode == "constant" else pad_border(t, widths, self.mode)

    def describe(self) -> str:
        """The widths."""
        return f"{self.padding}"


class _ConstantPad(_Pad):
    def __init__(self, padding: int | tuple[int, ...], value: float) -> None:
        _Pad.__init__(self, padding)
        self.value = value

    def describe(self) -> str:
        """The widths and the value."""
        return f"{self.padding}, value={self.value:g}"


class ZeroPad1d(_Pad):
    """x [N, C, L] with zeros around it. As `ZeroPad2d`."""

    rank = 1


class ZeroPad2d(_Pad):
    """x [N, C, H, W] with zeros around it.

    `padding` is an int, or (left, right, top, bottom).

    >>> import dlc
    >>> from dlc import nn
    >>> nn.ZeroPad2d((1, 2, 0, 1))(dlc.input("x", ("N", 3, 8, 8))).shape
    (N, 3, 9, 11)
    """

    rank = 2


class ZeroPad3d(_Pad):
    """x [N, C, D, H, W] with zeros around it. As `ZeroPad2d`."""

    rank = 3


class ConstantPad1d(_ConstantPad):
    """x [N, C, L] with a value around it. As `ConstantPad2d`."""

    rank = 1


class ConstantPad2d(_ConstantPad):
    """x [N, C, H, W] with a value around it.

    `padding` is an int, or (left, right, top, bottom).

    >>> import dlc
    >>> from dlc import nn
    >>> nn.ConstantPad2d((1, 2, 0, 1), 9.0)(dlc.input("x", ("N", 3, 8, 8))).shape
    (N, 3, 9, 11)
    """

    rank = 2


class ConstantPad3d(_ConstantPad):
    """x [N, C, D, H, W] with a value around it. As `ConstantPad2d`."""

    rank = 3


class ReflectionPad1d(_Pad):
    """x [N, C, L] with the elements mirrored at its ends around it. As `ReflectionPad2d`."""

    rank = 1
    mode = "reflect"


class ReflectionPad2d(_Pad):
    """x [N, C, H, W] with the elements mirrored at its ends around it.

    `padding` is an int, or (left, right, top, bottom).

    >>> import dlc
    >>> from dlc import nn
    >>> nn.ReflectionPad2d((1, 2, 0, 1))(dlc.input("x", ("N", 3, 8, 8))).shape
    (N, 3, 9, 11)
    """

    rank = 2
    mode = "reflect"


class ReflectionPad3d(_Pad):
    """x [N, C, D, H, W] with the elements mirrored at its ends around it. As `ReflectionPad2d`."""

    rank = 3
    mode = "reflect"


class ReplicationPad1d(_Pad):
    """x [N, C, L] with its end elements around it. As `ReplicationPad2d`."""

    rank = 1
    mode = "edge"


class ReplicationPad2d(_Pad):
    """x [N, C, H, W] with its end elements around it.

    `padding` is an int, or (left, right, top, bottom).

    >>> import dlc
    >>> from dlc import nn
    >>> nn.ReplicationPad2d((1, 2, 0, 1))(dlc.input("x", ("N", 3, 8, 8))).shape
    (N, 3, 9, 11)
    """

    rank = 2
    mode = "edge"


class ReplicationPad3d(_Pad):
    """x [N, C, D, H, W] with its end elements around it. As `ReplicationPad2d`."""

    rank = 3
    mode = "edge"


class CircularPad1d(_Pad):
    """x [N, C, L] with elements from the other end around it. As `CircularPad2d`."""

    rank = 1
    mode = "wrap"


class CircularPad2d(_Pad):
    """x [N, C, H, W] with elements from the other end around it.

    `padding` is an int, or (left, right, top, bottom).

    >>> import dlc
    >>> from dlc import nn
    >>> nn.CircularPad2d((1, 2, 0, 1))(dlc.input("x", ("N", 3, 8, 8))).shape
    (N, 3, 9, 11)
    """

    rank = 2
    mode = "wrap"


class CircularPad3d(_Pad):
    """x [N, C, D, H, W] with elements from the other end around it. As `CircularPad2d`."""

    rank = 3
    mode = "wrap"
