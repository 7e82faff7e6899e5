"""Networks from 1989 to today (tests/architectures): parameters counted, gradients checked, trained for two steps."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import numpy as np
import pytest

import dlc
from dlc import nn, optim
from dlc.testing import check_grad, random_inputs
from tests import architectures
from tests.architectures.registry import PUBLISHED, SMALL, Published, Small

for _module in iter_modules(architectures.__path__):
    import_module(f"tests.architectures.{_module.name}")

Array = np.ndarray[Any, Any]


def listed(network: Published | Small) -> Any:
    """A case of its name, among the slow ones where the network says so."""
    slow = [pytest.mark.slow] if isinstance(network, Small) and network.options.get("slow") else []
    return pytest.param(network, id=network.name, marks=slow)


@pytest.mark.parametrize("network", [listed(n) for n in PUBLISHED])
def test_parameters_are_as_many_as_published(network: Published) -> None:
    model, *inputs = network.build()
    dlc.trace(model, *inputs)
    assert model.num_parameters() == network.parameters


@pytest.mark.parametrize("network", [listed(n) for n in SMALL])
def test_gradients_and_two_steps(network: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradient is that of finite differences in float64; steps stay finite, move weights and lower the loss."""
    monkeypatch.setenv("DLC_CHECK", "0")  # the passes are checked elsewhere
    model, inputs, loss = network.build()
    model.initialise(0)
    rng = np.random.default_rng(0)
    move_from_kinks(model, rng)
    graph = dlc.graph(inputs, [loss])
    sizes = dict.fromkeys(graph.symbols, 2) | network.options.get("bindings", {})
    values = random_inputs(graph, sizes, rng)
    if network.options.get("exact", True):
        check_grad(graph, values, training=True, directions=2, step=1e-7, own_values=True, hold_stopped=True)

    before = {name: p.value.copy() for name, p in model.named_parameters()}
    step = dlc.train_step(model, inputs, loss, optim.SGD(network.options.get("lr", 1e-3)), backend="reference")
    first, second = step(*values), step(*values)
    assert np.isfinite([first, second]).all()
    if network.options.get("decreases", True):
        assert second < first
    moved = [not np.array_equal(p.value, before[name]) for name, p in model.named_parameters()]
    assert np.mean(moved) > 0.6  # a bias before a softmax or a normalisation has no gradient, nor has a dead unit


def move_from_kinks(model: nn.Module, rng: np.random.Generator) -> None:
    """Biases start at zero, which leaves whole maps of activations exactly at the kink of a ReLU."""
    for p in model.parameters():
        p.assign((p.value + 0.05 * rng.standard_normal(p.shape)).astype(p.value.dtype))
