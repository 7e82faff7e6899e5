"""Images read between their elements, at places that are computed: by the nearest element, linearly or by cubics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dlc.dims import Dim, DimLike, product, shape_of
from dlc.dtypes import FLOATING
from dlc.errors import AttributeValueError, DTypeError, ShapeError
from dlc.ops.arithmetic import abs as abs_
from dlc.ops.arithmetic import maximum, minimum, remainder
from dlc.ops.arranging import moveaxis
from dlc.ops.contract import matmul
from dlc.ops.definition import located, plain_number
from dlc.ops.elementwise import convert, promoted, rounded_once, where
from dlc.ops.fill import along, iota, ones, size_of, zeros
from dlc.ops.functions import floor, isfinite, isnan
from dlc.ops.gather import take
from dlc.ops.index import stack
from dlc.ops.leaves import scalar
from dlc.ops.logic import logical_and
from dlc.ops.reduce import sum as sum_
from dlc.ops.resizing import MODES
from dlc.ops.rounding import round as round_
from dlc.ops.tensor import Tensor, wrap
from dlc.ops.view import broadcast_to, expand_dims, matrix_transpose, permute_dims, reshape

PADDINGS = ("zeros", "border", "reflection")


@located
@rounded_once("x", "grid")
def grid_sample(
    x: Any, grid: Any, mode: str = "linear", padding: str = "zeros", align_corners: bool = False, cubic: float = -0.75
) -> Tensor:
    """x[N, C, ...] read at the places grid[N, ..., K] of its K = 1 to 3 trailing axes; gives [N, C, ...].

    A place is x, y, z: the first number is for the last axis of `x`, and -1 and 1 are the outer edges of the first and
    last elements, with `align_corners` their centres. NaN stands for -1. `mode` is "nearest" (the even one of two),
    "linear" (bilinear for images) or "cubic" with Keys' coefficient. Beyond the ends lie zeros, with padding "border"
    the elements at the ends, with "reflection" the elements in reverse, time and again. Both `x` and `grid` have
    gradients. M. Jaderberg et al., "Spatial transformer networks", arXiv:1506.02025.

    >>> import dlc
    >>> x = dlc.constant([[[[1.0, 2.0], [3.0, 4.0]]]])
    >>> dlc.evaluate(dlc.grid_sample(x, [[[[0.0, 0.0], [-1.0, -1.0], [5.0, 0.0]]]])).tolist()
    [[[[2.5, 0.25, 0.0]]]]
    >>> dlc.evaluate(dlc.grid_sample(x, [[[[0.5, -1.0]]]], padding="border", align_corners=True)).tolist()
    [[[[1.75]]]]
    """
    t, places = promoted([x, grid])
    rank = t.ndim - 2
    if t.dtype not in FLOATING:
        raise DTypeError(f"grid_sample takes floating-point tensors, not {t.type}; convert with .astype('float32')")
    if not 1 <= rank <= 3 or places.ndim != t.ndim or (places.shape[0], places.shape[-1]) != (t.shape[0], rank):
        raise ShapeError(
            f"grid_sample takes x[N, C, ...] with K = 1 to 3 axes to read from, and a grid[N, ..., K] of as many axes, "
            f"not {t.type} and {places.type}"
        )
    places = where(isnan(places), scalar(-1, t.dtype), places)
    at = []
    for axis, d in enumerate(t.shape[2:]):
        place, size = places[..., rank - 1 - axis], size_of(d, t.dtype)
        at.append((place + 1.0) / 2.0 * (size - 1.0) if align_corners else ((place + 1.0) * size - 1.0) / 2.0)
    return read_between(t, at, mode, padding, align_corners, cubic)


def read_between(
    x: Tensor, places: Sequence[Tensor], mode: str = "linear", padding: str = "zeros", align_corners: bool = False,
    cubic: float = -0.75,
) -> Tensor:  # fmt: skip
    """x[N, C, ...] at `places`, counted in elements: for each trailing axis a [N, *P]; gives [N, C, *P]."""
    weighted = weighted_elements(x, places, mode, padding, align_corners, cubic)
    taps = range(-1 - len(places), -1)
    return moveaxis(sum_(weighted, axis=tuple(taps)), -1, 1)


def weighted_elements(
    x: Tensor, places: Sequence[Tensor], mode: str = "linear", padding: str = "zeros", align_corners: bool = False,
    cubic: float = -0.75, images: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The elements around places, times their weights: [B, *P, taps of each axis, C], to be summed over the taps.

    The places of each axis are [B, *P], or broadcast to that. `images` [B] says which image of x[N, C, ...] each is
    read from; left out, B is N. An image out of range fails the run, a place never does.
    """
    for what, value, known in (("mode", mode, MODES), ("padding", padding, PADDINGS)):
        if value not in known:
            raise AttributeValueError(f"the {what} {value!r} is unknown; use one of {', '.join(map(repr, known))}")
    dims = x.shape[2:]
    if 0 in dims:
        raise ShapeError(f"there is nothing to read between in {x.type}")
    rank, lead = len(dims), places[0].ndim
    offset: Any = 0
    weight: Tensor | None = None
    inside: Tensor | None = None
    for axis, (d, at) in enumerate(zip(dims, places, strict=True)):
        index, factor, holds = _taps(at, d, axis, rank, mode, padding, align_corners, cubic)
        offset = offset * size_of(d, "int64") + index
        weight = factor if weight is None or factor is None else weight * factor
        inside = holds if inside is None or holds is None else logical_and(inside, holds)
    n, c = x.shape[:2]
    if images is None:
        images = iota((n,), 0)
    else:  # one out of range stays so
        images = minimum(maximum(convert(images, "int64"), -1), size_of(n, "int64"))
    first = images * size_of(product(dims), "int64")
    rows = reshape(permute_dims(x, (0, *range(2, x.ndim), 1)), (product((n, *dims)), c))
    found = take(rows, along(first, 0, lead + rank) + offset)
    if inside is not None:
        found = where(expand_dims(inside, -1), found, scalar(0, x.dtype))
    return found if weight is None else found * expand_dims(weight, -1)


def _taps(
    at: Tensor, d: DimLike, axis: int, rank: int, mode: str, padding: str, align_corners: bool, cubic: float
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The elements along one axis that are read for each place, their weights, and which of them exist.

    The taps lie along an axis of their own, one of `rank` that follow those of the place.
    """
    at = reshape(at, (*at.shape, *[1] * rank))
    if mode != "cubic":
        at = _folded(at, d, padding, align_corners)
    if mode == "nearest":
        near, weight = round_(at), None
    else:
        count = 4 if mode == "cubic" else 2
        tap = along(iota((count,), 0, at.dtype), at.ndim - rank + axis, at.ndim)
        below = floor(at)
        t = where(isfinite(at), at, scalar(0, at.dtype)) - where(isfinite(at), below, scalar(0, at.dtype))
        if mode == "linear":
            near, weight = below + tap, where(tap == 0.0, 1.0 - t, t)
        else:
            a = plain_number(cubic, "grid_sample", "cubic")
            near = _folded(below + (tap - 1.0), d, padding, align_corners)
            weight = _keys(where(tap < 2.0, t + 1.0 - tap, tap - 1.0 - t), (tap == 1.0) | (tap == 2.0), a)
    last = size_of(d, at.dtype) - 1.0
    index = convert(minimum(maximum(near, 0.0), last), "int64")
    return index, weight, (near >= 0.0) & (near <= last) if padding == "zeros" else None


def _keys(distance: Tensor, near: Tensor, a: float) -> Tensor:
    """Keys' weight of an element within 1 of the place, and of one between 1 and 2 off."""
    close = ((a + 2) * distance - (a + 3)) * distance * distance + 1.0
    return where(near, close, ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a)


def _folded(at: Tensor, d: DimLike, padding: str, align_corners: bool) -> Tensor:
    """Places beyond the ends brought back to between them."""
    if padding == "zeros":
        return at
    size, zero = size_of(d, at.dtype), scalar(0, at.dtype)
    if padding == "reflection":
        low, span = (zero, size - 1.0) if align_corners else (scalar(-0.5, at.dtype), size)
        period = span * 2.0
        turn = remainder(where(isfinite(at), at, zero) - low, where(period > 0.0, period, 1.0))
        at = where(period > 0.0, low + span - abs_(turn - span), zero)
    return where(at <= 0.0, zero, where(at >= size - 1.0, size - 1.0, at))  # no gradient at the ends, as in torch


@located
@rounded_once("theta")
def affine_grid(theta: Any, size: Sequence[Any], align_corners: bool = False) -> Tensor:
    """The places, as `grid_sample` takes them, that maps theta[N, K, K + 1] send those of a result to; K is 1 to 3.

    `size` is the shape [N, C, ...] of the result; gives [N, ..., K]: theta times (x, y, z, 1), where x, y and z go
    from -1 to 1 as in `grid_sample`.

    >>> import dlc
    >>> dlc.evaluate(dlc.affine_grid([[[1.0, 0.0, 0.5], [0.0, 2.0, 0.0]]], (1, 1, 1, 2))).tolist()
    [[[[0.0, 0.0], [1.0, 0.0]]]]
    """
    t, shape = wrap(theta), shape_of(size)
    rank = len(shape) - 2
    if t.dtype not in FLOATING:
        raise DTypeError(f"affine_grid takes floating-point maps, not {t.type}; convert with .astype('float32')")
    if not 1 <= rank <= 3 or t.ndim != 3 or t.shape != (shape[0], rank, rank + 1):
        raise ShapeError(
            f"affine_grid takes a size [N, C, ...] with K = 1 to 3 more axes and maps [N, K, K + 1], "
            f"not {t.type} with the size [{','.join(map(str, shape))}]"
        )
    out = shape[2:]
    columns = [broadcast_to(along(_centres(d, t.dtype, align_corners), a, rank), out) for a, d in enumerate(out)]
    base = stack([*reversed(columns), ones(out, t.dtype)], axis=-1)
    found = matmul(reshape(base, (product(out), rank + 1)), matrix_transpose(t))
    return reshape(found, (shape[0], *out, rank))


def _centres(d: DimLike, dtype: str, align_corners: bool) -> Tensor:
    """Where the elements of an axis of d lie, from -1 to 1."""
    at, size = iota((d,), 0, dtype), size_of(d, dtype)
    if not align_corners:
        return (at * 2.0 + 1.0) / size - 1.0
    if not isinstance(d, Dim):
        return at * (2.0 / (d - 1)) - 1.0 if d > 1 else zeros((d,), dtype)
    return where(size > 1.0, at * 2.0 / maximum(size - 1.0, 1.0) - 1.0, 0.0)
