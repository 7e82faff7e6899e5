"""Memory planning: every buffer's place in one arena, from when it is first written until it is last read.

Buffers that never live at the same time share bytes. The plan is made for sizes in bytes, so once per binding of the
named dims; starts and ends are positions in the fixed order of the steps, and both are inclusive: what a step reads
and what it writes never overlap.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass

from dlc.state import ALIGNMENT


@dataclass(frozen=True)
class Arena:
    """Where each buffer lies. `peak` is the arena's size; `lower_bound` the most bytes alive at one step."""

    offsets: tuple[int, ...]
    peak: int
    lower_bound: int


FEW = 1500  # buffers for which a second plan, whose time grows with their square, is worth a try
NEAR = 1.02  # times the lower bound: a plan that needs no second one


def allocate(sizes: Sequence[int], starts: Sequence[int], ends: Sequence[int]) -> Arena:
    """Place buffers of `sizes` bytes that live from `starts` to `ends` (positions, inclusive); all are 64-byte aligned.

    Takes O(n log n) steps, and O(n^2) where there are few buffers and the first plan wastes memory.

    >>> allocate([100, 50, 60], [0, 1, 2], [1, 2, 3])
    Arena(offsets=(0, 128, 0), peak=192, lower_bound=192)
    """
    rounded = [-(-size // ALIGNMENT) * ALIGNMENT for size in sizes]
    first = _in_order(rounded, starts, ends)
    if first.peak <= NEAR * first.lower_bound or len(sizes) > FEW:
        return first
    offsets = _by_size(rounded, starts, ends)
    peak = max(o + size for o, size in zip(offsets, rounded, strict=True))
    return Arena(tuple(offsets), peak, first.lower_bound) if peak < first.peak else first


def _in_order(rounded: Sequence[int], starts: Sequence[int], ends: Sequence[int]) -> Arena:
    """Best fit in the order of the starts, larger ones first: each takes the smallest free block that holds it."""
    offsets = [0] * len(rounded)
    begin = sorted((i for i in range(len(rounded)) if rounded[i]), key=lambda i: (starts[i], -rounded[i], i))
    finish = sorted(begin, key=lambda i: (ends[i], i))
    free = _FreeBlocks()
    alive = most = done = 0
    for i in begin:
        while ends[finish[done]] < starts[i]:
            j = finish[done]
            free.release(offsets[j], rounded[j])
            alive -= rounded[j]
            done += 1
        offsets[i] = free.take(rounded[i])
        alive += rounded[i]
        most = max(most, alive)
    return Arena(tuple(offsets), free.top, most)


def _by_size(rounded: Sequence[int], starts: Sequence[int], ends: Sequence[int]) -> list[int]:
    """Largest first: each lies as low as it can beside those already placed that live at the same time."""
    offsets = [0] * len(rounded)
    placed: list[tuple[int, int, int, int]] = []  # (offset, end of it, start, end), by offset
    for i in sorted((i for i in range(len(rounded)) if rounded[i]), key=lambda i: (-rounded[i], starts[i], i)):
        offset = 0
        for low, high, start, end in placed:
            if start <= ends[i] and starts[i] <= end and high > offset:
                if low >= offset + rounded[i]:
                    break
                offset = high
        offsets[i] = offset
        insort(placed, (offset, offset + rounded[i], starts[i], ends[i]))
    return offsets


class _FreeBlocks:
    """The free blocks below `top`, joined with their neighbours, found by size."""

    def __init__(self) -> None:
        self.top = 0
        self.by_size: list[tuple[int, int]] = []  # (size, offset), sorted
        self.sizes: dict[int, int] = {}  # offset -> size
        self.ending: dict[int, int] = {}  # end -> offset

    def take(self, size: int) -> int:
        """The offset of `size` bytes: in the smallest block that holds them, else at the top."""
        at = bisect_left(self.by_size, (size, 0))
        if at < len(self.by_size):
            found, offset = self.by_size[at]
            self._remove(offset)
            if found > size:
                self._insert(offset + size, found - size)
            return offset
        offset = self.ending.get(self.top, self.top)  # a free block at the very top grows
        if offset != self.top:
            self._remove(offset)
        self.top = offset + size
        return offset

    def release(self, offset: int, size: int) -> None:
        """Give `size` bytes at `offset` back."""
        if (before := self.ending.get(offset)) is not None:
            size += offset - before
            self._remove(before)
            offset = before
        if (after := self.sizes.get(offset + size)) is not None:
            self._remove(offset + size)
            size += after
        self._insert(offset, size)

    def _insert(self, offset: int, size: int) -> None:
        insort(self.by_size, (size, offset))
        self.sizes[offset] = size
        self.ending[offset + size] = offset

    def _remove(self, offset: int) -> None:
        size = self.sizes.pop(offset)
        del self.ending[offset + size]
        del self.by_size[bisect_left(self.by_size, (size, offset))]
