"""Losses of class scores that ask for a margin. `reduction` and errors are as in `dlc.frontend.losses`.

Classes are on the last axis. Class numbers that are no integers raise `DTypeError`.
"""

from __future__ import annotations

from typing import Any

from dlc.dtypes import FLOATING
from dlc.errors import AttributeValueError, DTypeError, ShapeError
from dlc.frontend.losses import pair_of, scaled
from dlc.ops import any as any_
from dlc.ops import cumulative_prod, expand_dims, iota, log_sigmoid, mean, relu, size_of, take, take_along_axis, where
from dlc.ops import sum as sum_
from dlc.ops.cross_entropy import reduced
from dlc.ops.elementwise import convert, rounded_once, taken_as
from dlc.ops.fill import check_indices
from dlc.ops.tensor import Tensor, wrap
from dlc.provenance import here


@rounded_once("outputs")
def multi_margin(
    outputs: Any, targets: Any, p: int = 1, margin: float = 1.0, weight: Any = None, reduction: str = "mean"
) -> Tensor:
    """sum over the other classes i of max(0, margin - x[target] + x[i])^p / C, p being 1 or 2.

    Outputs are [..., C], targets class numbers [...]; `weight` [C] scales the terms by the target's. K. Crammer and
    Y. Singer, 2001, with a sum in the place of their maximum, as in torch.

    >>> import dlc
    >>> dlc.evaluate(multi_margin([[1.0, 0.5, 3.0]], [0])).item()
    1.1666666269302368
    """
    x, t = _scores("multi_margin", outputs, targets)
    if t.shape != x.shape[:-1]:
        raise ShapeError(f"multi_margin: {x.type} needs a class number for each row, not {t.type}", where=here())
    if p not in (1, 2):
        raise AttributeValueError(f"multi_margin: p is 1 or 2, not {p!r}", where=here())
    at = expand_dims(t, t.ndim)
    slack = relu(margin - take_along_axis(x, at, axis=-1) + x)
    slack = slack * slack if p == 2 else slack
    others = iota(x.shape, -1) != convert(at, "int64")
    losses = sum_(where(others, slack, 0.0), axis=-1) / size_of(x.shape[-1], x.dtype)
    return reduced(losses if weight is None else losses * take(taken_as(weight, x.dtype), t), reduction, "multi_margin")


@rounded_once("outputs")
def multilabel_margin(outputs: Any, targets: Any, reduction: str = "mean") -> Tensor:
    """sum over target classes j and other classes i of max(0, 1 - (x[j] - x[i])) / C.

    Outputs are [..., C], targets [..., K]: the class numbers of each row, up to the first -1 if it has one.

    >>> import dlc
    >>> dlc.evaluate(multilabel_margin([[0.5, 0.25, 2.0, 1.0]], [[3, 0, -1, 1]])).item()
    1.375
    """
    x, t = _scores("multilabel_margin", outputs, targets)
    if t.ndim != x.ndim or t.shape[:-1] != x.shape[:-1]:
        raise ShapeError(f"multilabel_margin: {x.type} needs class numbers for each row, not {t.type}", where=here())
    t = convert(t, "int64")
    named = cumulative_prod(convert(t != -1, "int64"), axis=-1) == 1  # up to the first -1
    classes = where(named, t, 0)
    own = expand_dims(take_along_axis(x, classes, axis=-1), x.ndim)
    hits = (expand_dims(classes, x.ndim) == iota((x.shape[-1],), 0)) & expand_dims(named, x.ndim)
    others = expand_dims(~any_(hits, axis=-2), x.ndim - 1) & expand_dims(named, x.ndim)
    slack = where(others, relu(1.0 - own + expand_dims(x, x.ndim - 1)), 0.0)
    return reduced(sum_(slack, axis=(-2, -1)) / size_of(x.shape[-1], x.dtype), reduction, "multilabel_margin")


@rounded_once("outputs")
def multilabel_soft_margin(outputs: Any, targets: Any, weight: Any = None, reduction: str = "mean") -> Tensor:
    """The mean over the classes of binary cross-entropy with logits [..., C]; targets in [0, 1] have their shape.

    `weight` scales the classes, and broadcasts.

    >>> import dlc
    >>> round(dlc.evaluate(multilabel_soft_margin([[0.0, 0.0]], [[1, 0]])).item(), 4)
    0.6931
    """
    x, t = pair_of("multilabel_soft_margin", outputs, targets)
    losses = -(t * log_sigmoid(x) + (1.0 - t) * log_sigmoid(-x))
    return reduced(mean(scaled(losses, weight), axis=-1), reduction, "multilabel_soft_margin")


@rounded_once("outputs")
def hinge_embedding(outputs: Any, targets: Any, margin: float = 1.0, reduction: str = "mean") -> Tensor:
    """x where the target is 1, max(0, margin - x) where it is -1: of distances x, targets of their shape.

    >>> import dlc
    >>> dlc.evaluate(hinge_embedding([0.25, 0.25], [1, -1])).item()
    0.5
    """
    x, t = pair_of("hinge_embedding", outputs, targets)
    losses = where(t == -1.0, 0.0, x) + where(t == 1.0, 0.0, relu(margin - x))
    return reduced(losses, reduction, "hinge_embedding")


def _scores(name: str, outputs: Any, targets: Any) -> tuple[Tensor, Tensor]:
    x, t = wrap(outputs), wrap(targets)
    if x.dtype not in FLOATING:
        raise DTypeError(f"{name} takes floating-point scores, not {x.type}", where=here())
    if x.ndim < 1:
        raise ShapeError(f"{name} takes scores [..., C], not {x.type}", where=here())
    check_indices(t.type, name)
    return x, t
