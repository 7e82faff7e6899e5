"""How near vectors are to one another: norms made 1, distances, cosines. Names and defaults are torch's, axis 1 too.

Raises `DTypeError` for tensors that are not floating-point, and `AttributeValueError` for an axis that does not exist.
"""

from __future__ import annotations

from typing import Any

from dlc.ops import broadcast_arrays, clip, vector_norm
from dlc.ops import sum as sum_
from dlc.ops.definition import located
from dlc.ops.elementwise import promoted, rounded_once
from dlc.ops.tensor import Tensor, wrap


@located
@rounded_once("x")
def normalize(x: Any, p: float = 2.0, axis: int = 1, eps: float = 1e-12) -> Tensor:
    """x divided by its p-norm along `axis`, or by `eps` where that is larger.

    >>> import dlc
    >>> dlc.evaluate(normalize([[3.0, 4.0], [0.0, 0.0]])).tolist()
    [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    t = wrap(x)
    return t / clip(vector_norm(t, axis, True, p), min=eps)


@located
@rounded_once("x1", "x2")
def pairwise_distance(x1: Any, x2: Any, p: float = 2.0, eps: float = 1e-6, keepdims: bool = False) -> Tensor:
    """The p-norm of x1 - x2 + eps over the last axis; the others broadcast.

    >>> import dlc
    >>> dlc.evaluate(pairwise_distance([[3.0, 4.0]], [[0.0, 0.0]], eps=0.0)).tolist()
    [5.0]
    """
    a, b = promoted([wrap(x1), wrap(x2)])
    return vector_norm(a - b + eps, -1, keepdims, p)


@located
@rounded_once("x1", "x2")
def cosine_similarity(x1: Any, x2: Any, axis: int = 1, eps: float = 1e-8) -> Tensor:
    """The cosine of the angle of x1 and x2 along `axis`; the tensors broadcast. Lengths below `eps` count as `eps`.

    >>> import dlc
    >>> dlc.evaluate(cosine_similarity([[1.0, 0.0]], [[3.0, 4.0]])).tolist()
    [0.6000000238418579]
    """
    a, b = broadcast_arrays(*promoted([wrap(x1), wrap(x2)]))
    first, second = (clip(vector_norm(t, axis, True), min=eps) for t in (a, b))
    return sum_((a / first) * (b / second), axis=axis)
