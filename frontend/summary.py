"""A graph as a table: one row a layer, with output shapes, parameters and multiply-adds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from dlc.dims import DimLike, Shape, evaluate, symbols
from dlc.errors import GraphError
from dlc.ir import Graph, Node, TensorType
from dlc.ops.definition import Kind
from dlc.provenance import here
from dlc.state import State


@dataclass(frozen=True)
class Row:
    """One layer: its module path, its costliest op, the shape of what leaves it, its parameters and multiply-adds."""

    layer: str
    op: str
    output: str
    parameters: int
    multiply_adds: DimLike


@dataclass(frozen=True)
class Summary:
    """The table. `rows` in the order of computation; `parameters` and `multiply_adds` are totals. Prints as text.

    Multiply-adds count matrix products and convolutions; they are polynomials in the named dims.
    """

    rows: tuple[Row, ...]

    @cached_property
    def parameters(self) -> int:
        """How many numbers the model's parameters and other state hold; one that is used twice counts once."""
        return sum(row.parameters for row in self.rows)

    @cached_property
    def multiply_adds(self) -> DimLike:
        """Multiply-adds of all layers."""
        total: DimLike = 0
        for row in self.rows:
            total = total + row.multiply_adds
        return total

    def __str__(self) -> str:
        ones = dict.fromkeys(sorted(symbols([self.multiply_adds])), 1)
        lines = [("layer", "op", "output", "parameters", "multiply-adds")]
        lines += [
            (r.layer, r.op, r.output, f"{r.parameters:,}", f"{evaluate(r.multiply_adds, ones):,}") for r in self.rows
        ]
        lines.append(("total", "", "", f"{self.parameters:,}", f"{evaluate(self.multiply_adds, ones):,}"))
        text = _table(lines)
        if ones:
            text += "\nmultiply-adds are for " + ", ".join(f"{name} = 1" for name in ones)
        return text

    __repr__ = __str__


def summary(graph: Graph) -> Summary:
    """One row for each module path of `graph`'s forward nodes; nodes outside of modules count as "(graph)".

    >>> import dlc
    >>> from dlc import nn
    >>> table = dlc.summary(dlc.trace(nn.Sequential(nn.Linear(3)), dlc.input("x", ("N", 4))))
    >>> table.parameters, table.multiply_adds
    (15, 12*N)
    """
    if not isinstance(graph, Graph):
        raise GraphError(
            f"summary takes a graph, not {type(graph).__name__}; make one with dlc.trace(model, dlc.input(...))",
            where=here(),
        )
    computed: dict[str, list[Node]] = defaultdict(list)
    held: dict[str, list[Node]] = defaultdict(list)
    for node in graph.nodes:
        path, phase = _place(graph, node)
        if node.op.name == "state":
            held[path].append(node)
        elif phase == "forward" and node.op.name not in ("input", "constant", "ambient"):
            computed[path].append(node)
    roots = set(graph.roots)
    paths = dict.fromkeys([*computed, *held])
    return Summary(tuple(_row(graph, roots, path, computed.get(path, []), held.get(path, [])) for path in paths))


def multiply_adds(graph: Graph) -> DimLike:
    """Multiply-adds of the matrix products and convolutions in a graph; loops count each turn."""
    return _multiply_adds(graph.nodes)


def _row(graph: Graph, roots: set[Node], path: str, nodes: Sequence[Node], states: Iterable[Node]) -> Row:
    inside = set(nodes)
    leaving = [n for n in nodes if n in roots or any(u not in inside for u in graph.users[n])]
    output = next((n for n in reversed(leaving) if isinstance(n.type, TensorType)), None)
    return Row(
        path or "(graph)",
        _costliest(nodes),
        _shape_text(output.shape) if output else "",
        sum(int(s.type.size) for s in states),
        _multiply_adds(nodes),
    )


def _place(graph: Graph, node: Node) -> tuple[str, str]:
    """The module path and phase that a node counts for: the first place it was written at."""
    if isinstance(node.leaf, State):
        trained = graph.where(node)
        return (trained.module if trained else node.leaf.name.rpartition(".")[0]), "forward"
    origin = graph.where(node)
    return (origin.module, origin.phase) if origin else ("", "forward")


def _costliest(nodes: Sequence[Node]) -> str:
    """The name of the op with the most arithmetic; of the first computing nothing but views, the last."""
    ones = {s: 1 for n in nodes for s in n.type.symbols}
    costs = [evaluate(n.op.flops_and_bytes(n)[0], ones) for n in nodes]
    if not nodes:
        return ""
    return nodes[max(range(len(nodes)), key=lambda i: (costs[i], i))].op.name


def _multiply_adds(nodes: Iterable[Node]) -> DimLike:
    total: DimLike = 0
    for node in nodes:
        if node.op.kind is Kind.CONTRACT:
            total = total + node.op.flops_and_bytes(node)[0] // 2
        body = node.attrs.get("body")
        if isinstance(body, Graph):
            total = total + _turns(node) * multiply_adds(body)
    return total


def _turns(node: Node) -> DimLike:
    """How often the body of a loop runs."""
    length: DimLike = node.attrs.get("length", 1) if node.op.kind is Kind.LOOP else 1
    return length


def _shape_text(shape: Shape) -> str:
    return f"[{', '.join(map(str, shape))}]"


def _table(lines: Sequence[Sequence[str]]) -> str:
    """Columns of equal width; numbers on the right."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    text = []
    for line in lines:
        cells = [c.rjust(w) if i >= 3 else c.ljust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))]
        text.append("  ".join(cells).rstrip())
    rule = "-" * max(map(len, text))
    return "\n".join([text[0], rule, *text[1:-1], rule, text[-1]])
