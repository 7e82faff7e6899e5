"""Fourier transforms, and the filters that sound is looked at through."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dlc import ops
from dlc.errors import FileFormatError
from dlc.frontend.onnx.arrays import dtype_of
from dlc.frontend.onnx.call import MAX_EVALUATED, Call, Importer, Value
from dlc.frontend.onnx.importers.arrangements import MAX_AXIS
from dlc.ops.definition import Array
from dlc.ops.tensor import Tensor

MAX_LENGTH = 2**16  # of a transform
MAX_FACTOR = 2**11  # the largest prime factor of one: it is a product with a matrix of so many rows


def _checked(c: Call, n: Any) -> Any:
    """The length of a transform, where it is known."""
    if isinstance(n, int) and (not 0 < n <= MAX_LENGTH or _largest_factor(n) > MAX_FACTOR):
        raise c.unsupported(f"a transform of length {n}")
    return n


def _largest_factor(n: int) -> int:
    """The largest prime factor."""
    for p in range(2, math.isqrt(n) + 1):
        if n % p == 0:
            return max(p, _largest_factor(n // p))
    return n


def _dft(c: Call) -> Tensor:
    """The axis was an attribute before opset 20."""
    x = c[0]
    axis = c.int("axis", 1) if c.opset < 20 else int(c.number(2)) if c.has(2) else -2
    length = _checked(c, c.number(1)) if c.has(1) else None
    if not -x.ndim <= axis < x.ndim:
        raise FileFormatError(f"{c.place}: {x.type} has no axis {axis}")
    back, half, d = bool(c.int("inverse", 0)), bool(c.int("onesided", 0)), x.shape[axis]
    _checked(c, length or (2 * (d - 1) if back and half else d))
    return ops.dft(x, length, axis, back, half)


def _stft(c: Call) -> Tensor:
    x, step, window = c[0], c.number(1), c[2] if c.has(2) else None
    if window is None and not c.has(3):
        raise FileFormatError(f"{c.place}: neither a window nor the length of a frame is given")
    length = _checked(c, c.number(3) if window is None or c.has(3) else window.shape[0])
    if not 0 < step <= MAX_AXIS:
        raise FileFormatError(f"{c.place}: frames {step} apart")
    return ops.stft(x if x.ndim > 2 else ops.expand_dims(x, -1), length, step, window, bool(c.int("onesided", 1)))


def _mel_weights(c: Call) -> Value:
    """Triangles over the bins of a spectrum, whose corners lie evenly on the mel scale: one array, known by now."""
    bins, length, rate = (int(c.number(i)) for i in range(3))
    low, high = (float(c.number(i)) for i in (3, 4))
    dtype = dtype_of(c.int("output_datatype", 1), c.place)
    rows = length // 2 + 1
    if min(bins, length, rate) < 1 or rows * bins > MAX_EVALUATED or bins > MAX_AXIS or not -700 < low <= high:
        raise FileFormatError(f"{c.place}: {bins} bands over {rows} bins from {low} to {high} Hz at {rate} Hz")
    ends = 2595 * np.log10(1 + np.array([low, high]) / 700)
    mels = ends[0] + np.arange(bins + 2) * (ends[1] - ends[0]) / (bins + 2)
    corners = np.floor((length + 1) * (700 * (10 ** (mels / 2595) - 1)) / rate)
    if not (corners[1:-1] < rows).all() or not (corners >= 0).all():
        raise FileFormatError(f"{c.place}: a band at {high} Hz lies beyond the {rows} bins")
    return Value(static=_triangles(corners, rows).astype(dtype))


def _triangles(corners: Array, rows: int) -> Array:
    left, centre, right = corners[:-2], corners[1:-1], corners[2:]
    row = np.arange(rows)[:, None]
    rising = (row - left) / np.maximum(centre - left, 1)
    falling = (right - row) / np.maximum(right - centre, 1)
    found = np.where((row >= left) & (row <= centre), np.where(centre == left, 1.0, rising), 0.0)
    return np.where((row >= centre) & (row < right), falling, found)


SIGNALS: dict[str, Importer] = {
    "DFT": _dft,
    "MelWeightMatrix": _mel_weights,
    "STFT": _stft,
}
