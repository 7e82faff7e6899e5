"""Index ops: every element is read from, or made of, a place that is computed. Padding, joining, taking, counting.

Indices are of any integer dtype. An index below 0 or beyond its axis is an error, found while the program runs: a
label -1 is a mistake in the data far more often than a wish for the last class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from dlc.dims import Dim, DimLike, Shape, dim, product, shape_of
from dlc.dtypes import BOOL, FLOATING, INTEGER, NUMERIC, dtype_name, weak_dtype
from dlc.errors import AttributeValueError, DTypeError, IndexOutOfRangeError, ShapeError
from dlc.ir import TensorType
from dlc.ops.definition import Array, Emitter, Kind, Sample, arrays, define, nbytes
from dlc.ops.elementwise import convert, promoted, where
from dlc.ops.leaves import scalar
from dlc.ops.reduce import Axis, normalized_axes
from dlc.ops.reduce import sum as sum_
from dlc.ops.tensor import Tensor, wrap
from dlc.ops.view import broadcast_to, expand_dims, reshape, slice_, window_count, windows


def one_axis(axis: int, ndim: int, op: str) -> int:
    """`axis` counted from the front; raises `AttributeValueError` where it does not exist."""
    return normalized_axes((axis,), ndim, op)[0]


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
            raise AttributeValueError(f"pad: the widths ({a}, {b}) and interior {gap} of axis {axis} must not be negative; slice to crop")
    shape = (a + d + (d - 1) * gap + b for d, a, b, gap in zip(x.shape, low, high, interior, strict=True))
    return TensorType(x.dtype, tuple(shape))


def _pad_reference(x: Array, *, low: Any, high: Any, interior: Any, value: Any) -> Array:
    shape = [a + d + (d - 1) * gap + b for d, a, b, gap in zip(x.shape, low, high, interior, strict=True)]
    result = np.full(shape, value, x.dtype)
    if x.size:
        result[tuple(slice(a, a + (d - 1) * (i + 1) + 1, i + 1) for d, a, i in zip(x.shape, low, interior, strict=True))] = x
    return result


def _pad_element(k: Emitter, index: Sequence[str], *, low: Shape, high: Shape, interior: tuple[int, ...], value: Any) -> str:
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


def _pad_vjp(g: Tensor, y: Tensor, x: Tensor, *, low: Shape, high: Shape, interior: tuple[int, ...], value: Any) -> tuple[Tensor]:
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
    return float(plain) if dtype in FLOATING else int(np.asarray(plain).astype(dtype))


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
    elements becomes low + d + (d - 1) * interior + high. Raises `AttributeValueError` for negative widths.

    >>> import dlc
    >>> dlc.evaluate(dlc.pad([1.0, 2.0], [(1, 0)], interior=[1])).tolist()
    [0.0, 1.0, 0.0, 2.0]
    """
    t = wrap(x)
    pairs = [tuple(w) if isinstance(w, (tuple, list)) else (w, w) for w in widths]
    if len(pairs) != t.ndim or any(len(p) != 2 for p in pairs):
        raise AttributeValueError(f"pad: {t.type} needs a pair (low, high) for each of its {t.ndim} axes, not {widths!r}")
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
        if x.ndim != first.ndim or any(a != b for i, (a, b) in enumerate(zip(x.shape, first.shape, strict=True)) if i != axis):
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


# ---------------------------------------------------------------- take


def _check_indices(indices: TensorType, op: str) -> None:
    if indices.dtype not in INTEGER:
        raise DTypeError(f"{op} takes integer indices, not {indices}; convert with .astype('int64')")


def _check_range(indices: Array, size: int, op: str, axis: int) -> None:
    wrong = (indices < 0) | (indices >= size)
    if wrong.any():
        place = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise IndexOutOfRangeError(
            f"{op}: the index {indices[place]} at {list(place)} is out of range for axis {axis}, which has {size} elements"
        )


def _read_checked(k: Emitter, index: str, place: Callable[[str], list[str]], size: DimLike) -> str:
    """The element of operand 0 at ``place(index)``, the index being checked first."""
    at = k.let(f"int64({index})")
    extent = k.dim(size)
    k.check(f"({at} >= 0) & ({at} < {extent})", at, extent)
    if isinstance(size, int) and size > 0:
        return k.load(0, place(at))
    dtype = k.dtype(0)  # an empty axis has nothing to read in place of a wrong index
    return k.where(f"{extent} > 0", lambda: k.load(0, place(at)), lambda: k.constant(0, dtype), dtype)


def _take_type(x: TensorType, indices: TensorType, *, axis: int) -> TensorType:
    _check_indices(indices, "take")
    return TensorType(x.dtype, (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))


def _take_reference(x: Array, indices: Array, *, axis: int) -> Array:
    _check_range(indices, x.shape[axis], "take", axis)
    return np.take(x, indices.astype(np.int64), axis=axis)


def _take_element(k: Emitter, index: Sequence[str], *, axis: int) -> str:
    end = axis + len(k.shape(1))
    found = k.load(1, index[axis:end])
    return _read_checked(k, found, lambda at: [*index[:axis], at, *index[end:]], k.shape(0)[axis])


def _take_samples() -> Iterable[Sample]:
    (x,) = arrays((5, 3))
    yield Sample((x, np.array([[4, 0], [0, 2]], np.int32)), {"axis": 0})
    yield Sample((x, np.array([2, 2, 1, 0], np.uint8)), {"axis": 1})
    yield Sample((x, np.array(3)), {"axis": 0})
    yield Sample((x, np.zeros(0, np.int64)), {"axis": -1})


@define(
    kind=Kind.INDEX,
    infer=_take_type,
    reference=_take_reference,
    vjp=lambda g, y, x, indices, *, axis: (take_adjoint.op(g, indices, axis=axis, size=x.shape[axis]), None),
    element=_take_element,
    cost=lambda y, x, indices, *, axis: (0, 2 * nbytes(y) + nbytes(indices)),
    samples=_take_samples,
    can_fail=True,
)
def take(x: Any, indices: Any, axis: int = 0) -> Tensor:
    """The slices of `x` at `indices` along `axis`: that axis is replaced by the axes of `indices`.

    Indices are integers from 0 to the axis's size less 1; any other, a negative one too, fails the run with
    `IndexOutOfRangeError`. Raises `DTypeError` for indices that are not integers.

    >>> import dlc
    >>> dlc.evaluate(dlc.take([1.0, 2.0, 3.0], [2, 0, 2])).tolist()
    [3.0, 1.0, 3.0]
    """
    t = wrap(x)
    return take.op(t, wrap(indices), axis=one_axis(axis, t.ndim, "take"))


def _take_adjoint_type(g: TensorType, indices: TensorType, *, axis: int, size: DimLike) -> TensorType:
    _check_indices(indices, "take_adjoint")
    if g.dtype not in NUMERIC:
        raise DTypeError(f"take_adjoint adds numbers, not {g}")
    if g.shape[axis : axis + indices.ndim] != indices.shape:
        raise ShapeError(f"take_adjoint: {g} does not have the axes of the indices {indices} at axis {axis}")
    return TensorType(g.dtype, (*g.shape[:axis], size, *g.shape[axis + indices.ndim :]))


def _take_adjoint_reference(g: Array, indices: Array, *, axis: int, size: int) -> Array:
    _check_range(indices, size, "take_adjoint", axis)
    wide = np.float64 if g.dtype.kind == "f" else g.dtype
    result = np.zeros((*g.shape[:axis], size, *g.shape[axis + indices.ndim :]), wide)
    lead, tail = g.shape[:axis], g.shape[axis + indices.ndim :]
    np.add.at(np.moveaxis(result, axis, 0), indices.astype(np.int64).ravel(),
              np.moveaxis(g.reshape(*lead, indices.size, *tail), axis, 0).astype(wide))  # fmt: skip
    return result.astype(g.dtype)


@define(
    kind=Kind.OPAQUE,
    infer=_take_adjoint_type,
    reference=_take_adjoint_reference,
    vjp=lambda h, y, g, indices, *, axis, size: (take.op(h, indices, axis=axis), None),
    cost=lambda y, g, indices, *, axis, size: (g.size, nbytes(y) + 2 * nbytes(g) + nbytes(indices)),
    samples=lambda: [
        Sample((*arrays((2, 2, 3)), np.array([[4, 0], [0, 2]], np.int32)), {"axis": 0, "size": 5}),
        Sample((*arrays((5, 4)), np.array([2, 2, 1, 0], np.uint8)), {"axis": 1, "size": 3}),
        Sample((*arrays((5, 0)), np.zeros(0, np.int64)), {"axis": 1, "size": 3}),
    ],
    can_fail=True,
)
def take_adjoint(g: Any, indices: Any, axis: int, size: Any) -> Tensor:
    """Zeros, of `size` along `axis`, to which the slices of `g` are added at `indices`: the adjoint of `take`.

    The axes of `indices` stand at `axis` in `g`. Equal indices add up, in row-major order of the indices. Indices are
    checked as in `take`.

    >>> import dlc
    >>> dlc.evaluate(dlc.ops.take_adjoint([1.0, 2.0, 3.0], [2, 0, 2], axis=0, size=4)).tolist()
    [2.0, 0.0, 4.0, 0.0]
    """
    t, i = wrap(g), wrap(indices)
    if not 0 <= axis <= t.ndim - i.ndim:
        raise AttributeValueError(f"take_adjoint: axis {axis} does not fit {t.type} with indices {i.type}")
    return take_adjoint.op(t, i, axis=axis, size=dim(size))


# ---------------------------------------------------------------- take_along_axis


def _take_along_axis_type(x: TensorType, indices: TensorType, *, axis: int) -> TensorType:
    _check_indices(indices, "take_along_axis")
    fits = x.ndim == indices.ndim and all(
        a == b for i, (a, b) in enumerate(zip(x.shape, indices.shape, strict=True)) if i != axis
    )
    if not fits:
        raise ShapeError(f"take_along_axis: {x} and the indices {indices} must have equal dims but for axis {axis}")
    return TensorType(x.dtype, indices.shape)


def _take_along_axis_reference(x: Array, indices: Array, *, axis: int) -> Array:
    _check_range(indices, x.shape[axis], "take_along_axis", axis)
    return np.take_along_axis(x, indices.astype(np.int64), axis=axis)


def _take_along_axis_element(k: Emitter, index: Sequence[str], *, axis: int) -> str:
    found = k.load(1, index)
    return _read_checked(k, found, lambda at: [*index[:axis], at, *index[axis + 1 :]], k.shape(0)[axis])


def _take_along_axis_vjp(g: Tensor, y: Tensor, x: Tensor, indices: Tensor, *, axis: int) -> tuple[Tensor, None]:
    """Each cotangent goes where its index points: a comparison with the axis's positions, summed over the indices."""
    size = x.shape[axis]
    small = isinstance(size, int) and size < 2**31 and indices.dtype in ("int8", "int16", "int32", "uint8", "uint16")
    dtype = "int32" if small else "int64"
    if indices.shape[axis] == 1:
        positions = along(iota((size,), 0, dtype), axis, x.ndim)
        return where(positions == convert(indices, dtype), g, scalar(0, g.dtype)), None
    positions = along(iota((size,), 0, dtype), axis, x.ndim + 1)
    hits = positions == expand_dims(convert(indices, dtype), axis)
    return sum_(where(hits, expand_dims(g, axis), scalar(0, g.dtype)), axis=axis + 1), None


def along(t: Tensor, axis: int, ndim: int) -> Tensor:
    """A vector laid along `axis` of `ndim` axes, the others being 1."""
    return reshape(t, tuple(t.shape[0] if a == axis else 1 for a in range(ndim)))


def _take_along_axis_samples() -> Iterable[Sample]:
    (x,) = arrays((3, 4))
    yield Sample((x, np.array([[1], [3], [0]], np.int32)), {"axis": -1})
    yield Sample((x, np.array([[1, 1], [3, 0], [0, 2]])), {"axis": 1})
    yield Sample((x, np.array([[2, 0, 2, 1]], np.uint8)), {"axis": 0})


@define(
    kind=Kind.INDEX,
    infer=_take_along_axis_type,
    reference=_take_along_axis_reference,
    vjp=_take_along_axis_vjp,
    element=_take_along_axis_element,
    cost=lambda y, x, indices, *, axis: (0, 2 * nbytes(y) + nbytes(indices)),
    samples=_take_along_axis_samples,
    can_fail=True,
)
def take_along_axis(x: Any, indices: Any, axis: int = -1) -> Tensor:
    """For each place of `indices` the element of `x` at that place, but for `axis`, where the index says which.

    `indices` has as many axes as `x` and the same dims, but for `axis`; they are checked as in `take`.

    >>> import dlc
    >>> dlc.evaluate(dlc.take_along_axis([[1.0, 2.0], [3.0, 4.0]], [[1], [0]], axis=1)).tolist()
    [[2.0], [3.0]]
    """
    t = wrap(x)
    return take_along_axis.op(t, wrap(indices), axis=one_axis(axis, t.ndim, "take_along_axis"))


# ---------------------------------------------------------------- positions and sizes


def _iota_type(*, shape: Shape, axis: int, dtype: str) -> TensorType:
    if dtype not in NUMERIC:
        raise DTypeError(f"iota counts in numbers, not {dtype}")
    if not 0 <= axis < len(shape):
        raise AttributeValueError(f"iota: axis {axis} does not exist in the shape [{','.join(map(str, shape))}]")
    return TensorType(dtype, shape)


def _iota_reference(*, shape: tuple[int, ...], axis: int, dtype: str) -> Array:
    column = tuple(-1 if a == axis else 1 for a in range(len(shape)))
    return np.broadcast_to(np.arange(shape[axis]).astype(dtype).reshape(column), shape)


@define(
    kind=Kind.INDEX,
    infer=_iota_type,
    reference=_iota_reference,
    vjp=lambda g, y, **_: (),
    element=lambda k, index, *, shape, axis, dtype: k.let(f"{dtype}({index[axis]})"),
    samples=lambda: [
        Sample((), {"shape": (3, 4), "axis": 1, "dtype": "int64"}, gradient=False),
        Sample((), {"shape": (3,), "axis": 0, "dtype": "float32"}, gradient=False),
    ],
)
def iota(shape: Any, axis: int = -1, dtype: Any = "int64") -> Tensor:
    """A tensor whose elements are their own positions along `axis`.

    >>> import dlc
    >>> dlc.evaluate(dlc.iota((2, 3), axis=1)).tolist()
    [[0, 1, 2], [0, 1, 2]]
    """
    dims = shape_of(shape)
    return iota.op(shape=dims, axis=one_axis(axis, len(dims), "iota"), dtype=dtype_name(dtype))


def _size_of_type(*, size: DimLike, dtype: str) -> TensorType:
    if dtype not in NUMERIC:
        raise DTypeError(f"size_of gives a number, not {dtype}")
    return TensorType(dtype)


@define(
    kind=Kind.INDEX,
    infer=_size_of_type,
    reference=lambda *, size, dtype: np.asarray(size).astype(dtype),
    vjp=lambda g, y, **_: (),
    element=lambda k, index, *, size, dtype: k.let(f"{dtype}({k.dim(size)})"),
    samples=lambda: [Sample((), {"size": 5, "dtype": "float32"}, gradient=False)],
)
def size_of(size: Any, dtype: Any = "float32") -> Tensor:
    """The value of a dim as a 0-d tensor; a plain int gives a constant.

    >>> import dlc
    >>> dlc.evaluate(dlc.ops.size_of(5)).item()
    5.0
    >>> dlc.ops.size_of(dlc.input("x", ("N", 3)).shape[0])
    <Tensor size_of f32[]>
    """
    d = dim(size)
    return size_of.op(size=d, dtype=dtype_name(dtype)) if isinstance(d, Dim) else scalar(d, dtype_name(dtype))


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
                f"fold: axis {axis} of {g} does not hold the windows of {size} by stride {stride} (dilation {dilation}) "
                f"over {length} elements"
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
            place[axis] = slice(start, start + (g.shape[axis] - 1) * stride + 1, stride)
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
        windows(h, axes, g.shape[g.ndim - len(axes) :], strides, dilations),  # type: ignore[arg-type]
    ),
    element=_fold_element,
    cost=lambda y, g, **_: (g.size, nbytes(y) + nbytes(g)),
    samples=_fold_samples,
)
def fold(g: Any, axes: Sequence[int], lengths: Any, strides: Any = None, dilations: Any = None) -> Tensor:
    """The sum of sliding windows put back in their places: the adjoint of `windows`, whose result `g` looks like.

    `lengths` gives the size of each of `axes` before `windows`. Raises `ShapeError` where windows and lengths do not fit.

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


# ---------------------------------------------------------------- composed: fills, counts and means


def full(shape: Any, value: bool | int | float, dtype: Any = None) -> Tensor:
    """A tensor of one value everywhere; the dtype follows the value where it is left out.

    >>> import dlc
    >>> dlc.evaluate(dlc.full((2, 2), 3.0)).tolist()
    [[3.0, 3.0], [3.0, 3.0]]
    """
    name = wrap(value).dtype if dtype is None else weak_dtype(value, dtype_name(dtype))
    return _filled(shape, value, name)


def _filled(shape: Any, value: bool | int | float, dtype: Any) -> Tensor:
    return broadcast_to(scalar(value, dtype_name(dtype)), shape_of(shape))


def zeros(shape: Any, dtype: Any = "float32") -> Tensor:
    """A tensor of zeros.

    >>> import dlc
    >>> dlc.zeros(("N", 3))
    <Tensor broadcast_to f32[N,3]>
    """
    return _filled(shape, 0, dtype)


def ones(shape: Any, dtype: Any = "float32") -> Tensor:
    """A tensor of ones.

    >>> import dlc
    >>> dlc.evaluate(dlc.ones(2)).tolist()
    [1.0, 1.0]
    """
    return _filled(shape, 1, dtype)


def zeros_like(x: Any, dtype: Any = None) -> Tensor:
    """Zeros of the shape, and unless told otherwise the dtype, of `x`.

    >>> import dlc
    >>> dlc.evaluate(dlc.zeros_like([1.0, 2.0])).tolist()
    [0.0, 0.0]
    """
    t = wrap(x)
    return _filled(t.shape, 0, dtype or t.dtype)


def ones_like(x: Any, dtype: Any = None) -> Tensor:
    """Ones of the shape, and unless told otherwise the dtype, of `x`.

    >>> import dlc
    >>> dlc.evaluate(dlc.ones_like([1.0, 2.0])).tolist()
    [1.0, 1.0]
    """
    t = wrap(x)
    return _filled(t.shape, 1, dtype or t.dtype)


def arange(start: Any, stop: Any = None, step: Any = 1, dtype: Any = "int64") -> Tensor:
    """start, start + step, ... before `stop`; one argument is `stop`. Bounds are ints or dims, the step an int not 0.

    >>> import dlc
    >>> dlc.evaluate(dlc.arange(2, 9, 3)).tolist()
    [2, 5, 8]
    >>> dlc.arange(dlc.input("x", ("N", 3)).shape[0])
    <Tensor iota i64[N]>
    """
    first, last = (0, start) if stop is None else (start, stop)
    for value in (first, last, step):
        if isinstance(value, bool) or not isinstance(value, (int, Dim)) or (value is step and not (isinstance(step, int) and step)):
            raise AttributeValueError(f"arange takes ints and dims, and an int step other than 0, not {value!r}")
    count = -((first - last) // step)
    numbers = iota((max(count, 0) if isinstance(count, int) else count,), 0, dtype)
    scaled = numbers if step == 1 else numbers * step
    return scaled if isinstance(first, int) and first == 0 else scaled + size_of_signed(first, numbers.dtype)


def size_of_signed(d: DimLike, dtype: str) -> Tensor:
    """Like `size_of`, for bounds that may be negative ints."""
    return scalar(d, dtype) if isinstance(d, int) else size_of(d, dtype)


def one_hot(indices: Any, depth: Any, dtype: Any = "float32", axis: int = -1) -> Tensor:
    """1 where a new axis of `depth` positions meets the index, 0 elsewhere; an index out of range gives only zeros.

    >>> import dlc
    >>> dlc.evaluate(dlc.one_hot([2, 0], 3)).tolist()
    [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    """
    t = wrap(indices)
    _check_indices(t.type, "one_hot")
    at = one_axis(axis, t.ndim + 1, "one_hot")
    positions = along(iota((dim(depth),), 0, "int64"), at, t.ndim + 1)
    return convert(positions == expand_dims(convert(t, "int64"), at), dtype_name(dtype))


def mean(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The mean over `axis` (None: all) of floating-point numbers; NaN over nothing.

    >>> import dlc
    >>> dlc.evaluate(dlc.mean([[1.0, 2.0], [3.0, 4.0]], axis=0)).tolist()
    [2.0, 3.0]
    """
    t = wrap(x)
    if t.dtype not in FLOATING:
        raise DTypeError(f"mean takes floating-point tensors, not {t.type}; convert with .astype('float32')")
    axes = normalized_axes(axis, t.ndim, "mean")
    return sum_(t, axis=axes, keepdims=keepdims) / size_of(product(t.shape[a] for a in axes), t.dtype)
