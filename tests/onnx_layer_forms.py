"""Forms of ONNX's layers, losses, quantised products, recurrent layers and loops; see onnx_forms.py."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from onnx import helper, numpy_helper
from onnx_forms import FOUR, IMAGE, INTS, POSITIVE, RNG, Form, X, elementwise, form, grams, places, reductions, shapes
from onnx_nodes import body_of


def layers() -> Iterator[Form]:
    a, b = X[0], X[1].T.copy()
    yield form("MatMul", X, X.transpose(0, 2, 1).copy())
    yield form("MatMul", INTS, INTS.T.copy(), since=9)
    yield form("Gemm", a, b, X[0, :, :3].copy())
    yield form("Gemm", a, X[1], X[0, 0, :3].copy(), alpha=0.5, beta=2.0, transB=1)
    yield form("Gemm", a.T.copy(), b, X[0, :, :1].copy(), transA=1)
    yield form("Gemm", a, b, since=11)
    statistics = [POSITIVE[0, :, i].copy() for i in range(4)]
    yield form("BatchNormalization", IMAGE, *statistics)
    yield form("BatchNormalization", X[:, :, 0].copy(), *statistics, epsilon=0.1)
    yield form("BatchNormalization", X[:, :, 0].copy(), *statistics, until=8, spatial=1)
    wide = [POSITIVE[0] + i for i in range(4)]
    yield form("BatchNormalization", X, *wide, until=8, spatial=0)
    yield form(
        "BatchNormalization", IMAGE, *statistics, since=14, training_mode=1, momentum=0.7, to=("float32",) * 3,
        tolerance=1e-4,
    )  # fmt: skip
    for old in (True, False):
        how: dict[str, Any] = {"until": 11} if old else {"since": 12}
        ratio = () if old else (np.array(0.3, "f"),)
        yield form("Dropout", X, *ratio, **how, **({"ratio": 0.3} if old else {}))
    yield form("Dropout", X, since=10, to=("float32", "bool"), by="reference")  # ONNX Runtime's mask is false in 10
    yield form("Dropout", X, np.array(0.3, "f"), np.array(False), since=12, to=("float32", "bool"), fixed=(2,))
    scale, bias = POSITIVE[0, :, 0].copy(), X[0, :, 1].copy()
    yield form("InstanceNormalization", IMAGE, scale, bias, epsilon=0.1, tolerance=1e-4)
    yield form("LRN", IMAGE, size=3, alpha=0.1, beta=0.5, bias=2.0)
    for axis in (-1, 1):
        last = X[0, 0] if axis == -1 else X[0]
        yield form("LayerNormalization", X, last, last, since=17, axis=axis, to=("float32",) * 3, tolerance=1e-4)
        yield form("RMSNormalization", X, last, since=23, axis=axis, tolerance=1e-4)
    four = RNG.random(4).astype("f")
    yield form("GroupNormalization", FOUR, four[:2], four[2:], since=18, until=20, num_groups=2, tolerance=1e-4)
    yield form("GroupNormalization", FOUR, four, four, since=21, num_groups=2, tolerance=1e-4)
    yield from convolutions()
    yield from losses()
    yield from quantised()
    yield from attention()


def convolutions() -> Iterator[Form]:
    w, bias = RNG.standard_normal((4, 3, 3, 2)).astype("f"), X[0, 0]
    for how in ({}, {"strides": [2, 1], "pads": [1, 0, 2, 1]}, {"auto_pad": "SAME_LOWER"}, {"dilations": [2, 1]}):
        yield form("Conv", IMAGE, w, **how, tolerance=1e-4)
    yield form("Conv", IMAGE, w, bias, auto_pad="SAME_UPPER", strides=[2, 2], tolerance=1e-4)
    grouped = RNG.standard_normal((6, 1, 2, 2)).astype("f")
    yield form("Conv", IMAGE, grouped, group=3, tolerance=1e-4)
    yield form("Conv", X, w[:, :, :, 0].copy(), pads=[1, 1], tolerance=1e-4)
    turned = RNG.standard_normal((3, 2, 3, 3)).astype("f")
    for how in (
        {}, {"strides": [2, 2], "output_padding": [1, 0]}, {"pads": [1, 0, 1, 2]}, {"dilations": [2, 1]},
        {"strides": [2, 2], "output_shape": [15, 13]}, {"group": 3},
        {"strides": [2, 2], "auto_pad": "SAME_UPPER"},
    ):  # fmt: skip
        yield form("ConvTranspose", IMAGE, turned, **how, tolerance=1e-4)


def pooling() -> Iterator[Form]:
    window: dict[str, Any] = {"kernel_shape": [3, 2]}
    stride = {**window, "strides": [2, 2]}
    for name in ("MaxPool", "AveragePool"):
        for how in (window, {**stride, "pads": [1, 0, 1, 1]}, {**stride, "auto_pad": "SAME_UPPER"}):
            yield form(name, IMAGE, **how)
        yield form(name, IMAGE, since=10, **stride, ceil_mode=1)
        yield form(name, IMAGE, since=10, **stride, pads=[1, 1, 1, 1], ceil_mode=1)
        yield form(name, X, kernel_shape=[2])
    yield form("MaxPool", IMAGE, since=10, **window, dilations=[2, 1])
    yield form("MaxPool", IMAGE, since=8, **stride, to=("float32", "int64"))
    yield form("MaxPool", IMAGE, since=8, **stride, storage_order=1, to=("float32", "int64"))
    yield form("MaxPool", (IMAGE * 30).astype("i1"), since=12, **window)
    for count in (0, 1):
        yield form("AveragePool", IMAGE, **stride, pads=[1, 1, 1, 0], count_include_pad=count)
        yield form("AveragePool", IMAGE, since=19, **stride, pads=[1, 1, 1, 1], count_include_pad=count, ceil_mode=1)
    yield form("AveragePool", IMAGE, since=19, **window, dilations=[2, 2])
    yield form("LpPool", IMAGE, **window, p=3)
    yield form("LpPool", IMAGE, **stride, pads=[1, 0, 1, 1])
    yield form("LpPool", IMAGE, since=18, **window, dilations=[2, 1])
    yield form("LpPool", IMAGE, since=18, **stride, ceil_mode=1)
    for name in ("GlobalAveragePool", "GlobalMaxPool"):
        yield form(name, IMAGE)
    yield form("GlobalLpPool", IMAGE, until=21)  # neither has it in 22, which adds a dtype
    spots = np.array([[[[5, 7], [13, 15]]]])
    yield form("MaxUnpool", np.ones((1, 1, 2, 2), "f"), spots, since=9, kernel_shape=[2, 2], strides=[2, 2])
    doubled = np.array([1.0, 1.0, 2.0, 2.0], "f")
    for mode in ("nearest", "linear"):
        yield form("Upsample", FOUR, until=8, mode=mode, scales=[1.0, 1.0, 2.0, 2.0])
        yield form("Upsample", FOUR, doubled, since=9, until=9, mode=mode, fixed=(1,))


def losses() -> Iterator[Form]:
    logs, targets = np.log(POSITIVE / 9), np.array([[0, 2, 1, 1], [2, 2, 0, 1]])
    weights = POSITIVE[0, :, 0].copy()
    for how in ({}, {"reduction": "none"}, {"reduction": "sum"}):
        yield form("NegativeLogLikelihoodLoss", logs, targets, weights, since=12, **how)
    yield form("NegativeLogLikelihoodLoss", logs, targets, since=12, ignore_index=1)
    yield form("SoftmaxCrossEntropyLoss", logs, targets, weights, since=12, to=("float32", "float32"))
    yield form("SoftmaxCrossEntropyLoss", logs, targets, since=12, ignore_index=2)


def control() -> Iterator[Form]:
    row = X[0, 0]
    constant = [helper.make_node("Constant", [], ["r"], value=numpy_helper.from_array(row))]
    for chosen in (True, False):
        bodies = {
            f"{name}_branch": body_of([*constant, helper.make_node(op, ["r"], [name])], {}, {name: row}, name)
            for name, op in (("then", "Neg"), ("else", "Exp"))
        }
        yield form("If", np.array(chosen), to="float32", **bodies)
    state = {"n": np.array(0), "go": np.array(True), "s": row}
    nodes = [helper.make_node("Identity", ["go"], ["on"]), *constant, helper.make_node("Add", ["s", "r"], ["t"])]
    nodes.append(helper.make_node("Mul", ["t", "r"], ["u"]))
    body = body_of(nodes, state, {"on": np.array(True), "t": row, "u": row})
    for steps, start in ((4, np.array(True)), (3, None)):
        yield form("Loop", steps, start, row, fixed=() if start is None else (1,), to=("float32",) * 2, body=body)
    nodes[0] = helper.make_node("Less", ["n", "two"], ["on"])
    nodes.insert(0, helper.make_node("Constant", [], ["two"], value=numpy_helper.from_array(np.array(2))))
    ends = body_of(nodes[:-1], state, {"on": np.array(True), "t": row})
    yield form("Loop", None, np.array(True), row, to="float32", body=ends, since=9)  # Less of integers
    nodes = [helper.make_node("Add", ["s", "x"], ["t"]), helper.make_node("Mul", ["s", "x"], ["u"])]
    body = body_of(nodes, {"s": row, "x": row}, {"t": row, "u": row})
    yield form("Scan", None, X[:, 0], X, since=8, until=8, num_scan_inputs=1, to=("float32",) * 2, body=body)
    yield form("Scan", row, X[0], since=9, num_scan_inputs=1, to=("float32",) * 2, body=body)
    turned = {"scan_input_axes": [1], "scan_output_axes": [1], "scan_input_directions": [1]}
    turned["scan_output_directions"] = [1]
    yield form("Scan", row, X[0].T.copy(), since=9, num_scan_inputs=1, to=("float32",) * 2, body=body, **turned)


def quantised() -> Iterator[Form]:
    scale, zero = np.array(0.1, "f"), np.array(120, "u1")
    bytes_ = (np.abs(INTS) * 20).astype("u1")
    yield form("QuantizeLinear", X, scale, zero, since=10, to="uint8")
    yield form("QuantizeLinear", X, POSITIVE[0, :, 0].copy(), np.array([3, -2, 0], "i1"), since=13, to="int8", axis=1)
    yield form("DequantizeLinear", bytes_, scale, zero, since=10, to="float32")
    yield form("DequantizeLinear", bytes_, POSITIVE[0, :, 0].copy(), since=13, to="float32", axis=0)
    blocks = POSITIVE[0, :, :2].copy()
    yield form("DequantizeLinear", bytes_, blocks, since=21, to="float32", axis=1, block_size=2)
    yield form("DynamicQuantizeLinear", X, since=11, to=("uint8", "float32", "uint8"))
    yield form("MatMulInteger", bytes_, bytes_.T.copy(), zero, zero, since=10, to="int32")
    yield form("ConvInteger", (np.abs(IMAGE) * 50).astype("u1"), np.ones((2, 3, 2, 2), "u1"), since=10, to="int32")
    tens = np.array(10.0, "f")
    yield form("QLinearMatMul", bytes_, scale, zero, bytes_.T.copy(), scale, zero, tens, zero, since=10, to="uint8")
    image, kernel = (np.abs(IMAGE) * 50).astype("u1"), (np.abs(FOUR[:, :3, :2, :2]) * 50).astype("u1")
    yield form("QLinearConv", image, scale, zero, kernel, scale, zero, tens, zero, since=10, to="uint8")


def attention() -> Iterator[Form]:
    q, k, v = (RNG.standard_normal((1, 2, n, 4)).astype("f") for n in (3, 5, 5))
    yield form("Attention", q, k, v, since=23, tolerance=1e-4)
    yield form("Attention", q, k, v, q[0, 0, :, :1] + k[0, 0, :, 0], since=23, scale=0.3, softcap=2.0, tolerance=1e-4)
    yield form("Attention", k, k, v, since=23, is_causal=1, tolerance=1e-4)
    turn = RNG.random((8, 2)).astype("f")
    places_ = np.array([[3, 0, 5]])
    for how in ({}, {"interleaved": 1}):
        yield form("RotaryEmbedding", q, turn, turn, places_, since=23, **how)


def recurrent() -> Iterator[Form]:
    x = RNG.standard_normal((5, 2, 3)).astype("f")
    for name, gates in (("RNN", 1), ("GRU", 3), ("LSTM", 4)):
        for ways, direction in ((1, "forward"), (1, "reverse"), (2, "bidirectional")):
            w, r, b = (RNG.standard_normal((ways, gates * 4, n)).astype("f") / 2 for n in (3, 4, 2))
            b = b.transpose(0, 2, 1).reshape(ways, -1)
            to = ("float32",) * (3 if name == "LSTM" else 2)
            how: dict[str, Any] = {"hidden_size": 4, "direction": direction, "to": to}
            yield form(name, x, w, r, **how)
            yield form(name, x, w, r, b, np.array([5, 2], "i4"), **how)
            yield form(name, x, w, r, b, None, X[:ways, :2].copy(), **how)
            if name == "GRU":
                yield form(name, x, w, r, b, linear_before_reset=1, **how)
            if name == "LSTM":
                state = RNG.random((ways, 2, 4)).astype("f")
                yield form(name, x, w, r, b, None, state, state, RNG.random((ways, 12)).astype("f"), **how)
            yield form(name, x, w, r, b, clip=0.4, **how)
            turned = x.transpose(1, 0, 2).copy()
            yield form(name, turned, w, r, b, since=14, layout=1, **how)
            kinds = {"RNN": ["Relu"], "GRU": ["HardSigmoid", "Relu"], "LSTM": ["HardSigmoid", "LeakyRelu", "Tanh"]}
            yield form(name, x, w, r, b, activations=kinds[name] * ways, **how)
            kinds = {"RNN": ["ThresholdedRelu"], "GRU": ["Sigmoid", "Elu"], "LSTM": ["HardSigmoid", "LeakyRelu", "Elu"]}
            how["activation_alpha"] = [0.3, 0.4, 0.5, 0.35, 0.45, 0.55][: (3 if name == "LSTM" else 1) * ways]
            how |= {"activation_beta": [0.6] * ways} if name == "LSTM" else {}
            yield form(name, x, w, r, b, activations=kinds[name] * ways, **how)


def all_forms() -> list[Form]:
    parts = (elementwise, shapes, reductions, places, layers, pooling, recurrent, control, grams)
    return [f for part in parts for f in part()]
