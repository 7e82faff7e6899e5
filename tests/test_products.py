"""Matrix products: every form and size against NumPy in float64, with the same bits however tasks are divided."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import dlc
from dlc.backends.blocked import WHOLE
from dlc.backends.target import Target
from dlc.backends.tiling import tile_shape
from dlc.dims import dim, evaluate
from dlc.ir import Graph, Node, make_node
from dlc.ops.fused import FUSED
from dlc.ops.tensor import Tensor
from tests.native import emitted, run_kernel

Array = np.ndarray[Any, Any]
FORMS = tuple(itertools.product((False, True), repeat=2))
SIZES = (
    (30, 50, 40), (64, WHOLE + 9, 33), (13, 2 * WHOLE, 70), (300, 20, 300), (1, 400, 120), (3, 5, 700), (120, 64, 1)
)  # fmt: skip


def kernel(inputs: list[Tensor], output: Tensor) -> Node:
    """One kernel for all of a graph."""
    nodes = tuple([t.node for t in inputs])
    return make_node(FUSED, nodes, {"body": Graph(nodes, (output.node,))})


def check(inputs: list[Tensor], output: Tensor, arrays: list[Array], wanted: Array, **bindings: int) -> Array:
    """Run a kernel with several divisions of its tasks; gives the result."""
    node = kernel(inputs, output)
    (result,), _ = run_kernel(node, arrays, bindings)
    for division in (2, 5):
        (again,), _ = run_kernel(node, arrays, bindings, division=division)
        assert np.array_equal(result, again)
    assert result.shape == wanted.shape
    np.testing.assert_allclose(result, wanted, rtol=1e-5, atol=2e-6 * max(1, *(a.size for a in arrays)) ** 0.5)
    return result


def operand(name: str, rows: Any, columns: Any, turned: bool, dtype: str) -> tuple[Tensor, Tensor]:
    """(an input, the matrix of rows x columns that it is or is the transpose of)."""
    x = dlc.input(name, (columns, rows) if turned else (rows, columns), dtype)
    return x, dlc.permute_dims(x, (1, 0)) if turned else x


def numbers(rng: Any, rows: int, columns: int, turned: bool, dtype: str) -> tuple[Array, Array]:
    """(an array, the matrix in float64)."""
    a = rng.standard_normal((columns, rows) if turned else (rows, columns)).astype(dtype)
    return a, (a.T if turned else a).astype(np.float64)


@pytest.mark.parametrize("forms", FORMS)
def test_products_of_named_sizes(forms: tuple[bool, bool]) -> None:
    rng = np.random.default_rng(0)
    for dtype in ("float32", "float64"):
        (x, a), (y, b) = operand("x", "M", "K", forms[0], dtype), operand("y", "K", "N", forms[1], dtype)
        for m, s, n in (*SIZES, (5, 0, 40), (1, 0, 40), (0, 30, 40), (40, 30, 0)):
            (p, left), (q, right) = numbers(rng, m, s, forms[0], dtype), numbers(rng, s, n, forms[1], dtype)
            check([x, y], a @ b, [p, q], left @ right, M=m, K=s, N=n)


@pytest.mark.parametrize("forms", FORMS)
@pytest.mark.parametrize("size", [(30, 50, 40), (64, WHOLE + 9, 33)])
def test_products_of_known_sizes(forms: tuple[bool, bool], size: tuple[int, int, int]) -> None:
    rng, (m, s, n) = np.random.default_rng(1), size
    (x, a), (y, b) = operand("x", m, s, forms[0], "float32"), operand("y", s, n, forms[1], "float32")
    (p, left), (q, right) = numbers(rng, m, s, forms[0], "float32"), numbers(rng, s, n, forms[1], "float32")
    check([x, y], a @ b, [p, q], left @ right)


@pytest.mark.parametrize("terms", [WHOLE, 2 * WHOLE, 608, 992, 1056])
def test_few_rows_of_long_sums_that_no_lane_divides(terms: int) -> None:
    rng = np.random.default_rng(3)
    for forms in FORMS:
        (x, a), (y, b) = operand("x", "M", terms, forms[0], "float32"), operand("y", terms, 33, forms[1], "float32")
        for m in (1, 3, 5):
            (p, left), (q, right) = numbers(rng, m, terms, forms[0], "float32"), numbers(rng, terms, 33, forms[1], "f")
            check([x, y], a @ b, [p, q], left @ right, M=m)


def test_the_bits_of_a_product_do_not_depend_on_what_is_known_of_its_shape() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.standard_normal((40, 2 * WHOLE)).astype(np.float32), rng.standard_normal((2 * WHOLE, 64)).astype("f")
    results = []
    for m, s, n in ((40, 2 * WHOLE, 64), ("M", "K", "N"), ("M", 2 * WHOLE, 64)):
        x, y = dlc.input("x", (m, s)), dlc.input("y", (s, n))
        results.append(check([x, y], x @ y, [a, b], a.astype(float) @ b.astype(float), M=40, K=2 * WHOLE, N=64))
    assert all(np.array_equal(results[0], r) for r in results)


def test_what_follows_a_product_is_stored_with_it() -> None:
    rng = np.random.default_rng(3)
    x, w = dlc.input("x", ("N", 70)), dlc.input("w", (45, 70))
    b, r = dlc.input("b", (45,)), dlc.input("r", ("N", 45))
    y = dlc.relu(x @ dlc.permute_dims(w, (1, 0)) + b) + r
    for n in (0, 1, 3, 4, 61):
        arrays = [rng.standard_normal(s).astype(np.float32) for s in ((n, 70), (45, 70), (45,), (n, 45))]
        p, q, c, d = (v.astype(np.float64) for v in arrays)
        check([x, w, b, r], y, arrays, np.maximum(p @ q.T + c, 0) + d, N=n)


def test_operands_may_be_computed() -> None:
    rng = np.random.default_rng(4)
    x, y = dlc.input("x", (50, "K")), dlc.input("y", ("K", 40))
    arrays = [rng.standard_normal(s).astype(np.float32) for s in ((50, 33), (33, 40))]
    product = (x * 2 + 1) @ dlc.where(y > 0, y, 0 * y)
    p, q = (v.astype(np.float64) for v in arrays)
    check([x, y], product, arrays, (2 * p + 1) @ np.maximum(q, 0), K=33)


@pytest.mark.parametrize(
    ("left", "right", "text"),
    [
        (("B", 20, 30), (30, 40), "bik,kj->bij"),
        (("B", 3, 20, 30), ("B", 3, 30, 40), "bhik,bhkj->bhij"),
        (("B", 1, 20, 30), (3, 30, 40), "bxik,hkj->bhij"),
        ((6, 30, 20), ("B", 6, 30, 40), "hki,bhkj->bhij"),
    ],
    ids=["rows of one matrix", "each its own", "both broadcast", "the left one is shared and turned"],
)
def test_batches(left: tuple[Any, ...], right: tuple[Any, ...], text: str) -> None:
    rng = np.random.default_rng(5)
    x, y = dlc.input("x", left), dlc.input("y", right)
    arrays = [rng.standard_normal([2 if d == "B" else d for d in s]).astype(np.float32) for s in (left, right)]
    turned = text.startswith("hki")
    a = dlc.permute_dims(x, (0, 2, 1)) if turned else x
    (found,) = dlc.compile(dlc.graph([x, y], [a @ y]))(*arrays)
    wanted = np.einsum(text.replace("x", ""), arrays[0].squeeze(1) if "x" in text else arrays[0], arrays[1])
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("vector,registers", [(64, 32), (32, 16), (16, 16), (16, 32)])
def test_a_tile_fits_into_the_registers(vector: int, registers: int) -> None:
    target = Target("cpu", vector=vector, registers=registers)
    for m, n in itertools.product((1, 2, 7, 64, 128, 512, 784, dim("N")), (1, 10, 16, 84, 512, dim("M"))):
        for dtype in ("float32", "float64"):
            tile = tile_shape(target, dtype, m, n)
            assert tile.rows * tile.vectors + tile.vectors + 1 <= registers
            assert tile.lanes == target.lanes(dtype)
    rows = tile_shape(target, "float32", 128, 512).rows
    assert -(-128 // rows) * rows <= 1.05 * 128  # little is wasted


@pytest.mark.parametrize("cpu", ["avx2", "portable"])
def test_lesser_machines_multiply_too(cpu: str) -> None:
    script = (
        "import numpy as np, dlc\n"
        "x, w = dlc.input('x', ('N', 600)), dlc.input('w', (70, 600))\n"
        "step = dlc.compile(dlc.graph([x, w], [x @ dlc.permute_dims(w, (1, 0))]))\n"
        "rng = np.random.default_rng(0)\n"
        "a, b = (rng.standard_normal(s).astype('f') for s in ((45, 600), (70, 600)))\n"
        "np.testing.assert_allclose(step(a, b)[0], a.astype(float) @ b.astype(float).T, rtol=1e-5, atol=1e-4)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "DLC_CPU": cpu}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_tasks_of_a_large_product_are_several() -> None:
    x, y = dlc.input("x", ("N", 784)), dlc.input("y", (784, 512))
    (part,) = emitted((x @ y).node).parts
    assert evaluate(part.tasks, {"N": 128}) == 2 and evaluate(part.tasks, {"N": 2048}) >= 8
