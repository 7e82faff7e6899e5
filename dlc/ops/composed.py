"""Functions composed of ops, which fusion makes fast: softmax and its kin, activations, norms, attention."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from dlc.dims import DimLike, product
from dlc.dtypes import FLOATING
from dlc.errors import AttributeValueError, DTypeError, ShapeError
from dlc.ops.arithmetic import abs as abs_
from dlc.ops.arithmetic import maximum
from dlc.ops.contract import matmul
from dlc.ops.definition import located
from dlc.ops.elementwise import rounded_once, where
from dlc.ops.fill import iota, size_of, zeros
from dlc.ops.functions import erf, exp, isfinite, log, log1p, sigmoid, sqrt, tanh
from dlc.ops.leaves import TRAINING, scalar
from dlc.ops.logic import equal
from dlc.ops.random import bernoulli
from dlc.ops.reduce import Axis, normalized_axes, one_axis, without
from dlc.ops.reduce import max as max_
from dlc.ops.reduce import sum as sum_
from dlc.ops.tensor import Tensor, wrap
from dlc.ops.view import matrix_transpose, reshape, stop_gradient


def _floating(x: Any, name: str) -> Tensor:
    t = wrap(x)
    if t.dtype not in FLOATING:
        raise DTypeError(f"{name} takes floating-point tensors, not {t.type}; convert with .astype('float32')")
    return t


# ---------------------------------------------------------------- softmax and its kin


def _shifted(t: Tensor, axes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """`t` less its maximum over `axes`, and that maximum; 0 stands for one that is not finite, against NaN."""
    if 0 in [t.shape[a] for a in axes]:  # no maximum, and nothing to shift
        return t, zeros([1 if a in axes else d for a, d in enumerate(t.shape)], t.dtype)
    top = stop_gradient(max_(t, axis=axes, keepdims=True))
    top = where(isfinite(top), top, scalar(0, t.dtype))
    return t - top, top


def _log_sum(e: Tensor, axes: Sequence[int], nothing: float) -> Tensor:
    """The logarithm of a sum over `axes`, and `nothing`, with derivative 0, where the sum is 0."""
    total = sum_(e, axis=axes, keepdims=True)
    empty = equal(total, scalar(0, e.dtype))
    return where(empty, scalar(nothing, e.dtype), log(where(empty, scalar(1, e.dtype), total)))


@located
@rounded_once("x")
def softmax(x: Any, axis: int = -1) -> Tensor:
    """exp(x) over its sum along `axis`, without overflow. Where all of x is -inf (a row masked as a whole) it is 0.

    >>> import dlc
    >>> dlc.evaluate(dlc.softmax([1.0, 1.0])).tolist()
    [0.5, 0.5]
    """
    t = _floating(x, "softmax")
    axes = (one_axis(axis, t.ndim, "softmax"),)
    e = exp(_shifted(t, axes)[0])
    total = sum_(e, axis=axes, keepdims=True)
    return e * (1.0 / where(equal(total, scalar(0, t.dtype)), scalar(1, t.dtype), total))  # one division a row


@located
@rounded_once("x")
def log_softmax(x: Any, axis: int = -1) -> Tensor:
    """The logarithm of `softmax`, exact where softmax itself would round to 0.

    >>> import dlc
    >>> dlc.evaluate(dlc.log_softmax([0.0, -200.0])).tolist()
    [0.0, -200.0]
    """
    t = _floating(x, "log_softmax")
    axes = (one_axis(axis, t.ndim, "log_softmax"),)
    z, _ = _shifted(t, axes)
    return z - _log_sum(exp(z), axes, 0.0)


@located
@rounded_once("x")
def logsumexp(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """log(sum(exp(x))) over `axis` (None: all), without overflow; -inf, with gradient 0, where all of x is -inf.

    >>> import dlc
    >>> f"{dlc.evaluate(dlc.logsumexp([1000.0, 1000.0])):.2f}"
    '1000.69'
    """
    t = _floating(x, "logsumexp")
    axes = normalized_axes(axis, t.ndim, "logsumexp")
    z, top = _shifted(t, axes)
    found = _log_sum(exp(z), axes, -math.inf) + top
    return found if keepdims else reshape(found, without(t.shape, axes))


# ---------------------------------------------------------------- activations


@located
def square(x: Any) -> Tensor:
    """x * x.

    >>> import dlc
    >>> dlc.evaluate(dlc.square(3.0)).item()
    9.0
    """
    t = wrap(x)
    return t * t


@located
@rounded_once("x")
def gelu(x: Any, approximate: str = "none") -> Tensor:
    """x times the normal distribution's cumulative function at x; `approximate="tanh"` takes the paper's other form.

    D. Hendrycks and K. Gimpel, "Gaussian error linear units", arXiv:1606.08415.

    >>> import dlc
    >>> f"{dlc.evaluate(dlc.gelu(1.0)):.4f} {dlc.evaluate(dlc.gelu(1.0, approximate='tanh')):.4f}"
    '0.8413 0.8412'
    """
    t = _floating(x, "gelu")
    if approximate == "none":
        return t * 0.5 * (1.0 + erf(t * math.sqrt(0.5)))
    if approximate == "tanh":
        return t * 0.5 * (1.0 + tanh((t + t * t * t * 0.044715) * math.sqrt(2.0 / math.pi)))
    raise AttributeValueError(f"gelu: approximate={approximate!r} is unknown; use 'none' or 'tanh'")


@located
@rounded_once("x")
def silu(x: Any) -> Tensor:
    """x * sigmoid(x), also called swish.

    >>> import dlc
    >>> dlc.evaluate(dlc.silu(0.0)).item()
    0.0
    """
    t = _floating(x, "silu")
    return t * sigmoid(t)


@located
@rounded_once("x")
def softplus(x: Any) -> Tensor:
    """log(1 + exp(x)), without overflow.

    >>> import dlc
    >>> dlc.evaluate(dlc.softplus([-1000.0, 1000.0])).tolist()
    [0.0, 1000.0]
    """
    t = _floating(x, "softplus")
    return maximum(t, 0.0) + log1p(exp(-abs_(t)))


# ---------------------------------------------------------------- moments and norms


@located
@rounded_once("x")
def mean(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The mean over `axis` (None: all) of floating-point numbers; NaN over nothing.

    >>> import dlc
    >>> dlc.evaluate(dlc.mean([[1.0, 2.0], [3.0, 4.0]], axis=0)).tolist()
    [2.0, 3.0]
    """
    t = _floating(x, "mean")
    axes = normalized_axes(axis, t.ndim, "mean")
    return sum_(t, axis=axes, keepdims=keepdims) / size_of(product(t.shape[a] for a in axes), t.dtype)


@located
@rounded_once("x")
def var(x: Any, axis: Axis = None, keepdims: bool = False, correction: float = 0.0) -> Tensor:
    """The mean of squared deviations from the mean over `axis` (None: all), the count being lessened by `correction`.

    >>> import dlc
    >>> dlc.evaluate(dlc.var([1.0, 3.0], correction=1)).item()
    2.0
    """
    t = _floating(x, "var")
    axes = normalized_axes(axis, t.ndim, "var")
    squares = sum_(square(t - mean(t, axis=axes, keepdims=True)), axis=axes, keepdims=keepdims)
    count = size_of(product(t.shape[a] for a in axes), t.dtype)
    return squares / (count if correction == 0 else count - float(correction))


@located
@rounded_once("x")
def std(x: Any, axis: Axis = None, keepdims: bool = False, correction: float = 0.0) -> Tensor:
    """The square root of `var`; its derivative where the variance is 0 is taken as 0.

    >>> import dlc
    >>> dlc.evaluate(dlc.std([1.0, 5.0])).item()
    2.0
    """
    v = var(x, axis, keepdims, correction)
    return where(equal(v, scalar(0, v.dtype)), v, sqrt(where(equal(v, scalar(0, v.dtype)), scalar(1, v.dtype), v)))


@located
@rounded_once("x", "weight", "bias")
def layer_norm(x: Any, weight: Any = None, bias: Any = None, axis: Axis = -1, eps: float = 1e-5) -> Tensor:
    """(x - mean) / sqrt(variance + eps) over `axis`, times `weight` plus `bias`, which broadcast.

    J. L. Ba, J. R. Kiros and G. E. Hinton, "Layer normalization", arXiv:1607.06450.

    >>> import dlc
    >>> dlc.evaluate(dlc.layer_norm([1.0, 3.0], eps=0.0)).tolist()
    [-1.0, 1.0]
    """
    t = _floating(x, "layer_norm")
    axes = normalized_axes(axis, t.ndim, "layer_norm")
    centred = t - mean(t, axis=axes, keepdims=True)
    y = centred * (1.0 / sqrt(mean(square(centred), axis=axes, keepdims=True) + eps))  # one division a row
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


@located
def dropout(x: Any, p: float = 0.5, *, site: int | str | None = None) -> Tensor:
    """In training each element is 0 with probability `p`, else x / (1 - p); otherwise x itself.

    `site` names the draw; left out, it is the module path and the ordinal of the draw there.

    >>> import dlc
    >>> dlc.evaluate(dlc.dropout([1.0, 2.0], 0.5)).tolist()
    [1.0, 2.0]
    """
    t = _floating(x, "dropout")
    if not isinstance(p, (int, float)) or not 0 <= p <= 1:
        raise AttributeValueError(f"dropout: p is a probability between 0 and 1, not {p!r}")
    if p == 0:
        return t
    zero = scalar(0, t.dtype)
    if p == 1:
        return where(TRAINING, zero, t)
    kept = bernoulli(scalar(1.0 - p, t.dtype), t.shape, site=site)
    return where(TRAINING, where(kept, t * (1.0 / (1.0 - p)), zero), t)


# ---------------------------------------------------------------- attention


@located
@rounded_once("q", "k", "v")
def attention(q: Any, k: Any, v: Any, mask: Any = None, causal: bool = False, scale: float | None = None) -> Tensor:
    """softmax(q k^T * scale) v: q[..., T, D], k[..., S, D] and v[..., S, E] give [..., T, E]; scale is 1/sqrt(D).

    Where `mask`, bools that broadcast to [..., T, S], is false, and with `causal` where a key comes after its query,
    nothing is attended to; a query without any key gets zeros. A mask of floats is added to the scores instead, as
    biases of relative positions are. A. Vaswani et al., "Attention is all you need", 2017.

    >>> import dlc
    >>> dlc.evaluate(dlc.attention([[1.0, 0.0]], [[1.0, 0.0], [1.0, 0.0]], [[2.0], [4.0]])).tolist()
    [[3.0]]
    """
    queries, keys = _floating(q, "attention"), wrap(k)
    if queries.ndim < 2 or keys.ndim < 2:
        raise ShapeError(f"attention takes q[..., T, D] and k[..., S, D], not {queries.type} and {keys.type}")
    depth: DimLike = queries.shape[-1]
    factor = scalar(scale, queries.dtype) if scale is not None else 1.0 / sqrt(size_of(depth, queries.dtype))
    scores = matmul(queries * factor, matrix_transpose(keys))
    nothing = scalar(-math.inf, scores.dtype)
    if causal:
        t, s = scores.shape[-2:]
        scores = where(iota((t, s), 1) <= iota((t, s), 0), scores, nothing)
    if mask is not None:
        given = wrap(mask)
        if given.dtype != "bool" and given.dtype not in FLOATING:
            raise DTypeError(f"attention: the mask is of bools (true: attended to) or floats, not {given.type}")
        scores = where(given, scores, nothing) if given.dtype == "bool" else scores + given
    return matmul(softmax(scores), v)
