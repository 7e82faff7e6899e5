"""Layers as functions: the parameters are arguments. Names and defaults are torch's."""

from __future__ import annotations

from typing import Any

from dlc import ops
from dlc.frontend.losses import binary_cross_entropy_with_logits
from dlc.frontend.losses import huber as huber_loss
from dlc.frontend.losses import l1 as l1_loss
from dlc.frontend.losses import mse as mse_loss
from dlc.ops import (
    attention,
    avg_pool2d,
    conv2d,
    cross_entropy,
    dropout,
    gelu,
    layer_norm,
    log_softmax,
    max_pool2d,
    relu,
    sigmoid,
    silu,
    softmax,
    softplus,
    tanh,
)
from dlc.ops.tensor import Tensor, wrap

__all__ = [
    "attention",
    "avg_pool2d",
    "binary_cross_entropy_with_logits",
    "conv2d",
    "cross_entropy",
    "dropout",
    "embedding",
    "gelu",
    "huber_loss",
    "l1_loss",
    "layer_norm",
    "linear",
    "log_softmax",
    "max_pool2d",
    "mse_loss",
    "relu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "tanh",
]


def linear(x: Any, weight: Any, bias: Any = None) -> Tensor:
    """x W^T + b: x [..., in], weight [out, in], bias [out] -> [..., out].

    >>> import dlc
    >>> dlc.evaluate(linear([[1.0, 2.0]], [[3.0, 4.0]], [1.0])).tolist()
    [[12.0]]
    """
    y = wrap(x) @ ops.permute_dims(wrap(weight), (1, 0))
    return y if bias is None else y + bias


def embedding(indices: Any, weight: Any) -> Tensor:
    """Row i of weight [rows, width] for each index i: integer [...] -> [..., width]."""
    return ops.take(weight, indices, axis=0)
