"""Parts and copies of tensors in other places, of views and joins: rolls, tiles, splits, triangles."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any

import numpy as np

from dlc.dims import Dim, DimLike, dim
from dlc.errors import AttributeValueError, ShapeError, UnsupportedError
from dlc.ops.definition import located
from dlc.ops.elementwise import convert
from dlc.ops.gather import take
from dlc.ops.index import concat
from dlc.ops.reduce import Axis, normalized_axes, one_axis
from dlc.ops.reduce import sum as sum_
from dlc.ops.tensor import Tensor, wrap
from dlc.ops.view import broadcast_to, expand_dims, permute_dims, reshape, slice_, squeeze


def part(t: Tensor, axis: int, start: DimLike, size: DimLike) -> Tensor:
    """`size` elements of one axis, from `start`."""
    starts = tuple(start if a == axis else 0 for a in range(t.ndim))
    return slice_(t, starts, (*t.shape[:axis], size, *t.shape[axis + 1 :]))


def whole_number(value: Any, name: str, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise AttributeValueError(f"{name}: {what} is an int, not {value!r}")
    return value


def _wholes(value: Any, name: str, what: str) -> tuple[int, ...]:
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    return tuple(whole_number(v, name, what) for v in values)


# ---------------------------------------------------------------- axes


@located
def moveaxis(x: Any, source: int | Sequence[int], destination: int | Sequence[int]) -> Tensor:
    """The axes `source` at the places `destination`; the others keep their order.

    >>> import dlc
    >>> dlc.moveaxis(dlc.input("x", ("N", 3, 4)), 0, -1).shape
    (3, 4, N)
    """
    t = wrap(x)
    old = [one_axis(a, t.ndim, "moveaxis") for a in _wholes(source, "moveaxis", "an axis")]
    new = [one_axis(a, t.ndim, "moveaxis") for a in _wholes(destination, "moveaxis", "an axis")]
    if len(old) != len(new) or len(set(old)) != len(old) or len(set(new)) != len(new):
        raise AttributeValueError(f"moveaxis: {source} and {destination} are not as many different axes")
    rest = iter(a for a in range(t.ndim) if a not in old)
    moved = dict(zip(new, old, strict=True))
    return permute_dims(t, tuple(moved[a] if a in moved else next(rest) for a in range(t.ndim)))


@located
def unstack(x: Any, axis: int = 0) -> tuple[Tensor, ...]:
    """The slices of `x` along `axis`, whose size is an int, without that axis.

    >>> import dlc
    >>> [dlc.evaluate(t).tolist() for t in dlc.unstack([[1.0, 2.0], [3.0, 4.0]], axis=1)]
    [[1.0, 3.0], [2.0, 4.0]]
    """
    t = wrap(x)
    at = one_axis(axis, t.ndim, "unstack")
    size = t.shape[at]
    if not isinstance(size, int):
        raise ShapeError(f"unstack: axis {at} of {t.type} has a size known only at a call; go over it with dlc.scan")
    return tuple(squeeze(part(t, at, i, 1), at) for i in range(size))


@located
def split(x: Any, sections: int | Sequence[int], axis: int = 0) -> tuple[Tensor, ...]:
    """`x` cut along `axis`: into `sections` equal parts, or into parts of the sizes given, which add up.

    Raises `ShapeError` where they do not fit.

    >>> import dlc
    >>> [dlc.evaluate(t).tolist() for t in dlc.split([1.0, 2.0, 3.0], [1, 2])]
    [[1.0], [2.0, 3.0]]
    """
    t = wrap(x)
    at = one_axis(axis, t.ndim, "split")
    size = t.shape[at]
    if isinstance(sections, (tuple, list)):
        sizes = [dim(s) for s in sections]
        negative = builtins.any(isinstance(s, int) and s < 0 for s in sizes)
        if negative or builtins.sum(sizes, start=0) != size:
            raise ShapeError(f"split: axis {at} of {t.type} is not made of parts of {', '.join(map(str, sizes))}")
    else:
        count = whole_number(sections, "split", "sections")
        if count < 1 or size // count * count != size:
            raise ShapeError(f"split: axis {at} of {t.type} does not fall into {count} equal parts; give their sizes")
        sizes = [size // count] * count
    starts = [builtins.sum(sizes[:i], start=0) for i in range(len(sizes))]
    return tuple(part(t, at, start, n) for start, n in zip(starts, sizes, strict=True))


@located
def chunk(x: Any, chunks: int, axis: int = 0) -> tuple[Tensor, ...]:
    """`x` cut along `axis` into parts of ceil(size / chunks), the last perhaps smaller: at most `chunks` of them.

    >>> import dlc
    >>> [t.shape for t in dlc.chunk(dlc.zeros(5), 2)]
    [(3,), (2,)]
    """
    t = wrap(x)
    at, count = one_axis(axis, t.ndim, "chunk"), whole_number(chunks, "chunk", "chunks")
    size = t.shape[at]
    if count < 1 or not isinstance(size, int):
        raise AttributeValueError(f"chunk cuts an axis of a known size into at least 1 part, not {t.type} into {count}")
    step = -(-size // count)
    return split(t, [min(step, size - i) for i in range(0, size, step)] if size else [0] * count, at)


# ---------------------------------------------------------------- copies and rolls


@located
def roll(x: Any, shift: int | Sequence[int], axis: Axis = None) -> Tensor:
    """The elements moved on by `shift` places along `axis`, those beyond the end coming back at the start.

    With `axis` None the tensor is rolled as if it were flat. An axis of named size must be at least |shift| long.

    >>> import dlc
    >>> dlc.evaluate(dlc.roll([1.0, 2.0, 3.0], 1)).tolist()
    [3.0, 1.0, 2.0]
    """
    t = wrap(x)
    shifts = _wholes(shift, "roll", "the shift")
    if axis is None:
        if len(shifts) != 1:
            raise AttributeValueError(f"roll: {len(shifts)} shifts need as many axes")
        return reshape(roll(reshape(t, (-1,)), shifts[0], 0), t.shape) if t.ndim != 1 else roll(t, shifts[0], 0)
    axes = _wholes(axis, "roll", "the axis")
    if len(shifts) not in (1, len(axes)):
        raise AttributeValueError(f"roll: {len(shifts)} shifts do not go with {len(axes)} axes")
    for a, by in zip(axes, shifts * len(axes) if len(shifts) == 1 else shifts, strict=True):
        t = _rolled(t, one_axis(a, t.ndim, "roll"), by)
    return t


def _rolled(t: Tensor, axis: int, by: int) -> Tensor:
    size = t.shape[axis]
    if isinstance(size, int):
        by = by % size if size else 0
    if by == 0:
        return t
    first: DimLike = size - by if by > 0 else -by
    return concat([part(t, axis, first, size - first), part(t, axis, 0, first)], axis=axis)


@located
def tile(x: Any, repetitions: DimLike | Sequence[DimLike]) -> Tensor:
    """The whole of `x` over and over, `repetitions` times along each axis; the shorter of both is led by ones.

    A number of repetitions may be a named dim.

    >>> import dlc
    >>> dlc.evaluate(dlc.tile([1.0, 2.0], (2, 2))).tolist()
    [[1.0, 2.0, 1.0, 2.0], [1.0, 2.0, 1.0, 2.0]]
    """
    t = wrap(x)
    given = repetitions if isinstance(repetitions, (tuple, list)) else (repetitions,)
    times = tuple(n if isinstance(n, Dim) else whole_number(n, "tile", "the number of repetitions") for n in given)
    if builtins.any(isinstance(n, int) and n < 0 for n in times):
        raise AttributeValueError(f"tile: {repetitions} has a negative number of repetitions")
    rank = max(len(times), t.ndim)
    times = (1,) * (rank - len(times)) + times
    shape = (1,) * (rank - t.ndim) + t.shape
    wide = tuple(d for n, s in zip(times, shape, strict=True) for d in (n, s))
    narrow = tuple(d for s in shape for d in (1, s))
    return reshape(broadcast_to(reshape(t, narrow), wide), tuple(n * s for n, s in zip(times, shape, strict=True)))


@located
def repeat(x: Any, repeats: int | Sequence[int], axis: int | None = None) -> Tensor:
    """Each element `repeats` times in a row along `axis`, or of the flat tensor where that is None.

    `repeats` is an int, or an array or sequence of one for each element of an axis of known size; a tensor of them
    would make the result's shape depend on data.

    >>> import dlc
    >>> dlc.evaluate(dlc.repeat([1.0, 2.0], 2)).tolist()
    [1.0, 1.0, 2.0, 2.0]
    """
    t = wrap(x)
    if axis is None:
        return repeat(reshape(t, (-1,)), repeats, 0)
    at = one_axis(axis, t.ndim, "repeat")
    if isinstance(repeats, (tuple, list, np.ndarray)) and np.ndim(repeats):
        return take(t, _repeated(repeats, t, at), at)
    n = whole_number(repeats.item() if isinstance(repeats, (np.ndarray, np.generic)) else repeats, "repeat", "a number")
    if n < 0:
        raise AttributeValueError(f"repeat: the number of repeats {n} is negative")
    lead, size, tail = t.shape[:at], t.shape[at], t.shape[at + 1 :]
    return reshape(broadcast_to(expand_dims(t, at + 1), (*lead, size, n, *tail)), (*lead, size * n, *tail))


def _repeated(repeats: Any, t: Tensor, axis: int) -> np.ndarray[Any, Any]:
    """The place that each element of the result comes from."""
    size = t.shape[axis]
    plain = [n.item() if isinstance(n, np.generic) else n for n in repeats]
    times = [whole_number(n, "repeat", "each number of repeats") for n in plain]
    if not isinstance(size, int) or len(times) not in (1, size) or builtins.any(n < 0 for n in times):
        raise AttributeValueError(
            f"repeat: {len(times)} numbers {times} of repeats are not one of at least 0 for each place of axis {axis} "
            f"of {t.type}"
        )
    return np.repeat(np.arange(size), times)


# ---------------------------------------------------------------- elements that are not 0


@located
def nonzero(x: Any) -> Tensor:
    """Refused: how many elements are not 0 depends on the data, and shapes here do not. Use `where` or `count_nonzero`.

    >>> import dlc
    >>> dlc.nonzero([1.0, 0.0])  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    dlc.errors.UnsupportedError: nonzero of f32[2] has a shape that depends on data; mask with dlc.where...
    """
    raise UnsupportedError(
        f"nonzero of {wrap(x).type} has a shape that depends on data; mask with dlc.where instead, or count with "
        "dlc.count_nonzero"
    )


@located
def count_nonzero(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """How many elements over `axis` (None: all) are not 0, as int64; NaN is not 0.

    >>> import dlc
    >>> dlc.evaluate(dlc.count_nonzero([1.0, 0.0, 2.0])).item()
    2
    """
    t = wrap(x)
    normalized_axes(axis, t.ndim, "count_nonzero")
    return sum_(convert(convert(t, "bool"), "int64"), axis=axis, keepdims=keepdims)
