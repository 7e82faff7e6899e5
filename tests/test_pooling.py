"""Pooling over 1 to 3 axes and normalisation by groups, against NumPy; gradients; refusals."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from runnable import BACKENDS

import dlc
from dlc.errors import DlcError
from dlc.testing import check_grad

RNG = np.random.default_rng(0)
SHAPES = {1: (2, 4, 7), 2: (2, 4, 5, 6), 3: (1, 2, 4, 3, 5)}


def pooled(x: Any, sizes: Any, strides: Any, pads: Any, fill: float, reduce: Any) -> Any:
    rank = x.ndim - 2
    x = np.pad(x, [(0, 0)] * 2 + [(p, p) for p in pads], constant_values=fill)
    seen = np.lib.stride_tricks.sliding_window_view(x, sizes, tuple(range(2, x.ndim)))
    seen = seen[(slice(None), slice(None), *(slice(None, None, s) for s in strides))]
    return reduce(seen, axis=tuple(range(-rank, 0)))


def adapted(x: Any, n: int, reduce: Any) -> Any:
    for axis in range(2, x.ndim):
        d = x.shape[axis]
        parts = [reduce(np.take(x, range(i * d // n, -(-(i + 1) * d // n)), axis), axis) for i in range(n)]
        x = np.stack(parts, axis)
    return x


def normal(x: Any, axes: Any) -> Any:
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-5)


POOLS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "max": (lambda x: dlc.max_pool(x, 3, 2, 1), lambda x: pooled(x, *uniform(x, 3, 2, 1), -np.inf, np.max)),
    "mean": (lambda x: dlc.avg_pool(x, 2, 1, 1), lambda x: pooled(x, *uniform(x, 2, 1, 1), 0, np.mean)),
    "mean_of_what_is_there": (
        lambda x: dlc.avg_pool(x, 2, 1, 1, count_include_pad=False),
        lambda x: pooled(x, *uniform(x, 2, 1, 1), np.nan, np.nanmean)),
    "norm": (lambda x: dlc.lp_pool(x, 3.0, 2),
             lambda x: pooled(np.abs(x) ** 3, *uniform(x, 2, 2, 0), 0, np.sum) ** (1 / 3)),
    "global_max": (dlc.global_max_pool, lambda x: x.max(tuple(range(2, x.ndim)), keepdims=True)),
    "global_mean": (lambda x: dlc.global_avg_pool(x, keepdims=False), lambda x: x.mean(tuple(range(2, x.ndim)))),
    "adaptive_mean": (lambda x: dlc.adaptive_avg_pool(x, 3), lambda x: adapted(x, 3, np.mean)),
    "adaptive_max": (lambda x: dlc.adaptive_max_pool(x, 2), lambda x: adapted(x, 2, np.max)),
    "instance_norm": (dlc.instance_norm, lambda x: normal(x, tuple(range(2, x.ndim)))),
    "group_norm": (lambda x: dlc.group_norm(x, 2), lambda x: normal(
        x.reshape(x.shape[0], 2, -1), 2).reshape(x.shape)),
    "rms_norm": (dlc.rms_norm, lambda x: x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5)),
    "std": (lambda x: dlc.std(x, 1), lambda x: x.std(1)),
    "local_response_norm": (lambda x: dlc.local_response_norm(x, 3, 0.3, 0.5, 2.0), lambda x: x / np.sqrt(
        2 + 0.1 * pooled(np.swapaxes(x, 1, -1)[None], (1,) * (x.ndim - 2) + (3,), (1,) * (x.ndim - 1),
                         (0,) * (x.ndim - 2) + (1,), 0, lambda v, axis: (v * v).sum(axis))[0].swapaxes(1, -1))),
}  # fmt: skip


def uniform(x: Any, *values: int) -> Any:
    return [(v,) * (x.ndim - 2) for v in values]


@pytest.mark.parametrize("rank", SHAPES)
@pytest.mark.parametrize("name", POOLS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_values_and_gradients(backend: str, name: str, rank: int) -> None:
    ours, numpys = POOLS[name]
    data = RNG.standard_normal(SHAPES[rank])
    x = dlc.input("x", data.shape, "float64")
    y = ours(x)
    graph = dlc.graph([x], [y, *dlc.grad((y * y).sum(), [x])])
    if backend == "reference":
        check_grad(graph, [data], directions=2)
    np.testing.assert_allclose(dlc.compile(graph, backend)(data)[0], numpys(data), rtol=1e-9, atol=1e-12)


def test_scales_belong_to_channels() -> None:
    x = RNG.standard_normal((2, 4, 3))
    w, b = np.arange(1.0, 5.0), np.arange(4.0)
    want = normal(x, 2) * w[:, None] + b[:, None]
    np.testing.assert_allclose(dlc.evaluate(dlc.instance_norm(x, w, b)), want)
    np.testing.assert_allclose(dlc.evaluate(dlc.group_norm(x, 4, w, b)), want)


def test_constant_rows_have_finite_gradients() -> None:
    x = dlc.input("x", (2, 3))
    (g,) = dlc.compile(dlc.graph([x], dlc.grad(dlc.std(x, 1).sum(), [x])), "reference")(np.ones((2, 3), "f"))
    np.testing.assert_array_equal(g, 0)


A = np.zeros((2, 4, 6), np.float32)


@pytest.mark.parametrize("call", [
    lambda: dlc.max_pool(A, 0), lambda: dlc.max_pool(A, (2, 2)), lambda: dlc.max_pool(A, 7),
    lambda: dlc.max_pool(A, 3, 1, 3), lambda: dlc.max_pool(A[0], 2), lambda: dlc.avg_pool(A.astype(int), 2),
    lambda: dlc.lp_pool(A, 0, 2),
    lambda: dlc.adaptive_avg_pool(A, 0), lambda: dlc.adaptive_max_pool(dlc.input("x", (2, 3, "N")), 2),
    lambda: dlc.group_norm(A, 3), lambda: dlc.group_norm(A, 0), lambda: dlc.instance_norm(A[0]),
    lambda: dlc.instance_norm(A, [1.0]), lambda: dlc.rms_norm(A.astype(int)), lambda: dlc.rms_norm(A, axis=3),
    lambda: dlc.local_response_norm(A, 0), lambda: dlc.global_avg_pool(3.0), lambda: dlc.std(A, 5),
])  # fmt: skip
def test_what_does_not_fit_is_refused_with_its_place(call: Callable[[], Any]) -> None:
    with pytest.raises(DlcError, match=r"test_pooling\.py:\d+"):
        call()
