"""A matrix product under way: what its domain's axes are, where its operands' elements lie, and its blocks as tasks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from dlc.backends.axes import Reach, grouped, is_one, merged, reach
from dlc.backends.emitter import LoopEmitter, put
from dlc.backends.nests import store
from dlc.dims import DimLike, product
from dlc.ir import Node

ROWS, COLUMNS = 0, 1  # the sides of a product: those of its left and of its right operand


@dataclass
class Product:
    """Sums of left[batch, m, s] * right[batch, s, n] over s, and what follows from each.

    The domain's axes are the batch axes, M, N, K. `sides` are the axes that rows and columns walk as one: a batch axis
    that only the left operand has is walked by rows. `batch` are the groups of the other batch axes.
    """

    k: LoopEmitter
    heavy: Node
    outputs: Sequence[Node]
    targets: Sequence[str]
    shape: tuple[DimLike, ...] = field(init=False)
    sides: tuple[list[int], list[int]] = field(init=False)
    batch: list[list[int]] = field(init=False)
    index: list[str] = field(init=False)

    def __post_init__(self) -> None:
        left, right = self.heavy.inputs
        self.shape = (*left.shape[:-1], right.shape[-1], left.shape[-1])
        m, n = len(self.shape) - 3, len(self.shape) - 2
        self._reaches = (self._reach(0), self._reach(1))
        below = {**self.k.leaves, self.heavy: ""}
        after = [reach(x, below, tuple(range(n + 1))) for x in self.outputs]
        groups = grouped(range(m + 1), self.shape, merged([*self._reaches, *after]))
        rows = groups.pop() if groups and groups[-1][-1] == m else []
        self.sides = (rows, [] if is_one(self.shape[n]) else [n])
        self.batch = groups
        self.index = ["0"] * len(self.shape)

    def _reach(self, operand: int) -> Reach:
        n = len(self.shape)
        axes = (*range(n - 3), n - 3, n - 1) if operand == ROWS else (*range(n - 3), n - 1, n - 2)
        return reach(self.heavy.inputs[operand], self.k.leaves, axes)

    def extent(self, side: int) -> DimLike:
        """How many rows or columns there are."""
        return product(self.shape[a] for a in self.sides[side])

    @property
    def terms(self) -> DimLike:
        """How many terms a sum has."""
        return self.shape[-1]

    def dense(self, side: int) -> bool:
        """Whether an operand's memory runs along its side, rather than along the sum."""
        axes = self.sides[side]
        steps = len(self.shape) - 1
        return bool(axes) and self._reaches[side].fastest((steps, axes[-1])) == axes[-1]

    def batches(self, operand: int) -> list[list[int]]:
        """The groups of batch axes along which an operand changes."""
        found = self._reaches[operand]
        moving = found.irregular.union(*found.operands)
        return [group for group in self.batch if moving.intersection(group)]

    def enter(self, groups: Sequence[Sequence[int]], at: Sequence[str]) -> None:
        """Stand at a place in some groups of the batch."""
        for group, i in zip(groups, at, strict=True):
            self.index = put(self.index, group, i)

    def element(self, side: int, at: str, s: str) -> str:
        """The element that meets step `s` of the sum in row (or column) `at`."""
        place = put(self.index, self.sides[side], at) if self.sides[side] else self.index
        steps = "0" if is_one(self.terms) else s
        batch, m, n = place[:-3], place[-3], place[-2]
        if side == ROWS:
            return self.k.element(self.heavy.inputs[0], [*batch, m, steps])
        return self.k.element(self.heavy.inputs[1], [*batch, steps, n])

    def fetch(self, side: int, at: str, s: str) -> None:
        """Ask for the memory of `element` ahead of time, where the operand is no more than a view of an array."""
        node = self.heavy.inputs[side]
        place = put(self.index, self.sides[side], at) if self.sides[side] else self.index
        index = [*place[:-3], place[-3], s] if side == ROWS else [*place[:-3], s, place[-2]]
        while node not in self.k.leaves:
            if node.op.name != "permute_dims":
                return
            order = node.attrs["axes"]
            index = [index[order.index(a)] for a in range(len(order))]
            node = node.inputs[0]
        self.k.line(f"prefetch({self.k.leaves[node]}, {self.k.flat(index, node.shape)}, 0)")

    def make_room(self, row: str, column: str) -> None:
        """Ask for the memory that `finish` will write ahead of time."""
        place = self.index
        for side, at in ((ROWS, row), (COLUMNS, column)):
            if self.sides[side]:
                place = put(place, self.sides[side], at)
        for x, target in zip(self.outputs, self.targets, strict=True):
            if x.shape == self.heavy.shape:
                self.k.line(f"prefetch({target}, {self.k.flat(place[:-1], x.shape)}, 1)")

    def finish(self, row: str, column: str, total: str) -> None:
        """Store what follows from one element of the product."""
        place = self.index
        for side, at in ((ROWS, row), (COLUMNS, column)):
            if self.sides[side]:
                place = put(place, self.sides[side], at)
        self.k.provide(self.heavy, place[:-1], self.k.let(total, loads=True))
        store(self.k, self.outputs, self.targets, place[:-1])

    @contextmanager
    def blocks(self, rows: DimLike, columns: DimLike) -> Iterator[tuple[str, str]]:
        """Tasks: so many blocks of rows for each of so many blocks of columns, in each place of the batch."""
        extents = [product(self.shape[a] for a in group) for group in self.batch]
        with self.k.tasks(product([*extents, columns, rows])) as t:
            *at, column, row = unravelled(self.k, t, [*extents, columns, rows])
            self.enter(self.batch, at)
            yield row, column


def unravelled(k: LoopEmitter, flat: str, extents: Sequence[DimLike]) -> list[str]:
    """The index of a flat position, the last axis fastest."""
    found: list[str] = []
    for n in reversed(range(len(extents))):
        if is_one(extents[n]):
            found.append("0")
        elif all(is_one(d) for d in extents[:n]):
            found.append(flat)
        else:
            extent = k.dim(extents[n])
            found.append(k.let(f"{flat} % {extent}"))
            flat = k.let(f"{flat} // {extent}")
    return found[::-1]
