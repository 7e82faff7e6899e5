"""Networks from 1989 to today (tests/architectures): parameters counted, gradients checked, trained for two steps."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import numpy as np
import pytest

import dlc
from dlc import nn, optim
from dlc.testing import check_grad, random_inputs
from tests import architectures
from tests.architectures import energy, learning, transformers
from tests.architectures.classics import labels
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


def test_one_program_trains_both_players_of_a_game() -> None:
    """The game of a Wasserstein GAN; each player takes the step that it would take alone."""
    generator, critic = (nn.Sequential(nn.Linear(n, 6), nn.Tanh(), nn.Linear(6, m)) for n, m in ((2, 3), (3, 1)))
    real, codes = dlc.input("real", ("N", 3)), dlc.input("codes", ("N", 2))
    made = critic(generator(codes)).mean()
    losses = [-made, made - critic(real).mean()]
    players, optimizers = (generator, critic), [optim.RMSprop(1e-3), optim.RMSprop(5e-3)]
    for model in players:
        model.initialise(0)
    before = [{n: v.copy() for n, v in m.state_dict().items()} for m in players]
    program = dlc.compile(learning.adversarial_step(*players, real, codes, losses, optimizers), "reference")
    arrays = [np.random.default_rng(0).standard_normal((4, n)).astype(np.float32) for n in (3, 2)]
    program(*arrays)
    after = [{n: v.copy() for n, v in m.state_dict().items()} for m in players]
    for model, loss, lr, was, new in zip(players, losses, (1e-3, 5e-3), before, after, strict=True):
        for other, values in zip(players, before, strict=True):
            other.load_state_dict(values)
        step = dlc.train_step(model, [real, codes], loss, optim.RMSprop(lr), backend="reference")
        step(*arrays)
        for name, value in model.state_dict().items():
            np.testing.assert_array_equal(value, new[name])
            assert name.endswith("2.bias") or not np.array_equal(value, was[name])


def test_a_step_keeps_a_moving_average_of_the_weights() -> None:
    model, x = nn.Linear(2, 1), dlc.input("x", ("N", 2))
    model.initialise(0)
    loss = dlc.square(model(x) - 1).mean()
    graph, averages = learning.averaged_step(model, [x], loss, optim.SGD(0.1), decay=0.5)
    program, expected = dlc.compile(graph, "reference"), model.weight.value.copy()
    for _ in range(3):
        program(np.ones((2, 2), np.float32))
        expected = 0.5 * expected + 0.5 * model.weight.value
    np.testing.assert_allclose(averages[0].value, expected, rtol=1e-6)


def test_gradients_of_samples_and_at_the_worst_place_nearby() -> None:
    model, x, y = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), dlc.input("x", ("N", 3)), labels()
    model.initialise(0)

    def loss_of(weights: Any) -> Any:
        return nn.functional.cross_entropy(nn.functional_call(model, weights, x), y)

    plain = dlc.grad(loss_of({}), model.parameters())
    each, worst = learning.sample_gradients(model, x, y), learning.sharpness_aware(model, loss_of, radius=0.3)
    program = dlc.compile(dlc.graph([x, y], [*plain, *each, *worst]), "reference")
    arrays = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32), np.arange(5) % 2
    gradients, samples, nearby = (program(*arrays)[4 * i : 4 * i + 4] for i in range(3))
    length = np.sqrt(sum((g**2).sum() for g in gradients))
    for p, g, s in zip(model.parameters(), gradients, samples, strict=True):
        np.testing.assert_allclose(s.mean(0), g, rtol=1e-5, atol=1e-6)
        p.assign(p.value + 0.3 * g / length)
    for found, wanted in zip(nearby, program(*arrays)[:4], strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)


def test_the_slope_of_a_spike_is_that_of_the_surrogate() -> None:
    x = dlc.constant(np.array([-0.5, 0.2, 3.0], np.float32))
    value, slope = dlc.evaluate(energy.spike(x), dlc.grad(energy.spike(x).sum(), x))
    np.testing.assert_array_equal(value, [0, 1, 1])
    np.testing.assert_allclose(slope, 1 / (1 + 10 * np.abs([-0.5, 0.2, 3.0])) ** 2, rtol=1e-6)


def test_a_hopfield_network_recalls_a_pattern() -> None:
    patterns = np.sign(np.random.default_rng(0).standard_normal((2, 40))).astype(np.float32)
    spoilt = patterns[0] * np.where(np.arange(40) % 8 == 0, -1, 1)
    np.testing.assert_array_equal(dlc.evaluate(energy.hopfield_recall(dlc.constant(patterns), spoilt)), patterns[0])


def test_a_language_model_writes_on() -> None:
    """Each word is the likeliest after those before it, whatever stood in its place."""
    model, words = transformers.GPT2(7, 8, 8, 2, 1), dlc.input("words", ("N", 8), "int64")
    model.initialise(3)
    program = dlc.compile(dlc.graph([words], [transformers.continued(model, words, 2), model(words)]), "reference")
    written, _ = program(np.full((2, 8), 5))
    again, logits = program(written)
    np.testing.assert_array_equal(written, again)
    np.testing.assert_array_equal(written[:, 2:], logits[:, 1:-1].argmax(-1))


def test_mixed_precision_follows_single_precision() -> None:
    x, y = dlc.input("x", ("N", 8)), dlc.input("y", ("N",), "int64")
    found = {}
    for dtype in ("float32", "bfloat16"):
        model = nn.Sequential(nn.Linear(8, 16, dtype=dtype), nn.Tanh(), nn.Linear(16, 3, dtype=dtype))
        model.initialise(0)
        loss = nn.functional.cross_entropy(model(x.astype(dtype)).astype("float32"), y)
        program = dlc.compile(dlc.graph([x, y], [loss, *dlc.grad(loss, model.parameters())]), "reference")
        rng = np.random.default_rng(0)
        results = program(rng.standard_normal((5, 8)).astype(np.float32), rng.integers(0, 3, 5))
        found[dtype] = [np.asarray(r, np.float64) for r in results]
    for wide, half in zip(found["float32"], found["bfloat16"], strict=True):
        assert np.linalg.norm(wide - half) < 0.02 * np.linalg.norm(wide)  # 8 bits, rounded a few times in a row


@pytest.mark.slow
def test_native_code_agrees_with_the_interpreter() -> None:
    """One training step of Llama with experts: loss and weights."""
    found = []
    for backend in ("reference", "cpu"):
        model, inputs, loss = next(n for n in SMALL if n.name == "Llama, with experts").build()
        step = dlc.train_step(model, inputs, loss, optim.SGD(1e-2), backend=backend)
        graph = dlc.graph(inputs, [loss])
        values = random_inputs(graph, dict.fromkeys(graph.symbols, 2), np.random.default_rng(0))
        found.append([step(*values), *(p.value.copy() for p in model.parameters())])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)


def test_the_page_of_networks_lists_them_all() -> None:
    page = (Path(__file__).parents[1] / "docs" / "networks.md").read_text()
    rows = {row.split("]", 1)[0][3:]: row.split("|")[2:4] for row in page.splitlines() if row.startswith("| [")}
    names = {kind: [[n.strip() for n in cell.split(";") if n.strip()] for cell in row] for kind, row in rows.items()}
    found: dict[str, list[list[str]]] = {}
    for network in [*PUBLISHED, *SMALL]:
        columns = found.setdefault(network.build.__module__.rpartition(".")[2], [[], []])
        counted = isinstance(network, Published)
        columns[not counted].append(f"{network.name}: {network.parameters:,}" if counted else network.name)
    assert {k: list(map(sorted, v)) for k, v in names.items()} == {k: list(map(sorted, v)) for k, v in found.items()}
