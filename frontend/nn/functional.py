"""Layers as functions: the parameters are arguments. Names and defaults are torch's."""

from __future__ import annotations

from typing import Any

from dlc import ops
from dlc.frontend.ctc import ctc as ctc_loss
from dlc.frontend.losses import binary_cross_entropy, binary_cross_entropy_with_logits, kl_div
from dlc.frontend.losses import gaussian_nll as gaussian_nll_loss
from dlc.frontend.losses import half_mse as half_mse_loss
from dlc.frontend.losses import hinge as hinge_loss
from dlc.frontend.losses import huber as huber_loss
from dlc.frontend.losses import l1 as l1_loss
from dlc.frontend.losses import logistic as logistic_loss
from dlc.frontend.losses import logistic as soft_margin_loss
from dlc.frontend.losses import mse as mse_loss
from dlc.frontend.losses import perceptron as perceptron_loss
from dlc.frontend.losses import poisson_nll as poisson_nll_loss
from dlc.frontend.losses import smooth_l1 as smooth_l1_loss
from dlc.frontend.losses import squared_hinge as squared_hinge_loss
from dlc.frontend.margin_losses import hinge_embedding as hinge_embedding_loss
from dlc.frontend.margin_losses import multi_margin as multi_margin_loss
from dlc.frontend.margin_losses import multilabel_margin as multilabel_margin_loss
from dlc.frontend.margin_losses import multilabel_soft_margin as multilabel_soft_margin_loss
from dlc.frontend.metric_losses import contrastive as contrastive_loss
from dlc.frontend.metric_losses import cosine_embedding as cosine_embedding_loss
from dlc.frontend.metric_losses import margin_ranking as margin_ranking_loss
from dlc.frontend.metric_losses import triplet_margin as triplet_margin_loss
from dlc.frontend.nn.lookups import embedding, embedding_bag
from dlc.frontend.nn.resizing import interpolate
from dlc.frontend.nn.vision import grid_sample, roi_align, roi_pool
from dlc.frontend.similarities import cosine_similarity, normalize, pairwise_distance
from dlc.ops import (
    affine_grid,
    attention,
    avg_pool2d,
    binary_step,
    celu,
    conv1d,
    conv2d,
    conv3d,
    conv_transpose1d,
    conv_transpose2d,
    conv_transpose3d,
    cross_entropy,
    deform_conv2d,
    dropout,
    elu,
    gelu,
    glu,
    hardshrink,
    hardsigmoid,
    hardswish,
    hardtanh,
    layer_norm,
    leaky_relu,
    log_sigmoid,
    log_softmax,
    max_pool2d,
    mish,
    nll_loss,
    prelu,
    relu,
    relu6,
    selu,
    sigmoid,
    silu,
    softmax,
    softplus,
    softshrink,
    softsign,
    tanh,
    tanhshrink,
    threshold,
)
from dlc.ops.tensor import Tensor, wrap

__all__ = [
    "affine_grid",
    "attention",
    "avg_pool2d",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "binary_step",
    "celu",
    "contrastive_loss",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "cosine_embedding_loss",
    "cosine_similarity",
    "cross_entropy",
    "ctc_loss",
    "deform_conv2d",
    "dropout",
    "elu",
    "embedding",
    "embedding_bag",
    "gaussian_nll_loss",
    "gelu",
    "glu",
    "grid_sample",
    "half_mse_loss",
    "hardshrink",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "hinge_embedding_loss",
    "hinge_loss",
    "huber_loss",
    "interpolate",
    "kl_div",
    "l1_loss",
    "layer_norm",
    "leaky_relu",
    "linear",
    "log_sigmoid",
    "log_softmax",
    "logistic_loss",
    "margin_ranking_loss",
    "max_pool2d",
    "mish",
    "mse_loss",
    "multi_margin_loss",
    "multilabel_margin_loss",
    "multilabel_soft_margin_loss",
    "nll_loss",
    "normalize",
    "pairwise_distance",
    "perceptron_loss",
    "poisson_nll_loss",
    "prelu",
    "relu",
    "relu6",
    "roi_align",
    "roi_pool",
    "selu",
    "sigmoid",
    "silu",
    "smooth_l1_loss",
    "soft_margin_loss",
    "softmax",
    "softplus",
    "softshrink",
    "softsign",
    "squared_hinge_loss",
    "tanh",
    "tanhshrink",
    "threshold",
    "triplet_margin_loss",
]


def linear(x: Any, weight: Any, bias: Any = None) -> Tensor:
    """x W^T + b: x [..., in], weight [out, in], bias [out] -> [..., out].

    >>> import dlc
    >>> dlc.evaluate(linear([[1.0, 2.0]], [[3.0, 4.0]], [1.0])).tolist()
    [[12.0]]
    """
    y = wrap(x) @ ops.permute_dims(wrap(weight), (1, 0))
    return y if bias is None else y + bias
