"""Fusion does not change a bit: an op rounds its result alone or fused, and the tree of a sum is fixed by its shape.

Without the pass `fuse` every op is a kernel of its own; with it, softmax, norms, losses and updates are a few kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import dlc
from dlc import nn, optim
from dlc.passes import PIPELINE

UNFUSED = PIPELINE.without("fuse")
Build = Callable[[], tuple[Any, list[Any], Any, list[np.ndarray[Any, Any]]]]  # model, inputs, loss, arguments


def lenet() -> tuple[Any, list[Any], Any, list[np.ndarray[Any, Any]]]:
    model = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(120), nn.ReLU(), nn.Linear(84), nn.ReLU(), nn.Linear(10),
    )  # fmt: skip
    return classifier(model, (1, 28, 28), 10, 64)


def normalised() -> tuple[Any, list[Any], Any, list[np.ndarray[Any, Any]]]:
    model = nn.Sequential(
        nn.Conv2d(3, 12, 3, padding=1), nn.BatchNorm2d(12), nn.SiLU(), nn.AvgPool2d(2), nn.Flatten(),
        nn.Linear(100), nn.LayerNorm(100), nn.Tanh(), nn.Linear(37),
    )  # fmt: skip
    return classifier(model, (3, 10, 10), 37, 50)


def perceptron() -> tuple[Any, list[Any], Any, list[np.ndarray[Any, Any]]]:
    return classifier(nn.Sequential(nn.Linear(3), nn.Sigmoid(), nn.Linear(2)), (5,), 2, 3)


def classifier(model: Any, shape: tuple[int, ...], classes: int, batch: int) -> Any:
    x, y = dlc.input("x", ("N", *shape)), dlc.input("y", ("N",), "int64")
    draw = np.random.default_rng(1)
    arrays = [draw.standard_normal((batch, *shape)).astype("float32"), draw.integers(0, classes, batch)]
    return model, [x, y], nn.functional.cross_entropy(model(x), y), arrays


def trained(build: Build, pipeline: Any, optimizer: Any, steps: int) -> tuple[dict[str, bytes], int]:
    """The bits of all weights and of the last loss after some steps, and the number of the step's kernels."""
    model, inputs, loss, arrays = build()
    step = dlc.train_step(model, inputs, loss, optimizer, pipeline=pipeline)
    for _ in range(steps):
        last = step(*arrays)
    found = {name: np.asarray(a).tobytes() for name, a in model.state_dict().items()}
    return {**found, "loss": np.asarray(last).tobytes()}, len(step.program.plan.steps)


@pytest.mark.parametrize(
    ("build", "optimizer", "steps"),
    [
        pytest.param(lenet, lambda: optim.Adam(1e-3), 50, id="lenet", marks=pytest.mark.slow),
        pytest.param(normalised, lambda: optim.SGD(0.01, momentum=0.9), 10, id="norms"),
        pytest.param(perceptron, lambda: optim.AdamW(1e-2), 20, id="perceptron"),
    ],
)
def test_training_has_the_same_bits_fused_and_unfused(build: Build, optimizer: Any, steps: int) -> None:
    fused, few = trained(build, None, optimizer(), steps)
    unfused, many = trained(build, UNFUSED, optimizer(), steps)
    assert few < many
    assert [name for name in fused if fused[name] != unfused[name]] == []


X = dlc.input("x", ("N", 300))
ROWS = {
    "softmax": lambda x: nn.functional.softmax(x, axis=1),
    "log_softmax": lambda x: nn.functional.log_softmax(x, axis=1),
    "softmax of columns": lambda x: nn.functional.softmax(x, axis=0),
    "standardised": lambda x: (x - dlc.mean(x, axis=1, keepdims=True)) / (dlc.std(x, axis=1, keepdims=True) + 1e-5),
    "of everything": lambda x: dlc.sum(x * x * 3 + 1) + dlc.mean(dlc.exp(x)),
    "columns": lambda x: dlc.sum(x * x, axis=0) - dlc.mean(dlc.tanh(x), axis=0),
    "multiply and add": lambda x: x * x + x * 3 - (x + 1) * (x - 1),
    "epilogue": lambda x: dlc.relu((x @ dlc.constant(np.eye(300, 40, dtype="float32"))) * 1.5 + 0.3),
}


@pytest.mark.parametrize("width", [1, 7, 31, 33, 100, 300, 4096, 5000])
def test_sums_of_any_length(width: int) -> None:
    value = np.random.default_rng(width).standard_normal((9, width)).astype("float32")
    for shape in (("N", width), ("N", "M")):
        x = dlc.input("x", shape)
        outputs = [dlc.sum(dlc.exp(x) * x, axis=1), dlc.sum(dlc.exp(x) * x), dlc.sum(dlc.exp(x) * x, axis=0)]
        assert_same(dlc.graph([x], outputs), value)


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("gradient", [False, True], ids=["forward", "gradient"])
def test_results_have_the_same_bits_fused_and_unfused(name: str, gradient: bool) -> None:
    result = ROWS[name](X)
    if gradient:
        result = dlc.grad(dlc.sum(result * result), [X])[0]
    assert_same(dlc.graph([X], [result]), np.random.default_rng(5).standard_normal((77, 300)).astype("float32"))


def assert_same(graph: Any, value: np.ndarray[Any, Any]) -> None:
    fused, unfused = (dlc.compile(graph, pipeline=p)(value) for p in (None, UNFUSED))
    for a, b in zip(fused, unfused, strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert a.tobytes() == b.tobytes(), np.abs(a.astype("float64") - b).max()
