"""torch's products of vectors and matrices in dlc."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

import dlc
from dlc.nn import functional as F
from dlc.ops.tensor import Tensor

from .registry import adapts, refuse, register, whole


def scaled(x: Tensor, factor: Any) -> Tensor:
    """x times beta or alpha; torch leaves out x altogether where the factor is 0."""
    return x if factor == 1 else x * factor


def added(x: Any, product: Tensor, beta: Any, alpha: Any) -> Tensor:
    total = scaled(product, alpha)
    return total if beta == 0 else scaled(x, beta) + total


register(
    {
        "matmul": dlc.matmul,
        "__rmatmul__": lambda x, y: dlc.matmul(y, x),
        "mm": dlc.matmul,
        "bmm": dlc.matmul,
        "mv": dlc.matmul,
        "dot": dlc.matmul,
        "vdot": dlc.matmul,
        "addmm": lambda x, a, b, beta=1, alpha=1: added(x, a @ b, beta, alpha),
        "addmm/decomposed": lambda x, a, b, beta=1, alpha=1: added(x, a @ b, beta, alpha),
        "addmv": lambda x, a, b, beta=1, alpha=1: added(x, a @ b, beta, alpha),
        "addbmm": lambda x, a, b, beta=1, alpha=1: added(x, dlc.einsum("bij,bjk->ik", a, b), beta, alpha),
        "baddbmm": lambda x, a, b, beta=1, alpha=1: added(x, a @ b, beta, alpha),
        "addr": lambda x, a, b, beta=1, alpha=1: added(x, dlc.outer(a, b), beta, alpha),
        "outer": dlc.outer,
        "inner": lambda a, b: a * b if 0 in (a.ndim, b.ndim) else dlc.tensordot(a, b, ((-1,), (-1,))),
        "einsum": lambda operands, equation: einsum(equation, operands),
        "tensordot": lambda a, b, dims=2: tensordot(a, b, whole(dims)),
        "linalg.vecdot": lambda a, b, dim=-1: dlc.sum(a * b, dim),
        "linalg.multi_dot": lambda operands: chain(operands),
        "linalg.matrix_power": lambda x, n: power(x, n),
        "linalg.cross": lambda a, b, dim=-1: cross(a, b, dim),
        "cross": lambda a, b, dim=None: cross(a, b, three(a) if dim is None else dim),
        "linalg.vander": lambda x, N=None: vander(x, N),
        "dist": lambda a, b, p=2: norm(a - b, p, None),
        "cdist": lambda a, b, p=2.0, compute_mode=None: norm(a[..., :, None, :] - b[..., None, :, :], p, -1),
        "nn.functional.pdist": lambda x, p=2: pairs(x, p),
        "nn.functional.linear": lambda x, w, b=None: linear(x, w, b),
        "nn.functional.bilinear": lambda x, y, w, b=None: bilinear(x, y, w, b),
        "nn.functional.pairwise_distance": lambda a, b, p=2.0, eps=1e-6, keepdim=False: F.pairwise_distance(
            a, b, p, eps, keepdim
        ),
        "corrcoef": lambda x: correlation(x),
    }
)


def einsum(equation: str, operands: Any) -> Tensor:
    left, _, right = equation.partition("->")
    refuse("..." in left and right and "..." not in right, "einsum that sums over the axes of an ellipsis")
    return dlc.einsum(equation, *operands)


def tensordot(a: Tensor, b: Tensor, dims: Any) -> Tensor:
    listed = isinstance(dims, (list, tuple)) and all(isinstance(d, (list, tuple)) for d in dims)
    pairs = list(zip(*dims, strict=True)) if listed else []
    refuse(any(a.shape[i] != b.shape[j] for i, j in pairs), "a product over axes of 1 and of more elements")
    return dlc.tensordot(a, b, dims)


def linear(x: Tensor, w: Tensor, b: Any) -> Tensor:
    y = x @ (dlc.matrix_transpose(w) if w.ndim > 1 else w)
    return y if b is None else y + b


def bilinear(x: Tensor, y: Tensor, w: Tensor, b: Any) -> Tensor:
    found = dlc.einsum("...i,kij,...j->...k", x, w, y)
    return found if b is None else found + b


def chain(operands: Any) -> Tensor:
    found, *rest = operands
    for o in rest:
        found = found @ o
    return found


def power(x: Tensor, n: int) -> Tensor:
    refuse(n < 0, "the inverse of a matrix")
    if n == 0:
        return dlc.broadcast_to(dlc.eye(x.shape[-1], dtype=x.dtype), x.shape)
    return chain([x] * n)


def three(x: Tensor) -> int:
    return next(i for i, d in enumerate(x.shape) if d == 3)


def cross(a: Tensor, b: Tensor, dim: int) -> Tensor:
    return dlc.cross(a, b, dim - a.ndim if dim >= 0 else dim)


def vander(x: Tensor, n: Any) -> Tensor:
    x = x if x.ndim else x.reshape((1,))
    n = x.shape[-1] if n is None else n
    ones = dlc.ones((*x.shape, 1), x.dtype)
    if n == 1:
        return ones
    spread = dlc.broadcast_to(x[..., None], (*x.shape, n - 1))
    return dlc.concat([ones, dlc.cumulative_prod(spread, -1)], -1)


def norm(x: Tensor, p: float, axis: Any, keep: bool = False) -> Tensor:
    from .reductions import vector_norm

    return vector_norm(x, p, axis, keep)


def pairs(x: Tensor, p: float) -> Tensor:
    places = np.array(list(itertools.combinations(range(x.shape[0]), 2)), np.int64).reshape((-1, 2))
    return norm(dlc.take(x, places[:, 0]) - dlc.take(x, places[:, 1]), p, -1)


def covariance(x: Tensor, correction: Any, fweights: Any, aweights: Any) -> Tensor:
    rows = x.reshape((1, -1)) if x.ndim < 2 else x
    weights = aweights if fweights is None else fweights.astype("float32" if aweights is None else aweights.dtype)
    weights = weights * aweights if fweights is not None and aweights is not None else weights
    if weights is not None and x.dtype == "float64":
        weights = weights.astype(x.dtype)
    if weights is None:
        count: Any = float(rows.shape[1])
        mean = dlc.mean(rows, 1, True)
        left = rows - mean
        product = left @ dlc.matrix_transpose(left)
        found = product / max(count - correction, 0.0) if count > correction else product / 0.0
    else:
        count = dlc.sum(weights)
        mean = dlc.sum(rows * weights, 1, True) / count
        left = rows - mean
        share = 1.0 if aweights is None else dlc.sum(weights * aweights.astype(weights.dtype)) / count
        lessened = correction * share
        found = (left * weights) @ dlc.matrix_transpose(left) / dlc.maximum(count - lessened, 0.0)
    return found.reshape(()) if rows.shape[0] == 1 else found


@adapts("cov", forward=1e-4, backward=1e-4, why="torch sums the weights, float32 in its samples, in float32")
def _(x: Tensor, correction: Any = 1, fweights: Any = None, aweights: Any = None) -> Tensor:
    return covariance(x, correction, fweights, aweights)


def correlation(x: Tensor) -> Tensor:
    found = covariance(x, 1, None, None)
    if found.ndim == 0:
        return found / found
    deviation = dlc.sqrt(dlc.diagonal(found))
    return dlc.clip(found / deviation[:, None] / deviation[None, :], -1.0, 1.0)
