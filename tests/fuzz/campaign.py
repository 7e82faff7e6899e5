"""Many random graphs, one after the other: resumable, within a budget of time, with a report."""

from __future__ import annotations

import json
import os
import platform
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

import dlc
from dlc.ops.definition import CATALOGUE

from .author import MOST_NODES, Case, write
from .checks import Found, guarded, on_cpu, on_reference
from .shrink import as_program, shrunk

SAVED_EVERY = 20  # graphs
CPU_SEEDS = 1_000_000  # beyond the seeds of the reference, so that the graphs are others
CPU_NODES = 12  # before gradients: native code takes long to compile
UNFUSED_EVERY = 4  # graphs that are compiled unfused too


@dataclass
class Progress:
    """What a campaign has done so far; kept as JSON beside the failures it found."""

    done: int = 0
    seconds: float = 0.0
    nodes: int = 0
    forward: int = 0
    runs: int = 0
    refused: int = 0
    errors: int = 0
    elements: int = 0
    launches: int = 0
    unfused: int = 0
    sizes: dict[str, int] = field(default_factory=dict)
    ops: dict[str, int] = field(default_factory=dict)
    rejected: dict[str, int] = field(default_factory=dict)
    failures: dict[str, list[str]] = field(default_factory=dict)  # by seed

    def add(self, case: Case, found: Found, seconds: float) -> None:
        """Count one graph."""
        self.done += 1
        self.seconds += seconds
        self.nodes += len(case.graph.nodes)
        self.forward += case.forward
        self.runs += found.runs
        self.refused += found.refused
        self.errors += found.errors
        self.elements += found.elements
        self.launches += found.launches
        self.unfused += found.unfused
        for mine, more in (
            (self.ops, Counter(n.op.name for n in case.graph.nodes)),
            (self.rejected, case.rejected),
            (self.sizes, {str(case.forward // 10 * 10): 1}),
        ):
            for key, count in more.items():
                mine[key] = mine.get(key, 0) + count


def reference_case(seed: int) -> tuple[Case, Callable[[Case], Found]]:
    """The graph of a seed, and how the campaign on the reference backend checks it."""
    return write(seed, MOST_NODES), on_reference


def cpu_case(seed: int) -> tuple[Case, Callable[[Case], Found]]:
    """The graph of a seed, and how the campaign on the cpu backend checks it."""
    case = write(CPU_SEEDS + seed, CPU_NODES)
    return case, lambda c: on_cpu(c, unfused=seed % UNFUSED_EVERY == 0)


KINDS = {"reference": reference_case, "cpu": cpu_case}


class Campaign:
    """One kind of check on the graphs of seeds `first` to `first + count`."""

    def __init__(self, kind: str, first: int, count: int, folder: Path) -> None:
        self.kind, self.first, self.count = kind, first, count
        self.folder = folder
        self.file = folder / f"{kind}-{first}.json"
        self.progress = Progress(**json.loads(self.file.read_text())) if self.file.exists() else Progress()

    def run(self, until: float, say: Callable[[str], None] = print) -> None:
        """Go on until all are done, or the clock (`time.monotonic`) says `until`."""
        while self.progress.done < self.count and time.monotonic() < until:
            seed = self.first + self.progress.done
            self.one(seed, say)
            if self.progress.done % SAVED_EVERY == 0:
                self.save()
        self.save()

    def one(self, seed: int, say: Callable[[str], None]) -> None:
        """The graph of one seed; a failure is shrunk, printed and kept."""
        began = time.monotonic()
        case, found = Case(seed, dlc.graph([], [dlc.constant(0.0)]), 0), Found()
        try:
            case, check = KINDS[self.kind](seed)
        except Exception:
            found.failures.append(traceback.format_exc(limit=-5))
        else:
            found = guarded(check, case)
        self.progress.add(case, found, time.monotonic() - began)
        if found.failures:
            self.progress.failures[str(seed)] = [text[:600] for text in found.failures[:4]]
            say(f"{self.kind} seed {seed}: {found.failures[0][:600]}")
            self._keep(seed, case, found)
            self.save()

    def _keep(self, seed: int, case: Case, found: Found) -> None:
        """Write what is left of a failing case to a file of its own."""
        try:
            small = shrunk(case, lambda c: bool(guarded(KINDS[self.kind](seed)[1], c).failures))
            text = as_program(small, f"on_{self.kind}")
        except Exception:
            text = f"# seed {seed}: not shrunk\n# " + traceback.format_exc().replace("\n", "\n# ")
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / f"{self.kind}-{seed}.py").write_text(text + "\n")

    def again(self, say: Callable[[str], None] = print) -> None:
        """Check the seeds that failed once more, and forget those that no longer do."""
        for seed in list(self.progress.failures):
            case, check = KINDS[self.kind](int(seed))
            failures = guarded(check, case).failures
            say(f"{self.kind} seed {seed}: {failures[0][:400] if failures else 'mended'}")
            if not failures:
                del self.progress.failures[seed]
        self.save()

    def save(self) -> None:
        """Write the progress, in one piece."""
        self.folder.mkdir(parents=True, exist_ok=True)
        new = self.file.with_suffix(".new")
        new.write_text(json.dumps(asdict(self.progress)))
        os.replace(new, self.file)


def report(campaigns: list[Campaign]) -> str:
    """Campaigns as Markdown: seeds, versions, counts per op, refused steps, failures."""
    names = ("numpy", "numba", "llvmlite")
    versions = ", ".join([f"Python {platform.python_version()}", *(f"{n} {version(n)}" for n in names)])
    lines = [f"dlc {dlc.__version__}, {versions}; {len(CATALOGUE)} ops in the catalogue.", ""]
    for c in campaigns:
        p = c.progress
        lines += [f"### {c.kind}", "", *_summary(c), ""]
        lines += ["Failures:", ""] if p.failures else ["No failures.", ""]
        lines += [f"- seed {seed}: {texts[0].splitlines()[-1][:200]}" for seed, texts in p.failures.items()]
    lines += ["### Nodes per op", "", "| op | " + " | ".join(c.kind for c in campaigns) + " |",
              "|---|" + "---:|" * len(campaigns)]  # fmt: skip
    for op in sorted(set(CATALOGUE) | {o for c in campaigns for o in c.progress.ops}):
        lines.append(f"| {op} | " + " | ".join(f"{c.progress.ops.get(op, 0):,}" for c in campaigns) + " |")
    rejected: Counter[str] = Counter()
    for c in campaigns:
        rejected.update(c.progress.rejected)
    lines += ["", "### Steps that were not taken", "", "What was picked did not fit the op, which said so:", ""]
    lines += ["| step and error | times |", "|---|---:|", *(f"| {k} | {n:,} |" for k, n in rejected.most_common())]
    return "\n".join(lines) + "\n"


def _summary(c: Campaign) -> list[str]:
    p = c.progress
    done = max(p.done, 1)
    sizes = ", ".join(f"{k} to {int(k) + 9}: {n:,}" for k, n in sorted(p.sizes.items(), key=lambda kv: int(kv[0])))
    lines = [
        f"- {p.done:,} graphs of {c.count:,} asked for: seeds {c.first} to {c.first + p.done - 1}; "
        f"{p.seconds / 60:.0f} minutes",
        f"- nodes before gradients: {p.forward / done:.1f} on average ({sizes}); with gradients {p.nodes / done:.1f}",
        f"- {p.runs:,} runs under bindings of the named dims, {p.elements:,} elements compared; {p.errors:,} runs "
        f"raised the same error everywhere; {p.refused:,} bindings did not fit their graph",
        f"- failing seeds: {len(p.failures)}",
    ]
    if p.launches:
        lines.append(f"- {p.launches:,} steps in the plans of the fused programs")
        lines.append(f"- every {UNFUSED_EVERY}th graph was compiled unfused as well; {p.unfused:,} of those have to")
        lines.append("  give the same bits, the others sum along other axes when fused and are compared as values")
    return lines


