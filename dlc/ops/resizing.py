"""Images resized by nearest, linear or cubic interpolation, one trailing axis after the other.

Where each new element lies among the old ones is worked out while the graph is built; so an axis has a known size, or
is repeated as a whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dlc.dims import DimLike
from dlc.dtypes import FLOATING
from dlc.errors import AttributeValueError, DTypeError, ShapeError
from dlc.ops.arranging import repeat
from dlc.ops.definition import Array, located
from dlc.ops.elementwise import where
from dlc.ops.fill import along
from dlc.ops.gather import take
from dlc.ops.leaves import constant, scalar
from dlc.ops.reduce import sum as sum_
from dlc.ops.tensor import Tensor, wrap
from dlc.ops.view import permute_dims, reshape


def _symmetric(i: Array, d: int, n: float, scale: float) -> Array:
    return d / 2 * (1 - n / (scale * d)) + (i + 0.5) / scale - 0.5


# the place among d old elements of each of n new ones; without a scale of its own it is n / d
COORDINATES: dict[str, Callable[[Array, int, float, float | None], Array]] = {
    "half_pixel": lambda i, d, n, s: ((i + 0.5) * d / n if s is None else (i + 0.5) / s) - 0.5,
    "pytorch_half_pixel": lambda i, d, n, s: COORDINATES["half_pixel"](i, d, n, s) if n > 1 else i * 0.0,
    "half_pixel_symmetric": lambda i, d, n, s: _symmetric(i, d, n, n / d if s is None else s),
    "align_corners": lambda i, d, n, s: i * (d - 1) / (n - 1) if n > 1 else i * 0.0,
    "align_scaled_corners": lambda i, d, n, s: COORDINATES["align_corners"](i, d, n if s is None else s * d, None),
    "asymmetric": lambda i, d, n, s: i * d / n if s is None else i / s,
}
ROUNDING: dict[str, Callable[[Array], Array]] = {
    "floor": np.floor,
    "ceil": np.ceil,
    "round_prefer_floor": lambda c: np.ceil(c - 0.5),
    "round_prefer_ceil": lambda c: np.floor(c + 0.5),
}
MODES = ("nearest", "linear", "cubic")
MOST_TAPS = 16  # old elements that a new one is written as a sum of; a longer sum is a reduction


@dataclass(frozen=True)
class _How:
    """How the axes are resized: the arguments of `resize` that are the same for all."""

    mode: str
    coordinates: str
    rounding: str
    cubic: float
    antialias: bool
    exclude_outside: bool

    def places(self, d: int, n: int, scale: float | None, crop: tuple[float, float] | None) -> Array:
        """Where each of n new elements lies among d old ones."""
        new = np.arange(n, dtype=np.float64)
        if crop is None:
            return COORDINATES[self.coordinates](new, d, n, scale)
        start, end = crop
        steps = (n if scale is None else scale * d) - 1
        return (d - 1) * (start + (new / steps if steps > 0 else new * 0 + 0.5) * (end - start))

    def taps(self, at: Array, d: int, scale: float) -> list[tuple[Array, Array]]:
        """The old elements, and their weights, that each of the new ones at places `at` is the sum of."""
        if self.mode == "nearest":
            return [(_within(ROUNDING[self.rounding](at), d), np.ones(len(at)))]
        if self.mode == "linear" and not self.antialias:
            at = np.clip(at, 0, d - 1)
        narrowing = min(scale, 1.0) if self.antialias else 1.0  # the filter is as wide as a new element
        reach = math.ceil((2 if self.mode == "cubic" else 1) / narrowing)
        first = np.floor(at)
        places = [first + k for k in range(1 - reach, 1 + reach)]
        weights = np.stack([self._weight(np.abs(at - p) * narrowing) for p in places])
        if self.exclude_outside:
            weights *= np.stack([(p >= 0) & (p < d) for p in places])
        if self.antialias or self.exclude_outside:
            weights /= weights.sum(0)
        return [(_within(p, d), w) for p, w in zip(places, weights, strict=True)]

    def _weight(self, t: Array) -> Array:
        """The weight of an old element at a distance t, by the triangle or by Keys' cubic polynomials."""
        if self.mode == "linear":
            return np.maximum(1 - t, 0)
        a = self.cubic
        near, far = ((a + 2) * t - (a + 3)) * t * t + 1, ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
        return np.where(t <= 1, near, np.where(t < 2, far, 0.0))


@located
def resize(
    x: Any,
    size: int | Sequence[int] | None = None,
    scale: float | Sequence[float] | None = None,
    mode: str = "nearest",
    coordinates: str = "half_pixel",
    rounding: str = "round_prefer_floor",
    cubic: float = -0.75,
    antialias: bool = False,
    exclude_outside: bool = False,
    crop: Sequence[tuple[float, float]] | None = None,
    beyond: float = 0.0,
) -> Tensor:
    """x[N, C, ...] with its trailing axes resized: to `size`, or to floor(d * scale).

    `mode` is "nearest", "linear" (over all axes, so bilinear for images) or "cubic", with Keys' coefficient `cubic`.
    `coordinates` says where the new element i of n lies among d old ones: "half_pixel" (i + 1/2) d / n - 1/2,
    "align_corners" i (d - 1) / (n - 1), "asymmetric" i d / n, or "pytorch_half_pixel", "half_pixel_symmetric" or
    "align_scaled_corners" (n being d * scale, unrounded), as ONNX defines them. A given scale takes the place of n / d.
    Beyond the ends the end elements go on, or with `exclude_outside` the weights of those inside are scaled to a sum of
    1. `rounding` of "nearest" is "round_prefer_floor", "round_prefer_ceil", "floor" or "ceil". `antialias` makes the
    filters of "linear" and "cubic" as much wider as the result is smaller.

    `crop` has for each axis where its first and last new element lie, as parts of the way from the first to the last
    old one, and stands in place of `coordinates`; what lies beyond the old elements is `beyond`. An axis of named size
    can be made larger by a whole number with "nearest". R. G. Keys, "Cubic convolution interpolation", 1981.

    >>> import dlc
    >>> dlc.evaluate(dlc.resize([[[1.0, 3.0]]], 4, mode="linear")).tolist()
    [[[1.0, 1.5, 2.5, 3.0]]]
    >>> dlc.evaluate(dlc.resize([[[1.0, 2.0, 3.0]]], 3, mode="linear", crop=[(0.5, 1.5)])).tolist()
    [[[2.0, 3.0, 0.0]]]
    >>> dlc.resize(dlc.input("x", ("N", 3, "H", "W")), scale=2).shape
    (N, 3, 2*H, 2*W)
    """
    t = wrap(x)
    if t.ndim < 3:
        raise ShapeError(f"resize takes [N, C, ...] with axes to resize, not {t.type}")
    for what, value, known in (("mode", mode, MODES), ("coordinates", coordinates, COORDINATES),
                               ("rounding", rounding, ROUNDING)):  # fmt: skip
        if value not in known:
            raise AttributeValueError(f"resize: {what}={value!r} is unknown; use one of {', '.join(map(repr, known))}")
    if mode != "nearest" and t.dtype not in FLOATING:
        raise DTypeError(f"resize: {mode} interpolation takes floating-point tensors, not {t.type}")
    if mode == "nearest" and (antialias or exclude_outside):
        raise AttributeValueError("resize: antialias and exclude_outside go with mode='linear' and 'cubic' only")
    if (size is None) == (scale is None):
        raise AttributeValueError("resize takes either a size or a scale")
    rank = t.ndim - 2
    sizes, scales = _each(size, rank, int, "size"), _each(scale, rank, (int, float), "scale")
    crops, how = _crops(crop, rank), _How(mode, coordinates, rounding, cubic, antialias, exclude_outside)
    missed = []
    for axis, (n, s, ends) in enumerate(zip(sizes, scales, crops, strict=True), start=2):
        d = t.shape[axis]
        t = _along(t, axis, n, s, ends, how)
        if ends is not None:
            missed.append(_outside(how.places(d, t.shape[axis], s, ends), d, axis, t.ndim))  # type: ignore[arg-type]
    for outside in missed:
        t = where(outside, scalar(beyond, t.dtype), t)
    return t


def _outside(at: Array, d: int, axis: int, ndim: int) -> Tensor:
    """Which places are before the first or after the last of d elements."""
    return along(constant((at < 0) | (at > d - 1)), axis, ndim)


@located
def pixel_shuffle(x: Any, factor: int) -> Tensor:
    """x[N, C * factor^2, H, W] as [N, C, H * factor, W * factor]: each pixel's channels become a square of pixels.

    W. Shi et al., "Real-time single image and video super-resolution", arXiv:1609.05158.

    >>> import dlc
    >>> dlc.evaluate(dlc.pixel_shuffle([[[[1.0]], [[2.0]], [[3.0]], [[4.0]]]], 2)).tolist()
    [[[[1.0, 2.0], [3.0, 4.0]]]]
    """
    t = wrap(x)
    if isinstance(factor, bool) or not isinstance(factor, int) or factor < 1:
        raise AttributeValueError(f"pixel_shuffle: the factor is an int of at least 1, not {factor!r}")
    if t.ndim != 4 or t.shape[1] % factor**2 != 0:
        raise ShapeError(f"pixel_shuffle takes [N, C * {factor**2}, H, W], not {t.type}")
    n, c, h, w = t.shape
    split = reshape(t, (n, c // factor**2, factor, factor, h, w))
    return reshape(permute_dims(split, (0, 1, 4, 2, 5, 3)), (n, c // factor**2, h * factor, w * factor))


def _each(value: Any, rank: int, kind: Any, what: str) -> list[Any]:
    """A number above 0 for each axis, or None."""
    if value is None:
        return [None] * rank
    values = list(value) if isinstance(value, (tuple, list)) else [value] * rank
    fits = (isinstance(v, kind) and not isinstance(v, bool) and 0 < v < math.inf for v in values)
    if len(values) != rank or not all(fits):
        raise AttributeValueError(f"resize: {what} is a number above 0, or one for each of {rank} axes, not {value!r}")
    return values


def _crops(value: Any, rank: int) -> list[Any]:
    """The two ends of what is left of each axis, or None."""
    if value is None:
        return [None] * rank
    crops = [tuple(map(float, ends)) for ends in value]
    if len(crops) != rank or not all(len(ends) == 2 and all(map(math.isfinite, ends)) for ends in crops):
        raise AttributeValueError(f"resize: crop is two finite numbers for each of {rank} axes, not {value!r}")
    return crops


def _along(t: Tensor, axis: int, size: int | None, scale: float | None, crop: Any, how: _How) -> Tensor:
    d: DimLike = t.shape[axis]
    if not isinstance(d, int):
        times = 0 if scale is None or scale != int(scale) or crop is not None else int(scale)
        if how.mode == "nearest" and times:
            example = how.taps(how.places(8, 8 * times, scale, None), 8, times)
            if (example[0][0] == np.arange(8 * times) // times).all():
                return repeat(t, times, axis)
        raise ShapeError(
            f"resize: axis {axis} of {t.type} has a size that is not known before a call; that goes with "
            "mode='nearest' and a whole scale only"
        )
    n = size if size is not None else math.floor(d * scale)  # type: ignore[operator]
    if d < 1 or n < 1:
        raise ShapeError(f"resize: axis {axis} of {t.type} cannot be made {n} long")
    taps = how.taps(how.places(d, n, scale, crop), d, n / d if scale is None else scale)
    if how.mode == "nearest":
        (places, _), times = taps[0], max(n // d, 1)
        if n == d * times and (places == np.arange(n) // times).all():
            return repeat(t, times, axis) if times > 1 else t
        return take(t, places, axis)
    if n == d and all(((places == np.arange(n)) | (w == 0)).all() for places, w in taps):
        return t
    taps = [(places, w) for places, w in taps if w.any()]
    if len(taps) > MOST_TAPS:
        places, weights = (np.stack(parts, -1) for parts in zip(*taps, strict=True))
        factors = reshape(constant(weights, t.dtype), (*weights.shape, *[1] * (t.ndim - axis - 1)))
        return sum_(take(t, places, axis) * factors, axis=axis + 1)
    parts = [take(t, places, axis) * along(constant(w, t.dtype), axis, t.ndim) for places, w in taps]
    return sum(parts[1:], start=parts[0])


def _within(places: Array, d: int) -> Array:
    return np.clip(places, 0, d - 1).astype(np.int64)
