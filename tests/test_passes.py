"""Pipelines, the driver and its checks, binding, folding, dead code."""

import numpy as np
import pytest

import dlc
from dlc import ops, passes
from dlc.dims import dim
from dlc.errors import AttributeValueError, DimError, IndexOutOfRangeError, ShapeError, VerificationError
from dlc.ir import Graph, TensorType, make_node
from dlc.ops.definition import Kind, Op
from dlc.ops.tensor import state_node
from dlc.passes.compare import Comparison, first_difference, random_bindings, random_inputs
from dlc.passes.driver import run_pipeline
from dlc.passes.pipeline import Pipeline
from dlc.state import State
from dlc.testing import assert_same_graph, check_pass


def same(graph):
    return graph


# ---------------------------------------------------------------- pipelines


def test_insertion_keeps_the_order_and_the_original():
    names = ("inline_calls", "merge_scans", "halves", "constant_folding", "simplify", "dead_code", "fuse")
    assert passes.PIPELINE.names == names
    assert passes.PIPELINE.insert_before("fuse", same).names[-2:] == ("same", "fuse")
    assert passes.PIPELINE.insert_after("fuse", same).names[-2:] == ("fuse", "same")
    less = ("inline_calls", "merge_scans", "halves", "constant_folding", "dead_code", "fuse")
    assert passes.PIPELINE.without("simplify").names == less
    assert passes.PIPELINE.names == names
    assert passes.PIPELINE.insert_before("fuse", lambda g: g, named="mine").names[-2] == "mine"


@pytest.mark.parametrize(
    "change",
    [
        lambda p: p.insert_before("fusion", same),
        lambda p: p.insert_after("fusion", same),
        lambda p: p.without("fusion"),
    ],
)
def test_an_unknown_name_lists_the_known_ones(change):
    with pytest.raises(
        AttributeValueError, match=r"no pass 'fusion'; it has inline_calls, merge_scans, .*dead_code, fuse"
    ):
        change(passes.PIPELINE)


def test_names_are_unique():
    with pytest.raises(AttributeValueError, match="two passes of the pipeline are called 'verify'"):
        Pipeline.of(passes.verify, passes.verify)


# ---------------------------------------------------------------- the driver


def test_records_tell_what_happened():
    x = dlc.input("x", ("N",))
    before = dlc.graph([x], [dlc.exp(x * 1) + dlc.constant(1.0) * 2])
    final, records = run_pipeline(passes.PIPELINE.without("fuse"), before, check=True)
    assert_same_graph(final, dlc.graph([x], [dlc.exp(x) + 2.0]))
    _, _, _, folding, simplify, _ = records
    assert (folding.name, folding.nodes_before, folding.nodes_after) == ("constant_folding", 7, 6)
    assert simplify.rules == {"times_one": 1} and simplify.seconds > 0
    assert folding.before is before and folding.after is simplify.before and records[-1].after is final
    assert "multiply" in simplify.diff
    assert str(simplify).startswith("simplify ") and str(simplify).endswith("6 -> 4      nodes, times_one x1")
    assert "\n" not in str(simplify)


def wrong_value(graph):
    return Graph(graph.inputs, tuple((ops.Tensor(n) * 1.5).node for n in graph.outputs), graph.updates, graph.origins)


def wrong_type(graph):
    return Graph(graph.inputs, tuple(ops.Tensor(n).sum().node for n in graph.outputs))


def no_graph(graph):
    return None


def lost_output(graph):
    return Graph(graph.inputs, graph.outputs[:-1])


def lost_update(graph):
    return Graph(graph.inputs, graph.outputs)


@pytest.mark.parametrize(
    "broken, message",
    [
        (wrong_value, r"the pass wrong_value broke the graph: output 0 changed \(with N = \d\): \d+ of \d+ elements"),
        (wrong_type, "the pass wrong_type broke the graph: its outputs were"),
        (no_graph, "the pass no_graph returned NoneType"),
        (lost_output, "its outputs were"),
        (lost_update, "the update of 's' changed"),
    ],
)
def test_a_miscompile_names_its_pass_and_shows_the_diff(broken, message):
    state = State("s", TensorType("float32"), lambda: 0)
    x = dlc.input("x", ("N",))
    graph = Graph((x.node,), (dlc.exp(x).node, x.node), ((state_node(state), dlc.sin(x.sum()).node),))
    pipeline = passes.PIPELINE.insert_before("dead_code", broken)
    with pytest.raises(VerificationError, match=message) as caught:
        run_pipeline(pipeline, graph, check=True)
    if broken is wrong_value:
        assert "+++ after" in str(caught.value)
        assert run_pipeline(pipeline.without("fuse"), graph, check=False)[0].outputs[0].op.name == "multiply"


def test_the_environment_switches_checks_on(monkeypatch):
    x = dlc.input("x", ("N",))
    pipeline = Pipeline.of(wrong_value)
    monkeypatch.setenv("DLC_CHECK", "1")
    with pytest.raises(VerificationError):
        run_pipeline(pipeline, dlc.graph([x], [x]))
    monkeypatch.setenv("DLC_CHECK", "0")
    run_pipeline(pipeline, dlc.graph([x], [x]))


def test_checks_leave_states_alone():
    def never():
        raise AssertionError("the state was materialised")

    state = State("s", TensorType("float32", (2,)), never)
    x = dlc.input("x", (2,))
    graph = Graph((x.node,), ((ops.Tensor(state_node(state)) + x).node,))
    run_pipeline(None, graph, check=True)
    assert not state.is_materialised


def test_compile_runs_the_pipeline_it_is_given():
    calls = []

    def noted(graph):
        calls.append(graph)
        return graph

    x = dlc.input("x", ("N",))
    program = dlc.compile(dlc.graph([x], [x * 1]), "reference", pipeline=Pipeline.of(noted, passes.simplify))
    assert len(calls) == 1 and [r.name for r in program.passes] == ["noted", "simplify"]


# ---------------------------------------------------------------- comparing


@pytest.mark.parametrize(
    "old, new, differ",
    [
        ([1.0, np.nan, np.inf], [1.0, np.nan, np.inf], False),
        ([1.0], [1.000001], False),
        ([1.0], [1.01], True),
        ([np.nan], [1.0], True),
        ([np.inf], [-np.inf], True),
        ([1], [2], True),
        ([True], [True], False),
        ([], [], False),
        ([1.0, 1e-9], [1.0, 0.0], False),
        ([1.0], [[1.0]], True),
        ([1.0], [1], True),
    ],
)
def test_first_difference(old, new, differ):
    assert bool(first_difference(np.array(old), np.array(new), 1e-4)) is differ


def test_random_bindings_make_every_shape_sensible():
    h = dlc.input("h", (dim("H"), "N"))
    graph = dlc.graph([h], [ops.windows(h, (0,), (11,), (4,))])
    for seed in range(5):
        found = random_bindings(graph, np.random.default_rng(seed))
        assert (found["H"] - 11) // 4 + 1 > 0
    assert random_inputs(graph, {"H": 20, "N": 2})[0].shape == (20, 2)


def test_comparison_sees_errors_too():
    x = dlc.input("x", (3,))
    failing = Op("failing_for_comparison", Kind.OPAQUE, infer=lambda x: x, reference=raises)
    graph = Graph((x.node,), (make_node(failing, (x.node,)),))
    comparison = Comparison(graph)
    comparison.check(graph)
    with pytest.raises(VerificationError, match="raised IndexOutOfRangeError before, and gave a result now"):
        comparison.check(dlc.graph([x], [x]))


def raises(x):
    raise IndexOutOfRangeError("out of range")


# ---------------------------------------------------------------- constant folding and dead code


def test_folding_goes_as_far_as_constants_reach():
    x = dlc.input("x", (2,))
    table = dlc.permute_dims(dlc.constant([[1.0, 2.0], [3.0, 4.0]]), (1, 0))
    before = dlc.graph([x], [(table * 2).sum(axis=0) + x])
    assert_same_graph(check_pass(passes.constant_folding, before), dlc.graph([x], [dlc.constant([6.0, 14.0]) + x]))


def test_folding_does_not_write_out_large_arrays():
    zeros = dlc.broadcast_to(dlc.constant(0.0), (1000, 1000))
    big = dlc.constant(np.ones((600, 600), np.float32))
    assert passes.constant_folding(dlc.graph([], [zeros])).outputs[0].op.name == "broadcast_to"
    assert passes.constant_folding(dlc.graph([], [dlc.exp(big)])).outputs[0].op.name == "exp"
    turned = passes.constant_folding(dlc.graph([], [dlc.permute_dims(big, (1, 0))]))
    assert turned.outputs[0].op.name == "constant"
    assert passes.constant_folding(dlc.graph([], [big.sum()])).outputs[0].op.name == "constant"


def test_folding_leaves_errors_and_named_dims_to_run_time():
    failing = Op("failing_for_folding", Kind.OPAQUE, infer=lambda x: x, reference=raises)
    graph = Graph((), (make_node(failing, (dlc.constant(1.0).node,)),))
    assert passes.constant_folding(graph).outputs == graph.outputs
    x = dlc.input("x", ("N",))
    spread = dlc.graph([x], [dlc.broadcast_to(dlc.constant(1.0), ("N",)) + x])
    assert_same_graph(passes.constant_folding(spread), spread)


def test_folding_gives_sizes_their_value_and_leaves_iota_alone():
    x = dlc.input("x", ("N", 3))
    bound = passes.specialise(dlc.graph([x], [x.mean() * x, dlc.arange(3)]), {"N": 4})
    ops_left = [n.op.name for n in check_pass(passes.constant_folding, bound).nodes]
    assert "size_of" not in ops_left and "iota" in ops_left


def test_folding_keeps_bits():
    before = dlc.graph([], [dlc.constant(-0.0) * 1.0, dlc.constant(np.float32(0.1)) + 0.2, dlc.constant(1.0) / 0.0])
    values = [n.attrs["value"].array for n in check_pass(passes.constant_folding, before).outputs]
    assert np.signbit(values[0]) and values[1] == np.float32(0.1) + np.float32(0.2) and np.isinf(values[2])


def test_training_selects_a_side_at_compile_time():
    x = dlc.input("x", (3,))
    graph = dlc.graph([x], [dlc.where(ops.TRAINING, dlc.sin(x), dlc.cos(x))])
    for training, op in ((True, "sin"), (False, "cos")):
        final, _ = run_pipeline(passes.PIPELINE.without("fuse"), passes.bind_ambients(graph, training=training))
        assert [n.op.name for n in final.nodes] == ["input", op]


def test_dead_code_drops_updates_that_change_nothing():
    a, b = (State(n, TensorType("float32"), lambda: 0) for n in "ab")
    na, nb = state_node(a), state_node(b)
    x = dlc.input("x")
    graph = Graph((x.node,), (x.node,), ((na, na), (nb, (ops.Tensor(nb) + x).node)))
    after = check_pass(passes.dead_code, graph)
    assert [s for s, _ in after.updates] == [nb] and after.states == (nb,)
    swap = Graph((), (), ((na, nb), (nb, na)))
    assert passes.dead_code(swap) is swap


def loop(h, k, xs, w, unused):
    """Carries h and k (k reads h, h does not read k), stacks of both, and a third stack that reads one more capture."""

    def step(carry, x):
        h, k = carry
        h, k = dlc.tanh(h + x * w), k + h
        return (h, k), (h * 2.0, k * unused)

    return dlc.scan(step, (h, k), xs)


def loop_inputs():
    return [dlc.input(n, s) for n, s in (("h", (3,)), ("k", (3,)), ("xs", ("T", 3)), ("w", (3,)), ("unused", (3,)))]


@pytest.mark.parametrize("pick, results, operands, carries", [
    (lambda last, ys: [last[0]], 1, 3, 1),
    (lambda last, ys: [ys[0]], 2, 3, 1),
    (lambda last, ys: [last[1]], 2, 4, 2),
    (lambda last, ys: [ys[1], ys[0]], 4, 5, 2),
])  # fmt: skip
def test_dead_code_narrows_a_loop_to_what_is_read(pick, results, operands, carries):
    inputs = loop_inputs()
    before = dlc.graph(inputs, pick(*loop(*inputs)))
    after = check_pass(passes.dead_code, before)
    (scan,) = (n for n in after.nodes if n.op.name == "scan")
    assert (len(scan.type.items), len(scan.inputs), scan.attrs["carries"]) == (results, operands, carries)
    assert check_pass(passes.dead_code, after) is after


def test_dead_code_follows_from_loop_to_loop_and_into_bodies():
    inputs = loop_inputs()
    h, k, xs, w, unused = inputs
    last, ys = loop(*inputs)
    (second, _), _ = loop(h, last[1], ys[0], w, unused)  # k of the first feeds only k of the second, which is not read
    after = check_pass(passes.dead_code, dlc.graph(inputs, [second]))
    assert [n.attrs["carries"] for n in after.nodes if n.op.name == "scan"] == [1, 1]

    def outer(carry, x):
        (inner, _), _ = loop(carry, k, xs, w, unused)
        return inner + x, ()

    rows = dlc.input("rows", ("S", 3))
    total, _ = dlc.scan(outer, h, rows)
    graph = dlc.graph([*inputs, rows], [total])
    after = check_pass(passes.dead_code, graph)
    (scan,) = (n for n in after.nodes if n.op.name == "scan")
    (inner,) = (n for n in scan.attrs["body"].nodes if n.op.name == "scan")
    assert inner.attrs["carries"] == 1 and len(inner.type.items) == 1


# ---------------------------------------------------------------- binding


def test_specialise_infers_every_type_anew():
    x = dlc.input("x", ("N", "T", 3))
    y = dlc.reshape(x, (dim("N") * dim("T"), 3))[1:].sum(axis=1)
    graph = dlc.graph([x], [y])
    bound = passes.specialise(graph, {"N": 4})
    assert str(bound.inputs[0].type) == "f32[4,T,3]" and str(bound.outputs[0].type) == "f32[4*T-1]"
    full = passes.verify(passes.specialise(graph, {"N": 4, "T": 2}))
    assert full.symbols == () and full.outputs[0].shape == (7,) and full.inputs[0].leaf.name == "x"
    array = np.arange(24, dtype=np.float32).reshape(4, 2, 3)
    old, new = (dlc.compile(g, "reference")(array)[0] for g in (graph, full))
    np.testing.assert_array_equal(old, new)
    assert full.where(full.outputs[0]).line == y.origin.line


def test_specialise_refuses_what_does_not_fit():
    x = dlc.input("x", ("H",))
    graph = dlc.graph([x], [ops.windows(x, (0,), (5,))])
    with pytest.raises(ShapeError, match="do not fit") as caught:
        passes.specialise(graph, {"H": 3})
    assert __file__ in caught.value.where
    with pytest.raises(DimError, match="no named dim K; it has H"):
        passes.specialise(graph, {"K": 3})
    with pytest.raises(DimError, match="int >= 0"):
        passes.specialise(graph, {"H": -1})


def test_specialise_to_another_dim_reaches_bodies():
    y = dlc.input("y", ("N",))
    body = Graph((y.node,), (dlc.exp(y).node,))
    holder = Op("holder_for_binding", Kind.OPAQUE, infer=lambda x, *, body: body.outputs[0].type)
    x = dlc.input("x", ("N",))
    graph = Graph((x.node,), (make_node(holder, (x.node,), {"body": body}),))
    bound = passes.specialise(graph, {"N": dim("2*M")})
    assert str(bound.outputs[0].type) == "f32[2*M]" and str(bound.outputs[0].attrs["body"].inputs[0].type) == "f32[2*M]"


# ---------------------------------------------------------------- growth


def test_node_visits_grow_linearly(monkeypatch):
    """Counts type inferences, the work that every pass shares, instead of seconds."""
    counts = []
    infer = Op.infer_type
    calls = []
    monkeypatch.setattr(Op, "infer_type", lambda self, *a: calls.append(1) or infer(self, *a))
    for layers in (50, 500):
        x = dlc.input("x", ("N", 8))
        y = x
        for _ in range(layers):
            y = dlc.maximum(dlc.sin(y) * 1 + 0.5 * y, y - 0.0)
        (g,) = passes.gradients([y.sum()], [x])
        graph = dlc.graph([x], [g])
        calls.clear()
        run_pipeline(passes.PIPELINE.without("fuse"), graph, check=False)
        counts.append(len(calls))
    assert counts[1] < 11 * counts[0]
