"""Arithmetic on float16 and bfloat16 written out: operands converted to float32, each result rounded to its dtype."""

from __future__ import annotations

from dlc.dtypes import HALF
from dlc.ir import Graph, Node, TensorType, make_node, same_op
from dlc.ops.definition import Kind
from dlc.ops.elementwise import astype
from dlc.ops.half import computes, has_half, widened


def halves(graph: Graph) -> Graph:
    """`graph` in which ops on halves only move and convert them, in bodies too; backends have code for no others.

    The rounding of every result stands as a node of its own, which no other pass may leave out, so that results have
    the same bits fused and unfused.

    >>> import dlc
    >>> x = dlc.input("x", (3,), "float16")
    >>> print(halves(dlc.graph([x], [dlc.exp(x)])))
    graph (x: f16[3]) {
      %0: f32[3] = astype(x, dtype=float32)
      %1: f32[3] = exp(%0)
      %2: f16[3] = astype(%1, dtype=float16)
      return %2
    }
    """
    return _converted(graph, {})


def computing_in_half(node: Node) -> Node | None:
    """What this pass would replace: the node, or one in a body of it that is no loop's; None where there is nothing."""
    if node.op.kind is Kind.FUSED:
        return next((n for n in node.attrs["body"].nodes if _computes_in_half(n)), None)
    return node if _computes_in_half(node) else None


def _computes_in_half(node: Node) -> bool:
    return computes(node.op.kind, node.op.name) and has_half(node.type, *[x.type for x in node.inputs])


def _converted(graph: Graph, done: dict[int, Graph]) -> Graph:
    if id(graph) not in done:
        done[id(graph)] = _rebuilt(graph, done)
    return done[id(graph)]


def _rebuilt(graph: Graph, done: dict[int, Graph]) -> Graph:
    if not any(_computes_in_half(n) or any(isinstance(v, Graph) for v in n.attrs.values()) for n in graph.nodes):
        return graph

    def rebuild(node: Node, operands: tuple[Node, ...]) -> Node:
        if _computes_in_half(node):
            new = make_node(node.op, tuple([_wide(x) for x in operands]), widened(node.attrs))
        elif any(isinstance(v, Graph) for v in node.attrs.values()):
            attrs = {k: _converted(v, done) if isinstance(v, Graph) else v for k, v in node.attrs.items()}
            return make_node(node.op, operands, attrs)
        else:
            new = same_op(node, operands)
        return _as(new, node.dtype) if isinstance(node.type, TensorType) else new  # also an item of a tuple computed so

    return graph.rebuild(rebuild)


def _wide(node: Node) -> Node:
    return _as(node, "float32") if isinstance(node.type, TensorType) and node.dtype in HALF else node


def _as(node: Node, dtype: str) -> Node:
    return node if node.dtype == dtype else make_node(astype.op, (node,), {"dtype": dtype})
