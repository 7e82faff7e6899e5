"""Samples on the cpu backend, those of many operators in one program, so that kernels compile side by side."""

from __future__ import annotations

from collections.abc import Sequence

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


def compare_on_cpu(names: Sequence[str]) -> int:
    """Compiles and compares; prints a line a program and one for each that disagrees, and returns how many do."""
    failed = total = 0
    for start in range(0, len(names), BATCH):
        found = [(n, c) for n in names[start : start + BATCH] if (c := representative(n)) is not None]
        cases = [c for _, c in found]
        inputs = [i for c in cases for i in c.inputs]
        outputs = [o for c in cases for o in (*c.outputs, *c.gradients)]
        program = dlc.compile(dlc.graph(inputs, outputs), backend="cpu")
        values = iter(program(*(a for c in cases for a in c.arrays)))
        worst = [0.0, 0.0]
        for name, case in found:
            errors = case.errors([next(values) for _ in (*case.outputs, *case.gradients)])
            bounds = ADAPTERS[name].forward, ADAPTERS[name].backward
            worst = [max(w, e) for w, e in zip(worst, errors, strict=True)]
            total += 1
            if any(not e <= b for e, b in zip(errors, bounds, strict=True)):
                failed += 1
                print(f"    {name}: forward error {errors[0]:.2g}, VJP error {errors[1]:.2g}", flush=True)
        print(f"{len(found)} operators from {found[0][0]}: {worst[0]:.1e} forward, {worst[1]:.1e} VJP", flush=True)
    print(f"{total - failed} of {total} operators agree on the cpu backend")
    return failed
