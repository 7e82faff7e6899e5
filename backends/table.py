"""A plan as a table: rows of [kernel address or opcode, index of its first argument], and the arguments.

Rows are the plan's steps in order, a row for each part of a kernel, whose tasks are those of all its calls. The table
is made once; the arguments hold byte offsets, dims, and how tasks are shared out, so they are made once per binding of
the named dims.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dlc.backends.plan import (
    AgainStep,
    BranchStep,
    Call,
    Carry,
    CommitStep,
    CopyStep,
    FinishStep,
    KernelStep,
    LoopStep,
    NextStep,
    Place,
    Plan,
    WhileStep,
)
from dlc.dims import Dim, DimLike, evaluate
from dlc.passes.memory import Arena

COMMIT, COPY, LOOP, NEXT, GO, BRANCH, WHILE, AGAIN, FINISH = range(9)  # opcodes; addresses are larger
OPCODES = {
    CommitStep: COMMIT, CopyStep: COPY, LoopStep: LOOP, NextStep: NEXT, WhileStep: WHILE, AgainStep: AGAIN,
    FinishStep: FINISH,
}  # fmt: skip

# What walks a table (the CPU's dispatcher, the CUDA backend's host) reads, in order. A kernel's number of tasks, the
# fewest of them that are worth a thread, how many calls share them out, the first task and the argument block of each
# call, and once more the number of tasks; a copy's source, target and size; a loop's counter slot, length, first and
# last row, number of slices and of carries, then each slice and each carry. A row to go to, and for a branch the base
# and offset of its condition; of a loop of unknown length the counter slot, the most steps, its first and its last row
# and number of carries, then each carry.
KERNEL_FIELDS = 3
CALL_FIELDS = 2
COPY_FIELDS = 5
LOOP_FIELDS = 6
WHILE_FIELDS = 5
SLICE_FIELDS = 4  # slot, base, offset, stride
CARRY_FIELDS = 9  # current, next, then base and offset of initial, result and spare, then the size

GRAIN_WORK = 4000  # nanoseconds that a thread should work for between two looks at what is left
LINE = 16  # neighbouring tasks that stay together where there are many, so that threads write to lines of their own


class Arguments:
    """The argument blocks of all rows, as constants plus buffer offsets plus values of dims."""

    def __init__(self, plan: Plan) -> None:
        self.fixed: list[int] = []
        self.buffers: list[tuple[int, int]] = []  # (argument, buffer)
        self.dims: list[tuple[int, int]] = []  # (argument, number of a dim)
        self.grains: list[tuple[int, DimLike, DimLike]] = []  # (argument, tasks, work)
        self.numbers: dict[Dim, int] = {}
        self.rows: list[tuple[int | str, int]] = []  # opcode or kernel source, and where its arguments begin
        self._first_row: list[int] = []  # of each step
        self._calls = 0  # of kernels so far; their numbers are what status blocks name
        self._loops: list[tuple[int, int]] = []  # (argument, step): rows that loops go to
        for number, step in enumerate(plan.steps):
            self._first_row.append(len(self.rows))
            self._step(number, step)
        self._first_row.append(len(self.rows))
        for at, target in self._loops:
            self.fixed[at] = self._first_row[target]
        self._arrays = [np.array(pairs, np.int64).reshape(-1, 2).T for pairs in (self.buffers, self.dims)]

    def bound(self, arena: Arena, bindings: Mapping[str, int]) -> np.ndarray[Any, Any]:
        """The arguments under values of the named dims."""
        values = np.array([evaluate(d, bindings) for d in self.numbers], np.int64)
        args = np.array(self.fixed, np.int64)
        (at, buffers), (at_dims, dims) = self._arrays
        args[at] += np.array(arena.offsets, np.int64)[buffers]
        args[at_dims] += values[dims]
        known: dict[DimLike, int] = {}
        for at_grain, tasks, work in self.grains:
            for d in (tasks, work):
                if d not in known:
                    known[d] = evaluate(d, bindings)
            args[at_grain] = grain(known[tasks], known[work])
        return args

    def _step(self, number: int, step: Any) -> None:
        first = len(self.fixed)
        match step:
            case KernelStep(calls=calls):
                for part in range(len(calls[0].code.parts)):
                    self._part(part, calls)
                self._calls += len(calls)
                return
            case NextStep() | AgainStep() | FinishStep():
                first = self.rows[self._first_row[step.loop]][1]  # a loop's end shares the arguments of its start
            case CopyStep(source, target, nbytes):
                self._place(source)
                self._place(target)
                self._value(nbytes)
            case LoopStep():
                self._loops += [(first + 2, number), (first + 3, step.end)]
                for value in (step.counter, step.length, 0, 0, len(step.slices), len(step.carries)):
                    self._value(value)
                for slot, whole, offset, stride in step.slices:
                    self._value(slot)
                    self._place(whole, offset)
                    self._value(stride)
                self._carries(step.carries)
            case WhileStep():
                self._loops += [(first + 2, number + 1), (first + 3, step.end)]
                for value in (step.counter, step.most, 0, 0, len(step.carries)):
                    self._value(value)
                self._carries(step.carries)
            case BranchStep(condition, target):
                self._loops.append((first, target))
                self._value(0)
                if condition is not None:
                    self._place(condition)
                self.rows.append((GO if condition is None else BRANCH, first))
                return
        self.rows.append((OPCODES[type(step)], first))

    def _carries(self, carries: Sequence[Carry]) -> None:
        for current, following, initial, result, spare, nbytes in carries:
            self._value(current)
            self._value(following)
            for place in (initial, result, spare):
                self._place(place)
            self._value(nbytes)

    def _part(self, part: int, calls: Sequence[Call]) -> None:
        """A row for one part of a kernel's calls: how tasks are shared out, then each call's argument block."""
        first = len(self.fixed)
        parts = [call.code.parts[part] for call in calls]
        tasks = sum((p.tasks for p in parts), start=0)
        self.rows.append((parts[0].source, first))
        self.grains.append((first + 1, tasks, sum((call.code.work for call in calls), start=0)))
        for value in (tasks, 0, len(calls)):
            self._value(value)
        begin: DimLike = 0
        for p in parts:
            self._value(begin)
            self._value(0)
            begin = begin + p.tasks
        self._value(begin)
        for i, (call, p) in enumerate(zip(calls, parts, strict=True)):
            self.fixed[first + KERNEL_FIELDS + CALL_FIELDS * i + 1] = len(self.fixed)
            for place in call.places:
                self._place(place)
            self._value(self._calls + i)
            for d in p.dims:
                self._value(d)

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


def grain(tasks: int, work: int) -> int:
    """The fewest tasks that are worth a thread's while; all of them where a kernel is too small to be shared."""
    fewest = -(-tasks * GRAIN_WORK // max(work, 1))
    if tasks > 8 * LINE:
        fewest = -(-fewest // LINE) * LINE
    return max(1, min(tasks, fewest))


def table_of(args: Arguments, addresses: Mapping[str, int]) -> np.ndarray[Any, Any]:
    """One row for each part of a kernel and for each other step: what to run, and where its arguments begin."""
    rows = [(addresses[what] if isinstance(what, str) else what, first) for what, first in args.rows]
    return np.array(rows, np.int64).reshape(-1, 2)
