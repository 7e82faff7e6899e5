"""Functions of the Array API that are composed of others: values against NumPy, gradients, and refusals."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import dlc
from dlc import ops
from dlc.errors import DlcError
from dlc.testing import check_grad

RNG = np.random.default_rng(0)
V = RNG.standard_normal((4, 1, 3))
W = RNG.standard_normal((5, 3))
M = RNG.standard_normal((2, 3, 3))

# The standard's functions of 2024.12 that are not here: those of complex numbers, those whose shape depends on data
# (`nonzero` says so), `finfo`, `iinfo`, `isdtype` and `can_cast`, which NumPy has, and factorisations.
STANDARD = """
abs acos acosh add all any arange argmax argmin argsort asarray asin asinh astype atan atan2 atanh bitwise_and
bitwise_invert bitwise_left_shift bitwise_or bitwise_right_shift bitwise_xor broadcast_arrays broadcast_shapes
broadcast_to ceil clip concat copysign cos cosh count_nonzero cross cumulative_prod cumulative_sum diagonal diff divide
empty empty_like equal exp expand_dims expm1 eye flip floor floor_divide from_dlpack full full_like greater
greater_equal hypot isfinite isin isinf isnan less less_equal linspace log log10 log1p log2 logaddexp logical_and
logical_not logical_or logical_xor matmul matrix_norm matrix_power matrix_transpose max maximum mean meshgrid min
minimum moveaxis multiply negative nextafter nonzero not_equal ones ones_like outer permute_dims positive pow prod
reciprocal remainder repeat reshape result_type roll round searchsorted sign signbit sin sinh sort sqrt square squeeze
stack std subtract sum take take_along_axis tan tanh tensordot tile tril triu trunc unstack var vecdot vector_norm
where zeros zeros_like
"""


def test_the_functions_of_the_standard_are_here() -> None:
    assert [name for name in STANDARD.split() if not callable(getattr(ops, name, None))] == []


CASES: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any], Any]] = {
    "cross": (lambda x: dlc.cross(x, W), lambda x: np.cross(x, W), V),
    "cross_axis": (lambda x: dlc.cross(x, np.ones((3, 5)), axis=-2), lambda x: np.cross(x, np.ones((3, 5)), axis=-2),
                   W.T[None]),
    **{f"power{n}": (lambda x, n=n: dlc.matrix_power(x, n), lambda x, n=n: np.linalg.matrix_power(x, n), M)
       for n in (0, 1, 2, 5)},
    **{f"vector{p}": (lambda x, p=p: dlc.vector_norm(x, (0, 2), ord=p, keepdims=True),
                      lambda x, p=p: np.linalg.vector_norm(x, axis=(0, 2), ord=p, keepdims=True), M)
       for p in (2, 1, 0, 3, 2.5, -1, np.inf, -np.inf)},
    "vector": (dlc.vector_norm, np.linalg.vector_norm, M),
    **{f"matrix{p}": (lambda x, p=p: dlc.matrix_norm(x, ord=p), lambda x, p=p: np.linalg.matrix_norm(x, ord=p), M)
       for p in ("fro", 1, -1, np.inf, -np.inf)},
    "matrix": (lambda x: dlc.matrix_norm(x, keepdims=True), lambda x: np.linalg.matrix_norm(x, keepdims=True), M),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients(name: str) -> None:
    function, reference, data = CASES[name]
    x = dlc.input("x", data.shape, "float64")
    y = function(x)
    want = reference(data)
    (got,) = dlc.compile(dlc.graph([x], [y]), "reference")(data)
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)
    weights = np.cos(np.arange(want.size)).reshape(want.shape)
    check_grad(dlc.graph([x], [(y * weights).sum()]), [data], directions=2)


def test_norms_of_nothing_have_gradient_zero() -> None:
    x = dlc.constant(np.zeros(3))
    for p in (0.5, 1, 2, 3):
        assert dlc.evaluate(dlc.grad(dlc.vector_norm(x, ord=p), x)).tolist() == [0.0, 0.0, 0.0]


def test_membership() -> None:
    x, among = RNG.integers(0, 9, (3, 4)), RNG.integers(0, 9, (2, 2))
    for invert in (False, True):
        np.testing.assert_array_equal(dlc.evaluate(dlc.isin(x, among, invert)), np.isin(x, among, invert=invert))
    assert dlc.evaluate(dlc.isin([np.nan, 1.0], [np.nan, 1.0])).tolist() == [False, True]
    assert dlc.evaluate(dlc.isin(x, np.zeros(0, np.int64))).any() == np.False_


def test_common_shapes_and_dtypes() -> None:
    a, b = dlc.broadcast_arrays(np.ones((2, 1), np.int8), np.ones((1, 3)))
    assert (a.dtype, b.dtype, a.shape, b.shape) == ("int8", "float64", (2, 3), (2, 3))
    assert dlc.broadcast_shapes(("N", 1), (3,)) == (dlc.dims.dim("N"), 3)
    assert dlc.result_type(np.float32, "float64") == "float64"
    assert dlc.result_type(dlc.zeros(2, "int8"), np.int16(1), 3) == "int16"


def test_numbers_of_other_libraries() -> None:
    class Foreign:
        def __init__(self, array: Any) -> None:
            self.array = array

        def __dlpack__(self, **how: Any) -> Any:
            return self.array.__dlpack__(**how)

        def __dlpack_device__(self) -> Any:
            return self.array.__dlpack_device__()

    array = np.arange(4.0)
    t = dlc.from_dlpack(Foreign(array))
    array[:] = 7.0
    assert dlc.evaluate(t).tolist() == [0, 1, 2, 3] and t.dtype == "float64"


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: dlc.cross(V, V[..., :2]), "three numbers"),
        (lambda: dlc.cross(V, V, axis=0), "negative"),
        (lambda: dlc.matrix_power(V, 2), "square"),
        (lambda: dlc.matrix_power(M, -1), "at least 0"),
        (lambda: dlc.vector_norm(M, ord="fro"), "a number"),
        (lambda: dlc.vector_norm([1, 2]), "floating"),
        (lambda: dlc.matrix_norm(M, ord="nuc"), "nuc"),
        (lambda: dlc.matrix_norm(M[0, 0]), "matrices"),
        (lambda: dlc.broadcast_arrays(V, M[:, :2]), "broadcast"),
        (lambda: dlc.result_type(1, 2.0), "at least one"),
        (lambda: dlc.from_dlpack([1]), "__dlpack__"),
        (lambda: dlc.positive(dlc.constant([True])), "numbers"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(call: Callable[[], Any], says: str) -> None:
    with pytest.raises(DlcError, match=rf"(?s){says}.*test_array_functions\.py:\d+"):
        call()
