"""Plans whose buffers are filled with garbage as soon as nothing may read them: what reads one all the same shows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from dlc.backends import table
from dlc.backends.cpu.compile import compile_kernels
from dlc.backends.cpu.executable import CpuExecutable
from dlc.backends.plan import (
    ARENA,
    AgainStep,
    BranchStep,
    CopyStep,
    FinishStep,
    LoopStep,
    NextStep,
    Place,
    Plan,
    WhileStep,
)

GARBAGE = 1 << 21  # bytes of 0xFF, which are NaN in every floating-point dtype: more than any buffer here has


def poisoned(plan: Plan) -> Plan:
    """`plan`, with a step after each that fills the buffers whose lives end there."""
    ending: dict[int, list[int]] = {}
    for number, b in enumerate(plan.buffers):
        ending.setdefault(b.end, []).append(number)
    steps: list[Any] = []
    moved: dict[int, int] = {}
    garbage = Place(plan.bases)
    for position, step in enumerate(plan.steps):
        moved[position] = len(steps)
        dead = [CopyStep(garbage, Place(ARENA, n), plan.buffers[n].nbytes) for n in ending.get(position, ())]
        steps += [step, *dead]  # after a loop's end its buffers die once, after its last iteration
    moved[len(plan.steps)] = len(steps)
    for at, step in enumerate(steps):
        match step:
            case LoopStep() | WhileStep():
                steps[at] = replace(step, end=moved[step.end])
            case NextStep() | AgainStep() | FinishStep():
                steps[at] = replace(step, loop=moved[step.loop])
            case BranchStep():
                steps[at] = replace(step, target=moved[step.target])
    array = np.full(GARBAGE, 0xFF, np.uint8)
    return replace(plan, steps=tuple(steps), constants=(*plan.constants, (plan.bases, array)), bases=plan.bases + 1)


def poison(executable: CpuExecutable) -> None:
    """Make a loaded program run on poison: its arena before each call, and every buffer once it is dead."""
    plan = poisoned(executable.plan)
    sources = list(dict.fromkeys(call.code.source for call in plan.kernels))
    addresses = dict(zip(sources, compile_kernels(sources), strict=True))
    arguments = _Unmoved(plan, executable.plan)
    executable.poison = True
    executable.plan = plan
    executable.arguments = arguments
    executable.table = table.table_of(arguments, addresses)
    executable._tuples = 8 * plan.bases
    executable._bound.clear()
    executable._memory.clear()


class _Unmoved(table.Arguments):
    """The arguments of a poisoned plan, whose buffers lie where the plan itself puts them."""

    def __init__(self, plan: Plan, original: Plan) -> None:
        super().__init__(plan)
        self.original = original

    def bound(self, arena: Any, bindings: Any) -> Any:
        return super().bound(self.original.arena(bindings), bindings)


@contextmanager
def tasks_shared_out() -> Iterator[None]:
    """Threads share the tasks of every kernel, however small, that is bound within."""
    kept = table.grain
    table.grain = lambda tasks, work: 1
    try:
        yield
    finally:
        table.grain = kept
