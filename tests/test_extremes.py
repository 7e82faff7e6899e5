"""The ends of what dtypes hold, by NumPy: reductions, running ones and orders, of integers and of special floats."""

from collections.abc import Callable, Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from runnable import BACKENDS

import dlc
from dlc.dtypes import HALF, INTEGER, is_floating, numpy_dtype

Array = Any
INTEGERS = ("int8", "uint64")
FLOATS = ("bfloat16", "float32")


def ends_of(dtype: str) -> Array:
    """Rows of extreme values, mixed at random and each alone."""
    if dtype in INTEGER:
        limits = np.iinfo(dtype)
        values = np.array([0, 1, 2, 7, limits.max, limits.max - 1, limits.min, limits.min + 1], dtype)
    else:
        limits = ml_dtypes.finfo(dtype)
        extremes = [float(v) for v in (limits.max, limits.min, limits.tiny, limits.smallest_subnormal)]
        values = np.array([0.0, -0.0, np.nan, np.inf, -np.inf, 1.0, -2.0, *extremes], numpy_dtype(dtype))
    mixed = np.random.default_rng(0).choice(values, (30, 7))
    without_nan = mixed[:15]
    without_nan[without_nan != without_nan] = 1
    return np.concatenate([mixed, np.repeat(values[:, None], 7, 1)])


def backwards(x: Array) -> Array:
    """The stable descending order of rows, NaN first."""
    return np.flip(x.shape[1] - 1 - np.argsort(np.flip(x, 1), axis=1, kind="stable"), 1)


ORDERS: dict[str, tuple[Callable[[Any], Any], Callable[[Array], Array]]] = {
    "max": (lambda x: dlc.max(x, 1), lambda x: x.max(1)),
    "min of columns": (lambda x: dlc.min(x, 0), lambda x: x.min(0)),
    "argmax": (lambda x: dlc.argmax(x, 1), lambda x: x.argmax(1)),
    "argmin": (lambda x: dlc.argmin(x, 0), lambda x: x.argmin(0)),
    "running max": (lambda x: dlc.cumulative_max(x, 1), lambda x: np.maximum.accumulate(x, 1)),
    "running min": (lambda x: dlc.cumulative_min(x, 0), lambda x: np.minimum.accumulate(x, 0)),
    "order": (lambda x: dlc.argsort(x, 1), lambda x: np.argsort(x, 1, kind="stable")),
    "sorted down": (
        lambda x: dlc.sort(x, 1, descending=True),
        lambda x: np.take_along_axis(x, backwards(x), 1),
    ),
    "largest": (lambda x: dlc.topk(x, 3, 1)[1], lambda x: backwards(x)[:, :3]),
}
EXACT: dict[str, tuple[Callable[[Any], Any], Callable[[Array], Array]]] = {  # of integers, which wrap
    "sum": (lambda x: dlc.sum(x, 1), lambda x: x.sum(1)),
    "prod": (lambda x: dlc.prod(x, 0), lambda x: x.prod(0)),
    "running sum": (lambda x: dlc.cumulative_sum(x, 1), lambda x: x.cumsum(1)),
    "running product": (lambda x: dlc.cumulative_prod(x, 1), lambda x: x.cumprod(1)),
    "differences": (dlc.diff, np.diff),
    "matrix product": (lambda x: dlc.einsum("ij,kj->ik", x, x), lambda x: x @ x.T),
    "products of rows": (lambda x: dlc.vecdot(x, x), lambda x: (x * x).sum(1, dtype=x.dtype)),
    "kept bits": (lambda x: dlc.astype(x, "int16"), lambda x: x.astype("int16")),
}


def cases(dtype: str) -> Iterator[tuple[str, Any, Array]]:
    rows = ends_of(dtype)
    wide = rows.astype(np.float32) if dtype in HALF else rows
    x = dlc.input(f"x_{dtype}", rows.shape, dtype)
    for name, (function, oracle) in {**ORDERS, **(EXACT if dtype in INTEGER else {})}.items():
        yield name, (x, rows, function(x)), oracle(wide)


@pytest.mark.parametrize("backend", BACKENDS)
def test_reductions_and_orders_of_extreme_values(backend: str) -> None:
    found = [(dtype, *case) for dtype in (*INTEGERS, *FLOATS) for case in cases(dtype)]
    inputs = {x.node: (x, rows) for _, _, (x, rows, _), _ in found}
    graph = dlc.graph([x for x, _ in inputs.values()], [y for _, _, (_, _, y), _ in found])
    values = dlc.compile(graph, backend)(*(rows for _, rows in inputs.values()))
    for (dtype, name, _, want), got in zip(found, values, strict=True):
        if is_floating(got.dtype):
            got, want = got.astype(np.float64), want.astype(np.float64)
        assert got.dtype == want.dtype, (name, dtype)
        np.testing.assert_array_equal(got, want, err_msg=f"{name} of {dtype}")


def rounded(values: Array, dtype: str) -> Array:
    return values.astype(np.float32).astype(numpy_dtype(dtype))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", HALF)
def test_halves_at_their_ends_under_vmap(backend: str, dtype: str) -> None:
    """Each op rounds once from float32, so the largest doubled is inf, and the least halved 0, batched or not."""
    limits = ml_dtypes.finfo(dtype)
    ends = [float(limits.max), float(limits.smallest_subnormal), -0.0, 3.0]
    rows = np.array([[1, 2, np.inf, np.nan], ends, [-v for v in ends]], numpy_dtype(dtype))
    f = rows.astype(np.float32)
    x, picks = dlc.input("x", rows.shape, dtype), np.array([0, 0, 2])
    v = np.array([2.0, 4.0, -1.0], numpy_dtype(dtype))
    put = {
        r: dlc.vmap(lambda row, r=r: dlc.put_along_axis(row, dlc.constant(picks), dlc.constant(v), 0, r))(x)
        for r in ("set", "add", "mul", "min", "max")
    }
    outputs = [
        dlc.vmap(lambda row: row + row)(x),
        dlc.vmap(lambda row: row * 0.5)(x),
        dlc.vmap(lambda row: dlc.matmul(row, dlc.ones((4, 2), dtype)))(x),
        dlc.vmap(lambda row: dlc.grad((row * row).sum(), [row])[0])(x),
        *put.values(),
    ]
    with np.errstate(all="ignore"):
        wanted = [rounded(f + f, dtype), rounded(f * 0.5, dtype), rounded(f @ np.ones((4, 2), "f"), dtype)]
        wanted.append(rounded(f + f, dtype))
        changed = [(f.copy(), at) for at in (None, np.add.at, np.multiply.at, np.minimum.at, np.maximum.at)]
        for table, at in changed:
            for row in table:
                if at is None:
                    row[picks] = v.astype("f")
                else:
                    at(row, picks, v.astype("f"))
            wanted.append(rounded(table, dtype))
    for got, want in zip(dlc.compile(dlc.graph([x], outputs), backend)(rows), wanted, strict=True):
        assert got.dtype == numpy_dtype(dtype)
        np.testing.assert_array_equal(got.astype("f"), want.astype("f"))
        np.testing.assert_array_equal(np.signbit(got)[want == 0], np.signbit(want)[want == 0])


@pytest.mark.parametrize("backend", BACKENDS)
def test_powers_with_one_exponent_are_those_of_c(backend: str) -> None:
    """NumPy's own power takes the square root where an exponent of 0.5 stands for all."""
    values = np.array([0.0, -0.0, np.nan, np.inf, -np.inf, 1.0, -2.0, 4.0, 1e-45], np.float32)
    exponents = (0.5, -0.5, 3.0, 0.0, np.inf, -np.inf, np.nan)
    x = dlc.input("x", values.shape)
    powers = dlc.compile(dlc.graph([x], [dlc.pow(x, dlc.constant(e, "float32")) for e in exponents]), backend)(values)
    for e, got in zip(exponents, powers, strict=True):
        with np.errstate(all="ignore"):
            want = np.float_power(values, np.full(values.shape, e)).astype(np.float32)
        np.testing.assert_allclose(got, want, rtol=3e-7, err_msg=f"to the power {e}")
        np.testing.assert_array_equal(np.signbit(got)[want == 0], np.signbit(want)[want == 0])
    assert powers[0][[1, 4]].tolist() == [0.0, np.inf]


def pooled(x: Array, reduce: Callable[[Array, list[int]], Any]) -> Array:
    """Windows of 3 by a stride of 2 along rows that are padded by 1: what `reduce` makes of elements and places."""
    starts = range(-1, x.shape[1] - 1, 2)
    windows = [[[i for i in range(s, s + 3) if 0 <= i < x.shape[1]] for s in starts] for _ in x]
    return np.array([[reduce(row[at], at) for at in places] for row, places in zip(x, windows, strict=True)])


@pytest.mark.parametrize("backend", BACKENDS)
def test_pools_and_softmax_of_infinities_and_nan(backend: str) -> None:
    nan, inf = np.nan, np.inf
    rows = np.array([
        [-inf] * 7,
        [inf, 1, -inf, -inf, -inf, -inf, 2],
        [nan, 1, 2, -inf, -inf, nan, -0.0],
        [-inf, 0.5, -1e38, 1e38, 1e38, -1, 1e-45],
        [0, -0.0, 1e-40, -1e-40, 88, 89, -104],
    ], np.float32)  # fmt: skip
    x = dlc.input("x", rows.shape)
    highest, places = dlc.max_pool(x[:, None], 3, 2, 1, return_indices=True)
    outputs = [
        highest[:, 0],
        places[:, 0],
        dlc.avg_pool(x[:, None], 3, 2, 1, count_include_pad=False)[:, 0],
        dlc.logsumexp(x, 1),
        dlc.softmax(x),
        dlc.log_softmax(x),
    ]
    wide = rows.astype(np.float64)
    with np.errstate(all="ignore"):
        level = np.where(np.isfinite(wide.max(1)), wide.max(1), 0)[:, None]
        e = np.exp(wide - level)
        total = e.sum(1, keepdims=True)
        wanted = [
            pooled(wide, lambda v, at: v.max()),
            pooled(wide, lambda v, at: at[int(v.argmax())]),
            pooled(wide, lambda v, at: v.mean()),
            np.log(total)[:, 0] + level[:, 0],
            np.where(total == 0, 0, e / total),  # of a row of -inf alone
            wide - level - np.where(total == 0, 0, np.log(total)),
        ]
        wanted = [w if w.dtype.kind == "i" else w.astype(np.float32) for w in wanted]
    for got, want in zip(dlc.compile(dlc.graph([x], outputs), backend)(rows), wanted, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-37)
