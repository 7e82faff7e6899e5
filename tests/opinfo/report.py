"""The pass table: docs/opinfo.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from .omitted import reason_of
from .registry import ADAPTERS, BACKWARD, FORWARD
from .running import Outcome, catalogue

PAGE = Path(__file__).resolve().parents[2] / "docs" / "opinfo.md"

HEAD = """# torch's operator samples, run in dlc

torch {version} has a catalogue of {total} operators with samples of their arguments (`op_db`, for its own tests).
`python -m tests.opinfo --write` runs them in both and writes this page: {names} operators have passing samples,
{passed} samples agree, {unsupported} have no form in dlc, {failed} disagree.

Samples are float64 (int64 or bool where an operator takes no floats) and run on the reference backend, after all
passes. Outputs have torch's shape and dtype exactly, and agree within {forward:g}; the vector-Jacobian product with a
fixed cotangent agrees within {backward:g}. Errors are relative to the element, or to the greatest element (of an
output; for derivatives, of the sample) or 1, whichever of the two is smaller, where that is larger. Where an operator
has wider bounds, the reason stands below. On the cpu backend one sample of each operator is compared in the same way,
many in one program (`python -m tests.opinfo --cpu`).

A dash in the last column means that nothing is differentiable. How each operator is written in dlc stands in the tables
under tests/opinfo/.
"""


def rows(found: Mapping[str, Sequence[Outcome]]) -> list[str]:
    lines = ["| operator | passed | no form | disagree | forward | VJP |", "|---|---|---|---|---|---|"]
    for name, outcomes in sorted(found.items()):
        passed = [o for o in outcomes if not o.failure and not o.unsupported]
        backward = [o.backward for o in passed if o.backward is not None]
        failed = sum(bool(o.failure) for o in outcomes)
        unsupported = sum(bool(o.unsupported) for o in outcomes)
        forward = f"{max(o.forward for o in passed):.1e}" if passed else "-"
        last = f"{max(backward):.1e}" if backward else "-"
        lines.append(f"| `{name}` | {len(passed)} | {unsupported or ''} | {failed or ''} | {forward} | {last} |")
    return lines


def reasons(found: Mapping[str, Sequence[Outcome]]) -> list[str]:
    lines = ["## Samples that have no form in dlc", ""]
    for name, outcomes in sorted(found.items()):
        counts = Counter(o.unsupported for o in outcomes if o.unsupported)
        lines += [f"- `{name}`: {n} for {reason}" for reason, n in sorted(counts.items())]
    lines += ["", "## Wider bounds", ""]
    for name, adapter in sorted(ADAPTERS.items()):
        if adapter.why:
            lines.append(f"- `{name}`: {adapter.forward:g} and {adapter.backward:g}; {adapter.why}")
        if adapter.forward_only:
            lines.append(f"- `{name}`: no derivatives; {adapter.forward_only}")
    lines += ["", "## Operators left out", ""]
    left: dict[str, list[str]] = {}
    for name in sorted(set(catalogue()) - set(ADAPTERS)):
        left.setdefault(reason_of(name) or "no reason given", []).append(f"`{name}`")
    lines += [f"- {reason} ({len(names)}): {', '.join(names)}" for reason, names in sorted(left.items())]
    return lines


def page(found: Mapping[str, Sequence[Outcome]]) -> str:
    outcomes = [o for several in found.values() for o in several]
    unsupported, failed = sum(bool(o.unsupported) for o in outcomes), sum(bool(o.failure) for o in outcomes)
    head = HEAD.format(
        version=torch.__version__.partition("+")[0],
        total=len(catalogue()),
        names=sum(any(not o.failure and not o.unsupported for o in several) for several in found.values()),
        passed=len(outcomes) - unsupported - failed,
        unsupported=unsupported,
        failed=failed,
        forward=FORWARD,
        backward=BACKWARD,
    )
    return "\n".join([head, *rows(found), "", *reasons(found), ""])
