"""The pass table, docs/opinfo.md: what each command found replaces its own part, and the rest stays as it stands."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from .omitted import reason_of
from .registry import ADAPTERS, BACKWARD, FORWARD
from .running import Outcome, catalogue

PAGE = Path(__file__).resolve().parents[2] / "docs" / "opinfo.md"
UNITS = 4.0  # of the last place, within which half-precision results agree

HEAD = """# torch's operator samples, run in dlc

torch {version} has a catalogue of {total} operators with samples of their arguments (`op_db`, for its own tests).
`python -m tests.opinfo --write` runs them in both and writes this page: {names} operators have passing samples,
{passed} samples agree, {unsupported} have no form in dlc, {failed} disagree. On the cpu backend, one sample each,
{native} of {compared} operators agree.

Samples are float64 (int64 or bool where an operator takes no floats) and run on the reference backend, after all
passes. Outputs have torch's shape and dtype exactly, and agree within {forward:g}; the vector-Jacobian product with a
fixed cotangent agrees within {backward:g}. Errors are relative to the element, or to the greatest element (of an
output; for derivatives, of the sample) or 1, whichever of the two is smaller, where that is larger. Where an operator
has wider bounds, the reason stands below.

The column "cpu" has the greater error, in values and derivatives, of one sample with elements and, where there is one,
gradients, compiled by the cpu backend, many operators to a program, and compared within the same bounds
(`python -m tests.opinfo --cpu --write`). A dash there means that no sample has both operands and elements; in the
column "VJP", that nothing is differentiable. How each operator is written in dlc stands in the tables under
tests/opinfo/.
"""

HALF = """## Half precision

The first samples of each operator that torch runs in float16 and bfloat16, forward
(`python -m tests.opinfo --half --write`): of {names} operators {passed} samples agree within {units:g} units of the
last place, errors being relative as above; {failed} disagree. They are compared with torch's float32 results on the
same numbers, rounded once: torch's own half-precision kernels round at other places than dlc, which computes each op in
float32. The table has the greatest distance in units, where it is above half a unit.
"""

LEFT = "## Samples that have no form in dlc"
BLANK = "-"


@dataclass
class Row:
    """What the page says of an operator."""

    passed: int = 0
    unsupported: int = 0
    failed: int = 0
    forward: str = BLANK
    backward: str = BLANK
    native: str = BLANK
    reasons: list[str] = field(default_factory=list)


@dataclass
class Halves:
    """What the page says of an operator in half precision."""

    passed: int
    failed: int
    units: str


def row_of(outcomes: Sequence[Outcome]) -> Row:
    passed = [o for o in outcomes if not o.failure and not o.unsupported]
    backward = [o.backward for o in passed if o.backward is not None]
    counts = Counter(o.unsupported for o in outcomes if o.unsupported)
    return Row(
        len(passed),
        sum(bool(o.unsupported) for o in outcomes),
        sum(bool(o.failure) for o in outcomes),
        f"{max(o.forward for o in passed):.1e}" if passed else BLANK,
        f"{max(backward):.1e}" if backward else BLANK,
        reasons=[f"{n} for {reason}" for reason, n in sorted(counts.items())],
    )


def read() -> tuple[dict[str, Row], dict[str, Halves]]:
    """What the page has of the operators that still have an adapter."""
    rows: dict[str, Row] = {}
    halves: dict[str, Halves] = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines() if PAGE.exists() else ():
        cells = [c.strip() for c in line.strip("|").split("|")]
        name = cells[0].strip("`")
        if name in ADAPTERS and len(cells) in (6, 7):
            numbers = [int(c or 0) for c in cells[1:4]]
            rows[name] = Row(*numbers, *cells[4:6], native=cells[6] if len(cells) == 7 else BLANK)
        elif name in ADAPTERS and len(cells) == 4:
            halves[name] = Halves(int(cells[1]), int(cells[2] or 0), cells[3])
        elif (found := re.fullmatch(r"- `(.+)`: (\d+ for .+)", line)) and found[1] in rows:
            rows[found[1]].reasons.append(found[2])
    return rows, halves


def write(
    found: Mapping[str, Sequence[Outcome]] | None = None,
    native: Mapping[str, tuple[float, bool]] | None = None,
    halves: Mapping[str, Halves] | None = None,
) -> None:
    """Enter outcomes of samples, errors on the cpu backend with whether they are within bounds, and half precision."""
    rows, known = read()
    for name, outcomes in (found or {}).items():
        before = rows.get(name, Row())
        rows[name] = row_of(outcomes)
        rows[name].native = before.native
    for name, (error, agrees) in (native or {}).items():
        rows.setdefault(name, Row()).native = f"{error:.1e}" if agrees else f"disagrees: {error:.1e}"
    PAGE.write_text(page(rows, {**known, **(halves or {})}), encoding="utf-8")


def page(rows: Mapping[str, Row], halves: Mapping[str, Halves]) -> str:
    compared = [r.native for r in rows.values() if r.native != BLANK]
    head = HEAD.format(
        version=torch.__version__.partition("+")[0],
        total=len(catalogue()),
        names=sum(r.passed > 0 for r in rows.values()),
        passed=sum(r.passed for r in rows.values()),
        unsupported=sum(r.unsupported for r in rows.values()),
        failed=sum(r.failed for r in rows.values()),
        native=sum("disagrees" not in n for n in compared),
        compared=len(compared),
        forward=FORWARD,
        backward=BACKWARD,
    )
    lines = ["| operator | passed | no form | disagree | forward | VJP | cpu |", "|---|---|---|---|---|---|---|"]
    for name, r in sorted(rows.items()):
        cells = [f"`{name}`", r.passed, r.unsupported or "", r.failed or "", r.forward, r.backward, r.native]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    lines += ["", LEFT, ""]
    lines += [f"- `{name}`: {reason}" for name, r in sorted(rows.items()) for reason in r.reasons]
    return "\n".join([head, *lines, "", *half_section(halves), *reasons(), ""])


def half_section(halves: Mapping[str, Halves]) -> list[str]:
    if not halves:
        return []
    passed, failed = sum(h.passed for h in halves.values()), sum(h.failed for h in halves.values())
    lines = [HALF.format(names=len(halves), passed=passed, failed=failed, units=UNITS)]
    lines += ["| operator | passed | disagree | units |", "|---|---|---|---|"]
    lines += [f"| `{n}` | {h.passed} | {h.failed or ''} | {h.units} |" for n, h in sorted(halves.items())]
    return [*lines, ""]


def reasons() -> list[str]:
    lines = ["## Wider bounds", ""]
    for name, adapter in sorted(ADAPTERS.items()):
        if adapter.why:
            lines.append(f"- `{name}`: {adapter.forward:g} and {adapter.backward:g}; {adapter.why}")
        if adapter.forward_only:
            lines.append(f"- `{name}`: no derivatives; {adapter.forward_only}")
        if adapter.half:
            lines.append(f"- `{name}` in half precision: {adapter.half[0]:g} units; {adapter.half[1]}")
    lines += ["", "## Operators left out", ""]
    left: dict[str, list[str]] = {}
    for name in sorted(set(catalogue()) - set(ADAPTERS)):
        left.setdefault(reason_of(name) or "no reason given", []).append(f"`{name}`")
    return lines + [f"- {reason} ({len(names)}): {', '.join(names)}" for reason, names in sorted(left.items())]
