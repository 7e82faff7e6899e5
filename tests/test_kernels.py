"""Kernels, one at a time: a node is emitted, compiled and called by hand; NumPy says what it should give."""

from __future__ import annotations

import ctypes
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

import dlc
from dlc.backends.cpu.compile import compile_kernels
from dlc.backends.loops import emit_kernel, supported
from dlc.dims import evaluate
from dlc.ir import Graph, Node, TupleType, make_node
from dlc.ops.definition import CATALOGUE, Kind
from dlc.ops.fused import FUSED
from dlc.ops.tensor import Tensor

Array = np.ndarray[Any, Any]
NODE_NUMBER = 41


def run(
    node: Node,
    arrays: Sequence[Array],
    bindings: Mapping[str, int] | None = None,
    *,
    in_place: Mapping[int, int] | None = None,
) -> tuple[list[Array], Array]:
    """Call a node's kernel on arrays; gives its results and the status block. `in_place` maps results to operands."""
    code = emit_kernel(node)
    (address,) = compile_kernels([code.source])
    types = node.type.items if isinstance(node.type, TupleType) else (node.type,)
    operands = [np.array(a, order="C") for a in arrays]
    for x, a in zip(node.inputs, operands, strict=True):
        assert x.dtype == a.dtype.name and tuple(evaluate(d, bindings or {}) for d in x.shape) == a.shape
    results = []
    for i, t in enumerate(types):
        shape = tuple(evaluate(d, bindings or {}) for d in t.shape)
        guarded = np.full(math.prod(shape) + 16, 77, t.dtype)  # a margin shows stray stores
        results.append(operands[in_place[i]] if in_place and i in in_place else guarded[: math.prod(shape)].reshape(shape))
    status = np.zeros(8, np.int64)
    buffers = [*operands, *results]
    bases = np.array([status.ctypes.data, 0, *(b.ctypes.data - 8 for b in buffers)], np.int64)
    places = [v for k in range(len(buffers)) for v in (k + 2, 8)]
    args = np.array([*places, NODE_NUMBER, *(evaluate(d, bindings or {}) for d in code.dims)], np.int64)
    ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(address)(bases.ctypes.data, args.ctypes.data)
    for r in results:
        assert r.base is None or r.base.shape == r.shape or (r.base[r.size :] == np.full(1, 77, r.dtype)).all()
    return results, status


def fused(inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> Node:
    """A fused node whose body computes `outputs` from `inputs`."""
    nodes = tuple(t.node for t in inputs)
    return make_node(FUSED, nodes, {"body": Graph(nodes, tuple(t.node for t in outputs))})


def expected(node: Node, arrays: Sequence[Array]) -> Any:
    """What the op's NumPy reference gives for a plain node of concrete shapes."""
    with np.errstate(all="ignore"):
        assert node.op.reference is not None
        return node.op.reference(*arrays, **node.attrs)


def close(found: Array, wanted: Any, dtype: str | None = None) -> None:
    """Equal up to rounding; integers and bools exactly, dtype and shape always."""
    wanted = np.asarray(wanted)
    assert found.shape == wanted.shape and found.dtype == wanted.dtype
    tolerance = {"float32": 2e-6, "float64": 1e-13}.get(found.dtype.name, 0.0)
    np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance)


# ---------------------------------------------------------------- every op's samples


def samples() -> list[Any]:
    cases = []
    for name, op in CATALOGUE.items():
        if op.kind in (Kind.ELEMENTWISE, Kind.REDUCE, Kind.VIEW, Kind.INDEX, Kind.CONTRACT) or name == "take_adjoint":
            cases += [pytest.param(op, sample, id=f"{name}-{i}") for i, sample in enumerate(op.samples())]
    return cases


def as_inputs(value: Any, arrays: list[Array]) -> Any:
    """A sample's argument with arrays replaced by inputs, which are collected in `arrays`."""
    if isinstance(value, list) and value and isinstance(value[0], np.ndarray):
        return [as_inputs(v, arrays) for v in value]
    if isinstance(value, np.ndarray):
        arrays.append(value)
        return dlc.input(f"x{len(arrays)}", value.shape, value.dtype.name)
    return value


@pytest.mark.parametrize("op, sample", samples())
def test_every_sample_of_the_catalogue(op: Any, sample: Any) -> None:
    arrays: list[Array] = []
    operands = [as_inputs(a, arrays) for a in sample.args]
    result = op.function(*operands, **sample.kwargs)
    nodes = [n for n in Graph(tuple(t.node for t in _flat(operands)), (result.node,)).nodes if n.op is op]
    if not nodes:
        pytest.skip("the function made something simpler")
    (node,) = nodes
    by_input = dict(zip([t.node for t in _flat(operands)], arrays, strict=True))
    if not all(x in by_input for x in node.inputs):
        pytest.skip("the sample converts its operands first")
    values = [by_input[x] for x in node.inputs]
    (found,), status = run(node, values)
    assert not status.any()
    close(found, expected(node, values))


def _flat(values: Sequence[Any]) -> list[Tensor]:
    return [t for v in values for t in (v if isinstance(v, list) else [v]) if isinstance(t, Tensor)]
