"""Reductions over axes: an initial value and an associative combination."""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import Any

import numpy as np

from dlc import dtypes
from dlc.dims import Shape
from dlc.errors import AttributeValueError, DTypeError, ShapeError
from dlc.ir import TensorType
from dlc.ops.definition import CATALOGUE, Array, Defined, Kind, Sample, arrays, define
from dlc.ops.elementwise import convert, where
from dlc.ops.leaves import scalar
from dlc.ops.tensor import Tensor, wrap

Axis = int | Sequence[int] | None


def normalized_axes(axis: Axis, ndim: int, op: str) -> tuple[int, ...]:
    """`axis` as sorted axes >= 0; None means all. Raises `AttributeValueError` when one is out of range or repeated."""
    axes: tuple[Any, ...] = (axis,)
    if axis is None:
        axes = tuple(range(ndim))
    elif isinstance(axis, (tuple, list)):
        axes = tuple(axis)
    axes = tuple([int(a) if isinstance(a, np.integer) else a for a in axes])
    for a in axes:
        if not isinstance(a, int) or isinstance(a, bool) or not -ndim <= a < ndim:
            raise AttributeValueError(
                f"{op}: axis {a!r} does not exist in a tensor of {ndim} axes; use {-ndim} to {ndim - 1}"
            )
    result = tuple(sorted(a % ndim for a in axes))
    if len(set(result)) != len(result):
        raise AttributeValueError(f"{op}: axis={axis} names an axis twice")
    return result


def one_axis(axis: int, ndim: int, op: str) -> int:
    """`axis` counted from the front; raises `AttributeValueError` where it does not exist."""
    return normalized_axes((axis,), ndim, op)[0]


def without(shape: Shape, axes: Sequence[int]) -> Shape:
    """`shape` less some axes."""
    return tuple(d for i, d in enumerate(shape) if i not in axes)


def kept(shape: Shape, axes: Sequence[int]) -> Shape:
    """`shape` with some axes made 1."""
    return tuple(1 if i in axes else d for i, d in enumerate(shape))


def restored(t: Tensor, shape: Shape, axes: Sequence[int]) -> Tensor:
    """A reduced tensor with its axes back as 1, so that it broadcasts against `shape`."""
    from dlc.ops.view import reshape

    return reshape(t, kept(shape, axes))


def _samples(dtype: str = "float32", gradient: bool = True) -> Callable[[], Iterable[Sample]]:
    def samples() -> Iterable[Sample]:
        (x,) = arrays((3, 4, 5), dtype=dtype)
        for axis in (None, 0, 1, -1, (0, 2)):
            yield Sample((x,), {"axis": axis}, gradient)
        yield Sample((x,), {"axis": 1, "keepdims": True}, gradient)

    return samples


def reduction(
    *,
    accepts: Sequence[str],
    reference: Callable[..., Any],
    init: str,
    combine: str,
    vjp: Callable[..., Any] | None = None,
    empty: bool = True,
    result: str | None = None,
    accumulator: Callable[[str], str] = lambda dtype: dtype,
    samples: Callable[[], Iterable[Sample]],
) -> Callable[[Callable[..., Any]], Defined[...]]:
    """Define a reduction from a signature ``(x, axis=None, keepdims=False)`` and a docstring alone.

    `init` and `combine` are expression texts in {T}, {a} and {b}; `empty` says whether an empty axis has a value;
    `accumulator` gives the dtype that operands of a dtype are converted to first.
    """

    def decorate(function: Callable[..., Any]) -> Defined[...]:
        name = function.__name__

        def infer(x: TensorType, *, axes: tuple[int, ...]) -> TensorType:
            if x.dtype not in accepts:
                raise DTypeError(f"{name} does not take {x}; convert with .astype('{accepts[0]}')")
            if not empty and builtins.any(isinstance(x.shape[a], int) and x.shape[a] == 0 for a in axes):
                raise ShapeError(f"{name} over an empty axis of {x} has no value")
            return TensorType(result or x.dtype, without(x.shape, axes))

        @wraps(function)
        def public(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
            t = wrap(x)
            t = convert(t, accumulator(t.dtype))
            axes = normalized_axes(axis, t.ndim, name)
            reduced = CATALOGUE[name](t, axes=axes)
            return restored(reduced, t.shape, axes) if keepdims else reduced

        return define(
            kind=Kind.REDUCE, infer=infer, reference=reference, vjp=vjp, init=init, combine=combine, samples=samples
        )(public)

    return decorate


def widest(dtype: str) -> str:
    """Sums of bools and small integers are int64 or uint64, as in the Array API."""
    return "uint64" if dtype in dtypes.UNSIGNED else dtype if dtype in dtypes.FLOATING else "int64"


def _spread(g: Tensor, x: Tensor, axes: tuple[int, ...]) -> Tensor:
    from dlc.ops.view import broadcast_to

    return broadcast_to(restored(g, x.shape, axes), x.shape)


def _share_among_ties(g: Tensor, y: Tensor, x: Tensor, axes: tuple[int, ...]) -> Tensor:
    """The cotangent of an extremum, shared equally among the elements that attain it."""
    tie = x == restored(y, x.shape, axes)
    count = sum(convert(tie, g.dtype), axis=axes, keepdims=True)
    return where(tie, restored(g, x.shape, axes) / count, scalar(0, g.dtype))


def _sum_reference(x: Array, *, axes: tuple[int, ...]) -> Array:
    wide = np.float64 if x.dtype.kind == "f" else x.dtype
    return np.sum(x, axis=axes, dtype=wide).astype(x.dtype)


@reduction(
    accepts=dtypes.NUMERIC,
    accumulator=widest,
    reference=_sum_reference,
    init="{T}(0)",
    combine="{a} + {b}",
    vjp=lambda g, y, x, *, axes: (_spread(g, x, axes),),
    samples=_samples(),
)
def sum(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """The sum over `axis` (None: all); bools and small integers sum as int64, the empty sum is 0.

    >>> import dlc
    >>> dlc.evaluate(dlc.sum([[1.0, 2.0], [3.0, 4.0]], axis=0)).tolist()
    [4.0, 6.0]
    """


def _prod_reference(x: Array, *, axes: tuple[int, ...]) -> Array:
    wide = np.float64 if x.dtype.kind == "f" else x.dtype
    return np.prod(x, axis=axes, dtype=wide).astype(x.dtype)


def _prod_vjp(g: Tensor, y: Tensor, x: Tensor, *, axes: tuple[int, ...]) -> tuple[Tensor]:
    """The products of all others, those before times those after, so that zeros need no care."""
    from dlc.dims import product
    from dlc.ops.cumulative import cumulative_prod
    from dlc.ops.view import inverse_permutation, permute_dims, reshape

    order = (*(a for a in range(x.ndim) if a not in axes), *axes)
    moved = permute_dims(x, order)
    rows = reshape(moved, (*without(x.shape, axes), product(x.shape[a] for a in axes)))
    others = cumulative_prod(rows, exclusive=True) * cumulative_prod(rows, reverse=True, exclusive=True)
    return (_spread(g, x, axes) * permute_dims(reshape(others, moved.shape), inverse_permutation(order)),)


@reduction(
    accepts=dtypes.NUMERIC,
    accumulator=widest,
    reference=_prod_reference,
    init="{T}(1)",
    combine="multiplied({a}, {b})",
    vjp=_prod_vjp,
    samples=_samples(),
)
def prod(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """The product over `axis` (None: all); bools and small integers multiply as int64, the empty product is 1.

    The derivative is exact at zeros.

    >>> import dlc
    >>> dlc.evaluate(dlc.prod([[1.0, 2.0], [3.0, 4.0]], axis=0)).tolist()
    [3.0, 8.0]
    """


@reduction(
    accepts=dtypes.NUMERIC,
    empty=False,
    reference=lambda x, *, axes: np.max(x, axis=axes, initial=dtypes.extremes(x.dtype.name)[0]),
    init="lowest({T})",
    combine="maximum({a}, {b})",
    vjp=lambda g, y, x, *, axes: (_share_among_ties(g, y, x, axes),),
    samples=_samples(),
)
def max(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """The maximum over `axis` (None: all); NaN wins. The cotangent is shared equally among ties.

    Over a named dim that is 0 at the call it is -inf, or the lowest integer; over a plain 0, a `ShapeError`.

    >>> import dlc
    >>> dlc.evaluate(dlc.max([[1.0, 2.0], [3.0, 4.0]], axis=0)).tolist()
    [3.0, 4.0]
    """


@reduction(
    accepts=dtypes.NUMERIC,
    empty=False,
    reference=lambda x, *, axes: np.min(x, axis=axes, initial=dtypes.extremes(x.dtype.name)[1]),
    init="highest({T})",
    combine="minimum({a}, {b})",
    vjp=lambda g, y, x, *, axes: (_share_among_ties(g, y, x, axes),),
    samples=_samples(),
)
def min(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """The minimum over `axis` (None: all); NaN wins. The cotangent is shared equally among ties.

    Over a named dim that is 0 at the call it is inf, or the highest integer; over a plain 0, a `ShapeError`.

    >>> import dlc
    >>> dlc.evaluate(dlc.min([[1.0, 2.0], [3.0, 4.0]], axis=0)).tolist()
    [1.0, 2.0]
    """


@reduction(
    accepts=dtypes.BOOL,
    reference=lambda x, *, axes: np.any(x, axis=axes),
    init="False",
    combine="{a} | {b}",
    samples=_samples("bool", gradient=False),
)
def any(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """Whether any bool over `axis` is true.

    >>> import dlc
    >>> dlc.evaluate(dlc.any(dlc.constant([True, False]))).item()
    True
    """


@reduction(
    accepts=dtypes.BOOL,
    reference=lambda x, *, axes: np.all(x, axis=axes),
    init="True",
    combine="{a} & {b}",
    samples=_samples("bool", gradient=False),
)
def all(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """Whether all bools over `axis` are true.

    >>> import dlc
    >>> dlc.evaluate(dlc.all(dlc.constant([True, False]))).item()
    False
    """


def _best_first(name: str) -> Callable[..., Any]:
    def reference(x: Array, *, axes: tuple[int, ...]) -> Array:
        moved = np.moveaxis(x, axes, range(-len(axes), 0))
        kept = moved.shape[: x.ndim - len(axes)]
        flat = moved.reshape(*kept, math.prod(moved.shape[len(kept) :]))
        if not flat.shape[-1]:
            return np.full(kept, -1, np.int64)
        return np.asarray(getattr(np, name)(flat, axis=-1), np.int64)

    return reference


@reduction(
    accepts=dtypes.NUMERIC,
    empty=False,
    result="int64",
    reference=_best_first("argmax"),
    init="lowest({T})",
    combine="{a} > {b}",
    samples=_samples(gradient=False),
)
def argmax(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """The int64 position of the first maximum over `axis`, counted in row-major order over the reduced axes; NaN wins.

    Over a named dim that is 0 at the call it is -1; over a plain 0, a `ShapeError`.

    >>> import dlc
    >>> dlc.evaluate(dlc.argmax([[1.0, 5.0], [3.0, 4.0]], axis=1)).tolist()
    [1, 1]
    """


@reduction(
    accepts=dtypes.NUMERIC,
    empty=False,
    result="int64",
    reference=_best_first("argmin"),
    init="highest({T})",
    combine="{a} < {b}",
    samples=_samples(gradient=False),
)
def argmin(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """The int64 position of the first minimum over `axis`, counted in row-major order over the reduced axes; NaN wins.

    Over a named dim that is 0 at the call it is -1; over a plain 0, a `ShapeError`.

    >>> import dlc
    >>> dlc.evaluate(dlc.argmin([[1.0, 5.0], [3.0, 4.0]], axis=1)).tolist()
    [0, 0]
    """
