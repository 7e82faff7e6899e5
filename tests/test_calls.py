"""Functions with a backward rule of their own, and functions that are computed again in the backward pass."""

from typing import Any

import numpy as np
import pytest
from runnable import BACKENDS

import dlc
from dlc import nn
from dlc.errors import GradientError, GraphError, ShapeError
from dlc.passes import PIPELINE
from dlc.testing import check_grad

RNG = np.random.default_rng(5)


@dlc.custom_vjp
def clipped(x: Any, bound: Any) -> Any:
    """The value itself; its gradient is held within +-bound."""
    return x * 1.0


@clipped.backward
def _clip(g: Any, y: Any, x: Any, bound: Any) -> Any:
    return dlc.minimum(dlc.maximum(g, -bound), bound), None


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_rule_is_the_gradient(backend: str) -> None:
    x, bound = dlc.input("x", (3,)), dlc.input("bound")
    y = (clipped(x, bound) * dlc.constant(np.float32([0.5, 4.0, -9.0]))).sum()
    program = dlc.compile(dlc.graph([x, bound], [y, *dlc.grad(y, [x, bound])]), backend)
    value, gx, gb = program([1.0, 2.0, 3.0], 1.0)
    assert (value, gx.tolist(), gb) == (0.5 + 8 - 27, [0.5, 1.0, -1.0], 0.0)


def test_gradients_of_gradients_go_through_the_rule() -> None:
    @dlc.custom_vjp
    def cube(x: Any) -> Any:
        return x * x * x, x * 2.0

    @cube.backward
    def rule(g: Any, y: Any, x: Any) -> Any:
        return 3.0 * x * x * g[0] + 2.0 * g[1]

    x = dlc.input("x", (), "float64")
    first, second = cube(x)
    (g,) = dlc.grad(first + second, [x])
    values = dlc.compile(dlc.graph([x], [first, g, dlc.grad(g, x)]), "reference")(2.0)
    assert [float(v) for v in values] == [8.0, 14.0, 12.0]
    only = dlc.grad(second, x)
    assert dlc.compile(dlc.graph([x], [only]), "reference")(2.0)[0] == 2.0


def test_inside_a_loop() -> None:
    x = dlc.input("x", (4,), "float64")
    total, _ = dlc.scan(lambda c, v: (c + clipped(v * v, dlc.constant(np.float64(0.5))), ()), x[0] * 0.0, x)
    (g,) = dlc.compile(dlc.graph([x], [dlc.grad(total, x)]), "reference")([1.0, 2.0, 3.0, 4.0])
    np.testing.assert_allclose(g, [1.0, 2.0, 3.0, 4.0])


def test_one_node_until_it_is_inlined() -> None:
    graph = dlc.graph([x := dlc.input("x", (2,))], [clipped(x, 1.0)])
    assert [n.op.name for n in graph.nodes].count("call") == 1
    assert "clipped" in str(graph)


def _rule(found: Any) -> Any:
    @dlc.custom_vjp
    def mine(x: Any) -> Any:
        return x * 2.0

    mine.backward(lambda g, y, x: found(g))
    return mine


def test_errors_name_the_function() -> None:
    x = dlc.input("x", (3,))
    with pytest.raises(ShapeError, match=r"rule of mine gave a cotangent of f32\[\] for operand 0, which is f32\[3\]"):
        _rule(lambda g: g.sum())(x)
    with pytest.raises(ShapeError, match=r"rule of mine gave a cotangent of f64\[3\]"):
        _rule(lambda g: g.astype("float64"))(x)
    with pytest.raises(GradientError, match="rule of mine gave 2 cotangents for 1 operands"):
        _rule(lambda g: (g, g))(x)
    with pytest.raises(GradientError, match=r"mine.backward uses 'w', which is not one of its operands"):
        _rule(lambda g: g * dlc.input("w"))(x)
    with pytest.raises(GradientError, match="bare has no backward rule"):

        @dlc.custom_vjp
        def bare(x: Any) -> Any:
            return x

        bare(x)
    with pytest.raises(GraphError, match="returns a tensor or a flat tuple"):
        dlc.checkpoint(lambda t: None, x)


# ---------------------------------------------------------------- checkpoint


def deep(x: Any, weights: Any, kept: bool) -> Any:
    """Segments of four layers each, which are computed again unless `kept`."""
    for w in weights:

        def segment(t: Any, w: Any = w) -> Any:
            for _ in range(4):
                t = dlc.tanh(t @ w)
            return t

        x = segment(x) if kept else dlc.checkpoint(segment, x)
    return x.mean()


@pytest.mark.parametrize("backend", BACKENDS)
def test_checkpoint_has_the_same_gradients(backend: str) -> None:
    x, ws = dlc.input("x", (4, 5), "float64"), [dlc.input(f"w{i}", (5, 5), "float64") for i in range(2)]
    values = [RNG.standard_normal(t.shape) for t in (x, *ws)]
    results = []
    for kept in (True, False):
        loss = deep(x, ws, kept)
        graph = dlc.graph([x, *ws], [loss, *dlc.grad(loss, [x, *ws])])
        results.append(dlc.compile(graph, backend)(*values))
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-16)


def test_checkpoint_needs_less_memory() -> None:
    """Four segments of four layers: 16 values of a layer are kept without, the segments' and one segment's with."""
    x, ws = dlc.input("x", (512, 64)), [dlc.input(f"w{i}", (64, 64)) for i in range(4)]
    sizes = []
    for kept in (True, False):
        loss = deep(x, ws, kept)
        program = dlc.compile(dlc.graph([x, *ws], [loss, *dlc.grad(loss, ws)]))
        sizes.append(program.plan.arena({}).peak)
    assert sizes[1] < 0.7 * sizes[0]


def test_nothing_merges_what_is_computed_again() -> None:
    x, w = dlc.input("x", (4, 5)), dlc.input("w", (5, 5))
    loss = deep(x, [w], kept=False)
    graph = dlc.graph([x, w], [loss, dlc.grad(loss, w)])
    for _, step in PIPELINE.without("fuse"):
        graph = step(graph)
    assert sum(n.op.name == "tanh" for n in graph.nodes) >= 7  # 4, and again the 3 or 4 whose values are read


def test_checkpoint_of_a_module_with_dropout_draws_once() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 3))
    x = dlc.input("x", (6, 4))
    found = []
    for run in (lambda t: model(t), lambda t: dlc.checkpoint(model, t)):
        with dlc.ops.random.counted_draws():
            loss = (run(x) ** 2).sum()
        graph = dlc.graph([x], [loss, *dlc.grad(loss, [x, *model.parameters()])])
        found.append(dlc.compile(graph, "reference", training=True)(np.ones((6, 4), np.float32)))
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


def test_second_derivatives_through_checkpoint() -> None:
    x = dlc.input("x", (3,), "float64")
    y = dlc.checkpoint(lambda t: dlc.sin(t) * t, x).sum()
    g = dlc.grad(y, x)
    check_grad(dlc.graph([x], [(g * g).sum()]), [RNG.standard_normal(3)])
