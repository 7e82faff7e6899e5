"""What must hold of a graph once its named dims have values: no dim is negative, and every slice lies in its axis."""

from __future__ import annotations

from collections.abc import Mapping

from dlc.dims import Dim, evaluate
from dlc.errors import ShapeError
from dlc.ir import Graph, Node, TupleType


def check_bound_shapes(graph: Graph, bindings: Mapping[str, int]) -> None:
    """Raise `ShapeError` at the user's line where `bindings` make a dim negative, or a slice leave its axis."""
    for node in graph.nodes:
        items = node.type.items if isinstance(node.type, TupleType) else (node.type,)
        for t in items:
            for d in t.shape:
                if isinstance(d, Dim) and evaluate(d, bindings) < 0:
                    raise ShapeError(
                        f"{node.op.name}: the dim {d} of {t} is {evaluate(d, bindings)} with {_known(bindings)}",
                        where=graph.where(node),
                    )
        if node.op.name == "slice":
            _check_slice(graph, node, bindings)
        for body in [v for v in node.attrs.values() if isinstance(v, Graph)]:
            check_bound_shapes(body, bindings)


def _check_slice(graph: Graph, node: Node, bindings: Mapping[str, int]) -> None:
    attrs, (x,) = node.attrs, node.inputs
    parts = zip(attrs["starts"], attrs["sizes"], attrs["steps"], x.shape, strict=True)
    for axis, (start, size, step, d) in enumerate(parts):
        if not any(isinstance(v, Dim) for v in (start, size, d)):
            continue  # known when it was written
        first, n, extent = (evaluate(v, bindings) for v in (start, size, d))
        if n and not (0 <= first < extent and 0 <= first + (n - 1) * step < extent):
            raise ShapeError(
                f"slice: {n} elements from {start} by {step} do not lie within axis {axis} of {x.type}, "
                f"which has {extent} elements with {_known(bindings)}",
                where=graph.where(node),
            )


def _known(bindings: Mapping[str, int]) -> str:
    return ", ".join(f"{s} = {v}" for s, v in sorted(bindings.items()))
