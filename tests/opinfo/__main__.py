"""python -m tests.opinfo [--write] [--cpu] [NAME ...]: run torch's samples in dlc, and say what disagrees."""

from __future__ import annotations

import argparse
import sys
from fnmatch import fnmatchcase

from . import tables  # noqa: F401  enters the adapters
from .native import compare_on_cpu
from .registry import ADAPTERS
from .report import PAGE, page
from .running import catalogue, outcomes


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.opinfo", description=__doc__)
    parser.add_argument("names", nargs="*", help="patterns of operator names; all if left out")
    parser.add_argument("--write", action="store_true", help=f"write docs/{PAGE.name}")
    parser.add_argument("--cpu", action="store_true", help="compare one sample of each on the cpu backend instead")
    chosen = parser.parse_args()
    if chosen.write and (chosen.names or chosen.cpu):
        parser.error("--write runs everything on the reference backend")
    wanted = chosen.names or ["*"]
    names = [n for n in ADAPTERS if n in catalogue() and any(fnmatchcase(n, w) for w in wanted)]
    if chosen.cpu:
        return compare_on_cpu(names)
    found = {}
    for name in names:
        found[name] = outcomes(name, ADAPTERS[name])
        failed = [o.failure for o in found[name] if o.failure]
        unsupported = sum(bool(o.unsupported) for o in found[name])
        passed = len(found[name]) - len(failed) - unsupported
        print(f"{name}: {passed} passed, {unsupported} unsupported, {len(failed)} failed", flush=True)
        for text in sorted(set(failed)):
            print(f"    {text}")
    if chosen.write:
        PAGE.write_text(page(found), encoding="utf-8")
    return int(any(o.failure for several in found.values() for o in several))


if __name__ == "__main__":
    sys.exit(main())
