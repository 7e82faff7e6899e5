"""Padding, joining and folding: every element of the result is read from a place that is computed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from dlc.dims import DimLike, Shape, dim, shape_of
from dlc.dtypes import BOOL, FLOATING, NUMERIC
from dlc.errors import AttributeValueError, DTypeError, ShapeError
from dlc.ir import TensorType
from dlc.ops.definition import Array, Emitter, Kind, Sample, arrays, define, located, nbytes
from dlc.ops.elementwise import promoted
from dlc.ops.reduce import one_axis
from dlc.ops.tensor import Tensor, wrap
from dlc.ops.view import expand_dims, slice_, window_count, windows


def _copy_cost(y: TensorType, *xs: TensorType, **_: Any) -> tuple[DimLike, DimLike]:
    """No arithmetic; every element is written once, and read at most once."""
    return 0, sum((nbytes(t) for t in xs), start=nbytes(y))


def _is_zero(d: DimLike) -> bool:
    return isinstance(d, int) and d == 0


# ---------------------------------------------------------------- pad


def _pad_type(x: TensorType, *, low: Shape, high: Shape, interior: tuple[int, ...], value: Any) -> TensorType:
    if not len(low) == len(high) == len(interior) == x.ndim:
        raise AttributeValueError(f"pad: {x} needs a pair of widths for each of its {x.ndim} axes, got {len(low)}")
    for axis, (a, b, gap) in enumerate(zip(low, high, interior, strict=True)):
        if gap < 0 or any(isinstance(w, int) and w < 0 for w in (a, b)):
            raise AttributeValueError(
                f"pad: the widths ({a}, {b}) and interior {gap} of axis {axis} must not be negative; slice to crop"
            )
    shape = tuple([a + d + (d - 1) * gap + b for d, a, b, gap in zip(x.shape, low, high, interior, strict=True)])
    for axis, d in enumerate(shape):
        if isinstance(d, int) and d < 0:  # there is no space between the elements of an axis that has none
            raise ShapeError(
                f"pad: axis {axis} of {x} has {x.shape[axis]} elements, too few for interior {interior[axis]}; "
                "leave it out there"
            )
    return TensorType(x.dtype, shape)


def _pad_reference(x: Array, *, low: Any, high: Any, interior: Any, value: Any) -> Array:
    shape = [a + d + (d - 1) * gap + b for d, a, b, gap in zip(x.shape, low, high, interior, strict=True)]
    result = np.full(shape, value, x.dtype)
    if x.size:
        result[
            tuple(slice(a, a + (d - 1) * (i + 1) + 1, i + 1) for d, a, i in zip(x.shape, low, interior, strict=True))
        ] = x
    return result


def _pad_element(
    k: Emitter, index: Sequence[str], *, low: Shape, high: Shape, interior: tuple[int, ...], value: Any
) -> str:
    place: list[str] = []
    inside: list[str] = []
    for i, d, a, b, gap in zip(index, k.shape(0), low, high, interior, strict=True):
        at = i if _is_zero(a) else k.let(f"{i} - {k.dim(a)}")
        if not _is_zero(a):
            inside.append(f"({at} >= 0)")
        if not _is_zero(b):
            inside.append(f"({at} < {k.dim((d - 1) * (gap + 1) + 1)})")
        if gap:
            inside.append(f"({at} % {gap + 1} == 0)")
            at = k.let(f"{at} // {gap + 1}")
        place.append(at)
    if not inside:
        return k.load(0, place)
    dtype = k.dtype(0)
    return k.where(" & ".join(inside), lambda: k.load(0, place), lambda: k.constant(value, dtype), dtype)


def _pad_vjp(
    g: Tensor, y: Tensor, x: Tensor, *, low: Shape, high: Shape, interior: tuple[int, ...], value: Any
) -> tuple[Tensor]:
    return (slice_.op(g, starts=low, sizes=x.shape, steps=tuple(gap + 1 for gap in interior)),)


def _pad_samples() -> Iterable[Sample]:
    (x,) = arrays((3, 4))
    yield Sample((x,), {"widths": [(1, 2), (0, 3)]})
    yield Sample((x,), {"widths": [(1, 0), (2, 1)], "interior": (2, 1), "value": -1.5})
    yield Sample((np.zeros((0, 2), np.float32),), {"widths": [(1, 2), (0, 0)]})
    yield Sample(arrays((5,), dtype="int32"), {"widths": [(1, 2)], "value": 7})


def _plain_value(value: Any, dtype: str) -> bool | int | float:
    """A fill value as the Python scalar of a dtype."""
    if not isinstance(value, (bool, int, float, np.generic)):
        raise AttributeValueError(f"a fill value is a plain number, not {type(value).__name__}")
    plain = value.item() if isinstance(value, np.generic) else value
    if dtype in BOOL:
        return bool(plain)
    if dtype in FLOATING:
        return float(plain)
    if not math.isfinite(plain) or plain != int(plain) or not np.iinfo(dtype).min <= plain <= np.iinfo(dtype).max:
        raise AttributeValueError(f"pad: {plain} is no {dtype}; give a value that the tensor's dtype holds")
    return int(plain)


@define(
    kind=Kind.INDEX,
    infer=_pad_type,
    reference=_pad_reference,
    vjp=_pad_vjp,
    element=_pad_element,
    cost=_copy_cost,
    samples=_pad_samples,
)
def pad(x: Any, widths: Sequence[tuple[Any, Any]], interior: Sequence[int] | None = None, value: Any = 0.0) -> Tensor:
    """`x` with `value` around and between its elements.

    `widths` gives (low, high) for each axis, ints or dims >= 0; `interior` how many go between neighbours. An axis of d
    elements becomes low + d + (d - 1) * interior + high. Raises `AttributeValueError` for negative widths, and for a
    value that integers of the dtype do not have.

    >>> import dlc
    >>> dlc.evaluate(dlc.pad([1.0, 2.0], [(1, 0)], interior=[1])).tolist()
    [0.0, 1.0, 0.0, 2.0]
    """
    t = wrap(x)
    given = widths if isinstance(widths, (tuple, list)) else ()
    pairs = [tuple(w) if isinstance(w, (tuple, list)) else (w, w) for w in given]
    if not isinstance(widths, (tuple, list)) or len(pairs) != t.ndim or any(len(p) != 2 for p in pairs):
        raise AttributeValueError(
            f"pad: {t.type} needs a pair (low, high) for each of its {t.ndim} axes, not {widths!r}"
        )
    gaps = (0,) * t.ndim if interior is None else tuple(interior)
    low, high = tuple(_width(a) for a, _ in pairs), tuple(_width(b) for _, b in pairs)
    if all(map(_is_zero, (*low, *high, *gaps))):
        return t
    return pad.op(t, low=low, high=high, interior=gaps, value=_plain_value(value, t.dtype))


def _width(w: Any) -> DimLike:
    if isinstance(w, int) and w < 0:
        raise AttributeValueError(f"pad: the width {w} is negative; slice to crop")
    return dim(w)


# ---------------------------------------------------------------- concat and stack


def _concat_type(*xs: TensorType, axis: int) -> TensorType:
    first = xs[0]
    for x in xs[1:]:
        if x.dtype != first.dtype:
            raise DTypeError(f"concat takes tensors of one dtype, not {first} and {x}")
        if x.ndim != first.ndim or any(
            a != b for i, (a, b) in enumerate(zip(x.shape, first.shape, strict=True)) if i != axis
        ):
            raise ShapeError(f"concat along axis {axis}: {first} and {x} differ in another axis; make them equal there")
    total = sum((x.shape[axis] for x in xs), start=0)
    return TensorType(first.dtype, (*first.shape[:axis], total, *first.shape[axis + 1 :]))


def _concat_element(k: Emitter, index: Sequence[str], *, axis: int) -> str:
    ends = [0]
    while len(ends) <= k.operands:
        ends.append(ends[-1] + k.shape(len(ends) - 1)[axis])  # type: ignore[arg-type]

    def among(first: int, last: int) -> str:
        """The element, known to lie in the operands from `first` up to `last`; halves keep the branches shallow."""
        if last - first == 1:
            at = index[axis] if first == 0 else k.let(f"{index[axis]} - {k.dim(ends[first])}")
            return k.load(first, [*index[:axis], at, *index[axis + 1 :]])
        middle = (first + last) // 2
        left = f"{index[axis]} < {k.dim(ends[middle])}"
        return k.where(left, lambda: among(first, middle), lambda: among(middle, last), k.dtype(0))

    return among(0, k.operands)


def _concat_vjp(g: Tensor, y: Tensor, *xs: Tensor, axis: int) -> list[Tensor]:
    parts: list[Tensor] = []
    start: DimLike = 0
    for x in xs:
        starts = tuple(start if a == axis else 0 for a in range(x.ndim))
        parts.append(slice_.op(g, starts=starts, sizes=x.shape, steps=(1,) * x.ndim))
        start = start + x.shape[axis]
    return parts


def _concat_samples() -> Iterable[Sample]:
    yield Sample((list(arrays((2, 3), (2, 1), (2, 4))),), {"axis": 1})
    yield Sample((list(arrays((2, 3), (0, 3), (1, 3), (3, 3))),), {"axis": 0})
    yield Sample((list(arrays((2,), (3,), dtype="int16", low=-9, high=9)),), {"axis": -1})


@define(
    kind=Kind.INDEX,
    infer=_concat_type,
    reference=lambda *xs, axis: np.concatenate(xs, axis=axis),
    vjp=_concat_vjp,
    element=_concat_element,
    cost=_copy_cost,
    samples=_concat_samples,
)
def concat(tensors: Sequence[Any], axis: int = 0) -> Tensor:
    """Tensors joined along an axis that they have; all other dims are equal. Dtypes promote.

    Raises `ShapeError` where other dims differ, `AttributeValueError` without a tensor or such an axis.

    >>> import dlc
    >>> dlc.evaluate(dlc.concat([[1.0], [2.0, 3.0]])).tolist()
    [1.0, 2.0, 3.0]
    """
    if isinstance(tensors, Tensor) or not len(tensors):
        raise AttributeValueError("concat takes a sequence of at least one tensor")
    ts = promoted([wrap(t) for t in tensors])
    at = one_axis(axis, ts[0].ndim, "concat")
    return ts[0] if len(ts) == 1 else concat.op(*ts, axis=at)


@located
def stack(tensors: Sequence[Any], axis: int = 0) -> Tensor:
    """Tensors of one shape joined along a new axis.

    >>> import dlc
    >>> dlc.evaluate(dlc.stack([[1.0, 2.0], [3.0, 4.0]], axis=1)).tolist()
    [[1.0, 3.0], [2.0, 4.0]]
    """
    if isinstance(tensors, Tensor) or not len(tensors):
        raise AttributeValueError("stack takes a sequence of at least one tensor")
    ts = [wrap(t) for t in tensors]
    for t in ts:
        if t.shape != ts[0].shape:
            raise ShapeError(f"stack takes tensors of one shape, not {ts[0].type} and {t.type}")
    at = axis + ts[0].ndim + 1 if axis < 0 else axis
    return concat([expand_dims(t, at) for t in ts], axis=at)


# ---------------------------------------------------------------- fold


def _fold_type(g: TensorType, *, axes: Any, lengths: Shape, strides: Any, dilations: Any) -> TensorType:
    if g.dtype not in NUMERIC:
        raise DTypeError(f"fold adds numbers, not {g}")
    rank = g.ndim - len(axes)
    shape = list(g.shape[:rank])
    for i, (axis, length, stride, dilation) in enumerate(zip(axes, lengths, strides, dilations, strict=True)):
        size = g.shape[rank + i]
        if not isinstance(size, int) or window_count(length, size, stride, dilation) != g.shape[axis]:
            raise ShapeError(
                f"fold: axis {axis} of {g} does not hold the windows of {size} by stride {stride} "
                f"(dilation {dilation}) over {length} elements"
            )
        shape[axis] = length
    return TensorType(g.dtype, tuple(shape))


def _fold_reference(g: Array, *, axes: Any, lengths: Any, strides: Any, dilations: Any) -> Array:
    rank = g.ndim - len(axes)
    wide = np.float64 if g.dtype.kind == "f" else g.dtype
    shape = list(g.shape[:rank])
    for axis, length in zip(axes, lengths, strict=True):
        shape[axis] = length
    result = np.zeros(shape, wide)
    for offset in np.ndindex(*g.shape[rank:]):
        place = [slice(None)] * rank
        for axis, at, stride, dilation in zip(axes, offset, strides, dilations, strict=True):
            start = at * dilation
            place[axis] = slice(start, start + max((g.shape[axis] - 1) * stride + 1, 0), stride)
        result[tuple(place)] += g[(..., *offset)].astype(wide)
    return result.astype(g.dtype)


def _fold_element(k: Emitter, index: Sequence[str], *, axes: Any, lengths: Any, strides: Any, dilations: Any) -> str:
    """The sum over the windows that an element lies in.

    Without dilation the offsets within such windows are congruent to the position modulo the stride, so only they are
    visited; where windows do not overlap that is one.
    """
    shape = k.shape(0)
    rank = len(shape) - len(axes)
    sizes = [int(d) for d in shape[rank:]]  # type: ignore[arg-type]
    counts = [-(-n // s) if d == 1 else n for n, s, d in zip(sizes, strides, dilations, strict=True)]
    looped = [i for i, n in enumerate(counts) if n != 1]
    dtype = k.dtype(0)

    def term(steps: Sequence[str]) -> str:
        step = dict(zip(looped, steps, strict=True))
        place, offsets, inside = list(index[:rank]), [], []
        for i, (axis, size, stride, dilation) in enumerate(zip(axes, sizes, strides, dilations, strict=True)):
            if dilation == 1:
                at, window = k.let(f"{index[axis]} % {stride}"), k.let(f"{index[axis]} // {stride}")
                if i in step:
                    at, window = k.let(f"{at} + {step[i]} * {stride}"), k.let(f"{window} - {step[i]}")
                    inside.append(f"({window} >= 0)")
                if stride * counts[i] != size:
                    inside.append(f"({at} < {size})")
            else:
                at = step.get(i, "0")
                start = k.let(f"{index[axis]} - {at} * {dilation}")
                window = k.let(f"{start} // {stride}")
                inside.append(f"({start} >= 0)")
                if stride != 1:
                    inside.append(f"({start} % {stride} == 0)")
            inside.append(f"({window} < {k.dim(shape[axis])})")
            place[axis] = window
            offsets.append(at)
        return k.where(" & ".join(inside), lambda: k.load(0, [*place, *offsets]), lambda: k.constant(0, dtype), dtype)

    return k.total([str(counts[i]) for i in looped], term, dtype) if looped else term(())


def _fold_samples() -> Iterable[Sample]:
    common = {"axes": (1, 2), "lengths": (6, 7)}
    yield Sample(arrays((2, 5, 5, 2, 3)), {**common, "strides": (1, 1), "dilations": (1, 1)})
    yield Sample(arrays((2, 3, 3, 2, 2)), {**common, "strides": (2, 2), "dilations": (1, 1)})
    yield Sample(arrays((2, 3, 3, 2, 3)), {**common, "strides": (1, 2), "dilations": (3, 1)})
    yield Sample(arrays((2, 2, 3, 1, 2)), {**common, "strides": (3, 2), "dilations": (1, 2)})


@define(
    kind=Kind.INDEX,
    infer=_fold_type,
    reference=_fold_reference,
    vjp=lambda h, y, g, *, axes, lengths, strides, dilations: (
        windows(h, axes, g.shape[g.ndim - len(axes) :], strides, dilations),
    ),
    element=_fold_element,
    cost=lambda y, g, **_: (g.size, nbytes(y) + nbytes(g)),
    samples=_fold_samples,
)
def fold(g: Any, axes: Sequence[int], lengths: Any, strides: Any = None, dilations: Any = None) -> Tensor:
    """The sum of sliding windows put back in their places: the adjoint of `windows`, whose result `g` looks like.

    `lengths` gives the size of each of `axes` before `windows`. Raises `ShapeError` where they do not fit.

    >>> import dlc
    >>> dlc.evaluate(dlc.ops.fold([[1.0, 2.0], [3.0, 4.0]], (0,), (3,))).tolist()
    [1.0, 5.0, 4.0]
    """
    t = wrap(g)
    ones = (1,) * len(axes)
    rank = t.ndim - len(axes)
    return fold.op(
        t,
        axes=tuple(one_axis(a, rank, "fold") for a in axes),
        lengths=shape_of(lengths),
        strides=ones if strides is None else tuple(strides),
        dilations=ones if dilations is None else tuple(dilations),
    )
