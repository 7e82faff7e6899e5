"""Fusion: what shares a kernel, what does not and why, and that the numbers stay the same."""

import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dlc
from dlc import ops
from dlc.ir import Graph, TensorType
from dlc.ops.definition import Kind
from dlc.ops.interpret import interpret
from dlc.ops.tensor import Tensor, state_node
from dlc.passes import fuse, verify
from dlc.passes.fuse import fusion_notes
from dlc.passes.schedule import is_kernel, schedule
from dlc.state import State


def kernels(graph: Graph) -> list[list[str]]:
    """For each kernel of a fused graph the ops in it, sorted."""
    found = []
    for node in graph.nodes:
        if is_kernel(node):
            inner = node.attrs["body"].nodes if node.op.kind is Kind.FUSED else (node,)
            found.append(sorted(n.op.name for n in inner if n.op.kind is not Kind.LEAF))
    return sorted(found)


def parameter(name: str, *shape: int) -> Tensor:
    value = np.random.default_rng(len(name)).standard_normal(shape).astype(np.float32)
    return Tensor(state_node(State(name, TensorType("float32", shape), lambda: value)))


def same_values(graph: Graph, fused: Graph, *arrays: Any, **bindings: int) -> None:
    verify(fused)
    states = {n: n.leaf.value for n in graph.states}
    before, after = (interpret(g, arrays, bindings, states) for g in (graph, fused))
    for b, a in zip((*before[0], *before[1]), (*after[0], *after[1]), strict=True):
        np.testing.assert_array_equal(b, a)


X = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)


def test_an_elementwise_chain_is_one_kernel_with_its_constants_inside() -> None:
    x = dlc.input("x", ("N", 4))
    graph = dlc.graph([x], [dlc.tanh(dlc.exp(x) * 2.0 + 1.0)])
    fused = fuse(graph)
    assert kernels(fused) == [["add", "exp", "multiply", "tanh"]]
    (node,) = fused.outputs
    assert node.inputs == (x.node,)
    assert not any(n.op.name == "constant" for n in fused.nodes)
    same_values(graph, fused, X, N=5)


def test_a_reduction_takes_in_what_it_reads_and_what_follows_it() -> None:
    x, b = dlc.input("x", ("N", 4)), dlc.input("b", ("N",))
    graph = dlc.graph([x, b], [dlc.sqrt(dlc.sum(dlc.exp(x), axis=1) + b)])
    fused = fuse(graph)
    assert kernels(fused) == [["add", "exp", "sqrt", "sum"]]
    same_values(graph, fused, X, X[:, 0], N=5)


def test_reductions_along_rows_run_inside_the_loop_over_rows() -> None:
    x, g = dlc.input("x", ("N", 4)), dlc.input("g", (4,))
    d = x - dlc.mean(x, axis=1, keepdims=True)
    norm = d / dlc.sqrt(dlc.mean(d * d, axis=1, keepdims=True) + 1e-5) * g
    graph = dlc.graph([x, g], [norm])
    assert len(kernels(fuse(graph))) == 1
    same_values(graph, fuse(graph), X, X[0], N=5)


def test_reductions_of_which_one_goes_down_columns_are_two_kernels() -> None:
    x = dlc.input("x", (4, 4))
    graph = dlc.graph([x], [dlc.sum(x, axis=1) * dlc.max(x, axis=0)])
    assert len(kernels(fuse(graph))) == 2
    (note,) = fusion_notes(graph)
    assert "built around" in note.reason
    same_values(graph, fuse(graph), X[:4])


def test_a_sum_over_everything_is_not_repeated_in_each_row() -> None:
    x = dlc.input("x", ("N", 4))
    graph = dlc.graph([x], [x / dlc.sum(x * x)])
    assert len(kernels(fuse(graph))) == 2


def test_a_row_is_computed_again_rather_than_stored() -> None:
    x = dlc.input("x", ("N", 4))
    graph = dlc.graph([x], [dlc.softmax(x)])
    assert len(kernels(fuse(graph))) == 1
    same_values(graph, fuse(graph), X, N=5)


def test_what_is_expensive_and_read_by_two_kernels_is_computed_once() -> None:
    x = dlc.input("x", ("N", 4))
    e = dlc.exp(x)
    graph = dlc.graph([x], [dlc.sum(e, axis=0), dlc.sum(e * x, axis=1)])
    fused = fuse(graph)
    assert sum("exp" in names for names in kernels(fused)) == 1
    assert any(n.producer is e.node and "kernels read it" in n.reason for n in fusion_notes(graph))
    same_values(graph, fused, X, N=5)


def test_what_is_expensive_and_broadcast_is_computed_once() -> None:
    x, s = dlc.input("x", ("N", 4)), dlc.input("s", (4,))
    graph = dlc.graph([x, s], [x * dlc.exp(s)])
    assert kernels(fuse(graph)) == [["exp"], ["multiply"]]
    (note,) = fusion_notes(graph)
    assert "more than once" in note.reason and note.producer.op.name == "exp"
    same_values(graph, fuse(graph), X, X[0], N=5)


def test_what_broadcasts_along_rows_is_computed_once_a_row() -> None:
    x, t = dlc.input("x", ("N", 4)), dlc.input("t", ("N", 1))
    graph = dlc.graph([x, t], [x * dlc.exp(t)])
    assert kernels(fuse(graph)) == [["exp", "multiply"]]
    same_values(graph, fuse(graph), X, X[:, :1], N=5)


def test_cheap_ops_of_one_operand_are_copied_to_each_reader() -> None:
    x, y = dlc.input("x", ("N", 4)), dlc.input("y", ("N", 4))
    mask = dlc.astype(x > 0.0, "float32")
    graph = dlc.graph([x, y], [dlc.sum(mask * y, axis=0), dlc.exp(mask + y)])
    fused = fuse(graph)
    assert len(kernels(fused)) == 2 and all("greater" in names for names in kernels(fused))
    same_values(graph, fused, X, X + 1, N=5)


def test_copying_stays_linear() -> None:
    x = dlc.input("x", (8,))
    h, outputs = x, []
    for i in range(200):
        h = h * float(i)
        outputs.append(dlc.sum(dlc.exp(h)))
    fused = fuse(dlc.graph([x], outputs))
    assert sum(len(names) for names in kernels(fused)) < 200 * 10


def test_views_are_index_maps_of_each_reader() -> None:
    x = dlc.input("x", ("N", 4))
    t = dlc.permute_dims(x, (1, 0))
    graph = dlc.graph([x], [dlc.exp(t), dlc.sum(t, axis=0)])
    fused = fuse(graph)
    assert kernels(fused) == [["exp", "permute_dims"], ["permute_dims", "sum"]]
    same_values(graph, fused, X, N=5)


def test_reshapes_between_kernels_stay_names_for_the_same_bytes() -> None:
    x, b = dlc.input("x", ("N", 3, 4)), parameter("b", 3)
    graph = dlc.graph([x], [dlc.exp(dlc.reshape(dlc.exp(x), ("N", 12))), x + dlc.reshape(b, (3, 1))])
    fused = fuse(graph)
    assert kernels(fused) == [["add"], ["exp"], ["exp"]]


def test_an_optimiser_updates_a_parameter_and_its_slots_in_one_kernel() -> None:
    g, scale = dlc.input("g", (6,)), dlc.input("scale")
    p, m, v = parameter("p", 6), parameter("m", 6), parameter("v", 6)
    new_m = 0.9 * m + 0.1 * g
    new_v = 0.99 * v + 0.01 * (g * g)
    new_p = p - scale * new_m / (dlc.sqrt(new_v) + 1e-8)
    graph = dlc.graph([g, scale], [], updates=[(p, new_p), (m, new_m), (v, new_v)])
    fused = fuse(graph)
    (node,) = [n for n in fused.nodes if is_kernel(n)]
    assert len(node.type.items) == 3
    plan = schedule(fused)
    assert set(plan.direct) == {p.node, m.node, v.node}
    for state in graph.states:
        state.leaf.assign(np.abs(state.leaf.value))
    same_values(graph, fused, X.ravel()[:6], np.float32(0.1))


def test_a_result_that_another_kernel_reads_too_does_not_make_a_cycle() -> None:
    x, w = dlc.input("x", (4,)), parameter("w", 4)
    new_w = w - 0.1 * x
    graph = dlc.graph([x], [new_w * dlc.exp(dlc.sum(new_w))], updates=[(w, new_w)])
    same_values(graph, fuse(graph), X[0])
    graph = dlc.graph([x], [new_w + dlc.sum(dlc.exp(new_w))], updates=[(w, new_w)])
    same_values(graph, fuse(graph), X[0])


def test_equal_layers_share_one_body() -> None:
    h = x = dlc.input("x", ("N", 4))
    for i in range(6):
        h = dlc.tanh(dlc.exp(h @ parameter(f"w{i}", 4, 4)) * 2.0)
    bodies = [n.attrs["body"] for n in fuse(dlc.graph([x], [h])).nodes if n.op.kind is Kind.FUSED]
    assert len(bodies) == 6 and len(set(bodies)) == 1


def test_a_fused_node_keeps_the_origins_of_what_it_computes() -> None:
    x = dlc.input("x", ("N",))
    a = dlc.exp(x)
    b = dlc.tanh(a)
    graph = dlc.graph([x], [b])
    (node,) = fuse(graph).outputs
    assert {o.line for o in fuse(graph).origins[node]} >= {graph.where(a.node).line, graph.where(b.node).line}


def test_fusing_twice_changes_nothing() -> None:
    x = dlc.input("x", ("N", 4))
    once = fuse(dlc.graph([x], [dlc.sum(dlc.exp(x) * 2.0, axis=1) + 1.0]))
    assert fuse(once).same_structure(once)


OPERATIONS = [
    lambda a, b: dlc.exp(a * 0.1),
    lambda a, b: a + b,
    lambda a, b: a * b,
    lambda a, b: dlc.relu(a) - 1.0,
    lambda a, b: dlc.permute_dims(a, (1, 0)),
    lambda a, b: dlc.sum(a, axis=0) + b,
    lambda a, b: dlc.max(a * b, axis=1, keepdims=True) - b,
    lambda a, b: dlc.where(a > b, a, dlc.flip(b, 1)),
    lambda a, b: dlc.reshape(dlc.reshape(a, (9,)) * 2.0, (3, 3)),
    lambda a, b: ops.broadcast_to(dlc.mean(a, axis=0, keepdims=True), (3, 3)),
    lambda a, b: dlc.take(a, dlc.constant([0, 2, 2], "int64"), axis=1),
    lambda a, b: dlc.concat([a[:1], b[1:]], axis=0),
]


def random_graph(choices: list[tuple[int, int, int]], results: int) -> Graph:
    """A graph of 3x3 tensors with inputs x and y and two updated states."""
    x, y = dlc.input("x", (3, 3)), dlc.input("y", (3, 3))
    u, v = parameter("u", 3, 3), parameter("vv", 3, 3)
    values = [x, y, u, v]
    for kind, first, second in choices:
        values.append(OPERATIONS[kind](values[first % len(values)], values[second % len(values)]) * 0.5)
    picked = values[-results:]
    return dlc.graph([x, y], picked, updates=[(u, picked[0]), (v, values[len(values) // 2])])


GRAPHS = st.builds(
    random_graph,
    st.lists(
        st.tuples(st.integers(0, len(OPERATIONS) - 1), st.integers(0, 99), st.integers(0, 99)), min_size=1, max_size=14
    ),
    st.integers(1, 3),
)


@settings(deadline=None, max_examples=60)
@given(GRAPHS)
def test_random_graphs_compute_the_same_numbers(graph: Graph) -> None:
    x, y = np.random.default_rng(3).standard_normal((2, 3, 3)).astype(np.float32)
    with np.errstate(all="ignore"):
        same_values(graph, fuse(graph), x, y)


@settings(deadline=None, max_examples=60)
@given(GRAPHS)
def test_schedules_run_operands_first_and_write_states_after_their_last_read(graph: Graph) -> None:
    from dlc.ops.fused import can_fail
    from dlc.passes.schedule import value_of

    fused = fuse(graph)
    plan = schedule(fused)
    position = {n: i for i, n in enumerate(plan.order)}
    needed = {n for n in fused.nodes if is_kernel(n)}
    assert set(position) == needed and len(plan.order) == len(needed)
    for node in plan.order:
        for x in node.inputs:
            assert position.get(value_of(x).node, -1) < position[node]
    for state, value in plan.direct.items():
        readers = [n for n in plan.order if any(value_of(x).node is state for x in n.inputs) and n is not value.node]
        assert all(position[n] < position[value.node] for n in readers)
        assert position[value.node] >= plan.commit
    assert not any(can_fail(n) for n in plan.order[plan.commit :])


def deep(layers: int) -> Graph:
    h = x = dlc.input("x", ("N", 8))
    updates = []
    for i in range(layers):
        w = parameter(f"w{i}", 8)
        e = dlc.exp(h * w)
        h = h + dlc.tanh(e / (dlc.sum(e, axis=1, keepdims=True) + 1.0) * 2.0 + 1.0) * 0.5
        updates.append((w, w - 0.1 * dlc.sum(h * e, axis=0)))
    return dlc.graph([x], [h], updates=updates)


@pytest.mark.slow
def test_time_is_linear_in_the_size_of_the_graph() -> None:
    def seconds(graph: Graph) -> float:
        graph.users  # noqa: B018 - what every pass needs is not fusion's time
        began = time.process_time()
        schedule(fuse(graph))
        return time.process_time() - began

    small, large = deep(250), deep(2500)
    assert len(large.nodes) > 35_000
    seconds(small)
    assert seconds(large) < 10 * 2.5 * seconds(small)
