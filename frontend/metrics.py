"""Metrics: what is reported beside the loss. Functions of a model's outputs and the targets, averaged to one number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dlc import ops
from dlc.dtypes import INTEGER
from dlc.errors import AttributeValueError, ShapeError
from dlc.frontend.losses import l1, mse
from dlc.ops.elementwise import convert
from dlc.ops.tensor import Tensor, wrap
from dlc.provenance import here

Metric = Callable[[Tensor, Tensor], Tensor]


def accuracy(outputs: Any, targets: Any) -> Tensor:
    """The share of right answers, float32, 0-d.

    With targets of one axis fewer than the outputs [..., C]: how often the largest output is at the target. With
    targets of the outputs' shape (two classes): how often the sign of the logit agrees with a target above 1/2.

    >>> import dlc
    >>> dlc.evaluate(accuracy([[1.0, 2.0], [3.0, 0.0]], dlc.constant([1, 1], "int64"))).item()
    0.5
    """
    x, t = wrap(outputs), wrap(targets)
    if t.ndim == x.ndim - 1 and t.dtype in INTEGER:
        right = ops.argmax(x, axis=-1) == convert(t, "int64")
    elif t.shape == x.shape:
        right = (x > 0) == (convert(t, x.dtype) > 0.5)
    else:
        raise ShapeError(
            f"accuracy: the targets are {t.type} and the outputs {x.type}; give integer targets without the axis of "
            "classes, or targets of the outputs' shape for two classes",
            where=here(),
        )
    return convert(right, "float32").mean()


METRICS: dict[str, Metric] = {"accuracy": accuracy, "mse": mse, "mae": l1}


def find_metrics(metrics: Sequence[str | Metric]) -> dict[str, Metric]:
    """Name -> function for each metric; a function counts under its own name. Raises `AttributeValueError`."""
    if isinstance(metrics, str):
        metrics = [metrics]
    found: dict[str, Metric] = {}
    for m in metrics:
        name = m if isinstance(m, str) else getattr(m, "__name__", type(m).__name__)
        if not callable(m) and m not in METRICS:
            raise AttributeValueError(
                f"there is no metric {m!r}; choose from {', '.join(map(repr, METRICS))}, or pass a function of "
                "(outputs, targets)",
                where=here(),
            )
        if name == "loss" or name in found:
            raise AttributeValueError(f"the name {name!r} is taken; give each metric a name of its own", where=here())
        found[name] = m if callable(m) else METRICS[m]
    return found
