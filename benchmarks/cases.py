"""What is measured: a piece of work, and who does it in which ways."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from shutil import which
from typing import Any

from benchmarks.timing import Run, Times, race, turn

DLC, TORCH, COMPILED, JAX = "dlc", "torch", "torch.compile", "jax"
SIDES = (DLC, TORCH, COMPILED, JAX)

Maker = Callable[[], Run]


@dataclass(frozen=True)
class Case:
    """A piece of work: `sides` gives for each side its modes, and a maker of the run for each.

    `flops` and `nbytes` are what the work takes at least; `error` looks at a fresh run's results and says how far from
    the truth they are. Cases of one `family` share a bar of the plot.
    """

    name: str
    group: str
    sides: Mapping[str, Mapping[str, Maker]]
    error: Callable[[Run], float]
    flops: int = 0
    nbytes: int = 0
    family: str = ""


@dataclass
class Outcome:
    """What was measured of a case: for each side the winning mode, its times, its error; or why there is nothing."""

    case: Case
    modes: dict[str, str] = field(default_factory=dict)
    times: dict[str, Times] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def ratio(self, *sides: str) -> float | None:
        """How many times quicker dlc is than the best of the sides, by the best calls; None where none ran."""
        found = [self.times[s].best for s in sides if s in self.times]
        return min(found) / self.times[DLC].best if found and DLC in self.times else None


def unavailable(side: str) -> str | None:
    """Why a side cannot run here; None if it can."""
    module = "jax" if side == JAX else "torch"
    if side != DLC and find_spec(module) is None:
        return f"{module} is not installed"
    if side == COMPILED and which("g++") is None:
        return "torch.compile needs g++, which is not installed"
    return None


def measure(case: Case, rounds: int, seconds: float) -> Outcome:
    """Try every mode of every side, then race the best ones."""
    outcome = Outcome(case)
    runs: dict[str, Run] = {}
    for side in SIDES:
        modes = case.sides.get(side, {})
        reason = unavailable(side) if modes else "not part of this benchmark"
        if reason is not None:
            outcome.missing[side] = reason
            continue
        tried = [(tried_for(run), mode, run, error) for mode, run, error in _made(case, modes, outcome, side)]
        if tried:
            _, outcome.modes[side], runs[side], outcome.errors[side] = min(tried, key=lambda t: t[0])
    outcome.times = race(runs, rounds, seconds)
    return outcome


def _made(case: Case, modes: Mapping[str, Maker], outcome: Outcome, side: str) -> Iterator[tuple[str, Run, float]]:
    """The runs of a side, checked. One that fails is reported, and the others go on."""
    for mode, make in modes.items():
        try:
            run = make()
            error = case.error(run)
        except Exception as problem:
            traceback.print_exc(file=sys.stderr)
            outcome.missing[side] = f"{mode or side} failed: {type(problem).__name__}: {problem}".split("\n")[0][:200]
        else:
            yield mode, run, error


def tried_for(run: Run) -> float:
    """Seconds a run takes, roughly; by then it is warm."""
    first = turn(run, 0.0)[0]
    return first if first > 1.0 else min(min(turn(run, 0.01)) for _ in range(3))


def relative_error(found: Any, truth: Any) -> float:
    """The root mean square of the difference over that of the truth."""
    import numpy as np

    difference = np.asarray(found, np.float64) - truth
    return float(np.sqrt((difference**2).mean() / max((np.asarray(truth, np.float64) ** 2).mean(), 1e-300)))
