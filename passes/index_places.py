"""At which index a kernel evaluates each of its nodes, and how often: what tells whether fusing repeats work.

A place is a tuple of tokens, one an axis: a number is the loop over that axis of the kernel's domain, a pair an inner
loop of a reduction, UNIT stands for index 0, and any other object for an index that is computed in some other way.
Loops are nested in the order of the axes, and a value is computed in the outermost loop that knows its index; so it is
computed once for each element exactly if its place names every loop down to the innermost that it names at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from dlc.dims import DimLike, Shape
from dlc.ir import Node, TensorType
from dlc.ops.definition import Kind

UNIT = None
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


def repeats(user: Node, node: Node, place: Place, places: Mapping[Node, Place], domain: Shape) -> bool:
    """Whether reading `node` at `place` for `user` computes elements of it more often than once."""
    tokens = [t for t in place if t is not UNIT]
    if user.op.name == "windows" or (user.op.kind is Kind.INDEX and user.op.name not in READ_ONCE):
        return True
    if not is_walked(place):  # by shapes alone
        return (user.op.kind is Kind.ELEMENTWISE or user.op.name == "broadcast_to") and node.shape != user.shape
    known = set(tokens)
    needed: set[Token] = set()
    for token in tokens:
        if isinstance(token, int):
            needed.update(axis for axis in range(token) if not is_unit(domain[axis]))
        elif isinstance(token, tuple):
            reduction, axis = token
            needed.update(t for t in places[reduction] if t is not UNIT)
            inner = (a for a in reduction.attrs["axes"] if a < axis and not is_unit(reduction.inputs[0].shape[a]))
            needed.update((reduction, a) for a in inner)
    return not needed <= known


def is_row_reduction(node: Node, place: Place, domain: Shape) -> bool:
    """Whether `node` reduces the last axes of its operand, once for each step of the kernel's outer loops.

    Such a reduction runs inside the kernel's loops over rows, before the loop along the row.
    """
    if node.op.kind is not Kind.REDUCE:
        return False
    rank = len(node.inputs[0].shape)
    tokens = [t for t in place if t is not UNIT]
    if not tokens or tuple(node.attrs["axes"]) != tuple(range(rank - len(node.attrs["axes"]), rank)):
        return False
    walked = [axis for axis, d in enumerate(domain) if not is_unit(d)]
    return tokens == walked[: len(tokens)]
