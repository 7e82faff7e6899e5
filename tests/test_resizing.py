"""Resizing against values that torch 2.13 gives, and against sums written out; gradients; refusals."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from runnable import BACKENDS

import dlc
from dlc.errors import DlcError
from dlc.nn import functional
from dlc.testing import check_grad

V = np.array([[[1.0, -2.0, 4.0, 0.5, 3.0]]])

TORCH: list[tuple[dict[str, Any], list[float]]] = [
    ({"size": 8, "mode": "nearest"}, [1, 1, -2, -2, 4, 0.5, 0.5, 3]),
    ({"size": 3, "mode": "nearest"}, [1, -2, 0.5]),
    ({"size": 8, "mode": "nearest-exact"}, [1, 1, -2, 4, 4, 0.5, 3, 3]),
    ({"size": 8, "mode": "linear"}, [1, -0.3125, -1.625, 2.125, 2.90625, 0.71875, 1.90625, 3]),
    ({"size": 3, "mode": "linear"}, [0, 4, 2.1666666667]),
    ({"size": 8, "mode": "linear", "align_corners": True},
     [1, -0.7142857143, -1.1428571429, 2.2857142857, 3, 1, 1.5714285714, 3]),
    ({"scale_factor": 1.7, "mode": "linear"},
     [1, -0.1470588235, -1.9117647059, 1.3529411765, 3.4852941176, 1.4264705882, 1.3088235294, 2.7794117647]),
    ({"size": 3, "mode": "area"}, [-0.5, 0.8333333333, 1.75]),
    ({"size": (4, 8), "mode": "bicubic"},
     [1.278503418, -0.7739257812, -1.8158874512, 2.4825134277, 3.5155334473, 0.5873718262, 1.6428527832, 3.2320861816]),
    ({"size": (4, 8), "mode": "bicubic", "align_corners": True},
     [1, -1.3702623907, -1.4642857143, 2.6683673469, 3.6231778426, 0.805393586, 1.1822157434, 3]),
    ({"size": (4, 3), "mode": "bicubic"}, [-0.2777777778, 4, 2.0185185185]),
    ({"size": (4, 3), "mode": "bicubic", "antialias": True}, [-0.3230769231, 1.8069767442, 2.0384615385]),
    ({"scale_factor": (1, 0.5), "mode": "bilinear", "antialias": True}, [0.1428571429, 1.8125]),
]  # fmt: skip


@pytest.mark.parametrize("how, want", TORCH, ids=str)
def test_values_are_torchs(how: dict[str, Any], want: list[float]) -> None:
    x = V if how["mode"] not in ("bilinear", "bicubic") else np.broadcast_to(V[:, :, None], (1, 1, 4, 5))
    got = dlc.evaluate(functional.interpolate(np.array(x), **how))[0, 0]
    np.testing.assert_allclose(got if got.ndim == 1 else got[1], want, rtol=1e-9, atol=1e-9)


def nearest(d: int, n: int, place: Callable[[float], float], rounded: Callable[[float], float]) -> list[int]:
    return [int(min(max(rounded(place(i)), 0), d - 1)) for i in range(n)]


@pytest.mark.parametrize("d, n", [(5, 10), (5, 5), (5, 15), (6, 3), (5, 3), (4, 7), (3, 1)])
def test_nearest_takes_the_element_that_the_formula_names(d: int, n: int) -> None:
    x = np.arange(d)[None, None]
    half = lambda i: (i + 0.5) * d / n - 0.5  # noqa: E731
    plain = lambda i: i * d / n  # noqa: E731
    for coordinates, place in (("half_pixel", half), ("asymmetric", plain)):
        for rounding, rounded in (("floor", np.floor), ("ceil", np.ceil),
                                  ("round_prefer_floor", lambda c: np.ceil(c - 0.5)),
                                  ("round_prefer_ceil", lambda c: np.floor(c + 0.5))):  # fmt: skip
            got = dlc.evaluate(dlc.resize(x, n, coordinates=coordinates, rounding=rounding))
            assert got[0, 0].tolist() == nearest(d, n, place, rounded), (coordinates, rounding)


def linear_by_hand(x: Any, n: int) -> Any:
    """One axis, the last, by the half-pixel formula."""
    d = x.shape[-1]
    at = np.clip((np.arange(n) + 0.5) * d / n - 0.5, 0, d - 1)
    return np.stack([np.apply_along_axis(lambda v: np.interp(at, np.arange(d), v), -1, x)], -1)[..., 0]


@pytest.mark.parametrize("backend", BACKENDS)
def test_trilinear_goes_axis_by_axis(backend: str) -> None:
    data = np.random.default_rng(0).standard_normal((2, 1, 3, 4, 5))
    x = dlc.input("x", data.shape, "float64")
    y = dlc.resize(x, (5, 2, 7), mode="linear")
    graph = dlc.graph([x], [y, *dlc.grad((y * y).sum(), [x])])
    want = data
    for axis, n in ((2, 5), (3, 2), (4, 7)):
        want = np.moveaxis(linear_by_hand(np.moveaxis(want, axis, -1), n), -1, axis)
    got = dlc.compile(graph, backend)(data)
    np.testing.assert_allclose(got[0], want, rtol=1e-12)
    np.testing.assert_allclose(got[1], dlc.compile(graph, "reference")(data)[1], rtol=1e-9)
    if backend == "reference":
        check_grad(graph, [data], directions=2)


@pytest.mark.parametrize("how", [
    {"size": 7, "mode": "cubic"}, {"size": 3, "mode": "nearest"}, {"size": 10}, {"scale": 1.5, "mode": "linear"},
])  # fmt: skip
def test_gradients(how: dict[str, Any]) -> None:
    x = dlc.input("x", V.shape, "float64")
    y = dlc.resize(x, **how)
    check_grad(dlc.graph([x], [(y * y).sum()]), [V], directions=2)


def test_the_other_coordinates() -> None:
    half = dlc.evaluate(dlc.resize(V, 8, mode="linear"))
    for coordinates in ("pytorch_half_pixel", "half_pixel_symmetric"):
        np.testing.assert_allclose(dlc.evaluate(dlc.resize(V, 8, mode="linear", coordinates=coordinates)), half)
    for coordinates in ("pytorch_half_pixel", "align_corners"):
        assert dlc.evaluate(dlc.resize(V, 1, mode="linear", coordinates=coordinates)).item() == 1.0
    assert dlc.evaluate(dlc.resize(V, 1, mode="linear")).item() == 4.0
    np.testing.assert_array_equal(dlc.evaluate(dlc.resize(V, 5, mode="cubic")), V)


def weight(t: float, mode: str, a: float) -> float:
    if mode == "linear":
        return max(0.0, 1 - t)
    if t <= 1:
        return (a + 2) * t**3 - (a + 3) * t**2 + 1
    return a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a if t < 2 else 0.0


def filtered(x: Any, n: int, mode: str, a: float, antialias: bool, exclude: bool) -> Any:
    """The last axis by its filter over all elements; those beyond the ends are the ones there, or do not count."""
    d = x.shape[-1]
    narrow, out = (min(n / d, 1) if antialias else 1), []
    for i in range(n):
        at, row = (i + 0.5) * d / n - 0.5, np.zeros(d)
        for j in range(-2 * d, 3 * d):
            if 0 <= j < d or not exclude:
                row[min(max(j, 0), d - 1)] += weight(abs(at - j) * narrow, mode, a)
        out.append(x @ (row / row.sum()))
    return np.stack(out, -1)


@pytest.mark.parametrize("backend", BACKENDS)
def test_filters_are_as_wide_as_what_they_make(backend: str) -> None:
    """Some of them reach over so many elements that they are a reduction."""
    data = np.random.default_rng(0).standard_normal((2, 1, 23))
    x, some = dlc.input("x", data.shape, "float64"), [(4, "linear", -0.75, True, True), (4, "cubic", -0.5, True, True)]
    ways = [(n, mode, -0.6, *flags) for n in (3, 5, 9, 31) for mode in ("linear", "cubic")
            for flags in ((True, False), (True, True), (False, True))] if backend == "reference" else []  # fmt: skip
    outputs = [dlc.resize(x, n, None, mode, cubic=a, antialias=anti, exclude_outside=exclude)
               for n, mode, a, anti, exclude in some + ways]  # fmt: skip
    graph = dlc.graph([x], [*outputs, *dlc.grad((outputs[1] ** 2.0).sum(), [x])])
    found = dlc.compile(graph, backend)(data)
    for y, way in zip(found, some + ways, strict=False):
        np.testing.assert_allclose(y, filtered(data, *way), rtol=1e-11, atol=1e-13)
    if backend == "reference":
        check_grad(dlc.graph([x], [outputs[1]]), [data], directions=2)


def test_a_crop_is_of_the_way_between_the_ends() -> None:
    x = np.arange(5.0)[None, None] ** 2
    at = 4 * (0.25 + (1.25 - 0.25) * np.arange(6) / 5)
    found = dlc.evaluate(dlc.resize(x, 6, mode="linear", crop=[(0.25, 1.25)], beyond=-9.0))[0, 0]
    np.testing.assert_allclose(found, np.where(at > 4, -9, np.interp(at, np.arange(5), x[0, 0])), rtol=1e-12)
    assert dlc.evaluate(dlc.resize(x, 1, mode="linear", crop=[(0.5, 1.0)])).item() == 9.0  # the middle
    backwards = dlc.evaluate(dlc.resize(x.astype(int), 5, crop=[(1, 0)]))
    assert backwards[0, 0].tolist() == [16, 9, 4, 1, 0]
    images = np.arange(12.0).reshape(1, 1, 3, 4)
    both = dlc.evaluate(dlc.resize(images, (2, 2), mode="cubic", crop=[(0.5, 1.5), (-0.5, 1.0)], beyond=-9.0))
    assert both[0, 0].tolist() == [[-9.0, 7.0], [-9.0, -9.0]]


def test_corners_of_a_length_that_is_not_whole() -> None:
    """The last new element stands where it would in 5 * 0.7 = 3.5 of them."""
    found = dlc.evaluate(dlc.resize(V, scale=0.7, mode="linear", coordinates="align_scaled_corners"))[0, 0]
    np.testing.assert_allclose(found, np.interp(np.arange(3) * 4 / 2.5, np.arange(5), V[0, 0]), rtol=1e-12)
    whole = dlc.resize(V, 8, mode="linear", coordinates="align_scaled_corners")
    np.testing.assert_array_equal(
        dlc.evaluate(whole), dlc.evaluate(dlc.resize(V, 8, mode="linear", coordinates="align_corners"))
    )


def test_named_sizes_are_repeated() -> None:
    x = dlc.input("x", ("N", 1, "L"))
    program = dlc.compile(dlc.graph([x], [dlc.resize(x, scale=3)]), "reference")
    np.testing.assert_array_equal(program(np.array([[[1.0, 2.0]]], "f"))[0], [[[1, 1, 1, 2, 2, 2]]])


L = dlc.input("x", ("N", 1, "L"))


@pytest.mark.parametrize("call", [
    lambda: dlc.resize(V), lambda: dlc.resize(V, 3, 2.0), lambda: dlc.resize(V, 0), lambda: dlc.resize(V, (3, 3)),
    lambda: dlc.resize(V, scale=0.1), lambda: dlc.resize(V, 3, mode="sharp"), lambda: dlc.resize(V[0], 3),
    lambda: dlc.resize(V, 3, coordinates="some"), lambda: dlc.resize(V, 3, rounding="some"),
    lambda: dlc.resize(V.astype(int), 3, mode="linear"), lambda: dlc.resize(L, 3), lambda: dlc.resize(L, scale=1.5),
    lambda: dlc.resize(L, scale=2, mode="linear"), lambda: functional.interpolate(V, 3, mode="bilinear"),
    lambda: functional.interpolate(V, 3, mode="some"), lambda: functional.interpolate(V, 3, align_corners=True),
    lambda: dlc.resize(V, 3, antialias=True), lambda: dlc.resize(V, 3, crop=[(0, 1)] * 2),
    lambda: dlc.resize(V, 3, crop=[(0, float("inf"))]), lambda: dlc.resize(L, scale=2, crop=[(0, 1)]),
    lambda: functional.interpolate(V, 3, mode="linear", antialias=True),
    lambda: functional.interpolate(V, mode="area"), lambda: functional.interpolate(V, scale_factor=-1, mode="area"),
])  # fmt: skip
def test_what_does_not_fit_is_refused_with_its_place(call: Callable[[], Any]) -> None:
    with pytest.raises(DlcError, match=r"test_resizing\.py:\d+"):
        call()
