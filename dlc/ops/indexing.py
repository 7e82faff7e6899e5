"""What square brackets mean: ints, slices, None, Ellipsis and integer arrays, by NumPy's rules."""

from __future__ import annotations

import builtins
import operator
from collections.abc import Sequence
from types import EllipsisType
from typing import Any

import numpy as np

from dlc.dims import Dim, DimLike, Shape, product
from dlc.dtypes import INTEGER
from dlc.errors import AttributeValueError, DlcError
from dlc.ir import TensorType
from dlc.ops.definition import Array, located
from dlc.ops.elementwise import convert, where
from dlc.ops.fill import size_of
from dlc.ops.gather import take
from dlc.ops.tensor import Tensor, wrap
from dlc.ops.view import permute_dims, reshape, slice_

Indices = Tensor | Array  # an array's values are known while the graph is built, a tensor's when it runs


@located
def getitem(x: Any, index: Any) -> Tensor:
    """Indexing with ints, slices, None, Ellipsis and integer arrays or tensors, as NumPy does it.

    Arrays broadcast together, and ints beside them; the axes they give stand where the arrays do, or first where a
    slice or None parts the arrays. Negative numbers count from the end. An index out of range is an error: at once
    where it is known, else when the program runs. A bound beyond a named dim is checked when the dim is bound. Boolean
    masks are refused, since the result's shape would depend on data.

    >>> import dlc
    >>> dlc.input("x", ("N", 8))[:, 1:-1, None]
    <Tensor reshape f32[N,6,1]>
    >>> dlc.evaluate(dlc.constant([[1, 2, 3], [4, 5, 6]])[[0, 1], [-1, 0]]).tolist()
    [3, 4]
    """
    t = wrap(x)
    parts = _expanded(t, index)
    arrays = [i for i, p in enumerate(parts) if isinstance(p, (Tensor, np.ndarray))]
    if not arrays:
        return _picked(t, parts)
    together = [i for i, p in enumerate(parts) if p is not None and not isinstance(p, slice)]
    kept = [slice(None) if i in together else p for i, p in enumerate(parts) if p is not None]
    t = _picked(t, kept)
    axes = [sum(p is not None for p in parts[:i]) for i in together]
    adjacent = together == list(range(together[0], together[-1] + 1))
    found, at, rank = _taken(t, axes, [parts[i] for i in together], adjacent)
    shape = list(found.shape)
    # None gives an axis of 1 in its place among the axes that are left of x, which surround those of the arrays
    before = parts[: together[0]] if adjacent else []
    after = parts[together[-1] + 1 :] if adjacent else [p for i, p in enumerate(parts) if i not in together]
    lead = _with_ones(before, shape[:at])
    return reshape(found, (*lead, *shape[at : at + rank], *_with_ones(after, shape[at + rank :])))


def _with_ones(parts: Sequence[Any], dims: Sequence[DimLike]) -> list[DimLike]:
    rest = iter(dims)
    return [1 if p is None else next(rest) for p in parts]


def _expanded(t: Tensor, index: Any) -> list[Any]:
    """One part for each axis, and None for each new one: slices, ints, arrays and tensors."""
    given = list(index) if isinstance(index, tuple) else [index]
    parts = [p if p is None or isinstance(p, (slice, EllipsisType)) else _number(p, t.type) for p in given]
    consumed = builtins.sum(p is not None and not isinstance(p, EllipsisType) for p in parts)
    ellipses = [i for i, p in enumerate(parts) if isinstance(p, EllipsisType)]
    if consumed > t.ndim or len(ellipses) > 1:
        raise AttributeValueError(f"indexing with {len(parts)} parts does not fit {t.type}")
    at = ellipses[0] if ellipses else len(parts)
    parts[at : at + 1] = [slice(None)] * (t.ndim - consumed)
    return parts


def leading_parts(t: Tensor, index: Any) -> tuple[tuple[Any, ...], int]:
    """An index less the axes that it takes as a whole at its end, and how many those are."""
    parts = _expanded(t, index)
    whole = 0
    while parts and isinstance(parts[-1], slice) and parts[-1] == slice(None):
        parts.pop()
        whole += 1
    return tuple(parts), whole


def _number(part: Any, type: TensorType) -> int | Indices:
    """An int, an array of ints, or a tensor of integers."""
    if isinstance(part, (bool, np.bool_)):
        raise _mask(f"{part}", type)
    if isinstance(part, (list, np.ndarray, np.generic)):
        array = _array(part, type)
        return int(array) if array.ndim == 0 else array
    if isinstance(part, int):
        return part
    try:
        found = wrap(part)
    except DlcError:
        raise AttributeValueError(
            f"index {part!r} of {type}: use ints, slices, None, ..., or integer arrays and tensors"
        ) from None
    if found.dtype == "bool":
        raise _mask(f"{found.type}", type)
    if found.dtype not in INTEGER:
        raise AttributeValueError(f"an index of {type} is of integers, not {found.type}; convert with .astype('int64')")
    return found


def _array(part: Any, type: TensorType) -> Array:
    try:
        array = np.asarray(part)
    except ValueError:
        raise AttributeValueError(f"index {part!r} of {type}: rows of unequal lengths are not an array") from None
    if array.dtype.kind == "O":
        raise AttributeValueError(f"index {part!r} of {type}: join tensors with dlc.stack to index with them")
    if array.dtype.kind == "b":
        raise _mask(f"bool{list(array.shape)}", type)
    if array.size == 0 and isinstance(part, list):
        return array.astype(np.int64)
    if array.dtype.kind not in "iu":
        raise AttributeValueError(f"index {part!r} of {type}: an index is of integers, not {array.dtype}")
    return array.astype(np.int64)


def _mask(mask: str, type: TensorType) -> AttributeValueError:
    return AttributeValueError(
        f"the boolean mask {mask} of {type} would give a shape that depends on data; choose by "
        "dlc.where(mask, x, other), or give the positions as integers"
    )


# ---------------------------------------------------------------- slices and ints


def _picked(x: Tensor, parts: Sequence[Any]) -> Tensor:
    """`x` under one slice or int for each axis, and None for each new one."""
    starts: list[DimLike] = []
    sizes: list[DimLike] = []
    steps: list[int] = []
    shape: list[DimLike] = []
    axis = 0
    for part in parts:
        if part is None:
            shape.append(1)
            continue
        start, size, step, keep = _bounds(part, x.shape[axis], axis, x.type)
        starts.append(start)
        sizes.append(size)
        steps.append(step)
        if keep:
            shape.append(size)
        axis += 1
    whole = all(s == 0 and t == 1 and n == d for s, t, n, d in zip(starts, steps, sizes, x.shape, strict=True))
    picked = x if whole else slice_.op(x, starts=tuple(starts), sizes=tuple(sizes), steps=tuple(steps))
    return reshape(picked, tuple(shape))


def _bounds(part: slice | int, d: DimLike, axis: int, type: TensorType) -> tuple[DimLike, DimLike, int, bool]:
    """(start, size, step, whether the axis stays) of a slice or int on an axis of size `d`."""
    if not isinstance(part, slice):
        if isinstance(d, int) and not -d <= part < d:
            raise AttributeValueError(f"index {part} is out of range for axis {axis} of {type}")
        return (part if part >= 0 else d + part), 1, 1, False
    start, stop = _bound(part.start, type), _bound(part.stop, type)
    step = 1 if part.step is None else _bound(part.step, type)
    if not isinstance(step, int) or step == 0:
        raise AttributeValueError(f"the step of a slice is an int other than 0, not {step!r}")
    if isinstance(d, int) and all(v is None or isinstance(v, int) for v in (start, stop)):
        picked = range(d)[slice(start, stop, step)]
        return (picked.start if len(picked) else 0), len(picked), step, True
    first: DimLike = _from_end(start, d, 0 if step > 0 else d - 1)
    end: DimLike = _from_end(stop, d, d if step > 0 else -1)
    size = -((first - end) // step) if step > 0 else -((end - first) // -step)
    if isinstance(size, int) and size < 0:
        size = 0
    return first, size, step, True


def _bound(bound: Any, type: TensorType) -> Any:
    """A bound or step of a slice: None, an int or a dim."""
    if bound is None or isinstance(bound, Dim):
        return bound
    try:
        return operator.index(bound)
    except (TypeError, DlcError):
        raise AttributeValueError(
            f"a slice of {type} has bounds of ints and named dims, not {bound!r}; for a place that is computed index "
            "with start + dlc.arange(size)"
        ) from None


def _from_end(bound: Any, d: DimLike, default: DimLike) -> DimLike:
    if bound is None:
        return default
    if isinstance(bound, Dim):
        return bound
    return bound if bound >= 0 else d + bound


# ---------------------------------------------------------------- integer arrays


def _taken(
    t: Tensor, axes: Sequence[int], given: Sequence[int | Indices], adjacent: bool
) -> tuple[Tensor, int, int]:
    """`t` with `axes` replaced by those of indices that broadcast; which axis these begin at, and how many they are."""
    dims = tuple(t.shape[a] for a in axes)
    rest = [a for a in range(t.ndim) if a not in axes]
    at = axes[0] if adjacent else 0
    if not adjacent or len(axes) > 1:
        order = (*rest[:at], *axes, *rest[at:])
        t = permute_dims(t, order)
        t = reshape(t, (*t.shape[:at], product(dims), *t.shape[at + len(axes) :]))
    indices = [i if isinstance(i, Tensor) else _known(np.asarray(i), d, a, t.type)
               for i, d, a in zip(given, dims, axes, strict=True)]  # fmt: skip
    place = _place(indices, dims)
    return take(t, place, axis=at), at, place.ndim


def _known(indices: Array, d: DimLike, axis: int, type: TensorType) -> Indices:
    """Known indices, from the axis's start; raises for one out of range."""
    if not isinstance(d, int):
        return wrap(indices)
    wrong = (indices < -d) | (indices >= d)
    if wrong.any():
        raise AttributeValueError(
            f"index {indices[wrong].flat[0]} is out of range for axis {axis}, of {d} elements, of {type}"
        )
    return np.where(indices < 0, indices + d, indices)


def _place(indices: Sequence[Indices], dims: Shape) -> Tensor:
    """The place in the flat space of `dims` of one index for each; one that no check lets through if out of range."""
    known = [i for i in indices if not isinstance(i, Tensor)]
    try:
        if len(known) == len(indices):
            return wrap(_flat(np.broadcast_arrays(*known), dims))
    except ValueError:
        shapes = " and ".join(str(list(i.shape)) for i in known)
        raise AttributeValueError(f"indices of the shapes {shapes} do not broadcast together") from None
    place: Tensor | None = None
    inside: Tensor | None = None
    for given, d in zip(indices, dims, strict=True):
        i = _from_start(wrap(given), d)
        if len(indices) == 1:
            return i
        if isinstance(given, Tensor) or not isinstance(d, int):
            fits = (i >= 0) & (i < size_of(d, "int64"))
            inside = fits if inside is None else inside & fits
        place = i if place is None else place * size_of(d, "int64") + i
    assert place is not None and inside is not None
    return where(inside, place, -1)


def _flat(indices: Sequence[Array], dims: Shape) -> Array:
    place = np.zeros_like(indices[0])
    for i, d in zip(indices, dims, strict=True):
        place = place * d + i
    return place


def _from_start(index: Tensor, d: DimLike) -> Tensor:
    """Negative numbers counted from the axis's end; those out of range stay as they are."""
    if index.dtype.startswith("uint"):
        return index if index.dtype != "uint64" else convert(index, "int64")
    wide, size = convert(index, "int64"), size_of(d, "int64")
    return where((wide < 0) & (wide >= -size), wide + size, wide)
