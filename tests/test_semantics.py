"""What the words of the DSL mean: one test for each promise, named after it, in the order of docs/semantics.md."""

import gc
import threading
from typing import Any

import numpy as np
import pytest

import dlc
from dlc import nn, optim
from dlc.errors import ArgumentError, CallError, DTypeError, GradientError, GraphError, IndexOutOfRangeError
from dlc.ir import Graph, make_node
from dlc.ops.definition import CATALOGUE

BACKENDS = ("reference", "cpu")


def run(graph: Graph, *args: Any, backend: str = "reference", **kwargs: Any) -> Any:
    outputs = dlc.compile(graph, backend, **kwargs)(*args)
    return outputs[0] if len(outputs) == 1 else outputs


# ---------------------------------------------------------------- identity


def test_nodes_are_frozen_interned_and_compared_by_identity() -> None:
    x = dlc.input("x", (3,))
    a, b = dlc.exp(x), dlc.exp(x)
    assert a.node is b.node
    with pytest.raises(AttributeError):
        a.node.type = None


def test_constants_are_keyed_by_dtype_and_bits() -> None:
    def node(v: Any, d: str) -> Any:
        return dlc.constant(v, d).node

    assert node(0.0, "float32") is node(0.0, "float32")
    assert node(0.0, "float32") is not node(-0.0, "float32")
    assert node(1, "int32") is not node(True, "bool")
    assert node(1.0, "float32") is not node(1.0, "float64")
    big = np.arange(100_000, dtype=np.float32)
    assert dlc.constant(big).node is dlc.constant(big.copy()).node


def test_attributes_are_keyed_by_type() -> None:
    x = dlc.input("x", (3, 3))
    pad = CATALOGUE["pad"].function
    assert pad is not None
    zero, negative = pad(x, [(1, 1), (0, 0)], value=0.0), pad(x, [(1, 1), (0, 0)], value=-0.0)
    assert zero.node is not negative.node


def test_intern_table_is_weak() -> None:
    from dlc.ir import _interned

    x = dlc.input("x", (3,))
    gc.collect()
    before = len(_interned)
    t = dlc.exp(dlc.tanh(dlc.exp(x)))
    assert len(_interned) == before + 3
    del t
    gc.collect()
    assert len(_interned) == before


def test_traversals_are_iterative_on_a_chain_of_100_000_nodes() -> None:
    x = dlc.input("x", ())
    t = x
    for _ in range(100_000):
        t = dlc.tanh(t)
    graph = dlc.graph([x], [t])
    assert len(graph.nodes) == 100_001
    del graph, t  # freeing it must not recurse either
    gc.collect()
    t = x
    for _ in range(5_000):  # deeper than Python's own stack
        t = dlc.tanh(t)
    (dx,) = dlc.grad(t, [x])
    assert len(dlc.graph([x], [dx]).nodes) > 20_000


def test_equality_of_tensors_is_elementwise_and_truth_raises() -> None:
    x = dlc.input("x", (3,))
    assert (x == x).dtype == "bool"
    with pytest.raises(GraphError, match=r"dlc.where"):
        bool(x == x)


def test_numpy_on_the_left_defers_to_tensors() -> None:
    x = dlc.input("x", (3,))
    t = np.ones(3, np.float32) * x
    assert isinstance(t, dlc.Tensor)
    assert t.shape == (3,)


def test_graph_keeps_every_origin_of_a_merged_node() -> None:
    x = dlc.input("x", (3,))
    a = dlc.exp(x)
    b = dlc.exp(x)
    graph = dlc.graph([x], [a, b])
    lines = {o.line for o in graph.origins[a.node]}
    assert a.node is b.node
    assert len(lines) == 2


def test_inputs_of_one_name_never_merge_and_are_an_error_in_one_graph() -> None:
    a, b = dlc.input("x", (3,)), dlc.input("x", (3,))
    assert a.node is not b.node
    with pytest.raises(GraphError, match="two different inputs"):
        dlc.graph([a, b], [a + b])


def test_two_nets_with_equal_names_never_merge() -> None:
    x = dlc.input("x", ("N", 4))
    one, two = nn.Sequential(nn.Linear(4, 2)), nn.Sequential(nn.Linear(4, 2))
    assert one(x).node is not two(x).node


def test_graph_equality_is_structural_with_inputs_by_position() -> None:
    def make(first: str, second: str) -> Graph:
        a, b = dlc.input(first, ("N",)), dlc.input(second, ("N",))
        return dlc.graph([a, b], [a - b])

    assert make("a", "b").same_structure(make("p", "q"))
    a, b = dlc.input("a", ("N",)), dlc.input("b", ("N",))
    assert not make("a", "b").same_structure(dlc.graph([a, b], [b - a]))


def test_parameter_owns_storage_that_every_program_binds_by_reference() -> None:
    model = nn.Sequential(nn.Linear(3, 1, bias=False))
    x = dlc.input("x", ("N", 3))
    prediction = model(x)
    look = dlc.compile(dlc.graph([x], [prediction]), "reference")
    step = dlc.train_step(model, inputs=[x], loss=dlc.sum(prediction), optimizer=optim.SGD(1.0), backend="reference")
    data = np.ones((1, 3), np.float32)
    (before,) = look(data)
    step(data)
    (after,) = look(data)
    np.testing.assert_allclose(after, before - 3.0, rtol=1e-5)


def test_state_dict_gives_views_without_a_copy() -> None:
    model = nn.Sequential(nn.Linear(3, 2))
    model(dlc.input("x", ("N", 3)))
    (parameter,) = (p for name, p in model.named_parameters() if name == "0.weight")
    assert np.shares_memory(model.state_dict()["0.weight"], parameter.value)


# ---------------------------------------------------------------- shapes and types


def test_dims_are_integer_polynomials_with_quotients() -> None:
    from dlc.dims import dim

    n, t, h = dim("N"), dim("T"), dim("H")
    assert dim("N*T") == n * t
    assert dim("(H-5)//2+1") == (h - 5) // 2 + 1 == (h - 3) // 2
    assert n * t // t == n
    x = dlc.input("x", ("N", "H"))
    assert dlc.concat([x, x], axis=0).shape == (2 * n, h)


def test_symbol_never_broadcasts_as_if_it_were_1() -> None:
    with pytest.raises(dlc.errors.ShapeError):
        dlc.input("x", ("N", 3)) + dlc.input("y", ("M", 3))
    x, y = dlc.input("x", ("N", 3)), dlc.input("y", (1, 3))
    assert (x + y).shape == x.shape


def test_symbols_are_bound_at_the_call_and_a_mismatch_names_both() -> None:
    x, y = dlc.input("x", ("N",)), dlc.input("y", ("N",))
    program = dlc.compile(dlc.graph([x, y], [x + y]), "reference")
    with pytest.raises(ArgumentError, match=r"N is 2 in axis 0 of 'x', but 3 in axis 0 of 'y'"):
        program([1.0, 2.0], [1.0, 2.0, 3.0])
    z = dlc.input("z", ("2*N+1",))
    program = dlc.compile(dlc.graph([x, z], [x, z]), "reference")
    assert program(np.ones(2, "f"), np.ones(5, "f"))[1].shape == (5,)
    with pytest.raises(ArgumentError, match=r"2\*N\+1 = 5 with N = 2, got 4"):
        program(np.ones(2, "f"), np.ones(4, "f"))


@pytest.mark.parametrize("backend", BACKENDS)
def test_program_serves_any_batch_size_without_recompiling(backend: str) -> None:
    x = dlc.input("x", ("N", 3))
    program = dlc.compile(dlc.graph([x], [dlc.sum(x * 2, axis=0)]), backend)
    kernels = program.kernels
    for n in (1, 5, 2, 0):
        np.testing.assert_allclose(program(np.ones((n, 3), "f"))[0], [2 * n] * 3)
    assert program.kernels == kernels


def test_promotion_is_the_array_apis_and_python_scalars_are_weak() -> None:
    f, d, i = dlc.input("f"), dlc.input("d", (), "float64"), dlc.input("i", (), "int8")
    assert (f + d).dtype == "float64"
    assert (f * 2).dtype == (f * 2.5).dtype == "float32"
    assert (i + 1).dtype == "int8"
    assert (i + dlc.input("u", (), "uint8")).dtype == "int16"
    with pytest.raises(DTypeError):
        i + 1.5
    with pytest.raises(DTypeError):
        i + f
    third = np.float64(1.0) / 3.0
    assert {t.dtype for t in (dlc.constant(third), f * third, third * f, f * np.array(third))} == {"float64"}
    assert {t.dtype for t in (dlc.constant(float(third)), dlc.constant([1.0]), f * [1.0])} == {"float32"}
    one = dlc.constant(np.ones(1))
    for product in (one * third, one * float(third), one * [float(third)], [float(third)] * one):
        assert dlc.evaluate(product).ravel().tolist() == [1.0 / 3.0]


def test_program_refuses_a_lossy_cast() -> None:
    x = dlc.input("x", ("N",))
    program = dlc.compile(dlc.graph([x], [x]), "reference")
    with pytest.raises(DTypeError, match="astype"):
        program(np.ones(3))
    assert program(np.ones(3, np.uint8))[0].dtype == np.float32


def test_any_integer_dtype_serves_as_labels_or_indices() -> None:
    logits, y = dlc.input("logits", ("N", 3)), dlc.input("y", ("N",), "int64")
    program = dlc.compile(dlc.graph([logits, y], [nn.functional.cross_entropy(logits, y)]), "reference")
    values = [program(np.eye(3, dtype="f"), np.arange(3, dtype=t))[0] for t in ("i1", "u1", "i4", "u4", "i8")]
    assert len({v.tobytes() for v in values}) == 1
    for dtype in ("int8", "uint8", "int32", "uint32"):
        labels = dlc.input("y", ("N",), dtype)
        assert nn.functional.cross_entropy(logits, labels).shape == ()


# ---------------------------------------------------------------- programs


@pytest.mark.parametrize("backend", BACKENDS)
def test_program_takes_inputs_in_order_or_by_name_with_any_strides_and_gives_fresh_arrays(backend: str) -> None:
    x, y = dlc.input("x", (2, 3)), dlc.input("y", (2, 3))
    program = dlc.compile(dlc.graph([x, y], [x - y, x]), backend)
    a = np.arange(12, dtype="f").reshape(3, 4)[:, ::2].T
    b = np.ones((2, 3), "f")
    first = program(a, b)
    assert isinstance(first, tuple)
    second = program(y=b, x=a)
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[0], a - b)
    assert not np.shares_memory(first[1], a)
    assert not np.shares_memory(first[0], second[0])
    first[0][...] = 0
    np.testing.assert_array_equal(second[0], a - b)


def test_program_takes_dlpack() -> None:
    class Exporter:
        def __init__(self, array: Any) -> None:
            self.array = array

        def __dlpack__(self, **kwargs: Any) -> Any:
            return self.array.__dlpack__(**kwargs)

        def __dlpack_device__(self) -> Any:
            return self.array.__dlpack_device__()

    x = dlc.input("x", (3,))
    assert run(dlc.graph([x], [x + 1]), Exporter(np.ones(3, "f"))).tolist() == [2.0] * 3


def test_calls_are_reentrant_from_several_threads() -> None:
    x = dlc.input("x", ("N", 64))
    program = dlc.compile(dlc.graph([x], [dlc.sum(dlc.tanh(x) * x, axis=1)]))
    data = np.random.default_rng(0).standard_normal((50, 64)).astype("f")
    (expected,) = program(data)
    failures: list[Any] = []

    def work() -> None:
        for _ in range(50):
            if not np.array_equal(program(data)[0], expected):
                failures.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert not failures


@pytest.mark.parametrize("backend", BACKENDS)
def test_step_that_fails_leaves_all_state_as_it_was(backend: str) -> None:
    embedding = nn.Embedding(4, 2)
    index = dlc.input("index", ("N",), "int32")
    loss = dlc.sum(embedding(index))
    step = dlc.train_step(embedding, inputs=[index], loss=loss, optimizer=optim.Adam(0.1), backend=backend)
    step(np.array([0, 1], np.int32))
    before = {n.leaf: n.leaf.value.copy() for n in step.program.graph.states}
    with pytest.raises(IndexOutOfRangeError):
        step(np.array([0, 9], np.int32))
    for state, value in before.items():
        np.testing.assert_array_equal(state.value, value)


def test_program_graph_is_the_graph_before_fusion_and_bodies_are_graphs() -> None:
    x = dlc.input("x", ("N",))
    program = dlc.compile(dlc.graph([x], [dlc.exp(x) * 2 + 1]))
    assert not any(n.op.name == "fused" for n in program.graph.nodes)
    fused = [n for n in program.final.nodes if n.op.name == "fused"]
    assert fused and isinstance(fused[0].attrs["body"], Graph)
    assert program.passes and program.plan is not None and program.kernels
    assert "fuse" in program.explain()


def test_learning_rate_is_state_and_changing_it_recompiles_nothing() -> None:
    model = nn.Sequential(nn.Linear(2, 1, bias=False))
    x = dlc.input("x", ("N", 2))
    sgd = optim.SGD(0.0)
    step = dlc.train_step(model, inputs=[x], loss=dlc.sum(model(x)), optimizer=sgd, backend="reference")
    weight = model.state_dict()["0.weight"]
    start = weight.copy()
    program = step.program
    step(np.ones((1, 2), "f"))
    np.testing.assert_array_equal(weight, start)
    sgd.lr = 0.5
    step(np.ones((1, 2), "f"))
    np.testing.assert_allclose(weight, start - 0.5)
    assert step.program is program


# ---------------------------------------------------------------- modules, mode, state


def test_module_needs_no_super_init_and_names_parameters_by_path() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            self.layers = [nn.Linear(3, 4), nn.Linear(4, 2)]

        def forward(self, x: Any) -> Any:
            for layer in self.layers:
                x = layer(x)
            return x

    block = Block()
    block(dlc.input("x", ("N", 3)))
    assert [name for name, _ in block.named_parameters()] == [
        "layers.0.weight", "layers.0.bias", "layers.1.weight", "layers.1.bias",
    ]  # fmt: skip


def test_shapes_known_only_from_the_input_resolve_at_the_first_trace() -> None:
    model = nn.Sequential(nn.Conv2d(None, 6, 5), nn.Flatten(), nn.Linear(7))
    dlc.trace(model, dlc.input("x", ("N", 2, 8, 8)))
    shapes = {name: p.shape for name, p in model.named_parameters()}
    assert shapes["0.weight"] == (6, 2, 5, 5)
    assert shapes["2.weight"] == (7, 6 * 4 * 4)


def test_values_materialise_from_seed_and_path_and_set_values_stay() -> None:
    def weights(seed: int | None = None) -> Any:
        model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
        model(dlc.input("x", ("N", 3)))
        if seed is not None:
            model.initialise(seed)
        return model

    a, b = weights().state_dict(), weights().state_dict()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])
    assert not np.array_equal(weights(1).state_dict()["0.weight"], a["0.weight"])
    model = weights()
    mine = np.full((2, 3), 7, "f")
    model.load_state_dict({**model.state_dict(), "0.weight": mine})
    model.initialise(5)
    np.testing.assert_array_equal(model.state_dict()["0.weight"], mine)


def test_training_is_a_leaf_and_one_definition_serves_both_modes() -> None:
    layer = nn.Dropout(0.5)
    x = dlc.input("x", (1000,))
    graph = dlc.graph([x], [layer(x)])
    ones = np.ones(1000, "f")
    np.testing.assert_array_equal(run(graph, ones), ones)
    dropped = run(graph, ones, training=True)
    assert set(np.unique(dropped)) == {0.0, 2.0}
    final = dlc.compile(graph, "reference").final
    assert not any(n.op.name == "random_bits" for n in final.nodes)  # the side not taken is gone


def test_batch_norm_statistics_ride_on_the_handles() -> None:
    norm = nn.BatchNorm1d(3)
    x = dlc.input("x", ("N", 3))
    loss = dlc.sum(norm(x))
    step = dlc.train_step(norm, inputs=[x], loss=loss, optimizer=optim.SGD(0.0), backend="reference")
    data = np.random.default_rng(0).standard_normal((10, 3)).astype("f")
    step(data)
    state = norm.state_dict()
    np.testing.assert_allclose(state["running_mean"], 0.1 * data.mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(state["running_var"], 0.9 + 0.1 * data.var(0, ddof=1), rtol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_updates_read_old_values_cycles_included(backend: str) -> None:
    a, b = dlc.parameter(np.array([1.0, 2.0], "f"), name="a"), dlc.parameter(np.array([3.0, 4.0], "f"), name="b")
    ta, tb = dlc.ops.Tensor.__mul__(dlc.ops.tensor.wrap(a), 1.0), dlc.ops.tensor.wrap(b)
    graph = dlc.graph([], [ta + tb], updates=[(a, tb), (b, ta)])
    total = run(graph, backend=backend)
    np.testing.assert_array_equal(total, [4.0, 6.0])
    np.testing.assert_array_equal(a.value, [3.0, 4.0])
    np.testing.assert_array_equal(b.value, [1.0, 2.0])


def test_random_draws_are_the_same_numbers_on_every_backend() -> None:
    graph = dlc.graph([], [dlc.ops.uniform((257,)), dlc.ops.normal((33,))])
    values = {b: dlc.compile(graph, b, seed=3)() for b in BACKENDS}
    np.testing.assert_array_equal(values["reference"][0], values["cpu"][0])
    np.testing.assert_allclose(values["reference"][1], values["cpu"][1], rtol=1e-5, atol=1e-6)
    assert not np.array_equal(values["cpu"][0], dlc.compile(graph, "reference", seed=4)()[0])


def test_random_draws_advance_with_the_step_and_differ_by_site() -> None:
    graph = dlc.graph([], [dlc.ops.uniform((8,)), dlc.ops.uniform((8,))])
    program = dlc.compile(graph, "reference")
    first, second = program(), program()
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first[0], second[0])
    again = dlc.compile(graph, "reference")()
    np.testing.assert_array_equal(first[0], again[0])


# ---------------------------------------------------------------- derivatives


def test_gradient_of_unconnected_inputs_is_zero() -> None:
    x, y = dlc.input("x", ("N",)), dlc.input("y", ("N", 2))
    _, dy = dlc.grad(dlc.sum(x * x), [x, y])
    assert run(dlc.graph([x, y], [dy]), np.ones(3, "f"), np.ones((3, 2), "f")).tolist() == [[0.0, 0.0]] * 3


def test_gradient_of_a_non_scalar_needs_a_cotangent() -> None:
    x = dlc.input("x", ("N",))
    with pytest.raises(GradientError, match="cotangents"):
        dlc.grad(x * x, [x])
    (dx,) = dlc.grad(x * x, [x], cotangents=x)
    np.testing.assert_array_equal(run(dlc.graph([x], [dx]), np.array([1, 2, 3], "f")), [2, 8, 18])


def test_gradients_of_gradients() -> None:
    x = dlc.input("x")
    y = x**3
    (d1,) = dlc.grad(y, [x])
    (d2,) = dlc.grad(d1, [x])
    (d3,) = dlc.grad(d2, [x])
    values = run(dlc.graph([x], [y, d1, d2, d3]), 2.0)
    np.testing.assert_allclose(values, (8, 12, 12, 6), rtol=1e-5)


def test_subgradients() -> None:
    x, y = dlc.input("x"), dlc.input("y")
    assert run(dlc.graph([x], dlc.grad(dlc.relu(x), [x])), 0.0) == 0.0
    halves = run(dlc.graph([x, y], dlc.grad(dlc.maximum(x, y), [x, y])), 1.0, 1.0)
    assert [float(h) for h in halves] == [0.5, 0.5]
    assert run(dlc.graph([x], dlc.grad(dlc.sqrt(x), [x])), 0.0) == np.inf
    v = dlc.input("v", (4,))
    ties = run(dlc.graph([v], dlc.grad(dlc.max(v), [v])), np.array([1, 3, 3, 0], "f"))
    np.testing.assert_array_equal(ties, [0, 0.5, 0.5, 0])


@pytest.mark.parametrize("function", [dlc.log, dlc.sqrt, lambda x: 1 / x, lambda x: x**-1.5, dlc.log1p])
def test_masked_branches_of_where_give_no_nan(function: Any) -> None:
    x = dlc.input("x", (3,))
    y = dlc.sum(dlc.where(x > 0, function(x), 0.0))
    (dx,) = dlc.grad(y, [x])
    value = run(dlc.graph([x], [dx]), np.array([-1.0, 0.0, 1.0], "f"))
    assert np.isfinite(value).all()
    assert value[0] == value[1] == 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_reverse_of_scan_is_a_scan(backend: str) -> None:
    x, w = dlc.input("x", ("T", 3)), dlc.input("w", (3, 3))

    def body(carry: Any, inputs: Any) -> Any:
        (h,), (v,) = carry, inputs
        h = dlc.tanh(h @ w + v)
        return (h,), (h,)

    (last,), _ = dlc.scan(body, (dlc.ops.zeros((3,)),), (x,))
    dw, dx = dlc.grad(dlc.sum(last * last), [w, x])
    graph = dlc.graph([x, w], [dw, dx])
    assert 1 <= sum(n.op.name == "scan" for n in graph.nodes) <= 3
    rng = np.random.default_rng(0)
    xv, wv = rng.standard_normal((5, 3)).astype("f"), rng.standard_normal((3, 3)).astype("f")
    gw, gx = run(graph, xv, wv, backend=backend)

    def value(xs: Any, ws: Any) -> float:
        h = np.zeros(3)
        for v in xs.astype("d"):
            h = np.tanh(h @ ws.astype("d") + v)
        return float((h * h).sum())

    for array, gradient, at in ((wv, gw, (1, 2)), (xv, gx, (2, 1))):
        up, down = array.astype("d"), array.astype("d")
        up[at] += 1e-5
        down[at] -= 1e-5
        pair = ((xv, up), (xv, down)) if array is wv else ((up, wv), (down, wv))
        np.testing.assert_allclose(gradient[at], (value(*pair[0]) - value(*pair[1])) / 2e-5, rtol=1e-3, atol=1e-5)


def test_cross_entropy_takes_the_last_axis_unless_told() -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.standard_normal((2, 5, 3)).astype("f"), rng.integers(0, 3, (2, 5))
    x, y = dlc.input("x", ("N", 5, 3)), dlc.input("y", ("N", 5), "int64")
    last = run(dlc.graph([x, y], [nn.functional.cross_entropy(x, y)]), logits, labels)
    x1 = dlc.input("x", ("N", 3, 5))
    first = run(dlc.graph([x1, y], [nn.functional.cross_entropy(x1, y, axis=1)]), logits.transpose(0, 2, 1), labels)
    p = np.exp(logits.astype("d"))
    p /= p.sum(-1, keepdims=True)
    expected = -np.log(np.take_along_axis(p, labels[..., None], -1)).mean()
    np.testing.assert_allclose([last, first], expected, rtol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradient_of_softmax_cross_entropy_is_p_minus_y(backend: str) -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.standard_normal((6, 4)).astype("f"), rng.integers(0, 4, 6)
    x, y = dlc.input("x", ("N", 4)), dlc.input("y", ("N",), "int64")
    (dx,) = dlc.grad(nn.functional.cross_entropy(x, y), [x])
    p = np.exp(logits.astype("d"))
    p /= p.sum(-1, keepdims=True)
    value = run(dlc.graph([x, y], [dx]), logits, labels, backend=backend)
    np.testing.assert_allclose(value, (p - np.eye(4)[labels]) / 6, rtol=1e-4, atol=1e-7)


def test_vmap_is_the_stack_of_its_samples_and_may_draw_for_each() -> None:
    x = np.arange(6, dtype="f").reshape(2, 3)

    def noisy(row: Any) -> Any:
        return dlc.cumulative_sum(row) + dlc.uniform((3,), site="noise")

    same = dlc.evaluate(dlc.vmap(noisy)(x))
    np.testing.assert_array_equal(same, np.stack([dlc.evaluate(noisy(row)) for row in x]))
    own = dlc.evaluate(dlc.vmap(noisy, randomness="different")(x))
    np.testing.assert_array_equal(own, dlc.evaluate(dlc.cumulative_sum(x) + dlc.uniform((2, 3), site="noise")))


# ---------------------------------------------------------------- numerics and native calls


def test_negative_zero_nan_and_infinity_are_observable() -> None:
    x = dlc.input("x", (5,))
    special = np.array([-0.0, 0.0, np.nan, np.inf, -np.inf], "f")
    graph = dlc.graph([x], [x * 1, x + 0.0, x - 0.0, x * 0.0, -x, dlc.abs(x), dlc.maximum(x, 1.0)])
    for reference, native in zip(run(graph, special), run(graph, special, backend="cpu"), strict=True):
        np.testing.assert_array_equal(reference, native)
        zero = reference == 0  # the sign of NaN is nobody's business
        np.testing.assert_array_equal(np.signbit(reference[zero]), np.signbit(native[zero]))


def test_integers_wrap_and_divisions_by_zero_and_long_shifts_are_defined() -> None:
    x = np.array([-128, 127, -3], np.int8)
    t = dlc.constant(x)
    n = dlc.constant(np.array([8, -1, 7], np.int8))
    assert dlc.evaluate(t * t).tolist() == [0, 1, 9] == (x * x).tolist()
    found = dlc.evaluate(dlc.vecdot(t, t))
    assert (found.dtype, found.item()) == (np.int8, 10)
    assert dlc.evaluate(t // dlc.zeros_like(t)).tolist() == dlc.evaluate(t % dlc.zeros_like(t)).tolist() == [0, 0, 0]
    assert dlc.evaluate(t // -1).tolist() == [-128, -127, 3]
    assert dlc.evaluate(dlc.bitwise_left_shift(t, n)).tolist() == [0, 0, -128]
    assert dlc.evaluate(dlc.bitwise_right_shift(t, n)).tolist() == [-1, 0, -1]


@pytest.mark.parametrize("backend", BACKENDS)
def test_padding_is_zeros_to_a_convolution_nothing_to_its_gradient_and_never_a_maximum(backend: str) -> None:
    x, w = dlc.input("x", (1, 1, 1, 4)), dlc.input("w", (1, 1, 1, 3))
    y = dlc.conv2d(x, w, padding=(0, 1))
    (dx,) = dlc.grad(y.sum(), [x])
    highest, place = dlc.max_pool(x[:, :, 0], 2, 2, 1, return_indices=True)
    image, weights = np.full((1, 1, 1, 4), -np.inf, np.float32), np.array([[[[np.inf, 1, 2]]]], np.float32)
    image[..., 1:3] = 1
    values = dlc.compile(dlc.graph([x, w], [y, dx, highest, place]), backend)(image, weights)
    met, slope, best, at = (v.ravel().tolist() for v in values)
    assert np.isnan(met[0]) and slope == [np.inf, np.inf, np.inf, 3]  # the last pixel met no infinite weight
    assert (best, at) == ([-np.inf, 1, -np.inf], [0, 1, 3])


def test_sums_run_over_a_fixed_tree() -> None:
    x = dlc.input("x", ("N",))
    program = dlc.compile(dlc.graph([x], [dlc.sum(x)]))
    data = np.random.default_rng(0).standard_normal(1_000_003).astype("f")
    values = {program(data)[0].tobytes() for _ in range(3)}
    assert len(values) == 1
    np.testing.assert_allclose(program(data)[0], data.astype("d").sum(), atol=2e-2)


def test_equal_structures_share_kernels() -> None:
    def mlp(layers: int) -> Any:
        x = dlc.input("x", ("N", 8))
        model = nn.Sequential(*[m for _ in range(layers) for m in (nn.Linear(8, 8), nn.Tanh())])
        loss = dlc.mean(model(x))
        return dlc.train_step(model, inputs=[x], loss=loss, optimizer=optim.Adam(1e-3)).program

    assert len(mlp(12).kernels) <= len(mlp(6).kernels)


def test_long_scan_compiles_no_more_than_a_short_one() -> None:
    def total(length: int) -> Any:
        x = dlc.input("x", (length, 4))
        (h,), _ = dlc.scan(lambda c, i: ((dlc.tanh(c[0] + i[0]),), ()), (dlc.ops.zeros((4,)),), (x,))
        (dx,) = dlc.grad(dlc.sum(h), [x])
        return dlc.compile(dlc.graph([x], [dx]))

    short, long = total(20), total(2000)
    assert {k.source for k in long.kernels} == {k.source for k in short.kernels}
    assert np.isfinite(long(np.zeros((2000, 4), "f"))[0]).all()


def test_identifiers_in_kernels_come_from_counters_never_from_users() -> None:
    hostile = "x'); import os; os._exit(1) #\n\0"
    x = dlc.input(hostile, ("N",))
    program = dlc.compile(dlc.graph([x], [dlc.exp(x) + 1]))
    assert all("import os" not in k.source and "_exit" not in k.source for k in program.kernels)
    np.testing.assert_allclose(program(np.zeros(2, "f"))[0], [2.0, 2.0])
    with pytest.raises(CallError):
        program()


def test_index_found_bad_while_running_is_an_error_that_names_the_line() -> None:
    table, index = dlc.input("table", (4, 2)), dlc.input("index", ("N",), "int64")
    computed = index + 1
    taken = dlc.take(table, computed, axis=0)
    program = dlc.compile(dlc.graph([table, index], [taken]))
    data = np.arange(8, dtype="f").reshape(4, 2)
    np.testing.assert_array_equal(program(data, np.array([0, 2]))[0], data[[1, 3]])
    with pytest.raises(IndexOutOfRangeError, match=r"test_semantics.py"):
        program(data, np.array([0, 3]))


def test_make_node_is_the_only_way_to_build_and_checks_types() -> None:
    x = dlc.input("x", (3,))
    with pytest.raises(dlc.errors.DlcError):
        make_node(CATALOGUE["add"], (x.node, dlc.input("y", (4,)).node))


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_no_output_needs_does_not_run_and_does_not_fail(backend: str) -> None:
    x, i = dlc.input("x", (2, 3)), dlc.input("i", (2, 1), "int64")
    read = dlc.take_along_axis(x, i, axis=1)
    wrong = np.zeros((2, 3), np.float32), np.array([[0], [3]])
    (slope,) = dlc.compile(dlc.graph([x, i], dlc.grad(read.sum(), [x])), backend)(*wrong)
    assert slope.tolist() == [[1, 0, 0], [0, 0, 0]]  # as if nothing had been read there
    with pytest.raises(IndexOutOfRangeError, match="3"):
        dlc.compile(dlc.graph([x, i], [read]), backend)(*wrong)
