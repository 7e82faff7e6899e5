"""Regions of images, and convolution with offsets, against loops written from the definition and ONNX Runtime."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import helper
from onnx_nodes import by_runtime, graph_of, one_node
from runnable import BACKENDS

import dlc
from dlc.errors import DlcError, IndexOutOfRangeError
from dlc.nn import functional
from dlc.ops.interpret import interpret
from dlc.testing import check_grad

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def the_same_draws() -> None:
    """Whichever tests ran before: a place that chance puts on a kink has no slope to compare."""
    RNG.bit_generator.state = np.random.default_rng(1).bit_generator.state


def bilinear(image: Any, y: float, x: float) -> Any:
    """image [C, H, W] between its elements, with zeros all around."""
    top, left, total = math.floor(y), math.floor(x), np.zeros(len(image))
    for i, j in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
        if 0 <= i < image.shape[1] and 0 <= j < image.shape[2]:
            total += (1 - abs(y - i)) * (1 - abs(x - j)) * image[:, i, j]
    return total


# ---------------------------------------------------------------- regions


def aligned(x: Any, boxes: Any, images: Any, out: Any, scale: float, ratio: int, whole: bool) -> Any:
    found = np.zeros((len(boxes), x.shape[1], *out))
    last = np.array(x.shape[2:]) - 1.0
    for k, (box, image) in enumerate(zip(boxes, images, strict=True)):
        first, end = np.array(box[[1, 0]]) * scale, np.array(box[[3, 2]]) * scale
        size = end - first if whole else np.maximum(end - first, 1)
        each = size / out
        counts = [ratio or max(math.ceil(v), 0) for v in each]
        for cell in np.ndindex(*out):
            for sample in np.ndindex(*counts):
                at = first - 0.5 * whole + cell * each + (np.array(sample) + 0.5) * each / counts
                if (at >= -1).all() and (at <= last + 1).all():
                    found[(k, slice(None), *cell)] += bilinear(x[image], *np.clip(at, 0, last))
        found[k] /= max(math.prod(counts), 1)
    return found


IMAGES = RNG.standard_normal((2, 3, 6, 5))
BOXES = np.array([[0.3, 1.1, 4.2, 3.9], [-2.0, -1.0, 3.0, 2.5], [2.0, 3.0, 2.0, 3.0], [3.5, 4.0, 9.0, 8.0]])
WHICH = np.array([1, 0, 1, 0])


@pytest.mark.parametrize("backend", BACKENDS)
def test_regions_are_means_of_what_lies_in_them(backend: str) -> None:
    x, boxes, which = dlc.input("x", ("N", 3, 6, 5), "float64"), dlc.input("b", ("K", 4), "float64"), dlc.input(
        "i", ("K",), "int64")  # fmt: skip
    ways = [((2, 3), 1.0, 2, True), ((1, 2), 0.6, 3, False), ((2, 1), 0.5, 0, True), ((3, 2), 1.0, 0, False)]
    outputs = [dlc.roi_align(x, boxes, which, *way) for way in (ways if backend == "reference" else ways[1:3])]
    found = dlc.compile(dlc.graph([x, boxes, which], outputs), backend)(IMAGES, BOXES, WHICH)
    for y, way in zip(found, ways if backend == "reference" else ways[1:3], strict=True):
        np.testing.assert_allclose(y, aligned(IMAGES, BOXES, WHICH, *way), rtol=1e-11, atol=1e-13)


def test_the_words_of_torchvision() -> None:
    rows = np.concatenate([WHICH[:, None], BOXES], 1)
    want = aligned(IMAGES, BOXES, WHICH, (2, 2), 0.5, 0, False)
    np.testing.assert_allclose(dlc.evaluate(functional.roi_align(IMAGES, rows, 2, 0.5)), want, rtol=1e-11)
    order = np.argsort(WHICH, kind="stable")
    lists = [dlc.constant(BOXES[i == WHICH]) for i in (0, 1)]
    found = functional.roi_align(IMAGES, lists, 2, 0.5, 0)
    np.testing.assert_allclose(dlc.evaluate(found), want[order], rtol=1e-11)
    found = functional.roi_pool(IMAGES, lists, (2, 1), 0.5)
    np.testing.assert_array_equal(dlc.evaluate(found), pooled(IMAGES, BOXES, WHICH, (2, 1), 0.5)[order])


def test_what_fails_a_run() -> None:
    """An image that there is not, even one whose place would overflow, and a box that needs too many samples."""
    x, i = dlc.input("x", IMAGES.shape, "float64"), dlc.input("i", (1,), "int64")
    run = dlc.compile(dlc.graph([x, i], [dlc.roi_align(x, BOXES[:1], i, 2)]), "reference")
    for image in (2, -1, 2**62, -(2**63)):
        with pytest.raises(IndexOutOfRangeError):
            run(IMAGES, np.array([image]))
    large = dlc.roi_align(dlc.constant(IMAGES), [[0.0, 0.0, 5.0, 9.0]], [0], 1, sampling_ratio=0)
    with pytest.raises(IndexOutOfRangeError):
        dlc.evaluate(large)


def test_gradients_by_images_and_boxes() -> None:
    boxes = np.array([[0.37, 1.13, 4.21, 3.97], [-1.6, 0.7, 3.1, 2.55]])
    check_grad(lambda x, b: dlc.roi_align(x, b, [1, 0], (2, 2), 0.9, 2), [IMAGES, boxes], directions=2)
    check_grad(lambda x: dlc.roi_align(x, boxes, [1, 0], 2, mode="max"), [IMAGES], directions=2)
    check_grad(lambda x: dlc.roi_pool(x, boxes, [1, 0], 2), [IMAGES], directions=2)


def pooled(x: Any, boxes: Any, images: Any, out: Any, scale: float) -> Any:
    found = np.zeros((len(boxes), x.shape[1], *out))
    for k, (box, image) in enumerate(zip(boxes, images, strict=True)):
        first, end = (np.array([math.floor(abs(v * scale) + 0.5) * math.copysign(1, v) for v in p])
                      for p in (box[[1, 0]], box[[3, 2]]))  # fmt: skip
        each = np.maximum(end - first + 1, 1) / out
        for cell in np.ndindex(*out):
            low = np.clip(np.floor(cell * each) + first, 0, x.shape[2:]).astype(int)
            high = np.clip(np.ceil((np.array(cell) + 1) * each) + first, 0, x.shape[2:]).astype(int)
            part = x[image][:, low[0] : high[0], low[1] : high[1]]
            found[(k, slice(None), *cell)] = part.max((1, 2)) if part.size else 0
    return found


@pytest.mark.parametrize("backend", BACKENDS)
def test_maxima_of_parts_of_regions(backend: str) -> None:
    x, boxes, which = dlc.input("x", ("N", 3, "H", 5), "float64"), dlc.input("b", ("K", 4), "float64"), dlc.input(
        "i", ("K",), "int32")  # fmt: skip
    ways: list[Any] = [((2, 3), 1.0), ((3, 1), 0.5)]
    run = dlc.compile(dlc.graph([x, boxes, which], [dlc.roi_pool(x, boxes, which, *way) for way in ways]), backend)
    for found, way in zip(run(IMAGES, BOXES, WHICH.astype(np.int32)), ways, strict=True):
        np.testing.assert_array_equal(found, pooled(IMAGES, BOXES, WHICH, *way))


def onnx_model(operator: str, shapes: dict[str, Any], opset: int, **attributes: Any) -> Any:
    inputs = [helper.make_tensor_value_info(n, 7 if n == "i" else 1, s) for n, s in shapes.items()]
    node = helper.make_node(operator, list(shapes), ["y"], **attributes)
    graph = helper.make_graph([node], "g", inputs, [helper.make_tensor_value_info("y", 1, None)])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


@pytest.mark.parametrize("operator, opset, attributes", [
    ("MaxRoiPool", 1, {"pooled_shape": [2, 3], "spatial_scale": 0.5}),
    ("RoiAlign", 16, {"output_height": 2, "output_width": 3, "spatial_scale": 0.5}),
    ("RoiAlign", 10, {"output_height": 2, "mode": "max", "sampling_ratio": 2}),
])  # fmt: skip
def test_onnx_runtime_has_the_same_regions(operator: str, opset: int, attributes: dict[str, Any]) -> None:
    x = IMAGES.astype(np.float32)
    rows = np.concatenate([WHICH[:, None], np.round(BOXES)], 1).astype(np.float32)
    given = {"x": x, "b": rows} if operator == "MaxRoiPool" else {"x": x, "b": rows[:, 1:], "i": WHICH}
    model = onnx_model(operator, {n: v.shape for n, v in given.items()}, opset, **attributes)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = dlc.compile(dlc.onnx.load(model), "reference")(*given.values())
    np.testing.assert_allclose(found[0], session.run(None, given)[0], rtol=1e-5, atol=1e-6)


GRID = RNG.uniform(-1.3, 1.3, (2, 3, 2, 2)).astype("f")
OPSETS: dict[str, Any] = {
    "GridSample": [(16, {"mode": "bicubic", "padding_mode": "reflection"}), (16, {"align_corners": 1}),
                   (20, {"mode": "linear", "padding_mode": "border"}), (22, {"mode": "cubic"})],
    "Resize": [(o, {"mode": m, "coordinate_transformation_mode": t}) for o in (11, 13, 18, 19) for m, t in (
        ("cubic", "align_corners"), ("linear", "half_pixel"), ("nearest", "asymmetric"))] + [
        (18, {"mode": "linear", "antialias": 1}), (19, {"mode": "cubic", "antialias": 1, "exclude_outside": 1})],
}  # fmt: skip


@pytest.mark.parametrize("operator", OPSETS)
def test_onnx_runtime_reads_images_in_all_opsets_alike(operator: str) -> None:
    image = IMAGES.astype(np.float32)
    for opset, how in OPSETS[operator]:
        arrays, known = [image, GRID], []
        if operator == "Resize":
            arrays, known = [image], [np.zeros(0, "f"), np.array([1, 1, 0.5, 1.6], "f")]
        fixed = range(len(arrays), len(arrays) + len(known))
        model = one_node(operator, [*arrays, *known], opset, fixed=list(fixed), **how)
        found, want = interpret(graph_of(model), arrays)[0][0], by_runtime(model, arrays)[0]
        np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-5, err_msg=f"{opset} {how}")


# ---------------------------------------------------------------- convolution with offsets


def deformed(x: Any, offset: Any, w: Any, bias: Any, mask: Any, step: Any, pad: Any, gap: Any) -> Any:
    o, width, kh, kw = w.shape
    out = np.zeros((len(x), o, *offset.shape[2:]))
    spread = offset.shape[1] // (2 * kh * kw)
    for n, f, i, j in np.ndindex(*out.shape):
        out[n, f, i, j] = bias[f]
        group = f // (o // (x.shape[1] // width))
        for c in range(width):
            channel = group * width + c
            d = channel // (x.shape[1] // spread)
            for k, (u, v) in enumerate(np.ndindex(kh, kw)):
                down, right = offset[n, 2 * (d * kh * kw + k) : 2 * (d * kh * kw + k) + 2, i, j]
                at = i * step[0] - pad[0] + u * gap[0] + down, j * step[1] - pad[1] + v * gap[1] + right
                seen = bilinear(x[n, channel][None], *at)[0] * mask[n, d * kh * kw + k, i, j]
                out[n, f, i, j] += w[f, c, u, v] * seen
    return out


def deformable(groups: int, spread: int, step: Any, pad: Any, gap: Any) -> list[Any]:
    out = [(d + 2 * p - g * (k - 1) - 1) // s + 1 for d, k, s, p, g in zip((5, 6), (2, 3), step, pad, gap, strict=True)]
    return [
        RNG.standard_normal((2, 6, 5, 6)), RNG.standard_normal((2, spread * 12, *out)) * 2,
        RNG.standard_normal((6, 6 // groups, 2, 3)), RNG.standard_normal(6), RNG.uniform(0, 1, (2, spread * 6, *out)),
    ]  # fmt: skip


@pytest.mark.parametrize("backend", BACKENDS)
def test_each_element_of_a_filter_has_its_own_place(backend: str) -> None:
    ways = [(1, 1, (1, 1), (0, 0), (1, 1)), (2, 3, (2, 1), (1, 2), (1, 2)), (3, 2, (1, 2), (2, 1), (2, 1))]
    for i, (groups, spread, *geometry) in enumerate(ways if backend == "reference" else ways[1:2]):
        arrays = deformable(groups, spread, *geometry)
        inputs = [dlc.input(f"v{k}", ("N", *v.shape[1:]) if k in (0, 1, 4) else v.shape, "float64")
                  for k, v in enumerate(arrays)]  # fmt: skip
        y = dlc.deform_conv2d(*inputs[:4], *geometry, mask=inputs[4])
        found = dlc.compile(dlc.graph(inputs, [y]), backend)(*arrays)[0]
        np.testing.assert_allclose(found, deformed(*arrays[:4], arrays[4], *geometry), rtol=1e-11, atol=1e-12)
        if backend == "reference" and i == 0:
            plain = dlc.deform_conv2d(arrays[0], np.zeros_like(arrays[1]), arrays[2])
            np.testing.assert_allclose(
                dlc.evaluate(plain), dlc.evaluate(dlc.conv2d(arrays[0], arrays[2])), rtol=1e-11, atol=1e-12
            )


def test_gradients_of_a_convolution_with_offsets() -> None:
    arrays = deformable(2, 3, (2, 1), (1, 2), (1, 2))
    arrays[1] = np.floor(arrays[1]) + RNG.uniform(0.1, 0.9, arrays[1].shape)  # off the kinks
    check_grad(
        lambda x, o, w, b, m: dlc.deform_conv2d(x, o, w, b, (2, 1), (1, 2), (1, 2), mask=m), arrays, directions=3
    )


X, W, OFF = np.zeros((1, 4, 5, 5)), np.zeros((2, 2, 2, 2)), np.zeros((1, 8, 4, 4))
B, WHERE = np.zeros((3, 4)), np.zeros(3, int)


@pytest.mark.parametrize("call", [
    lambda: dlc.deform_conv2d(X, OFF[:, :7], W), lambda: dlc.deform_conv2d(X, OFF[..., :3], W),
    lambda: dlc.deform_conv2d(X[:, :3], OFF, W), lambda: dlc.deform_conv2d(X, np.concatenate([OFF] * 3, 1), W),
    lambda: dlc.deform_conv2d(X, OFF, W, mask=OFF), lambda: dlc.deform_conv2d(X[0], OFF, W),
    lambda: dlc.deform_conv2d(*(v.astype(int) for v in (X, OFF, W))), lambda: dlc.deform_conv2d(X, OFF, W, stride=0),
    lambda: dlc.roi_align(X, B[:, :3], WHERE, 2), lambda: dlc.roi_align(X, B, WHERE[:2], 2),
    lambda: dlc.roi_align(X, B, B, 2),
    lambda: dlc.roi_align(X, B, WHERE, 0), lambda: dlc.roi_align(X, B, WHERE, 2, sampling_ratio=-1),
    lambda: dlc.roi_align(X, B, WHERE, 2, mode="mean"), lambda: dlc.roi_pool(X.astype(int), B.astype(int), WHERE, 2),
    lambda: dlc.roi_align(dlc.input("x", (1, 4, "H", 5)), B, WHERE, 2, sampling_ratio=0),
    lambda: functional.roi_align(X, B, 2), lambda: functional.roi_pool(X, [dlc.constant(B[0])], 2),
])  # fmt: skip
def test_what_does_not_fit_is_refused_with_its_place(call: Callable[[], Any]) -> None:
    with pytest.raises(DlcError, match=r"test_regions\.py:\d+"):
        call()
