"""Losses: functions of a model's outputs and the targets, averaged to one number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dlc.dtypes import FLOATING
from dlc.errors import AttributeValueError, DTypeError, ShapeError
from dlc.ops import cross_entropy, softplus, where
from dlc.ops.elementwise import convert
from dlc.ops.tensor import Tensor, wrap
from dlc.provenance import here

Loss = Callable[[Tensor, Tensor], Tensor]


def mse(outputs: Any, targets: Any) -> Tensor:
    """The mean of (output - target)^2; targets have the outputs' shape.

    >>> import dlc
    >>> dlc.evaluate(mse([1.0, 2.0], [1.0, 4.0])).item()
    2.0
    """
    d = _difference("mse", outputs, targets)
    return (d * d).mean()


def l1(outputs: Any, targets: Any) -> Tensor:
    """The mean of |output - target|; targets have the outputs' shape.

    >>> import dlc
    >>> dlc.evaluate(l1([1.0, 2.0], [1.0, 4.0])).item()
    1.0
    """
    return abs(_difference("l1", outputs, targets)).mean()


def huber(outputs: Any, targets: Any, delta: float = 1.0) -> Tensor:
    """The mean of d^2 / 2 where |d| <= delta, else delta (|d| - delta / 2), with d = output - target.

    Huber (1964), Robust estimation of a location parameter.

    >>> import dlc
    >>> dlc.evaluate(huber([0.0, 3.0], [0.0, 0.0])).item()
    1.25
    """
    if not delta > 0:
        raise AttributeValueError(f"huber: delta is above 0, not {delta!r}", where=here())
    d = _difference("huber", outputs, targets)
    size = abs(d)
    return where(size <= delta, 0.5 * d * d, delta * (size - 0.5 * delta)).mean()


def binary_cross_entropy_with_logits(logits: Any, targets: Any) -> Tensor:
    """The mean of -t log s(x) - (1 - t) log(1 - s(x)) with s the sigmoid; targets in [0, 1] have the logits' shape.

    Computed as softplus(x) - x t, which does not overflow.

    >>> import dlc
    >>> round(dlc.evaluate(binary_cross_entropy_with_logits([0.0, 0.0], [0.0, 1.0])).item(), 4)
    0.6931
    """
    x, t = _pair("binary_cross_entropy_with_logits", logits, targets)
    return (softplus(x) - x * t).mean()


LOSSES: dict[str, Loss] = {
    "cross_entropy": cross_entropy,
    "mse": mse,
    "l1": l1,
    "huber": huber,
    "binary_cross_entropy_with_logits": binary_cross_entropy_with_logits,
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
    x, t = _pair(name, outputs, targets)
    return x - t


def _pair(name: str, outputs: Any, targets: Any) -> tuple[Tensor, Tensor]:
    """Outputs and targets of one shape (broadcasting here hides mistakes) and the outputs' dtype."""
    x, t = wrap(outputs), wrap(targets)
    if x.dtype not in FLOATING:
        raise DTypeError(f"{name} takes floating-point outputs, not {x.type}", where=here())
    if x.shape != t.shape:
        raise ShapeError(
            f"{name}: the outputs are {x.type} and the targets {t.type}; reshape one to the other", where=here()
        )
    return x, convert(t, x.dtype)
