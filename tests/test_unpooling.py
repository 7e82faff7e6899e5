"""Pooling whose last window may be partial, the places of maxima, and unpooling, against loops in NumPy."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from runnable import BACKENDS

import dlc
from dlc.errors import DlcError, IndexOutOfRangeError
from dlc.testing import check_grad

SHAPES = {1: (2, 2, 8), 2: (2, 1, 8, 7), 3: (1, 2, 5, 4, 6)}
CASES = [(3, 2, 1, 1), (2, 2, 0, 1), (2, 3, 1, 2), (3, 3, 1, 1), (2, 2, 1, 1)]  # kernel, stride, padding, dilation


def windows_of(x: Any, k: int, s: int, p: int, g: int, ceil: bool) -> Any:
    """(place of the result, the flat places and values that a window has, how many places with padding)."""
    counts = []
    for d in x.shape:
        n, rest = divmod(d + 2 * p - g * (k - 1) - 1, s)
        counts.append(n + 1 + (1 if ceil and rest and (n + 1) * s < d + p else 0))
    for at in itertools.product(*map(range, counts)):
        offsets = itertools.product(range(k), repeat=x.ndim)
        places = [tuple(a * s - p + o * g for a, o in zip(at, off, strict=True)) for off in offsets]
        inside = [q for q in places if all(0 <= i < d for i, d in zip(q, x.shape, strict=True))]
        padded = [q for q in places if all(-p <= i < d + p for i, d in zip(q, x.shape, strict=True))]
        yield at, [int(np.ravel_multi_index(q, x.shape)) for q in inside], len(padded)


def by_loops(x: Any, case: tuple[int, int, int, int], ceil: bool, reduce: Callable[[Any, Any, int], float]) -> Any:
    found = {}
    for n, c in np.ndindex(*x.shape[:2]):
        for at, places, count in windows_of(x[n, c], *case, ceil):
            found[(n, c, *at)] = reduce(x[n, c].ravel()[places], places, count)
    result = np.empty(tuple(i + 1 for i in max(found)), np.result_type(type(next(iter(found.values())))))
    for place, value in found.items():
        result[place] = value
    return result


@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("rank", SHAPES)
def test_values_and_places(rank: int, case: tuple[int, int, int, int], ceil: bool) -> None:
    data = np.random.default_rng(rank).standard_normal(SHAPES[rank])
    k, s, p, g = case
    x = dlc.input("x", data.shape, "float64")
    y, at = dlc.max_pool(x, k, s, p, g, ceil, return_indices=True)
    outputs = [y, at]
    wanted = [lambda v, places, n: v.max(), lambda v, places, n: places[int(v.argmax())]]
    if g == 1:
        outputs += [dlc.avg_pool(x, k, s, p, True, ceil), dlc.avg_pool(x, k, s, p, False, ceil),
                    dlc.avg_pool(x, k, s, p, True, ceil, divisor_override=5)]  # fmt: skip
        wanted += [lambda v, places, n: v.sum() / n, lambda v, places, n: v.mean(), lambda v, places, n: v.sum() / 5]
    wild = data.copy()
    wild[:, :, :3], wild.flat[-1] = -np.inf, np.nan
    program = dlc.compile(dlc.graph([x], outputs), "reference")
    for given, count in ((data, len(outputs)), (wild, 2)):  # padding is no place, of windows of -inf neither
        for got, reduce in zip(program(given)[:count], wanted, strict=False):
            np.testing.assert_allclose(got, by_loops(given, case, ceil, reduce), rtol=1e-12)


@pytest.mark.parametrize("rank", SHAPES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_unpooling_puts_maxima_back(backend: str, rank: int) -> None:
    data = np.random.default_rng(rank).permutation(int(np.prod(SHAPES[rank]))).reshape(SHAPES[rank]) / 10 - 2.0
    x = dlc.input("x", data.shape, "float64")
    y, at = dlc.max_pool(x, 2, return_indices=True)
    back = dlc.max_unpool(y, at, 2, output_size=data.shape[2:])
    graph = dlc.graph([x], [back, *dlc.grad((back * back).sum(), [x])])
    found, slope = dlc.compile(graph, backend)(data)
    want = np.zeros_like(data)
    for n, c in np.ndindex(*data.shape[:2]):
        for _, places, _ in windows_of(data[n, c], 2, 2, 0, 1, False):
            best = max(places, key=lambda i: data[n, c].flat[i])
            want[n, c].flat[best] = data[n, c].flat[best]
    np.testing.assert_array_equal(found, want)
    np.testing.assert_allclose(slope, 2 * want)
    if backend == "reference":
        check_grad(graph, [data], directions=2)


def test_unpooling_without_a_size() -> None:
    y, at = dlc.constant(np.ones((1, 1, 3), "f")), dlc.constant(np.array([[[0, 3, 6]]]))
    np.testing.assert_array_equal(dlc.evaluate(dlc.max_unpool(y, at, 3, 2, 0))[0, 0], [1, 0, 0, 1, 0, 0, 1])


def test_a_place_out_of_range_fails_the_run() -> None:
    y, at = dlc.input("y", (1, 1, 2)), dlc.input("at", (1, 1, 2), "int64")
    program = dlc.compile(dlc.graph([y, at], [dlc.max_unpool(y, at, 2)]), "reference")
    for wrong in (4, -1):
        with pytest.raises(IndexOutOfRangeError):
            program(np.ones((1, 1, 2), "f"), np.array([[[0, wrong]]]))


A = np.zeros((2, 4, 6), np.float32)


@pytest.mark.parametrize("call", [
    lambda: dlc.max_pool(dlc.input("x", (1, 1, "L")), 2, ceil_mode=True), lambda: dlc.max_unpool(A, A, 2),
    lambda: dlc.max_unpool(A, A.astype(int)[0], 2), lambda: dlc.max_unpool(A, A.astype(int), 2, output_size=(3, 3)),
    lambda: dlc.avg_pool(A, 2, divisor_override=0), lambda: dlc.avg_pool(A, 2, 1, 2, count_include_pad=False),
    lambda: dlc.max_pool(A, 2, padding=-1), lambda: dlc.max_pool(A, 2, padding="some"),
])  # fmt: skip
def test_what_does_not_fit_is_refused_with_its_place(call: Callable[[], Any]) -> None:
    with pytest.raises(DlcError, match=r"test_unpooling\.py:\d+"):
        call()
