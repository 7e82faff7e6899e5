"""Optimisers against their published formulas, written out in float64 NumPy."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import dlc
from dlc import optim
from dlc.errors import ArgumentError, AttributeValueError

Array = Any
Oracle = Callable[[Array, list[Array]], Iterator[Array]]
STEPS = 12


def gradients(shape: tuple[int, ...], seed: int = 0) -> list[Array]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape) * scale for scale in np.geomspace(1e-2, 10, STEPS)]


def run(optimizer: optim.Optimizer, start: Array, sequence: list[Array], backend: str = "reference") -> list[Array]:
    """The parameter after each step of an optimiser that is fed a sequence of gradients."""
    p = dlc.parameter(start, "p")
    g = dlc.input("g", start.shape, start.dtype)
    program = dlc.compile(dlc.graph([g], [], updates=optimizer.updates([p], [g])), backend)
    seen = []
    for value in sequence:
        program(value.astype(start.dtype))
        seen.append(p.value.copy())
    return seen


def sgd(lr: float, momentum: float = 0.0, nesterov: bool = False, decay: float = 0.0) -> Oracle:
    def steps(p: Array, sequence: list[Array]) -> Iterator[Array]:
        v = np.zeros_like(p)
        for g in sequence:
            g = g + decay * p
            v = momentum * v + g
            p = p - lr * (g + momentum * v if nesterov else v)
            yield p

    return steps


def adam(
    lr: float, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8, decay: float = 0.0, decoupled: bool = False
) -> Oracle:
    def steps(p: Array, sequence: list[Array]) -> Iterator[Array]:
        m = v = np.zeros_like(p)
        for t, g in enumerate(sequence, start=1):
            if decoupled:
                p = p * (1 - lr * decay)
            else:
                g = g + decay * p
            m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
            p = p - lr * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
            yield p

    return steps


def adagrad(lr: float, lr_decay: float = 0.0, decay: float = 0.0) -> Oracle:
    def steps(p: Array, sequence: list[Array]) -> Iterator[Array]:
        v = np.zeros_like(p)
        for t, g in enumerate(sequence):
            g = g + decay * p
            v = v + g * g
            p = p - lr / (1 + t * lr_decay) * g / (np.sqrt(v) + 1e-10)
            yield p

    return steps


def rmsprop(
    lr: float, alpha: float = 0.99, momentum: float = 0.0, centered: bool = False, decay: float = 0.0
) -> Oracle:
    def steps(p: Array, sequence: list[Array]) -> Iterator[Array]:
        v = m = b = np.zeros_like(p)
        for g in sequence:
            g = g + decay * p
            v, m = alpha * v + (1 - alpha) * g * g, alpha * m + (1 - alpha) * g
            b = momentum * b + g / (np.sqrt(v - m * m if centered else v) + 1e-8)
            p = p - lr * b
            yield p

    return steps


def adadelta(lr: float, rho: float = 0.9, decay: float = 0.0) -> Oracle:
    def steps(p: Array, sequence: list[Array]) -> Iterator[Array]:
        v = u = np.zeros_like(p)
        for g in sequence:
            g = g + decay * p
            v = rho * v + (1 - rho) * g * g
            d = np.sqrt(u + 1e-6) / np.sqrt(v + 1e-6) * g
            u = rho * u + (1 - rho) * d * d
            p = p - lr * d
            yield p

    return steps


CASES: dict[str, tuple[Callable[[], optim.Optimizer], Oracle]] = {
    "sgd": (lambda: optim.SGD(0.1), sgd(0.1)),
    "momentum": (lambda: optim.SGD(0.1, momentum=0.9), sgd(0.1, 0.9)),
    "nesterov": (lambda: optim.SGD(0.1, momentum=0.9, nesterov=True), sgd(0.1, 0.9, True)),
    "sgd with decay": (lambda: optim.SGD(0.1, momentum=0.5, weight_decay=0.2), sgd(0.1, 0.5, decay=0.2)),
    "adagrad": (lambda: optim.Adagrad(0.1), adagrad(0.1)),
    "adagrad, slowing": (lambda: optim.Adagrad(0.1, lr_decay=0.3, weight_decay=0.2), adagrad(0.1, 0.3, 0.2)),
    "rmsprop": (lambda: optim.RMSprop(weight_decay=0.2), rmsprop(1e-2, decay=0.2)),
    "rmsprop, centred": (
        lambda: optim.RMSprop(alpha=0.8, momentum=0.9, centered=True), rmsprop(1e-2, 0.8, 0.9, True),
    ),
    "adadelta": (lambda: optim.Adadelta(0.5, 0.8, weight_decay=0.2), adadelta(0.5, 0.8, 0.2)),
    "adam": (lambda: optim.Adam(1e-2), adam(1e-2)),
    "adam without memory": (lambda: optim.Adam(1e-2, betas=(0.0, 0.5)), adam(1e-2, 0.0, 0.5)),
    "adam with decay": (lambda: optim.Adam(1e-2, eps=1e-3, weight_decay=0.1), adam(1e-2, eps=1e-3, decay=0.1)),
    "adamw": (lambda: optim.AdamW(1e-2, weight_decay=0.1), adam(1e-2, decay=0.1, decoupled=True)),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES)
def test_optimiser_follows_its_formula(case: str, dtype: str) -> None:
    make, oracle = CASES[case]
    start = np.random.default_rng(1).standard_normal((3, 4))
    sequence = [g.astype(dtype).astype("float64") for g in gradients((3, 4))]
    found = run(make(), start.astype(dtype), sequence)
    expected = list(oracle(start.astype(dtype).astype("float64"), sequence))
    tolerance = 1e-5 if dtype == "float32" else 1e-10
    for got, want in zip(found, expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)


def test_adam_corrects_its_bias_exactly_in_float32() -> None:
    # at t = 1 the step is lr * sign(g), whatever the size of g; 1 - 0.999^1 taken in float32 would be off by 1e-5
    for scale in (1e-4, 1.0, 1e4):
        (p,) = run(optim.Adam(1.0, eps=0.0), np.zeros(3, "float32"), [np.array([1.0, -2.0, 3.0]) * scale])
        np.testing.assert_allclose(p, [-1, 1, -1], rtol=1e-6)


def test_clip_norm_scales_all_gradients_by_one_factor() -> None:
    sizes, limit = ((3,), (2, 2)), 1.5
    values = [np.random.default_rng(i).standard_normal(s).astype("float32") * 5 for i, s in enumerate(sizes)]
    parameters = [dlc.parameter(np.zeros(s, "float32"), f"p{i}") for i, s in enumerate(sizes)]
    inputs = [dlc.input(f"g{i}", s) for i, s in enumerate(sizes)]
    step = optim.SGD(1.0, clip_norm=limit)
    program = dlc.compile(dlc.graph(inputs, [], updates=step.updates(parameters, inputs)), "reference")
    program(*values)
    norm = np.sqrt(sum((v.astype("float64") ** 2).sum() for v in values))
    assert norm > limit
    for p, v in zip(parameters, values, strict=True):
        np.testing.assert_allclose(p.value, -v * limit / norm, rtol=1e-5)


def test_clip_norm_leaves_small_gradients_alone() -> None:
    (p,) = run(optim.SGD(1.0, clip_norm=100.0), np.zeros(2, "float32"), [np.array([3.0, 4.0])])
    np.testing.assert_array_equal(p, [-3, -4])


def test_learning_rate_is_assigned_without_another_program() -> None:
    optimizer = optim.SGD(0.5)
    p = dlc.parameter(np.zeros(1, "float32"), "p")
    g = dlc.input("g", (1,))
    program = dlc.compile(dlc.graph([g], [], updates=optimizer.updates([p], [g])), "reference")
    program([1.0])
    optimizer.lr = 0.25
    program([1.0])
    assert p.value[0] == -0.75
    assert optimizer.lr == 0.25
    assert optimizer.step == 2


def test_two_programs_share_the_slots_of_one_optimiser() -> None:
    optimizer = optim.SGD(1.0, momentum=0.5)
    p, g = dlc.parameter(np.zeros(1, "float32"), "p"), dlc.input("g", (1,))
    one, two = (dlc.compile(dlc.graph([g], [], updates=optimizer.updates([p], [g])), "reference") for _ in range(2))
    one([1.0])
    two([0.0])
    assert p.value[0] == -1.5
    assert list(optimizer.state_dict()) == ["lr", "step", "momentum.p"]


def test_state_goes_out_and_in_before_the_slots_exist() -> None:
    sequence, start = gradients((2,)), np.ones(2, "float32")
    optimizer = optim.Adam(0.1)
    whole = run(optimizer, start, sequence)
    first = optim.Adam(0.1)
    half = run(first, start, sequence[:5])
    second = optim.Adam(7.0)
    second.load_state_dict({name: value.copy() for name, value in first.state_dict().items()})
    rest = run(second, half[-1], sequence[5:])
    np.testing.assert_array_equal([*half, *rest], whole)
    assert second.lr == 0.1


def test_values_that_do_not_fit_are_listed_and_change_nothing() -> None:
    optimizer = optim.Adam(0.1)
    run(optimizer, np.ones(2, "float32"), gradients((2,)))
    before = {name: value.copy() for name, value in optimizer.state_dict().items()}
    bad = {**before, "m.p": np.zeros(3), "momentum.p": np.zeros(2)}
    del bad["lr"]
    with pytest.raises(ArgumentError, match=r"(?s)missing: lr.*mis-shaped: m\.p.*unexpected: momentum\.p"):
        optimizer.load_state_dict(bad)
    for name, value in optimizer.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_parameters_of_one_name_keep_slots_of_their_own() -> None:
    optimizer = optim.SGD(1.0, momentum=0.5)
    a, b, g = dlc.parameter([0.0], "p"), dlc.parameter([0.0], "p"), dlc.input("g", (1,))
    dlc.graph([g], [], updates=optimizer.updates([a, b], [g, g]))
    assert list(optimizer.named_states()) == ["lr", "step", "momentum.p", "momentum.p#2"]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: optim.SGD(-1.0), "SGD: lr .* at least 0"),
        (lambda: optim.SGD(float("nan")), "lr"),
        (lambda: optim.Adam(True), "lr"),
        (lambda: optim.Adam(1e-3, betas=(0.9, 1.0)), r"betas\[1\] .* below 1"),
        (lambda: optim.Adam(1e-3, betas=(0.9,)), "pair"),
        (lambda: optim.Adam(1e-3, clip_norm=0.0), "clip_norm .* above 0"),
        (lambda: optim.SGD(0.1, nesterov=True), "momentum"),
    ],
)
def test_settings_out_of_range_are_refused(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(AttributeValueError, match=words):
        make()


def test_parameters_and_gradients_must_match_in_number() -> None:
    with pytest.raises(ArgumentError, match="1 parameters but 0 gradients"):
        optim.SGD(0.1).updates([dlc.parameter([0.0], "p")], [])
