"""Images read between their elements, against loops written from the definition; gradients; places that are nowhere."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from runnable import BACKENDS

import dlc
from dlc.errors import DlcError
from dlc.nn import functional
from dlc.testing import check_grad

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def the_same_draws() -> None:
    """Whichever tests ran before: a place that chance puts on a kink has no slope to compare."""
    RNG.bit_generator.state = np.random.default_rng(1).bit_generator.state


def keys(t: float, a: float = -0.75) -> float:
    t = abs(t)
    if t <= 1:
        return (a + 2) * t**3 - (a + 3) * t**2 + 1
    return a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a if t < 2 else 0.0


KERNELS: dict[str, tuple[Callable[[float], float], int]] = {
    "linear": (lambda t: max(0.0, 1 - abs(t)), 1), "cubic": (keys, 2),
}  # fmt: skip


def folded(at: float, d: int, padding: str, align: bool) -> float:
    low, high = (0.0, d - 1.0) if align else (-0.5, d - 0.5)
    while padding == "reflection" and high > low and not low <= at <= high:
        at = 2 * low - at if at < low else 2 * high - at
    return min(max(at, 0.0), d - 1.0) if padding != "zeros" else at


def along_axis(place: float, d: int, mode: str, padding: str, align: bool) -> list[tuple[int, float]]:
    """The elements of an axis that a place from -1 to 1 is read from, and their weights."""
    at = (place + 1) / 2 * (d - 1) if align else ((place + 1) * d - 1) / 2
    if mode != "cubic":
        at = folded(at, d, padding, align)
    if mode == "nearest":
        return [(round(at), 1.0)]
    kernel, reach = KERNELS[mode]
    near = range(math.floor(at) - reach + 1, math.floor(at) + reach + 1)
    return [(int(folded(p, d, padding, align)), kernel(at - p)) for p in near]


def sampled(x: Any, grid: Any, mode: str, padding: str, align: bool) -> Any:
    out = np.zeros((*x.shape[:2], *grid.shape[1:-1]))
    for place in np.ndindex(*grid.shape[:-1]):
        axes = [along_axis(g, d, mode, padding, align) for g, d in zip(grid[place][::-1], x.shape[2:], strict=True)]
        for taps in itertools.product(*axes):
            index, weight = [i for i, _ in taps], math.prod(w for _, w in taps)
            if all(0 <= i < d for i, d in zip(index, x.shape[2:], strict=True)):
                out[(place[0], slice(None), *place[1:])] += weight * x[(place[0], slice(None), *index)]
    return out


WAYS = list(itertools.product(("nearest", "linear", "cubic"), ("zeros", "border", "reflection"), (False, True)))


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_way_is_that_of_the_definition(backend: str) -> None:
    """On images whose number and size are named, and one way on vectors and volumes; some places are far outside.

    All kernels differ, so the cpu backend has some of the ways.
    """
    x, grid = RNG.standard_normal((2, 3, 4, 5)), RNG.uniform(-1.8, 1.8, (2, 3, 2, 2))
    grid[0, 0] = [[5.3, -9.1], [0.2, 14.7]]
    a, b = dlc.input("a", ("N", 3, "H", 5), "float64"), dlc.input("b", ("N", 3, "W", 2), "float64")
    given, inputs, outputs, wanted = [x, grid], [a, b], [], []
    for way in WAYS if backend == "reference" else (WAYS[0], WAYS[11]):
        outputs.append(dlc.grid_sample(a, b, *way))
        wanted.append(sampled(x, grid, *way))
    for rank, way in ((1, WAYS[8]), (3, WAYS[10])):
        given += [RNG.standard_normal((2, 2, 3, 2, 4)[: rank + 2]), RNG.uniform(-1.5, 1.5, (2, *[2] * rank, rank))]
        inputs += [dlc.input(f"{n}{rank}", v.shape, "float64") for n, v in zip("xg", given[-2:], strict=True)]
        outputs.append(dlc.grid_sample(*inputs[-2:], *way))
        wanted.append(sampled(*given[-2:], *way))
    for found, want in zip(dlc.compile(dlc.graph(inputs, outputs), backend)(*given), wanted, strict=True):
        np.testing.assert_allclose(found, want, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("way", [w for w in WAYS if w[0] != "nearest"], ids=str)
def test_gradients_by_image_and_grid(way: Any) -> None:
    x, grid = RNG.standard_normal((1, 2, 3, 4)), RNG.uniform(-1.4, 1.4, (1, 3, 2, 2))
    check_grad(lambda x, g: dlc.grid_sample(x, g, *way), [x, grid], directions=2)


def test_gradients_of_the_nearest_and_of_gradients() -> None:
    x, grid = RNG.standard_normal((1, 2, 3, 4)), RNG.uniform(-1.4, 1.4, (1, 3, 2, 2))
    check_grad(lambda x: dlc.grid_sample(x, grid, "nearest", "border"), [x], directions=2)

    def slopes(x: Any, g: Any) -> Any:
        return dlc.grad(dlc.sum(dlc.grid_sample(x, g, "cubic") ** 2.0), [x, g])[1]

    check_grad(slopes, [x, grid], directions=2)


def test_slopes_at_the_ends_are_torchs() -> None:
    """The whole places of a grid that changes nothing are kinks; these are the values of torch 2.13."""
    x = np.array([[[[1.0, 4.0, 2.0]]]])
    grid = np.array([[[[-1.0, 0.0], [0.0, 0.0], [1.0, 0.0]]]])
    want = {"zeros": [3.0, -2.0, -2.0], "border": [0.0, -2.0, 0.0], "reflection": [0.0, -2.0, 0.0]}
    for padding, slopes in want.items():
        g = dlc.constant(grid)
        found = dlc.evaluate(dlc.grad(dlc.grid_sample(x, g, "linear", padding, True).sum(), [g])[0])
        assert found[0, 0, :, 0].tolist() == slopes


@pytest.mark.parametrize("backend", BACKENDS)
def test_places_that_are_nowhere_are_read_from_nowhere(backend: str) -> None:
    """No element, not even one that is infinite, comes through a weight of 0 from beyond the ends."""
    x = np.full((1, 1, 2, 3), np.inf)
    x[0, 0, :, 1] = 1.0
    far = [np.inf, -np.inf, 1e30, -1e300, 7.0]
    grid = np.array([[[[v, 0.0] for v in far] + [[0.0, v] for v in far]]])
    a, g = dlc.input("x", x.shape, "float64"), dlc.input("g", grid.shape, "float64")
    outputs = []
    modes = ("nearest", "linear", "cubic") if backend == "reference" else ("linear",)
    for mode in modes:
        y = dlc.grid_sample(a, g, mode)
        outputs += [y, *dlc.grad(y.sum(), [a, g])]
    beyond = [dlc.grid_sample(a, g, m, p) for m in modes for p in ("border", "reflection")]
    found = dlc.compile(dlc.graph([a, g], [*outputs, *beyond]), backend)(x, grid)
    for zeros in found[: len(outputs)]:
        np.testing.assert_array_equal(zeros, np.zeros_like(zeros))
    assert all(y.size == 10 for y in found[len(outputs) :])  # which are of elements, some of them infinite
    nothing = dlc.evaluate(dlc.grid_sample(dlc.constant(x), [[[[math.nan, 0.0]]]], "nearest", align_corners=True))
    assert nothing.item() == np.inf  # NaN stands for -1


def test_the_words_of_torch() -> None:
    x, grid = RNG.standard_normal((1, 1, 3, 3)), RNG.uniform(-1, 1, (1, 2, 2, 2))
    for word, mode in (("nearest", "nearest"), ("bilinear", "linear"), ("bicubic", "cubic")):
        found = functional.grid_sample(x, grid, mode=word, padding_mode="border", align_corners=True)
        np.testing.assert_array_equal(
            dlc.evaluate(found), dlc.evaluate(dlc.grid_sample(x, grid, mode, "border", True))
        )
    half = dlc.grid_sample(dlc.constant(x).astype("float16"), dlc.constant(grid).astype("float16"))
    assert half.dtype == "float16"


def test_each_sample_of_a_batch_has_its_own_places() -> None:
    x, grid = RNG.standard_normal((3, 2, 1, 4, 4)), RNG.uniform(-1, 1, (3, 2, 2, 2, 2))
    a, b = dlc.constant(x), dlc.constant(grid)
    found = dlc.evaluate(dlc.vmap(dlc.grid_sample)(a, b))
    for i in range(3):
        np.testing.assert_allclose(found[i], dlc.evaluate(dlc.grid_sample(x[i], grid[i])), rtol=1e-12)


@pytest.mark.parametrize("align", [False, True])
def test_the_grid_of_an_affine_map(align: bool) -> None:
    """Each place is the map's product with (x, y, 1) of the element's centre; that of a named size is the same."""
    theta, sizes = RNG.standard_normal((2, 2, 3)), (1, 4, 3)
    t = dlc.input("t", theta.shape, "float64")
    a = dlc.input("a", (2, 1, "H", "W"), "float64")
    named = dlc.compile(dlc.graph([t, a], [functional.affine_grid(t, a.shape, align)]), "reference")
    for h, w in itertools.product(sizes, sizes):
        ys, xs = ([(2 * i / max(d - 1, 1) - 1) * (d > 1) if align else (2 * i + 1) / d - 1 for i in range(d)]
                  for d in (h, w))  # fmt: skip
        base = np.array([[[x, y, 1.0] for x in xs] for y in ys])
        want = np.einsum("hwk,nik->nhwi", base, theta)
        found = dlc.evaluate(dlc.affine_grid(theta, (2, 1, h, w), align))
        np.testing.assert_allclose(found, want, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(named(theta, np.zeros((2, 1, h, w)))[0], want, rtol=1e-12, atol=1e-14)
    check_grad(lambda t: dlc.affine_grid(t, (2, 1, 2, 3, 2)), [RNG.standard_normal((2, 3, 4))], directions=2)


X, G = np.zeros((1, 1, 2, 3)), np.zeros((1, 2, 2, 2))


@pytest.mark.parametrize("call", [
    lambda: dlc.grid_sample(X, G[..., :1]), lambda: dlc.grid_sample(X[0], G), lambda: dlc.grid_sample(X, G, "sharp"),
    lambda: dlc.grid_sample(X, G, padding="edge"), lambda: dlc.grid_sample(X.astype(int), G.astype(int)),
    lambda: dlc.grid_sample(np.zeros((2, 1, 2, 3)), G), lambda: dlc.grid_sample(X[:, :, :0], G),
    lambda: functional.grid_sample(X, G, "cubic"), lambda: dlc.affine_grid(G[0], (1, 1, 2, 2)),
    lambda: dlc.affine_grid(np.zeros((1, 2, 3), int), (1, 1, 2, 2)), lambda: dlc.affine_grid(G[:, 0], (1, 1)),
])  # fmt: skip
def test_what_does_not_fit_is_refused_with_its_place(call: Callable[[], Any]) -> None:
    with pytest.raises(DlcError, match=r"test_sampling\.py:\d+"):
        call()
