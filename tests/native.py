"""One node's kernel, emitted, compiled and called by hand on arrays."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from dlc.backends.cpu.compile import compile_kernels
from dlc.backends.cpu.host import cpu_target
from dlc.backends.loops import KernelCode, emit_kernel
from dlc.dims import evaluate
from dlc.ir import Node, TupleType

Array = np.ndarray[Any, Any]
NATIVE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
MARGIN, FILL = 64, 77  # elements before and after each result that a kernel must leave alone
OFFSET = 64  # bytes by which operands lie beyond their bases
NODE_NUMBER = 41


def emitted(node: Node) -> KernelCode:
    """A node's kernel for this machine."""
    return emit_kernel(node, cpu_target())


def source_of(node: Node) -> str:
    """The source of a node's kernel."""
    return emitted(node).source


def run_kernel(
    node: Node,
    arrays: Sequence[Array],
    bindings: Mapping[str, int] | None = None,
    *,
    in_place: Mapping[int, int] | None = None,
    division: int = 1,
) -> tuple[list[Array], Array]:
    """Results and the status block. `in_place` maps results to operands; tasks run `division` at a time, last first."""
    code, known = emitted(node), bindings or {}
    operands = [np.array(a, order="C") for a in arrays]
    for x, a in zip(node.inputs, operands, strict=True):
        assert x.dtype == a.dtype.name and tuple(evaluate(d, known) for d in x.shape) == a.shape
    types = node.type.items if isinstance(node.type, TupleType) else (node.type,)
    results, memories = [], []
    for i, t in enumerate(types):
        if in_place and i in in_place:
            results.append(operands[in_place[i]])
            continue
        shape = tuple(evaluate(d, known) for d in t.shape)
        memories.append(np.full(math.prod(shape) + 2 * MARGIN, FILL, t.dtype))
        results.append(memories[-1][MARGIN : MARGIN + math.prod(shape)].reshape(shape))
    scratch = [np.full(evaluate(nbytes, known), 0xFF, np.uint8) for nbytes in code.scratch]
    status = np.zeros(8, np.int64)
    buffers = [*operands, *results, *scratch]
    bases = np.array([status.ctypes.data, 0, *(b.ctypes.data - OFFSET for b in buffers)], np.int64)
    places = [v for k in range(len(buffers)) for v in (k + 2, OFFSET)]
    for part in code.parts:
        (address,) = compile_kernels([part.source])
        args = np.array([*places, NODE_NUMBER, *(evaluate(d, known) for d in part.dims)], np.int64)
        for begin, end in _ranges(evaluate(part.tasks, known), division):
            NATIVE(address)(bases.ctypes.data, args.ctypes.data, begin, end)
    for memory in memories:
        edge = np.full(MARGIN, FILL, memory.dtype)
        assert (memory[:MARGIN] == edge).all() and (memory[-MARGIN:] == edge).all(), "a store beyond a result"
    return results, status


def _ranges(tasks: int, division: int) -> Iterator[tuple[int, int]]:
    """Parts of nearly equal size that cover all tasks, the last first."""
    for i in reversed(range(division)):
        yield tasks * i // division, tasks * (i + 1) // division
