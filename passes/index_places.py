"""At which index a kernel evaluates each of its nodes, and how often: what tells whether fusing repeats work.

A place is a tuple of tokens, one an axis: a number is the loop over that axis of the kernel's domain, a pair an inner
loop of a reduction, UNIT stands for index 0, and any other object for an index that is computed in some other way.
Loops are nested in the order of the axes, but those along which reductions run come last. A value is computed in the
outermost loop that knows its index; so it is computed once for each element exactly if its place names every loop down
to the innermost that it names at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TypeAlias

from dlc.dims import DimLike, Shape
from dlc.ir import Graph, Node, TensorType
from dlc.ops.definition import Kind

UNIT = None
LOOK_AHEAD = 64  # nodes between a kernel's result and a reduction that it needs, so that time stays linear
Token: TypeAlias = "int | tuple[Node, int] | object | None"
Place: TypeAlias = tuple[Token, ...]

READ_ONCE = frozenset(("pad", "fold", "concat"))  # index ops that read every element of an operand at most once


def is_unit(d: DimLike) -> bool:
    """Whether a dim is the int 1; a named dim never is."""
    return isinstance(d, int) and d == 1


def root_place(shape: Shape) -> Place:
    """The place of a kernel's result: its own loops."""
    return tuple(UNIT if is_unit(d) else axis for axis, d in enumerate(shape))


def is_unit_reshape(node: Node) -> bool:
    """Whether `node` is a reshape that only adds or drops axes of size 1."""
    return node.op.name == "reshape" and _without_units(node.type) == _without_units(node.inputs[0].type)


def _without_units(t: TensorType) -> list[DimLike]:
    return [d for d in t.shape if not is_unit(d)]


def place_below(user: Node, place: Place, node: Node) -> Place:
    """Where `user`, evaluated at `place`, reads its operand `node`."""
    shape = node.shape
    if user.op.kind is Kind.ELEMENTWISE or user.op.name in ("broadcast_to", "stop_gradient"):
        return tuple([UNIT if is_unit(d) else t for d, t in zip(shape, place[len(place) - len(shape) :], strict=True)])
    if user.op.name == "permute_dims":
        axes: Sequence[int] = user.attrs["axes"]
        return tuple([place[axes.index(a)] for a in range(len(axes))])
    if user.op.kind is Kind.REDUCE:
        kept = iter(place)
        reduced = user.attrs["axes"]
        tokens = [(user, a) if a in reduced else next(kept) for a in range(len(shape))]
        return tuple([UNIT if is_unit(d) else t for d, t in zip(shape, tokens, strict=True)])
    if is_unit_reshape(user):
        walked = iter([t for d, t in zip(user.shape, place, strict=True) if not is_unit(d)])
        return tuple([UNIT if is_unit(d) else next(walked) for d in shape])
    return tuple([object() for _ in shape])


def is_walked(place: Place) -> bool:
    """Whether loops alone make the index, without an index map."""
    return all(token is UNIT or isinstance(token, (int, tuple)) for token in place)


def repeats(user: Node, node: Node, place: Place, places: Mapping[Node, Place], order: Sequence[int]) -> bool:
    """Whether reading `node` at `place` for `user` computes elements of it more often than once, in loops over the
    domain's axes in this order."""
    tokens = [t for t in place if t is not UNIT]
    if user.op.name == "windows" or (user.op.kind is Kind.INDEX and user.op.name not in READ_ONCE):
        return True
    if not is_walked(place):  # by shapes alone
        return (user.op.kind is Kind.ELEMENTWISE or user.op.name == "broadcast_to") and node.shape != user.shape
    known = set(tokens)
    needed: set[Token] = set()
    for token in tokens:
        if isinstance(token, int):
            needed.update(order[: order.index(token)])
        elif isinstance(token, tuple):
            reduction, axis = token
            needed.update(t for t in places[reduction] if t is not UNIT)
            inner = (a for a in reduction.attrs["axes"] if a < axis and not is_unit(reduction.inputs[0].shape[a]))
            needed.update((reduction, a) for a in inner)
    return not needed <= known


def is_row_reduction(node: Node, place: Place, order: Sequence[int]) -> bool:
    """Whether `node` is computed once for each step of the kernel's outer loops, by loops of which the innermost runs
    along memory.

    Such a reduction runs inside the kernel's loops over rows, before the loop along the row. A row is all that shares
    an index of the outer loops: of batch norm, a channel.
    """
    return node.op.kind is Kind.REDUCE and is_row(place, order) and runs_along_memory(node)


def is_row(place: Place, order: Sequence[int]) -> bool:
    """Whether a place names some of the outer loops and no other."""
    tokens = [t for t in place if t is not UNIT]
    return bool(tokens) and len(tokens) <= len(order) and set(tokens) == set(order[: len(tokens)])


def runs_along_memory(node: Node) -> bool:
    """Whether a reduction's operand, were it in memory, would be reduced along its innermost axis."""
    long = [a for a, d in enumerate(node.inputs[0].shape) if not is_unit(d)]
    return bool(long) and long[-1] in node.attrs["axes"]


def walked_axes(shape: Shape, rows: Sequence[int] = ()) -> tuple[int, ...]:
    """The order of the loops over a domain: its axes longer than 1, `rows` first."""
    return (*sorted(rows), *(a for a, d in enumerate(shape) if not is_unit(d) and a not in rows))


def rows_above(root: Node, is_inside: Callable[[Node], bool]) -> tuple[int, ...]:
    """The axes of `root` that name a row, if a reduction that it needs is computed once a row; () where none is."""
    for node, place in _places(root, is_inside, LOOK_AHEAD):
        if node.op.kind is Kind.REDUCE and node.inputs[0].shape == root.shape and runs_along_memory(node):
            tokens = [t for t in place if isinstance(t, int)]
            if tokens and is_walked(place) and len(tokens) < len(walked_axes(root.shape)):
                return tuple(sorted(tokens))
    return ()


@lru_cache(maxsize=4096)
def body_loops(body: Graph) -> tuple[tuple[int, ...], tuple[Place, ...]]:
    """Of a body that is a map over the shape of its first output: the axes that name a row, () where there is none that
    anything is computed once for, and the place of each output."""
    root = body.outputs[0]
    found: dict[Node, Place] = {}
    for node, place in _places(root, lambda n: n.op.kind is not Kind.LEAF, None):
        if all(t is UNIT or isinstance(t, int) for t in place):
            found.setdefault(node, place)
    places = tuple([found.get(n) or _place_by_reduction(n, root.shape) for n in body.outputs])
    for place in places:
        rows = tuple(sorted(t for t in place if isinstance(t, int)))
        if 0 < len(rows) < len(walked_axes(root.shape)):
            return rows, places
    return rows_above(root, lambda n: n.op.kind is not Kind.LEAF), places


def _place_by_reduction(node: Node, domain: Shape) -> Place:
    """The place of an output that the first one does not need: what a reduction over the domain keeps."""
    if node.shape == domain:
        return root_place(domain)
    stack = [node]
    while stack:
        x = stack.pop()
        if x.op.kind is Kind.REDUCE and x.inputs[0].shape == domain and x.shape == node.shape:
            kept = [a for a in range(len(domain)) if a not in x.attrs["axes"]]
            return tuple([UNIT if is_unit(domain[a]) else a for a in kept])
        stack.extend(y for y in reversed(x.inputs) if y.shape == node.shape)
    raise AssertionError(f"{node!r} is computed at no place of a domain {domain}")


def _places(root: Node, is_inside: Callable[[Node], bool], most: int | None) -> Iterator[tuple[Node, Place]]:
    """Nodes and places that evaluating `root` at its own place leads to, as far as `is_inside`, at most so many."""
    stack = [(root, root_place(root.shape))]
    seen = set(stack)
    while stack and (most is None or len(seen) <= most):
        node, place = stack.pop()
        yield node, place
        if not is_walked(place):
            continue
        for x in reversed(node.inputs):
            below = place_below(node, place, x)
            if is_inside(x) and is_walked(below) and (x, below) not in seen:
                seen.add((x, below))
                stack.append((x, below))
