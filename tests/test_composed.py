"""Composed functions and index ops: values against NumPy, extremes, and what their gradients become."""

from typing import Any

import numpy as np
import pytest
from runnable import BACKENDS

import dlc
from dlc import ops
from dlc.errors import AttributeValueError, DlcError, DTypeError, IndexOutOfRangeError, ShapeError
from dlc.passes import dead_code, simplify
from dlc.testing import check_grad

INF = np.inf
RNG = np.random.default_rng(0)


def softmax(x: Any, axis: int = -1) -> Any:
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def test_softmax_and_its_kin_over_nothing() -> None:
    x = dlc.input("x", (2, 0))
    both = dlc.logsumexp(x, axis=1)
    graph = dlc.graph([x], [dlc.softmax(x), dlc.log_softmax(x), both, *dlc.grad(both.sum(), [x])])
    p, logp, lse, g = dlc.compile(graph, "reference")(np.zeros((2, 0), "f"))
    assert p.shape == logp.shape == g.shape == (2, 0)
    assert lse.tolist() == [-INF, -INF]


def test_margin_ranking_of_two_numbers() -> None:
    assert dlc.evaluate(dlc.nn.functional.margin_ranking_loss(2.0, 0.5, -1.0)).item() == 1.5


def test_one_slope_leaves_the_shape_of_a_number() -> None:
    assert dlc.prelu(dlc.input("x"), dlc.input("w", (1,))).shape == ()


@pytest.mark.parametrize("backend", BACKENDS)
def test_softmax_and_its_kin_are_stable(backend: str) -> None:
    data = np.array([[1e4, 1e4 - 1, 0], [-INF, 0, 1], [-INF, -INF, -INF], [-1e30, 0, 1e30]], "f")
    x = dlc.input("x", ("N", 3))
    both = dlc.logsumexp(x, axis=1)
    graph = dlc.graph([x], [dlc.softmax(x), dlc.log_softmax(x), both, *dlc.grad(both.sum(), [x])])
    p, logp, lse, g = dlc.compile(graph, backend)(data)
    want = np.array([[0.7310586, 0.2689414, 0], [0, 0.2689414, 0.7310586], [0, 0, 0], [0, 0, 1]])
    np.testing.assert_allclose(p, want, rtol=1e-5)
    np.testing.assert_allclose(g, want, rtol=1e-5)
    np.testing.assert_allclose(
        logp[:2], [[-0.3132617, -1.3132617, -10000.313], [-INF, -1.3132617, -0.3132617]], rtol=1e-5
    )
    np.testing.assert_allclose(lse, [10000.3132617, 1.3132617, -INF, 1e30], rtol=1e-5)


@pytest.mark.parametrize("axis", [-1, 1])
def test_cross_entropy_and_its_gradient(axis: int) -> None:
    shape, dims = ((6, 4), ("N", 4)) if axis == -1 else ((2, 4, 3), ("N", 4, 3))
    logits, labels = (
        RNG.standard_normal(shape),
        RNG.integers(0, 4, [d for i, d in enumerate(shape) if i != axis % len(shape)]),
    )
    x = dlc.input("x", dims, "float64")
    t = dlc.input("t", tuple(d for i, d in enumerate(dims) if i != axis % len(dims)), "uint8")
    loss = dlc.cross_entropy(x, t, axis=axis)
    value, g = dlc.compile(dlc.graph([x, t], [loss, *dlc.grad(loss, [x])]), "reference")(logits, labels.astype("u1"))
    p = softmax(logits, axis)
    hot = np.moveaxis(np.eye(4)[labels], -1, axis)
    np.testing.assert_allclose(value, -(hot * np.log(p)).sum() / labels.size)
    np.testing.assert_allclose(g, (p - hot) / labels.size, atol=1e-15)


def test_gradient_of_cross_entropy_reads_no_scattered_index() -> None:
    """It is elementwise, softmax less a comparison, so that it can be one kernel; nothing is added into zeros."""
    x, t = dlc.input("x", ("N", 10)), dlc.input("t", ("N",), "int32")
    (g,) = dlc.grad(dlc.cross_entropy(x, t), [x])
    names = [n.op.name for n in dead_code(simplify(dlc.graph([x, t], [g]))).nodes]
    assert not {"take_adjoint", "take_along_axis"} & set(names)
    assert names.count("exp") == 1 and names.count("sum") == 1


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("label", [-1, 4])
def test_a_label_out_of_range_is_an_error(label: int, backend: str) -> None:
    x, t = dlc.input("x", ("N", 4)), dlc.input("t", ("N",), "int32")
    program = dlc.compile(dlc.graph([x, t], [dlc.cross_entropy(x, t)]), backend)
    with pytest.raises(IndexOutOfRangeError, match=rf"{label}[\s\S]*test_composed\.py"):
        program(np.zeros((3, 4), "f"), np.array([0, label, 1], "i"))


def test_cross_entropy_reductions_and_refusals() -> None:
    x, t = np.zeros((3, 2), "f"), np.array([0, 1, 1])
    assert dlc.evaluate(dlc.cross_entropy(x, t, reduction="none")).shape == (3,)
    np.testing.assert_allclose(dlc.evaluate(dlc.cross_entropy(x, t, reduction="sum")), 3 * np.log(2), rtol=1e-6)
    with pytest.raises(AttributeValueError, match="'max' is unknown"):
        dlc.cross_entropy(x, t, reduction="max")
    with pytest.raises(DTypeError, match="integer class numbers"):
        dlc.cross_entropy(x, np.zeros(3, "f"))
    with pytest.raises(ShapeError, match=r"the targets need the shape \[3\]"):
        dlc.cross_entropy(x, np.array([[0], [1], [1]]))


def test_moments_and_norms() -> None:
    data = RNG.standard_normal((3, 4, 5)).astype("f")
    x = dlc.constant(data)
    found = dlc.evaluate(
        dlc.mean(x), dlc.mean(x, axis=(0, 2)), dlc.var(x, axis=1, correction=1), dlc.layer_norm(x, axis=(1, 2))
    )
    scaled = (data - data.mean((1, 2), keepdims=True)) / np.sqrt(data.var((1, 2), keepdims=True) + 1e-5)
    for got, want in zip(found, [data.mean(), data.mean((0, 2)), data.var(1, ddof=1), scaled], strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_mean_divides_by_a_named_dim() -> None:
    x = dlc.input("x", ("N", "M"))
    program = dlc.compile(dlc.graph([x], [dlc.mean(x)]), "reference")
    assert program(np.full((3, 4), 2, "f"))[0] == 2 and np.isnan(program(np.zeros((0, 4), "f"))[0])


@pytest.mark.parametrize("backend", BACKENDS)
def test_pooling_against_loops(backend: str) -> None:
    data = RNG.standard_normal((2, 3, 7, 6)).astype("f")
    x = dlc.input("x", ("N", 3, "H", "W"))
    settings = [((2, 2), (2, 2), 0), ((3, 3), (2, 2), 1), ((3, 2), (1, 2), (1, 0)), ((2, 2), (3, 3), 0)]
    outputs = [f(x, k, s, p) for k, s, p in settings for f in (dlc.max_pool2d, dlc.avg_pool2d)]
    got = iter(dlc.compile(dlc.graph([x], outputs), backend)(data))
    for kernel, stride, padding in settings:
        rows, columns = (padding, padding) if isinstance(padding, int) else padding
        for fill, reduce in ((-INF, np.max), (0.0, np.mean)):
            wide = np.pad(data, [(0, 0), (0, 0), (rows, rows), (columns, columns)], constant_values=fill)
            counts = [(n - k) // s + 1 for n, k, s in zip(wide.shape[2:], kernel, stride, strict=True)]
            want = np.empty((2, 3, *counts), "f")
            for i, j in np.ndindex(*counts):
                a, b = i * stride[0], j * stride[1]
                want[:, :, i, j] = reduce(wide[:, :, a : a + kernel[0], b : b + kernel[1]], axis=(2, 3))
            np.testing.assert_allclose(next(got), want, rtol=1e-5, atol=1e-6)


def test_pooling_gradients() -> None:
    x = dlc.input("x", (2, 2, 6, 5), "float64")
    loss = (dlc.max_pool2d(x, 3, 2, 1) ** 2.0).sum() + (dlc.avg_pool2d(x, 2, 1) ** 2.0).sum()
    check_grad(dlc.graph([x], [loss]), [RNG.permutation(120).reshape(2, 2, 6, 5) / 30.0])


def test_ties_in_a_pool_share_the_cotangent() -> None:
    x = dlc.input("x", (1, 1, 2, 2))
    (g,) = dlc.grad(dlc.max_pool2d(x, 2).sum(), [x])
    got = dlc.compile(dlc.graph([x], [g]), "reference")(np.array([[[[1, 1], [0, 1]]]], "f"))[0]
    np.testing.assert_allclose(got.ravel(), [1 / 3, 1 / 3, 0, 1 / 3], rtol=1e-6)


def test_attention_against_numpy() -> None:
    q, k, v = (RNG.standard_normal(s) for s in [(2, 3, 4), (2, 5, 4), (2, 5, 6)])
    mask = RNG.random((3, 5)) < 0.7
    mask[1] = False
    want = np.where(mask, q @ k.swapaxes(1, 2) / 2, -INF)
    want[:, 1] = 0
    want = softmax(want) @ v
    want[:, 1] = 0
    np.testing.assert_allclose(dlc.evaluate(dlc.attention(q, k, v, mask=mask)), want, rtol=1e-12)
    causal = dlc.evaluate(dlc.attention(q, k[:, :3], v[:, :3], causal=True))
    np.testing.assert_allclose(causal[:, 0], v[:, 0], rtol=1e-12)
    inputs = [dlc.input(n, a.shape, "float64") for n, a in zip("qkv", (q, k, v), strict=True)]
    check_grad(dlc.graph(inputs, [dlc.square(dlc.attention(*inputs, mask=dlc.constant(mask))).sum()]))


def test_attention_adds_a_mask_of_floats() -> None:
    q, k, v = (RNG.standard_normal(s) for s in [(2, 3, 4), (2, 5, 4), (2, 5, 6)])
    bias = RNG.standard_normal((3, 5))
    bias[0, 1] = -INF
    want = softmax(q @ k.swapaxes(1, 2) / 2 + bias) @ v
    np.testing.assert_allclose(dlc.evaluate(dlc.attention(q, k, v, mask=bias)), want, rtol=1e-12)
    biases = dlc.input("bias", (3, 5), "float64")
    check_grad(dlc.graph([biases], [dlc.attention(q, k, v, mask=biases)]))
    with pytest.raises(DTypeError, match="bools"):
        dlc.attention(q, k, v, mask=np.ones((3, 5), np.int64))


@pytest.mark.parametrize("function", [dlc.gelu, dlc.silu, dlc.softplus, lambda x: dlc.gelu(x, approximate="tanh")])
def test_activations_have_gradients_and_limits(function: Any) -> None:
    x = dlc.input("x", (7,), "float64")
    check_grad(dlc.graph([x], [function(x).sum()]))
    low, high = dlc.evaluate(function(dlc.constant([-100.0, 100.0])))
    assert abs(low) < 1e-6 and abs(high - 100) < 1e-4


# ---------------------------------------------------------------- index ops


def test_arange_one_hot_and_fills() -> None:
    for args in [(5,), (2, 9), (9, 2, -3), (3, 3), (-4, 5, 2)]:
        np.testing.assert_array_equal(dlc.evaluate(dlc.arange(*args)), np.arange(*args))
    np.testing.assert_array_equal(dlc.evaluate(dlc.one_hot([[1], [5]], 3, axis=1)), [[[0], [1], [0]], [[0], [0], [0]]])
    n = dlc.input("x", ("N",)).shape[0]
    assert dlc.arange(n * 2).shape == (n * 2,)
    assert dlc.full((2,), True).dtype == "bool" and dlc.zeros((2,), "bool").dtype == "bool"
    with pytest.raises(DTypeError, match=r"float 1.5 does not combine with int32"):
        dlc.full((2,), 1.5, "int32")


@pytest.mark.parametrize("backend", BACKENDS)
def test_joining_many_and_stacking(backend: str) -> None:
    parts = [RNG.standard_normal((2, int(n))).astype("f") for n in RNG.integers(0, 3, 150)]
    inputs = [dlc.input(f"x{i}", (2, f"D{i}")) for i in range(150)]
    stacked = dlc.stack(inputs[:1] * 3, axis=-1)
    joined, cube = dlc.compile(dlc.graph(inputs, [dlc.concat(inputs, axis=1), stacked]), backend)(*parts)
    np.testing.assert_array_equal(joined, np.concatenate(parts, axis=1))
    np.testing.assert_array_equal(cube, np.stack(parts[:1] * 3, axis=-1))


@pytest.mark.parametrize("backend", BACKENDS)
def test_named_dims_in_paddings_slices_and_gradients(backend: str) -> None:
    x = dlc.input("x", ("N", 6))
    n = x.shape[0]
    wide = dlc.pad(x, [(n, 1), (0, n)], value=2.0)
    (g,) = dlc.grad((dlc.square(x[1:, ::-2])).sum(), [x])
    data = RNG.standard_normal((3, 6)).astype("f")
    got, slope = dlc.compile(dlc.graph([x], [wide, g]), backend)(data)
    np.testing.assert_array_equal(got, np.pad(data, [(3, 1), (0, 3)], constant_values=2))
    want = np.zeros_like(data)
    want[1:, ::-2] = 2 * data[1:, ::-2]
    np.testing.assert_allclose(slope, want, rtol=1e-6)


def test_equal_indices_add_up_in_the_gradient_of_take() -> None:
    w, i = dlc.input("w", (4, 2), "float64"), dlc.input("i", (3,), "int64")
    (g,) = dlc.grad((dlc.take(w, i) * dlc.expand_dims(dlc.arange(3).astype("float64") + 1.0, 1)).sum(), [w])
    got = dlc.compile(dlc.graph([w, i], [g]), "reference")(np.zeros((4, 2)), np.array([1, 3, 1]))[0]
    assert got[:, 0].tolist() == [0, 4, 0, 2]


@pytest.mark.parametrize("backend", BACKENDS)
def test_taking_from_nothing(backend: str) -> None:
    x, i = dlc.input("x", ("N", 2)), dlc.input("i", ("M",), "int32")
    program = dlc.compile(dlc.graph([x, i], [dlc.take(x, i)]), backend)
    assert program(np.zeros((0, 2), "f"), np.zeros(0, "i"))[0].shape == (0, 2)
    with pytest.raises(IndexOutOfRangeError, match="0"):
        program(np.zeros((0, 2), "f"), np.zeros(1, "i"))


def negative_pad() -> None:
    dlc.pad([1.0], [(-1, 0)])


def pad_value_of_no_integer() -> None:
    dlc.pad(dlc.constant([1, 2], "uint8"), [(1, 0)], value=256)


def pad_value_without_end() -> None:
    dlc.pad(dlc.constant([1, 2], "int8"), [(1, 0)], value=-float("inf"))


def one_pair() -> None:
    dlc.pad([[1.0]], [(1, 0)])


def other_dims() -> None:
    dlc.concat([dlc.zeros((2, 3)), dlc.zeros((3, 2))])


def float_indices() -> None:
    dlc.take([1.0], [0.0])


def other_rank() -> None:
    dlc.take_along_axis(dlc.zeros((2, 3)), [0, 1])


def wrong_fold() -> None:
    ops.fold(dlc.zeros((2, 2)), (0,), (9,))


def integer_mean() -> None:
    dlc.mean([1, 2])


@pytest.mark.parametrize(
    ("call", "kind", "parts"),
    [
        (negative_pad, AttributeValueError, ("-1", "slice to crop")),
        (pad_value_of_no_integer, AttributeValueError, ("256 is no uint8",)),
        (pad_value_without_end, AttributeValueError, ("-inf is no int8",)),
        (one_pair, AttributeValueError, ("f32[1,1]", "2 axes")),
        (other_dims, ShapeError, ("f32[2,3]", "f32[3,2]", "axis 0")),
        (float_indices, DTypeError, ("integer indices", "f32[1]", ".astype('int64')")),
        (other_rank, ShapeError, ("f32[2,3]", "i64[2]")),
        (wrong_fold, ShapeError, ("windows of 2", "9 elements")),
        (integer_mean, DTypeError, ("i64[2]", ".astype('float32')")),
    ],
)
def test_errors_say_what_and_where(call: Any, kind: type[DlcError], parts: tuple[str, ...]) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert all(p in str(caught.value) for p in (*parts, "test_composed.py")), str(caught.value)
