"""Sorting along an axis, and what follows from it: orders, the largest few, places in a sorted vector."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from dlc.dims import DimLike, dim
from dlc.dtypes import BOOL, NUMERIC
from dlc.errors import AttributeValueError, DTypeError, ShapeError
from dlc.ir import TensorType
from dlc.ops.arranging import part
from dlc.ops.definition import Array, Kind, Sample, arrays, define, located, nbytes
from dlc.ops.elementwise import convert, promoted
from dlc.ops.functions import isnan
from dlc.ops.gather import take_along_axis
from dlc.ops.reduce import any as any_
from dlc.ops.reduce import one_axis
from dlc.ops.reduce import sum as sum_
from dlc.ops.tensor import Tensor, wrap
from dlc.ops.view import expand_dims, reshape


def _argsort_type(x: TensorType, *, axis: int, descending: bool) -> TensorType:
    if x.dtype not in NUMERIC:
        raise DTypeError(f"argsort orders numbers, not {x}; convert with .astype('int8')")
    return TensorType("int64", x.shape)


def _argsort_reference(x: Array, *, axis: int, descending: bool) -> Array:
    """NaN stands above all numbers. Equal elements keep their order, whichever way the sort goes."""
    if not descending:
        return np.argsort(x, axis=axis, kind="stable").astype(np.int64)
    backwards = np.argsort(np.flip(x, axis), axis=axis, kind="stable")
    return np.flip(x.shape[axis] - 1 - backwards, axis).astype(np.int64)


def _argsort_samples() -> Iterable[Sample]:
    (x,) = arrays((3, 7, 2))
    ties = np.array([2.0, np.nan, -0.0, 1.0, 0.0, 2.0, -np.inf, np.nan, 1.0, np.inf], np.float32)
    for axis in (0, 1, -1):
        yield Sample((x,), {"axis": axis}, gradient=False)
        yield Sample((x,), {"axis": axis, "descending": True}, gradient=False)
    yield Sample((ties,), {"axis": 0}, gradient=False)
    yield Sample((ties,), {"axis": 0, "descending": True}, gradient=False)
    yield Sample(arrays((33,), dtype="int8", low=-4, high=4), {"axis": 0}, gradient=False)
    yield Sample((np.zeros((2, 0), np.float32),), {"axis": 1}, gradient=False)


def _argsort_cost(y: TensorType, x: TensorType, *, axis: int, descending: bool) -> tuple[DimLike, DimLike]:
    size = x.shape[axis]
    steps = max(size, 2).bit_length() if isinstance(size, int) else 10
    return 2 * steps * x.size, nbytes(x) + 2 * steps * nbytes(y)


@define(
    kind=Kind.OPAQUE,
    infer=_argsort_type,
    reference=_argsort_reference,
    cost=_argsort_cost,
    samples=_argsort_samples,
)
def argsort(x: Any, axis: int = -1, descending: bool = False) -> Tensor:
    """The int64 positions along `axis` that sort the numbers of `x`; equal elements keep their order.

    NaN stands above all numbers: last, or first where `descending`. Raises `DTypeError` for bools.

    >>> import dlc
    >>> dlc.evaluate(dlc.argsort([3.0, 1.0, 2.0])).tolist()
    [1, 2, 0]
    """
    t = wrap(x)
    return argsort.op(t, axis=one_axis(axis, t.ndim, "argsort"), descending=bool(descending))


@located
def sort(x: Any, axis: int = -1, descending: bool = False) -> Tensor:
    """The elements along `axis` in order. The cotangent of each goes to the element that it was.

    NaN stands above all numbers, as in `argsort`.

    >>> import dlc
    >>> dlc.evaluate(dlc.sort([3.0, 1.0, 2.0], descending=True)).tolist()
    [3.0, 2.0, 1.0]
    """
    t = wrap(x)
    if t.dtype in BOOL:
        return convert(sort(convert(t, "int8"), axis, descending), "bool")
    return take_along_axis(t, argsort(t, axis, descending), axis)


@located
def topk(x: Any, k: Any, axis: int = -1, largest: bool = True) -> tuple[Tensor, Tensor]:
    """The `k` largest (or smallest) elements along `axis`, the outermost first, and their int64 positions.

    Of equal elements the one that comes first is taken first. Raises `AttributeValueError` where the axis has not k.

    >>> import dlc
    >>> [dlc.evaluate(t).tolist() for t in dlc.topk([3.0, 1.0, 2.0], 2)]
    [[3.0, 2.0], [0, 2]]
    """
    t = wrap(x)
    at, count = one_axis(axis, t.ndim, "topk"), dim(k)
    size = t.shape[at]
    if isinstance(count, int) and (count < 0 or (isinstance(size, int) and count > size)):
        raise AttributeValueError(f"topk: axis {at} of {t.type} does not have {count} elements")
    positions = part(argsort(t, at, descending=largest), at, 0, count)
    return take_along_axis(t, positions, at), positions


@located
def searchsorted(vector: Any, values: Any, side: str = "left") -> Tensor:
    """Where values [...] would go into a vector sorted in ascending order, as int64 from 0 to its length.

    With "left" before elements that are equal, with "right" after them. NaN goes to the end. Each value is compared
    with all of the vector, which takes time but no order of steps.

    >>> import dlc
    >>> dlc.evaluate(dlc.searchsorted([1.0, 2.0, 2.0, 3.0], [2.0, 9.0])).tolist()
    [1, 4]
    """
    if side not in ("left", "right"):
        raise AttributeValueError(f"searchsorted: side={side!r} is unknown; use 'left' or 'right'")
    sorted_, wanted = promoted([vector, values])
    if sorted_.ndim != 1:
        raise ShapeError(f"searchsorted takes a vector to search, not {sorted_.type}")
    place = expand_dims(wanted, wanted.ndim)
    before = sorted_ < place if side == "left" else sorted_ <= place
    if wanted.dtype.startswith("float"):
        known = ~isnan(sorted_)
        before = before | (isnan(place) & (known if side == "left" else known | ~known))
    return sum_(convert(before, "int64"), axis=-1)


@located
def isin(x: Any, values: Any, invert: bool = False) -> Tensor:
    """Whether each element of `x` is among `values`, or, with `invert`, is not; NaN is never among them.

    Each element is compared with all of the values.

    >>> import dlc
    >>> dlc.evaluate(dlc.isin([1, 2, 3], [3, 1])).tolist()
    [True, False, True]
    """
    t, among = promoted([wrap(x), wrap(values)])
    found = any_(expand_dims(t, t.ndim) == reshape(among, (-1,)), axis=-1)
    return ~found if invert else found
