"""Bodies of fused nodes: equal structures give the same graph, so that equal kernels are emitted once."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any
from weakref import WeakValueDictionary

from dlc.ir import Graph, Node, attribute_key, make_node, same_op
from dlc.ops.definition import Kind
from dlc.ops.leaves import INPUT, InputLeaf

_bodies: WeakValueDictionary[Any, Graph] = WeakValueDictionary()

WITH_LITERALS = (Kind.ELEMENTWISE, Kind.VIEW, Kind.INDEX)  # kinds whose kernels hold constants of one element as text


def build_body(results: Sequence[Node], members: Container[Node]) -> tuple[tuple[Node, ...], Graph | None]:
    """The operands and the body of a group; the body is None where it would hold one node and no constant."""
    order = _operands_first(results, members)
    barred = {x for n in order if n.op.kind not in WITH_LITERALS for x in n.inputs}
    numbers: dict[Node, Any] = {}
    operands: list[Node] = []
    lines: list[Any] = []
    for node in order:
        for x in node.inputs:
            if x in numbers:
                continue
            if x not in barred and is_inline_constant(x):
                numbers[x] = ("literal", x.attrs["value"].key)
            else:
                numbers[x] = ("operand", len(operands))
                operands.append(x)
        attrs = tuple([(k, attribute_key(v)) for k, v in sorted(node.attrs.items())]) if node.attrs else ()
        lines.append((node.op.name, attrs, tuple([numbers[x] for x in node.inputs])))
        numbers[node] = len(lines)
    if len(order) == 1 and len(numbers) == len(operands) + 1:
        return (), None
    key = (tuple(lines), tuple([x.type for x in operands]), tuple([numbers[r] for r in results]))
    body = _bodies.get(key)
    if body is None:
        body = _bodies[key] = _build(results, order, operands)
    return tuple(operands), body


def is_inline_constant(node: Node) -> bool:
    """Whether `node` is a constant of one element, which kernels hold in their text."""
    return node.op.name == "constant" and node.attrs["value"].array.size == 1


def _operands_first(results: Sequence[Node], members: Container[Node]) -> list[Node]:
    """The members that the results need, in an order that depends on their structure alone."""
    order: list[Node] = []
    seen: set[Node] = set()
    stack: list[Node | None] = [*reversed(results)]
    while stack:
        node = stack.pop()
        if node is None:  # below this mark lies a node whose operands are all in `order`
            order.append(stack.pop())  # type: ignore[arg-type]
        elif node not in seen:
            seen.add(node)
            stack += (node, None, *[x for x in reversed(node.inputs) if x in members and x not in seen])
    return order


def _build(results: Sequence[Node], order: Sequence[Node], operands: Sequence[Node]) -> Graph:
    inputs = [make_node(INPUT, (), {"leaf": InputLeaf(f"operand{i}", x.type)}) for i, x in enumerate(operands)]
    new = dict(zip(operands, inputs, strict=True))
    for node in order:
        new[node] = same_op(node, tuple(new.get(x, x) for x in node.inputs))
    return Graph(tuple(inputs), tuple(new[r] for r in results))
