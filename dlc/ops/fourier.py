"""Discrete Fourier transforms, of known lengths: products with cosines and sines. Complex numbers are pairs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dlc.dtypes import FLOATING
from dlc.errors import AttributeValueError, DTypeError, ShapeError
from dlc.ops.arranging import moveaxis, part
from dlc.ops.contract import matmul
from dlc.ops.definition import located
from dlc.ops.elementwise import convert, rounded_once
from dlc.ops.gather import take
from dlc.ops.index import pad, stack
from dlc.ops.leaves import constant
from dlc.ops.reduce import one_axis
from dlc.ops.tensor import Tensor, wrap
from dlc.ops.view import expand_dims, matrix_transpose, reshape, windows

SHORT = 32  # a transform of at most this length is one product; a longer one is of two of its factors


def _signal(x: Any, name: str) -> Tensor:
    t = wrap(x)
    if t.dtype not in FLOATING:
        raise DTypeError(f"{name} takes floating-point tensors, not {t.type}; convert with .astype('float32')")
    if t.ndim < 2 or t.shape[-1] not in (1, 2):
        raise ShapeError(
            f"{name} takes numbers along a last axis, of 1 if they are real and 2 if complex, not {t.type}"
        )
    return t


def _length(value: Any, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise AttributeValueError(f"{what} is an int of at least 1 that is known before a call, not {value!r}")
    return value


@located
@rounded_once("x")
def dft(x: Any, length: int | None = None, axis: int = -2, inverse: bool = False, onesided: bool = False) -> Tensor:
    """The discrete Fourier transform of x[..., 1 or 2] along `axis`; the last axis has the real and imaginary parts.

    X[k] = sum over j of x[j] exp(-2 pi i j k / n); `inverse` has the other sign and divides by n. The axis is cut, or
    filled with zeros, to n = `length`, which is its own size unless given. `onesided` gives the first n // 2 + 1 of X,
    all there is of a real signal's; with `inverse` it takes these and gives the real signal [..., 1], of 2 (m - 1)
    numbers for m unless `length` says otherwise. A length is taken as the product of two, time and again (J. W. Cooley
    and J. W. Tukey, 1965), so that one with a large prime factor takes long.

    >>> import dlc
    >>> dlc.evaluate(dlc.dft([[1.0], [2.0], [4.0]], length=2)).tolist()
    [[3.0, 0.0], [-1.0, 0.0]]
    """
    t = _signal(x, "dft")
    at = one_axis(axis, t.ndim, "dft")
    if at == t.ndim - 1:
        raise AttributeValueError(f"dft: axis {axis} of {t.type} has the real and imaginary parts")
    d = t.shape[at]
    if length is None:
        length = 2 * (d - 1) if inverse and onesided and isinstance(d, int) else d  # type: ignore[assignment]
    n = _length(length, f"dft: the length of axis {at} of {t.type}")
    kept = n // 2 + 1 if inverse and onesided else n
    parts = [_resized(moveaxis(t[..., i], at, -1), kept) for i in range(t.shape[-1])]  # type: ignore[arg-type]
    real, imaginary = parts[0], parts[1] if len(parts) == 2 else None
    if inverse and onesided:  # the rest of a real signal's spectrum is its mirror image
        k = np.arange(n)
        places, sign = np.minimum(k, n - k), constant(np.where(k > n // 2, -1.0, 1.0), t.dtype)
        real = take(real, places, -1)
        imaginary = None if imaginary is None else take(imaginary, places, -1) * sign
    real, imaginary = _transform(real, imaginary, n, 1.0 if inverse else -1.0)
    if inverse:
        real, imaginary = real / float(n), imaginary / float(n)
    if onesided and not inverse:
        real, imaginary = (part(v, v.ndim - 1, 0, n // 2 + 1) for v in (real, imaginary))
    found = expand_dims(real, -1) if inverse and onesided else stack([real, imaginary], axis=-1)
    return moveaxis(found, -2, at)


@located
@rounded_once("x", "window")
def stft(x: Any, length: int, step: int, window: Any = None, onesided: bool = True) -> Tensor:
    """The transforms of frames of x[..., T, 1 or 2]: [..., frames, n, 2] of (T - n) // step + 1 frames of n = `length`.

    Frame i begins at i * step and is multiplied by window[n]. `onesided` as in `dft`; T may be named.

    >>> import dlc
    >>> dlc.stft(dlc.input("x", ("N", 1000, 1)), 256, 128, dlc.hann_window(256)).shape
    (N, 6, 129, 2)
    """
    t = _signal(x, "stft")
    n, hop = _length(length, "stft: the length of a frame"), _length(step, "stft: the step from frame to frame")
    frames = windows(t, (t.ndim - 2,), (n,), (hop,))  # [..., frames, 1 or 2, n]
    if window is not None:
        weights = wrap(window)
        if weights.shape != (n,):
            raise ShapeError(f"stft: a window for frames of {n} is [{n}], not {weights.type}")
        frames = frames * convert(weights, t.dtype)
    return dft(matrix_transpose(frames), onesided=onesided)


def _resized(t: Tensor, n: int) -> Tensor:
    """The first n elements along the last axis, zeros after them where there are fewer."""
    d = t.shape[-1]
    if not isinstance(d, int):
        raise ShapeError(f"dft: the length of an axis must be known before a call, not {d}")
    return part(t, t.ndim - 1, 0, n) if d > n else pad(t, [*[(0, 0)] * (t.ndim - 1), (0, n - d)]) if d < n else t


def _transform(real: Tensor, imaginary: Tensor | None, n: int, sign: float) -> tuple[Tensor, Tensor]:
    """The sums over the last axis of x[j] exp(sign 2 pi i j k / n)."""
    first = 1 if n <= SHORT else max(a for a in range(1, math.isqrt(n) + 1) if n % a == 0)
    if first == 1:
        cosine, sine = _roots(np.outer(np.arange(n), np.arange(n)), n, sign, real.dtype)
        return _product(real, imaginary, cosine, sine, matmul)
    second = n // first  # j = second * a + b, and k = c + first * d
    split = [None if v is None else matrix_transpose(_split(v, first, second)) for v in (real, imaginary)]
    assert split[0] is not None
    inner = _transform(split[0], split[1], first, sign)  # [..., b, c]
    turns = _roots(np.outer(np.arange(second), np.arange(first)), n, sign, real.dtype)
    turned = _product(*inner, *turns, lambda a, b: a * b)
    outer = _transform(matrix_transpose(turned[0]), matrix_transpose(turned[1]), second, sign)  # [..., c, d]
    joined = [reshape(matrix_transpose(v), (*v.shape[:-2], n)) for v in outer]
    return joined[0], joined[1]


def _split(t: Tensor, first: int, second: int) -> Tensor:
    return reshape(t, (*t.shape[:-1], first, second))


def _roots(turns: Any, n: int, sign: float, dtype: str) -> tuple[Tensor, Tensor]:
    """The cosines and signed sines of whole numbers of the n-th part of a turn."""
    angles = 2 * np.pi * (turns % n) / n
    cosine, sine = (np.where(np.abs(v) < 1e-15, 0.0, v) for v in (np.cos(angles), np.sin(angles)))  # at right angles
    return constant(cosine, dtype), constant(sign * sine, dtype)


def _product(a: Tensor, b: Tensor | None, c: Tensor, d: Tensor, times: Any) -> tuple[Tensor, Tensor]:
    """(a + bi)(c + di); b is None for 0."""
    if b is None:
        return times(a, c), times(a, d)
    return times(a, c) - times(b, d), times(a, d) + times(b, c)
