"""A plan as the dispatcher's table: rows of [kernel address or opcode, index of its first argument], and the arguments.

Rows are the plan's steps in order. The table is made once; the arguments hold byte offsets and dims, so they are made
once per binding of the named dims.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dlc.backends.plan import CommitStep, CopyStep, KernelStep, LoopStep, NextStep, Place, Plan
from dlc.dims import Dim, DimLike, evaluate
from dlc.passes.memory import Arena

COMMIT, COPY, LOOP, NEXT = range(4)  # opcodes; addresses are larger

# What the dispatcher reads, in order: a copy's source, target and size; a loop's counter slot, length, first and last
# row, number of slices and of carries, then each slice and each carry.
COPY_FIELDS = 5
LOOP_FIELDS = 6
SLICE_FIELDS = 4  # slot, base, offset, stride
CARRY_FIELDS = 9  # current, next, then base and offset of initial, result and spare, then the size


class Arguments:
    """The argument blocks of all rows, as constants plus buffer offsets plus values of dims."""

    def __init__(self, plan: Plan) -> None:
        self.fixed: list[int] = []
        self.buffers: list[tuple[int, int]] = []  # (argument, buffer)
        self.dims: list[tuple[int, int]] = []  # (argument, number of a dim)
        self.numbers: dict[Dim, int] = {}
        self.first: list[int] = []  # for each step, where its arguments begin; a loop's end shares those of its start
        for number, step in enumerate(plan.steps):
            self.first.append(self.first[step.loop] if isinstance(step, NextStep) else len(self.fixed))
            self._step(number, step)
        self._arrays = [np.array(pairs, np.int64).reshape(-1, 2).T for pairs in (self.buffers, self.dims)]

    def bound(self, arena: Arena, bindings: Mapping[str, int]) -> np.ndarray[Any, Any]:
        """The arguments under values of the named dims."""
        values = np.array([evaluate(d, bindings) for d in self.numbers], np.int64)
        args = np.array(self.fixed, np.int64)
        (at, buffers), (at_dims, dims) = self._arrays
        args[at] += np.array(arena.offsets, np.int64)[buffers]
        args[at_dims] += values[dims]
        return args

    def _step(self, number: int, step: Any) -> None:
        match step:
            case KernelStep(code=code, places=places):
                for place in places:
                    self._place(place)
                self._value(number)
                for d in code.dims:
                    self._value(d)
            case CopyStep(source, target, nbytes):
                self._place(source)
                self._place(target)
                self._value(nbytes)
            case LoopStep():
                for value in (step.counter, step.length, number, step.end, len(step.slices), len(step.carries)):
                    self._value(value)
                for slot, whole, offset, stride in step.slices:
                    self._value(slot)
                    self._place(whole, offset)
                    self._value(stride)
                for current, following, initial, result, spare, nbytes in step.carries:
                    self._value(current)
                    self._value(following)
                    for place in (initial, result, spare):
                        self._place(place)
                    self._value(nbytes)

    def _place(self, place: Place, offset: DimLike = 0) -> None:
        self._value(place.base)
        if place.buffer >= 0:
            self.buffers.append((len(self.fixed), place.buffer))
        self._value(offset)

    def _value(self, value: DimLike) -> None:
        if isinstance(value, Dim):
            self.dims.append((len(self.fixed), self.numbers.setdefault(value, len(self.numbers))))
            value = 0
        self.fixed.append(value)


def table_of(plan: Plan, args: Arguments, addresses: Mapping[str, int]) -> np.ndarray[Any, Any]:
    """One row a step: what to run, and where its arguments begin."""
    codes = {CopyStep: COPY, CommitStep: COMMIT, LoopStep: LOOP, NextStep: NEXT}
    rows = [
        (addresses[step.code.source] if isinstance(step, KernelStep) else codes[type(step)], first)
        for step, first in zip(plan.steps, args.first, strict=True)
    ]
    return np.array(rows, np.int64).reshape(-1, 2)
