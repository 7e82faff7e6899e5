"""Samples on the cpu backend, those of many operators in one program, so that kernels compile side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import dlc

from .registry import ADAPTERS, Unsupported
from .running import Case, case_of, catalogue, compare, samples

BATCH = 24  # operators in a program


def representative(name: str) -> Case | None:
    """The first of the operator's samples that has elements and gradients, or else any that dlc can express."""
    op, adapter, spare = catalogue()[name], ADAPTERS[name], None
    for i, sample in enumerate(samples(op)):
        if i == 12:
            break
        if (outcome := compare(op, adapter, sample)).failure or outcome.unsupported:
            continue
        try:
            case = case_of(op, adapter, sample, prefix=f"{name}_")
        except Unsupported:
            continue
        if case.inputs and all(a.size for a in (*case.arrays, *case.values)):
            spare = spare or case
            if case.gradients and max(a.ndim for a in case.arrays) > 1:
                return case
    return spare


def compared_on_cpu(names: Sequence[str]) -> Iterator[dict[str, tuple[float, bool]]]:
    """Compiles and compares, a program at a time: the greater error of each operator, and whether it is in bounds."""
    for start in range(0, len(names), BATCH):
        found = {n: c for n in names[start : start + BATCH] if (c := representative(n)) is not None}
        inputs = [i for c in found.values() for i in c.inputs]
        outputs = [o for c in found.values() for o in (*c.outputs, *c.gradients)]
        program = dlc.compile(dlc.graph(inputs, outputs), backend="cpu")
        values = iter(program(*(a for c in found.values() for a in c.arrays)))
        errors: dict[str, tuple[float, bool]] = {}
        for name, case in found.items():
            forward, backward = case.errors([next(values) for _ in (*case.outputs, *case.gradients)])
            agrees = forward <= ADAPTERS[name].forward and backward <= ADAPTERS[name].backward
            errors[name] = max(forward, backward), agrees
        yield errors
