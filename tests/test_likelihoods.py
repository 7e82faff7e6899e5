"""Losses of counts and of means with variances; random integers and orders."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from runnable import BACKENDS

import dlc
from dlc.errors import AttributeValueError, DlcError
from dlc.frontend.losses import gaussian_nll, poisson_nll
from dlc.testing import check_grad

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((2, 3, 4))
COUNTS = RNG.integers(0, 7, (3, 4)).astype(float)
RATES, VARIANCES = RNG.uniform(0.5, 3, (2, 3, 4))


def poisson(t: Any, log_rate: Any) -> Any:
    """-log of the probability of t, less log(t!)."""
    return np.exp(log_rate) - t * log_rate


def stirling(t: Any) -> Any:
    with np.errstate(all="ignore"):
        return np.where(t > 1, t * np.log(t) - t + np.log(2 * np.pi * t) / 2, 0)


def gaussian(d: Any, v: Any) -> Any:
    """-log of the normal density."""
    return -np.log(np.exp(-d * d / (2 * v)) / np.sqrt(2 * np.pi * v))


CASES: dict[str, tuple[Callable[..., Any], list[Any], Any]] = {
    "log rates": (lambda x: poisson_nll(x, COUNTS, reduction="none"), [X], poisson(COUNTS, X)),
    "rates": (
        lambda x: poisson_nll(x, COUNTS, False, eps=0.0, reduction="none"), [RATES], poisson(COUNTS, np.log(RATES))),
    "with the factorial": (
        lambda x: poisson_nll(x, COUNTS, full=True, reduction="none"), [X], poisson(COUNTS, X) + stirling(COUNTS)),
    "normal": (lambda x, t, v: gaussian_nll(x, t, v, full=True, reduction="none"), [X, Y, VARIANCES],
               gaussian(X - Y, VARIANCES)),
    "one variance a row": (lambda x, v: gaussian_nll(x, Y, v, reduction="none"), [X, VARIANCES[:, :1]],
                           gaussian(X - Y, VARIANCES[:, :1]) - math.log(2 * math.pi) / 2),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_losses_and_their_gradients(name: str) -> None:
    ours, data, want = CASES[name]
    inputs = [dlc.input(f"x{i}", a.shape, "float64") for i, a in enumerate(data)]
    losses = ours(*inputs)
    graph = dlc.graph(inputs, [losses])
    np.testing.assert_allclose(dlc.compile(graph, "reference")(*data)[0], want, rtol=1e-12, atol=1e-14)
    check_grad(graph, data, directions=2)


def test_the_factorial_is_nearly_right() -> None:
    exact = np.array([math.lgamma(t + 1) for t in COUNTS.ravel()]).reshape(COUNTS.shape)
    assert abs(stirling(COUNTS) - exact).max() < 0.05


def test_small_variances_count_as_eps() -> None:
    assert dlc.evaluate(gaussian_nll([0.0], [1.0], [0.0], eps=0.5)).item() == pytest.approx((math.log(0.5) + 2) / 2)


@pytest.mark.parametrize("backend", BACKENDS)
def test_random_integers_and_orders(backend: str) -> None:
    wide = dlc.randint((4000,), -3, 4, "int32", site=1)
    full = dlc.randint((2000,), -(2**31), 2**31, site=2)
    order, rows = dlc.permutation(500, site=3), dlc.permutation(np.arange(40).reshape(2, 20), axis=1, site=4)
    outputs = [wide, full, order, rows, dlc.randint((2000,), 0, 256, "uint8", site=5)]
    few, many, places, shuffled, small = dlc.compile(dlc.graph([], outputs), backend)()
    counts = np.bincount(few + 3)
    assert few.dtype == np.int32 and counts.size == 7
    assert ((counts - 4000 / 7) ** 2 / (4000 / 7)).sum() < 25  # chi-squared
    assert many.min() < -(2**30) < 2**30 < many.max()
    assert small.dtype == np.uint8 and small.min() < 8 and small.max() > 247
    assert sorted(places) == list(range(500)) and (places != np.arange(500)).sum() > 480
    assert sorted(shuffled[0]) == list(range(20)) and (shuffled[1] - shuffled[0] == 20).all()
    assert (shuffled[0] != np.arange(20)).any()


@pytest.mark.parametrize("call", [
    lambda: dlc.randint((2,), 3, 3), lambda: dlc.randint((2,), 0, 2**33), lambda: dlc.randint((2,), 0, 300, "uint8"),
    lambda: dlc.randint((2,), 0, 3, "float32"), lambda: dlc.randint((2,), 0.5, 3), lambda: dlc.permutation(1.5),
])  # fmt: skip
def test_draws_that_cannot_be_are_refused(call: Callable[[], Any]) -> None:
    with pytest.raises(DlcError, match=r"test_likelihoods\.py:\d+"):
        call()


def test_losses_that_do_not_fit_are_refused() -> None:
    with pytest.raises(AttributeValueError, match="eps"):
        gaussian_nll(X, Y, VARIANCES, eps=0.0)
    with pytest.raises(DlcError, match="broadcast"):
        gaussian_nll(X[0], Y[0], VARIANCES)
