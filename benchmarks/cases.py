"""What is measured: a piece of work, and who does it in which ways."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from shutil import which
from typing import Any

from benchmarks.timing import Run, Times, race

DLC, TORCH, COMPILED, JAX = "dlc", "torch", "torch.compile", "jax"
TRIALS = 5  # rounds in which the modes of one side race each other
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
    """What was measured of a case: for each side the winning mode, its times, its error; or why there is nothing.

    `busy` says that the machine was doing other things meanwhile.
    """

    case: Case
    modes: dict[str, str] = field(default_factory=dict)
    times: dict[str, Times] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    busy: bool = False

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
    """Race the modes of each side for a few rounds, then the best ones of all sides."""
    outcome = Outcome(replace(case, sides={side: {} for side in case.sides}, error=_no_error))  # the data may be large
    runs: dict[str, Run] = {}
    for side in SIDES:
        modes = case.sides.get(side, {})
        reason = unavailable(side) if modes else "not part of this benchmark"
        if reason is not None:
            outcome.missing[side] = reason
            continue
        made = {mode: (run, error) for mode, run, error in _made(case, modes, outcome, side)}
        if made:
            mode = _quickest({mode: run for mode, (run, _) in made.items()}, seconds)
            outcome.modes[side], (runs[side], outcome.errors[side]) = mode, made[mode]
    outcome.times = race(runs, rounds, seconds)
    return outcome


def _quickest(modes: Mapping[str, Run], seconds: float) -> str:
    """The mode whose best call is the shortest. All are warm afterwards."""
    for run in modes.values():
        run()
    if len(modes) == 1:
        return next(iter(modes))
    times = race(modes, TRIALS, seconds)
    return min(modes, key=lambda mode: times[mode].best)


def _no_error(run: Run) -> float:
    raise RuntimeError("a case that was measured has no data any more")


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


def relative_error(found: Any, truth: Any) -> float:
    """The root mean square of the difference over that of the truth."""
    import numpy as np

    difference = np.asarray(found, np.float64) - truth
    return float(np.sqrt((difference**2).mean() / max((np.asarray(truth, np.float64) ** 2).mean(), 1e-300)))
