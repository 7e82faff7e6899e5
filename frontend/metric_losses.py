"""Losses of embeddings: of pairs that are alike or not, and of triplets. `reduction` is as in `dlc.frontend.losses`."""

from __future__ import annotations

from typing import Any

from dlc.dtypes import FLOATING
from dlc.errors import AttributeValueError, DTypeError, ShapeError
from dlc.ops import minimum, relu, sqrt, where
from dlc.ops import sum as sum_
from dlc.ops.cross_entropy import reduced
from dlc.ops.elementwise import convert, rounded_once
from dlc.ops.tensor import Tensor, wrap
from dlc.provenance import here

COSINE_EPS = 1e-12  # keeps the cosine of a zero vector at 0


@rounded_once("x1")
def cosine_embedding(x1: Any, x2: Any, targets: Any, margin: float = 0.0, reduction: str = "mean") -> Tensor:
    """1 - cos(x1, x2) where the target is 1, max(0, cos(x1, x2) - margin) where it is -1.

    x1 and x2 are floating-point [..., D] of one shape, targets 1 or -1 of shape [...]. As in torch the cosine's
    squared lengths are lengthened by 1e-12. Raises `AttributeValueError` where the margin is not in [-1, 1].

    >>> import dlc
    >>> dlc.evaluate(cosine_embedding([[1.0, 0.0]], [[0.0, 1.0]], [1])).item()
    1.0
    """
    if not -1 <= margin <= 1:
        raise AttributeValueError(f"cosine_embedding: the margin is between -1 and 1, not {margin!r}", where=here())
    a, b, t = _alike("cosine_embedding", x1, x2, targets)
    lengths = (sum_(a * a, axis=-1) + COSINE_EPS) * (sum_(b * b, axis=-1) + COSINE_EPS)
    cosine = sum_(a * b, axis=-1) / sqrt(lengths)
    losses = where(t == 1.0, 1.0 - cosine, where(t == -1.0, relu(cosine - margin), 0.0))
    return reduced(losses, reduction, "cosine_embedding")


@rounded_once("x1")
def contrastive(x1: Any, x2: Any, targets: Any, margin: float = 1.0, reduction: str = "mean") -> Tensor:
    """t d^2 / 2 + (1 - t) max(0, margin - d)^2 / 2, d being the distance of x1 and x2, t 1 for a pair that is alike.

    x1 and x2 are floating-point [..., D] of one shape, targets in [0, 1] of shape [...]. In the paper Y is 1 - t.
    R. Hadsell, S. Chopra and Y. LeCun, Dimensionality reduction by learning an invariant mapping, 2006.

    >>> import dlc
    >>> dlc.evaluate(contrastive([[3.0, 4.0]], [[0.0, 0.0]], [1])).item()
    12.5
    """
    a, b, t = _alike("contrastive", x1, x2, targets)
    squares = sum_((a - b) * (a - b), axis=-1)
    apart = relu(margin - _root(squares))
    return reduced(0.5 * (t * squares + (1.0 - t) * apart * apart), reduction, "contrastive")


@rounded_once("anchor")
def triplet_margin(
    anchor: Any,
    positive: Any,
    negative: Any,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """max(0, d(anchor, positive) - d(anchor, negative) + margin), d being the p-norm of the difference plus `eps`.

    All three are floating-point [..., D] of one shape. With `swap` the distance of positive and negative takes the
    place of the anchor's where it is smaller. F. Schroff, D. Kalenichenko and J. Philbin, arXiv:1503.03832;
    V. Balntas et al., 2016, for the swap. Raises `AttributeValueError` where p is below 1 or the margin not above 0.

    >>> import dlc
    >>> round(dlc.evaluate(triplet_margin([[0.0]], [[1.0]], [[1.5]])).item(), 4)
    0.5
    """
    if not p >= 1 or not margin > 0:
        raise AttributeValueError(f"triplet_margin: p is at least 1 and the margin above 0, not {p!r} and {margin!r}",
                                  where=here())  # fmt: skip
    a, b = _embeddings("triplet_margin", anchor, positive)
    _, c = _embeddings("triplet_margin", anchor, negative)
    near, far = _distance(a, b, p, eps), _distance(a, c, p, eps)
    if swap:
        far = minimum(far, _distance(b, c, p, eps))
    return reduced(relu(near - far + margin), reduction, "triplet_margin")


@rounded_once("x1")
def margin_ranking(x1: Any, x2: Any, targets: Any, margin: float = 0.0, reduction: str = "mean") -> Tensor:
    """max(0, margin - t (x1 - x2)): where the target is 1, x1 is to rank above x2; where it is -1, below.

    All three are of one shape, x1 and x2 floating-point.

    >>> import dlc
    >>> dlc.evaluate(margin_ranking([2.0, 1.0], [1.0, 2.0], [1, 1])).item()
    0.5
    """
    a, b = _embeddings("margin_ranking", x1, x2, least=0)
    t = wrap(targets)
    if t.shape != a.shape:
        raise ShapeError(f"margin_ranking: {a.type} needs targets of its shape, not {t.type}", where=here())
    return reduced(relu(margin - convert(t, a.dtype) * (a - b)), reduction, "margin_ranking")


def _distance(a: Tensor, b: Tensor, p: float, eps: float) -> Tensor:
    size = abs(a - b + eps)
    if p == 1:
        return sum_(size, axis=-1)
    if p == float("inf"):
        return size.max(axis=-1)
    if p == 2:
        return _root(sum_(size * size, axis=-1))
    total = sum_(size**p, axis=-1)
    return where(total == 0.0, 0.0, where(total == 0.0, 1.0, total) ** (1.0 / p))


def _root(x: Tensor) -> Tensor:
    """The square root, with derivative 0 at 0."""
    return where(x == 0.0, 0.0, sqrt(where(x == 0.0, 1.0, x)))


def _embeddings(name: str, first: Any, second: Any, least: int = 1) -> tuple[Tensor, Tensor]:
    a, b = wrap(first), wrap(second)
    if a.dtype not in FLOATING or b.dtype not in FLOATING:
        raise DTypeError(f"{name} takes floating-point embeddings, not {a.type} and {b.type}", where=here())
    if a.shape != b.shape or a.ndim < least:
        raise ShapeError(f"{name} takes embeddings [..., D] of one shape, not {a.type} and {b.type}", where=here())
    return a, convert(b, a.dtype)


def _alike(name: str, first: Any, second: Any, targets: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Two embeddings, and a target for each pair in their dtype."""
    a, b = _embeddings(name, first, second)
    t = wrap(targets)
    if t.shape != a.shape[:-1]:
        raise ShapeError(
            f"{name}: {a.type} needs a target for each pair, [{','.join(map(str, a.shape[:-1]))}], not {t.type}",
            where=here(),
        )
    return a, b, convert(t, a.dtype)
