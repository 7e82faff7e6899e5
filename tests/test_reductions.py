"""Kernels with reductions: whatever divides their tasks, the bits are the same."""

from typing import Any

import numpy as np
import pytest
from native import emitted, run_kernel

import dlc
from dlc import nn
from dlc.errors import AttributeValueError
from dlc.ir import Graph, Node
from dlc.passes import PIPELINE, fuse

RNG = np.random.default_rng(5)


def data(*shape: int) -> Any:
    return RNG.standard_normal(shape).astype(np.float32)


def fused_kernels(*outputs: Any, inputs: Any) -> list[Node]:
    return [n for n in fuse(dlc.graph(inputs, outputs)).nodes if n.op.name == "fused" or n.op.kind.name == "REDUCE"]


def same_for_all_divisions(node: Node, arrays: Any, bindings: Any = None) -> list[Any]:
    whole, status = run_kernel(node, arrays, bindings)
    assert not status.any()
    for division in (2, 3, 7):
        for a, b in zip(whole, run_kernel(node, arrays, bindings, division=division)[0], strict=True):
            np.testing.assert_array_equal(a, b)
    return whole


@pytest.mark.parametrize("rows", [0, 1, 255, 256, 257, 1000])
@pytest.mark.parametrize("columns", [1, 5, 700])
def test_columns_are_summed_in_chunks_of_rows(rows: int, columns: int) -> None:
    x = dlc.input("x", ("N", columns))
    (node,) = fused_kernels(dlc.sum(dlc.exp(x), axis=0), inputs=[x])
    a = data(rows, columns)
    (found,) = same_for_all_divisions(node, [a], {"N": rows})
    np.testing.assert_allclose(found, np.exp(a.astype(np.float64)).sum(0), rtol=2e-6)


@pytest.mark.parametrize("size", [0, 1, 4096, 4097, 50_000])
def test_everything_is_summed_in_chunks(size: int) -> None:
    x = dlc.input("x", ("N",))
    (node,) = fused_kernels(dlc.sum(x * x) * 2.0, inputs=[x])
    a = data(size)
    (found,) = same_for_all_divisions(node, [a], {"N": size})
    np.testing.assert_allclose(found, 2 * (a.astype(np.float64) ** 2).sum(), rtol=1e-6)


def test_everything_of_a_permuted_image_is_summed() -> None:
    x, y = dlc.input("x", ("N", 3, 50)), dlc.input("y", ("N", 50, 3))
    (node,) = fused_kernels(dlc.sum(x * dlc.permute_dims(y, (0, 2, 1))), inputs=[x, y])
    a, b = data(9, 3, 50), data(9, 50, 3)
    (found,) = same_for_all_divisions(node, [a if n is x.node else b for n in node.inputs], {"N": 9})
    np.testing.assert_allclose(found, (a.astype(np.float64) * b.transpose(0, 2, 1)).sum(), rtol=1e-5)


def test_reductions_down_the_same_columns_are_one_kernel() -> None:
    x, y = dlc.input("x", ("N", 700)), dlc.input("y", ("N", 700))
    (node,) = fused_kernels(dlc.sum(x, axis=0), dlc.sum(x * y, axis=0), dlc.max(x, axis=0), inputs=[x, y])
    a, b = data(600, 700), data(600, 700)
    order = same_for_all_divisions(node, [a if n is x.node else b for n in node.inputs], {"N": 600})
    expected = [a.sum(0, dtype=np.float64), (a.astype(np.float64) * b).sum(0), a.max(0)]
    for e in expected:
        assert any(np.allclose(found, e, rtol=1e-4, atol=1e-4) for found in order)


def test_reductions_of_everything_are_one_kernel_with_what_follows_them() -> None:
    x = dlc.input("x", ("N", 700))
    (node,) = fused_kernels(dlc.mean(x), dlc.max(x), inputs=[x])
    a = data(60, 700)
    assert len(emitted(node).parts) == 2
    found = sorted(float(r) for r in same_for_all_divisions(node, [a], {"N": 60}))
    np.testing.assert_allclose(found, sorted([a.mean(dtype=np.float64), a.max()]), rtol=1e-4, atol=1e-7)


def batch_norm() -> tuple[Graph, list[Any]]:
    x, g = dlc.input("x", ("N", 5, 6, 7)), dlc.input("g", ("N", 5, 6, 7))
    layer = nn.BatchNorm2d(5)
    y = dlc.relu(layer(x))
    w, b = (p.resolve((5,), "test") for p in (layer.weight, layer.bias))
    return dlc.graph([x, g], [y, *dlc.grad(dlc.sum(y * g), [x, w, b])]), [data(4, 5, 6, 7), data(4, 5, 6, 7)]


def layer_norm() -> tuple[Graph, list[Any]]:
    x, g, w, b = (dlc.input(n, s) for n, s in (("x", ("N", 33)), ("g", ("N", 33)), ("w", (33,)), ("b", (33,))))
    y = dlc.layer_norm(x, w, b)
    arrays = [data(300, 33), data(300, 33), *data(2, 33)]
    return dlc.graph([x, g, w, b], [y, *dlc.grad(dlc.sum(y * g), [x, w, b])]), arrays


def losses() -> tuple[Graph, list[Any]]:
    x, y = dlc.input("x", ("N", 33)), dlc.input("y", ("N",), "int64")
    loss = nn.functional.cross_entropy(x, y)
    return dlc.graph([x, y], [loss, dlc.softmax(x), *dlc.grad(loss, [x])]), [data(300, 33), RNG.integers(0, 33, 300)]


def test_batch_norm_is_one_kernel_forward_and_one_backward() -> None:
    x, g = dlc.input("x", ("N", 5, 6, 7)), dlc.input("g", ("N", 5, 6, 7))
    layer = nn.BatchNorm2d(5)
    y = dlc.relu(layer(x) + g)
    forward = dlc.compile(dlc.graph([x, g], [y]), training=True)
    assert len(forward.plan.kernels) == 1 and [p.tasks for p in forward.plan.kernels[0].code.parts] == [5]


@pytest.mark.parametrize("case", [batch_norm, layer_norm, losses], ids=["batch", "layer", "losses"])
def test_fused_norms_agree_with_unfused_ones(case: Any) -> None:
    graph, arrays = case()
    fused = dlc.compile(graph, training=True)
    unfused = dlc.compile(graph, training=True, pipeline=PIPELINE.without("fuse"))
    assert len(fused.plan.kernels) <= len(unfused.plan.kernels) / 4
    for a, b in zip(fused(*arrays), unfused(*arrays), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6)


def test_an_axis_may_be_an_integer_of_numpy() -> None:
    x = np.arange(6.0, dtype=np.float32).reshape(2, 3)
    assert dlc.evaluate(dlc.sum(x, axis=np.int64(-1))).tolist() == [3.0, 12.0]
    assert dlc.evaluate(dlc.sum(x, axis=(np.int32(0), 1))).item() == 15.0
    with pytest.raises(AttributeValueError, match="axis 2 does not exist"):
        dlc.sum(x, axis=np.int8(2))
