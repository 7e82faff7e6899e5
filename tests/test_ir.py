"""The ground floor: dims, interning, graphs, their text and their JSON."""

import gc
import itertools
import json
import threading
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dlc
from dlc import ops
from dlc.dims import Dim, dim, evaluate, is_nonnegative, product, shape_of, substitute, symbol
from dlc.errors import DimError, FileFormatError, GraphError
from dlc.graph_json import graph_from_json, graph_to_json
from dlc.ir import Graph, Literal, TensorType, TupleType, attribute_key, make_node, topological
from dlc.ops.definition import CATALOGUE, Kind, Op
from dlc.ops.tensor import state_node
from dlc.provenance import Origin, here, module_scope, phase, written_at
from dlc.state import State

# ---------------------------------------------------------------- dims

NAMES = ("A", "B", "N")
atoms = st.one_of(st.integers(-6, 6), st.sampled_from(NAMES).map(symbol))


def combined(children):
    binary = st.tuples(st.sampled_from("+-*"), children, children)
    division = st.tuples(st.sampled_from(("//", "%")), children, st.integers(1, 7))
    return st.one_of(binary, division)


expressions = st.recursive(atoms, combined, max_leaves=8)
bindings = st.fixed_dictionaries({n: st.integers(0, 12) for n in NAMES})

OPERATORS = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "//": lambda a, b: a // b,
    "%": lambda a, b: a % b,
}


def build(tree):
    return OPERATORS[tree[0]](build(tree[1]), build(tree[2])) if isinstance(tree, tuple) else tree


def value(tree, bound):
    if isinstance(tree, tuple):
        return OPERATORS[tree[0]](value(tree[1], bound), value(tree[2], bound))
    return bound[str(tree)] if isinstance(tree, Dim) else tree


@given(expressions, bindings)
def test_dims_evaluate_as_the_integers_do(tree, bound):
    assert evaluate(build(tree), bound) == value(tree, bound)


@given(expressions)
def test_a_dim_reads_back_from_its_text(tree):
    d = build(tree)
    if isinstance(d, Dim):
        again = dim(str(d))
        assert again == d and hash(again) == hash(d)


@given(expressions, expressions)
def test_sums_and_products_commute_to_equal_objects(a, b):
    a, b = build(a), build(b)
    assert a + b == b + a and a * b == b * a and a - a == 0 and (a + b) - b == a


@given(expressions, expressions, bindings)
def test_substitution_then_evaluation(tree, inner, bound):
    d, by = build(tree), build(inner)
    expected = evaluate(d, {**bound, "N": evaluate(by, bound)})
    assert evaluate(substitute(d, {"N": by}), bound) == expected


@given(expressions, bindings)
def test_is_nonnegative_never_lies(tree, bound):
    d = build(tree)
    if is_nonnegative(d):
        assert evaluate(d, bound) >= 0


@pytest.mark.parametrize(
    "text, normal",
    [
        ("N*T", "N*T"),
        ("T*N", "N*T"),
        ("(4*N+5)//2", "2*N+2"),
        ("(N*T)//T", "N"),
        ("N%N", "0"),
        ("2*N-N", "N"),
        ("N//1", "N"),
        ("7//2", "3"),
        ("(H-5)//2+1", "(H+1)//2-2"),
        ("N*N", "N*N"),
        ("(N//2)*2", "2*(N//2)"),
    ],
)
def test_normal_forms(text, normal):
    assert str(dim(text)) == normal


@pytest.mark.parametrize(
    "wrong",
    [
        -1,
        True,
        1.5,
        "",
        "N+",
        "-3",
        "N**2",
        "f(N)",
        "N.shape",
        "[N]",
        "N/2",
        "N//0",
        "__import__('os')",
        "(" * 400,
        "N" * 2000,
        None,
        "*".join(["(a+b+c+d+e+f+g+h)"] * 40),
        "'N'",
        "N if N else M",
        "lambda: 0",
    ],
)
def test_what_is_not_a_dim(wrong):
    with pytest.raises(DimError):
        dim(wrong)


def test_dims_have_no_truth_value_and_name_what_is_unbound():
    with pytest.raises(DimError, match="neither true nor false"):
        bool(dim("N"))
    with pytest.raises(DimError, match="'T' has no value; the inputs bind \\['N'\\]"):
        evaluate(dim("N*T"), {"N": 1})
    with pytest.raises(DimError, match="divides by zero"):
        evaluate(dim("N//T"), {"N": 1, "T": 0})
    assert shape_of("N") == (symbol("N"),) and product(shape_of(("N", 2, 3))) == dim("6*N")


# ---------------------------------------------------------------- interning

ATTRIBUTES = [
    None,
    0,
    1,
    True,
    False,
    0.0,
    -0.0,
    1.0,
    float("nan"),
    "1",
    (1,),
    (True,),
    ((1,),),
    (),
    dim("N"),
    dim("N+1"),
    Literal(0.0),
    Literal(-0.0),
    Literal(0),
    Literal([0.0]),
    Literal(0.0, "float32"),
    Literal(False),
]


def test_attribute_values_are_told_apart_by_type_and_bits():
    for a, b in itertools.combinations(ATTRIBUTES, 2):
        assert attribute_key(a) != attribute_key(b), (a, b)
    assert attribute_key(float("nan")) == attribute_key(float("nan"))
    assert attribute_key(Literal(np.ones(1000))) == attribute_key(Literal(np.ones(1000)))
    assert attribute_key(Literal(np.ones(1000))) != attribute_key(Literal(np.ones((10, 100))))
    with pytest.raises(TypeError, match="list is not an attribute value"):
        attribute_key([1])


def test_equal_nodes_are_one_object():
    x, y = dlc.input("x", (3,)), dlc.input("x", (3,))
    assert (dlc.exp(x) + 1).node is (dlc.exp(x) + 1).node
    assert dlc.exp(x).node is not dlc.exp(y).node
    assert dlc.constant(0.0).node is not dlc.constant(-0.0).node
    assert dlc.constant(1).node is not dlc.constant(True).node


def test_nodes_are_frozen_and_not_pickled():
    import pickle

    node = dlc.exp(dlc.input("x")).node
    with pytest.raises(AttributeError, match="frozen"):
        node.op = None
    with pytest.raises(TypeError):
        node.attrs["k"] = 1
    with pytest.raises(TypeError, match="graph_to_json"):
        pickle.dumps(node)


def test_the_intern_table_holds_nothing_alive():
    from dlc.ir import _interned

    x = dlc.input("x")
    gc.collect()
    before = len(_interned)
    y = x
    for i in range(1000):
        y = y + float(i)
    assert len(_interned) >= before + 1000
    del y
    gc.collect()
    assert len(_interned) <= before + 1100  # scalars may stay in their cache
    del x
    gc.collect()


def test_interning_from_several_threads_gives_one_node():
    x = dlc.input("x")
    found = [[] for _ in range(4)]

    def work(mine):
        for i in range(300):
            mine.append(dlc.sin(x * float(i)).node)

    threads = [threading.Thread(target=work, args=(f,)) for f in found]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert all(a is b for other in found[1:] for a, b in zip(found[0], other, strict=True))


def test_constants_are_copies():
    array = np.zeros(3, np.float32)
    node = dlc.constant(array).node
    array[0] = 1
    assert node.attrs["value"].array.tolist() == [0, 0, 0]
    with pytest.raises(ValueError):
        node.attrs["value"].array[0] = 1


def test_a_chain_of_100_000_nodes_is_built_walked_printed_and_dropped():
    x = dlc.input("x")
    y = x
    for _ in range(100_000):
        y = -y
    graph = Graph((x.node,), (y.node,))
    assert len(graph.nodes) == 100_001 and len(topological([y.node])) == 100_001
    assert str(graph).count("\n") == 100_002
    assert len(graph.digest) == 64
    del y, graph
    gc.collect()


# ---------------------------------------------------------------- provenance


def test_origin_is_the_users_line_under_scope_and_phase():
    with module_scope("0"), module_scope("conv"), phase("update"):
        origin = dlc.exp(dlc.input("x") * 2).origin
    assert (origin.file, origin.module, origin.phase) == (__file__, "0.conv", "update")
    assert str(here()).startswith(f"{__file__}:")
    stated = Origin("model.py", 7)
    with written_at(stated):
        assert dlc.exp(dlc.input("x")).origin == stated
        with written_at(None):
            assert here().file == __file__


def test_a_merged_node_keeps_every_place():
    x = dlc.input("x")
    a = dlc.exp(x)
    b = dlc.exp(x)
    graph = dlc.graph([x], [a + b])
    assert [o.line for o in graph.origins[a.node]] == [a.origin.line, b.origin.line]


# ---------------------------------------------------------------- graphs


def test_order_is_operands_first_and_inputs_before_all():
    a, b = dlc.input("a"), dlc.input("b")
    y = dlc.sin(b) + dlc.cos(a)
    graph = Graph((a.node, b.node), (y.node,))
    assert graph.nodes[:2] == (a.node, b.node)
    seen = set()
    for node in graph.nodes:
        assert all(x in seen for x in node.inputs)
        seen.add(node)
    assert graph.users[b.node] == (dlc.sin(b).node,) and graph.users[y.node] == ()


def test_malformed_graphs_name_the_input():
    x, other, y = dlc.input("x", (2,)), dlc.input("x", (2,)), dlc.input("y")
    state = state_node(State("s", TensorType("float32"), lambda: 0))
    for inputs, outputs, updates, message in [
        ([x], [x * y.reshape((1,))], [], r"depends on the input 'y' \(f32\[\]\), which is not in inputs=\[x\]"),
        ([x, x], [x], [], "'x' is listed twice"),
        ([x, other], [x], [], "'x' is the name of two different inputs"),
        ([x * 2], [x], [], "a graph's inputs are made by dlc.input"),
        ([x], [x], [(x.node, x.node)], "updates assign to parameters and state"),
        ([x], [x], [(state, x.node)], r"the state 's' is f32\[\] but its update is f32\[2\]"),
        ([y], [y], [(state, y.node), (state, y.node)], "updated twice"),
    ]:
        with pytest.raises(GraphError, match=message):
            Graph(tuple(t.node for t in inputs), tuple(t.node for t in outputs), tuple(updates))
    pair = make_node(Op("pair_for_ir", Kind.OPAQUE, infer=lambda x: TupleType((x, x))), (x.node,))
    with pytest.raises(GraphError, match="take its items"):
        Graph((x.node,), (pair,))


def test_structure_ignores_names_and_sees_the_rest():
    def make(name="x", shape=("N",), scale=2.0, order=1):
        x, y = dlc.input(name, shape), dlc.input("other" + name, shape)
        outputs = [dlc.exp(x) * scale, y]
        return dlc.graph([x, y], outputs[::order])

    assert make().same_structure(make("z")) and make().digest == make("z").digest
    for other in (make(shape=("M",)), make(scale=-2.0), make(order=-1), make(shape=("N", 1))):
        assert not make().same_structure(other)


def test_updates_are_part_of_the_structure():
    s = State("s", TensorType("float32"), lambda: 0)
    x = dlc.input("x")
    plain = Graph((x.node,), (x.node,))
    updating = Graph((x.node,), (x.node,), ((state_node(s), x.node),))
    assert not plain.same_structure(updating) and updating.states == (state_node(s),)


def test_rebuild_and_substitute():
    x = dlc.input("x")
    graph = dlc.graph([x], [dlc.sin(x) + 1.0])
    swapped = graph.rebuild(
        lambda n, xs: make_node(ops.cos.op, xs) if n.op.name == "sin" else make_node(n.op, xs, n.attrs)
    )
    assert swapped.outputs[0] is (dlc.cos(x) + 1.0).node
    assert swapped.where(swapped.outputs[0].inputs[0]) == graph.where(dlc.sin(x).node)
    fixed = graph.substitute({x.node: dlc.constant(0.0).node}, inputs=())
    assert fixed.inputs == () and fixed.nodes[0].op.name == "constant"


def test_to_networkx_has_an_edge_per_operand():
    import networkx

    x = dlc.input("x")
    view = dlc.graph([x], [x * x]).to_networkx()
    assert view.number_of_edges() == 2 and networkx.is_directed_acyclic_graph(view)


def test_text_is_deterministic_and_escapes_labels():
    x, y = dlc.input("x{}%\n", (2,)), dlc.input("a", (2,))
    text = str(dlc.graph([x, y], [dlc.concat([x, y], axis=0)]))
    assert text == ("graph (x____: f32[2], a: f32[2]) {\n  %0: f32[4] = concat(x____, a, axis=0)\n  return %0\n}")


# ---------------------------------------------------------------- JSON


def example():
    x, i = dlc.input("x", ("N", 3)), dlc.input("i", ("N",), "int64")
    w = State("w", TensorType("float32", (3,)), lambda: [1.0, 2.0, 3.0])
    wt = ops.Tensor(state_node(w))
    y = dlc.where(ops.TRAINING, x * wt, dlc.reshape(dlc.reshape(x, (dim("3*N"),)), ("N", 3)))
    y = y + dlc.constant([[-0.0, np.nan, np.inf]]) + dlc.constant([[True, False, True]]).astype("float32")
    total = y[:, 1:].sum(axis=1) + i.astype("float32")
    return Graph(
        (x.node, i.node),
        (total.node,),
        ((state_node(w), (wt * 2.0).node),),
        {total.node: (Origin("model.py", 3, "0.conv", "forward", "Block.Conv2d"),)},
    )


def test_json_round_trip():
    graph = example()
    text = graph_to_json(graph)
    again = graph_from_json(text)
    assert again.same_structure(graph)
    assert [n.leaf.name for n in again.inputs] == ["x", "i"] and again.inputs[0] is not graph.inputs[0]
    assert again.where(again.outputs[0]) == graph.where(graph.outputs[0])
    assert again.origins[again.outputs[0]] == graph.origins[graph.outputs[0]]
    assert again.ambients == graph.ambients
    assert graph_to_json(again) == text == graph_to_json(graph)
    assert again.states[0].leaf.value.tolist() == [0.0, 0.0, 0.0]


def test_json_lists_places_in_the_order_of_nodes():
    x = dlc.input("x", (3,))
    y = dlc.cond(x[0] > 0, lambda: dlc.exp(x) * 2, lambda: x)
    graph = dlc.graph([x], [y])
    (choice,) = (n for n in graph.nodes if n.op.name == "cond")

    def turned(g: Graph) -> Graph:
        return Graph(g.inputs, g.outputs, origins=dict(reversed(g.origins.items())))

    for g in (graph, choice.attrs["then"]):
        text = graph_to_json(turned(g))
        assert text == graph_to_json(g)
        assert [*json.loads(text)["origins"]] == sorted(json.loads(text)["origins"], key=int)


def test_json_without_the_classes_of_modules_is_read():
    record = json.loads(graph_to_json(example()))
    for places in record["origins"].values():
        for place in places:
            assert place.pop() == "Block.Conv2d"
    again = graph_from_json(json.dumps(record))
    assert again.origins[again.outputs[0]] == (Origin("model.py", 3, "0.conv", "forward"),)
    for wrong in (["", 3, "", "forward", 7], ["", 3, "", "forward", "A", "B"], ["", 3, "", "sideways", "A"]):
        record["origins"] = {"0": [wrong]}
        with pytest.raises(FileFormatError, match="is not a place"):
            graph_from_json(json.dumps(record))


def test_json_stores_values_when_asked():
    again = graph_from_json(graph_to_json(example(), values=True, origins=False, indent=1))
    assert again.states[0].leaf.value.tolist() == [1.0, 2.0, 3.0] and not again.origins


def test_json_walks_into_bodies():
    y = dlc.input("y", (3,))
    body = dlc.graph([y], [dlc.exp(y)])
    op = Op("body_for_json", Kind.OPAQUE, infer=lambda x, *, body, factor: x)
    x = dlc.input("x", (3,))
    graph = Graph((x.node,), (make_node(op, (x.node,), {"body": body, "factor": 0.1}),))
    text = graph_to_json(graph)
    with pytest.raises(FileFormatError, match="there is no op 'body_for_json'"):
        graph_from_json(text)
    CATALOGUE[op.name] = op
    try:
        assert graph_from_json(text).same_structure(graph)
    finally:
        del CATALOGUE[op.name]


def change(path, value):
    def edit(record):
        *inner, last = path
        for key in inner:
            record = record[key]
        if value is None:
            del record[last]
        else:
            record[last] = value

    return edit


LEAF = {"leaf": {"leaf": {"name": "x", "dtype": "float32", "shape": ["N", 3]}}}
ARRAY = {"value": {"array": {"dtype": "float32", "shape": [10**6, 10**6], "data": "AAAA"}}}


def nested(depth):
    inner = []
    for _ in range(depth):
        inner = [inner]
    return inner


@pytest.mark.parametrize(
    "edit, message",
    [
        (change(["format"], "onnx"), "not a dlc graph"),
        (change(["version"], 2), "version 2"),
        (change(["nodes"], None), "nodes is missing"),
        (change(["nodes"], 3), "expected a list"),
        (change(["outputs"], [999]), "999 is not the number"),
        (change(["outputs"], [True]), "not the number"),
        (change(["outputs"], ["0"]), "not the number"),
        (change(["outputs"], [-1]), "not the number"),
        (change(["extra"], 1), "unknown field 'extra'"),
        (change(["nodes", 0], {"op": "eval"}), r"graph.nodes\[0\]: there is no op 'eval'"),
        (change(["nodes", 0], {"op": ["input"]}), "there is no op"),
        (change(["nodes", 0], []), "expected an object"),
        (change(["nodes", 0], {"op": "exp", "inputs": [0]}), "is not the number of one of the 0 nodes before"),
        (change(["nodes", 0], {"op": "input"}), "leaf is missing"),
        (change(["nodes", 0], {"op": "input", "inputs": [0], "attrs": LEAF}), "not the number"),
        (
            change(
                ["nodes", 0],
                {"op": "input", "attrs": {"leaf": {"leaf": {"name": "", "dtype": "float32", "shape": []}}}},
            ),
            "non-empty",
        ),
        (
            change(
                ["nodes", 0],
                {"op": "input", "attrs": {"leaf": {"leaf": {"name": "x", "dtype": "object", "shape": []}}}},
            ),
            "no dtype",
        ),
        (
            change(
                ["nodes", 0],
                {"op": "input", "attrs": {"leaf": {"leaf": {"name": "x", "dtype": "float32", "shape": [-1]}}}},
            ),
            "not a dim",
        ),
        (
            change(
                ["nodes", 0],
                {"op": "input", "attrs": {"leaf": {"leaf": {"name": "x", "dtype": "float32", "shape": ["f()"]}}}},
            ),
            "not a dim",
        ),
        (
            change(
                ["nodes", 0],
                {"op": "input", "attrs": {"leaf": {"leaf": {"name": "x", "dtype": "float32", "shape": [1] * 99}}}},
            ),
            "99 axes",
        ),
        (change(["nodes", 0], {"op": "ambient", "attrs": LEAF}), "no ambient value"),
        (change(["nodes", 0], {"op": "state", "attrs": LEAF}), "states have shapes of plain ints"),
        (change(["nodes", 0], {"op": "constant", "attrs": ARRAY}), "needs 4000000000000 bytes"),
        (change(["nodes", 0], {"op": "constant", "attrs": {"value": 3}}), "does not take these attributes"),
        (
            change(
                ["nodes", 0],
                {"op": "constant", "attrs": {"value": {"array": {"dtype": "bool", "shape": [3], "data": "AAEC"}}}},
            ),
            "not base64 of",
        ),
        (
            change(
                ["nodes", 0],
                {"op": "constant", "attrs": {"value": {"array": {"dtype": "uint8", "shape": [3], "data": "A%E="}}}},
            ),
            "not base64",
        ),
        (change(["nodes", 0], {"op": "constant", "attrs": {"value": {"exec": "1"}}}), "not an attribute value"),
        (change(["nodes", 0], {"op": "constant", "attrs": {"value": nested(30)}}), "nested more than"),
        (change(["nodes", 0], {"op": "constant", "attrs": {"value": 2**70}}), "does not fit 64 bits"),
        (change(["nodes", 0], {"op": "constant", "attrs": {"value": "os.system('x')"}}), "is not a name"),
        (change(["nodes", 0], {"op": "constant", "attrs": {"value": {"float": "one"}}}), "hexadecimal"),
        (change(["updates"], [[0]]), "pair"),
        (change(["updates"], [[0, 0]]), "updates assign to"),
        (change(["inputs"], []), "depends on the input"),
        (change(["origins"], {"0": [["f", 1, "m", "sideways"]]}), "not a place"),
        (change(["origins"], {"x": []}), "not the number"),
        (change(["origins"], []), "expected an object"),
    ],
)
def test_hostile_json_is_refused(edit, message):
    record = json.loads(graph_to_json(example()))
    edit(record)
    with pytest.raises(FileFormatError, match=message):
        graph_from_json(json.dumps(record))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "NaN", '{"format": NaN}', "[" * 100_000, b"\xff\xfe\x00", "1" * 5000]
)
def test_what_is_not_even_an_object(text):
    with pytest.raises(FileFormatError):
        graph_from_json(text)


def test_attributes_of_a_wrong_kind_make_no_strange_types():
    x = {"op": "input", "attrs": LEAF}
    for attrs in (
        {"shape": ["a"]},
        {"shape": [1.5]},
        {"shape": [True, {"dim": "3*N"}]},
        {"shape": 3},
        {"shape": [-1, -1]},
        {},
        {"axes": [0]},
    ):
        for op in ("reshape", "broadcast_to", "permute_dims"):
            record = {
                "format": "dlc-graph",
                "version": 1,
                "inputs": [0],
                "outputs": [1],
                "nodes": [x, {"op": op, "inputs": [0], "attrs": attrs}],
            }
            with pytest.raises(FileFormatError):
                graph_from_json(json.dumps(record))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_json_gives_a_graph_or_a_format_error(data):
    record = json.loads(graph_to_json(example()))
    junk = st.one_of(
        st.none(), st.booleans(), st.integers(-3, 40), st.text(max_size=4), st.just([]), st.just({}), st.just("float32")
    )
    for _ in range(data.draw(st.integers(1, 3))):
        place = record
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            key = data.draw(st.sampled_from(keys))
            if not isinstance(place[key], (dict, list)) or not place[key] or data.draw(st.booleans()):
                break
            place = place[key]
        place[key] = data.draw(junk)
    with suppress(FileFormatError):
        assert isinstance(graph_from_json(json.dumps(record)), Graph)


def test_a_fused_graph_is_read_by_a_process_that_never_fused(tmp_path):
    import subprocess
    import sys

    x = dlc.input("x", ("N", 3))
    fused = dlc.passes.fuse(dlc.graph([x], [dlc.exp(x) * 2 + 1]))
    assert any(n.op.name == "fused" for n in fused.nodes)
    path = tmp_path / "graph.json"
    path.write_text(graph_to_json(fused))
    code = f"import dlc; print(dlc.graph_from_json(open({str(path)!r}).read()).digest)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.stdout.strip() == fused.digest, found.stderr
