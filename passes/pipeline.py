"""The order of passes: the only place that states it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from dlc.errors import AttributeValueError
from dlc.ir import Graph
from dlc.passes.constant_folding import constant_folding
from dlc.passes.dead_code import dead_code
from dlc.passes.fuse import fuse
from dlc.passes.halves import halves
from dlc.passes.inline_calls import inline_calls
from dlc.passes.merge_scans import merge_scans
from dlc.passes.simplify import simplify

Pass: TypeAlias = Callable[[Graph], Graph]


@dataclass(frozen=True)
class Pipeline:
    """Named passes in order. Immutable: every change gives another pipeline. Names are unique within one.

    >>> from dlc import passes
    >>> passes.PIPELINE.without("simplify").insert_before("dead_code", passes.verify)
    Pipeline(inline_calls, merge_scans, halves, constant_folding, verify, dead_code, fuse)
    """

    steps: tuple[tuple[str, Pass], ...]

    def __post_init__(self) -> None:
        for name in self.names:
            if self.names.count(name) > 1:
                raise AttributeValueError(f"two passes of the pipeline are called {name!r}; insert it with named=")

    @staticmethod
    def of(*passes: Pass) -> Pipeline:
        """A pipeline of functions, named as they are."""
        return Pipeline(tuple((pass_name(p), p) for p in passes))

    def __repr__(self) -> str:
        return f"Pipeline({', '.join(self.names)})"

    def __iter__(self) -> Iterator[tuple[str, Pass]]:
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def names(self) -> tuple[str, ...]:
        """The passes' names, in order."""
        return tuple(name for name, _ in self.steps)

    def insert_before(self, name: str, pass_: Pass, *, named: str | None = None) -> Pipeline:
        """The pipeline with `pass_` just before the pass `name`. Raises `AttributeValueError` for an unknown name."""
        return self._insert(self._position(name), pass_, named)

    def insert_after(self, name: str, pass_: Pass, *, named: str | None = None) -> Pipeline:
        """The pipeline with `pass_` just after the pass `name`. Raises `AttributeValueError` for an unknown name."""
        return self._insert(self._position(name) + 1, pass_, named)

    def without(self, name: str) -> Pipeline:
        """The pipeline less the pass `name`. Raises `AttributeValueError` for an unknown name."""
        at = self._position(name)
        return Pipeline((*self.steps[:at], *self.steps[at + 1 :]))

    def _insert(self, at: int, pass_: Pass, named: str | None) -> Pipeline:
        return Pipeline((*self.steps[:at], (named or pass_name(pass_), pass_), *self.steps[at:]))

    def _position(self, name: str) -> int:
        if name not in self.names:
            raise AttributeValueError(f"the pipeline has no pass {name!r}; it has {', '.join(self.names)}")
        return self.names.index(name)


def pass_name(pass_: Pass) -> str:
    """What a pass is called: its function's name, or its class's."""
    return getattr(pass_, "__name__", None) or type(pass_).__name__


PIPELINE = Pipeline.of(inline_calls, merge_scans, halves, constant_folding, simplify, dead_code, fuse)
