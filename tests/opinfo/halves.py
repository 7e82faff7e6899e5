"""Samples in float16 and bfloat16, forward, against torch's float32 results on the same numbers, rounded once."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

import dlc
from dlc.dtypes import HALF, epsilon
from dlc.errors import DlcError
from dlc.ops.tensor import wrap

from .registry import VALUES, Adapter, Unsupported
from .report import UNITS, Halves
from .running import NOT_OF_VALUES, Array, Reader, array_of, catalogue, distance, flattened, greatest

SAMPLES = 3  # of each operator and dtype
CHOICES = ("cummax", "cummin", "sort", "argsort", "topk", "kthvalue", "max", "min")  # of equal elements


def half_samples(op: Any, dtype: torch.dtype) -> Iterator[Any]:
    """The first few samples that have elements."""
    torch.manual_seed(0)
    np.random.seed(0)
    taken = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for sample in op.sample_inputs("cpu", dtype, requires_grad=False):
            given = flattened([sample.input, *sample.args, *sample.kwargs.values()])
            tensors = [t for t in given if isinstance(t, torch.Tensor)]
            if tensors and all(t.numel() for t in tensors) and any(t.dtype == dtype for t in tensors):
                yield sample
                if (taken := taken + 1) == SAMPLES:
                    return


def widened(value: Any) -> Any:
    """Half-precision tensors as float32."""
    if isinstance(value, torch.Tensor):
        return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value
    if isinstance(value, (list, tuple)) and not isinstance(value, torch.Size):
        return type(value)(map(widened, value)) if type(value) in (list, tuple) else tuple(map(widened, value))
    return value


def expected(op: Any, sample: Any) -> list[Array]:
    """torch's results in the dtypes of its half-precision run, and with the values of its float32 run."""
    own = [torch.as_tensor(v) for v in flattened(op.op(sample.input, *sample.args, **sample.kwargs))]
    kwargs = {k: widened(v) for k, v in sample.kwargs.items()}
    try:
        wide = [torch.as_tensor(v) for v in flattened(op.op(widened(sample.input), *widened(sample.args), **kwargs))]
    except RuntimeError:  # an argument names the half-precision dtype
        wide = own
    return [array_of(w.to(o.dtype)) for o, w in zip(own, wide, strict=True)]


def distance_of(op: Any, adapter: Adapter, sample: Any) -> float:
    """How many units of the last place of the result's dtype dlc's results are from torch's."""
    VALUES.clear()
    read = Reader("x")
    kwargs = {k: read(v) for k, v in sample.kwargs.items() if k not in NOT_OF_VALUES}
    args = [read(sample.input), *map(read, sample.args)]
    outputs = [wrap(v) for v in flattened(adapter.function(*args, **kwargs))]
    wanted = expected(op, sample)
    if len(outputs) != len(wanted):
        raise AssertionError(f"{len(outputs)} outputs instead of {len(wanted)}")
    found = dlc.compile(dlc.graph(read.inputs, outputs), backend="reference")(*read.arrays)
    worst = 0.0
    places_differ = op.name in CHOICES
    for f, w in zip(found, wanted, strict=True):
        if places_differ and w.dtype.kind == "i":  # in so few digits elements are often equal
            continue
        if f.shape != w.shape or f.dtype != w.dtype:
            raise AssertionError(f"{f.dtype}{list(f.shape)} instead of {w.dtype}{list(w.shape)}")
        half = f.dtype.name in HALF
        unit = epsilon(f.dtype.name) if half else 1e-5 / UNITS  # of another dtype: within 1e-5
        with np.errstate(over="ignore"):
            f, w = (a.astype(np.float32) if half else a for a in (f, w))
        worst = max(worst, distance(f, w, greatest(w)) / unit)
    return worst


def half_outcome(name: str, adapter: Adapter) -> tuple[Halves | None, list[str]]:
    """What became of an operator's samples, or None where torch or dlc has none; and what went wrong."""
    op, worst, passed, failures = catalogue()[name], 0.0, 0, []
    bound = adapter.half[0] if adapter.half else UNITS
    for dtype in (torch.float16, torch.bfloat16):
        if dtype not in op.supported_dtypes("cpu"):
            continue
        for sample in half_samples(op, dtype):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    units = distance_of(op, adapter, sample)
                except Unsupported:
                    continue
                except (DlcError, AssertionError, TypeError, ValueError, RuntimeError) as error:
                    failures.append(f"{dtype}: {type(error).__name__}: {error}".splitlines()[0][:200])
                    continue
            if units <= bound:
                passed, worst = passed + 1, max(worst, units)
            else:
                failures.append(f"{dtype}: {units:.3g} units")
    if not passed and not failures:
        return None, []
    return Halves(passed, len(failures), f"{worst:.1f}" if worst > 0.5 else ""), failures
