"""Loops over groups of a domain's axes, and the stores inside them."""

from __future__ import annotations

from collections.abc import Sequence

from dlc.backends.emitter import LoopEmitter, put
from dlc.dims import DimLike, product
from dlc.ir import Node


class nest:
    """Independent loops over groups of axes, one inside the other; gives the index inside them.

    With `tasks`, the iterations of the outermost one are the kernel's tasks.
    """

    def __init__(
        self,
        k: LoopEmitter,
        index: list[str],
        groups: Sequence[Sequence[int]],
        shape: Sequence[DimLike],
        independent: bool = True,
        tasks: bool = False,
    ) -> None:
        self.k, self.index, self.groups, self.shape = k, index, groups, shape
        self.independent, self.tasks = independent, tasks
        self.open: list[object] = []

    def __enter__(self) -> list[str]:
        index = self.index
        for group in self.groups:
            extent = product(self.shape[a] for a in group)
            length = self.k.short if group is self.groups[-1] else self.k.dim
            loop = (
                self.k.tasks(extent, independent=self.independent)
                if self.tasks and not self.open
                else self.k.loop(length(extent), independent=self.independent)
            )
            index = put(index, group, loop.__enter__())
            self.open.append(loop)
        return index

    def __exit__(self, *error: object) -> None:
        if error[0] is None:
            for loop in reversed(self.open):
                loop.__exit__(None, None, None)  # type: ignore[attr-defined]


def store(k: LoopEmitter, outputs: Sequence[Node], targets: Sequence[str], *indices: Sequence[str]) -> None:
    """Compute the outputs' elements, each at its index or all at one, then store them."""
    each = indices if len(indices) == len(outputs) else indices * len(outputs)
    values = [k.element(n, index) for n, index in zip(outputs, each, strict=True)]
    places = [f"{t}[{k.flat(i, n.shape)}]" for n, t, i in zip(outputs, targets, each, strict=True)]
    for place, value in zip(places, values, strict=True):
        k.line(f"{place} = {value}")
