"""Recurrent layers and cells against float64 loops over single sequences, and against numbers that torch gave."""

from typing import Any

import numpy as np
import pytest
from native import emitted
from runnable import BACKENDS

import dlc
from dlc import nn
from dlc.backends.plan import make_plan
from dlc.errors import AttributeValueError, DTypeError, ShapeError
from dlc.testing import check_grad

RNG = np.random.default_rng(7)
KINDS = ["RNN", "LSTM", "GRU"]


def sigmoid(v: Any) -> Any:
    return 1 / (1 + np.exp(-v))


def by_hand(kind: str, x: Any, state: Any, w_ih: Any, w_hh: Any, b_ih: Any, b_hh: Any) -> Any:
    """One step for one sequence: x [in], state a list of [hidden]."""
    a, b, h = w_ih @ x + b_ih, w_hh @ state[0] + b_hh, state[0]
    if kind == "RNN":
        return [np.tanh(a + b)]
    if kind == "LSTM":
        i, f, g, o = np.split(a + b, 4)
        c = sigmoid(f) * state[1] + sigmoid(i) * np.tanh(g)
        return [sigmoid(o) * np.tanh(c), c]
    (ar, az, an), (br, bz, bn) = np.split(a, 3), np.split(b, 3)
    z = sigmoid(az + bz)
    return [(1 - z) * np.tanh(an + sigmoid(ar + br) * bn) + z * h]


def layers_by_hand(kind: str, w: Any, x: Any, start: Any, layers: int, directions: int, hidden: int) -> Any:
    """One sequence x [T, in] through all layers; `start` [parts][layers * directions, hidden]."""
    last = []
    for layer in range(layers):
        sides = []
        for d in range(directions):
            end = f"l{layer}" + ("_reverse" if d else "")
            weights = [w[f"{n}_{end}"] for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
            state, y = [s[len(last)] for s in start], np.zeros((len(x), hidden))
            for t in reversed(range(len(x))) if d else range(len(x)):
                state = by_hand(kind, x[t], state, *weights)
                y[t] = state[0]
            sides.append(y)
            last.append(state)
        x = np.concatenate(sides, 1)
    return x, [np.stack(parts) for parts in zip(*last, strict=True)]


FORMS = [("reference", 1, False, False), ("reference", 1, True, True), *((b, 2, True, False) for b in BACKENDS)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend, layers, bidirectional, batch_first", FORMS)
def test_layers_agree_with_loops(kind: str, backend: str, layers: int, bidirectional: bool, batch_first: bool) -> None:
    hidden, directions, steps = 3, 1 + bidirectional, 5
    layer = getattr(nn, kind)(2, hidden, layers, bidirectional=bidirectional, batch_first=batch_first, dtype="float64")
    count, parts = layers * directions, 2 if kind == "LSTM" else 1
    lengths = np.array([5, 2, 0, 4, 3])  # five, since four is layers * directions
    x = RNG.standard_normal((5, steps, 2))
    start = [RNG.standard_normal((count, 5, hidden)) for _ in range(parts)]
    shape = (5, hidden) if count == 1 else (count, 5, hidden)
    xs = dlc.input("x", ("N", "T", 2) if batch_first else ("T", "N", 2), "float64")
    states = [dlc.input(f"s{i}", tuple("N" if d == 5 else d for d in shape), "float64") for i in range(parts)]
    ends = dlc.input("lengths", ("N",), "int64")
    y, last = layer(xs, tuple(states) if parts == 2 else states[0], ends)
    inputs, outputs = [xs, *states, ends], [y, *(last if parts == 2 else [last])]
    given = x if batch_first else x.swapaxes(0, 1)
    got = dlc.compile(dlc.graph(inputs, outputs), backend)(given, *(s.reshape(shape) for s in start), lengths)
    got_y = got[0] if batch_first else got[0].swapaxes(0, 1)
    for n, length in enumerate(lengths):
        want_y, want_last = layers_by_hand(
            kind, layer.state_dict(), x[n, :length], [s[:, n] for s in start], layers, directions, hidden
        )
        np.testing.assert_allclose(got_y[n, :length], want_y, rtol=1e-12, atol=1e-14)
        np.testing.assert_array_equal(got_y[n, length:], 0)
        for g, s in zip(got[1:], want_last, strict=True):
            np.testing.assert_allclose(g.reshape(count, 5, hidden)[:, n], s, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", KINDS)
def test_without_lengths_is_with_full_lengths(kind: str) -> None:
    layer = getattr(nn, kind)(2, 3, bidirectional=True, bias=False, dtype="float64")
    x = dlc.input("x", (4, 2, 2), "float64")
    program = dlc.compile(dlc.graph([x], [layer(x)[0], layer(x, lengths=np.array([4, 4]))[0]]), "reference")
    plain, full = program(RNG.standard_normal((4, 2, 2)))
    np.testing.assert_array_equal(plain, full)


# torch 2.13, float64: two layers, both directions, 2 -> 2; the parameters in order are sin(0), sin(1), ...; x [3, 2, 2]
# is cos(0), cos(1), ...; packed with lengths 3 and 2. Here: y of the last step and of the first step of the second
# sequence, then the last states of the second sequence.
TORCH: dict[str, Any] = {
    "RNN": (
        [-0.904186688975, 0.228043869534, 0.763378979703, -0.728029810962],
        [-0.870669514014, 0.88885122359, 0.877558362636, -0.924034728266],
        [
            [0.972090712315, -0.032498592931],
            [-0.310603318047, -0.8828285474],
            [0.152767134069, -0.832788387056],
            [0.877558362636, -0.924034728266],
        ],
    ),
    "LSTM": (
        [-0.215536779608, -0.702236956599, -0.348748392199, 0.180259331296],
        [-0.225861890426, -0.451871034391, -0.344909255838, 0.123390085386],
        [
            [0.252395712377, -0.512954783452],
            [-0.089172792444, -0.110700396777],
            [-0.200853273066, -0.580001574457],
            [-0.344909255838, 0.123390085386],
        ],
    ),
    "GRU": (
        [-0.500337608878, -0.412760392378, 0.036888491185, -0.071475539996],
        [-0.225327201244, -0.13514865734, 0.272682772034, -0.13972227506],
        [
            [0.497371704391, -0.022925879016],
            [0.44329727817, 0.624596714048],
            [-0.346147899178, -0.28802176881],
            [0.272682772034, -0.13972227506],
        ],
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_of_torch(kind: str) -> None:
    layer = getattr(nn, kind)(2, 2, 2, bidirectional=True, dtype="float64")
    first = 0
    for _, p in layer.named_parameters():
        p.assign(np.sin(np.arange(first, first + p.value.size)).reshape(p.shape))
        first += p.value.size
    y, last = layer(dlc.constant(np.cos(np.arange(12.0)).reshape(3, 2, 2)), lengths=np.array([3, 2]))
    got_y, got_h = dlc.evaluate(y, last[0] if kind == "LSTM" else last)
    end, begin, states = TORCH[kind]
    np.testing.assert_allclose(got_y[2, 0], end, atol=2e-12)
    np.testing.assert_array_equal(got_y[2, 1], 0)
    np.testing.assert_allclose(got_y[0, 1], begin, atol=2e-12)
    np.testing.assert_allclose(got_h[:, 1], states, atol=2e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_a_cell_is_one_step_of_the_layer(kind: str) -> None:
    layer, cell = getattr(nn, kind)(2, 3, dtype="float64"), getattr(nn, kind + "Cell")(2, 3, dtype="float64")
    cell.load_state_dict({name.removesuffix("_l0"): value for name, value in layer.state_dict().items()})
    x = dlc.constant(RNG.standard_normal((2, 4, 2)))
    _, last = layer(x)
    state: Any = None
    for t in range(2):
        state = cell(x[t], state)
    pairs = zip(last, state, strict=True) if kind == "LSTM" else [(last, state)]
    for a, b in pairs:
        want, got = dlc.evaluate(a, b)
        np.testing.assert_allclose(got, want, rtol=1e-13, atol=1e-15)
    assert list(cell.state_dict()) == ["weight_ih", "weight_hh", "bias_ih", "bias_hh"]


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_with_lengths(kind: str) -> None:
    layer = getattr(nn, kind)(2, 2, bidirectional=True, dtype="float64")
    x = dlc.input("x", (3, 2, 2), "float64")
    y, last = layer(x, lengths=np.array([3, 1]))
    parts = last if kind == "LSTM" else [last]
    loss = (y * y).sum()
    for p in parts:
        loss = loss + dlc.sin(p).sum()
    check_grad(dlc.graph([x], [loss]), [RNG.standard_normal((3, 2, 2))])


DEEP = {"num_layers": 2, "bidirectional": True, "batch_first": True}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("batch", "sizes", "how"), [(1, (8, 16), {}), (2, (2, 3), {}), (2, (8, 16), DEEP), (64, (2, 3), {})]
)
def test_steps_cost_no_kernels(kind: str, batch: int, sizes: tuple[int, int], how: dict[str, Any]) -> None:
    """A loop of 2,000 steps compiles no more kernels than one of 20, forward and backward, with lengths and without."""

    def kernels(steps: int) -> int:
        layer, n = getattr(nn, kind)(*sizes, **how), dlc.input("n", (batch,), "int64")
        x = dlc.input("x", (batch, steps, sizes[0]) if how else (steps, batch, sizes[0]))
        y, _ = layer(x, lengths=n if how else None)
        graph = dlc.graph([x, n], [y, *dlc.grad((y * y).sum(), [x, *layer.parameters()])])
        plan = make_plan(dlc.compile(graph, "reference", check=False).final, emitted)
        return len({call.code.source for call in plan.kernels})

    assert kernels(2000) <= kernels(20)


def test_dropout_lies_between_layers_in_training_alone() -> None:
    layer, x = nn.GRU(2, 8, 2, dropout=0.5), dlc.input("x", (3, 2, 2))
    graph, data = dlc.trace(layer, x), np.ones((3, 2, 2), np.float32)
    tested, again, trained = (
        dlc.compile(graph, "reference", training=t)(data)[1] for t in (False, False, True)
    )
    np.testing.assert_array_equal(tested, again)
    np.testing.assert_array_equal(tested[0], trained[0])  # nothing is dropped before the first layer
    assert (tested[1] != trained[1]).any()


def test_parameters_are_named_and_shaped_as_in_torch() -> None:
    layer = nn.LSTM(5, 3, 2, bidirectional=True)
    ends = ("l0", "l0_reverse", "l1", "l1_reverse")
    parts = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    assert list(layer.state_dict()) == [f"{part}_{end}" for end in ends for part in parts]
    assert layer.state_dict()["weight_ih_l1_reverse"].shape == (12, 6)


@pytest.mark.parametrize(
    "wrong, error, words",
    [
        (lambda: nn.GRU(2, 3, 0), AttributeValueError, "num_layers is at least 1, not 0"),
        (lambda: nn.RNN(2, 3, dropout=1.5), AttributeValueError, "dropout is a probability, not 1.5"),
        (lambda: nn.RNN(2, 3, nonlinearity="sin"), AttributeValueError, "'tanh' or 'relu', not 'sin'"),
        (lambda: nn.GRUCell(2, 3)(dlc.input("x", (2,))), ShapeError, r"GRUCell takes \[N, in\]"),
        (lambda: nn.GRU(2, 3)(dlc.input("x", (4, 2))), ShapeError, r"GRU takes \[T, N, in\]"),
        (lambda: nn.GRU(2, 3)(dlc.input("x", (4, 1, 2)), lengths=[1.5]), DTypeError, "lengths are integers"),
        (lambda: nn.GRU(2, 3)(dlc.input("x", (4, 1, 2)), lengths=np.array([1, 2])), ShapeError, "one a sequence"),
        (
            lambda: nn.GRU(2, 3, 2)(dlc.input("x", (4, 1, 2)), dlc.input("h", (1, 3))),
            ShapeError,
            r"state h is f32\[1,3\], but the input needs \[2, 1, 3\]",
        ),
    ],
)
def test_what_is_refused(wrong: Any, error: Any, words: str) -> None:
    with pytest.raises(error, match=words):
        wrong()
