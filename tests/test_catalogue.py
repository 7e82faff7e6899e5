"""Every op of the catalogue, by the same tests: a new op needs no test code, only samples.

Types against references, backends against the reference in float64, VJPs and their VJPs against central differences in
float64, special values, refused dtypes and the examples of the docstrings.
"""

import doctest
import inspect
import itertools
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from runnable import BACKENDS

import dlc
from dlc import ops
from dlc.dtypes import ALL, FLOATING, HALF, INTEGER, epsilon, is_floating, numpy_dtype
from dlc.errors import DlcError, DTypeError, IndexOutOfRangeError
from dlc.ir import Graph, TensorType
from dlc.ops.definition import CATALOGUE, Kind, Op, Sample
from dlc.ops.interpret import interpret
from dlc.ops.tensor import Tensor
from dlc.passes import gradients

Array = Any

WITHOUT_SAMPLES = (Kind.LEAF, Kind.ITEM, Kind.FUSED)  # no operands to sample, or made by passes only
SAMPLED = [op for op in CATALOGUE.values() if op.kind not in WITHOUT_SAMPLES]
ELEMENTWISE = [op for op in SAMPLED if op.kind is Kind.ELEMENTWISE]
# Relative to the value, or to 1 where that is larger; halves are computed in float32 and rounded once.
TOLERANCE = {"float16": epsilon("float16"), "bfloat16": epsilon("bfloat16"), "float32": 3e-5, "float64": 1e-12}


def named(items: Sequence[Any]) -> dict[str, Any]:
    return {"argvalues": items, "ids": [getattr(i, "name", None) or i for i in items]}


class Case:
    """A sample as a graph: its arrays become inputs, at `dtype` where they are floating-point."""

    def __init__(self, op: Op, sample: Sample, dtype: str | None = None, prefix: str = "x") -> None:
        self.inputs: list[Tensor] = []
        self.arrays: list[Array] = []
        self.sample, self._dtype, self._prefix = sample, dtype, prefix
        assert op.function is not None
        result = op.function(*map(self._read, sample.args), **sample.kwargs)
        self.outputs = list(flattened(result))

    def _read(self, value: Any) -> Any:
        if isinstance(value, (list, tuple)) and any(isinstance(v, (np.ndarray, np.generic)) for v in value):
            return type(value)(map(self._read, value))
        if not isinstance(value, (np.ndarray, np.generic)):
            return value
        array = np.asarray(value)
        if self._dtype is not None and array.dtype.kind == "f":
            array = array.astype(numpy_dtype(self._dtype))
        self.inputs.append(dlc.input(f"{self._prefix}{len(self.inputs)}", array.shape, array.dtype.name))
        self.arrays.append(array)
        return self.inputs[-1]

    @property
    def floating(self) -> list[int]:
        return [i for i, a in enumerate(self.arrays) if is_floating(a.dtype)]


def flattened(value: Any) -> Iterator[Tensor]:
    if isinstance(value, tuple):
        for v in value:
            yield from flattened(v)
    else:
        yield value


def cases(op: Op, dtype: str | None = None) -> list[Case]:
    return [Case(op, sample, dtype, f"s{i}_") for i, sample in enumerate(op.samples())]


def evaluated(inputs: Sequence[Tensor], outputs: Sequence[Tensor], arrays: Sequence[Array]) -> list[Array]:
    graph = Graph(tuple(t.node for t in inputs), tuple(t.node for t in outputs))
    with np.errstate(all="ignore"):
        return interpret(graph, arrays)[0]


def run(backend: str, groups: Sequence[Case]) -> list[Array]:
    """All outputs of several cases, by one program."""
    inputs = [t.node for case in groups for t in case.inputs]
    outputs = [t.node for case in groups for t in case.outputs]
    program = dlc.compile(Graph(tuple(inputs), tuple(outputs)), backend, check=False)
    return list(program(*(a for case in groups for a in case.arrays)))


# ---------------------------------------------------------------- docstrings


def public_functions() -> list[Any]:
    found = {op.function for op in SAMPLED} | {f for n, f in vars(ops).items() if inspect.isfunction(f)}
    return sorted((f for f in found if f is not None), key=lambda f: f.__name__)


@pytest.mark.parametrize("function", public_functions(), ids=lambda f: f.__name__)
def test_docstring_has_an_example_that_holds(function: Any) -> None:
    source = inspect.unwrap(function)
    if source.__name__ in ("counted_draws", "scalar", "item"):  # for authors of the frontend and of passes
        assert source.__doc__
        return
    tests = [t for t in doctest.DocTestFinder(recurse=False).find(source, source.__name__) if t.examples]
    assert tests, f"{source.__name__} has no example"
    runner = doctest.DocTestRunner()
    for test in tests:
        test.globs = dict(source.__globals__)
        runner.run(test)
    assert runner.failures == 0


# ---------------------------------------------------------------- types, references, backends


@pytest.mark.parametrize("op", **named(SAMPLED))
def test_reference_has_the_type_of_the_type_rule(op: Op) -> None:
    assert list(op.samples()), f"{op.name} has no samples"
    for dtype in (None, *FLOATING):
        if op.kind is Kind.LOOP and dtype in HALF:
            continue  # the sample's body has float32 constants, which a half carry would not stay a half with
        for case in cases(op, dtype):
            evaluated(case.inputs, case.outputs, case.arrays)  # interpret compares each value with its node's type


@cache
def expected(name: str, dtype: str) -> list[Array]:
    """The reference's values in float64, where inputs are as `dtype` holds them."""
    found: list[Array] = []
    for narrow in cases(CATALOGUE[name], dtype):
        wide = Case(CATALOGUE[name], narrow.sample, "float64")
        found += evaluated(
            wide.inputs, wide.outputs, [a.astype(b.dtype) for a, b in zip(narrow.arrays, wide.arrays, strict=True)]
        )
    return found


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("op", **named(SAMPLED))
@pytest.mark.parametrize("backend", BACKENDS)
def test_backend_agrees_with_the_reference_in_float64(backend: str, op: Op, dtype: str) -> None:
    groups = cases(op, dtype)
    if dtype != "float32" and not any(case.floating for case in groups):
        return  # nothing changes with the dtype
    for got, want in zip(run(backend, groups), expected(op.name, dtype), strict=True):
        check_close(got, want)


def check_close(got: Array, want: Array) -> None:
    if not is_floating(got.dtype):
        np.testing.assert_array_equal(got, want)
        return
    tolerance = TOLERANCE[got.dtype.name]
    wide = got.astype(np.float64)
    np.testing.assert_allclose(wide, want, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("kind", sorted({op.kind for op in SAMPLED} - {Kind.ELEMENTWISE, Kind.LOOP}))
@pytest.mark.parametrize("backend", BACKENDS)
def test_halves_agree_with_the_reference_in_float64(backend: str, kind: Kind) -> None:
    """One program a kind; elementwise ops have all dtypes among their special values."""
    members = [op for op in SAMPLED if op.kind is kind]
    groups, wanted = [], []
    for i, (op, dtype) in enumerate(itertools.product(members, HALF)):
        sample = next(iter(op.samples()))
        narrow = Case(op, sample, dtype, f"s{i}_")
        wide = Case(op, sample, "float64")
        if not narrow.floating:
            continue
        groups.append(narrow)
        arrays = [a.astype(b.dtype) for a, b in zip(narrow.arrays, wide.arrays, strict=True)]
        wanted += evaluated(wide.inputs, wide.outputs, arrays)
    assert groups
    for got, want in zip(run(backend, groups), wanted, strict=True):
        assert got.dtype.name in (*HALF, "int64", "bool")
        check_close(got, want)


# ---------------------------------------------------------------- derivatives


def slopes(values: Any, arrays: Sequence[Array], at: Sequence[int], directions: Sequence[Array]) -> Iterator[float]:
    """Central differences of ``values(arrays)`` along `directions` of the arrays numbered `at`, by smaller and smaller
    steps; each is of fourth order, from two steps, the second half of the first (L. F. Richardson, 1911).
    """

    def central(step: float) -> float:
        up, down = list(arrays), list(arrays)
        for i, d in zip(at, directions, strict=True):
            up[i], down[i] = up[i] + step * d, down[i] - step * d
        return (float(values(up)) - float(values(down))) / (2 * step)

    for step in (1e-3, 1e-4, 1e-5):
        yield (4 * central(step / 2) - central(step)) / 3


def weighted(tensors: Sequence[Tensor], rng: np.random.Generator) -> Tensor:
    """A 0-d tensor that depends on every element of the floating-point ones of some tensors."""
    floating = [t for t in tensors if t.dtype in FLOATING]
    weights = [dlc.constant(rng.uniform(0.5, 1.5, t.shape).astype("f"), t.dtype) for t in floating]
    parts = [(t * w).sum() for t, w in zip(floating, weights, strict=True)]
    return sum(parts[1:], start=parts[0])


def check_gradient(inputs: Sequence[Tensor], arrays: Sequence[Array], at: Sequence[int], loss: Tensor) -> list[Tensor]:
    rng = np.random.default_rng(0)
    found = gradients([loss], [inputs[i] for i in at])
    values = evaluated(inputs, found, arrays)
    for _ in range(3):
        directions = [rng.standard_normal(arrays[i].shape) for i in at]
        slope = sum(float((g * d).sum()) for g, d in zip(values, directions, strict=True))
        tried = slopes(lambda a: evaluated(inputs, [loss], a)[0], arrays, at, directions)
        assert any(abs(slope - n) <= 1e-5 * max(abs(slope), abs(n)) for n in tried), slope  # relative, of any size
    return found


DIFFERENTIABLE = [op for op in SAMPLED if op.vjp is not None and any(s.gradient for s in op.samples())]


@pytest.mark.parametrize("op", **named(DIFFERENTIABLE))
def test_first_and_second_derivatives_agree_with_central_differences(op: Op) -> None:
    for case in cases(op, "float64"):
        if not case.sample.gradient or not case.floating:
            continue
        rng = np.random.default_rng(1)
        loss = weighted(case.outputs, rng)
        found = check_gradient(case.inputs, case.arrays, case.floating, loss)
        check_gradient(case.inputs, case.arrays, case.floating, weighted(found, rng))


def gradient_case(case: Case) -> Case:
    """A case whose outputs are the gradients of a weighted sum of its outputs."""
    loss = weighted(case.outputs, np.random.default_rng(1))
    case.outputs = gradients([loss], [case.inputs[i] for i in case.floating])
    return case


@pytest.mark.parametrize("backend", [b for b in BACKENDS if b != "reference"])
@pytest.mark.parametrize("op", **named(DIFFERENTIABLE))
def test_backend_agrees_on_gradients(op: Op, backend: str) -> None:
    samples = [s for s in op.samples() if s.gradient and Case(op, s).floating]
    narrow = [gradient_case(Case(op, s, "float32", f"s{i}_")) for i, s in enumerate(samples)]
    wide = [gradient_case(Case(op, s, "float64", f"s{i}_")) for i, s in enumerate(samples)]
    want = [v for case in wide for v in evaluated(case.inputs, case.outputs, case.arrays)]
    for got, expected_value in zip(run(backend, narrow), want, strict=True):
        np.testing.assert_allclose(got, expected_value, rtol=1e-4, atol=1e-4)


def test_every_floating_op_has_a_gradient_or_says_that_it_has_none() -> None:
    """An op may lack a VJP only if its results are not floating-point."""
    for op in SAMPLED:
        floating = any(t.dtype in FLOATING for case in cases(op) for t in case.outputs)
        assert op.vjp is not None or not floating, f"{op.name} has no VJP"


# ---------------------------------------------------------------- elementwise: special values and refused dtypes


def operand_types(op: Op) -> Iterator[tuple[str, ...]]:
    """The operand dtypes that an elementwise op takes, of one dtype each (`where` has a condition besides)."""
    count = len(next(iter(op.samples())).args)
    for dtype in ALL:
        dtypes = ("bool", dtype, dtype) if op.name == "where" else (dtype,) * count
        try:
            op.infer(*(TensorType(d) for d in dtypes), **next(iter(op.samples())).kwargs)
        except DTypeError:
            continue
        yield dtypes


def special_values(dtype: str, op: Op) -> Array:
    if dtype == "bool":
        return np.array([False, True])
    if dtype in INTEGER:
        info = np.iinfo(dtype)
        return np.array([0, 1, 2, 3, 100, info.max, info.max - 1, info.min, info.min + 1], dtype)
    info = ml_dtypes.finfo(dtype)
    large = 100.0 if op.name in ("sin", "cos") else float(info.max)
    values = [
        0.0,
        -0.0,
        np.nan,
        np.inf,
        -np.inf,
        1.0,
        -1.0,
        0.5,
        2.0,
        -3.0,
        1e-3,
        -1e-3,
        large,
        -large,
        float(info.tiny),
    ]
    return np.array(values, numpy_dtype(dtype))


def special_case(op: Op, dtypes: Sequence[str], prefix: str) -> Case:
    rows = [special_values(d, op) for d in dtypes]
    grid = np.array(list(itertools.product(*(range(len(r)) for r in rows)))).T
    operands = [np.ascontiguousarray(r[i]) for r, i in zip(rows, grid, strict=True)]
    return Case(op, Sample(tuple(operands), next(iter(op.samples())).kwargs), prefix=prefix)


@pytest.mark.parametrize("backend", [b for b in BACKENDS if b != "reference"])
@pytest.mark.parametrize("op", **named(ELEMENTWISE))
def test_special_values_of_elementwise_ops(op: Op, backend: str) -> None:
    groups = [special_case(op, dtypes, f"d{i}_") for i, dtypes in enumerate(operand_types(op))]
    for case, got in zip(groups, run(backend, groups), strict=True):
        (want,) = evaluated(case.inputs, case.outputs, case.arrays)
        assert got.dtype == want.dtype
        if not is_floating(got.dtype):
            np.testing.assert_array_equal(got, want, err_msg=str([a.dtype.name for a in case.arrays]))
            continue
        tolerance = TOLERANCE[got.dtype.name]
        least = float(ml_dtypes.finfo(got.dtype).tiny)
        got, want = (a.astype(np.float64) for a in (got, want))
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=least, equal_nan=True)
        zeros = (want == 0) & (got == 0)
        if op.name not in ("maximum", "minimum"):  # which of two zeros wins is left open there
            np.testing.assert_array_equal(np.signbit(got[zeros]), np.signbit(want[zeros]))


@pytest.mark.parametrize("op", **named(ELEMENTWISE))
def test_other_dtypes_are_refused_by_name(op: Op) -> None:
    accepted = set(operand_types(op))
    assert accepted
    count = len(next(iter(op.samples())).args)
    for dtype in ALL:
        dtypes = ("bool", dtype, dtype) if op.name == "where" else (dtype,) * count
        if dtypes in accepted:
            continue
        inputs = [dlc.input(f"x{i}", (2,), d) for i, d in enumerate(dtypes)]
        assert op.function is not None
        with pytest.raises(DTypeError, match=op.name):
            op.function(*inputs, **next(iter(op.samples())).kwargs)


# ---------------------------------------------------------------- ops that can fail while running


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("op", **named([op for op in SAMPLED if op.can_fail]))
def test_an_index_out_of_range_is_reported(op: Op, backend: str) -> None:
    for case in cases(op):
        indices = next(i for i, a in enumerate(case.arrays) if a.dtype.kind in "iu")
        if not case.arrays[indices].size:
            continue
        program = dlc.compile(Graph(tuple(t.node for t in case.inputs), tuple(t.node for t in case.outputs)), backend)
        program(*case.arrays)
        wrong = (
            [200] if case.arrays[indices].dtype.kind == "u" else [200 if case.arrays[indices].itemsize > 1 else 100, -1]
        )
        for index in wrong:
            bad = [a.copy() for a in case.arrays]
            bad[indices].flat[-1] = index
            with pytest.raises(IndexOutOfRangeError, match=str(index)):
                program(*bad)
        program(*case.arrays)  # and the program works on


def test_a_reference_that_raises_names_the_line() -> None:
    index = dlc.input("index", (), "int32")
    picked = dlc.take([1.0, 2.0], index)
    with pytest.raises(DlcError, match=r"test_catalogue\.py:\d+"):
        dlc.compile(dlc.graph([index], [picked]), "reference")(np.int32(2))
