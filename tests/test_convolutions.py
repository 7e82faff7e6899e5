"""The loops of convolutions and their adjoints, over every way that images and kernels are cut into blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dlc
from dlc.dims import evaluate
from dlc.ir import Node
from tests.native import run_kernel, source_of

Array = np.ndarray[Any, Any]


def run(node: Node, arrays: Sequence[Array], bindings: Mapping[str, int]) -> Array:
    """The result of a node's kernel, with its tasks in three parts."""
    ((result,), _) = run_kernel(node, arrays, bindings, division=3)
    return result


def values(seed: int, shape: Sequence[int], dtype: str) -> Array:
    """Small whole numbers, whose products and sums are exact in any order."""
    return np.random.default_rng(seed).integers(-3, 4, shape).astype(dtype)


def compare(
    x: Sequence[int], w: Sequence[int], how: Mapping[str, Any], dtype: str = "float32", named: bool = False
) -> None:
    """All three kernels of one convolution against their references, to the bit."""
    sizes = dict(zip(("N", "H", "W"), (x[0], *x[2:]), strict=True)) if named else {}
    images = dlc.input("x", ("N", x[1], "H", "W") if named else x, dtype)
    filters = dlc.input("w", w, dtype)
    y = dlc.conv2d(images, filters, **how)
    g = dlc.input("g", y.shape, dtype)
    dx = dlc.ops.conv2d_data_gradient(g, filters, shape=images.shape[2:], **how)
    dw = dlc.ops.conv2d_weight_gradient(images, g, size=w[2:], **how)
    out = tuple(evaluate(d, sizes) for d in y.shape)
    xs, ws, gs = values(0, x, dtype), values(1, w, dtype), values(2, out, dtype)
    wild = ws.copy()  # beyond the gradients there is nothing, not zeros that would make NaN of these
    places = np.random.default_rng(3).integers(0, max(ws.size, 1), 1 + ws.size // 40)
    wild.flat[places] = np.resize([np.inf, np.nan, -np.inf], places.shape)
    for node, operands in ((y.node, (xs, ws)), (dx.node, (gs, ws)), (dx.node, (gs, wild)), (dw.node, (xs, gs))):
        attrs = dict(node.attrs)
        if "shape" in attrs:
            attrs["shape"] = x[2:]
        assert node.op.reference is not None
        with np.errstate(invalid="ignore"):
            wanted = node.op.reference(*operands, **attrs)
        found = run(node, operands, sizes)
        np.testing.assert_array_equal(found, wanted, err_msg=node.op.name)
        if operands[-1] is not wild:  # the bits of a NaN are left open
            assert run(node, operands, sizes).tobytes() == found.tobytes()


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[Any, ...]:
    def few(n: int) -> int:
        return draw(st.integers(1, n))

    groups, size, gap = few(3), (few(5), few(5)), (few(3), few(3))
    pads = tuple((draw(st.integers(0, 3)), draw(st.integers(0, 3))) for _ in "yx")
    least = [max(1, (k - 1) * d + 1 - sum(p)) for k, d, p in zip(size, gap, pads, strict=True)]
    x = (draw(st.integers(0, 2)), groups * few(3), *(n + draw(st.integers(0, 20)) for n in least))
    w = (groups * few(6), x[1] // groups, *size)
    return x, w, {"stride": (few(3), few(3)), "padding": pads, "dilation": gap, "groups": groups}


@settings(max_examples=3, deadline=None, derandomize=True)
@given(convolutions(), st.sampled_from(["float32", "float64"]), st.booleans())
def test_any_geometry(case: tuple[Any, ...], dtype: str, named: bool) -> None:
    x, w, how = case
    compare(x, w, how, dtype, named)


SIZES = [
    ((1, 2, 45, 150), (4, 2, 3, 3)),  # several tiles each way
    ((2, 2, 2, 1000), (5, 2, 3, 3)),
    ((2, 2, 700, 2), (5, 2, 3, 3)),
    ((2, 70, 4, 3), (150, 70, 3, 3)),  # several blocks of channels and of filters
    ((3, 2, 227, 227), (4, 2, 3, 3)),
    ((0, 2, 8, 8), (4, 2, 3, 3)),
]


@pytest.mark.parametrize("x, w", SIZES)
def test_one_kernel_for_images_of_all_sizes(x: tuple[int, ...], w: tuple[int, ...]) -> None:
    compare(x, w, {"padding": 1})


Case = tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]
CASES: dict[str, Case] = {
    "one pixel": ((3, 200, 1, 1), (9, 200, 1, 1), {}),
    "a kernel of several blocks": ((1, 1, 70, 66), (1, 1, 64, 62), {}),
    "a wide dilation": ((1, 1, 240, 230), (2, 1, 3, 3), {"dilation": (110, 101)}),
    "many small images in a tile": ((21, 3, 4, 5), (20, 3, 3, 3), {"padding": 1}),
    "small images, strided": ((9, 18, 8, 8), (17, 18, 3, 3), {"stride": 2, "padding": 1}),
    "strides past a phase": ((1, 2, 30, 30), (2, 2, 2, 2), {"stride": (5, 4), "padding": 1}),
}
MORE: dict[str, Case] = {
    "one row": ((2, 2, 1, 1000), (3, 2, 1, 5), {"padding": ((0, 0), (2, 2))}),
    "one column": ((2, 2, 700, 1), (3, 2, 5, 1), {}),
    "a long kernel": ((1, 1, 3, 300), (2, 1, 1, 251), {}),
    "a large prime kernel": ((1, 1, 40, 40), (1, 1, 31, 37), {"padding": ((3, 0), (0, 5))}),
    "patches": ((1, 3, 32, 48), (5, 3, 16, 16), {"stride": 16}),
    "a dilation that meets few phases": ((1, 2, 30, 30), (2, 2, 3, 3), {"stride": 4, "dilation": 2}),
    "a large image": ((1, 3, 227, 227), (4, 3, 11, 11), {"stride": 4}),
    "depthwise": ((2, 8, 9, 9), (8, 1, 3, 3), {"groups": 8, "padding": 1}),
    "more padding than image": ((1, 1, 2, 2), (1, 1, 5, 5), {"padding": 9}),
}


@pytest.mark.parametrize("name", [*CASES, *(pytest.param(n, marks=pytest.mark.slow) for n in MORE)])
def test_every_way_to_cut_into_blocks(name: str) -> None:
    x, w, how = (CASES | MORE)[name]
    compare(x, w, how)


def test_infinities_stay_in_the_sums_they_belong_to() -> None:
    x, w = values(0, (1, 1, 9, 11), "float32"), values(1, (2, 1, 3, 3), "float32")
    x[0, 0, 0, 0], x[0, 0, 8, 10] = np.inf, np.nan
    y = dlc.conv2d(dlc.input("x", x.shape), dlc.input("w", w.shape))
    g = values(2, y.shape, "float32")
    dw = dlc.ops.conv2d_weight_gradient(dlc.input("x", x.shape), dlc.input("g", g.shape), size=3)
    for node, operands in ((y.node, (x, w)), (dw.node, (x, g))):
        with np.errstate(invalid="ignore"):
            assert node.op.reference is not None
            wanted = node.op.reference(*operands, **node.attrs)
        assert np.isfinite(wanted).any() and not np.isfinite(wanted).all()
        np.testing.assert_array_equal(np.isfinite(run(node, operands, {})), np.isfinite(wanted))


def test_one_source_for_images_of_many_sizes() -> None:
    def source(n: int, channels: int, filters: int, side: int) -> str:
        x, w = dlc.input("x", (n, channels, side, side)), dlc.input("w", (filters, channels, 3, 3))
        return source_of(dlc.conv2d(x, w, padding=1).node)

    assert source(2, 64, 128, 40) == source(7, 96, 128, 57)
