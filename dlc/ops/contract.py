"""Matrix products. The stored op has one form: equal batch dims, then [M, K] times [K, N]."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from dlc.dims import DimLike, product
from dlc.dtypes import FLOATING
from dlc.errors import DTypeError, ShapeError
from dlc.ir import TensorType
from dlc.ops.definition import Array, Kind, Sample, arrays, define, nbytes
from dlc.ops.elementwise import broadcast_shapes, promoted
from dlc.ops.tensor import Tensor
from dlc.ops.view import broadcast_to, matrix_transpose, reshape


def _matmul_type(a: TensorType, b: TensorType) -> TensorType:
    if a.dtype not in FLOATING or a.dtype != b.dtype:
        raise DTypeError(
            f"matmul takes floating-point tensors of one dtype, not {a} and {b}; convert with .astype('float32')"
        )
    if a.ndim < 2 or a.ndim != b.ndim or a.shape[:-2] != b.shape[:-2]:
        raise ShapeError(f"matmul multiplies stacks of matrices of equal batch dims, not {a} and {b}")
    if a.shape[-1] != b.shape[-2]:
        raise _mismatch(a, b, a.shape[-1], b.shape[-2])
    return TensorType(a.dtype, (*a.shape[:-1], b.shape[-1]))


def _mismatch(a: TensorType, b: TensorType, inner: DimLike, other: DimLike) -> ShapeError:
    return ShapeError(
        f"matmul: the last dim of {a} is {inner}, but the dim of {b} that it is summed with is {other}; they must be "
        "equal, so transpose an operand with dlc.matrix_transpose or change a layer's size"
    )


def _matmul_reference(a: Array, b: Array) -> Array:
    return np.matmul(a.astype(np.float64), b.astype(np.float64)).astype(a.dtype)


def _matmul_vjp(g: Tensor, y: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    return matmul.op(g, matrix_transpose(b)), matmul.op(matrix_transpose(a), g)


def _matmul_cost(y: TensorType, a: TensorType, b: TensorType) -> tuple[DimLike, DimLike]:
    return 2 * y.size * a.shape[-1], nbytes(a) + nbytes(b) + nbytes(y)


def _matmul_samples() -> Iterable[Sample]:
    for first, second in [((3, 4), (4, 5)), ((4,), (4,)), ((4,), (4, 5)), ((3, 4), (4,))]:
        yield Sample(arrays(first, second))
    for first, second in [((2, 3, 4), (4, 5)), ((2, 3, 4), (2, 4, 5)), ((2, 1, 3, 4), (3, 4, 2)), ((3, 4), (2, 4, 5))]:
        yield Sample(arrays(first, second))
    yield Sample(arrays((3, 0), (0, 2)))
    yield Sample(arrays((33, 70), (70, 19), dtype="float64"))


@define(
    kind=Kind.CONTRACT,
    infer=_matmul_type,
    reference=_matmul_reference,
    vjp=_matmul_vjp,
    cost=_matmul_cost,
    samples=_matmul_samples,
)
def matmul(a: Any, b: Any) -> Tensor:
    """The matrix product of the last two axes, [..., M, K] times [..., K, N]; other axes broadcast.

    A vector on the left is a row, one on the right a column, and their axis is gone from the result. Operands are
    floating-point and promote. Raises `ShapeError` where the dims that are summed over differ, `DTypeError` for
    integers.

    >>> import dlc
    >>> dlc.evaluate(dlc.matmul([[1.0, 2.0], [3.0, 4.0]], [1.0, 1.0])).tolist()
    [3.0, 7.0]
    """
    x, w = promoted([a, b])
    if x.ndim == 0 or w.ndim == 0:
        raise ShapeError(f"matmul takes vectors, matrices and stacks of them, not {x.type} and {w.type}; scale with *")
    inner, other = x.shape[-1], w.shape[-2] if w.ndim > 1 else w.shape[0]
    if inner != other:
        raise _mismatch(x.type, w.type, inner, other)
    rows = x if x.ndim > 1 else reshape(x, (1, inner))
    columns = w if w.ndim > 1 else reshape(w, (inner, 1))
    y = _batched(rows, columns)
    if x.ndim > 1 and w.ndim > 1:
        return y
    shape = (*y.shape[:-2], *([y.shape[-2]] if x.ndim > 1 else []), *([y.shape[-1]] if w.ndim > 1 else []))
    return reshape(y, shape)


def _batched(a: Tensor, b: Tensor) -> Tensor:
    """The product of operands of at least two axes; many matrices times one are one product of many rows."""
    if b.ndim == 2 and a.ndim > 2:
        rows = reshape(a, (product(a.shape[:-1]), a.shape[-1]))
        return reshape(matmul.op(rows, b), (*a.shape[:-1], b.shape[-1]))
    batch = broadcast_shapes(a.shape[:-2], b.shape[:-2], op="matmul")
    return matmul.op(broadcast_to(a, (*batch, *a.shape[-2:])), broadcast_to(b, (*batch, *b.shape[-2:])))
