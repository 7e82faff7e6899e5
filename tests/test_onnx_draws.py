"""Operators of ONNX that draw, by dlc's generator: so rates, ranges and seeds are looked at, not the numbers."""

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx_nodes import body_of, graph_of, model_of, one_node

import dlc
from dlc.errors import FileFormatError, UnsupportedError

SIZE = 4000


def drawn(model: Any, *arrays: Any, seed: int = 0, times: int = 1) -> Any:
    """The outputs of the last of some calls of a program of this seed."""
    program = dlc.compile(graph_of(model), "reference", seed=seed)
    for _ in range(times):
        found = program(*arrays)
    return found


def test_uniform_numbers() -> None:
    model = one_node("RandomUniform", [], 22, low=2.0, high=5.0, shape=[SIZE])
    (found,) = drawn(model)
    assert found.dtype == np.float32
    assert 2.0 <= found.min() < 2.05 < 4.95 < found.max() <= 5.0
    assert abs(found.mean() - 3.5) < 0.05
    assert abs(found.var() - 9 / 12) < 0.05


def test_normal_numbers() -> None:
    model = one_node("RandomNormal", [], 22, ["float64"], mean=1.0, scale=3.0, shape=[2, SIZE], dtype=11)
    (found,) = drawn(model)
    assert found.dtype == np.float64
    assert found.shape == (2, SIZE)
    assert abs(found.mean() - 1.0) < 0.2
    assert abs(found.std() - 3.0) < 0.1
    assert abs(np.mean(np.abs(found - 1.0) < 3.0) - 0.6827) < 0.02


@pytest.mark.parametrize("op", ["RandomUniformLike", "RandomNormalLike"])
def test_numbers_of_the_shape_and_dtype_of_another(op: str) -> None:
    x = np.zeros((3, 4), np.float16)
    (found,) = drawn(one_node(op, [x], 22, ["float16"]), x)
    assert (found.dtype, found.shape) == (np.float16, (3, 4))
    (found,) = drawn(one_node(op, [x], 22, dtype=TensorProto.FLOAT), x)
    assert found.dtype == np.float32
    assert len(np.unique(found)) == 12


def test_the_shape_of_another_may_be_open() -> None:
    node = helper.make_node("RandomNormalLike", ["x"], ["y"])
    graph = helper.make_graph(
        [node], "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N"])],
    )  # fmt: skip
    program = dlc.compile(graph_of(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)])), "reference")
    assert [program(np.zeros(n, np.float32))[0].shape for n in (3, 5)] == [(3,), (5,)]


@pytest.mark.parametrize("dtype", ["int64", "bool", "float64"])
def test_bernoulli_draws_are_true_as_often_as_asked_for(dtype: str) -> None:
    p = np.repeat(np.array([0.0, 0.25, 0.9, 1.0], np.float32), SIZE).reshape(4, SIZE)
    to = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    (found,) = drawn(one_node("Bernoulli", [p], 22, [dtype], dtype=to), p)
    assert found.dtype == dtype
    assert set(np.unique(found).astype(int)) == {0, 1}
    np.testing.assert_allclose(found.astype(float).mean(1), [0.0, 0.25, 0.9, 1.0], atol=0.03)
    assert {found[0].any(), not found[3].all()} == {False}


def test_classes_are_drawn_as_often_as_their_shares() -> None:
    shares = np.array([[1.0, 2.0, 1.0], [3.0, 0.0, 1.0]], np.float32)
    with np.errstate(divide="ignore"):
        x = np.log(shares) + np.array([[5.0], [-50.0]], np.float32)  # the logarithms need no norm
    (found,) = drawn(one_node("Multinomial", [x], 22, ["int32"], sample_size=SIZE), x)
    assert (found.dtype, found.shape) == (np.int32, (2, SIZE))
    for row, share in zip(found, shares, strict=True):
        np.testing.assert_allclose(np.bincount(row, minlength=3) / SIZE, share / share.sum(), atol=0.03)
    (found,) = drawn(one_node("Multinomial", [x], 22, ["int64"], sample_size=2, dtype=TensorProto.INT64), x)
    assert found.dtype == np.int64


@pytest.mark.parametrize(("opset", "ratio"), [(12, 0.25), (13, 0.9), (22, None)])
def test_dropout_in_training_scales_what_its_mask_keeps(opset: int, ratio: float | None) -> None:
    x = np.random.default_rng(0).standard_normal((20, 500)).astype(np.float32)
    arrays = [x, None if ratio is None else np.array(ratio, np.float32), np.array(True)]
    model = one_node("Dropout", arrays, opset, ["float32", "bool"], fixed=[i for i in (1, 2) if arrays[i] is not None])
    y, mask = drawn(model, x)
    rate = 0.5 if ratio is None else ratio
    assert abs(mask.mean() - (1 - rate)) < 0.03
    np.testing.assert_allclose(y, np.where(mask, x / np.float32(1 - rate), 0), rtol=1e-6)


def test_dropout_learns_while_running_whether_it_trains_and_at_what_rate() -> None:
    x = np.ones(SIZE, np.float32)
    model = one_node("Dropout", [x, np.array(0.5, np.float32), np.array(True)], 22, ["float32", "bool"])
    program = dlc.compile(graph_of(model), "reference")
    for ratio in (0.0, 0.2, 1.0):
        y, mask = program(x, np.array(ratio, np.float32), np.array(True))
        assert abs(mask.mean() - (1 - ratio)) < 0.03
        np.testing.assert_allclose(y, np.where(mask, np.float32(1 / (1 - ratio)) if ratio < 1 else 0, 0), rtol=1e-6)
    y, mask = program(x, np.array(0.5, np.float32), np.array(False))
    assert mask.all()
    assert (y == x).all()


def test_a_gradient_flows_through_what_dropout_keeps() -> None:
    x = np.ones(SIZE, np.float32)
    nodes = [
        helper.make_node("Dropout", ["x", "r", "t"], ["y", "m"]),
        helper.make_node("Gradient", ["x"], ["g"], domain="ai.onnx.preview.training", xs=["x"], y="y"),
    ]
    constants = {"r": np.array(0.75, np.float32), "t": np.array(True)}
    model = model_of(nodes, {"x": x}, {"g": "float32", "m": "bool"}, 22, constants)
    model.opset_import.append(helper.make_opsetid("ai.onnx.preview.training", 1))
    found, mask = drawn(model, x)
    np.testing.assert_array_equal(found, np.where(mask, np.float32(4.0), 0))


def test_draws_depend_on_seed_step_and_node_and_are_the_same_again() -> None:
    nodes = [helper.make_node("RandomNormal", [], [y], shape=[8]) for y in "ab"]
    model = model_of(nodes, {}, {"a": "float32", "b": "float32"}, 22)
    a, b = drawn(model, seed=1)
    assert not np.isclose(a, b).any()
    assert drawn(model, seed=1)[0].tolist() == a.tolist()
    for other in (drawn(model, seed=2)[0], drawn(model, seed=1, times=2)[0]):
        assert not np.isclose(other, a).any()


def test_a_node_with_a_seed_draws_the_same_for_every_seed_of_the_program() -> None:
    def found(given: float, seed: int) -> Any:
        return drawn(one_node("RandomUniform", [], 22, shape=[8], seed=given), seed=seed)[0].tolist()

    assert found(3.0, 1) == found(3.0, 2)
    assert len({str(found(s, 1)) for s in (3.0, 3.5, -1.0, np.inf)}) == 4


def loops() -> dict[str, Any]:
    """Models whose bodies draw in each of 6 steps, by the kind of the loop."""
    draw = helper.make_node("RandomUniform", [], ["u"], shape=[2])
    carry = {"n": np.array(0), "go": np.array(True)}
    counted = body_of([draw, helper.make_node("Identity", ["go"], ["on"])], carry, {"on": "bool", "u": "float32"})
    # by a shape that depends on the step, the body is read for each
    uneven = [
        *counted.node, helper.make_node("Unsqueeze", ["n", "axis"], ["v"]),
        helper.make_node("ConstantOfShape", ["v"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros", "axis"], ["zero"]), helper.make_node("Add", ["u", "zero"], ["w"]),
    ]  # fmt: skip
    stepwise = body_of(uneven, carry, {"on": "bool", "w": "float32"})
    scanned = body_of([draw, helper.make_node("Identity", ["x"], ["c"])], {"x": np.array(0.0, "f")}, {"u": "float32"})
    constants = {"six": np.array(6), "yes": np.array(True), "axis": np.array([0]), "xs": np.zeros(6, np.float32)}
    nodes = {
        "Loop": helper.make_node("Loop", ["six", "yes"], ["y"], body=counted),
        "unrolled": helper.make_node("Loop", ["six", "yes"], ["y"], body=stepwise),
        "Scan": helper.make_node("Scan", ["xs"], ["y"], body=scanned, num_scan_inputs=1),
    }
    return {kind: model_of([node], {}, {"y": "float32"}, 22, constants) for kind, node in nodes.items()}


@pytest.mark.parametrize("kind", ["Loop", "unrolled", "Scan"])
def test_each_step_of_a_loop_draws_anew(kind: str) -> None:
    (found,) = drawn(loops()[kind])
    assert found.shape == (6, 2)
    assert len(np.unique(found)) == 12


@pytest.mark.parametrize(
    ("op", "arrays", "attributes", "says"),
    [
        ("RandomUniform", [], {"shape": [-1]}, r"the shape is \[-1\]"),
        ("RandomUniform", [], {"shape": [2], "dtype": TensorProto.INT64}, "draws floating-point numbers, not int64"),
        ("RandomUniform", [], {"shape": [2**20, 2**20]}, "more than"),
        ("RandomNormalLike", [np.zeros(2, np.int32)], {}, "draws floating-point numbers, not int32"),
        ("Bernoulli", [np.zeros(2, np.int32)], {}, "the probabilities are"),
        ("Multinomial", [np.zeros((2, 3), "f")], {"dtype": TensorProto.FLOAT}, "cannot be drawn from"),
        ("Multinomial", [np.zeros((2, 3), "f")], {"sample_size": 0}, "cannot be drawn from"),
        ("Dropout", [np.zeros(3, "f"), np.zeros(2, "f"), np.array(True)], {}, "the ratio is"),
        ("RandomUniform", [], {"shape": [2], "seed": "x"}, "the seed is a number"),
    ],
)
def test_what_cannot_be_drawn_is_refused(op: str, arrays: Any, attributes: Any, says: str) -> None:
    with pytest.raises((FileFormatError, UnsupportedError), match=says):
        graph_of(one_node(op, arrays, 22, fixed=range(len(arrays)), **attributes))
