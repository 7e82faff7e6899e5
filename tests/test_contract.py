"""Matrix products and convolutions: shapes, sizes that are published, and NumPy or plain loops as oracles."""

from typing import Any

import numpy as np
import pytest
from runnable import BACKENDS

import dlc
from dlc.errors import AttributeValueError, DlcError, DTypeError, ShapeError
from dlc.ops.convolution import pads_of

RNG = np.random.default_rng(0)


def values(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    return [RNG.standard_normal(s).astype("f") for s in shapes]


# ---------------------------------------------------------------- matmul


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((3,), (3,)), ((3,), (3, 2)), ((2, 3), (3,)), ((2, 3), (3, 4)), ((5, 2, 3), (3,)), ((3,), (5, 3, 2)),
        ((5, 2, 3), (3, 4)), ((2, 3), (5, 3, 4)), ((1, 2, 3), (5, 3, 4)), ((6, 1, 2, 3), (5, 3, 4)), ((0, 3), (3, 2)),
        ((2, 0), (0, 3)),
    ],
)  # fmt: skip
def test_matmul_follows_numpy(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    x, y = values(a, b)
    got = dlc.evaluate(dlc.matmul(x, y))
    assert got.shape == np.matmul(x, y).shape
    np.testing.assert_allclose(got, np.matmul(x, y), rtol=1e-5, atol=1e-6)


def test_many_rows_times_one_matrix_are_one_product() -> None:
    y = dlc.input("x", ("N", "T", 8)) @ dlc.input("w", (8, 4))
    (product,) = (n for n in dlc.ir.topological([y.node]) if n.op.name == "matmul")
    assert str(product.type) == "f32[N*T,4]" and [str(d) for d in y.shape] == ["N", "T", "4"]


def inner_dims() -> None:
    dlc.matmul(dlc.input("x", ("N", 784)), dlc.input("w", (100, 10)))


def integer_matmul() -> None:
    dlc.matmul(dlc.input("x", (2, 2), "int32"), dlc.input("w", (2, 2), "int32"))


def batch_dims() -> None:
    dlc.matmul(dlc.input("x", ("N", 2, 3)), dlc.input("w", ("M", 3, 2)))


# ---------------------------------------------------------------- convolution


def slow_convolution(x: Any, w: Any, stride: Any, pads: Any, dilation: Any, groups: int) -> Any:
    """The definition, as loops."""
    x = np.pad(x.astype("d"), [(0, 0), (0, 0), *pads])
    span = [d * (k - 1) + 1 for d, k in zip(dilation, w.shape[2:], strict=True)]
    rows, columns = ((n - k) // s + 1 for n, k, s in zip(x.shape[2:], span, stride, strict=True))
    y = np.zeros((x.shape[0], w.shape[0], rows, columns))
    filters, channels = w.shape[0] // groups, w.shape[1]
    for n, o, i, j in np.ndindex(y.shape):
        first = o // filters * channels
        for c, k, m in np.ndindex(w.shape[1:]):
            y[n, o, i, j] += (
                x[n, first + c, i * stride[0] + k * dilation[0], j * stride[1] + m * dilation[1]] * w[o, c, k, m]
            )
    return y


@pytest.mark.parametrize("backend", BACKENDS)
def test_convolution_follows_its_definition(backend: str) -> None:
    cases = [
        ((2, 3, 5, 6), (4, 3, 3, 2), {}),
        ((1, 2, 7, 6), (2, 2, 3, 3), {"stride": (2, 3), "padding": ((1, 0), (2, 1))}),
        ((1, 4, 6, 6), (4, 2, 2, 3), {"dilation": (3, 2), "groups": 2, "padding": 1}),
        ((2, 3, 4, 5), (6, 1, 3, 3), {"groups": 3, "padding": "same"}),
        ((3, 5, 4, 4), (2, 5, 1, 1), {"stride": 2}),
    ]
    inputs, outputs, data, want = [], [], [], []
    for i, (xs, ws, how) in enumerate(cases):
        x, w = values(xs, ws)
        inputs += [dlc.input(f"x{i}", (f"N{i}", xs[1], f"H{i}", f"W{i}")), dlc.input(f"w{i}", ws)]
        outputs.append(dlc.conv2d(*inputs[-2:], **how))
        full = {name: outputs[-1].node.attrs[name] for name in ("stride", "padding", "dilation", "groups")}
        data += [x, w]
        want.append(slow_convolution(x, w, *full.values()))
    for got, expected in zip(dlc.compile(dlc.graph(inputs, outputs), backend)(*data), want, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def test_published_sizes() -> None:
    """CS231n's example volume, and AlexNet's first layer."""
    volume = dlc.conv2d(dlc.input("x", (1, 3, 7, 7)), dlc.input("w", (2, 3, 3, 3)), stride=2)
    assert volume.shape == (1, 2, 3, 3)
    image = dlc.conv2d(dlc.input("x", ("N", 3, 227, 227)), dlc.input("w", (96, 3, 11, 11)), stride=4)
    assert image.shape[1:] == (96, 55, 55)
    flops, _ = image.node.op.flops_and_bytes(image.node)
    assert flops == image.shape[0] * (2 * 55 * 55 * 96 * 11 * 11 * 3)


def test_named_dims_give_polynomials() -> None:
    x = dlc.input("x", ("N", 3, "H", "W"))
    y = dlc.conv2d(x, dlc.input("w", (8, 3, 5, 5)), stride=2, padding=2)
    assert [str(d) for d in y.shape] == ["N", "8", "(H+1)//2", "(W+1)//2"]
    assert dlc.conv2d(x, dlc.input("w", (8, 3, 3, 3)), padding="same").shape == (x.shape[0], 8, *x.shape[2:])
    (gx, gw) = dlc.grad(y.sum(), [x, y.node.inputs[1]])
    assert gx.type == x.type and gw.shape == (8, 3, 5, 5)


@pytest.mark.parametrize(
    ("padding", "dims", "size", "stride", "pads"),
    [
        ("same", (5, 5), (3, 3), (1, 1), ((1, 1), (1, 1))),
        ("same", (6, 6), (3, 2), (2, 2), ((0, 1), (0, 0))),
        ("valid", (6, 6), (3, 3), (1, 1), ((0, 0), (0, 0))),
        ((1, 2), (6, 6), (3, 3), (1, 1), ((1, 1), (2, 2))),
        (((0, 1), (2, 3)), (6, 6), (3, 3), (1, 1), ((0, 1), (2, 3))),
    ],
)
def test_padding_as_written(padding: Any, dims: Any, size: Any, stride: Any, pads: Any) -> None:
    assert pads_of(padding, dims, size, stride, (1, 1)) == pads


def channels() -> None:
    dlc.conv2d(dlc.input("x", ("N", 3, 8, 8)), dlc.input("w", (4, 1, 3, 3)))


def kernel_too_large() -> None:
    dlc.conv2d(dlc.input("x", ("N", 3, 4, 4)), dlc.input("w", (4, 3, 5, 5)))


def strided_same_of_a_named_dim() -> None:
    dlc.conv2d(dlc.input("x", ("N", 3, "H", "W")), dlc.input("w", (4, 3, 3, 3)), stride=2, padding="same")


def unknown_padding() -> None:
    dlc.conv2d(dlc.input("x", ("N", 3, 8, 8)), dlc.input("w", (4, 3, 3, 3)), padding="half")


def three_axes() -> None:
    dlc.conv2d(dlc.input("x", (3, 8, 8)), dlc.input("w", (4, 3, 3, 3)))


def filters_and_groups() -> None:
    dlc.conv2d(dlc.input("x", ("N", 4, 8, 8)), dlc.input("w", (3, 2, 3, 3)), groups=2)


@pytest.mark.parametrize(
    ("call", "kind", "parts"),
    [
        (inner_dims, ShapeError, ("f32[N,784]", "f32[100,10]", "784", "100", "matrix_transpose")),
        (integer_matmul, DTypeError, ("i32[2,2]", ".astype('float32')")),
        (batch_dims, ShapeError, ("N", "M")),
        (channels, ShapeError, ("f32[N,3,8,8]", "f32[4,1,3,3]", "3 channels", "in_channels=3")),
        (kernel_too_large, ShapeError, ("f32[4,3,5,5]", "f32[N,3,4,4]", "pad more")),
        (strided_same_of_a_named_dim, AttributeValueError, ("same", "stride 2", "H")),
        (unknown_padding, AttributeValueError, ("'half'", "'same', 'valid', 'full'")),
        (three_axes, ShapeError, ("4 axes", "f32[3,8,8]", "expand_dims")),
        (filters_and_groups, ShapeError, ("3 filters", "2 groups")),
    ],
)
def test_errors_name_both_shapes_and_the_fix(call: Any, kind: type[DlcError], parts: tuple[str, ...]) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert all(p in str(caught.value) for p in (*parts, "test_contract.py")), str(caught.value)
