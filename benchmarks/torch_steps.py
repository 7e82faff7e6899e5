"""The training steps in PyTorch: eager or compiled, in either memory format, with either of its quick Adams."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.networks import LEARNING_RATE, Array, Network
from benchmarks.timing import Run


class BasicBlock(nn.Module):
    """As in `benchmarks.resnet`."""

    def __init__(self, channels: int, filters: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, filters, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(filters)
        self.conv2 = nn.Conv2d(filters, filters, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(filters)
        self.shortcut = None
        if stride != 1 or channels != filters:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, filters, 1, stride=stride, bias=False), nn.BatchNorm2d(filters)
            )

    def forward(self, x: Any) -> Any:
        """A block."""
        carried = x if self.shortcut is None else self.shortcut(x)
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.relu(self.bn2(self.conv2(x)) + carried, inplace=True)


class ResNet18(nn.Module):
    """As in `benchmarks.resnet`."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(64)
        widths = (64, 64, 64, 128, 128, 256, 256, 512, 512)
        self.blocks = nn.ModuleList([BasicBlock(i, o, 1 + (i != o)) for i, o in pairwise(widths)])
        self.head = nn.Linear(512, 10)

    def forward(self, x: Any) -> Any:
        """The logits of images."""
        x = F.relu(self.bn(self.conv(x)), inplace=True)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((2, 3)))


def _mlp(*widths: int) -> nn.Module:
    layers = [m for i, o in pairwise(widths) for m in (nn.Linear(i, o), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


def _lenet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip


MODELS = {
    "xor": lambda: _mlp(2, 8, 2),
    "mlp": lambda: _mlp(784, 512, 512, 10),
    "lenet": _lenet,
    "resnet": ResNet18,
}


def training_step(
    network: Network,
    weights: dict[str, Array],
    *,
    channels_last: bool = False,
    adam: str = "fused",
    compiled: bool = False,
    dtype: torch.dtype = torch.float32,
) -> Run:
    """A step from these weights; each call gives the loss before its update. `adam` is "fused" or "foreach"."""
    model = MODELS[network.kind]()
    model.load_state_dict({name: torch.from_numpy(v.copy()) for name, v in weights.items()}, strict=False)
    images, labels = network.data()
    model, x, y = model.to(dtype), torch.from_numpy(images).to(dtype), torch.from_numpy(labels)
    if channels_last:
        model, x = model.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE, **{adam: True})

    def loss_of(x: Any, y: Any) -> Any:
        return F.cross_entropy(model(x), y)

    forward = torch.compile(loss_of, dynamic=False) if compiled else loss_of

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = forward(x, y)
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step
