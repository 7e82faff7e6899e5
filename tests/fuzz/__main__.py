"""Campaigns from the command line.

python -m tests.fuzz --reference 20000 --cpu 2000 --seed 0      go on where the folder's files say
python -m tests.fuzz --reference 500 --minutes 5                stop after five minutes
python -m tests.fuzz --show cpu 17                              print the graph of a seed, and what fails
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from .campaign import KINDS, Campaign, report
from .checks import guarded

HEADING = "## The last campaigns\n"  # in a report: what stands above is kept


def main(argv: list[str] | None = None) -> int:
    """Run what the arguments ask for; 1 where a graph failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--reference", type=int, default=0, metavar="N", help="graphs on the reference backend")
    parser.add_argument("--cpu", type=int, default=0, metavar="M", help="graphs on the cpu backend")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after so long, to be resumed")
    parser.add_argument("--folder", type=Path, default=Path(".fuzz"), help="where progress and failures are kept")
    parser.add_argument("--report", type=Path, help="write the report to this file, below its own text")
    parser.add_argument("--again", action="store_true", help="check the seeds that failed once more, and no others")
    parser.add_argument("--show", nargs=2, metavar=("KIND", "SEED"), help="print one graph and what fails")
    args = parser.parse_args(argv)
    if args.show:
        case, check = KINDS[args.show[0]](int(args.show[1]))
        print(case.graph)
        failures = guarded(check, case).failures
        print(*failures, sep="\n")
        return int(bool(failures))
    until = time.monotonic() + 60 * args.minutes
    campaigns = []
    for kind in KINDS:
        if count := getattr(args, kind):
            campaigns.append(Campaign(kind, args.seed, count, args.folder))
            if args.again:
                campaigns[-1].again()
            else:
                campaigns[-1].run(until)
    text = report(campaigns)
    if args.report:
        before = args.report.read_text().partition(HEADING)[0] if args.report.exists() else ""
        args.report.write_text(f"{before}{HEADING}\n{text}")
    else:
        print(text)
    return int(any(c.progress.failures for c in campaigns))


if __name__ == "__main__":
    sys.exit(main())
