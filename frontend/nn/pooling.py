"""Pooling layers."""

from __future__ import annotations

from typing import Any

from dlc.frontend.nn.convolution import Ints, Padding, window_size
from dlc.frontend.nn.module import Module
from dlc.ops import avg_pool2d, max_pool2d
from dlc.ops.tensor import Tensor, wrap


class _Pool2d(Module):
    def __init__(self, kernel_size: Ints, stride: Ints | None = None, padding: Padding = 0) -> None:
        self.kernel_size = window_size(self, kernel_size, 2)
        self.stride = self.kernel_size if stride is None else stride
        self.padding = padding

    def describe(self) -> str:
        """Kernel, stride and padding."""
        text = f"kernel_size={self.kernel_size}, stride={self.stride}"
        return text + (f", padding={self.padding}" if self.padding != 0 else "")


class MaxPool2d(_Pool2d):
    """The maximum over windows: x [N, C, H, W] -> [N, C, H', W'], H' = (H + 2 padding - kernel) // stride + 1.

    `stride` is the kernel size unless given. Padding counts as -infinity.

    >>> import dlc
    >>> from dlc import nn
    >>> nn.MaxPool2d(2)(dlc.input("x", ("N", 6, 28, 28))).shape
    (N, 6, 14, 14)
    """

    def forward(self, x: Any) -> Tensor:
        """x [N, C, H, W] -> [N, C, H', W']."""
        return max_pool2d(x, self.kernel_size, stride=self.stride, padding=self.padding)


class AvgPool2d(_Pool2d):
    """The mean over windows: x [N, C, H, W] -> [N, C, H', W'], H' = (H + 2 padding - kernel) // stride + 1.

    `stride` is the kernel size unless given. Padding counts as zeros, also in the divisor, as in torch.

    >>> import dlc
    >>> from dlc import nn
    >>> nn.AvgPool2d(2)(dlc.input("x", ("N", 6, 28, 28))).shape
    (N, 6, 14, 14)
    """

    def forward(self, x: Any) -> Tensor:
        """x [N, C, H, W] -> [N, C, H', W']."""
        return avg_pool2d(x, self.kernel_size, stride=self.stride, padding=self.padding)


class GlobalAvgPool2d(Module):
    """The mean over height and width: x [N, C, H, W] -> [N, C].

    >>> import dlc
    >>> from dlc import nn
    >>> nn.GlobalAvgPool2d()(dlc.input("x", ("N", 6, "H", "W"))).shape
    (N, 6)
    """

    def forward(self, x: Any) -> Tensor:
        """x [N, C, H, W] -> [N, C]."""
        return wrap(x).mean(axis=(2, 3))
