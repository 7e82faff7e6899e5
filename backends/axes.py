"""How the axes of a kernel's domain reach its operands: which may be walked as one, and which run along memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from dlc.dims import DimLike, Shape, product
from dlc.ir import Node
from dlc.ops.definition import Kind

Places = tuple[int | None, ...]  # per axis of a node the domain axis that walks it; None: it stays at 0
INNER = -1  # an axis walked by a loop of its own inside the point, such as a reduced one


@dataclass
class Reach:
    """What a walk from the domain to the operands found.

    `operands`: for each place an operand is read, the domain axes in the order of its memory; `irregular`: domain axes
    that an index map changes, so that they cannot be walked together with a neighbour.
    """

    operands: list[tuple[int, ...]] = field(default_factory=list)
    irregular: set[int] = field(default_factory=set)

    def joined(self, a: int, b: int) -> bool:
        """Whether the neighbours `a` and `b` can be walked as one axis."""
        if a in self.irregular or b in self.irregular:
            return False
        for places in self.operands:
            if (a in places) != (b in places):
                return False
            if a in places and places.index(b) != places.index(a) + 1:
                return False
        return True

    def fastest(self, axes: Sequence[int]) -> int:
        """The axis of `axes` that most operands have innermost in memory; the last one where none has."""
        last = [places[-1] for places in self.operands if places]
        widest = max((len(places) for places in self.operands), default=0)
        weight = dict.fromkeys(axes, 0)
        for places in self.operands:
            if places and places[-1] in weight:
                weight[places[-1]] += 2 if len(places) == widest else 1
        if not last or not any(weight.values()):
            return axes[-1]
        return max(reversed(axes), key=weight.__getitem__)


def is_one(d: DimLike) -> bool:
    """Whether a dim is the int 1; a named dim never is."""
    return isinstance(d, int) and d == 1


def reach(node: Node, leaves: Mapping[Node, object], places: Places | None = None) -> Reach:
    """Follow `node`'s axes (numbered in order, unless `places` says otherwise) down to the operands in `leaves`."""
    found = Reach()
    seen: set[tuple[Node, Places]] = set()
    stack = [(node, tuple(range(len(node.shape))) if places is None else places)]
    while stack:
        x, at = stack.pop()
        at = tuple(None if is_one(d) else p for d, p in zip(x.shape, at, strict=True))
        if (x, at) in seen:
            continue
        seen.add((x, at))
        if x in leaves or (x.op.name == "reshape" and x.inputs[0] in leaves):
            # an axis that stays at one of several positions (a slice takes one) keeps its neighbours apart
            long = [p for d, p in zip(x.shape, at, strict=True) if not is_one(d)]
            found.operands.append(tuple(INNER if p is None else p for p in long))
            continue
        stack.extend(_below(x, at, found))
    return found


def merged(reaches: Iterable[Reach]) -> Reach:
    """What several walks found, as one."""
    total = Reach()
    for found in reaches:
        total.operands += found.operands
        total.irregular |= found.irregular
    return total


def _below(x: Node, at: Places, found: Reach) -> Iterator[tuple[Node, Places]]:
    if x.op.kind is Kind.ELEMENTWISE or x.op.name in ("broadcast_to", "stop_gradient"):
        for y in x.inputs:
            tail = at[len(at) - len(y.shape) :]
            stretched = zip(tail, y.shape, x.shape[len(at) - len(y.shape) :], strict=True)
            yield y, tuple(None if is_one(d) and not is_one(e) else p for p, d, e in stretched)
    elif x.op.name == "permute_dims":
        order = x.attrs["axes"]
        yield x.inputs[0], tuple(at[order.index(a)] for a in range(len(order)))
    elif x.op.name == "slice":
        parts = zip(at, x.attrs["starts"], x.attrs["steps"], x.shape, x.inputs[0].shape, strict=True)
        found.irregular.update(
            p for p, start, step, n, d in parts if p is not None and not (start == 0 and step == 1 and n == d)
        )
        yield x.inputs[0], at
    elif x.op.name == "reshape":
        yield x.inputs[0], _through_reshape(x, at, found)
    elif x.op.kind is Kind.REDUCE:
        kept = iter(at)
        axes = x.attrs["axes"]
        yield x.inputs[0], tuple(INNER if a in axes else next(kept) for a in range(len(x.inputs[0].shape)))
    else:
        found.irregular.update(p for p in at if p is not None)


def _through_reshape(x: Node, at: Places, found: Reach) -> Places:
    source = x.inputs[0].shape
    below: list[int | None] = [None] * len(source)
    for targets, sources in reshape_blocks(source, x.shape):
        if len(targets) == len(sources) == 1:
            below[sources[0]] = at[targets[0]]
        else:
            found.irregular.update(p for t in targets if (p := at[t]) is not None)
            for s in sources:
                below[s] = INNER
            if sources and targets:
                below[sources[-1]] = at[targets[-1]]
    return tuple(below)


def reshape_blocks(source: Shape, target: Shape) -> list[tuple[list[int], list[int]]]:
    """Pairs of (target axes, source axes) that hold the same elements, as small as can be; axes of 1 are left out."""
    t = [i for i, d in enumerate(target) if not is_one(d)]
    s = [i for i, d in enumerate(source) if not is_one(d)]
    if any(isinstance(d, int) and d == 0 for d in source):
        return [(t, s)]
    blocks: list[tuple[list[int], list[int]]] = []
    while t and s:
        m, n = _smallest_match([target[i] for i in t], [source[i] for i in s])
        blocks.append((t[:m], s[:n]))
        t, s = t[m:], s[n:]
    if t or s:
        blocks.append((t, s))
    return blocks


def _smallest_match(target: Sequence[DimLike], source: Sequence[DimLike]) -> tuple[int, int]:
    for total in range(2, len(target) + len(source) + 1):
        for m in range(max(1, total - len(source)), min(len(target), total - 1) + 1):
            if product(target[:m]) == product(source[: total - m]):
                return m, total - m
    return len(target), len(source)


def grouped(axes: Sequence[int], shape: Shape, found: Reach) -> list[list[int]]:
    """The axes of `axes` that are longer than 1, in order, neighbours that can be walked as one together."""
    groups: list[list[int]] = []
    for a in axes:
        if is_one(shape[a]):
            continue
        follows = groups and all(is_one(shape[i]) for i in range(groups[-1][-1] + 1, a))
        if follows and found.joined(groups[-1][-1], a):
            groups[-1].append(a)
        else:
            groups.append([a])
    return groups
