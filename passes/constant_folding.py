"""Computing at compile time what depends on constants alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dlc.dims import Dim
from dlc.errors import DlcError
from dlc.ir import Graph, Literal, Node, TensorType, make_node, same_op
from dlc.ops.cond import COND
from dlc.ops.definition import Kind
from dlc.ops.leaves import CONSTANT, ITEM, is_concrete
from dlc.ops.scan import replaced
from dlc.provenance import Origin

MAX_BYTES = 1 << 20  # of a folded result
MAX_BYTES_REARRANGED = 64 << 20  # of a result as large as its operand: a transposed or reshaped weight
SMALL_BYTES = 256  # results up to this size may be larger than their operands

_FOLDABLE = frozenset({Kind.ELEMENTWISE, Kind.REDUCE, Kind.VIEW, Kind.INDEX, Kind.CONTRACT, Kind.OPAQUE})


def constant_folding(graph: Graph) -> Graph:
    """`graph` with nodes on constants replaced by their values, computed by the ops' references; in bodies too.

    A `cond` whose condition is known becomes the nodes of its branch.

    Results are kept small: at most 1 MiB and no larger than their operands, so that zeros, iota and broadcasts are not
    written out. What would fail (an index out of range) is left to fail when the program runs.

    >>> import dlc
    >>> x = dlc.input("x")
    >>> print(constant_folding(dlc.graph([x], [x * dlc.exp(dlc.constant(0.0))])))
    graph (x: f32[]) {
      %0: f32[] = constant 1.0
      %1: f32[] = multiply(x, %0)
      return %1
    }
    """
    return _fold_graph(graph, {})


def _fold_graph(graph: Graph, done: dict[int, Graph]) -> Graph:
    chosen: dict[Node, list[Node]] = {}  # for choices whose condition is known, what the branch gives
    origins: dict[Node, tuple[Origin, ...]] = {}

    def fold(node: Node, operands: tuple[Node, ...]) -> Node:
        if node.op is COND and operands[0].op is CONSTANT:
            body = _fold_graph(node.attrs["then" if operands[0].attrs["value"].array else "otherwise"], done)
            new = replaced(body.outputs, dict(zip(body.inputs, operands[1:], strict=True)))
            origins.update({new[n]: places for n, places in body.origins.items() if n in new})
            again = _with_bodies(node, operands, done)
            chosen[again] = [new[n] for n in body.outputs]
            return again
        if node.op is ITEM and operands[0] in chosen:
            return chosen[operands[0]][node.attrs["index"]]
        constant = all([x.op is CONSTANT for x in operands])
        return (constant and _folded(node.op, operands, node.attrs, node.type)) or _with_bodies(node, operands, done)

    if id(graph) not in done:
        changed = any(_may_fold(n) or _has_body(n) for n in graph.nodes)
        new = graph.rebuild(fold) if changed else graph
        done[id(graph)] = Graph(new.inputs, new.outputs, new.updates, {**origins, **new.origins}) if chosen else new
    return done[id(graph)]


def _has_body(node: Node) -> bool:
    return bool(node.attrs) and any([isinstance(v, Graph) for v in node.attrs.values()])


def _may_fold(node: Node) -> bool:
    """Whether the node's operands are constants already; where none's are, no node of the graph can be folded."""
    return node.op.kind in _FOLDABLE and all(x.op is CONSTANT for x in node.inputs)


def _with_bodies(node: Node, operands: tuple[Node, ...], done: dict[int, Graph]) -> Node:
    if not _has_body(node):
        return same_op(node, operands)
    attrs = {k: _fold_graph(v, done) if isinstance(v, Graph) else v for k, v in node.attrs.items()}
    return make_node(node.op, operands, attrs)


def _folded(op: Any, operands: tuple[Node, ...], attrs: Mapping[str, Any], type: Any) -> Node | None:
    """The value of `op` on constants as a node, or None where it is better computed at run time."""
    if op.kind not in _FOLDABLE or op.reference is None or not isinstance(type, TensorType) or not is_concrete(type):
        return None
    if any(isinstance(v, Graph) or _has_dims(v) for v in attrs.values()):
        return None
    if not operands and type.ndim:  # iota and the like are cheaper to compute than to load
        return None
    size, available = type.nbytes, sum(x.type.nbytes for x in operands)
    assert isinstance(size, int)
    if size > max(available, SMALL_BYTES) or size > (MAX_BYTES_REARRANGED if op.kind is Kind.VIEW else MAX_BYTES):
        return None
    try:
        with np.errstate(all="ignore"):
            value = op.reference(*(x.attrs["value"].array for x in operands), **attrs)
    except DlcError:
        return None
    literal = Literal(np.asarray(value))
    return make_node(CONSTANT, (), {"value": literal}) if literal.type == type else None


def _has_dims(value: Any) -> bool:
    """Whether an attribute's value depends on a named dim."""
    return isinstance(value, Dim) or (isinstance(value, tuple) and any(map(_has_dims, value)))
