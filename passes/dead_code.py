"""Dropping what a graph computes or keeps for nothing."""

from __future__ import annotations

from dlc.ir import Graph


def dead_code(graph: Graph) -> Graph:
    """Without updates that assign a state to itself, and without origins of nodes that are no longer there.

    Nodes that nothing needs are never part of a graph, so there are none to remove. Inputs stay.

    >>> import dlc
    >>> x = dlc.input("x")
    >>> dead_code(dlc.graph([x], [x + 1]))
    <Graph of 3 nodes: 1 inputs, 1 outputs, 0 updates>
    """
    updates = tuple((state, value) for state, value in graph.updates if state is not value)
    nodes = set(graph.nodes)
    if len(updates) == len(graph.updates) and all(node in nodes for node in graph.origins):
        return graph
    kept = Graph(graph.inputs, graph.outputs, updates)
    nodes = set(kept.nodes)
    return Graph(graph.inputs, graph.outputs, updates, {n: places for n, places in graph.origins.items() if n in nodes})
