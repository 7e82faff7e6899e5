"""The checks that users rely on must fail when they should."""

import numpy as np
import pytest

import dlc
from dlc import nn, ops, passes
from dlc.errors import GradientError, VerificationError
from dlc.ir import Graph, TensorType
from dlc.ops.tensor import state_node
from dlc.state import State
from dlc.testing import as_float64, assert_same_graph, check_grad, check_pass, random_inputs


def test_assert_same_graph_shows_a_diff():
    x = dlc.input("x", ("N",))
    with pytest.raises(
        AssertionError, match=r"(?s)graphs differ.*-  %0: f32\[N\] = sin\(x\).*\+  %0: f32\[N\] = exp\(x\)"
    ):
        assert_same_graph(dlc.graph([x], [dlc.exp(x)]), dlc.graph([x], [dlc.sin(x)]))
    ones, twos = np.ones(100, np.float32), np.ones(100, np.float32)
    twos[50] = 2
    with pytest.raises(AssertionError, match="large constants"):
        assert_same_graph(dlc.graph([], [dlc.constant(ones)]), dlc.graph([], [dlc.constant(twos)]))


def test_check_pass_returns_the_result():
    x = dlc.input("x", ("N", 3))
    after = check_pass(passes.simplify, dlc.graph([x], [(x * 1) / 1]))
    assert_same_graph(after, dlc.graph([x], [x]))


def doubles(graph):
    return Graph(graph.inputs, tuple((ops.Tensor(n) * 2).node for n in graph.outputs))


def wrong_only_when_training(graph):
    return graph.substitute({ops.TRAINING.node: dlc.constant(False).node})


def wrong_only_for_several_rows(graph):
    (x,) = graph.inputs
    first = dlc.broadcast_to(ops.Tensor(x)[0:1].sum(), x.shape)
    return Graph(graph.inputs, (first.node,))


def test_check_pass_finds_what_is_wrong():
    x = dlc.input("x", ("N",))
    with pytest.raises(VerificationError, match="the pass doubles broke the graph: output 0 changed"):
        check_pass(doubles, dlc.graph([x], [dlc.exp(x)]))
    with pytest.raises(VerificationError, match="wrong_only_when_training"):
        check_pass(wrong_only_when_training, dlc.graph([x], [dlc.where(ops.TRAINING, x, 0.0)]))
    with pytest.raises(VerificationError, match="wrong_only_for_several_rows"):
        check_pass(wrong_only_for_several_rows, dlc.graph([x], [x * 1]))


def test_check_pass_takes_inputs():
    x = dlc.input("x", ("N",))
    graph = dlc.graph([x], [abs(x)])
    drops_abs = passes.rewriter("drops_abs", [passes.rule(lambda x: abs(x), name="abs")(lambda x: x)])
    assert check_pass(drops_abs, graph, [[1.0, 2.0]]).outputs == (x.node,)
    with pytest.raises(VerificationError, match=r"at \[1\] it was 2.0 and is -2.0"):
        check_pass(drops_abs, graph, [[1.0, -2.0]])


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x * x,
        lambda x: dlc.tanh(x).sum(axis=0),
        lambda x: (dlc.exp(x), dlc.sin(x)),
        lambda x: x.reshape(6).max(),
        lambda x: dlc.where(x > 0, dlc.log(dlc.maximum(x, 1e-3)), x),
        lambda x: 3.0 * x,
        lambda x: x / (1.0 + x * x),
    ],
)
def test_check_grad_accepts_right_gradients(function):
    check_grad(function, [np.random.default_rng(1).standard_normal((2, 3))])


@pytest.mark.parametrize(
    "function",
    [
        lambda x: dlc.stop_gradient(x) * x,
        lambda x: x * x + dlc.stop_gradient(x) * 1e-3,
        lambda x: x + dlc.stop_gradient(x * 1e-4),
    ],
)
def test_check_grad_rejects_wrong_ones(function):
    with pytest.raises(AssertionError, match="finite differences"):
        check_grad(function, [np.random.default_rng(1).standard_normal((2, 3))])


def test_check_grad_rejects_nan_and_what_has_no_gradient():
    with pytest.raises(AssertionError, match="not finite"):
        check_grad(lambda x: dlc.sqrt(x), [[0.0, 1.0]])
    with pytest.raises(GradientError, match="no floating-point"):
        check_grad(lambda x: x + 1, [[1, 2]])
    with pytest.raises(GradientError, match="needs inputs="):
        check_grad(lambda x: x)


def test_check_grad_at_the_values_that_a_model_has():
    model = nn.Sequential(nn.Linear(3, 2), nn.Tanh())
    graph = dlc.trace(model, dlc.input("x", ("N", 3)))
    check_grad(graph, own_values=True)
    model[0].weight.assign(np.full((2, 3), np.nan, np.float32))
    check_grad(graph)
    with pytest.raises(AssertionError, match="not finite"):
        check_grad(graph, own_values=True)


def test_check_grad_holds_what_is_stopped():
    def pulled(x):  # the gradient of a stopped value within a stopped value is that of a constant too
        inner = dlc.stop_gradient(dlc.exp(x))
        return x * dlc.stop_gradient(inner * x) + inner * x

    check_grad(pulled, [[0.3, 1.7]], hold_stopped=True)
    with pytest.raises(AssertionError, match="finite differences"):
        check_grad(pulled, [[0.3, 1.7]])


def test_check_grad_covers_states_and_named_dims():
    w = State("w", TensorType("float32", (3,)), lambda: [1, 2, 3])
    x, wt = dlc.input("x", ("N", 3)), ops.Tensor(state_node(w))
    check_grad(dlc.graph([x], [dlc.tanh(x * wt)]), bindings={"N": 2})
    with pytest.raises(AssertionError, match="finite differences"):
        check_grad(dlc.graph([x], [dlc.tanh(x * dlc.stop_gradient(wt))]))
    assert not w.is_materialised


def test_as_float64_reaches_constants_casts_and_states():
    w = State("w", TensorType("float32", (3,)), lambda: [1, 2, 3])
    x, i = dlc.input("x", (3,)), dlc.input("i", (3,), "int32")
    y = x * ops.Tensor(state_node(w)) + i.astype("float32") * dlc.constant([1.0, 2.0, 3.0])
    wide = passes.verify(as_float64(dlc.graph([x, i], [y])))
    assert {n.dtype for n in wide.nodes} == {"float64", "int32"}
    assert wide.states[0].leaf.value.tolist() == [1, 2, 3]


def test_random_inputs_fit_the_graph():
    x, i, b = dlc.input("x", ("N", 3)), dlc.input("i", ("N",), "uint8"), dlc.input("b", (), "bool")
    arrays = random_inputs(dlc.graph([x, i, b], [x]), {"N": 7}, np.random.default_rng(0))
    assert [(a.shape, a.dtype.name) for a in arrays] == [((7, 3), "float32"), ((7,), "uint8"), ((), "bool")]
