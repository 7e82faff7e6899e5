"""Loops: values against Python loops, gradients against differences, and how little the loops do."""

from typing import Any

import numpy as np
import pytest
from runnable import BACKENDS

import dlc
from dlc.errors import DlcError, GraphError, IndexOutOfRangeError, ShapeError
from dlc.ir import Graph, Node
from dlc.passes import gradients, merge_scans, verify
from dlc.testing import check_grad, check_pass

RNG = np.random.default_rng(0)
H = 3


def loops(graph: Graph) -> list[Node]:
    return [n for n in graph.nodes if n.op.name == "scan"]


def recurrent(reverse: bool = False, dtype: str = "float64") -> tuple[list[dlc.Tensor], dlc.Tensor, dlc.Tensor]:
    """h' = tanh(h W + x + b), y = h' U: inputs, last h, all y."""
    x, h0 = dlc.input("x", ("T", "N", H), dtype), dlc.input("h", ("N", H), dtype)
    w, u, b = dlc.input("w", (H, H), dtype), dlc.input("u", (H, 2), dtype), dlc.input("b", (H,), dtype)

    def body(h: dlc.Tensor, x: dlc.Tensor) -> Any:
        h = dlc.tanh(h @ w + x + b)
        return h, h @ u

    last, y = dlc.scan(body, h0, x, reverse=reverse)
    return [x, h0, w, u, b], last, y


def arrays(steps: int = 5, batch: int = 2, dtype: str = "float64") -> list[np.ndarray]:
    shapes = [(steps, batch, H), (batch, H), (H, H), (H, 2), (H,)]
    return [(RNG.standard_normal(s) * 0.5).astype(dtype) for s in shapes]


def by_hand(x: Any, h: Any, w: Any, u: Any, b: Any, reverse: bool) -> tuple[Any, Any]:
    ys = np.empty((len(x), len(h), 2))
    for t in reversed(range(len(x))) if reverse else range(len(x)):
        h = np.tanh(h @ w + x[t] + b)
        ys[t] = h @ u
    return h, ys


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("steps", [0, 1, 6])
def test_values_of_a_recurrent_loop(steps: int, reverse: bool, backend: str) -> None:
    inputs, last, y = recurrent(reverse)
    data = arrays(steps)
    for got, want in zip(
        dlc.compile(dlc.graph(inputs, [last, y]), backend)(*data), by_hand(*data, reverse), strict=True
    ):
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("reverse", [False, True])
def test_first_and_second_derivatives(reverse: bool) -> None:
    inputs, last, y = recurrent(reverse)
    loss = (last * last).sum() + (y * y * y).sum()
    first = gradients([loss], inputs)
    check_grad(dlc.graph(inputs, [loss]))
    check_grad(dlc.graph(inputs, [sum(((g * g).sum() for g in first), start=dlc.constant(0.0, "float64"))]))


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_are_the_same_on_every_backend_and_after_the_pipeline(backend: str) -> None:
    inputs, last, y = recurrent(dtype="float32")
    graph = dlc.graph(inputs, gradients([(last * last).sum() + (y * y).sum()], inputs))
    wide, wide_last, wide_y = recurrent()
    reference = dlc.graph(wide, gradients([(wide_last * wide_last).sum() + (wide_y * wide_y).sum()], wide))
    data = arrays()
    want = dlc.compile(reference, "reference", pipeline=dlc.passes.Pipeline(()))(*data)
    for got, expected in zip(dlc.compile(graph, backend)(*(a.astype("f") for a in data)), want, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_gradient_by_an_unrolled_loop() -> None:
    """The same net without scan, differentiated op by op."""
    inputs, last, y = recurrent()
    data = arrays(4)
    x, h, w, u, b = unrolled = [dlc.input(n, a.shape, "float64") for n, a in zip("xhwub", data, strict=True)]
    total = dlc.constant(0.0, "float64")
    for t in range(4):
        h = dlc.tanh(h @ w + x[t] + b)
        total = total + ((h @ u) * (h @ u)).sum()
    want = dlc.graph(unrolled, gradients([total + h.sum()], unrolled))
    looped = dlc.graph(inputs, gradients([(y * y).sum() + last.sum()], inputs))
    for a, c in zip(*(dlc.compile(g, "reference")(*data) for g in (looped, want)), strict=True):
        np.testing.assert_allclose(a, c, rtol=1e-11, atol=1e-12)


def test_backward_is_one_more_loop_without_weight_gradients_in_it() -> None:
    inputs, last, y = recurrent()
    graph = merge_scans(dlc.graph(inputs, [y, *gradients([(y * y).sum() + last.sum()], inputs)]))
    forward, backward = loops(verify(graph))
    assert not forward.attrs["reverse"] and backward.attrs["reverse"]
    assert backward.attrs["carries"] == 1, "weight and bias gradients are gathered after the loop"
    products = [n for n in backward.attrs["body"].nodes if n.op.name == "matmul"]
    assert len(products) == 2  # g U^T and g W^T
    weights = [n for n in graph.nodes if n.op.name == "matmul" and n.shape in ((H, H), (H, 2))]
    assert len(weights) == 2 and all(str(n.inputs[0].shape[1]) == "N*T" for n in weights)


def test_without_products_captures_gather_in_a_carry() -> None:
    x, a = dlc.input("x", ("T",), "float64"), dlc.input("a", (), "float64")
    last, _ = dlc.scan(lambda c, x: (dlc.sin(c * a) + x, ()), dlc.constant(0.5, "float64"), x)
    check_grad(dlc.graph([x, a], [last]))


def test_work_that_does_not_change_leaves_the_loop() -> None:
    x, w = dlc.input("x", ("T", 4)), dlc.input("w", (4,))
    _, y = dlc.scan(lambda c, x: (c, x * dlc.exp(w)), 0.0, x)
    (loop,) = loops(dlc.graph([x, w], [y]))
    assert [n.op.name for n in loop.attrs["body"].nodes if n.inputs] == ["multiply"]
    assert "exp" in [n.op.name for n in loop.inputs]


def test_constants_stay_inside() -> None:
    _, y = dlc.scan(
        lambda c, x: (c + 1.0, x * dlc.iota((4,), dtype="float32") + dlc.zeros((4,))), 0.0, dlc.ones((3, 4))
    )
    (loop,) = loops(dlc.graph([], [y]))
    assert len(loop.inputs) == 2


def test_merging_runs_the_forward_loop_once_and_keeps_meaning() -> None:
    inputs, last, y = recurrent()
    graph = dlc.graph(inputs, [last, y, *gradients([(y * y).sum()], inputs)])
    assert (len(loops(graph)), len(loops(check_pass(merge_scans, graph)))) == (3, 2)


def test_loops_that_depend_on_each_other_are_not_merged() -> None:
    x = dlc.input("x", ("T",))
    total, _ = dlc.scan(lambda c, x: (c + x, ()), 0.0, x)
    again, _ = dlc.scan(lambda c, x: (c + x * total, ()), 0.0, x)
    graph = check_pass(merge_scans, dlc.graph([x], [again]))
    assert len(loops(graph)) == 2


@pytest.mark.parametrize("backend", BACKENDS)
def test_tuples_integers_and_a_length_without_slices(backend: str) -> None:
    def fibonacci(carry: Any, _: Any) -> Any:
        a, b = carry
        return (b, a + b), a

    start = (dlc.constant(0, "int64"), dlc.constant(1, "int64"))
    (a, b), seen = dlc.scan(fibonacci, start, length=10)
    got = dlc.compile(dlc.graph([], [a, b, seen]), backend)()
    assert [v.tolist() for v in got] == [55, 89, [0, 1, 1, 2, 3, 5, 8, 13, 21, 34]]


def test_an_integer_carry_takes_no_gradient_and_does_no_harm() -> None:
    x = dlc.input("x", ("T",), "float64")

    def body(carry: Any, x: Any) -> Any:
        total, n = carry
        return (total * 0.5 + x * n.astype("float64"), n + 1), total

    (total, n), y = dlc.scan(body, (dlc.constant(1.0, "float64"), dlc.constant(1, "int32")), x)
    assert n.dtype == "int32"
    check_grad(dlc.graph([x], [total + (y * y).sum()]))


def test_draws_in_a_loop_are_those_of_one_step_and_slices_of_a_draw_differ() -> None:
    x = dlc.constant(np.ones((4, 50)))
    _, (same, other) = dlc.scan(lambda c, s: (c, (dlc.dropout(s[0], 0.5), s[1])), (), (x, dlc.dropout(x, 0.5)))
    same, other = dlc.evaluate(same, other, training=True)
    assert (same == same[0]).all() and 0 < (same == 0).sum() < same.size
    assert len({row.tobytes() for row in other}) == 4


def test_a_loop_in_a_loop() -> None:
    x, w = dlc.input("x", ("T", "S", 2), "float64"), dlc.input("w", (2,), "float64")

    def outer(carry: Any, rows: Any) -> Any:
        inner, ys = dlc.scan(lambda c, r: (dlc.tanh(c * w + r), c), carry, rows)
        return inner, (ys * ys).sum()

    last, sums = dlc.scan(outer, dlc.zeros((2,), "float64"), x)
    loss = sums.sum() + last.sum()
    check_grad(dlc.graph([x, w], [loss]))
    graph = dlc.graph([x, w], [loss, *gradients([loss], [x, w])])
    check_pass(merge_scans, graph)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_index_out_of_range_inside_a_loop(backend: str) -> None:
    index = dlc.input("index", ("T",), "int32")
    _, y = dlc.scan(lambda c, i: (c, dlc.take([1.0, 2.0, 3.0], i)), 0.0, index)
    program = dlc.compile(dlc.graph([index], [y]), backend)
    assert program(np.array([2, 0], "i"))[0].tolist() == [3.0, 1.0]
    with pytest.raises(IndexOutOfRangeError, match=r"test_scan\.py"):
        program(np.array([2, 3, 0], "i"))


def test_captured_state_and_its_gradient() -> None:
    w = dlc.parameter(np.full((2, 2), 0.5, "f"), "w")
    x = dlc.input("x", ("T", 2))
    last, _ = dlc.scan(lambda h, x: (dlc.reshape(dlc.expand_dims(h, 0) @ w, (2,)) + x, ()), dlc.zeros(2), x)
    (g,) = dlc.grad(last.sum(), [w])
    got, grad = dlc.compile(dlc.graph([x], [last, g]), "reference")(np.ones((2, 2), "f"))
    assert got.tolist() == [2.0, 2.0] and grad.tolist() == [[1.0, 1.0], [1.0, 1.0]]


def bad_carry() -> None:
    dlc.scan(lambda c, x: (c.astype("float64"), x), dlc.zeros(2), dlc.ones((3, 2)))


def bad_pair() -> None:
    dlc.scan(lambda c, x: c, dlc.zeros(2), dlc.ones((3, 2)))


def bad_lengths() -> None:
    dlc.scan(lambda c, x: (c, x), dlc.zeros(2), (dlc.ones((3, 2)), dlc.input("x", ("T", 2))))


def no_length() -> None:
    dlc.scan(lambda c, x: (c, ()), dlc.zeros(2))


def nested() -> None:
    dlc.scan(lambda c, x: (c, x), (dlc.zeros(2), (dlc.zeros(2),)), dlc.ones((3, 2)))


def no_axis() -> None:
    dlc.scan(lambda c, x: (c, x), dlc.zeros(2), dlc.constant(1.0))


@pytest.mark.parametrize(
    ("call", "kind", "parts"),
    [
        (bad_carry, ShapeError, ("carry 0", "f32[2]", "f64[2]")),
        (bad_pair, GraphError, ("pair (carry, y)",)),
        (bad_lengths, ShapeError, ("3", "T")),
        (no_length, GraphError, ("length=",)),
        (nested, GraphError, ("do not nest",)),
        (no_axis, ShapeError, ("f32[]", "axis 0")),
    ],
)
def test_errors_say_what_and_where(call: Any, kind: type[DlcError], parts: tuple[str, ...]) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert all(p in str(caught.value) for p in (*parts, "test_scan.py")), str(caught.value)


def test_flops_are_those_of_all_steps() -> None:
    inputs, last, _ = recurrent()
    (loop,) = loops(dlc.graph(inputs, [last]))
    flops, _ = loop.op.flops_and_bytes(loop)
    n, t = inputs[0].shape[1], inputs[0].shape[0]
    assert flops == (2 * n * H * H + 2 * n * H * 2 + 3 * n * H) * t
