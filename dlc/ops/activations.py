"""Activation functions composed of ops, which fusion makes one expression. Names and defaults are torch's."""

from __future__ import annotations

import math
from typing import Any

from dlc.dtypes import FLOATING
from dlc.errors import AttributeValueError, DTypeError, ShapeError
from dlc.ops.arithmetic import abs as abs_
from dlc.ops.composed import softplus
from dlc.ops.definition import located, plain_number
from dlc.ops.elementwise import convert, promoted, where
from dlc.ops.fill import along
from dlc.ops.functions import expm1, sigmoid, tanh
from dlc.ops.leaves import scalar
from dlc.ops.reduce import one_axis
from dlc.ops.rounding import clip
from dlc.ops.tensor import Tensor, wrap
from dlc.ops.view import reshape, slice_

SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SCALE = 1.0507009873554804934193349852946


def _floating(x: Any, name: str) -> Tensor:
    t = wrap(x)
    if t.dtype not in FLOATING:
        raise DTypeError(f"{name} takes floating-point tensors, not {t.type}; convert with .astype('float32')")
    return t


def _below(t: Tensor) -> Tensor:
    """`t` where it is not above 0, else 0: the argument of what replaces it there, without overflow elsewhere."""
    return where(t > 0.0, 0.0, t)


@located
def elu(x: Any, alpha: float = 1.0) -> Tensor:
    """x where x > 0, else alpha * (exp(x) - 1).

    D.-A. Clevert, T. Unterthiner and S. Hochreiter, arXiv:1511.07289.

    >>> import dlc
    >>> dlc.evaluate(dlc.elu([-1000.0, 2.0])).tolist()
    [-1.0, 2.0]
    """
    t = _floating(x, "elu")
    return where(t > 0.0, t, plain_number(alpha, "elu", "alpha") * expm1(_below(t)))


@located
def celu(x: Any, alpha: float = 1.0) -> Tensor:
    """x where x > 0, else alpha * (exp(x / alpha) - 1), whose derivative at 0 is 1 for every alpha but 0.

    J. T. Barron, arXiv:1704.07483. Raises `AttributeValueError` where alpha is 0.

    >>> import dlc
    >>> dlc.evaluate(dlc.celu([-1000.0, 2.0], alpha=0.5)).tolist()
    [-0.5, 2.0]
    """
    t, a = _floating(x, "celu"), plain_number(alpha, "celu", "alpha")
    if a == 0:
        raise AttributeValueError("celu: alpha divides, so it cannot be 0; use relu")
    return where(t > 0.0, t, a * expm1(_below(t) / a))


@located
def selu(x: Any) -> Tensor:
    """The exponential linear unit scaled so that activations keep mean 0 and variance 1.

    G. Klambauer, T. Unterthiner, A. Mayr and S. Hochreiter, arXiv:1706.02515.

    >>> import dlc
    >>> f"{dlc.evaluate(dlc.selu(1.0)):.4f}"
    '1.0507'
    """
    t = _floating(x, "selu")
    return SELU_SCALE * where(t > 0.0, t, SELU_ALPHA * expm1(_below(t)))


@located
def leaky_relu(x: Any, negative_slope: float = 0.01) -> Tensor:
    """x where x > 0, else negative_slope * x. A. L. Maas, A. Y. Hannun and A. Y. Ng, 2013.

    >>> import dlc
    >>> dlc.evaluate(dlc.leaky_relu([-2.0, 2.0], 0.5)).tolist()
    [-1.0, 2.0]
    """
    t = _floating(x, "leaky_relu")
    return where(t > 0.0, t, plain_number(negative_slope, "leaky_relu", "negative_slope") * t)


@located
def prelu(x: Any, weight: Any, axis: int = 1) -> Tensor:
    """x where x > 0, else weight * x: `weight` is a number, or [C] laid along `axis` of x.

    K. He, X. Zhang, S. Ren and J. Sun, arXiv:1502.01852. Raises `ShapeError` where the sizes differ.

    >>> import dlc
    >>> dlc.evaluate(dlc.prelu([[-2.0, -2.0]], [0.5, 0.25])).tolist()
    [[-1.0, -0.5]]
    """
    t, w = promoted([_floating(x, "prelu"), weight])
    if w.ndim > 1:
        raise ShapeError(f"prelu takes a slope, or one a channel [C], not {w.type}")
    if w.shape == (1,):
        w = reshape(w, ())
    elif w.ndim == 1:
        at = one_axis(axis, t.ndim, "prelu")
        if w.shape[0] != t.shape[at]:
            raise ShapeError(f"prelu: axis {at} of {t.type} needs as many slopes, not {w.type}")
        w = along(w, at, t.ndim)
    return where(t > 0.0, t, w * t)


@located
def relu6(x: Any) -> Tensor:
    """x within 0 to 6, the nearer bound beyond; its derivative at both bounds is 0.

    >>> import dlc
    >>> dlc.evaluate(dlc.relu6([-1.0, 3.0, 9.0])).tolist()
    [0.0, 3.0, 6.0]
    """
    return hardtanh(x, 0.0, 6.0)


@located
def hardtanh(x: Any, min_val: float = -1.0, max_val: float = 1.0) -> Tensor:
    """x within `min_val` to `max_val`, the nearer bound beyond; its derivative at both bounds is 0.

    Raises `AttributeValueError` where `min_val` is above `max_val`.

    >>> import dlc
    >>> dlc.evaluate(dlc.hardtanh([-2.0, 0.5, 3.0])).tolist()
    [-1.0, 0.5, 1.0]
    """
    low, high = plain_number(min_val, "hardtanh", "min_val"), plain_number(max_val, "hardtanh", "max_val")
    if low > high:
        raise AttributeValueError(f"hardtanh: min_val {low} is above max_val {high}")
    t = _floating(x, "hardtanh")
    return where(t <= low, low, where(t >= high, high, t))


@located
def hardsigmoid(x: Any) -> Tensor:
    """x / 6 + 1/2 within 0 to 1: 0 up to -3, 1 from 3 on, with derivative 0 at both.

    M. Courbariaux, Y. Bengio and J.-P. David, arXiv:1511.00363, with torch's slope.

    >>> import dlc
    >>> dlc.evaluate(dlc.hardsigmoid([-4.0, 0.0, 4.0])).tolist()
    [0.0, 0.5, 1.0]
    """
    t = _floating(x, "hardsigmoid")
    return where(t <= -3.0, 0.0, where(t >= 3.0, 1.0, t / 6.0 + 0.5))


@located
def hardswish(x: Any) -> Tensor:
    """x * hardsigmoid(x). A. Howard et al., arXiv:1905.02244.

    >>> import dlc
    >>> dlc.evaluate(dlc.hardswish([-4.0, 0.0, 4.0])).tolist()
    [0.0, 0.0, 4.0]
    """
    t = _floating(x, "hardswish")
    return where(t <= -3.0, 0.0, where(t >= 3.0, t, t * (t + 3.0) / 6.0))


@located
def softsign(x: Any) -> Tensor:
    """x / (1 + |x|). J. Bergstra, G. Desjardins, P. Lamblin and Y. Bengio, 2009.

    >>> import dlc
    >>> dlc.evaluate(dlc.softsign([-1.0, 3.0])).tolist()
    [-0.5, 0.75]
    """
    t = _floating(x, "softsign")
    return t / (1.0 + abs_(t))


@located
def mish(x: Any) -> Tensor:
    """x * tanh(softplus(x)). D. Misra, arXiv:1908.08681.

    >>> import dlc
    >>> f"{dlc.evaluate(dlc.mish(1.0)):.4f}"
    '0.8651'
    """
    t = _floating(x, "mish")
    return t * tanh(softplus(t))


@located
def tanhshrink(x: Any) -> Tensor:
    """x - tanh(x).

    >>> import dlc
    >>> dlc.evaluate(dlc.tanhshrink(0.0)).item()
    0.0
    """
    t = _floating(x, "tanhshrink")
    return t - tanh(t)


@located
def softshrink(x: Any, lambd: float = 0.5) -> Tensor:
    """x less `lambd` of its size, 0 where that is not left. Raises `AttributeValueError` where `lambd` is negative.

    >>> import dlc
    >>> dlc.evaluate(dlc.softshrink([-1.0, 0.25, 2.0])).tolist()
    [-0.5, 0.0, 1.5]
    """
    t, size = _floating(x, "softshrink"), plain_number(lambd, "softshrink", "lambd")
    if not size >= 0:
        raise AttributeValueError(f"softshrink: lambd is at least 0, not {lambd!r}")
    return t - clip(t, -size, size)


@located
def hardshrink(x: Any, lambd: float = 0.5) -> Tensor:
    """x, but 0 where its size is at most `lambd`.

    >>> import dlc
    >>> dlc.evaluate(dlc.hardshrink([-1.0, 0.25, 2.0])).tolist()
    [-1.0, 0.0, 2.0]
    """
    t = _floating(x, "hardshrink")
    return where(abs_(t) <= plain_number(lambd, "hardshrink", "lambd"), 0.0, t)


@located
def threshold(x: Any, threshold: float, value: float) -> Tensor:
    """x where it is above `threshold`, else `value`.

    >>> import dlc
    >>> dlc.evaluate(dlc.threshold([0.5, 2.0], 1.0, -7.0)).tolist()
    [-7.0, 2.0]
    """
    t = _floating(x, "threshold")
    return where(t <= plain_number(threshold, "threshold", "threshold"), plain_number(value, "threshold", "value"), t)


@located
def glu(x: Any, axis: int = -1) -> Tensor:
    """a * sigmoid(b), where a and b are the halves of x along `axis`, whose size is even.

    Y. N. Dauphin, A. Fan, M. Auli and D. Grangier, arXiv:1612.08083. Raises `ShapeError` for an odd size.

    >>> import dlc
    >>> dlc.evaluate(dlc.glu([3.0, 0.0])).tolist()
    [1.5]
    """
    t = _floating(x, "glu")
    at = one_axis(axis, t.ndim, "glu")
    half = t.shape[at] // 2
    if half * 2 != t.shape[at]:
        raise ShapeError(f"glu halves axis {at} of {t.type}, whose size must be even")
    sizes = (*t.shape[:at], half, *t.shape[at + 1 :])
    first, second = (tuple(start if a == at else 0 for a in range(t.ndim)) for start in (0, half))
    return slice_(t, first, sizes) * sigmoid(slice_(t, second, sizes))


@located
def log_sigmoid(x: Any) -> Tensor:
    """log(sigmoid(x)), exact where sigmoid itself would round to 0.

    >>> import dlc
    >>> dlc.evaluate(dlc.log_sigmoid(-1000.0)).item()
    -1000.0
    """
    return -softplus(-_floating(x, "log_sigmoid"))


@located
def binary_step(x: Any) -> Tensor:
    """1 where x >= 0, else 0, and NaN at NaN, in x's dtype. Its derivative is 0 almost everywhere and is taken as 0.

    A network with it therefore does not learn through it; train with `sigmoid` or `hardsigmoid` and step afterwards.

    >>> import dlc
    >>> dlc.evaluate(dlc.binary_step([-1.0, 0.0, 2.0])).tolist()
    [0.0, 1.0, 1.0]
    """
    t = _floating(x, "binary_step")
    return where(t == t, convert(t >= 0.0, t.dtype), scalar(math.nan, t.dtype))
