"""Cross-entropy of classes: by number or by probabilities, weighted, smoothed, and with labels to ignore."""

from __future__ import annotations

from typing import Any

from dlc.dtypes import FLOATING, INTEGER
from dlc.errors import AttributeValueError, DTypeError, ShapeError
from dlc.ops.composed import log_softmax, mean
from dlc.ops.definition import located
from dlc.ops.elementwise import convert, rounded_once, where
from dlc.ops.fill import along, size_of
from dlc.ops.functions import exp, log
from dlc.ops.gather import take, take_along_axis
from dlc.ops.leaves import scalar
from dlc.ops.reduce import max as max_
from dlc.ops.reduce import one_axis, without
from dlc.ops.reduce import sum as sum_
from dlc.ops.tensor import Tensor, wrap
from dlc.ops.view import expand_dims, squeeze, stop_gradient


def reduced(losses: Tensor, reduction: str, name: str) -> Tensor:
    """Losses as `reduction` says: "mean" and "sum" give a 0-d loss, "none" leaves them as they are."""
    match reduction:
        case "mean":
            return mean(losses)
        case "sum":
            return sum_(losses)
        case "none":
            return losses
    raise AttributeValueError(f"{name}: the reduction {reduction!r} is unknown; use 'mean', 'sum' or 'none'")


@located
@rounded_once("logits")
def cross_entropy(
    logits: Any,
    targets: Any,
    axis: int = -1,
    reduction: str = "mean",
    *,
    weight: Any = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    smooth_over: str = "all",
) -> Tensor:
    """-log softmax(logits)[target]: logits are floating-point [..., C] with classes on `axis`, targets integers [...].

    Targets may also be probabilities of the logits' shape: the loss is then -sum(target * log softmax(logits)) over
    the classes. `reduction` is "mean" or "sum", which give a 0-d loss, or "none". `weight` [C] scales each class; the
    mean then divides by the sum of the weights of the target classes (with probabilities, by the number of losses).
    A target equal to `ignore_index` adds nothing to the loss, the gradient or what the mean divides by; there is none
    by default (torch's is -100), so that a stray label is an error. With `label_smoothing` e the target class has
    1 - e + e/C of the probability and each other e/C; with `smooth_over="others"` 1 - e and e/(C-1).
    C. Szegedy et al., arXiv:1512.00567, section 7.

    A target outside 0 to C-1 fails the run with `IndexOutOfRangeError`. Raises `DTypeError`, `ShapeError` and
    `AttributeValueError` where the arguments do not fit. The gradient by the logits is softmax(logits) less the
    target's probabilities.

    >>> import dlc
    >>> f"{dlc.evaluate(dlc.cross_entropy([[0.0, 0.0]], [1])):.4f}"
    '0.6931'
    >>> f"{dlc.evaluate(dlc.cross_entropy([[0.0, 0.0]], [[0.5, 0.5]], label_smoothing=0.1)):.4f}"
    '0.6931'
    """
    name = "cross_entropy"
    x, t = _floating(logits, name), wrap(targets)
    at = one_axis(axis, x.ndim, name)
    smoothing = _smoothing(x, at, label_smoothing, smooth_over)
    if weight is None and ignore_index is None and smoothing is None and t.dtype not in FLOATING:
        _check_targets(x, t, at, name)
        z = x - stop_gradient(max_(x, axis=at, keepdims=True))
        picked = squeeze(take_along_axis(z, expand_dims(t, at), axis=at), at)
        return reduced(log(sum_(exp(z), axis=at)) - picked, reduction, name)
    return _weighted(log_softmax(x, at), t, at, reduction, weight, ignore_index, smoothing, name)


@located
@rounded_once("log_probabilities")
def nll_loss(
    log_probabilities: Any,
    targets: Any,
    axis: int = -1,
    reduction: str = "mean",
    *,
    weight: Any = None,
    ignore_index: int | None = None,
) -> Tensor:
    """-log_probabilities[target], the negative log-likelihood: what `cross_entropy` is after `log_softmax`.

    Arguments, shapes and errors are those of `cross_entropy`; targets are class numbers.

    >>> import dlc
    >>> dlc.evaluate(dlc.nll_loss([[-1.0, -2.0]], [1])).item()
    2.0
    """
    x, t = _floating(log_probabilities, "nll_loss"), wrap(targets)
    at = one_axis(axis, x.ndim, "nll_loss")
    if t.dtype not in INTEGER:
        raise _not_classes(t, "nll_loss")
    return _weighted(x, t, at, reduction, weight, ignore_index, None, "nll_loss")


def _weighted(
    log_p: Tensor,
    targets: Tensor,
    axis: int,
    reduction: str,
    weight: Any,
    ignore_index: int | None,
    smoothing: Tensor | None,
    name: str,
) -> Tensor:
    """The loss of log-probabilities; `smoothing` is the share of probability that is spread over all classes."""
    scale = None if weight is None else _weights(log_p, weight, axis, name)
    if targets.dtype in FLOATING and targets.shape == log_p.shape:
        if ignore_index is not None:
            raise AttributeValueError(f"{name}: ignore_index goes with class numbers; the targets are {targets.type}")
        p = convert(targets, log_p.dtype)
        if smoothing is not None:
            p = p * (1.0 - smoothing) + smoothing / size_of(log_p.shape[axis], log_p.dtype)
        expected = where(p == 0.0, 0.0, p * where(p == 0.0, 0.0, log_p))
        return reduced(-sum_(expected if scale is None else expected * scale, axis=axis), reduction, name)
    _check_targets(log_p, targets, axis, name)
    zero = scalar(0, log_p.dtype)
    kept = None if ignore_index is None else targets != _class_number(ignore_index, name)
    classes = targets if kept is None else where(kept, targets, scalar(0, targets.dtype))
    shares = None if scale is None else take(wrap(weight), classes)
    shares = None if shares is None else convert(shares, log_p.dtype)
    losses = -squeeze(take_along_axis(log_p, expand_dims(classes, axis), axis=axis), axis)
    losses = losses if shares is None else losses * shares
    if smoothing is not None:
        spread = -sum_(log_p if scale is None else log_p * scale, axis=axis)
        losses = losses * (1.0 - smoothing) + spread * (smoothing / size_of(log_p.shape[axis], log_p.dtype))
    losses = losses if kept is None else where(kept, losses, zero)
    if reduction != "mean" or (kept is None and shares is None):
        return reduced(losses, reduction, name)
    if kept is None:
        assert shares is not None
        return sum_(losses) / sum_(shares)
    counted = convert(kept, log_p.dtype) if shares is None else where(kept, shares, zero)
    return sum_(losses) / sum_(counted)


def _smoothing(x: Tensor, axis: int, smoothing: float, smooth_over: str) -> Tensor | None:
    if isinstance(smoothing, bool) or not isinstance(smoothing, (int, float)) or not 0 <= smoothing <= 1:
        raise AttributeValueError(f"cross_entropy: label_smoothing is between 0 and 1, not {smoothing!r}")
    if smooth_over not in ("all", "others"):
        raise AttributeValueError(f"cross_entropy: smooth_over={smooth_over!r} is unknown; use 'all' or 'others'")
    if not smoothing:
        return None
    share = scalar(float(smoothing), x.dtype)
    if smooth_over == "all":
        return share
    count = size_of(x.shape[axis], x.dtype)
    return share * count / (count - 1.0)


def _floating(x: Any, name: str) -> Tensor:
    t = wrap(x)
    if t.dtype not in FLOATING:
        raise DTypeError(f"{name} takes floating-point tensors, not {t.type}; convert with .astype('float32')")
    return t


def _not_classes(t: Tensor, name: str) -> DTypeError:
    return DTypeError(f"{name} takes integer class numbers as targets, not {t.type}; convert with .astype('int64')")


def _check_targets(x: Tensor, t: Tensor, axis: int, name: str) -> None:
    if t.dtype not in INTEGER:
        raise _not_classes(t, name)
    if t.shape != without(x.shape, (axis,)):
        raise ShapeError(
            f"{name}: the logits {x.type} have classes on axis {axis}, so the targets need the shape "
            f"[{','.join(map(str, without(x.shape, (axis,))))}], not {t.type}"
        )


def _weights(x: Tensor, weight: Any, axis: int, name: str) -> Tensor:
    w = wrap(weight)
    if w.shape != (x.shape[axis],):
        raise ShapeError(f"{name}: axis {axis} of {x.type} has the classes, so the weight needs one each, not {w.type}")
    return along(convert(w, x.dtype), axis, x.ndim)


def _class_number(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise AttributeValueError(f"{name}: ignore_index is an int, not {value!r}")
    return value
