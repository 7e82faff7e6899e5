"""Tensors made of nothing but a shape: positions, sizes of dims, fills, ranges; and indices as rows of 0 and 1."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlc.dims import Dim, DimLike, Shape, dim, shape_of
from dlc.dtypes import INTEGER, NUMERIC, dtype_name, weak_dtype
from dlc.errors import AttributeValueError, DTypeError
from dlc.ir import TensorType
from dlc.ops.definition import Array, Kind, Sample, define, located
from dlc.ops.elementwise import convert
from dlc.ops.leaves import scalar
from dlc.ops.reduce import one_axis
from dlc.ops.tensor import Tensor, wrap
from dlc.ops.view import broadcast_to, expand_dims, reshape

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


# ---------------------------------------------------------------- fills and ranges


@located
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


@located
def zeros(shape: Any, dtype: Any = "float32") -> Tensor:
    """A tensor of zeros.

    >>> import dlc
    >>> dlc.zeros(("N", 3))
    <Tensor broadcast_to f32[N,3]>
    """
    return _filled(shape, 0, dtype)


@located
def ones(shape: Any, dtype: Any = "float32") -> Tensor:
    """A tensor of ones.

    >>> import dlc
    >>> dlc.evaluate(dlc.ones(2)).tolist()
    [1.0, 1.0]
    """
    return _filled(shape, 1, dtype)


@located
def empty(shape: Any, dtype: Any = "float32") -> Tensor:
    """A tensor of zeros: what a graph computes is the same at each run, so nothing is left unset.

    >>> import dlc
    >>> dlc.empty((2, 3)).shape
    (2, 3)
    """
    return _filled(shape, 0, dtype)


@located
def empty_like(x: Any, dtype: Any = None) -> Tensor:
    """Zeros, as `empty`, of the shape, and unless told otherwise the dtype, of `x`.

    >>> import dlc
    >>> dlc.empty_like([1.0, 2.0]).dtype
    'float32'
    """
    return zeros_like(x, dtype)


@located
def asarray(value: Any, dtype: Any = None) -> Tensor:
    """A tensor of a tensor, parameter, array, number or list; converted where `dtype` says so.

    >>> import dlc
    >>> dlc.asarray([1, 2], dtype="float64")
    <Tensor astype f64[2]>
    """
    t = wrap(value)
    return t if dtype is None else convert(t, dtype_name(dtype))


@located
def from_dlpack(value: Any) -> Tensor:
    """A constant of another library's CPU array or tensor, by DLPack; its numbers are copied.

    >>> import dlc, numpy as np
    >>> dlc.evaluate(dlc.from_dlpack(np.arange(3))).tolist()
    [0, 1, 2]
    """
    if not hasattr(value, "__dlpack__"):
        raise DTypeError(f"from_dlpack takes what has __dlpack__, not {type(value).__name__}; use dlc.constant")
    try:
        return wrap(np.from_dlpack(value))
    except (BufferError, RuntimeError) as error:
        raise DTypeError(f"from_dlpack: {error}; copy it to a NumPy array") from error


@located
def zeros_like(x: Any, dtype: Any = None) -> Tensor:
    """Zeros of the shape, and unless told otherwise the dtype, of `x`.

    >>> import dlc
    >>> dlc.evaluate(dlc.zeros_like([1.0, 2.0])).tolist()
    [0.0, 0.0]
    """
    t = wrap(x)
    return _filled(t.shape, 0, dtype or t.dtype)


@located
def ones_like(x: Any, dtype: Any = None) -> Tensor:
    """Ones of the shape, and unless told otherwise the dtype, of `x`.

    >>> import dlc
    >>> dlc.evaluate(dlc.ones_like([1.0, 2.0])).tolist()
    [1.0, 1.0]
    """
    t = wrap(x)
    return _filled(t.shape, 1, dtype or t.dtype)


@located
def full_like(x: Any, value: bool | int | float, dtype: Any = None) -> Tensor:
    """One value everywhere, of the shape, and unless told otherwise the dtype, of `x`.

    >>> import dlc
    >>> dlc.evaluate(dlc.full_like([1.0, 2.0], 7)).tolist()
    [7.0, 7.0]
    """
    t = wrap(x)
    return full(t.shape, value, dtype or t.dtype)


@located
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
        if (
            isinstance(value, bool)
            or not isinstance(value, (int, Dim))
            or (value is step and not (isinstance(step, int) and step))
        ):
            raise AttributeValueError(f"arange takes ints and dims, and an int step other than 0, not {value!r}")
    count = -((first - last) // step)
    numbers = iota((max(count, 0) if isinstance(count, int) else count,), 0, dtype)
    scaled = numbers if step == 1 else numbers * step
    return scaled if isinstance(first, int) and first == 0 else scaled + size_of_signed(first, numbers.dtype)


def size_of_signed(d: DimLike, dtype: str) -> Tensor:
    """Like `size_of`, for bounds that may be negative ints."""
    return scalar(d, dtype) if isinstance(d, int) else size_of(d, dtype)


# ---------------------------------------------------------------- indices as rows


def check_indices(indices: TensorType, op: str) -> None:
    if indices.dtype not in INTEGER:
        raise DTypeError(f"{op} takes integer indices, not {indices}; convert with .astype('int64')")


def along(t: Tensor, axis: int, ndim: int) -> Tensor:
    """A vector laid along `axis` of `ndim` axes, the others being 1."""
    return reshape(t, tuple(t.shape[0] if a == axis else 1 for a in range(ndim)))


@located
def one_hot(indices: Any, depth: Any, dtype: Any = "float32", axis: int = -1) -> Tensor:
    """1 where a new axis of `depth` positions meets the index, 0 elsewhere; an index out of range gives only zeros.

    >>> import dlc
    >>> dlc.evaluate(dlc.one_hot([2, 0], 3)).tolist()
    [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    """
    t = wrap(indices)
    check_indices(t.type, "one_hot")
    at = one_axis(axis, t.ndim + 1, "one_hot")
    positions = along(iota((dim(depth),), 0, "int64"), at, t.ndim + 1)
    return convert(positions == expand_dims(convert(t, "int64"), at), dtype_name(dtype))
