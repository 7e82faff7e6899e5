"""Initial values of parameters: He, Glorot, uniform, normal, constant; the same on every machine.

An initialiser is a function ``(shape, words) -> float64 array``; `words(n)` gives n uniform 64-bit words of a stream
that belongs to one parameter. The words come from Philox keyed by a digest of (seed, path): NumPy keeps that raw stream
fixed, while it may change `Generator`'s distributions (NEP 19).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from dlc.errors import AttributeValueError

Array = np.ndarray[Any, Any]
Words = Callable[[int], Array]
Initialiser = Callable[[tuple[int, ...], Words], Array]


def words_for(seed: int, path: str) -> Words:
    """The stream of 64-bit words of the parameter at `path` under `seed`; the same in every process.

    >>> bool((words_for(0, "0.weight")(3) == words_for(0, "0.weight")(3)).all())
    True
    """
    digest = hashlib.sha256(f"{seed}:{path}".encode()).digest()
    generator = np.random.Philox(key=np.frombuffer(digest[:16], "<u8").astype(np.uint64))
    return lambda count: np.asarray(generator.random_raw(count), np.uint64)


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """(fan-in, fan-out) of a weight [out, in, *kernel]: how many values meet in one output, how many one input feeds.

    >>> fans((120, 400)), fans((6, 1, 5, 5)), fans((10,))
    ((400, 120), (25, 150), (10, 10))
    """
    if len(shape) < 2:
        n = shape[0] if shape else 1
        return n, n
    window = math.prod(shape[2:])
    return shape[1] * window, shape[0] * window


def constant(value: float) -> Initialiser:
    """Every element `value`."""
    return lambda shape, words: np.full(shape, value, np.float64)


zeros, ones = constant(0.0), constant(1.0)


def uniform(low: float = -1.0, high: float = 1.0) -> Initialiser:
    """Uniform in [low, high)."""
    if not low <= high:
        raise AttributeValueError(f"uniform: low={low} is above high={high}; exchange them")
    return lambda shape, words: low + (high - low) * _unit(shape, words)


def normal(std: float = 1.0, mean: float = 0.0) -> Initialiser:
    """Normal with a mean and a standard deviation, by the Box-Muller transform."""
    if std < 0:
        raise AttributeValueError(f"normal: std={std} is negative")
    return lambda shape, words: mean + std * _gaussian(shape, words)


def fan_in_uniform(gain: float = 1.0) -> Initialiser:
    """Uniform in [-b, b) with b = gain / sqrt(fan_in): with gain 1, what torch starts its linear layers with.

    LeCun et al. (1998), Efficient BackProp, section 4.6, up to the gain.
    """
    return lambda shape, words: gain / math.sqrt(max(1, fans(shape)[0])) * (2 * _unit(shape, words) - 1)


def he_uniform(shape: tuple[int, ...], words: Words) -> Array:
    """Uniform with variance 2 / fan_in: keeps the scale through ReLU. He et al. (2015), arXiv:1502.01852, eq. 10."""
    return fan_in_uniform(math.sqrt(6.0))(shape, words)


def he_normal(shape: tuple[int, ...], words: Words) -> Array:
    """Normal with variance 2 / fan_in: keeps the scale through ReLU. He et al. (2015), arXiv:1502.01852, eq. 10."""
    return math.sqrt(2.0 / max(1, fans(shape)[0])) * _gaussian(shape, words)


def glorot_uniform(shape: tuple[int, ...], words: Words) -> Array:
    """Uniform with variance 2 / (fan_in + fan_out). Glorot and Bengio (2010), AISTATS, eq. 16."""
    return math.sqrt(6.0 / max(1, sum(fans(shape)))) * (2 * _unit(shape, words) - 1)


def glorot_normal(shape: tuple[int, ...], words: Words) -> Array:
    """Normal with variance 2 / (fan_in + fan_out). Glorot and Bengio (2010), AISTATS, eq. 12."""
    return math.sqrt(2.0 / max(1, sum(fans(shape)))) * _gaussian(shape, words)


def _unit(shape: tuple[int, ...], words: Words) -> Array:
    """Uniform in [0, 1): the upper 53 bits of each word."""
    return ((words(math.prod(shape)) >> np.uint64(11)) * 2.0**-53).reshape(shape)


def _gaussian(shape: tuple[int, ...], words: Words) -> Array:
    """Standard normal values; each pair of words gives two (Box and Muller, 1958)."""
    count = math.prod(shape)
    half = (count + 1) // 2
    u = _unit((2, half), words)
    radius, angle = np.sqrt(-2.0 * np.log1p(-u[0])), 2.0 * math.pi * u[1]
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count].reshape(shape)
