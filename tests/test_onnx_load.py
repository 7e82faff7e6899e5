"""Models read as graphs: what dlc writes comes back the same; names, states and updates too."""

import json
from typing import Any

import numpy as np
import onnx
import onnx_operators
import pytest
from onnx import TensorProto, helper
from test_catalogue import SAMPLED, cases, evaluated, named
from test_onnx_save import agree, graph_of, of_model

import dlc
from dlc import nn, optim
from dlc.errors import FileFormatError, UnsupportedError
from dlc.frontend.onnx import load, save, to_model
from dlc.frontend.onnx.importers import IMPORTERS
from dlc.ir import Graph
from dlc.ops.definition import Op

# Ops that are written with operators, or forms of them, that dlc does not read.
UNREAD = {
    "copysign": "BitCast",
    "nextafter": "BitCast",
}


def again(graph: Graph) -> Graph:
    return load(to_model(graph).SerializeToString())


@pytest.mark.parametrize("op", **named([op for op in SAMPLED if op.name not in UNREAD]))
def test_what_is_written_comes_back(op: Op) -> None:
    for case in cases(op):
        found = again(graph_of(case))
        dlc.passes.verify(found)
        got = dlc.compile(found, "reference")(*case.arrays)
        for a, b in zip(got, evaluated(case.inputs, case.outputs, case.arrays), strict=True):
            agree(a, b)


@pytest.mark.parametrize("name", UNREAD)
def test_what_is_not_read_is_named(name: str) -> None:
    (case, *_) = cases(dlc.ops.CATALOGUE[name])
    with pytest.raises(UnsupportedError, match=f"{UNREAD[name]}: dlc does not read"):
        again(graph_of(case))


# ---------------------------------------------------------------- whole models


def test_names_states_and_open_dims_come_back() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3))
    graph = of_model(model, ("N", 1, 4, 4))
    found = again(graph)
    assert [n.leaf.name for n in found.inputs] == ["x0"]
    assert str(found.inputs[0].type) == "f32[N,1,4,4]"
    assert str(found.outputs[0].type) == "f32[N,3]"
    assert {n.leaf.name for n in found.states} == set(model.state_dict())
    x = np.random.default_rng(0).standard_normal((2, 1, 4, 4), np.float32)
    agree(dlc.compile(found, "reference")(x)[0], dlc.compile(graph, "reference")(x)[0])


def test_polynomials_of_dims_come_back() -> None:
    x, y = dlc.input("x", ("N", "2*N+1")), dlc.input("y", ("N", "M"))
    found = again(dlc.graph([x, y], [dlc.concat([x, y], axis=1)]))
    assert str(found.outputs[0].type) == "f32[N,M+2*N+1]"


def test_a_training_step_comes_back_and_trains_on() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2))
    x, y = dlc.input("x", ("N", 3)), dlc.input("y", ("N",), "int64")
    loss = nn.functional.cross_entropy(model(x), y)
    step = dlc.train_step(model, inputs=[x, y], loss=loss, optimizer=optim.SGD(0.1), backend="reference")
    found = again(step.program.graph)
    program = dlc.compile(found, "reference")
    rng = np.random.default_rng(0)
    arrays = (rng.standard_normal((6, 3), np.float32), rng.integers(0, 2, 6))
    for _ in range(3):
        agree(program(*arrays)[0], np.asarray(step(*arrays)))


def test_a_loop_comes_back_as_a_loop() -> None:
    graph = dlc.trace(nn.LSTM(3, 4), dlc.input("x", ("T", "N", 3)))
    found = again(graph)
    assert "scan" in {n.op.name for n in found.nodes}
    x = np.random.default_rng(0).standard_normal((5, 2, 3), np.float32)
    for a, b in zip(dlc.compile(found, "reference")(x), dlc.compile(graph, "reference")(x), strict=True):
        agree(a, b)


def test_weights_beside_the_model_are_read(tmp_path: Any) -> None:
    graph = of_model(nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 3)), ("N", 64))
    save(graph, tmp_path / "m.onnx", external_above=10_000)
    x = np.random.default_rng(0).standard_normal((2, 64), np.float32)
    agree(dlc.compile(load(tmp_path / "m.onnx"), "reference")(x)[0], dlc.compile(graph, "reference")(x)[0])
    with pytest.raises(FileFormatError, match="load the model by its path"):
        load((tmp_path / "m.onnx").read_bytes())


# ---------------------------------------------------------------- made by hand


def declared(shapes: dict[str, Any]) -> list[Any]:
    return [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items()]


def model_of(nodes: Any, inputs: Any, outputs: Any, functions: Any = (), opset: int = 17, **parts: Any) -> bytes:
    """A model of float32 inputs and outputs, given by their shapes."""
    graph = helper.make_graph(nodes, "g", declared(inputs), declared(outputs), **parts)
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("local", 1)]
    return helper.make_model(graph, opset_imports=imports, functions=list(functions)).SerializeToString()


def test_functions_are_read_where_they_are_called() -> None:
    twice = helper.make_function(
        "local", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", 17)]
    )
    nodes = [helper.make_node("Twice", [a], [b], domain="local") for a, b in ("xm", "my")]
    found = load(model_of(nodes, {"x": [2]}, {"y": [2]}, [twice]))
    assert dlc.compile(found, "reference")(np.array([1.0, 2.0], "f"))[0].tolist() == [4.0, 8.0]


def test_a_branch_that_the_file_decides_is_taken() -> None:
    def branch(op: str) -> Any:
        out = helper.make_tensor_value_info("z", TensorProto.FLOAT, [2])
        return helper.make_graph([helper.make_node(op, ["x"], ["z"])], "b", [], [out])

    condition = helper.make_tensor("c", TensorProto.BOOL, [], [False])
    node = helper.make_node("If", ["c"], ["y"], then_branch=branch("Neg"), else_branch=branch("Abs"))
    found = load(model_of([node], {"x": [2]}, {"y": [2]}, initializer=[condition]))
    assert dlc.compile(found, "reference")(np.array([-1.0, 2.0], "f"))[0].tolist() == [1.0, 2.0]


def test_metadata_of_updates_is_checked() -> None:
    model = onnx.ModelProto.FromString(to_model(of_model(nn.Linear(2, 2), ("N", 2))).SerializeToString())
    found = {
        "[": "not JSON",
        "[1]": "not an object",
        json.dumps({"weight": "none"}): "no output",
        json.dumps({"none": "output"}): "not defined",
        json.dumps({"weight": "output"}): "its update",
    }
    for text, says in found.items():
        del model.metadata_props[:]
        model.metadata_props.add(key="dlc.updates", value=text)
        with pytest.raises(FileFormatError, match=says):
            load(model.SerializeToString())


def test_the_table_of_operators_is_up_to_date() -> None:
    assert set().union(*onnx_operators.GROUPS.values()) == set(IMPORTERS)
    page = onnx_operators.PAGE.read_text()
    if onnx_operators.version() not in page:
        pytest.skip("the page was written with another onnx")
    assert onnx_operators.table() in page, "run: python tests/onnx_operators.py"


def test_a_gradient_is_taken_where_its_operands_are() -> None:
    """Of y = x * x * z with respect to x, at (u, v) in place of (x, z)."""
    nodes = [
        helper.make_node("Mul", ["x", "x"], ["s"]),
        helper.make_node("Mul", ["s", "z"], ["y"]),
        helper.make_node("Gradient", "uv", ["g"], domain="ai.onnx.preview.training", xs=["x"], zs=["z"], y="y"),
    ]
    shapes = {n: [2] for n in "xzuv"}
    found = dlc.compile(load(model_of(nodes, shapes, {"y": [2], "g": [2]})), "reference")
    y, g = found([1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0])
    assert y.tolist() == [3.0, 16.0]
    assert g.tolist() == [70.0, 96.0]
    nodes[-1].input[1] = "w"
    with pytest.raises(FileFormatError, match="operand 1 is"):
        load(model_of(nodes, {**shapes, "w": [3]}, {"y": [2], "g": [2]}))
