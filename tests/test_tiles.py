"""The micro-kernel of contractions, called by hand from a source; NumPy in float64 says what it should give."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest

from dlc.backends.cpu.compile import compile_kernels
from dlc.backends.cpu.host import cpu_target

Array = np.ndarray[Any, Any]
NATIVE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)


def call(body: str, arrays: list[Array], sizes: list[int]) -> None:
    """Run a line of kernel code on arrays p0, p1 ... and sizes n0, n1 ..."""
    kinds = [a.dtype.name for a in arrays]
    head = [f"p{i} = pointer_{t}(bases, args, {i})" for i, t in enumerate(kinds)]
    head += [f"n{i} = args[{2 * len(arrays) + i}]" for i in range(len(sizes))]
    (address,) = compile_kernels(["\n    ".join(["def kernel(bases, args, begin, end):", *head, body]) + "\n"])
    bases = np.array([0, 0, *(a.ctypes.data for a in arrays)], np.int64)
    args = np.array([*(v for k in range(len(arrays)) for v in (k + 2, 0)), *sizes], np.int64)
    NATIVE(address)(bases.ctypes.data, args.ctypes.data, 0, 1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("rows", "vectors"), [(1, 1), (12, 2), (4, 3), (7, 1)])
@pytest.mark.parametrize("literal", [True, False])
@pytest.mark.parametrize("fresh", [True, False])
def test_a_tile_is_a_product(dtype: str, rows: int, vectors: int, literal: bool, fresh: bool) -> None:
    rng = np.random.default_rng(rows)
    lanes = cpu_target().lanes(dtype)
    width = vectors * lanes
    for steps in (0, 1, 3, 4, 9) if not literal else (5,):
        a, b = rng.standard_normal((rows + 1, 13)).astype(dtype), rng.standard_normal((10, width + 3)).astype(dtype)
        c = rng.standard_normal((rows + 2, width + 5)).astype(dtype)
        wanted = c.copy()
        product = a[1:, 2 : 2 + steps].astype(np.float64) @ b[:steps, 1 : 1 + width].astype(np.float64)
        place = wanted[1 : 1 + rows, 2 : 2 + width]
        place[...] = product if fresh else place + product
        sizes = [15, 13, 1, 1, width + 3, steps, width + 7, width + 5]
        given = [str(n) if literal else f"n{i}" for i, n in enumerate(sizes)]
        a_at, a_row, a_step, b_at, b_step, count, c_at, c_row = given
        call(
            f"multiply({rows}, {vectors}, {lanes}, p0, {a_at}, {a_row}, {a_step}, p1, {b_at}, {b_step}, {count}, "
            f"p2, {c_at}, {c_row}, {int(fresh)})",
            [a, b, c],
            sizes,
        )
        np.testing.assert_allclose(c, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_tile_may_gather_the_rows_of_its_right_operand(dtype: str) -> None:
    rng = np.random.default_rng(0)
    lanes = cpu_target().lanes(dtype)
    a, b = rng.standard_normal((6, 9)).astype(dtype), rng.standard_normal(40 + 2 * lanes).astype(dtype)
    runs = np.array([99, 7, 3, 30, 3, 0, 11, 40], np.int64)
    c = np.full((9, 2 * lanes), 77, dtype)
    call(
        f"multiply_runs(9, 2, {lanes}, p0, 0, n0, n1, p1, 0, p2, 1, n2, p3, 0, {2 * lanes}, 1)",
        [a, b, runs, c],
        [1, 9, 6],
    )
    gathered = np.stack([b[at : at + 2 * lanes] for at in runs[1:7]]).astype(np.float64)
    np.testing.assert_allclose(c, a.astype(np.float64).T @ gathered, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_square_is_transposed(dtype: str) -> None:
    lanes = cpu_target().lanes(dtype)
    source = np.arange((lanes + 2) * (lanes + 3)).astype(dtype).reshape(lanes + 2, lanes + 3)
    target = np.full((lanes + 1, lanes + 5), 77, dtype)
    wanted = target.copy()
    wanted[1:, 2 : 2 + lanes] = source[2:, 1 : 1 + lanes].T
    call(
        f"transpose({lanes}, p0, n0, n1, p1, {lanes + 7}, {lanes + 5})",
        [source, target],
        [2 * (lanes + 3) + 1, lanes + 3],
    )
    assert np.array_equal(target, wanted)


@pytest.mark.parametrize(
    "line",
    [
        "multiply(n0, 1, 4, p0, 0, 1, 1, p0, 0, 1, 1, p0, 0, 1, 1)",
        "multiply(1, 1, 4, p0, 0, 1, 1, p1, 0, 1, 1, p0, 0, 1, 1)",
        "multiply(1, 1, 4, p2, 0, 1, 1, p2, 0, 1, 1, p2, 0, 1, 1)",
    ],
    ids=["an unknown shape", "two dtypes", "integers"],
)
def test_a_tile_of_unknown_shape_or_mixed_dtypes_does_not_compile(line: str) -> None:
    from numba.core.errors import TypingError

    arrays = [np.zeros(8, np.float32), np.zeros(8, np.float64), np.zeros(8, np.int64)]
    with pytest.raises(TypingError, match="multiply"):
        call(line, arrays, [1])
