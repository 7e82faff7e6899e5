"""Convolutions over 1 to 3 axes and their transposes, against sums written out in NumPy; gradients; refusals."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from runnable import BACKENDS

import dlc
from dlc import ops
from dlc.errors import DlcError
from dlc.testing import check_grad

Array = Any
CONV: dict[int, Callable[..., Any]] = {1: ops.conv1d, 2: ops.conv2d, 3: ops.conv3d}
TRANSPOSE: dict[int, Callable[..., Any]] = {1: ops.conv_transpose1d, 2: ops.conv_transpose2d, 3: ops.conv_transpose3d}


def meetings(x: tuple[int, ...], k: tuple[int, ...], out: tuple[int, ...], s: int, low: int, d: int) -> Any:
    """All (image place, kernel place, result place) of a convolution with equal attributes on all axes."""
    for at in itertools.product(*map(range, out)):
        for kernel in itertools.product(*map(range, k)):
            place = tuple(a * s + b * d - low for a, b in zip(at, kernel, strict=True))
            if all(0 <= p < n for p, n in zip(place, x, strict=True)):
                yield place, kernel, at


def convolved(x: Array, w: Array, s: int, pads: tuple[int, int], d: int, groups: int) -> Array:
    low, high = pads
    out = tuple((n + low + high - d * (k - 1) - 1) // s + 1 for n, k in zip(x.shape[2:], w.shape[2:], strict=True))
    y = np.zeros((x.shape[0], w.shape[0], *out))
    per = w.shape[0] // groups
    for place, kernel, at in meetings(x.shape[2:], w.shape[2:], out, s, low, d):
        for o in range(w.shape[0]):
            first = o // per * w.shape[1]
            y[(slice(None), o, *at)] += (
                x[(slice(None), slice(first, first + w.shape[1]), *place)] @ w[(o, slice(None), *kernel)]
            )
    return y


def transposed(x: Array, w: Array, s: int, pads: tuple[int, int], d: int, groups: int, extra: int) -> Array:
    low, high = pads
    lengths = zip(x.shape[2:], w.shape[2:], strict=True)
    out = tuple((n - 1) * s + d * (k - 1) + 1 - low - high + extra for n, k in lengths)
    y = np.zeros((x.shape[0], w.shape[1] * groups, *out))
    per = w.shape[0] // groups
    for place, kernel, at in meetings(out, w.shape[2:], x.shape[2:], s, low, d):
        for c in range(w.shape[0]):
            first = c // per * w.shape[1]
            y[(slice(None), slice(first, first + w.shape[1]), *place)] += np.outer(
                x[(slice(None), c, *at)], w[(c, slice(None), *kernel)]
            )
    return y


# stride, padding as given, (low, high) for a kernel of 3, dilation, groups
CASES = [
    (1, 0, (0, 0), 1, 1), (2, 1, (1, 1), 1, 2), (1, "full", (4, 4), 2, 1), (1, "same", (2, 2), 2, 2),
    (3, "pairs", (0, 2), 1, 1),
]  # fmt: skip
LENGTHS = {1: (8,), 2: (7, 6), 3: (6, 5, 5)}


def on_backends(cases: list[Any]) -> list[Any]:
    """All cases on the reference; one, with stride and groups, by kernels, which take seconds to compile."""
    return [("reference", *c) for c in cases] + [(b, *cases[1]) for b in BACKENDS if b != "reference"]


def arrays(rank: int, x: tuple[int, ...], w: tuple[int, ...]) -> tuple[Array, Array]:
    rng = np.random.default_rng(rank)
    return rng.standard_normal((*x, *LENGTHS[rank])), rng.standard_normal((*w, *(3,) * rank))


def given(padding: Any, pads: tuple[int, int], rank: int) -> Any:
    return (pads,) * rank if padding == "pairs" else padding


def check(y: Any, inputs: list[Any], data: list[Array], want: Array, backend: str) -> None:
    graph = dlc.graph(inputs, [y, *dlc.grad((y * y).sum(), inputs)])
    values = dlc.compile(graph, backend)(*data)
    np.testing.assert_allclose(values[0], want, rtol=1e-11, atol=1e-11)
    if backend == "reference":
        check_grad(graph, data, directions=1)
    else:
        for got, expected in zip(values, dlc.compile(graph, "reference")(*data), strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-11, atol=1e-9)


@pytest.mark.parametrize("rank", CONV)
@pytest.mark.parametrize("backend, stride, padding, pads, dilation, groups", on_backends(CASES))
def test_convolutions(
    backend: str, stride: int, padding: Any, pads: tuple[int, int], dilation: int, groups: int, rank: int
) -> None:
    data = arrays(rank, (2, 4), (2, 4 // groups))
    x, w = (dlc.input(n, a.shape, "float64") for n, a in zip("xw", data, strict=True))
    y = CONV[rank](x, w, stride, given(padding, pads, rank), dilation, groups)
    check(y, [x, w], list(data), convolved(*data, stride, pads, dilation, groups), backend)


@pytest.mark.parametrize("rank", TRANSPOSE)
@pytest.mark.parametrize(
    "backend, stride, padding, pads, dilation, groups, extra, given_extra", on_backends(
    [(1, 0, (0, 0), 1, 1, 0, 0), (2, 1, (1, 1), 1, 2, 1, 1), (3, "pairs", (1, 0), 2, 2, 2, 2),
     (2, "same", (0, 1), 1, 1, 0, 0), (4, "same", (0, 0), 1, 1, 1, 0), (1, "full", (2, 2), 1, 1, 0, 0)]),
)  # fmt: skip
def test_transposed_convolutions(
    backend: str, stride: int, padding: Any, pads: tuple[int, int], dilation: int, groups: int, extra: int,
    given_extra: int, rank: int,
) -> None:  # fmt: skip
    data = arrays(rank, (2, 4), (4, 2))
    x, w = (dlc.input(n, a.shape, "float64") for n, a in zip("xw", data, strict=True))
    y = TRANSPOSE[rank](x, w, stride, given(padding, pads, rank), given_extra, groups, dilation)
    check(y, [x, w], list(data), transposed(*data, stride, pads, dilation, groups, extra), backend)


@pytest.mark.parametrize("rank", TRANSPOSE)
def test_named_dims_and_the_adjoint(rank: int) -> None:
    """<conv(x), y> = <x, transposed(y)> for any batch and length, by one program."""
    names = ("D", "H", "W")[:rank]
    x, w = dlc.input("x", ("N", 4, *names), "float64"), dlc.input("w", (6, 2, *(3,) * rank), "float64")
    y = CONV[rank](x, w, 1, 1, 1, 2)
    program = dlc.compile(dlc.graph([x, w], [y, TRANSPOSE[rank](y, w, 1, 1, 0, 2)]), "reference")
    rng = np.random.default_rng(0)
    for n, length in ((1, 4), (3, 5)):
        a, b = rng.standard_normal((n, 4, *(length,) * rank)), rng.standard_normal((6, 2, *(3,) * rank))
        forward, back = program(a, b)
        assert math.isclose(float((forward * forward).sum()), float((a * back).sum()), rel_tol=1e-10)


A, W = np.zeros((2, 4, 6), np.float32), np.zeros((4, 4, 3), np.float32)


@pytest.mark.parametrize("call", [
    lambda: dlc.conv1d(A, W[0]), lambda: dlc.conv1d(A, W, padding="some"), lambda: dlc.conv1d(A, W, padding=-1),
    lambda: dlc.conv1d(A, W, stride=0), lambda: dlc.conv1d(A, W[:, :3]), lambda: dlc.conv1d(A, W, dilation=5),
    lambda: dlc.conv1d(A.astype(int), W.astype(int)), lambda: dlc.conv3d(A, W), lambda: dlc.conv_transpose1d(A, W[:3]),
    lambda: dlc.conv_transpose1d(A, W, output_padding=-1), lambda: dlc.conv_transpose1d(A, W, groups=3),
    lambda: dlc.conv_transpose1d(A, W, groups=0), lambda: dlc.conv_transpose1d(A, W, padding=9),
    lambda: dlc.conv_transpose2d(A, W),
])  # fmt: skip
def test_what_does_not_fit_is_refused_with_its_place(call: Callable[[], Any]) -> None:
    with pytest.raises(DlcError, match=r"test_convolution_ranks\.py:\d+"):
        call()
