"""Calls replaced by what they compute: after this no `call` is left, in bodies neither."""

from __future__ import annotations

from dlc.ir import Graph, Node, make_node, same_op
from dlc.ops.call import CALL
from dlc.ops.leaves import ITEM
from dlc.ops.scan import replaced


def inline_calls(graph: Graph) -> Graph:
    """`graph` with the body of every `call` (of `checkpoint` and `custom_vjp`) in its place.

    >>> import dlc
    >>> x = dlc.input("x")
    >>> graph = dlc.graph([x], [dlc.checkpoint(lambda t: t + 1.0, x)])
    >>> [n.op.name for g in (graph, inline_calls(graph)) for n in g.nodes if n.op.name in ("call", "add")]
    ['call', 'add']
    """
    return _inlined(graph, {})


def _inlined(graph: Graph, done: dict[int, Graph]) -> Graph:
    if id(graph) not in done:
        changed = any(any(isinstance(v, Graph) for v in n.attrs.values()) for n in graph.nodes)
        done[id(graph)] = _rebuilt(graph, done) if changed else graph
    return done[id(graph)]


def _rebuilt(graph: Graph, done: dict[int, Graph]) -> Graph:
    results: dict[Node, list[Node]] = {}
    origins = {}

    def rebuild(node: Node, operands: tuple[Node, ...]) -> Node:
        if node.op is CALL:
            body = _inlined(node.attrs["body"], done)
            new = replaced(body.outputs, dict(zip(body.inputs, operands, strict=True)))
            origins.update({new[n]: places for n, places in body.origins.items() if n in new})
            again = same_op(node, operands)
            results[again] = [new[n] for n in body.outputs]
            return again
        if node.op is ITEM and operands[0] in results:
            return results[operands[0]][node.attrs["index"]]
        if not any(isinstance(v, Graph) for v in node.attrs.values()):
            return same_op(node, operands)
        attrs = {k: _inlined(v, done) if isinstance(v, Graph) else v for k, v in node.attrs.items()}
        return make_node(node.op, operands, attrs)

    new = graph.rebuild(rebuild)
    if new.roots == graph.roots:
        return graph
    return Graph(new.inputs, new.outputs, new.updates, {**origins, **new.origins})
