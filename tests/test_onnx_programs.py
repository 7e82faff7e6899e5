"""Whole programs of the DSL as ONNX: run by ONNX Runtime, and read back, they give what dlc gives.

Derivatives, loops, choices, batches, draws, optimisers and dtypes of 16 bits; test_onnx_save.py has each op by itself.
"""

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import reference
from test_catalogue import SAMPLED, Case, cases, evaluated
from test_onnx_load import UNREAD

import dlc
from dlc import nn, optim
from dlc.frontend.onnx import load, to_model
from dlc.ir import Graph
from dlc.ops.interpret import interpret

onnxruntime.set_default_logger_severity(4)

TOLERANCE = {"float32": 1e-4, "float64": 1e-12, "float16": 2e-3, "bfloat16": 1.6e-2}
HALF = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
Program = Callable[[], tuple[Graph, list[Any]]]
PROGRAMS: dict[str, Program] = {}


def program(function: Program) -> Program:
    PROGRAMS[function.__name__] = function
    return function


def agree(found: Any, expected: Any, what: str = "") -> None:
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape), what
    near = TOLERANCE.get(expected.dtype.name, 0.0)
    np.testing.assert_allclose(found.astype("f8"), expected.astype("f8"), rtol=near, atol=near, err_msg=what)


def by_runtime(model: Any, arrays: Any) -> list[Any]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    given = {i.name: np.asarray(a) for i, a in zip(session.get_inputs(), arrays, strict=False)}
    return list(session.run(None, given))


def numbers(*shape: int) -> Any:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype("f")


def x_and_w() -> tuple[Any, Any, list[Any]]:
    return dlc.input("x", ("N", 3)), dlc.input("w", (3, 3)), [numbers(4, 3), numbers(3, 3)]


# ---------------------------------------------------------------- derivatives


@program
def gradients_of_gradients() -> Any:
    x, w, arrays = x_and_w()
    loss = dlc.sum(dlc.tanh(x @ w) ** 3)
    first = dlc.grad(loss, w)
    return dlc.graph([x, w], [first, dlc.grad(dlc.sum(first * w), x)]), arrays


@program
def products_with_second_derivatives() -> Any:
    x, _, arrays = x_and_w()
    found = dlc.hvp(dlc.sum(dlc.tanh(x) ** 3), [x], [x * 2])
    return dlc.graph([x], list(found)), arrays[:1]


@program
def what_is_computed_again() -> Any:
    x, w, arrays = x_and_w()
    y = dlc.checkpoint(lambda v: dlc.tanh(v @ w), x)
    return dlc.graph([x, w], dlc.grad(dlc.sum(y**2), [x, w])), arrays


@program
def a_rule_of_the_user() -> Any:
    x, _, arrays = x_and_w()
    clipped = dlc.custom_vjp(lambda v: dlc.exp(v))
    clipped.backward(lambda g, y, v: dlc.minimum(g * y, 1.0))
    y = clipped(x)
    return dlc.graph([x], [y, dlc.grad(dlc.sum(y), x)]), arrays[:1]


# ---------------------------------------------------------------- batches


@program
def samples_of_a_batch() -> Any:
    x, w, arrays = x_and_w()
    rows = dlc.vmap(lambda row: dlc.softmax(row @ w))(x)
    each = dlc.vmap(lambda row: dlc.grad(dlc.sum(dlc.tanh(row @ w)), w))(x)
    return dlc.graph([x, w], [rows, each]), arrays


@program
def loops_and_choices_of_a_batch() -> Any:
    x, _, arrays = x_and_w()

    def walk(row: Any) -> Any:
        last, ys = dlc.scan(lambda c, e: (c * 0.5 + e, c * e), dlc.sum(row), row)
        return last + dlc.sum(ys)

    chosen = dlc.vmap(lambda r: dlc.cond(dlc.sum(r) > 0, lambda: dlc.exp(r), lambda: r * 2.0))(x)
    grown = dlc.vmap(lambda r: dlc.while_loop(lambda v: dlc.sum(v * v) < 20.0, lambda v: v * 1.5, r))(x)
    return dlc.graph([x], [dlc.vmap(walk)(x), chosen, grown]), arrays[:1]


# ---------------------------------------------------------------- loops and choices


@program
def choices() -> Any:
    x, _, arrays = x_and_w()
    y = dlc.cond(dlc.sum(x) > 0, lambda: dlc.exp(x), lambda: x * 2.0)
    return dlc.graph([x], [y, dlc.grad(dlc.sum(y * y), x)]), arrays[:1]


@program
def loops_that_end_by_themselves() -> Any:
    x, _, arrays = x_and_w()
    free = dlc.while_loop(lambda v: dlc.sum(v * v) < 50.0, lambda v: v * 1.5, x)
    bounded = dlc.while_loop(lambda v: dlc.sum(v * v) < 50.0, lambda v: v * 1.5, x, max_steps=8)
    return dlc.graph([x], [free, bounded, dlc.grad(dlc.sum(bounded), x)]), arrays[:1]


@program
def scans_in_scans() -> Any:
    x, w, arrays = x_and_w()

    def outer(carry: Any, row: Any) -> Any:
        last, ys = dlc.scan(lambda d, u: (d + u * carry, d * u), carry, row)
        return last, dlc.sum(ys)

    last, ys = dlc.scan(outer, dlc.sum(w), x)
    return dlc.graph([x, w], [last, ys, *dlc.grad(last + dlc.sum(ys), [x, w])]), [a * 0.3 for a in arrays]


@program
def loops_and_choices_in_scans() -> Any:
    x, _, arrays = x_and_w()

    def counted(carry: Any, row: Any) -> Any:
        limit = dlc.sum(row * row) + carry * 0.5
        return dlc.while_loop(lambda v: v < limit, lambda v: v + 1.0, carry * 0.0), carry

    def chosen(carry: Any, row: Any) -> Any:
        return dlc.cond(carry > 0, lambda: carry - dlc.sum(row), lambda: carry + dlc.sum(row)), carry

    return dlc.graph([x], [*dlc.scan(counted, dlc.sum(x) * 0, x), *dlc.scan(chosen, dlc.sum(x), x)]), arrays[:1]


@program
def scans_of_nothing_but_steps() -> Any:
    x, _, arrays = x_and_w()
    found = [dlc.scan(lambda c, _: (c * 0.5, dlc.sum(c)), x, length=n) for n in (5, x.shape[0], 0)]
    back = dlc.scan(lambda c, e: (c * 0.5 + e, c), x[0], x, reverse=True)
    return dlc.graph([x], [t for pair in (*found, back) for t in pair]), arrays[:1]


# ---------------------------------------------------------------- draws, states, dims


@program
def draws() -> Any:
    x, _, arrays = x_and_w()
    found = [
        dlc.uniform((3,), site=1), dlc.normal(x.shape, site=2), dlc.bernoulli(0.3, (5,), site=3),
        dlc.randint((4,), 0, 9, site=4), dlc.permutation(6, site=5), dlc.uniform((2,), dtype="float64", site=6),
        dlc.normal(x.shape, dtype="float16", site=7),
    ]  # fmt: skip
    return dlc.graph([x], found), arrays[:1]


@program
def dims_that_stay_open() -> Any:
    x, u = dlc.input("x", ("N", "H", "2*W")), dlc.input("u", ("W",))
    n, h, _ = x.shape
    flat = dlc.reshape(x, (n * h, -1))[1:, ::-1]
    halves = dlc.reshape(x, (n, h, 2, u.shape[0])) * u
    return dlc.graph([x, u], [flat, halves, dlc.vmap(lambda row: dlc.cumulative_sum(row))(flat)]), [
        numbers(2, 3, 8), numbers(4),
    ]  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_is_run_by_onnx_runtime_and_read_back(name: str) -> None:
    graph, arrays = PROGRAMS[name]()
    model = to_model(graph)
    onnx.checker.check_model(model, full_check=True)
    expected = dlc.compile(graph, "reference")(*arrays)
    found = by_runtime(model, arrays)
    again = dlc.compile(load(model.SerializeToString()), "reference")(*arrays)
    for results in (found, again):
        for i, (a, b) in enumerate(zip(results, expected, strict=True)):
            agree(a, b, f"output {i}")


@pytest.mark.parametrize(
    "optimizer", [optim.SGD(0.1, momentum=0.9, nesterov=True), optim.Adam(0.01), optim.AdamW(0.01)], ids=repr
)
def test_a_step_of_an_optimiser_is_run_by_onnx_runtime_and_read_back(optimizer: Any) -> None:
    """With the draws of dropout, which depend on the seed and step among the states."""
    model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.4), nn.Tanh(), nn.Linear(4, 2))
    x, y = dlc.input("x", ("N", 3)), dlc.input("y", ("N",), "int64")
    loss = nn.functional.cross_entropy(model(x), y)
    step = dlc.train_step(model, inputs=[x, y], loss=loss, optimizer=optimizer, backend="reference")
    written = to_model(step.program.graph, training=True)
    onnx.checker.check_model(written, full_check=True)
    arrays = [numbers(4, 3), np.array([0, 1, 1, 0])]
    program = dlc.compile(load(written.SerializeToString()), "reference")
    runs = by_runtime(written, arrays)
    (expected,) = (np.asarray(step(*arrays)),)
    agree(runs[0], expected)
    agree(program(*arrays)[0], expected)


# ---------------------------------------------------------------- dtypes of 16 bits

# onnx's own reference, which runs bfloat16, has no such forms of Scan, and no ConvTranspose with groups.
NOT_IN_THE_REFERENCE = {"cumulative_max", "cumulative_min", "linear_recurrence", "conv2d_data_gradient"}
FLOAT32_INSIDE = {"scan"}  # its samples bring a float32 carry along


def in_half(dtype: str) -> list[tuple[str, Case]]:
    ops = [op for op in SAMPLED if op.name not in FLOAT32_INSIDE]
    return [(op.name, case) for op in ops for case in cases(op, dtype) if case.floating]


def together(named_cases: list[tuple[str, Case]]) -> tuple[Graph, list[Any], list[tuple[str, Any]]]:
    """One graph of all cases, what it is given, and what must come out, by the op's name."""
    inputs, outputs, arrays, expected = [], [], [], []
    for i, (name, case) in enumerate(named_cases):
        own = {t.node: dlc.input(f"x{i}_{k}", t.shape, t.dtype).node for k, t in enumerate(case.inputs)}
        graph = Graph(tuple(own), tuple(t.node for t in case.outputs))
        graph = graph.substitute(own, inputs=tuple(own.values()))
        inputs += graph.inputs
        outputs += graph.outputs
        arrays += case.arrays
        expected += [(name, a) for a in evaluated(case.inputs, case.outputs, case.arrays)]
    return Graph(tuple(inputs), tuple(outputs)), arrays, expected


@pytest.mark.parametrize("dtype", HALF)
def test_every_op_in_16_bits_is_run_and_read_back(dtype: str) -> None:
    """ONNX Runtime cannot be given arrays of bfloat16, so onnx's own reference runs those."""
    every = in_half(dtype)
    assert len({name for name, _ in every}) > 70
    known = every if dtype == "float16" else [(n, c) for n, c in every if n not in NOT_IN_THE_REFERENCE]
    graph, arrays, expected = together(known)
    model = to_model(graph)
    onnx.checker.check_model(model, full_check=True)
    if dtype == "float16":
        found = by_runtime(model, arrays)
    else:
        evaluator = reference.ReferenceEvaluator(model)
        with np.errstate(all="ignore"):
            found = evaluator.run(None, dict(zip(evaluator.input_names, arrays, strict=True)))
    for a, (name, b) in zip(found, expected, strict=True):
        agree(a, b, name)
    graph, arrays, expected = together([(n, c) for n, c in every if n not in UNREAD])
    with np.errstate(all="ignore"):
        again = interpret(load(to_model(graph).SerializeToString()), arrays)[0]
    for a, (name, b) in zip(again, expected, strict=True):
        agree(a, b, name)
