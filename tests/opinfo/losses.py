"""torch's losses in dlc."""

from __future__ import annotations

from typing import Any

import numpy as np

import dlc
from dlc.dtypes import FLOATING
from dlc.nn import functional as F
from dlc.ops.tensor import Tensor

from .products import norm
from .registry import adapts, refuse, register


def reduced(losses: Tensor, reduction: str) -> Tensor:
    return {"none": lambda t: t, "sum": dlc.sum, "mean": dlc.mean}[reduction](losses)


def with_broadcast(loss: Any) -> Any:
    """Losses whose operands torch broadcasts."""

    def adapted(x: Tensor, y: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        shape = np.broadcast_shapes(tuple(x.shape), tuple(y.shape))
        return loss(dlc.broadcast_to(x, shape), dlc.broadcast_to(y, shape), *args, **kwargs)

    return adapted


register(
    {
        "nn.functional.l1_loss": with_broadcast(lambda x, y, reduction="mean": F.l1_loss(x, y, reduction)),
        "nn.functional.mse_loss": with_broadcast(lambda x, y, reduction="mean": F.mse_loss(x, y, reduction)),
        "nn.functional.huber_loss": with_broadcast(
            lambda x, y, reduction="mean", delta=1.0: F.huber_loss(x, y, delta, reduction)
        ),
        "nn.functional.smooth_l1_loss": with_broadcast(
            lambda x, y, reduction="mean", beta=1.0: F.smooth_l1_loss(x, y, beta, reduction)
        ),
        "nn.functional.binary_cross_entropy": lambda p, t, weight=None, reduction="mean": F.binary_cross_entropy(
            p, t, weight, reduction
        ),
        "nn.functional.binary_cross_entropy_with_logits": (
            lambda x, t, weight=None, reduction="mean", pos_weight=None: F.binary_cross_entropy_with_logits(
                x, t, weight, pos_weight, reduction
            )
        ),
        "nn.functional.kl_div": with_broadcast(
            lambda x, t, reduction="mean", log_target=False: F.kl_div(x, t, reduction, log_target)
        ),
        "nn.functional.poisson_nll_loss": (
            lambda x, t, log_input=True, full=False, eps=1e-8, reduction="mean": F.poisson_nll_loss(
                x, t, log_input, full, eps, reduction
            )
        ),
        "nn.functional.gaussian_nll_loss": with_broadcast(
            lambda x, t, var, full=False, eps=1e-6, reduction="mean": F.gaussian_nll_loss(
                x, t, var[..., None] if var.shape == x.shape[:-1] else var, full, eps, reduction
            )
        ),
        "nn.functional.soft_margin_loss": lambda x, t, reduction="mean": F.soft_margin_loss(x, t, reduction),
        "nn.functional.hinge_embedding_loss": (
            lambda x, t, margin=1.0, reduction="mean": F.hinge_embedding_loss(x, t, margin, reduction)
        ),
        "nn.functional.multilabel_soft_margin_loss": (
            lambda x, t, weight=None, reduction="mean": F.multilabel_soft_margin_loss(x, t, weight, reduction)
        ),
        "nn.functional.margin_ranking_loss": (
            lambda a, b, t, margin=0.0, reduction="mean": F.margin_ranking_loss(a, b, t, margin, reduction)
        ),
        "nn.functional.cosine_embedding_loss": (
            lambda a, b, t, margin=0.0, reduction="mean": F.cosine_embedding_loss(a, b, t, margin, reduction)
        ),
    }
)


@adapts("nn.functional.triplet_margin_loss")
def _(a: Tensor, p_: Tensor, n: Tensor, margin: float = 1.0, p: float = 2.0, eps: float = 1e-6, swap: bool = False,
      reduction: str = "mean") -> Tensor:  # fmt: skip
    return F.triplet_margin_loss(a, p_, n, margin, p, eps, swap, reduction)


@adapts("nn.functional.triplet_margin_with_distance_loss")
def _(a: Tensor, p: Tensor, n: Tensor, *, distance_function: Any = None, margin: float = 1.0, swap: bool = False,
      reduction: str = "mean") -> Tensor:  # fmt: skip
    refuse(distance_function is not None and type(distance_function).__name__ != "PairwiseDistance", "a function")
    near, far = norm(a - p + 1e-6, 2, -1), norm(a - n + 1e-6, 2, -1)
    if swap:
        far = dlc.minimum(far, norm(p - n + 1e-6, 2, -1))
    return reduced(dlc.relu(near - far + margin), reduction)


@adapts("nn.functional.multi_margin_loss")
def _(x: Tensor, t: Tensor, p: int = 1, margin: float = 1.0, weight: Any = None, reduction: str = "mean") -> Tensor:
    if x.ndim == 0:
        return F.multi_margin_loss(x.reshape((1,)), t.reshape(()), p, margin, weight, reduction)
    if t.ndim == x.ndim:  # one number for a single row
        found = F.multi_margin_loss(x.reshape((1, -1)), t, p, margin, weight, reduction)
        return found
    return F.multi_margin_loss(x, t, p, margin, weight, reduction)


@adapts("nn.functional.multilabel_margin_loss")
def _(x: Tensor, t: Tensor, reduction: str = "mean") -> Tensor:
    x, t = (v.reshape((1,)) if v.ndim == 0 else v for v in (x, t))
    return F.multilabel_margin_loss(x, t, reduction)


@adapts("nn.functional.ctc_loss")
def _(x: Tensor, t: Tensor, input_lengths: Any, target_lengths: Any, blank: int = 0, reduction: str = "mean",
      zero_infinity: bool = False) -> Tensor:  # fmt: skip
    # torch's derivative is that by the logits before log_softmax, which leaves what has been through it as it is
    return F.ctc_loss(dlc.log_softmax(x), t, input_lengths, target_lengths, blank, reduction, zero_infinity)


# ---------------------------------------------------------------- classes


def class_axis(x: Tensor) -> int:
    return 1 if x.ndim > 1 else 0


@adapts("nn.functional.nll_loss")
def _(x: Tensor, t: Tensor, weight: Any = None, size_average: Any = None, ignore_index: int = -100,
      reduce: Any = None, reduction: str = "mean") -> Tensor:  # fmt: skip
    return F.nll_loss(x, t, class_axis(x), reduction, weight=weight, ignore_index=ignore_index)


def cross_entropy(x: Tensor, t: Tensor, weight: Any = None, size_average: Any = None, ignore_index: int = -100,
                  reduce: Any = None, reduction: str = "mean", label_smoothing: float = 0.0) -> Tensor:  # fmt: skip
    how = {} if t.dtype in FLOATING else {"ignore_index": ignore_index}
    axis = class_axis(x)
    return F.cross_entropy(x, t, axis, reduction, weight=weight, label_smoothing=label_smoothing, **how)


register({"nn.functional.cross_entropy": cross_entropy})


@adapts("nn.functional.linear_cross_entropy", "nn.functional.linear_cross_entropy/chunked",
        "nn.functional.linear_cross_entropy/chunked_none")  # fmt: skip
def _(x: Tensor, w: Tensor, t: Tensor, *, linear_bias: Any = None, **how: Any) -> Tensor:
    how = {k: v for k, v in how.items() if k != "options" and v is not None}
    scores = dlc.tensordot(x, w, ((-1,), (-1,)))  # the weight is [C, ..., features]
    return cross_entropy(scores if linear_bias is None else scores + linear_bias, t, **how)
