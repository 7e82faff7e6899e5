"""Square brackets against NumPy's; setting and adding by index; refusals; repeats and running log-sums."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runnable import BACKENDS

import dlc
from dlc.errors import DlcError, IndexOutOfRangeError
from dlc.testing import check_grad

Array = Any
X = np.arange(2 * 3 * 4 * 5, dtype=np.float64).reshape(2, 3, 4, 5)
ROWS, COLUMNS = np.array([1, -1, 0]), np.array([[2], [-3]])

INDICES: dict[str, Any] = {
    "list": [1, 0, -1],
    "matrix": np.array([[0, 1], [1, 1]], np.uint8),
    "in the middle": (slice(None), ROWS),
    "last": (..., ROWS),
    "two neighbours": (slice(None), ROWS, COLUMNS),
    "two apart": (ROWS % 2, slice(None), ROWS),
    "apart by a new axis": (0, ROWS, None, ROWS),
    "new axes around": (None, slice(1, None), None, ROWS, None, ..., None),
    "an int beside": (1, ROWS),
    "an int apart": (1, slice(None), ROWS),
    "all axes": (ROWS % 2, COLUMNS % 3, 1, ROWS),
    "slices backwards": (slice(None, None, -1), ROWS, slice(None, 0, -2), slice(None, None, -3)),
    "none at all": ([], slice(1, 3)),
    "empty beside": (slice(None), [], np.zeros((2, 0), int)),
    "plain": (1, slice(None, None, -2), None, ..., -1),
    "a scalar array": (np.array(1), np.int64(-1)),
}


@pytest.mark.parametrize("index", INDICES.values(), ids=INDICES)
def test_known_indices_read_what_numpy_reads(index: Any) -> None:
    np.testing.assert_array_equal(dlc.evaluate(dlc.constant(X)[index]), X[index], strict=True)


def parts(index: Any) -> list[Any]:
    return list(index) if isinstance(index, tuple) else [index]


def as_inputs(index: Any) -> tuple[Any, list[Any], list[Array]]:
    """An index whose arrays are inputs, and these."""
    inputs: list[Any] = []
    data: list[Array] = []
    found: list[Any] = []
    for p in parts(index):
        if isinstance(p, (list, np.ndarray)):
            data.append(np.asarray(p) if np.size(p) else np.asarray(p, int))
            inputs.append(dlc.input(f"i{len(data)}", data[-1].shape, data[-1].dtype.name))
            p = inputs[-1]
        found.append(p)
    return tuple(found), inputs, data


WITH_ARRAYS = [n for n, i in INDICES.items() if any(isinstance(p, (list, np.ndarray)) for p in parts(i))]


@pytest.mark.parametrize("backend", BACKENDS)
def test_computed_indices_read_what_numpy_reads(backend: str) -> None:
    """In one program, with the axes of x named."""
    x = dlc.input("x", tuple("ABCD"), "float64")
    outputs, inputs, data = [], [x], [X]
    names = [n for n in WITH_ARRAYS if backend == "reference" or n in ("two apart", "new axes around", "an int beside")]
    for name in names:
        index, more, arrays = as_inputs(INDICES[name])
        for i, t in enumerate(more):
            more[i] = dlc.input(f"{name} {i}", t.shape, t.dtype)
        replaced = iter(more)
        index = tuple(next(replaced) if isinstance(p, dlc.Tensor) else p for p in index)
        inputs += more
        data += arrays
        outputs.append(x[index])
    for name, got in zip(names, dlc.compile(dlc.graph(inputs, outputs), backend)(*data), strict=True):
        np.testing.assert_array_equal(got, X[INDICES[name]], strict=True, err_msg=name)


@pytest.mark.parametrize("name", ["two neighbours", "two apart", "an int beside", "slices backwards"])
def test_gradients(name: str) -> None:
    x = dlc.input("x", X.shape, "float64")
    y = x[INDICES[name]]
    check_grad(dlc.graph([x], [(y * y).sum()]), [X / 100], directions=2)


@st.composite
def indices(draw: st.DrawFn) -> tuple[Any, ...]:
    """An index of x with arrays that broadcast, ints, slices and new axes."""
    shapes = st.sampled_from([(2,), (3, 1), (1, 2), (3, 2), (1,)])
    found: list[Any] = []
    for d in X.shape[: draw(st.integers(0, 4))]:
        kind = draw(st.sampled_from(["array", "slice", "int", "none"]))
        if kind == "none":
            found.append(None)
        if kind == "int":
            found.append(draw(st.integers(-d, d - 1)))
        elif kind == "slice":
            bound = st.none() | st.integers(-d - 1, d + 1)
            found.append(slice(draw(bound), draw(bound), draw(st.sampled_from([None, 1, 2, -1, -3]))))
        else:
            shape = draw(shapes)
            size = int(np.prod(shape))
            values = draw(st.lists(st.integers(-d, d - 1), min_size=size, max_size=size))
            found.append(np.array(values).reshape(shape))
    if draw(st.booleans()):
        found.append(...)
    return tuple(found)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(indices())
def test_any_index_reads_and_sets_as_numpy_does(index: tuple[Any, ...]) -> None:
    want = X[index]
    computed, inputs, data = as_inputs(index)
    x = dlc.input("x", X.shape, "float64")
    values = np.arange(want.size, dtype=np.float64).reshape(want.shape) + 1000
    t = dlc.constant(X)
    outputs = [x[computed], t[index], dlc.index_update(x, computed, values), dlc.index_update(x, index, 2.5, "add")]
    read, known, put, added = dlc.compile(dlc.graph([x, *inputs], outputs), "reference")(X, *data)
    np.testing.assert_array_equal(read, want, strict=True)
    np.testing.assert_array_equal(known, want, strict=True)
    expected = X.copy()
    expected[index] = values
    np.testing.assert_array_equal(put, expected)
    expected = X.copy()
    np.add.at(expected, index, 2.5)
    np.testing.assert_array_equal(added, expected)


def test_gradients_of_setting() -> None:
    x, v = dlc.input("x", (4, 3), "float64"), dlc.input("v", (2, 3), "float64")
    index = [2, 0]
    y = dlc.index_update(x, index, v)
    z = dlc.index_update(x, index, v, "add")
    data = list(np.random.default_rng(0).standard_normal(12 + 6))
    arrays = [np.array(data[:12]).reshape(4, 3), np.array(data[12:]).reshape(2, 3)]
    check_grad(dlc.graph([x, v], [(y * y).sum() + (z * z * z).sum()]), arrays, directions=2)


REDUCTIONS = {"mul": np.multiply, "min": np.minimum, "max": np.maximum}


@pytest.mark.parametrize("backend", BACKENDS)
def test_reductions_of_equal_places_are_numpys(backend: str) -> None:
    rng = np.random.default_rng(3)
    rows, columns = rng.integers(0, 4, 9), rng.integers(0, 3, (9, 5))
    a, b = rng.standard_normal((4, 5)), rng.standard_normal((9, 5))
    b[2, 1] = b[3, 1] = b[5, 0] = 0.0
    b[1, 2] = np.nan
    whole = rng.integers(-9, 9, (9, 5))
    x, v, i = dlc.input("x", a.shape, "float64"), dlc.input("v", b.shape, "float64"), dlc.input("i", (9,), "int64")
    n = dlc.input("n", whole.shape, "int64")
    some = dlc.full((4, 5), 2, "int64")
    outputs, wanted = [], []
    for name, ufunc in REDUCTIONS.items():
        outputs += [dlc.index_update(x, i, v, name), dlc.put_along_axis(x, columns, v, 0, name)]
        for index in (rows, (columns, np.arange(5))):
            wanted.append(a.copy())
            ufunc.at(wanted[-1], index, b)
        outputs.append(dlc.scatter_nd(some, i[:, None], n, name))
        wanted.append(np.full((4, 5), 2))
        ufunc.at(wanted[-1], rows, whole)
    found = dlc.compile(dlc.graph([x, v, i, n], outputs), backend)(a, b, rows, whole)
    for f, w in zip(found, wanted, strict=True):
        np.testing.assert_allclose(f, w, 1e-14, strict=True)


def test_gradients_of_reductions_are_exact_at_zeros() -> None:
    a, b = np.array([2.0, 3.0, 0.0]), np.array([0.5, 0.0, -2.0, 4.0, 0.0])
    x, v = dlc.input("x", (3,), "float64"), dlc.input("v", (5,), "float64")
    for name in REDUCTIONS:
        y = dlc.index_update(x, [1, 0, 1, 2, 0], v, name)
        check_grad(dlc.graph([x, v], [y]), [a, b if name == "mul" else b + np.arange(5) / 10], directions=2)
    gx, gv = dlc.grad(dlc.sum(dlc.index_update(x, [1, 0, 1, 2, 0], v, "mul")), [x, v])
    found = dlc.compile(dlc.graph([x, v], [gx, gv]), "reference")(a, b)
    np.testing.assert_array_equal(found[0], [0.0, -1.0, 4.0])
    np.testing.assert_array_equal(found[1], [-6.0, 0.0, 1.5, 0.0, 0.0])


def test_python_numbers_beside_float64_are_not_rounded_to_float32() -> None:
    x = dlc.zeros((3,), "float64")
    for y in (
        dlc.index_update(x, 1, 0.1),
        dlc.index_update(x, [1], [0.1], "add"),
        dlc.index_put(x, [1], 0.1),
        dlc.index_add(x, [1], 0.1),
        dlc.put_along_axis(x, [1], 0.1),
        dlc.scatter_nd(x, [[1]], [0.1]),
        dlc.index_update(x, 1, np.float64(0.1)),
    ):
        assert dlc.evaluate(y).tolist() == [0.0, 0.1, 0.0]
    sorted_ = dlc.constant(np.array([0.1, 0.2]))
    assert dlc.evaluate(dlc.searchsorted(sorted_, 0.1)).item() == 0
    assert dlc.evaluate(dlc.prelu(dlc.constant(np.array(-1.0)), 0.1)).item() == -0.1
    half = dlc.constant(np.array(0.5))
    assert dlc.evaluate(dlc.nn.functional.binary_cross_entropy(half, half, 0.1)).item() == 0.1 * np.log(2)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_computed_index_out_of_range_fails_the_run(backend: str) -> None:
    x, i = dlc.input("x", (4, 3)), dlc.input("i", (2,), "int32")
    a = np.ones((4, 3), np.float32)
    for y, good, bad in ((x[i], [-4, 3], [0, 4]), (x[:, i], [-3, 2], [-4, 0]), (x[i, i], [2, -3], [0, 3])):
        program = dlc.compile(dlc.graph([x, i], [y]), backend)
        program(a, np.array(good, np.int32))
        with pytest.raises(IndexOutOfRangeError, match=r"test_indexing\.py:\d+"):
            program(a, np.array(bad, np.int32))


T = dlc.constant(X)


@pytest.mark.parametrize("call, says", [
    (lambda: T[X > 3], "dlc.where"), (lambda: T[[True, False]], "dlc.where"), (lambda: T[True], "dlc.where"),
    (lambda: T[T > 3.0], "dlc.where"), (lambda: T[[0, 2]], "out of range"), (lambda: T[:, [-4]], "out of range"),
    (lambda: T[1.0], "integers"), (lambda: T[[1.5]], "integers"), (lambda: T["a"], "ints"),
    (lambda: T[..., ...], "fit"),
    (lambda: T[[0], [0], [0], [0], [0]], "fit"), (lambda: T[[0, 1], [0, 1, 2]], "broadcast"),
    (lambda: T[dlc.input("i", (2,))], "integers"), (lambda: T[: dlc.input("i", (), "int32")], "arange"),
    (lambda: T[::0], "step"), (lambda: dlc.index_update(T, 0, 1.0, "mean"), "add"), (lambda: T[5], "out of range"),
    (lambda: dlc.repeat(T, [1, 2], 1), "repeat"), (lambda: dlc.repeat(T, [1, -1], 0), "repeat"),
    (lambda: dlc.logcumsumexp([1, 2]), "float"),
])  # fmt: skip
def test_what_does_not_fit_is_refused_with_its_place(call: Callable[[], Any], says: str) -> None:
    with pytest.raises(DlcError, match=rf"(?s){says}.*test_indexing\.py:\d+"):
        call()


def test_repeats_that_differ() -> None:
    for times, axis in (([0, 2, 1], 1), (np.array([3, 1]), 0), ([2], 2), (np.arange(120) % 3, None), (2, 1)):
        got = dlc.evaluate(dlc.repeat(X, times, axis))
        np.testing.assert_array_equal(got, np.repeat(X, times, axis), strict=True)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("axis", [0, 1])
def test_running_log_sums(axis: int, reverse: bool) -> None:
    data = np.random.default_rng(1).standard_normal((5, 7)) * 30
    data[2, 3] = -np.inf
    x = dlc.input("x", ("M", "N"), "float64")
    y = dlc.logcumsumexp(x, axis, reverse)
    walked = np.flip(data, axis) if reverse else data
    want = np.logaddexp.accumulate(walked, axis)
    got = dlc.compile(dlc.graph([x], [y]), "reference")(data)[0]
    np.testing.assert_allclose(np.flip(got, axis) if reverse else got, want, rtol=1e-12)
    data[2, 3] = 1.0
    check_grad(dlc.graph([x], [(y * y).sum()]), [data / 20], directions=2)


def test_running_log_sums_of_numbers_far_apart() -> None:
    data = np.array([-np.inf, -1e4, -9999.0, 700.0, -1e4, 701.0, np.inf, 3.0, np.nan, 1.0])
    got = dlc.evaluate(dlc.logcumsumexp(data))
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(got, np.logaddexp.accumulate(data), rtol=1e-14)


def test_running_log_sums_of_nothing_have_gradient_zero() -> None:
    x = dlc.input("x", (3,), "float64")
    y = dlc.logcumsumexp(x)
    value, slope = dlc.compile(dlc.graph([x], [y, *dlc.grad(dlc.exp(y).sum(), [x])]), "reference")([-np.inf, 0.0, 0.0])
    np.testing.assert_allclose(value, [-np.inf, 0, np.log(2)])
    assert np.isfinite(slope).all()
