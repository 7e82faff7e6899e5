"""One sample in torch and in dlc: values, derivatives, and how far they are apart."""

from __future__ import annotations

import contextlib
import traceback
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import torch
from torch.testing._internal.common_methods_invocations import op_db

import dlc
from dlc.dtypes import ALL, numpy_dtype
from dlc.errors import DlcError
from dlc.ops.tensor import Tensor, wrap

from .registry import VALUES, Adapter, Unsupported

Array = np.ndarray[Any, Any]

NOT_OF_VALUES = ("device", "layout", "pin_memory", "memory_format", "requires_grad")  # where and how torch stores


@cache
def catalogue() -> dict[str, Any]:
    """torch's operators by name, or name/variant."""
    return {o.name + (f"/{o.variant_test_name}" if o.variant_test_name else ""): o for o in op_db}


def samples(op: Any) -> Iterator[Any]:
    """torch's samples in float64; in int64 or bool where the operator takes no floats."""
    known = op.supported_dtypes("cpu")
    dtype = next((d for d in (torch.float64, torch.int64, torch.bool) if d in known), None)
    if dtype is None:  # for another device
        return
    torch.manual_seed(0)
    np.random.seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield from op.sample_inputs("cpu", dtype, requires_grad=op.supports_autograd and dtype.is_floating_point)


def dtype_of(found: torch.dtype) -> str:
    name = str(found).removeprefix("torch.")
    if name not in ALL:
        raise Unsupported(f"dtype {name}")
    return name


class Reader:
    """Reads a sample's arguments: tensors become inputs, the rest plain Python."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.inputs: list[Tensor] = []
        self.arrays: list[Array] = []
        self.tensors: list[torch.Tensor] = []

    def __call__(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return self._tensor(value)
        if isinstance(value, torch.dtype):
            return dtype_of(value)
        if isinstance(value, (list, tuple)):
            return type(value)(map(self, value)) if type(value) in (list, tuple) else tuple(map(self, value))
        if isinstance(value, slice):
            return slice(self(value.start), self(value.stop), self(value.step))
        if isinstance(value, complex):
            raise Unsupported("complex numbers")
        return value

    def _tensor(self, value: torch.Tensor) -> Tensor:
        for known, found in zip(self.tensors, self.inputs, strict=True):
            if known is value:
                return found
        if value.layout is not torch.strided:
            raise Unsupported("a sparse tensor")
        found = dlc.input(f"{self.prefix}{len(self.inputs)}", tuple(value.shape), dtype_of(value.dtype))
        self.tensors.append(value)
        self.inputs.append(found)
        self.arrays.append(array_of(value))
        VALUES[found.node] = self.arrays[-1]
        return found


def flattened(value: Any) -> list[Any]:
    if isinstance(value, (list, tuple)):
        return [v for item in value for v in flattened(item)]
    return [value]


@dataclass
class Case:
    """A sample as outputs and gradients of dlc's graph, beside torch's values of them."""

    inputs: list[Tensor]
    arrays: list[Array]
    outputs: list[Tensor]
    values: list[Array]
    gradients: list[Tensor] = field(default_factory=list)
    slopes: list[Array] = field(default_factory=list)

    def errors(self, found: Sequence[Array]) -> tuple[float, float]:
        """How far the values of outputs and gradients are from torch's."""
        wanted = [*self.values, *self.slopes]
        n = len(self.values)
        # derivatives that cancel to nothing are measured by the values that they are made of
        size = max([1e-300, *(greatest(w) for w in wanted)])
        distances = [
            distance(f, w, greatest(w) if i < n else size) for i, (f, w) in enumerate(zip(found, wanted, strict=True))
        ]
        return max(distances[:n], default=0.0), max(distances[n:], default=0.0)


def greatest(array: Array) -> float:
    """The size of the greatest finite element."""
    return float(np.abs(array[np.isfinite(array)]).max(initial=0.0)) if array.dtype.kind == "f" else 0.0


def distance(found: Array, wanted: Array, size: float) -> float:
    """The greatest error, relative to the value, or to `size` (at most 1) where that is larger."""
    if found.shape != wanted.shape or found.dtype != wanted.dtype:
        raise AssertionError(f"{found.dtype}{list(found.shape)} instead of {wanted.dtype}{list(wanted.shape)}")
    if wanted.size == 0:
        return 0.0
    if wanted.dtype.kind != "f":
        return 0.0 if np.array_equal(found, wanted) else np.inf
    if not np.array_equal(np.isnan(found), np.isnan(wanted)):
        return np.inf
    finite = np.isfinite(wanted)
    if not np.array_equal(found[~finite], wanted[~finite], equal_nan=True):
        return np.inf
    found, wanted = found[finite].astype(np.float64), np.abs(w := wanted[finite].astype(np.float64))
    if wanted.size == 0:
        return 0.0
    floor = min(1.0, size) or 1.0
    worst = (np.abs(found - w) / np.maximum(wanted, floor)).max()
    return float(worst) if np.isfinite(worst) else np.inf


def case_of(op: Any, adapter: Adapter, sample: Any, prefix: str = "x") -> Case:
    """Runs the sample in torch and writes it in dlc. Raises `Unsupported` where dlc has no form of it."""
    VALUES.clear()
    read = Reader(prefix)
    kwargs = {k: read(v) for k, v in sample.kwargs.items() if k not in NOT_OF_VALUES}
    args = [read(sample.input), *map(read, sample.args)]
    outputs = [wrap(v) for v in flattened(adapter.function(*args, **kwargs))]
    expected = [torch.as_tensor(v) for v in flattened(_run(op, sample))]
    if len(outputs) != len(expected):
        raise AssertionError(f"{len(outputs)} outputs instead of {len(expected)}")
    case = Case(read.inputs, read.arrays, outputs, [_values(v) for v in expected])
    if not adapter.forward_only:
        _differentiate(case, read.tensors, expected)
    return case


def _run(op: Any, sample: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return op.op(sample.input, *sample.args, **sample.kwargs)


def _values(value: torch.Tensor) -> Array:
    dtype_of(value.dtype)
    return array_of(value)


def array_of(value: torch.Tensor) -> Array:
    plain = value.detach().resolve_conj().resolve_neg()
    if plain.dtype == torch.bfloat16:  # which NumPy has not
        return plain.contiguous().view(torch.int16).numpy().view(numpy_dtype("bfloat16"))
    return plain.numpy(force=True)


def _differentiate(case: Case, tensors: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]) -> None:
    wanted = [i for i, t in enumerate(tensors) if t.requires_grad]
    chosen = [i for i, e in enumerate(expected) if e.requires_grad]
    if not wanted or not chosen:
        return
    rng = np.random.default_rng(0)
    cotangents = [rng.uniform(-1, 1, tuple(expected[i].shape)) for i in chosen]
    cotangents = [np.asarray(c, case.values[i].dtype) for c, i in zip(cotangents, chosen, strict=True)]
    slopes = torch.autograd.grad(
        [expected[i] for i in chosen],
        [tensors[i] for i in wanted],
        [torch.from_numpy(c) for c in cotangents],
        allow_unused=True,
    )
    # a gradient that torch leaves undefined is zero
    found = [torch.zeros_like(tensors[i]) if s is None else s for i, s in zip(wanted, slopes, strict=True)]
    case.slopes = [_values(s) for s in found]
    total: Any = 0.0
    for i, c in zip(chosen, cotangents, strict=True):
        total = total + dlc.sum(case.outputs[i] * dlc.constant(c))
    case.gradients = list(dlc.grad(total, [case.inputs[i] for i in wanted]))


@dataclass
class Outcome:
    """What became of one sample: errors, the reason it has no form in dlc, or what went wrong."""

    forward: float = 0.0
    backward: float | None = None
    unsupported: str = ""
    failure: str = ""


def compare(op: Any, adapter: Adapter, sample: Any, backend: str = "reference") -> Outcome:
    """One sample on one backend."""
    try:
        case = case_of(op, adapter, sample)
        program = dlc.compile(dlc.graph(case.inputs, [*case.outputs, *case.gradients]), backend=backend)
        forward, backward = case.errors(program(*case.arrays))
    except Unsupported as reason:
        return Outcome(unsupported=str(reason))
    except (DlcError, AssertionError, TypeError, ValueError, AttributeError, KeyError, NotImplementedError, IndexError,
            ZeroDivisionError, RuntimeError) as error:  # fmt: skip
        last = traceback.extract_tb(error.__traceback__)[-1]
        return Outcome(failure=f"{type(error).__name__}: {error}".splitlines()[0][:300] + f" ({last.name})")
    found = Outcome(forward, backward if case.slopes else None)
    if not forward <= adapter.forward:
        found.failure = f"forward error {forward:.2g}"
    elif not backward <= adapter.backward:
        found.failure = f"VJP error {backward:.2g}"
    return found


def outcomes(name: str, adapter: Adapter, limit: int | None = None) -> list[Outcome]:
    """What became of every sample of the operator."""
    op = catalogue()[name]
    found = []
    with contextlib.suppress(StopIteration):
        for i, sample in enumerate(samples(op)):
            if limit is not None and i == limit:
                break
            found.append(compare(op, adapter, sample))
    return found
