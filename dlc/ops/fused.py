"""The op `fused`: a body graph that becomes one kernel. Passes make it; users do not.

A body is a `Graph` whose inputs stand for the operands by position and whose leaves are those inputs and constants of
one element; it has no states, updates or ambient values. Its structure is one of two, told apart by `heavy_node`:

- a map: every output has one shape and is computed point by point from elementwise, view and index ops;
- a reduction or a contraction: one such node, whose operands are maps, followed by elementwise ops on its result, all
  of its shape (the epilogue).

A body of several outputs is a map, and its node is tuple-typed. Kernels store each element once, when it is finished,
and all elements that one point of the domain needs are loaded before any output is stored at that point: an output may
take the place of an operand that is read at the point being written alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from dlc.errors import GraphError, ShapeError
from dlc.ir import Graph, Node, TupleType, Type
from dlc.ops.definition import Kind, Op, register
from dlc.ops.interpret import BoundGraph

HEAVY = (Kind.REDUCE, Kind.CONTRACT)


def _fused_type(*types: Type, body: Graph) -> Type:
    expected = tuple(n.type for n in body.inputs)
    if types != expected:
        raise ShapeError(f"fused: the body takes {_listed(expected)}, the operands are {_listed(types)}")
    if not body.outputs or body.updates:
        raise GraphError("fused: a body has outputs and no updates")
    results = tuple(n.type for n in body.outputs)
    return results[0] if len(results) == 1 else TupleType(results)


def _listed(types: Sequence[Type]) -> str:
    return ", ".join(map(str, types)) or "nothing"


def _fused_reference(*arrays: Any, body: BoundGraph) -> Any:
    results = body(*arrays)
    return results[0] if len(results) == 1 else tuple(results)


FUSED = register(
    Op(
        "fused",
        Kind.FUSED,
        _fused_type,
        reference=_fused_reference,
        doc="Several nodes computed by one kernel, given by a body graph.",
    )
)


@lru_cache(maxsize=4096)
def heavy_node(body: Graph) -> Node | None:
    """The reduction or contraction in a body; None in a map."""
    return next((n for n in body.nodes if n.op.kind in HEAVY), None)


def can_fail(node: Node) -> bool:
    """Whether running `node` may find an index out of range, in its bodies too."""
    return node.op.can_fail or any(_body_can_fail(v) for v in node.attrs.values() if isinstance(v, Graph))


@lru_cache(maxsize=4096)
def _body_can_fail(body: Graph) -> bool:
    return any(can_fail(n) for n in body.nodes)
