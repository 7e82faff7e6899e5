"""Kernels, one at a time: a node is emitted, compiled and called by hand; NumPy says what it should give."""

from __future__ import annotations

import math
import platform
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import dlc
from dlc.backends.cpu.compile import _lowered, assembly, object_code
from dlc.backends.cpu.host import cpu_target, host
from dlc.backends.emission import reason_against
from dlc.ir import Graph, Node, make_node
from dlc.ops.definition import CATALOGUE, Kind
from dlc.ops.fused import FUSED
from dlc.ops.tensor import Tensor
from tests.native import NODE_NUMBER, emitted, source_of
from tests.native import run_kernel as run

Array = np.ndarray[Any, Any]


def fused(inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> Node:
    """A fused node whose body computes `outputs` from `inputs`."""
    nodes = tuple(t.node for t in inputs)
    return make_node(FUSED, nodes, {"body": Graph(nodes, tuple(t.node for t in outputs))})


def expected(node: Node, arrays: Sequence[Array]) -> Any:
    """What the op's NumPy reference gives for a plain node of concrete shapes."""
    with np.errstate(all="ignore"):
        assert node.op.reference is not None
        return node.op.reference(*arrays, **node.attrs)


def close(found: Array, wanted: Any, dtype: str | None = None) -> None:
    """Equal up to rounding; integers and bools exactly, dtype and shape always."""
    wanted = np.asarray(wanted)
    assert found.shape == wanted.shape and found.dtype == wanted.dtype
    tolerance = {"float32": 2e-6, "float64": 1e-13}.get(found.dtype.name, 0.0)
    np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance)


# ---------------------------------------------------------------- every op's samples


def samples() -> list[Any]:
    cases = []
    for name, op in CATALOGUE.items():
        if op.kind in (Kind.ELEMENTWISE, Kind.REDUCE, Kind.VIEW, Kind.INDEX, Kind.CONTRACT) or name == "take_adjoint":
            cases += [pytest.param(op, sample, id=f"{name}-{i}") for i, sample in enumerate(op.samples())]
    return cases


def as_inputs(value: Any, arrays: list[Array]) -> Any:
    """A sample's argument with arrays replaced by inputs, which are collected in `arrays`."""
    if isinstance(value, list) and value and isinstance(value[0], np.ndarray):
        return [as_inputs(v, arrays) for v in value]
    if isinstance(value, np.ndarray):
        arrays.append(value)
        return dlc.input(f"x{len(arrays)}", value.shape, value.dtype.name)
    return value


@pytest.mark.parametrize("op, sample", samples())
def test_every_sample_of_the_catalogue(op: Any, sample: Any) -> None:
    arrays: list[Array] = []
    operands = [as_inputs(a, arrays) for a in sample.args]
    result = op.function(*operands, **sample.kwargs)
    nodes = [n for n in Graph(tuple(t.node for t in _flat(operands)), (result.node,)).nodes if n.op is op]
    if not nodes:
        pytest.skip("the function made something simpler")
    (node,) = nodes
    by_input = dict(zip([t.node for t in _flat(operands)], arrays, strict=True))
    if not all(x in by_input for x in node.inputs):
        pytest.skip("the sample converts its operands first")
    values = [by_input[x] for x in node.inputs]
    (found,), status = run(node, values)
    assert not status.any()
    close(found, expected(node, values))


def _flat(values: Sequence[Any]) -> list[Tensor]:
    return [t for v in values for t in (v if isinstance(v, list) else [v]) if isinstance(t, Tensor)]


# ---------------------------------------------------------------- maps


def rng(*shape: int, dtype: str = "float32", seed: int = 0) -> Array:
    """Normal numbers of a dtype."""
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


@pytest.mark.parametrize("rows", [0, 1, 3, 70])
def test_bias_and_relu_of_named_rows(rows: int) -> None:
    x, b = dlc.input("x", ("N", 33)), dlc.input("b", (33,))
    values = rng(rows, 33), rng(33, seed=1)
    (found,), _ = run(fused([x, b], [dlc.relu(x + b)]), values, {"N": rows})
    close(found, np.maximum(values[0] + values[1], 0))


@pytest.mark.parametrize(
    "read",
    [
        lambda t: t[:, 0] * 2,
        lambda t: t[:, 1:2],
        lambda t: t[:, 0] + t[:, 1],
        lambda t: t[..., 2] + 1,
        lambda t: dlc.sum(t[:, 1:2], axis=(0, 2)),
        lambda t: dlc.sum(t[:, 1], axis=0),
        lambda t: t[:, 1] @ dlc.matrix_transpose(t[:, 0]),
    ],
)
def test_one_of_several_positions_keeps_its_neighbours_apart(read: Any) -> None:
    t = dlc.input("t", (3, 2, "M"))
    graph = dlc.graph([t], [read(t)])
    x = np.arange(24, dtype=np.float32).reshape(3, 2, 4)
    (expected,) = dlc.compile(graph, "reference")(x)
    np.testing.assert_array_equal(dlc.compile(graph)(x)[0], expected)


def test_several_results_in_the_place_of_operands() -> None:
    p, m, v, g = (dlc.input(n, ("N", 19)) for n in "pmvg")
    rate = dlc.input("rate")
    m2, v2 = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g * g
    node = fused([p, m, v, g, rate], [p - rate * m2 / (dlc.sqrt(v2) + 1e-8), m2, v2])
    ps, ms, vs, gs = rng(7, 19), rng(7, 19, seed=1), np.abs(rng(7, 19, seed=2)), rng(7, 19, seed=3)
    found, _ = run(node, [ps, ms, vs, gs, np.float32(0.1)], {"N": 7}, in_place={0: 0, 1: 1, 2: 2})
    wm, wv = 0.9 * ms + 0.1 * gs, 0.99 * vs + 0.01 * gs * gs
    for a, b in zip(found, [ps - 0.1 * wm / (np.sqrt(wv) + 1e-8), wm, wv], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_broadcasting_in_every_direction_and_views_inside() -> None:
    a, b, c, d = dlc.input("a", ("N", 1, 5)), dlc.input("b", (4, 1)), dlc.input("c"), dlc.input("d", (5, 4, "N"))
    y = (a + b) * c - dlc.permute_dims(d, (2, 1, 0))[:, ::-1]
    values = rng(3, 1, 5), rng(4, 1, seed=1), rng(seed=2), rng(5, 4, 3, seed=3)
    (found,), _ = run(fused([a, b, c, d], [y]), values, {"N": 3})
    close(found, (values[0] + values[1]) * values[2] - values[3].transpose(2, 1, 0)[:, ::-1])


@pytest.mark.parametrize(
    "source, target", [((6, 4), (3, 8)), ((2, 3, 4), (6, 2, 2)), ((4, 1, 6), (4, 6)), ((0, 3), (3, 0)), ((1, 1), ())]
)
def test_reshapes_of_computed_values(source: tuple[int, ...], target: tuple[int, ...]) -> None:
    x = dlc.input("x", source)
    value = rng(*source)
    (found,), _ = run(fused([x], [dlc.reshape(x * 2.0, target) + 1.0]), [value])
    close(found, value.reshape(target) * 2 + 1)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint32", "int64", "uint64"])
def test_integer_arithmetic_wraps_in_its_own_dtype(dtype: str) -> None:
    a, b = dlc.input("a", (6,), dtype), dlc.input("b", (6,), dtype)
    info = np.iinfo(dtype)
    x = np.array([info.max, info.min, 7, 3, 100, 1], dtype)
    y = np.array([info.max, 1, 0, 2, 3, info.max], dtype)
    (s, p, q, r, larger), _ = run(fused([a, b], [a + b, a * b, a // b, a % b, dlc.where(a + b > a, a, b)]), [x, y])
    with np.errstate(all="ignore"):
        for found, wanted in ((s, x + y), (p, x * y), (q, x // y), (r, x % y), (larger, np.where(x + y > x, x, y))):
            close(found, wanted)
        if dtype in dlc.dtypes.SIGNED:
            (found,), _ = run((-a).node, [x])
            close(found, -x)


def test_the_smallest_integer_by_minus_one() -> None:
    a, b = dlc.input("a", (2,), "int32"), dlc.input("b", (2,), "int32")
    x, y = np.array([-(2**31), 5], "int32"), np.array([-1, 0], "int32")
    (q, r), _ = run(fused([a, b], [a // b, a % b]), [x, y])
    assert q.tolist() == [-(2**31), 0] and r.tolist() == [0, 0]


FUNCTIONS = [
    "exp",
    "log",
    "tanh",
    "erf",
    "sigmoid",
    "sqrt",
    "expm1",
    "log1p",
    "sin",
    "cos",
    "floor",
    "ceil",
    "sign",
    "relu",
    "isnan",
    "isfinite",
    "abs",
]
SPECIAL = np.array(
    [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-40, 3.4e38, -3.4e38, 88.7, -103.9, 0.5, -2.5, 1.0], "float32"
)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_functions_agree_with_float64_to_a_few_ulps(name: str, dtype: str) -> None:
    op = CATALOGUE[name]
    x = np.concatenate(
        [SPECIAL, np.linspace(-9, 9, 2001), np.linspace(-110, 90, 997), np.exp(np.linspace(-100, 80, 500))]
    ).astype(dtype)
    (found,), _ = run(op(dlc.input("x", x.shape, dtype)).node, [x])
    with np.errstate(all="ignore"):
        wanted = op.reference(x.astype(np.float64))
        rounded = wanted.astype(found.dtype)
    if found.dtype == bool:
        assert (found == wanted).all()
        return
    np.testing.assert_array_equal(np.isnan(found), np.isnan(rounded))
    np.testing.assert_array_equal(found[np.isinf(rounded)], rounded[np.isinf(rounded)])
    finite = np.isfinite(rounded)
    ulps = np.abs(found[finite].astype(np.float64) - wanted[finite]) / np.spacing(np.abs(rounded[finite])).astype(
        np.float64
    )
    assert ulps.max() <= 4, (x[finite][ulps.argmax()], ulps.max())


@pytest.mark.parametrize(
    "name", ["maximum", "minimum", "floor_divide", "remainder", "pow", "masked_multiply", "divide"]
)
def test_pairs_of_special_values(name: str) -> None:
    a, b = (x.ravel().copy() for x in np.meshgrid(SPECIAL, SPECIAL))
    op = CATALOGUE[name]
    (found,), _ = run(op(dlc.input("a", a.shape), dlc.input("b", b.shape)).node, [a, b])
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(found, op.reference(a, b), rtol=1e-6)


@pytest.mark.parametrize("source", dlc.dtypes.ALL)
def test_conversions_are_numpys(source: str) -> None:
    values = np.array([0, 1, 2, 100, 127] if source != "bool" else [False, True])
    if source in dlc.dtypes.SIGNED + dlc.dtypes.FLOATING:
        values = np.concatenate([values, [-1, -100]])
    x = values.astype(source) + (np.array(0.75, source) if source in dlc.dtypes.FLOATING else np.array(0, source))
    targets = [t for t in dlc.dtypes.ALL if t != source]
    a = dlc.input("a", x.shape, source)
    found, _ = run(fused([a], [dlc.astype(a, t) for t in targets]), [x])
    for f, t in zip(found, targets, strict=True):
        if source in dlc.dtypes.FLOATING and t in dlc.dtypes.UNSIGNED:
            close(f[x >= 0], x[x >= 0].astype(t))
        else:
            close(f, x.astype(t))


def test_constants_of_the_body_keep_their_bits() -> None:
    x = dlc.input("x", (1,))
    constants = [-0.0, float("inf"), float("-inf"), float("nan"), 0.1, 1e-45]
    found, _ = run(fused([x], [dlc.where(x > 0, dlc.constant(c), x) for c in constants]), [np.ones(1, "float32")])
    for f, c in zip(found, constants, strict=True):
        assert np.float32(c).tobytes() == f.tobytes()


# ---------------------------------------------------------------- reductions


@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)])
@pytest.mark.parametrize("name", ["sum", "max"])
def test_reductions_with_producer_and_epilogue(name: str, axes: tuple[int, ...]) -> None:
    x, b = dlc.input("x", ("N", 5, 37)), dlc.input("b", (5, 1))
    reduced = CATALOGUE[name](x * b, axes=axes)
    node = fused([x, b], [dlc.sqrt(dlc.abs(reduced)) * 0.5])
    for n in (1, 9):
        values = rng(n, 5, 37), rng(5, 1, seed=1)
        (found,), _ = run(node, values, {"N": n})
        wanted = getattr(np, name)((values[0] * values[1]).astype(np.float64), axis=axes)
        np.testing.assert_allclose(found, np.sqrt(np.abs(wanted)) * 0.5, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "shape, axes",
    [((3, 20000), (1,)), ((20000, 3), (0,)), ((700, 600), (0,)), ((2, 3, 5000), (0, 2)), ((1, 9000), (0, 1))],
)
def test_long_sums_are_trees(shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
    value = np.abs(rng(*shape)) + 1
    node = CATALOGUE["sum"](dlc.input("x", shape), axes=axes).node
    (found,), _ = run(node, [value])
    np.testing.assert_allclose(found, value.astype(np.float64).sum(axes), rtol=1e-6)


def test_a_sum_along_the_transpose_is_row_by_row() -> None:
    x = dlc.input("x", (40, 30))
    (found,), _ = run(fused([x], [dlc.sum(x.T, axis=1)]), [rng(40, 30)])
    np.testing.assert_allclose(found, rng(40, 30).sum(0), rtol=1e-5, atol=1e-5)


def test_reductions_of_nothing_and_over_nothing() -> None:
    x = dlc.input("x", ("N", 3))
    for axes, shape in (((0,), (3,)), ((1,), (0,)), ((0, 1), ())):
        (found,), _ = run(CATALOGUE["sum"](x, axes=axes).node, [np.zeros((0, 3), "float32")], {"N": 0})
        assert found.shape == shape and not found.any()


@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_the_first_of_equals_and_nan_win(name: str) -> None:
    x = np.array([[1, 3, 3, 0, 0], [2, np.nan, 5, np.nan, -5], [-np.inf] * 5, [np.inf] * 5], "float32")
    for axes in ((1,), (0,), (0, 1)):
        node = CATALOGUE[name](dlc.input("x", x.shape), axes=axes).node
        (found,), _ = run(node, [x])
        close(found, expected(node, [x]))


def test_nan_wins_in_max_and_min() -> None:
    x = rng(3, 50)
    x[1, 17] = np.nan
    for name in ("max", "min"):
        for axes in ((1,), (0,)):
            node = CATALOGUE[name](dlc.input("x", x.shape), axes=axes).node
            (found,), _ = run(node, [x])
            close(found, expected(node, [x]))


def test_pooling_reads_windows_where_they_lie() -> None:
    x = dlc.input("x", ("N", 3, 8, 8))
    patches = dlc.ops.windows(x, (2, 3), (2, 2), (2, 2))
    node = fused([x], [dlc.max(patches, axis=(4, 5))])
    value = rng(2, 3, 8, 8)
    (found,), _ = run(node, [value], {"N": 2})
    close(found, value.reshape(2, 3, 4, 2, 4, 2).max((3, 5)))
    assert "independent(0, 2, 1)" in source_of(node)


def test_softmax_in_one_body_is_not_computed_twice_a_row() -> None:
    x = dlc.input("x", ("N", 10))
    top = dlc.max(x, axis=1, keepdims=True)
    node = fused([x], [dlc.exp(x - top)])
    (found,), _ = run(node, [rng(4, 10)], {"N": 4})
    np.testing.assert_allclose(found, np.exp(rng(4, 10) - rng(4, 10).max(1, keepdims=True)), rtol=1e-6)


# ---------------------------------------------------------------- contractions


SIZES = [(1, 7, 5), (5, 1, 3), (6, 9, 1), (1, 1, 1), (37, 70, 300), (5, 3000, 6), (0, 3, 2), (3, 0, 2), (2, 3, 0)]


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("transposed", ["", "a", "b", "ab"])
def test_matrix_products_of_every_orientation(transposed: str, named: bool) -> None:
    for m, k, n in SIZES if named else [(2, 7, 3), (1, 9, 20), (6, 5, 1)]:
        rows, inner, columns = ("M", "K", "N") if named else (m, k, n)
        a = dlc.input("a", (inner, rows) if "a" in transposed else (rows, inner))
        b = dlc.input("b", (columns, inner) if "b" in transposed else (inner, columns))
        bias = dlc.input("bias", (columns,))
        left = dlc.matrix_transpose(a) if "a" in transposed else a
        right = dlc.matrix_transpose(b) if "b" in transposed else b
        x, y, z = rng(m, k), rng(k, n, seed=1), rng(n, seed=2)
        stored = [x.T if "a" in transposed else x, y.T if "b" in transposed else y, z]
        (found,), _ = run(fused([a, b, bias], [dlc.relu(left @ right + bias)]), stored, {"M": m, "K": k, "N": n})
        wanted = np.maximum(x.astype(np.float64) @ y.astype(np.float64) + z, 0)
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5 * math.sqrt(k + 1))


def test_products_of_stacks_with_operands_computed_on_the_way() -> None:
    a, b, s = dlc.input("a", ("B", 2, 6, 9)), dlc.input("b", ("B", 2, 5, 9)), dlc.input("s", ("B", 2, 1, 1))
    y = CATALOGUE["matmul"](dlc.relu(a) * s, dlc.matrix_transpose(b))
    values = rng(3, 2, 6, 9), rng(3, 2, 5, 9, seed=1), rng(3, 2, 1, 1, seed=2)
    (found,), _ = run(fused([a, b, s], [y]), values, {"B": 3})
    np.testing.assert_allclose(
        found, (np.maximum(values[0], 0) * values[2]) @ values[1].swapaxes(2, 3), rtol=1e-4, atol=1e-5
    )


def test_infinities_do_not_leak_into_other_sums() -> None:
    a, b = rng(3, 6), rng(6, 5, seed=1)
    a[1, 5] = np.inf
    b[5, 2] = np.nan
    (found,), _ = run((dlc.input("a", a.shape) @ dlc.input("b", b.shape)).node, [a, b])
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(np.isfinite(found), np.isfinite(a @ b))


@pytest.mark.parametrize(
    "images, channels, filters, height, width, size", [(2, 3, 5, 9, 300, 3), (1, 70, 6, 5, 5, 1), (3, 2, 130, 4, 7, 2)]
)
def test_convolutions_with_bias_over_several_blocks(
    images: int, channels: int, filters: int, height: int, width: int, size: int
) -> None:
    x, w = dlc.input("x", ("N", channels, height, width)), dlc.input("w", (filters, channels, size, size))
    bias, scale = dlc.input("bias", (filters, 1, 1)), dlc.input("scale", (height, 1))
    y = dlc.conv2d(x, w, padding=(size // 2, size // 2)) if size % 2 else dlc.conv2d(x, w, padding="same")
    values = rng(images, channels, height, width), rng(filters, channels, size, size, seed=1)
    more = rng(filters, 1, 1, seed=2), rng(height, 1, seed=3)
    plain = y.node.op.reference(*values, **y.node.attrs)
    (found,), _ = run(fused([x, w, bias], [dlc.relu(y + bias)]), [*values, more[0]], {"N": images})
    np.testing.assert_allclose(found, np.maximum(plain + more[0], 0), rtol=1e-4, atol=1e-4)
    (found,), _ = run(fused([x, w, scale], [y * scale]), [*values, more[1]], {"N": images})
    np.testing.assert_allclose(found, plain * more[1], rtol=1e-4, atol=1e-4)


# ---------------------------------------------------------------- indices out of range


@pytest.mark.parametrize("bad", [-1, 5, 2**40])
def test_an_index_out_of_range_is_reported_and_not_followed(bad: int) -> None:
    table, rows = rng(5, 3), np.array([0, 4, bad, 7], "int64")
    x, i = dlc.input("x", (5, 3)), dlc.input("i", (4,), "int64")
    _, status = run(dlc.take(x, i).node, [table, rows])
    assert status[:5].tolist() == [1, NODE_NUMBER, 0, bad, 5]
    body_node = fused([x, i], [dlc.take(x * 2.0, i)])
    _, status = run(body_node, [table, rows])
    assert body_node.attrs["body"].nodes[status[2]].op.name == "take"
    assert status[:2].tolist() == [1, NODE_NUMBER] and status[3:5].tolist() == [bad, 5]
    _, status = run(dlc.ops.take_adjoint(dlc.input("g", (4, 3)), i, axis=0, size=5).node, [rng(4, 3), rows])
    assert status[:5].tolist() == [1, NODE_NUMBER, 0, bad, 5]


# ---------------------------------------------------------------- sources


def test_equal_structures_have_one_source() -> None:
    def layer(n: int, m: int, name: str) -> Node:
        x, b = dlc.input(name, (n, m)), dlc.input("b" + name, (m,))
        return fused([x, b], [dlc.relu(x + b)])

    assert source_of(layer(13, 14, "x")) == source_of(layer(15, 16, "y"))
    assert emitted(layer(13, 14, "x")).parts[0].dims == (14,)


def test_sources_hold_no_text_of_the_user() -> None:
    evil = 'x"; import os; os.system("true") #'
    x, y = dlc.input(evil, ("EvilDim", 3)), dlc.input("__class__", ("EvilDim", 3))
    source = source_of(fused([x, y], [dlc.relu(x) / y]))
    words = set(re.findall(r"[A-Za-z_]+", source))
    assert words <= {
        "def",
        "kernel",
        "bases",
        "args",
        "begin",
        "end",
        "p",
        "n",
        "i",
        "t",
        "pointer_float",
        "for",
        "in",
        "independent",
        "relu",
    }


def test_an_unknown_op_says_so() -> None:
    reason = reason_against(dlc.input("x", (3,)).node, cpu_target())
    assert reason is not None and "input" in reason


# ---------------------------------------------------------------- machine code


def vectors(node: Node) -> str:
    """The instructions of a kernel's machine code that work on registers of at least eight floats."""
    text = assembly(source_of(node))
    return "\n".join(line for line in text.splitlines() if "%zmm" in line or "%ymm" in line)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64") or "+avx2" not in host()[1], reason="no AVX2 here")
def test_inner_loops_are_vector_code() -> None:
    x, b = dlc.input("x", ("N", 64)), dlc.input("b", (64,))
    found = vectors(fused([x, b], [dlc.relu(x + b)]))
    assert "vaddps" in found and "vmaxps" in found
    p, m, v, g = (dlc.input(n, (128, 64)) for n in "pmvg")
    rate, decay, epsilon = (dlc.input(n) for n in ("rate", "decay", "epsilon"))
    m2, v2 = decay * m + (1 - decay) * g, decay * v + (1 - decay) * g * g
    adam = fused([p, m, v, g, rate, decay, epsilon], [p - rate * m2 / (dlc.sqrt(v2) + epsilon), m2, v2])
    found = vectors(adam)  # ten pointers, more than LLVM would check for overlap
    assert "vsqrtps" in found and "vmulps" in found and "vdivps" in found
    assert "vfmadd" not in found  # an op rounds its result, alone or fused
    assert "vaddps" in vectors(CATALOGUE["sum"](x, axes=(1,)).node) and "vaddps" in vectors(
        CATALOGUE["sum"](x, axes=(0,)).node
    )
    assert "vmaxps" in vectors(CATALOGUE["max"](x, axes=(1,)).node)
    assert "vfmadd" in vectors(fused([x], [dlc.tanh(x) + dlc.erf(x)]))
    assert "vfmadd" in vectors((x @ dlc.input("w", (64, 32))).node)


@pytest.mark.parametrize("width", [10, 33, 100, 4096])
def test_costly_terms_of_a_sum_are_kept_for_what_follows(width: int) -> None:
    x = dlc.input("x", ("N", width))
    node = fused([x], [dlc.softmax(x, axis=1)])
    source = source_of(node)
    loops = 1 + (width > 32 and width % 32 != 0)  # the whole strips, and what is left
    assert source.count("exp(") == loops
    value = rng(5, width)
    (found,), _ = run(node, [value], {"N": 5})
    wide = np.exp(value.astype("float64") - value.max(1, keepdims=True))
    close(found, (wide / wide.sum(1, keepdims=True)).astype("float32"))


def test_rows_that_are_long_or_of_unknown_length_compute_costly_terms_twice() -> None:
    for shape in (("N", 5000), ("N", "M")):
        x = dlc.input("x", shape)
        assert source_of(fused([x], [dlc.softmax(x, axis=1)])).count("exp(") == 3


def test_a_kept_row_is_not_taken_for_a_column() -> None:
    x = dlc.input("x", (40, 40))
    e = dlc.exp(x)
    node = fused([x], [e / dlc.sum(e, axis=1, keepdims=True) + dlc.permute_dims(e, (1, 0)) + e[::-1]])
    value = rng(40, 40)
    (found,), _ = run(node, [value])
    wide = np.exp(value.astype("float64"))
    close(found, (wide / wide.sum(1, keepdims=True) + wide.T + wide[::-1]).astype("float32"))


def test_functions_without_vector_forms_compile_in_silence(capfd: pytest.CaptureFixture[str]) -> None:
    x = dlc.input("x", ("R", "W"), "float64")
    outputs = [dlc.sum(f(x), axis=1) for f in (dlc.exp, dlc.log1p, dlc.tanh, dlc.sigmoid)] + [dlc.softmax(x)]
    graph = dlc.compile(dlc.graph([x], outputs)).plan
    assert graph is not None
    for source in {kernel.code.source for kernel in graph.kernels}:
        object_code(_lowered(source, "silent"))
    assert capfd.readouterr().err == ""  # LLVM says there what it could not vectorise though it was told to
