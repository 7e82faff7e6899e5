"""Elements read at computed places, and the adjoint of that.

Indices are of any integer dtype. An index below 0 or beyond its axis is an error, found while the program runs: a
label -1 is a mistake in the data far more often than a wish for the last class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from dlc.dims import DimLike, dim
from dlc.dtypes import NUMERIC
from dlc.errors import AttributeValueError, DTypeError, IndexOutOfRangeError, ShapeError
from dlc.ir import TensorType
from dlc.ops.definition import Array, Emitter, Kind, Sample, arrays, define, nbytes
from dlc.ops.elementwise import convert, where
from dlc.ops.fill import along, check_indices, iota
from dlc.ops.leaves import scalar
from dlc.ops.reduce import one_axis
from dlc.ops.reduce import sum as sum_
from dlc.ops.tensor import Tensor, wrap
from dlc.ops.view import expand_dims

# ---------------------------------------------------------------- take


def check_range(indices: Array, size: int, op: str, axis: int) -> None:
    """Raise `IndexOutOfRangeError` for an index below 0 or not below `size`."""
    wrong = (indices < 0) | (indices >= size)
    if wrong.any():
        place = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise IndexOutOfRangeError(
            f"{op}: the index {indices[place]} at {list(place)} is out of range for axis {axis} of {size} elements"
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
    check_indices(indices, "take")
    return TensorType(x.dtype, (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))


def _take_reference(x: Array, indices: Array, *, axis: int) -> Array:
    check_range(indices, x.shape[axis], "take", axis)
    return np.take(x, indices.astype(np.int64), axis=axis)


def _take_element(k: Emitter, index: Sequence[str], *, axis: int) -> str:
    end = axis + len(k.shape(1))
    found = k.load(1, index[axis:end])
    return _read_checked(k, found, lambda at: [*index[:axis], at, *index[end:]], k.shape(0)[axis])


def _take_vjp(g: Tensor, y: Tensor, x: Tensor, indices: Tensor, *, axis: int) -> tuple[Tensor, None]:
    return take_adjoint.op(g, indices, axis=axis, size=x.shape[axis]), None


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
    vjp=_take_vjp,
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
    check_indices(indices, "take_adjoint")
    if g.dtype not in NUMERIC:
        raise DTypeError(f"take_adjoint adds numbers, not {g}")
    if g.shape[axis : axis + indices.ndim] != indices.shape:
        raise ShapeError(f"take_adjoint: {g} does not have the axes of the indices {indices} at axis {axis}")
    return TensorType(g.dtype, (*g.shape[:axis], size, *g.shape[axis + indices.ndim :]))


def _take_adjoint_reference(g: Array, indices: Array, *, axis: int, size: int) -> Array:
    check_range(indices, size, "take_adjoint", axis)
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
    check_indices(indices, "take_along_axis")
    fits = x.ndim == indices.ndim and all(
        a == b for i, (a, b) in enumerate(zip(x.shape, indices.shape, strict=True)) if i != axis
    )
    if not fits:
        raise ShapeError(f"take_along_axis: {x} and the indices {indices} must have equal dims but for axis {axis}")
    return TensorType(x.dtype, indices.shape)


def _take_along_axis_reference(x: Array, indices: Array, *, axis: int) -> Array:
    check_range(indices, x.shape[axis], "take_along_axis", axis)
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
