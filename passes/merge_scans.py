"""Loops over the same operands become one.

The gradient of a scan stacks values of the forward loop by a scan that repeats it and returns more. Merged, the two run
once. What nobody reads of the results is for `dead_code` to drop.
"""

from __future__ import annotations

from typing import Any

from dlc.ir import Graph, Node, make_node, same_op
from dlc.ops.leaves import ITEM
from dlc.ops.scan import SCAN, replaced


def merge_scans(graph: Graph) -> Graph:
    """`graph` where scans over equal operands with equal carries are one scan; in bodies too.

    >>> import dlc
    >>> x = dlc.input("x", ("T",))
    >>> ends = [dlc.scan(lambda carry, x, k=k: (carry + x, carry * k), 0.0, x) for k in (2.0, 3.0)]
    >>> graph = dlc.graph([x], [y for _, y in ends])
    >>> [sum(n.op.name == "scan" for n in g.nodes) for g in (graph, merge_scans(graph))]
    [2, 1]
    """
    while (merged := _merged(graph)) is not graph:
        graph = merged
    attrs = {n: {k: merge_scans(v) if isinstance(v, Graph) else v for k, v in n.attrs.items()} for n in _holders(graph)}
    changed = {n for n, values in attrs.items() if any(values[k] is not v for k, v in n.attrs.items())}
    if not changed:
        return graph

    def transform(node: Node, operands: tuple[Node, ...]) -> Node:
        return make_node(node.op, operands, attrs[node]) if node in changed else same_op(node, operands)

    return graph.rebuild(transform)


def _holders(graph: Graph) -> list[Node]:
    return [n for n in graph.nodes if n.attrs and any([isinstance(v, Graph) for v in n.attrs.values()])]


# ---------------------------------------------------------------- merging


class _Union:
    """A scan that gives what several scans over the same operands give."""

    def __init__(self, first: Node) -> None:
        self.operands, self.attrs = first.inputs, dict(first.attrs)
        self.body: Graph = first.attrs["body"]
        self.outputs = list(self.body.outputs)
        self.items: dict[Node, list[int]] = {first: list(range(len(self.outputs)))}  # by scan, where its items are

    def takes(self, other: Node) -> bool:
        """Add a scan, if its carries are the same; its body's inputs are matched with ours by their operands."""
        fixed = self.attrs["carries"] + self.attrs["slices"]
        places = dict(zip(self.operands[fixed:], self.body.inputs[fixed:], strict=True))
        theirs: Graph = other.attrs["body"]
        values = dict(zip(theirs.inputs[:fixed], self.body.inputs[:fixed], strict=True))
        values |= {n: places[x] for n, x in zip(theirs.inputs[fixed:], other.inputs[fixed:], strict=True)}
        new = replaced(theirs.outputs, values)
        outputs = [new[n] for n in theirs.outputs]
        carries = self.attrs["carries"]
        if outputs[:carries] != self.outputs[:carries]:
            return False
        where = list(range(carries))
        for node in outputs[carries:]:
            if node not in self.outputs[carries:]:
                self.outputs.append(node)
            where.append(self.outputs.index(node, carries))
        self.items[other] = where
        return True

    def node(self, operands: tuple[Node, ...]) -> Node:
        """The scan itself, on rebuilt operands."""
        body = Graph(self.body.inputs, tuple(self.outputs), origins=self.body.origins)
        return make_node(SCAN, operands, {**self.attrs, "body": body})


def _merged(graph: Graph) -> Graph:
    """One round of merging; the graph itself where nothing merges. Equal operands make sure that no cycle arises."""
    if not any([n.op is SCAN for n in graph.nodes]):
        return graph
    groups: dict[Any, list[_Union]] = {}
    unions: dict[Node, _Union] = {}
    for node in graph.nodes:
        if node.op is SCAN:
            found = groups.setdefault(_key(node), [])
            union = next((u for u in found if u.takes(node)), None)
            if union is None:
                union = _Union(node)
                found.append(union)
            unions[node] = union
    if len(unions) == len({id(u) for u in unions.values()}):
        return graph

    def transform(node: Node, operands: tuple[Node, ...]) -> Node:
        if (union := unions.get(node)) is not None and len(union.items) > 1:
            new = dict(zip(node.inputs, operands, strict=True))
            return union.node(tuple(new[x] for x in union.operands))
        if node.op is ITEM and (union := unions.get(node.inputs[0])) is not None:
            return make_node(ITEM, operands, {"index": union.items[node.inputs[0]][node.attrs["index"]]})
        return same_op(node, operands)

    return graph.rebuild(transform)


def _key(node: Node) -> Any:
    attrs = node.attrs
    fixed = attrs["carries"] + attrs["slices"]
    how = (attrs["carries"], attrs["slices"], attrs["length"], attrs["reverse"])
    return (*how, node.inputs[:fixed], frozenset(node.inputs[fixed:]))
