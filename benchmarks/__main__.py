"""All speed benchmarks, dlc beside PyTorch and JAX, interleaved in one process.

    python -m pip install -e '.[bench]'
    python -m benchmarks [NAME ...] [--quick] [--write]

NAME is a group (steps, gemm, oblong, rows, adam, conv) or a part of a case's name. A library that is not installed is
left out and said to be. torch.compile needs a C++ compiler. With --write the tables and a plot go into docs/.
"""

from __future__ import annotations

import argparse
import datetime
from collections.abc import Iterator, Sequence
from pathlib import Path

import dlc
from benchmarks import adam, ceilings, convolutions, gemm, latency, memory, peers, report, rows, steps
from benchmarks.cases import Case, Outcome, measure

SUBJECTS = (steps, gemm, rows, adam, convolutions)
DOCS = Path(__file__).resolve().parent.parent / "docs"


def main() -> None:
    """Measure what is asked for, print it as it comes, and write it down if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--quick", action="store_true", help="fewer and smaller cases, fewer rounds")
    parser.add_argument("--rounds", type=int, default=None, help="turns of each library at each case (default: 15)")
    parser.add_argument("--threads", type=int, default=dlc.get_threads(), help="of dlc and PyTorch; JAX takes all")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md and docs/benchmarks.svg")
    options = parser.parse_args()
    if options.write and (options.names or options.quick):
        parser.error("--write is for a whole run, without names and without --quick")
    peers.use_threads(options.threads)
    limits = ceilings.measure(options.threads)
    print(f"{peers.versions()}\n{peers.machine()}\n{limits}\n\n{report.legend()}", flush=True)
    cases = [case for subject in SUBJECTS for case in subject.cases(options.quick) if _wanted(case, options.names)]
    if not cases:
        parser.error(f"nothing is called {' or '.join(options.names)}")
    outcomes = list(_measured(cases, options.rounds or (3 if options.quick else 15), limits))
    limits = limits.over(ceilings.measure(options.threads))
    print(f"\n{limits}{_busy(limits, options.threads)}")
    if options.write:
        _write(outcomes, limits, options.threads)


def _wanted(case: Case, names: Sequence[str]) -> bool:
    return not names or any(n == case.group or n.lower() in case.name.lower() for n in names)


def _measured(cases: Sequence[Case], rounds: int, limits: ceilings.Ceilings) -> Iterator[Outcome]:
    """The outcomes, printed as rows of their groups' tables."""
    for group, title in report.GROUPS.items():
        members = [case for case in cases if case.group == group]
        if not members:
            continue
        done = []
        sides = report.sides_of([Outcome(case) for case in members])
        print(f"\n## {title}\n\n{report.header(sides)}", flush=True)
        for case in members:
            before = _is_busy(limits)
            done.append(measure(case, rounds, 0.03))
            done[-1].busy = before or _is_busy(limits)
            print(report.row(done[-1], sides, limits), flush=True)
        for line in report.summary(done):
            print(f"\n{line}.", flush=True)
        yield from done


def _is_busy(limits: ceilings.Ceilings) -> bool:
    """Whether the threads cannot all run at once right now."""
    threads = dlc.get_threads()
    return ceilings.multiply_rate(threads, 0.05, usual=True) < 0.8 * threads * limits.core


def _busy(limits: ceilings.Ceilings, threads: int) -> str:
    """A warning where the threads could not all run at once: it favours whoever needs no second thread."""
    if limits.threads >= 0.8 * threads * limits.core:
        return ""
    return "\nThe machine was busy with other things: the threads never all ran at once; take these figures with care."


def _write(outcomes: Sequence[Outcome], limits: ceilings.Ceilings, threads: int) -> None:
    """docs/benchmarks.md and docs/benchmarks.svg."""
    report.plot(outcomes, DOCS / "benchmarks.svg")
    text = f"""# Benchmarks

Measured {datetime.date.today().isoformat()} by `python -m benchmarks --write`, with {threads} threads.

- {peers.versions()}
- {peers.machine()}
- the most that this machine can do, measured in the same run: {limits}{_busy(limits, threads)}

All libraries compute in float32 on the same data, warmed, in turns in one process; PyTorch in the quickest of its
modes (eager with channels first or last and with fused or foreach Adam; compiled), JAX jitted with donated buffers.

{report.legend()}

![How many times as fast as PyTorch and JAX](benchmarks.svg)

{report.markdown(outcomes, limits)}

## Latency

{_lines(latency.table(["LeNet-5, b64"], warm=5, demo=True))}

## Memory

{_lines(memory.table())}
"""
    (DOCS / "benchmarks.md").write_text(text)
    print(f"wrote {DOCS / 'benchmarks.md'} and {DOCS / 'benchmarks.svg'}")


def _lines(lines: Iterator[str]) -> str:
    return "\n".join(lines)


if __name__ == "__main__":
    main()
