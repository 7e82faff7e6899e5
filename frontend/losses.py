"""Losses: functions of a model's outputs and the targets.

`reduction` is "mean" or "sum", over all elements, which give a 0-d loss, or "none", which gives one loss an element.
Every loss raises `DTypeError` where the outputs are not floating-point, `ShapeError` where targets have another shape,
and `AttributeValueError` for an unknown reduction. Losses of two embeddings are in `dlc.frontend.metric_losses`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from dlc.dtypes import FLOATING
from dlc.errors import AttributeValueError, DTypeError, ShapeError
from dlc.ops import clip, cross_entropy, exp, log, log1p, nll_loss, relu, size_of, softplus, where
from dlc.ops.cross_entropy import reduced
from dlc.ops.elementwise import convert, rounded_once, taken_as
from dlc.ops.tensor import Tensor, wrap
from dlc.provenance import here

Loss = Callable[[Tensor, Tensor], Tensor]


@rounded_once("outputs")
def mse(outputs: Any, targets: Any, reduction: str = "mean") -> Tensor:
    """(output - target)^2; targets have the outputs' shape.

    >>> import dlc
    >>> dlc.evaluate(mse([1.0, 2.0], [1.0, 4.0])).item()
    2.0
    """
    d = _difference("mse", outputs, targets)
    return reduced(d * d, reduction, "mse")


@rounded_once("outputs")
def half_mse(outputs: Any, targets: Any, reduction: str = "mean") -> Tensor:
    """(output - target)^2 / 2, whose gradient is the error itself; targets have the outputs' shape.

    >>> import dlc
    >>> dlc.evaluate(half_mse([1.0, 2.0], [1.0, 4.0])).item()
    1.0
    """
    d = _difference("half_mse", outputs, targets)
    return reduced(0.5 * d * d, reduction, "half_mse")


@rounded_once("outputs")
def l1(outputs: Any, targets: Any, reduction: str = "mean") -> Tensor:
    """|output - target|; targets have the outputs' shape.

    >>> import dlc
    >>> dlc.evaluate(l1([1.0, 2.0], [1.0, 4.0])).item()
    1.0
    """
    return reduced(abs(_difference("l1", outputs, targets)), reduction, "l1")


@rounded_once("outputs")
def huber(outputs: Any, targets: Any, delta: float = 1.0, reduction: str = "mean") -> Tensor:
    """d^2 / 2 where |d| <= delta, else delta (|d| - delta / 2), with d = output - target.

    Huber (1964), Robust estimation of a location parameter.

    >>> import dlc
    >>> dlc.evaluate(huber([0.0, 3.0], [0.0, 0.0])).item()
    1.25
    """
    if not delta > 0:
        raise AttributeValueError(f"huber: delta is above 0, not {delta!r}", where=here())
    d = _difference("huber", outputs, targets)
    size = abs(d)
    return reduced(where(size <= delta, 0.5 * d * d, delta * (size - 0.5 * delta)), reduction, "huber")


@rounded_once("outputs")
def smooth_l1(outputs: Any, targets: Any, beta: float = 1.0, reduction: str = "mean") -> Tensor:
    """d^2 / (2 beta) where |d| < beta, else |d| - beta / 2, with d = output - target; `l1` where beta is 0.

    It is `huber` divided by its delta. R. Girshick, Fast R-CNN, arXiv:1504.08083.

    >>> import dlc
    >>> dlc.evaluate(smooth_l1([0.0, 3.0], [0.0, 0.0])).item()
    1.25
    """
    if not beta >= 0:
        raise AttributeValueError(f"smooth_l1: beta is at least 0, not {beta!r}", where=here())
    if beta == 0:
        return l1(outputs, targets, reduction)
    d = _difference("smooth_l1", outputs, targets)
    size = abs(d)
    return reduced(where(size < beta, d * d * (0.5 / beta), size - 0.5 * beta), reduction, "smooth_l1")


@rounded_once("probabilities")
def binary_cross_entropy(probabilities: Any, targets: Any, weight: Any = None, reduction: str = "mean") -> Tensor:
    """-t log p - (1 - t) log(1 - p) of probabilities p in [0, 1]; targets in [0, 1] have their shape.

    A logarithm below -100 counts as -100, as in torch, with gradient 0: where the outputs are still logits,
    `binary_cross_entropy_with_logits` has no such floor. `weight` scales each loss and broadcasts.

    >>> import dlc
    >>> round(dlc.evaluate(binary_cross_entropy([0.5, 0.5], [0.0, 1.0])).item(), 4)
    0.6931
    """
    p, t = pair_of("binary_cross_entropy", probabilities, targets)
    losses = -(t * clip(log(p), min=-100.0) + (1.0 - t) * clip(log1p(-p), min=-100.0))
    return reduced(scaled(losses, weight), reduction, "binary_cross_entropy")


@rounded_once("logits")
def binary_cross_entropy_with_logits(
    logits: Any, targets: Any, weight: Any = None, pos_weight: Any = None, reduction: str = "mean"
) -> Tensor:
    """-t log s(x) - (1 - t) log(1 - s(x)) with s the sigmoid; targets in [0, 1] have the logits' shape.

    Computed as softplus(x) - x t, which does not overflow. `pos_weight` scales the first term, the loss of positives;
    `weight` each loss. Both broadcast.

    >>> import dlc
    >>> round(dlc.evaluate(binary_cross_entropy_with_logits([0.0, 0.0], [0.0, 1.0])).item(), 4)
    0.6931
    """
    x, t = pair_of("binary_cross_entropy_with_logits", logits, targets)
    losses = softplus(x) - x * t
    if pos_weight is not None:
        losses = (1.0 - t) * x + (1.0 + (taken_as(pos_weight, x.dtype) - 1.0) * t) * softplus(-x)
    return reduced(scaled(losses, weight), reduction, "binary_cross_entropy_with_logits")


@rounded_once("log_probabilities")
def kl_div(log_probabilities: Any, targets: Any, reduction: str = "mean", log_target: bool = False) -> Tensor:
    """t (log t - x): the divergence of the model's distribution, given by its logarithms x, from the targets'.

    With `log_target` the targets are logarithms too. "mean" is over all elements, as in torch; the divergence in its
    usual sense is the "batchmean", the sum divided by the size of the first axis. 0 log 0 is 0.
    S. Kullback and R. A. Leibler, 1951.

    >>> import dlc
    >>> dlc.evaluate(kl_div([[0.0, 0.0]], [[0.0, 1.0]])).item()
    0.0
    """
    x, t = pair_of("kl_div", log_probabilities, targets)
    if log_target:
        losses = exp(t) * (t - x)
    else:
        positive = t > 0.0
        losses = where(positive, t * (log(where(positive, t, 1.0)) - x), -(t * x))
    if reduction != "batchmean":
        return reduced(losses, reduction, "kl_div")
    if not losses.ndim:
        raise ShapeError(f"kl_div: 'batchmean' divides by the size of the first axis; {x.type} has none", where=here())
    return losses.sum() / size_of(losses.shape[0], losses.dtype)


@rounded_once("outputs")
def poisson_nll(
    outputs: Any, targets: Any, log_input: bool = True, full: bool = False, eps: float = 1e-8, reduction: str = "mean"
) -> Tensor:
    """The negative log-likelihood of counts t under Poisson's distribution: exp(x) - t x of outputs x = log(rate).

    Without `log_input` the outputs are rates, and the loss x - t log(x + eps). The term log(t!) is left out, or, with
    `full`, taken by Stirling's formula t log t - t + log(2 pi t) / 2 where t > 1. Targets have the outputs' shape.

    >>> import dlc
    >>> dlc.evaluate(poisson_nll([0.0, 0.0], [1.0, 3.0])).item()
    1.0
    """
    x, t = pair_of("poisson_nll", outputs, targets)
    losses = exp(x) - t * x if log_input else x - t * log(x + eps)
    if full:
        large = where(t > 1.0, t, 1.0)
        stirling = large * log(large) - large + 0.5 * log(2.0 * math.pi * large)
        losses = losses + where(t > 1.0, stirling, 0.0)
    return reduced(losses, reduction, "poisson_nll")


@rounded_once("outputs")
def gaussian_nll(
    outputs: Any, targets: Any, var: Any, full: bool = False, eps: float = 1e-6, reduction: str = "mean"
) -> Tensor:
    """The negative log-likelihood of targets t under normal distributions of means x: (log v + (x - t)^2 / v) / 2.

    The variances `var` broadcast to the outputs; one below `eps` counts as `eps`, with gradient 0. The term
    log(2 pi) / 2 is added with `full`. Targets have the outputs' shape. D. A. Nix and A. S. Weigend, 1994.

    >>> import dlc
    >>> dlc.evaluate(gaussian_nll([0.0, 1.0], [2.0, 1.0], [1.0, 1.0])).item()
    1.0
    """
    if not eps > 0:
        raise AttributeValueError(f"gaussian_nll: eps is above 0, not {eps!r}", where=here())
    d = _difference("gaussian_nll", outputs, targets)
    v = clip(taken_as(var, d.dtype), min=eps)
    losses = 0.5 * (log(v) + d * d / v)
    if losses.shape != d.shape:
        raise ShapeError(
            f"gaussian_nll: variances {wrap(var).type} do not broadcast to the outputs {d.type}", where=here()
        )
    return reduced(losses + 0.5 * math.log(2.0 * math.pi) if full else losses, reduction, "gaussian_nll")


@rounded_once("outputs")
def logistic(outputs: Any, targets: Any, reduction: str = "mean") -> Tensor:
    """log(1 + exp(-t x)) of outputs x and targets t, 1 or -1, of their shape, without overflow.

    >>> import dlc
    >>> round(dlc.evaluate(logistic([0.0], [1.0])).item(), 4)
    0.6931
    """
    x, t = pair_of("logistic", outputs, targets)
    return reduced(softplus(-(t * x)), reduction, "logistic")


@rounded_once("outputs")
def hinge(outputs: Any, targets: Any, margin: float = 1.0, reduction: str = "mean") -> Tensor:
    """max(0, margin - t x) of outputs x and targets t, 1 or -1, of their shape. C. Cortes and V. Vapnik, 1995.

    >>> import dlc
    >>> dlc.evaluate(hinge([2.0, 0.5], [1.0, -1.0])).item()
    0.75
    """
    x, t = pair_of("hinge", outputs, targets)
    return reduced(relu(margin - t * x), reduction, "hinge")


@rounded_once("outputs")
def squared_hinge(outputs: Any, targets: Any, margin: float = 1.0, reduction: str = "mean") -> Tensor:
    """The square of `hinge`, which is smooth at the margin.

    >>> import dlc
    >>> dlc.evaluate(squared_hinge([2.0, 0.5], [1.0, -1.0])).item()
    1.125
    """
    x, t = pair_of("squared_hinge", outputs, targets)
    slack = relu(margin - t * x)
    return reduced(slack * slack, reduction, "squared_hinge")


@rounded_once("outputs")
def perceptron(outputs: Any, targets: Any, reduction: str = "mean") -> Tensor:
    """max(0, -t x) of outputs x and targets t, 1 or -1, of their shape. F. Rosenblatt, 1958.

    >>> import dlc
    >>> dlc.evaluate(perceptron([2.0, 0.5], [1.0, -1.0])).item()
    0.25
    """
    x, t = pair_of("perceptron", outputs, targets)
    return reduced(relu(-(t * x)), reduction, "perceptron")


LOSSES: dict[str, Loss] = {
    "cross_entropy": cross_entropy,
    "nll": nll_loss,
    "mse": mse,
    "half_mse": half_mse,
    "l1": l1,
    "huber": huber,
    "smooth_l1": smooth_l1,
    "binary_cross_entropy": binary_cross_entropy,
    "binary_cross_entropy_with_logits": binary_cross_entropy_with_logits,
    "kl_div": kl_div,
    "poisson_nll": poisson_nll,
    "logistic": logistic,
    "hinge": hinge,
    "squared_hinge": squared_hinge,
    "perceptron": perceptron,
}


def find_loss(loss: str | Loss) -> Loss:
    """The loss called `loss`, or a function itself. Raises `AttributeValueError` naming those that exist."""
    if callable(loss):
        return loss
    if loss not in LOSSES:
        raise AttributeValueError(
            f"there is no loss {loss!r}; choose one of {', '.join(map(repr, LOSSES))}, or pass a function of "
            "(outputs, targets)",
            where=here(),
        )
    return LOSSES[loss]


def _difference(name: str, outputs: Any, targets: Any) -> Tensor:
    x, t = pair_of(name, outputs, targets)
    return x - t


def pair_of(name: str, outputs: Any, targets: Any) -> tuple[Tensor, Tensor]:
    """Outputs and targets of one shape (broadcasting here hides mistakes) and the outputs' dtype."""
    x, t = wrap(outputs), wrap(targets)
    if x.dtype not in FLOATING:
        raise DTypeError(f"{name} takes floating-point outputs, not {x.type}", where=here())
    if x.shape != t.shape:
        raise ShapeError(
            f"{name}: the outputs are {x.type} and the targets {t.type}; reshape one to the other", where=here()
        )
    return x, convert(t, x.dtype)


def scaled(losses: Tensor, weight: Any) -> Tensor:
    return losses if weight is None else losses * taken_as(weight, losses.dtype)
