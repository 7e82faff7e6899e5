"""Choices and loops of unknown length: values against Python, gradients against differences, and what does not run."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from runnable import BACKENDS

import dlc
from dlc.errors import (
    AttributeValueError,
    DlcError,
    DTypeError,
    GradientError,
    GraphError,
    IndexOutOfRangeError,
    ShapeError,
)
from dlc.ir import Graph, Node
from dlc.passes import PIPELINE, constant_folding, dead_code, gradients, merge_scans, verify
from dlc.testing import check_grad, check_pass

RNG = np.random.default_rng(0)


def nodes(graph: Graph, op: str) -> list[Node]:
    return [n for n in graph.nodes if n.op.name == op]


def collatz(n: int) -> int:
    steps = 0
    while n != 1:
        n, steps = (n // 2 if n % 2 == 0 else 3 * n + 1), steps + 1
    return steps


def steps_of_collatz(n: dlc.Tensor) -> dlc.Tensor:
    """A choice within a loop of unknown length."""

    def step(n: Any, steps: Any) -> Any:
        return dlc.cond(n % 2 == 0, lambda n: n // 2, lambda n: 3 * n + 1, n), steps + 1

    _, steps = dlc.while_loop(lambda n, steps: n > 1, step, n, 0)
    return steps


def everything() -> tuple[list[dlc.Tensor], list[dlc.Tensor]]:
    """Inputs and outputs that hold most forms: one program of them is compiled for each backend."""
    p, n, stop = dlc.input("p", (), "bool"), dlc.input("n", (), "int64"), dlc.input("stop", (), "int64")
    x, xs = dlc.input("x", ("N",), "float64"), dlc.input("xs", ("T",), "float64")
    inner = dlc.exp(x)
    choice = dlc.cond(p, lambda t: (t * inner, t.sum()), lambda t: (t, dlc.sqrt(x).sum()), x)
    passed_on = dlc.cond(p, lambda a, b: (a, b, a), lambda a, b: (b, a, a), x, inner)

    def clipped_sum(total: Any, x: Any) -> Any:
        total = dlc.cond(x > 0, lambda: total + x, lambda: total)
        return total, dlc.cond(total > 1.0, lambda: -total, lambda: x)

    total, stacked = dlc.scan(clipped_sum, 0.0 * x.sum(), xs)
    nested = dlc.cond(p, lambda: dlc.cond(n > 2, lambda: x * 2, lambda: x * 3), lambda: x * 5)
    counted, grown = dlc.while_loop(lambda i, t: i < stop, lambda i, t: (i + 1, t * 1.5 + inner), 0, x)

    def countdown(i: Any, rows: Any) -> Any:  # a loop in a loop, and a carry that changes its place
        _, doubled = dlc.while_loop(lambda k, t: k > 0, lambda k, t: (k - 1, t + rows), i, rows)
        return i - 1, doubled

    twice = dlc.while_loop(lambda i, rows: i > 0, countdown, stop, x)[1]
    swapped = dlc.while_loop(lambda i, a, b: i < stop, lambda i, a, b: (i + 1, b, a), 0, x, inner)
    bounded = dlc.while_loop(lambda t: t.sum() < 100.0, lambda t: t * 2 + 1, x, max_steps=3)
    flag = dlc.while_loop(lambda go, i: go, lambda go, i: (i + 1 < stop, i + 1), p, 0)
    none = dlc.while_loop(lambda t: t.sum() > 1e9, lambda t: t * 2, x)
    flat = [*choice, *passed_on, total, stacked, nested, counted, grown, twice, *swapped, bounded, *flag, none]
    return [p, n, stop, x, xs], [*flat, steps_of_collatz(n)]


def by_hand(p: bool, n: int, stop: int, x: Any, xs: Any) -> list[Any]:
    inner = np.exp(x)
    found = [x * inner, x.sum(), x, inner, x] if p else [x, np.sqrt(x).sum(), inner, x, x]
    total, stacked = 0.0, []
    for v in xs:
        total = total + v if v > 0 else total
        stacked.append(-total if total > 1 else v)
    found += [total, np.array(stacked).reshape(len(xs)), x * ((2 if n > 2 else 3) if p else 5)]
    grown = x
    for _ in range(stop):
        grown = grown * 1.5 + inner
    twice = x
    for i in range(stop, 0, -1):
        twice = twice * (i + 1)
    bounded, steps = x, 0
    while steps < 3 and bounded.sum() < 100:
        bounded, steps = bounded * 2 + 1, steps + 1
    go, i = p, 0
    while go:
        go, i = i + 1 < stop, i + 1
    swapped = (stop, x, inner) if stop % 2 == 0 else (stop, inner, x)
    return [*found, max(stop, 0), grown, twice, *swapped, bounded, go, i, x, collatz(n)]


@pytest.fixture(scope="module", params=BACKENDS)
def program(request: Any) -> dlc.Program:
    return dlc.compile(dlc.graph(*everything()), request.param, check=True)


@pytest.mark.parametrize("case", [(True, 27, 5, 4, 6), (False, 1, 0, 0, 0), (True, 6, 1, 1, 3), (False, 97, 4, 3, 1)])
def test_values_are_those_of_python(program: dlc.Program, case: tuple[Any, ...]) -> None:
    p, n, stop, size, steps = case
    data = (p, n, stop, RNG.uniform(0.1, 1.0, size), RNG.uniform(-1.0, 1.0, steps))
    for got, want in zip(program(*data), by_hand(*data), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12)


def test_one_program_is_called_by_many_threads(program: dlc.Program) -> None:
    def calls(number: int) -> None:
        rng = np.random.default_rng(number)
        for _ in range(4):
            data = (bool(rng.integers(2)), int(rng.integers(1, 60)), int(rng.integers(5)), rng.random(3), rng.random(2))
            for got, want in zip(program(*data), by_hand(*data), strict=True):
                np.testing.assert_allclose(got, want, rtol=1e-12)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(calls, range(8)))


def test_a_program_of_choices_and_loops_is_one_native_call() -> None:
    program = dlc.compile(dlc.graph(*everything()), "cpu")
    text = str(program.plan)
    assert "repeat at most 3 times:" in text and "go to" in text and "again" in text and "the last carries" in text
    assert len(program.plan.kernels) < 80


# ---------------------------------------------------------------- what does not run


def test_what_a_branch_computes_runs_in_it_alone() -> None:
    x, p = dlc.input("x", (3,)), dlc.input("p", (), "bool")
    before = dlc.tanh(x)
    graph = dlc.graph([p, x], [dlc.cond(p, lambda: dlc.exp(x) + before, lambda: dlc.log(x))])
    (choice,) = nodes(graph, "cond")
    assert nodes(graph, "tanh") and not nodes(graph, "exp") and not nodes(graph, "log")
    assert [n.op.name for n in choice.attrs["then"].nodes if n.inputs] == ["exp", "add"]
    assert [n.op.name for n in choice.attrs["otherwise"].nodes if n.inputs] == ["log"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_branch_not_taken_neither_fails_nor_leaks_nan(backend: str) -> None:
    x, i = dlc.input("x", (4,)), dlc.input("i", (), "int64")
    y = dlc.cond(i < 4, lambda: dlc.take(x, i), lambda: (x * 0).sum())
    root = dlc.cond(x.sum() > 0, lambda t: dlc.sqrt(t).sum(), lambda t: (t * t).sum(), x)
    program = dlc.compile(dlc.graph([x, i], [y, root, dlc.grad(root, x)]), backend)
    values = np.array([-1, -2, 0, 1], np.float32)
    y, root, slope = program(values, 9)
    assert y == 0 and root == 6
    np.testing.assert_array_equal(slope, 2 * values)
    with pytest.raises(IndexOutOfRangeError, match=r"index -9 .*out of range"):
        program(values, -9)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_loop_that_fails_stops_and_changes_nothing(backend: str) -> None:
    x = dlc.input("x", (4,))
    total = dlc.parameter(np.zeros((), np.float32), "total")
    sums = dlc.while_loop(lambda i, s: i >= 0, lambda i, s: (i + 1, s + dlc.take(x, i)), 0, 0.0)[1]
    program = dlc.compile(dlc.graph([x], [], updates=[(total, sums)]), backend)
    with pytest.raises(IndexOutOfRangeError, match=r"index 4 .*out of range(.|\n)*test_control\.py"):
        program(np.ones(4, np.float32))
    assert total.value == 0


def test_a_known_condition_leaves_one_branch() -> None:
    x = dlc.input("x", (3,))
    y = dlc.cond(dlc.ops.TRAINING, lambda: x * 2, lambda: dlc.exp(x))
    for training, op in ((True, "multiply"), (False, "exp")):
        program = dlc.compile(dlc.graph([x], [y]), "reference", training=training)
        assert [n.op.name for n in program.graph.nodes if n.inputs] == [op]
    check_pass(constant_folding, dlc.graph([x], [dlc.cond(True, lambda t: (t, t + 1), lambda t: (t * 2, t), x)[1]]))


def test_results_and_carries_that_nobody_reads_are_dropped() -> None:
    x, y, p = dlc.input("x", (3,)), dlc.input("y", (3,)), dlc.input("p", (), "bool")
    kept = dlc.cond(p, lambda a, b: (dlc.exp(a), b), lambda a, b: (a, dlc.sin(b)), x, y)[1]
    looped = dlc.while_loop(
        lambda a, b, c: a.sum() < 9.0, lambda a, b, c: (a + 1.0, b * 2, c * a), x, dlc.exp(y), y, max_steps=9
    )[2]
    graph = dlc.graph([p, x, y], [kept, looped])
    after = dead_code(graph)
    (choice,), (loop,) = nodes(after, "cond"), nodes(after, "while_loop")
    assert len(choice.inputs) == 2 and len(choice.type.items) == 1
    assert loop.attrs["carries"] == 2 and not nodes(after, "exp")
    check_pass(dead_code, graph)


def test_scans_merge_in_bodies_of_choices() -> None:
    x, p = dlc.input("x", ("T",)), dlc.input("p", (), "bool")

    def two() -> Any:
        ends = [dlc.scan(lambda carry, x, k=k: (carry + x, carry * k), 0.0, x)[1] for k in (2.0, 3.0)]
        return ends[0] + ends[1]

    graph = merge_scans(dlc.graph([p, x], [dlc.cond(p, two, lambda: x)]))
    assert len(nodes(nodes(graph, "cond")[0].attrs["then"], "scan")) == 1


# ---------------------------------------------------------------- derivatives


@pytest.mark.parametrize("start", [0.5, -0.5])
def test_derivatives_of_choices(start: float) -> None:
    x, w = dlc.input("x", (3,), "float64"), dlc.input("w", (3,), "float64")

    def choice(t: Any) -> dlc.Tensor:
        a, b = dlc.cond(t.sum() > 0, lambda t, u: (t * u, dlc.exp(u * w)), lambda t, u: (u * u * t, w * t), t, t)
        return (a * a * b).sum()

    def in_scan() -> dlc.Tensor:
        def step(carry: Any, x: Any) -> Any:
            carry = dlc.cond(carry > 0, lambda c: dlc.sin(c) + x, lambda c: c * x * w.sum(), carry)
            return carry, carry * carry

        return dlc.scan(step, x.sum() + start, w)[1].sum()

    for loss in (choice(x + start), in_scan()):
        check_grad(dlc.graph([x, w], [loss]))
        first = gradients([loss], [x, w])
        check_grad(dlc.graph([x, w], [(first[0] * first[0]).sum() + (first[1] * first[0]).sum()]))


def test_derivatives_of_bounded_loops() -> None:
    x, w = dlc.input("x", (3,), "float64"), dlc.input("w", (3,), "float64")

    def loop(max_steps: int) -> dlc.Tensor:
        steps, y = dlc.while_loop(
            lambda i, t: (t * t).sum() < 50.0, lambda i, t: (i + 1, t * 1.5 + dlc.sin(w)), 0, x, max_steps=max_steps
        )
        return (y * w).sum() * steps.astype("float64")

    for most in (0, 1, 12):
        loss = loop(most)
        check_grad(dlc.graph([x, w], [loss]))
        first = gradients([loss], [x, w])
        check_grad(dlc.graph([x, w], [(first[0] * first[0]).sum() + (first[1] * first[0]).sum()]))
    square = x.sum()
    newton = dlc.while_loop(
        lambda r: dlc.abs(r * r - square) > 1e-12, lambda r: (r + square / r) / 2, square * 0 + 1, max_steps=50
    )
    graph = dlc.graph([x], [newton, dlc.grad(newton, x)])
    root, slope = dlc.compile(graph, "reference")(np.array([1.0, 3.0, 5.0]))
    np.testing.assert_allclose([root, *slope], [3.0, 1 / 6, 1 / 6, 1 / 6], rtol=1e-9)


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_are_the_same_on_every_backend(backend: str) -> None:
    x, p = dlc.input("x", ("N",), "float64"), dlc.input("p", (), "bool")
    y = dlc.while_loop(
        lambda t: t.sum() < 30.0,
        lambda t: dlc.cond(p, lambda: t * 2, lambda: t * t + 1, ),
        x, max_steps=6,
    )  # fmt: skip
    graph = dlc.graph([p, x], [y, *gradients([(y * y).sum()], [x])])
    program = dlc.compile(graph, backend)
    plain = dlc.compile(graph, "reference", pipeline=dlc.passes.Pipeline(()))
    for data in ((True, np.array([1.0, 2.0])), (False, np.array([0.1, 0.4, 1.0])), (False, np.zeros(0))):
        for got, want in zip(program(*data), plain(*data), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-12)


def test_a_tensor_that_is_two_operands_gets_both_cotangents() -> None:
    x = dlc.constant(3.0)
    for y in (
        dlc.checkpoint(lambda a, b: a * b, x, x),
        dlc.cond(True, lambda a, b: a * b, lambda a, b: a, x, x),
        dlc.while_loop(lambda a, b: a < 4.0, lambda a, b: (a * b, b), x, x, max_steps=3)[0],
    ):
        assert dlc.evaluate(dlc.grad(y, x)) == 6


def test_a_loop_of_any_length_has_no_gradient_and_says_so() -> None:
    x = dlc.input("x")
    y = dlc.while_loop(lambda t: t < 9.0, lambda t: t * 2, x)
    with pytest.raises(GradientError, match=r"max_steps=, or use dlc\.scan\n.*test_control\.py"):
        dlc.grad(y, x)
    (nothing,) = gradients([dlc.stop_gradient(y) * 1.0], [x])
    assert dlc.evaluate(nothing.sum() * 0 + 1) == 1


# ---------------------------------------------------------------- batches


def test_each_sample_chooses_and_stops_for_itself() -> None:
    xs, ps = RNG.uniform(0.5, 2.0, (5, 3)), np.array([True, False, False, True, False])

    def choice(p: Any, x: Any) -> Any:
        return dlc.cond(p, lambda: (x * 2, x.sum()), lambda: (dlc.exp(x), 1.0))

    def loop(x: Any) -> Any:
        return dlc.while_loop(lambda i, t: t.sum() < 20.0, lambda i, t: (i + 1, t * 2), 0, x, max_steps=9)

    x, p = dlc.input("x", (5, 3), "float64"), dlc.input("p", (5,), "bool")
    shared = dlc.vmap(choice, in_axes=(None, 0))(p[0], x)
    outputs = [*dlc.vmap(choice)(p, x), *shared, *dlc.vmap(loop)(x)]
    got = dlc.compile(dlc.graph([p, x], outputs), "reference")(ps, xs)
    np.testing.assert_allclose(got[0], np.where(ps[:, None], xs * 2, np.exp(xs)))
    np.testing.assert_allclose(got[1], np.where(ps, xs.sum(1), 1.0))
    np.testing.assert_allclose(got[2], xs * 2)
    np.testing.assert_allclose(got[3], xs.sum(1))
    steps = np.maximum(np.ceil(np.log2(20 / xs.sum(1))), 0)
    np.testing.assert_array_equal(got[4], steps)
    np.testing.assert_allclose(got[5], xs * 2 ** steps[:, None])


# ---------------------------------------------------------------- text, errors


def test_choices_and_loops_in_text_and_in_files() -> None:
    graph = dlc.graph(*everything())
    again = dlc.graph_from_json(dlc.graph_to_json(graph))
    assert dlc.graph_to_json(again) == dlc.graph_to_json(graph)
    assert "then:" in str(graph) and "otherwise:" in str(graph) and "condition:" in str(graph)
    verify(graph)
    for _, pass_ in PIPELINE:
        check_pass(pass_, dlc.graph(*everything()))


def test_onnx_runtime_agrees_and_the_file_is_read_again() -> None:
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    from dlc.frontend.onnx.export import to_model

    model = to_model(dlc.graph(*everything()))
    onnx.checker.check_model(model, full_check=True)
    session, again = runtime.InferenceSession(model.SerializeToString()), dlc.onnx.load(model)
    assert nodes(again, "cond") and nodes(again, "while_loop")
    program = dlc.compile(again, "reference", check=False)
    for p, n, stop in ((True, 27, 3), (False, 6, 0)):
        data = [np.array(p), np.array(n), np.array(stop), RNG.uniform(0.1, 1.0, 3), RNG.uniform(-1.0, 1.0, 4)]
        found = session.run(None, dict(zip(("p", "n", "stop", "x", "xs"), data, strict=True)))
        for a, b, want in zip(found, program(*data), by_hand(*data), strict=True):  # type: ignore[arg-type]
            np.testing.assert_allclose(a, want, rtol=1e-10)
            np.testing.assert_allclose(b, want, rtol=1e-10)


class Counting(dlc.nn.Module):
    def forward(self, x: dlc.Tensor) -> dlc.Tensor:
        return dlc.nn.BatchNorm1d(3)(x)


@pytest.mark.parametrize(
    ("call", "kind", "parts"),
    [
        (lambda x: dlc.cond(x > 0, lambda: x, lambda: x), ShapeError, ("the condition is bool[3]", "dlc.where")),
        (lambda x: dlc.cond(True, lambda: x, lambda: x[:2]), ShapeError, ("result 0 is f32[3]", "f32[2]")),
        (lambda x: dlc.cond(True, lambda: (x, x), lambda: x), GraphError, ("a tuple of 2", "one tensor")),
        (lambda x: dlc.cond(True, lambda: None, lambda: None), GraphError, ("returns a tensor or a flat tuple",)),
        (lambda x: dlc.cond(x.sum() > 0, Counting(), lambda t: t, x[None]), GraphError, ("cannot update state",)),
        (lambda x: dlc.while_loop(lambda t: t > 0, lambda t: t, x), ShapeError, ("the result of <lambda>", "bool[3]")),
        (lambda x: dlc.while_loop(lambda t: True, lambda t: t[1:], x), ShapeError, ("carry 0 is f32[3]", "f32[2]")),
        (lambda x: dlc.while_loop(lambda t: True, lambda t: (t, t), x), GraphError, ("takes 1 carries and returns 2",)),
        (lambda x: dlc.while_loop(lambda: True, lambda: ()), GraphError, ("needs a carry",)),
        (lambda x: dlc.while_loop(lambda t: True, lambda t: t, x, max_steps="a b"), DlcError, ("a b",)),
        (lambda x: dlc.cond(True, x, lambda: x), AttributeValueError, ("cond takes a function, not <Tensor input",)),
        (lambda x: dlc.while_loop(True, lambda t: t, x), AttributeValueError, ("while_loop takes a function, not",)),
        (lambda x: dlc.scan(x, x, x), AttributeValueError, ("scan takes a function, not <Tensor",)),
        (lambda x: dlc.checkpoint(x, x), AttributeValueError, ("checkpoint takes a function, not <Tensor",)),
        (lambda x: dlc.custom_vjp(x), AttributeValueError, ("custom_vjp takes a function, not <Tensor",)),
        (lambda x: dlc.vmap(x), AttributeValueError, ("vmap takes a function, not <Tensor",)),
        (lambda x: dlc.vmap(dlc.sum)(x, axis=0), AttributeValueError, ("by position, not by name as axis",)),
        (lambda x: dlc.grad([x, x], x), GradientError, ("needs a scalar",)),
        (lambda x: dlc.exp([x, x]), DTypeError, ("several tensors stand for one", "dlc.stack")),
        (lambda x: dlc.while_loop(lambda t: True, lambda t: t, x, max_steps=-1), DlcError, ("-1",)),
    ],
)
def test_errors_name_the_fault_and_the_line(call: Any, kind: type[DlcError], parts: tuple[str, ...]) -> None:
    with pytest.raises(kind) as caught:
        dlc.compile(dlc.graph([x := dlc.input("x", (3,))], [call(x)]), "reference")
    assert all(part in caught.value.message for part in parts), caught.value.message
    assert caught.value.where is not None and "test_control.py:" in str(caught.value.where)
