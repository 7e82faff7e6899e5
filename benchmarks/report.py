"""Outcomes as Markdown and as a plot."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from benchmarks.cases import COMPILED, DLC, JAX, SIDES, TORCH, Outcome
from benchmarks.ceilings import Ceilings

TITLES = {DLC: "dlc", TORCH: "PyTorch", COMPILED: "torch.compile", JAX: "JAX"}
GROUPS = {
    "steps": "Training steps",
    "gemm": "Products of square matrices",
    "oblong": "Products of other matrices",
    "rows": "Softmax and layer normalisation",
    "adam": "Adam",
    "conv": "Convolutions of ResNet-18 (CIFAR), batch 32",
}
COLOURS = {"PyTorch": "#0072B2", "JAX": "#E69F00"}  # of Okabe and Ito's palette
OUT_OF_CACHE = 64 << 20  # bytes; what moves less may stay in cache, where a copy's bandwidth is no ceiling


def sides_of(outcomes: Sequence[Outcome]) -> list[str]:
    """The sides that take part in at least one of the cases, or should have."""
    return [s for s in SIDES if any(s in o.case.sides for o in outcomes)]


def header(sides: Sequence[str]) -> str:
    """The first two lines of a group's table."""
    against = ["PyTorch / dlc"] + (["JAX / dlc"] if JAX in sides else [])
    names = ["", *(TITLES[s] for s in sides), *against]
    return f"| {' | '.join(names)} |\n|{'---|' * len(names)}"


def row(outcome: Outcome, sides: Sequence[str], ceilings: Ceilings) -> str:
    """A case as a row of its group's table."""
    cells = [outcome.case.name + " (busy)" * outcome.busy, *(_cell(outcome, s, ceilings) for s in sides)]
    ratios = [outcome.ratio(TORCH, COMPILED)] + ([outcome.ratio(JAX)] if JAX in sides else [])
    return f"| {' | '.join([*cells, *('' if r is None else f'{r:.2f}' for r in ratios)])} |"


def _cell(outcome: Outcome, side: str, ceilings: Ceilings) -> str:
    if side not in outcome.times:
        return outcome.missing.get(side, "")
    times, case = outcome.times[side], outcome.case
    parts = [f"{_microseconds(times.best)} / {_microseconds(times.median)}"]
    if case.flops:
        rate = case.flops / times.best / 1e9
        parts.append(f"{rate:.0f} GF/s {rate / ceilings.threads:.0%}")
    elif case.nbytes:
        rate = case.nbytes / times.best / 1e9
        share = f" {rate / ceilings.bandwidth:.0%}" if case.nbytes >= OUT_OF_CACHE else ""
        parts.append(f"{rate:.1f} GB/s{share}")
    parts.append(f"{outcome.errors[side]:.0e}")
    return "; ".join(parts) + (f"; {outcome.modes[side]}" if outcome.modes[side] else "")


def _microseconds(seconds: float) -> str:
    return f"{seconds * 1e6:.1f}" if seconds < 1e-4 else f"{seconds * 1e6:.0f}"


def geometric_mean(ratios: Iterable[float | None]) -> float | None:
    """Of those that are known; None if none is."""
    known = [r for r in ratios if r]
    return math.exp(sum(map(math.log, known)) / len(known)) if known else None


def summary(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """The geometric means of a group of many cases."""
    for title, sides in (("PyTorch", (TORCH, COMPILED)), ("JAX", (JAX,))):
        mean = geometric_mean(o.ratio(*sides) for o in outcomes)
        if mean is not None and len(outcomes) > 1:
            yield f"Geometric mean of {title} / dlc over {len(outcomes)} cases: {mean:.2f}"


def legend() -> str:
    """How to read a cell."""
    return (
        "A cell says: microseconds, best / median; then, where they are the matter, GFLOP/s or GB/s of the best and "
        "its share of the measured ceiling; then the relative error of the result (of a training step: of the loss "
        "after five steps) against float64; then the mode that was quickest for that library. The last columns are "
        "ratios of the best times, PyTorch's being the better of eager and compiled: above 1, dlc is faster. Of a case "
        "marked busy the ratios say little: something else took cores away, which hurts those most who wait for all "
        "their threads at every step."
    )


def markdown(outcomes: Sequence[Outcome], ceilings: Ceilings) -> str:
    """Every group's table."""
    sections = []
    for group, title in GROUPS.items():
        found = [o for o in outcomes if o.case.group == group]
        if found:
            sides = sides_of(found)
            rows = [row(o, sides, ceilings) for o in found]
            means = [f"\n{line}." for line in summary(found)]
            sections.append("\n".join([f"## {title}\n", header(sides), *rows, *means]))
    return "\n\n".join(sections)


def plot(outcomes: Sequence[Outcome], path: Path) -> None:
    """How many times quicker dlc is than each library, case by case; of large groups the geometric mean."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "dlc"  # the same picture for the same figures
    from matplotlib import pyplot

    bars = list(_bars(outcomes))[::-1]
    figure, axes = pyplot.subplots(figsize=(8, 0.9 + 0.42 * len(bars)))
    for i, (side, shift) in enumerate((("PyTorch", 0.2), ("JAX", -0.2))):
        found = [(y + shift, ratios[i]) for y, (_, ratios) in enumerate(bars) if ratios[i]]
        axes.barh([y for y, _ in found], [r - 1 for _, r in found], 0.36, left=1, color=COLOURS[side], label=side)
        for y, ratio in found:
            side_of = {"ha": "left", "xytext": (3, 0)} if ratio >= 1 else {"ha": "right", "xytext": (-3, 0)}
            text = f"{ratio:.0f}" if ratio >= 20 else f"{ratio:.2f}"
            axes.annotate(text, (ratio, y), textcoords="offset points", va="center", fontsize=7, **side_of)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.margins(x=0.12, y=0.02)
    axes.set_yticks(range(len(bars)), [name for name, _ in bars], fontsize=8)
    axes.set_xlabel("times as fast as the library, best against best (right of 1: dlc is faster)", fontsize=8)
    axes.legend(fontsize=8, frameon=False)
    for edge in ("top", "right"):
        axes.spines[edge].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else {})
    pyplot.close(figure)


def _bars(outcomes: Sequence[Outcome]) -> Iterator[tuple[str, tuple[float | None, float | None]]]:
    """(name, ratios to PyTorch and to JAX) of each case that stands alone, and of each family together."""
    families: dict[str, list[Outcome]] = {}
    for o in outcomes:
        families.setdefault(o.case.family or o.case.name, []).append(o)
    for name, found in families.items():
        ratios = geometric_mean(o.ratio(TORCH, COMPILED) for o in found), geometric_mean(o.ratio(JAX) for o in found)
        yield name + (f" (mean of {len(found)})" if len(found) > 1 else ""), ratios
