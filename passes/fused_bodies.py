"""Bodies of fused nodes: equal structures give the same graph, so that equal kernels are emitted once."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any
from weakref import WeakValueDictionary

from dlc.ir import Graph, Node, attribute_key, make_node, same_op, topological
from dlc.ops.definition import Kind
from dlc.ops.leaves import INPUT, InputLeaf

_bodies: WeakValueDictionary[Any, Graph] = WeakValueDictionary()

WITH_LITERALS = (Kind.ELEMENTWISE, Kind.VIEW, Kind.INDEX)  # kinds whose kernels hold constants of one element as text


def build_body(results: Sequence[Node], members: Container[Node]) -> tuple[tuple[Node, ...], Graph | None]:
    """The operands and the body of a group; the body is None where it would hold one node and no constant."""
    order, literals = _inner_nodes(results, members)
    if len(order) == 1 and not literals:
        return (), None
    numbers: dict[Node, Any] = {}
    operands: list[Node] = []
    lines: list[Any] = []
    for node in order:
        for x in node.inputs:
            if x in numbers:
                continue
            if x in literals:
                numbers[x] = ("literal", attribute_key(x.attrs["value"]))
            else:
                numbers[x] = ("operand", len(operands))
                operands.append(x)
        attrs = tuple([(k, attribute_key(v)) for k, v in sorted(node.attrs.items())])
        lines.append((node.op.name, attrs, tuple([numbers[x] for x in node.inputs])))
        numbers[node] = len(lines)
    key = (tuple(lines), tuple([x.type for x in operands]), tuple([numbers[r] for r in results]))
    body = _bodies.get(key)
    if body is None:
        body = _bodies[key] = _build(results, order, operands)
    return tuple(operands), body


def _inner_nodes(results: Sequence[Node], members: Container[Node]) -> tuple[list[Node], set[Node]]:
    """The members that the results need, operands first, and the constants that they hold as text."""
    order = [n for n in topological(results, stop=lambda n: n not in members) if n in members]
    literals: set[Node] = set()
    barred: set[Node] = set()
    for node in order:
        constants = [x for x in node.inputs if x.op.name == "constant" and x.attrs["value"].array.size == 1]
        (literals if node.op.kind in WITH_LITERALS else barred).update(constants)
    return order, literals - barred


def _build(results: Sequence[Node], order: Sequence[Node], operands: Sequence[Node]) -> Graph:
    inputs = [make_node(INPUT, (), {"leaf": InputLeaf(f"operand{i}", x.type)}) for i, x in enumerate(operands)]
    new = dict(zip(operands, inputs, strict=True))
    for node in order:
        new[node] = same_op(node, tuple(new.get(x, x) for x in node.inputs))
    return Graph(tuple(inputs), tuple(new[r] for r in results))
