"""Dropping what a graph computes or keeps for nothing: updates without effect, and parts of loops that nobody reads."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from dlc.ir import Graph, Node, make_node, same_op, topological
from dlc.ops.cond import COND
from dlc.ops.leaves import INPUT, ITEM
from dlc.ops.scan import SCAN
from dlc.ops.while_loop import WHILE


def dead_code(graph: Graph) -> Graph:
    """Without updates that assign a state to itself, and without results of loops that are not read.

    A loop keeps the carries and stacked results that are read after it, the carries that those and its condition depend
    on, and the operands that its body then still needs; a choice keeps what is read of its results, and the operands
    for that; so do loops and choices in bodies. Other nodes that nothing needs are never part of a graph. Inputs stay,
    and places of nodes that are gone are forgotten.

    >>> import dlc
    >>> x = dlc.input("x")
    >>> dead_code(dlc.graph([x], [x + 1]))
    <Graph of 3 nodes: 1 inputs, 1 outputs, 0 updates>
    """
    updates = tuple((state, value) for state, value in graph.updates if state is not value)
    if len(updates) != len(graph.updates):
        graph = Graph(graph.inputs, graph.outputs, updates, graph.origins)
    graph = _narrow_loops(graph, {})
    nodes = set(graph.nodes)
    if all(node in nodes for node in graph.origins):
        return graph
    origins = {node: places for node, places in graph.origins.items() if node in nodes}
    return Graph(graph.inputs, graph.outputs, graph.updates, origins)


@dataclass(frozen=True)
class Kept:
    """What stays of one loop: numbers of its results, and of its operands, in order."""

    results: tuple[int, ...]
    operands: tuple[int, ...]


Done: TypeAlias = "dict[int, tuple[Graph, Graph]]"  # by identity, and what keeps the identity from being used again


def _narrow_loops(graph: Graph, done: Done) -> Graph:
    """`graph` with each of its loops, and the loops in bodies, narrowed to what is read."""
    if id(graph) not in done:
        bodies = any(isinstance(v, Graph) for n in graph.nodes for v in n.attrs.values())
        done[id(graph)] = graph, _rebuilt(graph, done) if bodies else graph
    return done[id(graph)][1]


def _rebuilt(graph: Graph, done: Done) -> Graph:
    kept = _kept_of_loops(graph)

    def narrow(node: Node, operands: tuple[Node, ...]) -> Node:
        if node.op is ITEM and (loop := kept.get(node.inputs[0])) is not None:
            index = node.attrs["index"]
            return make_node(ITEM, operands, {"index": loop.results.index(index)}) if index in loop.results else node
        if node in kept:
            return _narrowed(node, operands, kept[node], done)
        attrs = {k: _narrow_loops(v, done) if isinstance(v, Graph) else v for k, v in node.attrs.items()}
        if any(attrs[k] is not v for k, v in node.attrs.items()):
            return make_node(node.op, operands, attrs)
        return same_op(node, operands)

    new = graph.rebuild(narrow)
    return graph if new.roots == graph.roots else new


def _narrowed(node: Node, operands: tuple[Node, ...], kept: Kept, done: Done) -> Node:
    attrs = dict(node.attrs)
    taken = [i - 1 for i in kept.operands[1:]] if node.op is COND else kept.operands  # the bodies do not take the bool
    for name, body in node.attrs.items():
        if isinstance(body, Graph):
            results = (0,) if name == "condition" else kept.results
            inputs, outputs = tuple(body.inputs[i] for i in taken), tuple(body.outputs[i] for i in results)
            attrs[name] = _narrow_loops(Graph(inputs, outputs, (), body.origins), done)
    if node.op is not COND:
        carries = attrs["carries"]
        attrs["carries"] = sum(i < carries for i in kept.results)
    if node.op is SCAN:
        attrs["slices"] = sum(carries <= i < carries + attrs["slices"] for i in kept.operands)
    return make_node(node.op, tuple(operands[i] for i in kept.operands), attrs)


def _kept_of_loops(graph: Graph) -> dict[Node, Kept]:
    """For each loop of which not all is read, what stays; users are looked at before what they use."""
    found: dict[Node, Kept] = {}
    read: dict[Node, set[int]] = {}
    live = set(graph.roots)
    for node in reversed(graph.nodes):
        if node not in live:
            continue
        operands = node.inputs
        if node.op is ITEM:
            read.setdefault(operands[0], set()).add(node.attrs["index"])
        elif node.op in (SCAN, WHILE, COND):
            kept = (_kept_of_choice if node.op is COND else _kept_of_loop)(node, read[node])
            operands = tuple(node.inputs[i] for i in kept.operands)
            if len(kept.results) < len(node.type.items) or len(operands) < len(node.inputs):
                found[node] = kept
        live.update(operands)
    return found


def _reached(body: Graph, results: Iterable[int]) -> set[int]:
    """The numbers of the inputs that some results of a body depend on."""
    number = {node: i for i, node in enumerate(body.inputs)}
    return {number[n] for n in topological(body.outputs[i] for i in results) if n.op is INPUT}


def _kept_of_loop(loop: Node, read: set[int]) -> Kept:
    """The results that are `read`, the carries they depend on from step to step, and the operands that those need."""
    body, carries = loop.attrs["body"], loop.attrs["carries"]
    needed = _reached(loop.attrs["condition"], (0,)) if loop.op is WHILE else set()
    results = read | {i for i in needed if i < carries}
    fresh = set(results)
    while fresh:
        reached = _reached(body, sorted(fresh))
        needed |= reached
        fresh = {i for i in reached if i < carries} - results
        results |= fresh
    needed |= {i for i in results if i < carries}  # a carry that is only read at the end still starts somewhere
    return Kept(tuple(sorted(results)), tuple(sorted(needed)))


def _kept_of_choice(choice: Node, read: set[int]) -> Kept:
    """The results that are `read`, and the operands that either branch needs for them."""
    needed = {i + 1 for name in ("then", "otherwise") for i in _reached(choice.attrs[name], sorted(read))}
    return Kept(tuple(sorted(read)), (0, *sorted(needed)))
