"""Who is quicker: runs that take turns in one process, so that what disturbs the machine disturbs them all."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

FEWEST, LONGEST = 3, 20.0  # rounds, and seconds after which no further round begins
PAUSE = 0.005  # seconds; OpenMP's threads spin for some milliseconds when they have nothing to do

Run = Callable[[], Any]  # does the work once, to its end, and gives the result


class Times(NamedTuple):
    """Seconds a run takes: the best call and the median one."""

    best: float
    median: float


def race(runs: Mapping[str, Run], rounds: int, seconds: float = 0.03) -> dict[str, Times]:
    """The times of runs that take turns of about `seconds` each. They must be warm.

    There are `rounds` of turns, fewer where calls are long, but not less than `FEWEST`.
    """
    calls: dict[str, list[float]] = {name: [] for name in runs}
    began = time.perf_counter()
    for done in range(rounds):
        if done >= FEWEST and time.perf_counter() - began > LONGEST:
            break
        for name, run in runs.items():
            calls[name] += turn(run, seconds)
    return {name: Times(min(found), statistics.median(found)) for name, found in calls.items()}


def turn(run: Run, seconds: float) -> list[float]:
    """Seconds of each call in one turn, after a pause in which the threads of whoever ran before go to sleep.

    Caches are not warm, so the first call counts only where a turn has no time for another. Calls are timed one by one:
    on a shared machine the quickest of many says more about the program than the mean over a turn, which holds what
    others took.
    """
    time.sleep(PAUSE)
    clock = time.perf_counter
    start = clock()
    run()
    found = [clock() - start]
    while clock() - start < seconds:
        began = clock()
        run()
        found.append(clock() - began)
    return found[1:] or found
