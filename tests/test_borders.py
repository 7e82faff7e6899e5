"""Padding with a tensor's own elements, against numpy.pad; the padding layers; refusals."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from runnable import BACKENDS

import dlc
from dlc import nn
from dlc.errors import DlcError
from dlc.testing import check_grad

X = np.random.default_rng(0).standard_normal((2, 1, 4, 5))
WIDTHS = [(0, 0), (0, 0), (3, 0), (1, 2)]


@pytest.mark.parametrize("mode", ["reflect", "edge", "wrap"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_values_and_gradients(backend: str, mode: str) -> None:
    x = dlc.input("x", ("N", 1, "H", 5), "float64")
    y = dlc.pad_border(x, WIDTHS, mode)
    graph = dlc.graph([x], [y, *dlc.grad((y * y).sum(), [x])])
    found, slope = dlc.compile(graph, backend)(X)
    np.testing.assert_array_equal(found, np.pad(X, WIDTHS, mode=mode))
    counts = np.zeros_like(X)
    places = np.pad(np.arange(X.size).reshape(X.shape), WIDTHS, mode=mode)
    np.add.at(counts.ravel(), places.ravel(), 1)
    np.testing.assert_allclose(slope, 2 * X * counts)
    if backend == "reference":
        check_grad(graph, [X], directions=2)


LAYERS = {"Zero": ("constant", ()), "Constant": ("constant", (2.5,)), "Reflection": ("reflect", ()),
          "Replication": ("edge", ()), "Circular": ("wrap", ())}  # fmt: skip


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("name", LAYERS)
def test_layers(name: str, rank: int) -> None:
    mode, more = LAYERS[name]
    data = np.random.default_rng(rank).standard_normal((2, 1, 4, 5, 3)[: rank + 2])
    given = (1, 2, 3, 0, 2, 2)[: 2 * rank]  # of the last axis first
    widths = [(0, 0), (0, 0), *reversed([(given[2 * i], given[2 * i + 1]) for i in range(rank)])]
    value = {"constant_values": more[0] if more else 0} if mode == "constant" else {}
    layer = getattr(nn, f"{name}Pad{rank}d")
    got, even = dlc.evaluate(layer(given, *more)(dlc.constant(data)), layer(1, *more)(dlc.constant(data)))
    np.testing.assert_array_equal(got, np.pad(data, widths, mode=mode, **value))  # type: ignore[call-overload]
    assert even.shape == tuple(d + 2 * (a > 1) for a, d in enumerate(data.shape))


@pytest.mark.parametrize("call", [
    lambda: dlc.pad_border(X, WIDTHS, "mirror"), lambda: dlc.pad_border(X, 1), lambda: dlc.pad_border(X, WIDTHS[1:]),
    lambda: dlc.pad_border(X, [(0, 0), (1, 0), (0, 0), (0, 0)]), lambda: dlc.pad_border(X, [(-1, 0)] * 4),
    lambda: nn.ZeroPad2d((1, 2)), lambda: nn.ZeroPad2d(-1), lambda: nn.ZeroPad2d(1)(X[0]),
])  # fmt: skip
def test_what_does_not_fit_is_refused_with_its_place(call: Callable[[], Any]) -> None:
    with pytest.raises(DlcError, match=r"test_borders\.py:\d+"):
        call()
