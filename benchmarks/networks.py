"""The networks whose training steps are measured, and their compiled steps in dlc."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

import dlc
from benchmarks.accuracy import lenet
from benchmarks.resnet import ResNet18
from dlc import nn, optim

LEARNING_RATE = 1e-4  # low, so that thousands of steps on one batch do not wear the gradients out

Array = np.ndarray[Any, Any]


class Network(NamedTuple):
    """A network and a batch for it. `kind` is what the peers know it by."""

    name: str
    kind: str
    build: Callable[[], nn.Module]
    sample: tuple[int, ...]
    classes: int
    batch: int

    def data(self) -> tuple[Array, Array]:
        """A batch of random samples and labels, the same each time."""
        rng = np.random.default_rng(0)
        x = rng.standard_normal((self.batch, *self.sample), dtype=np.float32)
        return x, rng.integers(0, self.classes, self.batch)


def mlp(*widths: int) -> nn.Module:
    """Linear layers with ReLU between them."""
    layers = [m for i, o in pairwise(widths) for m in (nn.Linear(i, o), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


NETWORKS = (
    Network("XOR 2-8-2, b4", "xor", lambda: mlp(2, 8, 2), (2,), 2, 4),
    Network("MLP 784-512-512-10, b128", "mlp", lambda: mlp(784, 512, 512, 10), (784,), 10, 128),
    Network("LeNet-5, b1", "lenet", lenet, (1, 28, 28), 10, 1),
    Network("LeNet-5, b64", "lenet", lenet, (1, 28, 28), 10, 64),
    Network("ResNet-18 (CIFAR), b32", "resnet", ResNet18, (3, 32, 32), 10, 32),
)


def training_step(network: Network, backend: str = "cpu") -> tuple[Any, nn.Module]:
    """(the compiled step, the model): forward, cross-entropy, backward and Adam."""
    model = network.build()
    x, y = dlc.input("x", ("N", *network.sample)), dlc.input("y", ("N",), "int64")
    loss = nn.functional.cross_entropy(model(x), y)
    adam = optim.Adam(LEARNING_RATE)
    return dlc.train_step(model, inputs=[x, y], loss=loss, optimizer=adam, backend=backend), model


def initial_weights(network: Network) -> dict[str, Array]:
    """What a model starts from, named as its parameters."""
    model = network.build()
    model(dlc.input("x", ("N", *network.sample)))
    model.initialise(0)
    return {name: value.copy() for name, value in model.state_dict().items()}
