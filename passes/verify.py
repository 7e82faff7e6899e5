"""Checking a graph's invariants: what every pass may rely on, and must keep."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dlc.dims import Dim, symbols
from dlc.errors import DlcError, VerificationError
from dlc.ir import Graph, Leaf, Node, TensorType, TupleType, Wildcard, attribute_key


def verify(graph: Graph) -> Graph:
    """Raise `VerificationError`, naming the node and its line, if `graph` breaks an invariant; else return it as it is.

    Every node's type is what its op's rule gives; attributes are ones that the op knows; leaves have the type of their
    identity; every named dim occurs in an input; tuples are read by items only, within range; updates fit their states;
    and all of it holds in body graphs, which may use the named dims of the graph around them. So `verify` is a pass.

    >>> import dlc
    >>> x = dlc.input("x", ("N", 3))
    >>> verify(dlc.graph([x], [x * 2]))
    <Graph of 3 nodes: 1 inputs, 1 outputs, 0 updates>
    """
    _verify(graph, frozenset(graph.symbols), inside="")
    return graph


def _verify(graph: Graph, known: frozenset[str], inside: str) -> None:
    inputs = set(graph.inputs)
    for node in graph.nodes:
        try:
            for problem in _problems(node, inputs, known):
                raise VerificationError(problem)
            for name, body in bodies(node):
                _verify(body, known, inside=f" in the {name} of {node!r}{inside}")
        except VerificationError as error:
            if error.where is not None:
                raise
            where = graph.where(node)
            raise VerificationError(
                error.message + ("" if inside and inside in error.message else inside), where=where
            ) from error
    for node in graph.outputs:
        if isinstance(node.type, TupleType):
            raise VerificationError(f"the output {node!r} is a tuple{inside}", where=graph.where(node))
    for state, value in graph.updates:
        if state.type != value.type:
            raise VerificationError(
                f"the state {state.leaf!r} is {state.type}, its update {value.type}{inside}", where=graph.where(value)
            )


def bodies(node: Node) -> Iterator[tuple[str, Graph]]:
    """The body graphs among a node's attributes."""
    for name, value in node.attrs.items():
        if isinstance(value, Graph):
            yield name, value


def _problems(node: Node, inputs: set[Node], known: frozenset[str]) -> Iterator[str]:
    name = f"the {node.op.name} {node.leaf.name!r}" if node.leaf else node.op.name
    if node.op.name == "input" and node not in inputs:
        yield f"{name} {node.type} is not among the graph's inputs"
    try:
        for attribute, value in node.attrs.items():
            if isinstance(value, Wildcard):
                yield f"{name}: the attribute {attribute} is a wildcard, which belongs in patterns only"
            if isinstance(value, Leaf) and getattr(value, "type", None) != node.type:
                yield f"{name} is stored as {node.type}, but its leaf is {getattr(value, 'type', None)}"
            attribute_key(value)
    except TypeError as error:
        yield f"{name}: {error}"
    try:
        expected = node.op.infer_type(node.inputs, node.attrs)
    except DlcError as error:
        yield f"{name}: its op refuses it: {error.message}"
        return
    if expected != node.type:
        yield f"{name} is stored as {node.type}, but its op's rule gives {expected}"
    if isinstance(node.type, TupleType) and not all(isinstance(t, TensorType) for t in node.type.items):
        yield f"{name}: the tuple {node.type} nests"
    if node.op.name != "item" and any(isinstance(x.type, TupleType) for x in node.inputs):
        yield f"{name} takes a whole tuple; only item does"
    used = node.type.symbols | {s for value in node.attrs.values() for s in _attribute_symbols(value)}
    if unknown := sorted(used - known):
        listed = f"named dim{'s' * (len(unknown) > 1)} {', '.join(unknown)}"
        yield f"{name} {node.type} uses the {listed}, which no input has"


def _attribute_symbols(value: Any) -> frozenset[str]:
    if isinstance(value, Dim):
        return value.symbols
    if isinstance(value, tuple):
        return frozenset(s for v in value for s in _attribute_symbols(v))
    return symbols(())
