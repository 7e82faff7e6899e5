"""Window functions: values against NumPy's and against their formulas, for both symmetries, any size and dtype."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from runnable import BACKENDS

import dlc
from dlc.errors import DlcError


def cosines(coefficients: list[float]) -> Callable[[Any, float], Any]:
    return lambda n, last: sum(a * np.cos(np.pi * k * (2 * n / last + 1)) for k, a in enumerate(coefficients))


FORMULAS: dict[str, tuple[Callable[..., Any], Callable[[Any, float], Any]]] = {
    "hann": (dlc.hann_window, lambda n, last: np.sin(np.pi * n / last) ** 2),
    "hamming": (dlc.hamming_window, cosines([0.54, 0.46])),
    "hamming of another share": (lambda *a, **k: dlc.hamming_window(*a, alpha=0.6, **k), cosines([0.6, 0.4])),
    "blackman": (dlc.blackman_window, cosines([0.42, 0.5, 0.08])),
    "nuttall": (dlc.nuttall_window, cosines([0.3635819, 0.4891775, 0.1365995, 0.0106411])),
    "general cosine": (
        lambda size, *a, **k: dlc.general_cosine_window(size, [0.3, 0.7], *a, **k), cosines([0.3, 0.7])),
    "bartlett": (dlc.bartlett_window, lambda n, last: np.minimum(n, last - n) * 2 / last),
    "cosine": (dlc.cosine_window, lambda n, last: np.cos(np.pi * (n - last / 2) / (last + 1))),
    "gaussian": (lambda *a, **k: dlc.gaussian_window(*a, std=1.7, **k),
                 lambda n, last: np.exp(-((2 * n - last) ** 2) / (8 * 1.7**2))),
    "exponential": (lambda *a, **k: dlc.exponential_window(*a, tau=2.0, **k),
                    lambda n, last: np.exp(-np.abs(2 * n - last) / 4)),
    "exponential from the start": (lambda *a, **k: dlc.exponential_window(*a, center=0.0, **k),
                                   lambda n, last: np.exp(-n)),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMULAS)
def test_windows_are_their_formulas(name: str) -> None:
    window, formula = FORMULAS[name]
    for size in (0, 1, 2, 5, 64):
        n = np.arange(size)
        for periodic, last in ((False, size - 1), (True, size)):
            want = np.ones(1) if size == 1 else formula(n, float(last))
            found = dlc.evaluate(window(size, periodic=periodic, dtype="float64"))
            np.testing.assert_allclose(found, want, rtol=1e-12, atol=1e-15)
            for dtype, gap in (("float32", 2e-6), ("float16", 2e-3), ("bfloat16", 8e-3)):
                half = dlc.evaluate(window(size, periodic=periodic, dtype=dtype))
                np.testing.assert_allclose(half.astype("float64"), want, atol=gap)


def test_symmetric_windows_are_those_of_numpy() -> None:
    for name in ("hanning", "hamming", "blackman", "bartlett"):
        window = getattr(dlc, {"hanning": "hann"}.get(name, name) + "_window")
        for size in (1, 2, 9):
            found = dlc.evaluate(window(size, periodic=False, dtype="float64"))
            np.testing.assert_allclose(found, getattr(np, name)(size), atol=1e-15)


@pytest.mark.parametrize("backend", BACKENDS)
def test_windows_of_a_named_size(backend: str) -> None:
    x = dlc.input("x", ("N",), "float64")
    made = [window(x.shape[0], periodic=p, dtype="float64") for window, _ in FORMULAS.values() for p in (True, False)]
    program = dlc.compile(dlc.graph([x], made), backend)
    for size in (0, 1, 6):
        want = [dlc.evaluate(w(size, periodic=p, dtype="float64")) for w, _ in FORMULAS.values() for p in (True, False)]
        for a, b in zip(program(np.zeros(size)), want, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    "call",
    [
        lambda: dlc.hann_window(4, dtype="int32"),
        lambda: dlc.gaussian_window(4, std=0.0),
        lambda: dlc.exponential_window(4, tau=-1.0),
        lambda: dlc.general_cosine_window(4, []),
        lambda: dlc.general_cosine_window(4, [True]),
        lambda: dlc.general_cosine_window(4, 0.5),
        lambda: dlc.hamming_window(4, alpha="half"),
        lambda: dlc.exponential_window(4, center="middle"),
    ],
)
def test_what_does_not_fit_is_refused(call: Callable[[], Any]) -> None:
    with pytest.raises(DlcError, match="window") as error:
        call()
    assert error.value.where is not None
