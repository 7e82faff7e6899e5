"""Sequences and optionals of ONNX, which are resolved while reading; against onnx's own reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx_nodes import body_of, by_dlc, by_reference, graph_of, model_of

import dlc
from dlc.errors import ArgumentError, FileFormatError, StaticOperandError, UnsupportedError
from dlc.frontend.onnx import Model, load

X = np.arange(12.0, dtype=np.float32).reshape(4, 3)
SEQUENCE = helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, None)
NUMBERS = {name: np.array(v) for name, v in {"zero": 0, "two": 2, "last": -1, "nine": 9, "parts": [1, 3]}.items()}


def node(operator: str, inputs: str, outputs: str, **attributes: Any) -> Any:
    return helper.make_node(operator, inputs.split(), outputs.split(), **attributes)


def model(nodes: list[Any], outputs: dict[str, Any], opset: int = 17, **inputs: Any) -> Any:
    """A model of float32 inputs, of which those that are lists are sequences; so are outputs that are."""
    tensors = {n: v for n, v in inputs.items() if not isinstance(v, list)}
    made = model_of(nodes, tensors, {n: d for n, d in outputs.items() if not isinstance(d, list)}, opset, NUMBERS)
    for name in inputs.keys() - tensors.keys():
        made.graph.input.append(helper.make_tensor_sequence_value_info(name, TensorProto.FLOAT, None))
    for name, dtype in outputs.items():
        if isinstance(dtype, list):
            made.graph.output.append(helper.make_tensor_sequence_value_info(name, TensorProto.FLOAT, None))
    return made


def same(found: Any, expected: Any) -> None:
    assert isinstance(found, list) == isinstance(expected, list)
    if isinstance(found, list):
        assert len(found) == len(expected)
        for a, b in zip(found, expected, strict=True):
            same(a, b)
    else:
        np.testing.assert_array_equal(found, expected)


def agree(made: Any, *arrays: Any) -> Any:
    found = by_dlc(made, arrays)
    same(found, by_reference(made, arrays))
    return found


def test_elements_are_taken_put_in_and_left_out() -> None:
    nodes = [
        node("SplitToSequence", "x", "s", axis=0, keepdims=0),
        node("SequenceAt", "s last", "e"),
        node("SequenceInsert", "s e zero", "more"),
        node("SequenceErase", "more two", "fewer"),
        node("SequenceErase", "fewer", "cut"),
        node("SequenceInsert", "cut e", "appended"),
        node("SequenceLength", "appended", "n"),
        node("SequenceAt", "appended zero", "first"),
        node("ConcatFromSequence", "appended", "joined", axis=0),
        node("ConcatFromSequence", "appended", "stacked", axis=1, new_axis=1),
    ]
    outputs = {"n": "int64", "first": "float32", "joined": "float32", "stacked": "float32"}
    n, first, joined, stacked = agree(model(nodes, outputs, x=X), X)
    assert (int(n), first.shape, joined.shape, stacked.shape) == (4, (3,), (12,), (3, 4))


@pytest.mark.parametrize("split", ["", "two", "parts"])
@pytest.mark.parametrize("keepdims", [0, 1])
def test_a_tensor_is_split_into_a_sequence(split: str, keepdims: int) -> None:
    nodes = [node("SplitToSequence", f"x {split}".strip(), "s", axis=0, keepdims=keepdims)]
    (found,) = agree(model(nodes, {"s": []}, x=X), X)
    lengths = {"": [1] * 4 if keepdims else [3] * 4, "two": [2, 2], "parts": [1, 3]}
    assert [a.shape[0] for a in found] == lengths[split]


def test_a_body_is_done_for_each_element() -> None:
    body = body_of([node("Add", "a b", "c"), node("Size", "a", "k")], {"a": X, "b": X}, {"c": X, "k": np.array(0)})
    nodes = [
        node("SplitToSequence", "x two", "s", axis=0),
        node("SequenceConstruct", "y y", "t"),
        node("SequenceMap", "s t", "u sizes", body=body),
        node("SequenceMap", "s y", "v sizes_again", body=body),
        node("ConcatFromSequence", "u", "joined", axis=0),
        node("ConcatFromSequence", "sizes", "counts", axis=0, new_axis=1),
    ]
    made = model(nodes, {"joined": "float32", "counts": "int64", "v": []}, x=X, y=X[:2])
    joined, counts, v = by_dlc(made, [X, X[:2]])
    same(joined, np.concatenate([X[:2] + X[:2], X[2:] + X[:2]]))
    same(v, [X[:2] + X[:2], X[2:] + X[:2]])
    assert counts.tolist() == [6, 6]


def test_a_graph_has_an_output_for_each_element_and_a_model_gives_lists() -> None:
    made = model([node("SequenceInsert", "s x", "t"), node("Neg", "x", "y")], {"y": "float32", "t": []}, s=[], x=X)
    program = dlc.compile(load(made, {"s": [X, X[:1]]}), "reference")
    assert [a.shape for a in program(X)] == [(4, 3), (4, 3), (1, 3), (4, 3)]
    run = Model(made, "reference")
    for given in ([X[0]], [], [X, X]):
        y, t = run(X, given)
        same(y, -X)
        same(t, [*given, X])


def test_an_optional_is_what_it_holds() -> None:
    held = [node("OptionalHasElement", "o", "has"), node("If", "has", "y", **branches())]
    made = model(held, {"has": "bool", "y": "float32"}, opset=18, x=X)
    kind = helper.make_optional_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, None))
    made.graph.input.append(helper.make_value_info("o", kind))
    run = Model(made, "reference")
    for given in (X, None, X[:1]):
        has, y = run(X, given)
        assert bool(has) == (given is not None)
        same(y, np.zeros(1, "f") if given is None else -given)


def branches() -> dict[str, Any]:
    empty = node("Constant", "", "none", value=helper.make_tensor("v", TensorProto.FLOAT, [1], [0.0]))
    inside = [node("OptionalGetElement", "o", "e"), node("Neg", "e", "some")]
    return {"then_branch": body_of(inside, {}, {"some": X}), "else_branch": body_of([empty], {}, {"none": X[0, :1]})}


def test_an_empty_optional_comes_out_as_none() -> None:
    kind = helper.make_optional_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, None))
    made = model([helper.make_node("Optional", [], ["o"], type=kind.optional_type.elem_type)], {"y": "float32"}, x=X)
    made.graph.node.append(node("Neg", "x", "y"))
    made.graph.output.insert(0, helper.make_value_info("o", kind))
    found = Model(made, "reference")(X)
    assert found[0] is None
    same(found[1], -X)


def test_a_condition_may_choose_a_sequence_where_it_is_known() -> None:
    bodies = {
        f"{name}_branch": helper.make_graph([node("SequenceConstruct", inputs, name)], name, [], [SEQUENCE])
        for name, inputs in (("then", "x"), ("else", "x x"))
    }
    for name, body in bodies.items():
        body.output[0].name = name.removesuffix("_branch")
    nodes = [node("If", "c", "t", **bodies), node("SequenceLength", "t", "n")]
    made = model(nodes, {"n": "int64"}, x=X, c=np.array(True))
    run = Model(made, "reference")
    assert [int(run(X, np.array(c))[0]) for c in (True, False)] == [1, 2]
    with pytest.raises(StaticOperandError, match="operand 0 decides shapes"):
        load(made)


@pytest.mark.parametrize(
    ("nodes", "says"),
    [
        ([node("SequenceAt", "s nine", "y")], "the sequence has no place 9; it is of length 4"),
        ([node("SequenceErase", "s nine", "t"), node("SequenceAt", "t zero", "y")], "no place 9"),
        ([node("SequenceInsert", "s x nine", "t"), node("SequenceAt", "t zero", "y")], "nothing is inserted at 9"),
        ([node("SequenceEmpty", "", "t"), node("SequenceErase", "t", "y")], "taken from an empty sequence"),
        ([node("SequenceEmpty", "", "t"), node("ConcatFromSequence", "t", "y", axis=0)], "has nothing to join"),
        ([node("Neg", "s", "y")], "a sequence, or an empty optional, where a tensor is taken"),
        ([node("Selu", "s", "y")], "a sequence, or an empty optional, where a tensor is taken"),
        ([node("SequenceLength", "x", "y")], "operand 0 is no sequence"),
        ([node("SequenceConstruct", "s s", "y")], "the elements of a sequence are tensors"),
        ([node("SequenceConstruct", "x y", "t")], "y is not defined"),
        ([node("SplitToSequence", "x zero", "t", axis=0), node("SequenceAt", "t zero", "y")], "into parts of 0"),
        ([node("SplitToSequence", "x parts", "t", axis=1), node("SequenceAt", "t zero", "y")], "do not add up to 3"),
        ([node("Optional", "", "o"), node("OptionalGetElement", "o", "y")], "an empty optional has no element"),
    ],
    ids=lambda v: v[-1].op_type if isinstance(v, list) else "",
)
def test_what_makes_no_sense_is_refused(nodes: list[Any], says: str) -> None:
    split = node("SplitToSequence", "x", "s", axis=0)
    with pytest.raises(FileFormatError, match=says):
        graph_of(model([split, *nodes], {"y": "float32"}, x=X))


def test_what_is_given_must_fit() -> None:
    made = model([node("SequenceLength", "s", "n")], {"n": "int64"}, s=[])
    with pytest.raises(StaticOperandError, match="a sequence, or an optional, must be given"):
        load(made)
    with pytest.raises(ArgumentError, match="'s' is a sequence; give it as a list"):
        load(made, {"s": X})
    with pytest.raises(ArgumentError, match="'s' is int64"):
        load(made, {"s": [np.array(1)]})
    nodes = [node("SplitToSequence", "x", "t", axis=0), node("SequenceAt", "t zero", "y")]
    open_axis = model(nodes, {"y": "float32"}, x=X)
    open_axis.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "N"
    with pytest.raises(UnsupportedError, match="whose size is open, into a sequence"):
        load(open_axis)


def test_sequences_are_of_bounded_length() -> None:
    doubled = [node("SequenceConstruct", " ".join(["x"] * 4096), "s"), node("SequenceInsert", "s x", "t")]
    with pytest.raises(FileFormatError, match="a sequence of 4097 elements; the limit is 4096"):
        graph_of(model(doubled, {"t": []}, x=X))
    many = [doubled[0], node("Identity", "s", "t")]
    with pytest.raises(FileFormatError, match="more than 4096 outputs, with the elements of sequences"):
        graph_of(model(many, {"s": [], "t": []}, x=X))
