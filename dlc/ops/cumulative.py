"""Running sums, products and extrema along an axis, and the linear recurrences that derivatives are made of."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from dlc.dims import DimLike
from dlc.dtypes import FLOATING, NUMERIC
from dlc.errors import AttributeValueError, DTypeError, ShapeError
from dlc.ir import TensorType
from dlc.ops.definition import Array, Kind, Sample, arrays, define, located, nbytes
from dlc.ops.elementwise import convert, promoted, where
from dlc.ops.fill import iota, size_of, zeros
from dlc.ops.functions import exp, isfinite, isnan, log
from dlc.ops.index import pad
from dlc.ops.leaves import scalar
from dlc.ops.logic import equal
from dlc.ops.reduce import one_axis, widest
from dlc.ops.tensor import Tensor, wrap
from dlc.ops.view import slice_, stop_gradient


def shifted(t: Tensor, axis: int, reverse: bool, value: float, by: int = 1) -> Tensor:
    """`t` moved `by` places along `axis` (towards the front where `reverse`), with `value` where a place is left."""
    widths: list[tuple[DimLike, DimLike]] = [(0, 0)] * t.ndim
    widths[axis] = (0, by) if reverse else (by, 0)
    starts = tuple(by if reverse and a == axis else 0 for a in range(t.ndim))
    return slice_(pad(t, widths, value=value), starts, t.shape)


def _walked(x: Array, axis: int, reverse: bool) -> Array:
    """A view with `axis` first, in the order it is walked."""
    moved = np.moveaxis(x, axis, 0)
    return moved[::-1] if reverse else moved


def _restored(y: Array, axis: int, reverse: bool) -> Array:
    return np.moveaxis(y[::-1] if reverse else y, 0, axis)


def _wide(x: Array) -> Array:
    return x.astype(np.float64) if x.dtype.kind == "f" else x


def _cost(y: TensorType, *xs: TensorType, **_: Any) -> tuple[DimLike, DimLike]:
    return y.size * (2 * len(xs) - 1), sum((nbytes(x) for x in xs), start=nbytes(y))


# ---------------------------------------------------------------- sums and products


def _running_type(x: TensorType, *, axis: int, reverse: bool) -> TensorType:
    if x.dtype not in NUMERIC:
        raise DTypeError(f"running sums and products are of numbers, not {x}; convert with .astype('int64')")
    return x


def _running_samples() -> Iterable[Sample]:
    (x,) = arrays((3, 4, 2))
    for axis in (0, 1, -1):
        yield Sample((x,), {"axis": axis})
    yield Sample((x,), {"axis": 1, "reverse": True})
    yield Sample((x,), {"axis": 0, "exclusive": True})
    yield Sample(arrays((5,), dtype="int32", low=-9, high=9), {"axis": 0})
    yield Sample((np.zeros((0, 3), np.float32),), {"axis": 0})


def _sum_reference(x: Array, *, axis: int, reverse: bool) -> Array:
    found = np.cumsum(_walked(_wide(x), axis, reverse), axis=0, dtype=_wide(x).dtype)
    return _restored(found, axis, reverse).astype(x.dtype)


@define(
    kind=Kind.OPAQUE,
    infer=_running_type,
    reference=_sum_reference,
    vjp=lambda g, y, x, *, axis, reverse: (cumulative_sum.op(g, axis=axis, reverse=not reverse),),
    cost=_cost,
    samples=_running_samples,
)
def cumulative_sum(x: Any, axis: int = -1, reverse: bool = False, exclusive: bool = False) -> Tensor:
    """The sums of the elements up to each place of `axis`, from its end where `reverse`.

    With `exclusive` the place itself is not in its sum, which begins at 0. Bools and small integers sum as int64 or
    uint64, like `sum`. Raises `AttributeValueError` where the axis does not exist, as in a 0-d tensor.

    >>> import dlc
    >>> dlc.evaluate(dlc.cumulative_sum([1.0, 2.0, 3.0])).tolist()
    [1.0, 3.0, 6.0]
    >>> dlc.evaluate(dlc.cumulative_sum([1.0, 2.0, 3.0], reverse=True, exclusive=True)).tolist()
    [5.0, 3.0, 0.0]
    """
    t = wrap(x)
    at = one_axis(axis, t.ndim, "cumulative_sum")
    total = cumulative_sum.op(convert(t, widest(t.dtype)), axis=at, reverse=bool(reverse))
    return shifted(total, at, bool(reverse), 0.0) if exclusive else total


def _prod_reference(x: Array, *, axis: int, reverse: bool) -> Array:
    found = np.cumprod(_walked(_wide(x), axis, reverse), axis=0, dtype=_wide(x).dtype)
    return _restored(found, axis, reverse).astype(x.dtype)


def _prod_vjp(g: Tensor, y: Tensor, x: Tensor, *, axis: int, reverse: bool) -> tuple[Tensor]:
    """y[i] = x[i] y[i-1], so the adjoints are h[i] = g[i] + x[i+1] h[i+1], and y[i-1] h[i]; zeros need no care."""
    following = shifted(x, axis, not reverse, 0.0)
    h = linear_recurrence.op(following, g, axis=axis, reverse=not reverse)
    return (h * shifted(y, axis, reverse, 1.0),)


@define(
    kind=Kind.OPAQUE,
    infer=_running_type,
    reference=_prod_reference,
    vjp=_prod_vjp,
    cost=_cost,
    samples=_running_samples,
)
def cumulative_prod(x: Any, axis: int = -1, reverse: bool = False, exclusive: bool = False) -> Tensor:
    """The products of the elements up to each place of `axis`, from its end where `reverse`.

    With `exclusive` the place itself is not in its product, which begins at 1. Bools and small integers multiply as
    int64 or uint64. The derivative is exact at zeros. Raises `AttributeValueError` where the axis does not exist.

    >>> import dlc
    >>> dlc.evaluate(dlc.cumulative_prod([1.0, 2.0, 3.0])).tolist()
    [1.0, 2.0, 6.0]
    """
    t = wrap(x)
    at = one_axis(axis, t.ndim, "cumulative_prod")
    total = cumulative_prod.op(convert(t, widest(t.dtype)), axis=at, reverse=bool(reverse))
    return shifted(total, at, bool(reverse), 1.0) if exclusive else total


# ---------------------------------------------------------------- extrema


def _extremum(name: str) -> Callable[..., Array]:
    def reference(x: Array, *, axis: int, reverse: bool) -> Array:
        return _restored(getattr(np, name).accumulate(_walked(x, axis, reverse), axis=0), axis, reverse)

    return reference


def _extremum_places(y: Tensor, x: Tensor, axis: int, reverse: bool) -> Tensor:
    """Where each of the running extrema y stands in x: at the first of equals in the order of the walk.

    That is where y changed last.
    """
    order = iota(x.shape, axis)
    steps = size_of(x.shape[axis], "int64") - 1 - order if reverse else order
    before = shifted(y, axis, reverse, 0.0)
    new = (y != before) & ~(isnan(y) & isnan(before)) if x.dtype in FLOATING else y != before
    last = cumulative_max.op(where(new | (steps == 0), steps, 0), axis=axis, reverse=reverse)
    return size_of(x.shape[axis], "int64") - 1 - last if reverse else last


def _extremum_vjp(g: Tensor, y: Tensor, x: Tensor, *, axis: int, reverse: bool) -> tuple[Tensor]:
    """Each cotangent goes to the element that is the extremum."""
    from dlc.ops.scattering import put_along_axis

    if isinstance(x.shape[axis], int) and x.shape[axis] == 0:
        return (g,)
    places = _extremum_places(y, x, axis, reverse)
    return (put_along_axis(zeros(x.shape, x.dtype), places, g, axis, "add"),)


def _extremum_samples() -> Iterable[Sample]:
    (x,) = arrays((3, 6, 2))
    for axis in (0, 1, -1):
        yield Sample((x,), {"axis": axis})
    yield Sample((x,), {"axis": 1, "reverse": True})
    yield Sample((np.array([0.0, -1.0, 2.0, np.nan, 5.0, -np.inf, np.inf], np.float32),), {"axis": 0}, gradient=False)
    yield Sample(arrays((5,), dtype="int32", low=-9, high=9), {"axis": 0})
    yield Sample((np.zeros((0, 3), np.float32),), {"axis": 0})


def _extremum_type(x: TensorType, *, axis: int, reverse: bool) -> TensorType:
    if x.dtype not in NUMERIC:
        raise DTypeError(f"running extrema are of numbers, not {x}; convert with .astype('int8')")
    return x


@define(
    kind=Kind.OPAQUE,
    infer=_extremum_type,
    reference=_extremum("maximum"),
    vjp=_extremum_vjp,
    cost=_cost,
    samples=_extremum_samples,
)
def cumulative_max(x: Any, axis: int = -1, reverse: bool = False) -> Tensor:
    """The maximum of the elements up to each place of `axis`, from its end where `reverse`; NaN wins.

    The cotangent goes to the first of equal elements. Raises `AttributeValueError` where the axis does not exist.

    >>> import dlc
    >>> dlc.evaluate(dlc.cumulative_max([1.0, 3.0, 2.0])).tolist()
    [1.0, 3.0, 3.0]
    """
    t = wrap(x)
    return cumulative_max.op(t, axis=one_axis(axis, t.ndim, "cumulative_max"), reverse=bool(reverse))


@define(
    kind=Kind.OPAQUE,
    infer=_extremum_type,
    reference=_extremum("minimum"),
    vjp=_extremum_vjp,
    cost=_cost,
    samples=_extremum_samples,
)
def cumulative_min(x: Any, axis: int = -1, reverse: bool = False) -> Tensor:
    """The minimum of the elements up to each place of `axis`, from its end where `reverse`; NaN wins.

    The cotangent goes to the first of equal elements. Raises `AttributeValueError` where the axis does not exist.

    >>> import dlc
    >>> dlc.evaluate(dlc.cumulative_min([2.0, 3.0, 1.0])).tolist()
    [2.0, 2.0, 1.0]
    """
    t = wrap(x)
    return cumulative_min.op(t, axis=one_axis(axis, t.ndim, "cumulative_min"), reverse=bool(reverse))


@located
def cumulative_argmax(x: Any, axis: int = -1, reverse: bool = False) -> Tensor:
    """Where each element of `cumulative_max` stands along `axis`, as int64: at the first of equals, or of NaNs.

    >>> import dlc
    >>> dlc.evaluate(dlc.cumulative_argmax([1.0, 3.0, 3.0, 2.0, 4.0])).tolist()
    [0, 1, 1, 1, 4]
    """
    t = wrap(x)
    at = one_axis(axis, t.ndim, "cumulative_argmax")
    return _extremum_places(cumulative_max(t, at, reverse), t, at, bool(reverse))


@located
def cumulative_argmin(x: Any, axis: int = -1, reverse: bool = False) -> Tensor:
    """Where each element of `cumulative_min` stands along `axis`, as int64: at the first of equals, or of NaNs.

    >>> import dlc
    >>> dlc.evaluate(dlc.cumulative_argmin([2.0, 3.0, 1.0])).tolist()
    [0, 0, 2]
    """
    t = wrap(x)
    at = one_axis(axis, t.ndim, "cumulative_argmin")
    return _extremum_places(cumulative_min(t, at, reverse), t, at, bool(reverse))


@located
def diff(x: Any, n: int = 1, axis: int = -1) -> Tensor:
    """Each element less the one before it along `axis`, whose size falls by 1; and so on, `n` times.

    >>> import dlc
    >>> dlc.evaluate(dlc.diff([1.0, 4.0, 9.0])).tolist()
    [3.0, 5.0]
    """
    t = wrap(x)
    at = one_axis(axis, t.ndim, "diff")
    if isinstance(n, bool) or not isinstance(n, int) or n < 0:
        raise AttributeValueError(f"diff: n is an int of at least 0, not {n!r}")
    for _ in range(n):
        before = (slice(None),) * at
        if t.shape[at] == 0:
            return t
        t = t[(*before, slice(1, None))] - t[(*before, slice(None, -1))]
    return t


@located
def logcumsumexp(x: Any, axis: int = -1, reverse: bool = False) -> Tensor:
    """The logarithm of the running sum of exp(x) along `axis`, from its end where `reverse`, without overflow.

    The sum s of exp(x - m), m being the running maximum, is a linear recurrence: s moves to the next m by the factor
    exp(m[i-1] - m[i]). Where nothing but -inf has come it is -inf, with derivative 0.

    >>> import dlc
    >>> [f"{v:.4f}" for v in dlc.evaluate(dlc.logcumsumexp([-1000.0, 0.0, 0.0]))]
    ['-1000.0000', '0.0000', '0.6931']
    """
    t = wrap(x)
    if t.dtype not in FLOATING:
        raise DTypeError(f"logcumsumexp takes floating-point tensors, not {t.type}; convert with .astype('float32')")
    at = one_axis(axis, t.ndim, "logcumsumexp")
    top = stop_gradient(cumulative_max(t, at, reverse))
    level = where(isfinite(top), top, 0.0)  # against NaN, as the difference of infinities would be
    begun = shifted(top, at, reverse, -math.inf) > -math.inf
    factor = where(begun, exp(where(begun, shifted(level, at, reverse, 0.0) - level, 0.0)), 0.0)
    total = linear_recurrence.op(factor, exp(t - level), axis=at, reverse=bool(reverse))
    nothing = equal(total, scalar(0, t.dtype))
    return where(nothing, scalar(-math.inf, t.dtype), log(where(nothing, scalar(1, t.dtype), total)) + level)


# ---------------------------------------------------------------- linear recurrences


def _recurrence_type(a: TensorType, b: TensorType, *, axis: int, reverse: bool) -> TensorType:
    if a.dtype not in FLOATING or a.dtype != b.dtype:
        raise DTypeError(f"linear_recurrence takes floating-point tensors of one dtype, not {a} and {b}")
    if a.shape != b.shape:
        raise ShapeError(f"linear_recurrence takes factors and terms of one shape, not {a} and {b}")
    return a


def _recurrence_reference(a: Array, b: Array, *, axis: int, reverse: bool) -> Array:
    factors, terms = _walked(_wide(a), axis, reverse), _walked(_wide(b), axis, reverse)
    found = np.empty_like(terms)
    last: Any = np.zeros(terms.shape[1:])
    for i in range(len(terms)):
        last = found[i] = (factors[i] * last if i else 0.0) + terms[i]
    return _restored(found, axis, reverse).astype(a.dtype)


def _recurrence_vjp(
    g: Tensor, y: Tensor, a: Tensor, b: Tensor, *, axis: int, reverse: bool
) -> tuple[Tensor, Tensor]:
    h = linear_recurrence.op(shifted(a, axis, not reverse, 0.0), g, axis=axis, reverse=not reverse)
    return h * shifted(y, axis, reverse, 0.0), h


def _recurrence_samples() -> Iterable[Sample]:
    for axis, reverse in ((0, False), (1, True), (2, False)):
        yield Sample(arrays((3, 4, 2), (3, 4, 2), low=-1.5, high=1.5), {"axis": axis, "reverse": reverse})
    yield Sample(arrays((0, 2), (0, 2)), {"axis": 0})


@define(
    kind=Kind.OPAQUE,
    infer=_recurrence_type,
    reference=_recurrence_reference,
    vjp=_recurrence_vjp,
    cost=_cost,
    samples=_recurrence_samples,
)
def linear_recurrence(a: Any, b: Any, axis: int = -1, reverse: bool = False) -> Tensor:
    """y[i] = a[i] y[i-1] + b[i] along `axis`, from its end where `reverse`; the first y is b, whatever a is there.

    `a` and `b` are floating-point and of one shape. Raises `ShapeError` and `DTypeError` where they are not.

    >>> import dlc
    >>> dlc.evaluate(dlc.linear_recurrence([0.5, 0.5, 0.5], [1.0, 1.0, 1.0])).tolist()
    [1.0, 1.5, 1.75]
    """
    factors, terms = promoted([a, b])
    at = one_axis(axis, terms.ndim, "linear_recurrence")
    return linear_recurrence.op(factors, terms, axis=at, reverse=bool(reverse))
