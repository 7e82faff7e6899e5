"""python -m tests.opinfo [--cpu | --half] [--write] [NAME ...]: run torch's samples in dlc; say what disagrees."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase

from . import tables  # noqa: F401  enters the adapters
from .halves import half_outcome
from .native import compared_on_cpu
from .registry import ADAPTERS
from .report import PAGE, write
from .running import catalogue, outcomes


def on_reference(names: Sequence[str], keep: bool) -> int:
    """All samples of the operators; the number of those that disagree."""
    failures = 0
    for name in names:
        found = outcomes(name, ADAPTERS[name])
        failed = [o.failure for o in found if o.failure]
        unsupported = sum(bool(o.unsupported) for o in found)
        failures += len(failed)
        passed = len(found) - len(failed) - unsupported
        print(f"{name}: {passed} passed, {unsupported} unsupported, {len(failed)} failed", flush=True)
        for text in sorted(set(failed)):
            print(f"    {text}")
        if keep:
            write(found={name: found})
    return failures


def on_cpu(names: Sequence[str], keep: bool) -> int:
    """One sample of each on the cpu backend; a line a program and one for each that disagrees."""
    failures = total = 0
    for errors in compared_on_cpu(names):
        worst = {name: error for name, (error, agrees) in errors.items() if not agrees}
        failures, total = failures + len(worst), total + len(errors)
        for name, error in worst.items():
            print(f"    {name}: error {error:.2g}")
        print(f"{len(errors)} operators to {names[-1] if not errors else list(errors)[-1]}", flush=True)
        if keep:
            write(native=errors)
    print(f"{total - failures} of {total} operators agree on the cpu backend")
    return failures


def in_halves(names: Sequence[str], keep: bool) -> int:
    """A few samples of each in half precision."""
    failures = 0
    for name in names:
        found, failed = half_outcome(name, ADAPTERS[name])
        failures += len(failed)
        if found is not None:
            print(f"{name}: {found.passed} passed, {len(failed)} failed, {found.units or 'no'} units", flush=True)
            for text in sorted(set(failed)):
                print(f"    {text}")
            if keep:
                write(halves={name: found})
    return failures


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.opinfo", description=__doc__)
    parser.add_argument("names", nargs="*", help="patterns of operator names; all if left out")
    parser.add_argument("--write", action="store_true", help=f"enter what was found into docs/{PAGE.name}")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--cpu", action="store_true", help="compare one sample of each on the cpu backend instead")
    where.add_argument("--half", action="store_true", help="compare a few samples of each in half precision instead")
    chosen = parser.parse_args()
    wanted = chosen.names or ["*"]
    names = [n for n in ADAPTERS if n in catalogue() and any(fnmatchcase(n, w) for w in wanted)]
    run = on_cpu if chosen.cpu else in_halves if chosen.half else on_reference
    return int(run(names, chosen.write) > 0)


if __name__ == "__main__":
    sys.exit(main())
