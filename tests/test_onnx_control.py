"""Loops of ONNX whose body differs from step to step, and scans over a batch; against ONNX Runtime."""

from typing import Any

import numpy as np
import pytest
from onnx import helper, numpy_helper
from onnx_nodes import body_of, by_dlc, by_runtime, graph_of, model_of

from dlc.errors import FileFormatError, UnsupportedError

X = np.arange(1.0, 6.0, dtype=np.float32)
STEP = {"n": np.array(0), "before": np.array(True)}
GROWS = [helper.make_node("Identity", ["before"], ["on"]), helper.make_node("Concat", ["k", "k"], ["d"], axis=0)]


def loop(body: Any, inputs: dict[str, Any], results: dict[str, str], opset: int = 21, **constants: Any) -> Any:
    """A model of one Loop, whose operands are the inputs and constants called steps, go and c."""
    given = {**inputs, **constants}
    names = [n if n in given else "" for n in ("steps", "go")] + ["c"] * ("c" in given)
    return model_of([helper.make_node("Loop", names, list(results), body=body)], inputs, results, opset, constants)


def agree(model: Any, *arrays: Any) -> list[Any]:
    found, expected = by_dlc(model, arrays), by_runtime(model, arrays)
    for a, b in zip(found, expected, strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        np.testing.assert_allclose(a, b, rtol=1e-6)
    return found


def test_what_is_carried_may_grow() -> None:
    body = body_of(GROWS, {**STEP, "k": np.zeros(1, "f")}, {"on": "bool", "d": "float32"})
    body.input[2].type.tensor_type.ClearField("shape")
    model = loop(body, {"c": X[:2]}, {"y": "float32"}, steps=np.array(3))
    assert agree(model, X[:2])[0].shape == (16,)


def test_a_slice_may_depend_on_the_step_and_on_what_is_counted() -> None:
    """The sum of x[k : k + 2] for k = 0, 2, 4, where k is carried."""
    nodes = [
        helper.make_node("Identity", ["before"], ["on"]),
        helper.make_node("Add", ["k", "two"], ["d"]),
        helper.make_node("Slice", ["x", "k", "d"], ["s"]),
        helper.make_node("ReduceSum", ["s"], ["r"], keepdims=0),
    ]
    body = body_of(nodes, {**STEP, "k": np.zeros(1, np.int64)}, {"on": "bool", "d": "int64", "r": "float32"})
    names = {"steps": np.array(3), "c": np.array([0]), "two": np.array([2])}
    node = helper.make_node("Loop", ["steps", "", "c"], ["last", "y"], body=body)
    found = agree(model_of([node], {"x": X}, {"last": "int64", "y": "float32"}, 21, names), X)
    assert [a.tolist() for a in found] == [[6], [3.0, 7.0, 5.0]]


def test_a_weight_of_a_body_is_one_state_however_many_steps_read_it() -> None:
    """Also where each step reads the body of a choice in it anew."""
    w = numpy_helper.from_array(np.array([2.0], np.float32), "w")
    inner = body_of([helper.make_node("Mul", ["k", "w"], ["t"])], {}, {"t": "float32"})
    inner.initializer.append(w)
    nodes = [
        helper.make_node("Identity", ["before"], ["on"]),
        helper.make_node("If", ["before"], ["u"], then_branch=inner, else_branch=inner),
        helper.make_node("Mul", ["u", "v"], ["m"]),
        helper.make_node("Concat", ["m", "m"], ["d"], axis=0),
    ]
    body = body_of(nodes, {**STEP, "k": np.zeros(1, "f")}, {"on": "bool", "d": "float32"})
    body.input[2].type.tensor_type.ClearField("shape")
    body.initializer.append(numpy_helper.from_array(np.array([3.0], np.float32), "v"))
    model = loop(body, {"c": X[:1]}, {"y": "float32"}, steps=np.array(3), go=np.array(True))
    assert agree(model, X[:1])[0].tolist() == [216.0] * 8
    assert len(graph_of(model).states) == 2


def test_a_condition_that_counts_steps_ends_it() -> None:
    nodes = [helper.make_node("Less", ["n", "two"], ["on"]), helper.make_node("Concat", ["k", "k"], ["d"], axis=0)]
    body = body_of(nodes, {**STEP, "k": np.zeros(1, "f")}, {"on": "bool", "d": "float32"})
    body.input[2].type.tensor_type.ClearField("shape")
    names = {"two": np.array(2), "go": np.array(True)}
    for limit in ({}, {"steps": np.array(9)}, {"steps": np.array(1)}, {"steps": np.array(0)}):
        model = loop(body, {"c": X[:1]}, {"y": "float32"}, **names, **limit)
        assert agree(model, X[:1])[0].size == (8 if limit.get("steps") in (None, 9) else 2 ** int(limit["steps"]))


def test_steps_that_differ_are_counted() -> None:
    nodes = [helper.make_node("Identity", ["before"], ["on"]), helper.make_node("ConstantOfShape", ["v"], ["r"])]
    nodes.insert(0, helper.make_node("Unsqueeze", ["n", "axis"], ["v"]))
    body = body_of(nodes, STEP, {"on": "bool", "r": "float32"})
    for steps in (np.array(2**60), None):
        limit = {} if steps is None else {"steps": steps}
        model = loop(body, {}, {"y": "float32"}, go=np.array(True), axis=np.array([0]), **limit)
        with pytest.raises(UnsupportedError, match=r"decides shapes.*one by one|without end.*one by one"):
            graph_of(model)


def test_an_endless_loop_of_nothing_is_refused() -> None:
    body = body_of([helper.make_node("Identity", ["before"], ["on"])], STEP, {"on": "bool", "go": "bool"})
    with pytest.raises(UnsupportedError, match="without end"):
        graph_of(loop(body, {}, {"y": "bool"}, go=np.array(True)))


def batched_scan(ways: list[int], lengths: bool) -> Any:
    """Opset 8: the sums so far of x, and twice x, of each sample."""
    nodes = [helper.make_node("Add", ["a", "b"], ["t"]), helper.make_node("Add", ["b", "b"], ["z"])]
    body = body_of(nodes, {"a": X[:2], "b": X[:2]}, {"t": X[:2], "z": X[:2]})
    node = helper.make_node(
        "Scan", ["l" if lengths else "", "s", "x"], ["last", "all"], body=body, num_scan_inputs=1, directions=ways
    )
    inputs = {"s": np.zeros((3, 2), "f"), "x": np.zeros((3, 4, 2), "f")}
    if lengths:
        inputs["l"] = np.zeros(3, np.int64)
    return model_of([node], inputs, {"last": "float32", "all": "float32"}, 8)


@pytest.mark.parametrize(("ways", "lengths"), [([0], False), ([1], False), ([0], True)])
def test_a_scan_of_opset_8_goes_over_the_samples_of_a_batch(ways: list[int], lengths: bool) -> None:
    rng = np.random.default_rng(0)
    arrays: list[Any] = [rng.standard_normal(s).astype("f") for s in ((3, 2), (3, 4, 2))]
    agree(batched_scan(ways, lengths), *arrays, *([np.array([4, 1, 2])] if lengths else []))


def test_a_scan_of_opset_8_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="backwards over sequences of different lengths"):
        graph_of(batched_scan([1], True))
    with pytest.raises(FileFormatError, match="directions must be 1 ints"):
        graph_of(batched_scan([2], False))
