"""Forward and backward side by side: which boxes of a joint picture share a rung.

Drawn as one flow, a joint graph turns back on itself and its layout explodes. Here the forward part runs down, the
backward part up beside it, and gradients stand on the rung of the value that they belong to.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import NamedTuple

from dlc.render.picture import Picture

_MANY = 64  # boxes of one line of code; pairing more of them by their line alone would pair at random


class Pair(NamedTuple):
    """A candidate for a rung: the levels of both vertices in their columns, and how well they fit."""

    down: int
    up: int
    weight: int
    forward: str
    backward: str


def rungs(picture: Picture) -> list[tuple[str, str]]:
    """Pairs of a forward and a backward vertex to draw at one height, top to bottom.

    Heights grow strictly along both columns, so the pairs never contradict each other or an arrow. Among all such
    choices this is the one with the most pairs, where a pair counts double if the gradient reads what the forward
    vertex reads or makes.
    """
    down = _levels(picture, "forward")
    up = _levels(picture, "backward")
    sources: dict[str, set[str]] = {}
    for edge in picture.edges:
        sources.setdefault(edge.head, set()).add(edge.tail)
    pairs = [
        Pair(down[f], up[b], 2 if sources.get(b, set()) & (sources.get(f, set()) | {f}) else 1, f, b)
        for f, b in dict.fromkeys(_candidates(picture))
    ]
    return [(pair.forward, pair.backward) for pair in _heaviest_chain(pairs)]


def update_rungs(picture: Picture) -> list[tuple[str, str]]:
    """Pairs of a gradient and the first update that takes it."""
    pairs: dict[str, str] = {}
    for edge in picture.edges:
        if edge.kind == "update" and picture.vertices[edge.tail].phase == "backward":
            pairs.setdefault(edge.head, edge.tail)
    fed = {e.head for e in picture.edges if e.kind == "data" and e.tail in pairs}  # these hang below another update
    return [(tail, head) for head, tail in pairs.items() if head not in fed]


def _candidates(picture: Picture) -> Iterable[tuple[str, str]]:
    """Forward and backward vertices of one line of code; without lines, values and the gradients that read them."""
    forward: dict[object, list[str]] = {}
    backward: dict[object, list[str]] = {}
    columns = {"forward": forward, "backward": backward}
    for v in picture.vertices.values():
        if v.phase in columns and v.role in ("op", "group", "folded"):
            key = (v.lines[0], v.module) if v.role == "folded" else v.origin and (*v.origin[:2], v.module)
            columns[v.phase].setdefault(key, []).append(v.id)
    by_line = [
        (f, b)
        for key, found in forward.items()
        if key is not None and len(found) <= _MANY
        for f in found
        for b in backward.get(key, ())[:_MANY]
    ]
    if by_line:
        return by_line
    users: dict[str, list[str]] = {}
    for edge in picture.edges:
        if edge.kind == "data" and picture.vertices[edge.head].phase == "forward":
            users.setdefault(edge.tail, []).append(edge.head)
    return [(f, e.head) for e in picture.edges if e.kind == "saved" for f in users.get(e.tail, [e.tail])]


def _levels(picture: Picture, phase: str) -> dict[str, int]:
    """How many boxes stand above each one in its column; boxes on a cycle, which folding can make, share a level."""
    import networkx as nx

    column = nx.DiGraph()
    column.add_nodes_from(v.id for v in picture.vertices.values() if v.phase == phase)
    for edge in picture.edges:
        if edge.tail in column and edge.head in column:
            column.add_edge(*((edge.tail, edge.head) if phase == "forward" else (edge.head, edge.tail)))
    condensed = nx.condensation(column)
    levels: dict[str, int] = {}
    for level, generation in enumerate(nx.topological_generations(condensed)):
        for component in generation:
            levels |= dict.fromkeys(condensed.nodes[component]["members"], level)
    return levels


def _heaviest_chain(pairs: Sequence[Pair]) -> list[Pair]:
    """The chain of greatest weight in which both levels grow strictly; n log n steps, by a Fenwick tree of maxima."""
    size = max((pair.up for pair in pairs), default=0) + 1
    best: list[tuple[int, int]] = [(0, -1)] * (size + 1)  # weight and last pair of a chain ending in a range of `up`
    before: list[int] = []
    order = sorted(pairs, key=lambda pair: (pair.down, -pair.up))  # pairs of one `down` never follow each other
    end = (0, -1)
    for i, pair in enumerate(order):
        reach, place = (0, -1), pair.up  # chains that end strictly below this level
        while place > 0:
            reach = max(reach, best[place], key=itemgetter(0))
            place -= place & -place
        before.append(reach[1])
        chain = (reach[0] + pair.weight, i)
        end = max(end, chain, key=itemgetter(0))
        place = pair.up + 1
        while place <= size:
            best[place] = max(best[place], chain, key=itemgetter(0))
            place += place & -place
    found: list[Pair] = []
    i = end[1]
    while i >= 0:
        found.append(order[i])
        i = before[i]
    return found[::-1]
