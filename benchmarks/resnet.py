"""ResNet-18 for images of 32x32 pixels: the stem is one 3x3 convolution of stride 1, and nothing is pooled after it.

He, Zhang, Ren and Sun (2016), arXiv:1512.03385; the basic blocks of table 1, with 1x1 convolutions where a shape
changes.
"""

from __future__ import annotations

from dlc import nn, relu
from dlc.ops import Tensor


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around which the input is carried."""

    def __init__(self, channels: int, filters: int, stride: int) -> None:
        self.conv1 = nn.Conv2d(channels, filters, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(filters)
        self.conv2 = nn.Conv2d(filters, filters, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(filters)
        self.shortcut = None
        if stride != 1 or channels != filters:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, filters, 1, stride=stride, bias=False), nn.BatchNorm2d(filters)
            )

    def forward(self, x: Tensor) -> Tensor:
        """x [N, channels, H, W] -> [N, filters, H / stride, W / stride]."""
        carried = x if self.shortcut is None else self.shortcut(x)
        x = relu(self.bn1(self.conv1(x)))
        return relu(self.bn2(self.conv2(x)) + carried)


class ResNet18(nn.Module):
    """Images x [N, 3, H, W] -> logits [N, classes]."""

    def __init__(self, classes: int = 10) -> None:
        self.conv = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(64)
        self.blocks = [
            BasicBlock(64, 64, 1), BasicBlock(64, 64, 1),
            BasicBlock(64, 128, 2), BasicBlock(128, 128, 1),
            BasicBlock(128, 256, 2), BasicBlock(256, 256, 1),
            BasicBlock(256, 512, 2), BasicBlock(512, 512, 1),
        ]  # fmt: skip
        self.head = nn.Linear(512, classes)

    def forward(self, x: Tensor) -> Tensor:
        """The logits of images."""
        x = relu(self.bn(self.conv(x)))
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(axis=(2, 3)))
