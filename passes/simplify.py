"""Algebraic simplification. Every rule is exact for NaN, infinities and signed zeros: x + 0.0 is not x for x = -0.0,
and x * 0 is not 0 for x = inf, so such rules are stated for integers only.
"""

from __future__ import annotations

from typing import Any

from dlc import ops
from dlc.dims import Shape
from dlc.dtypes import FLOATING, INTEGER, can_cast_without_loss
from dlc.ir import TensorType
from dlc.ops import Tensor
from dlc.passes.rewrite import Rule, anything, rewriter, rule

RULES: list[Rule] = []


def _simplification(pattern: Any, **options: Any) -> Any:
    """`rule`, entered into this pass."""

    def decorate(replacement: Any) -> Rule:
        RULES.append(rule(pattern, **options)(replacement))
        return RULES[-1]

    return decorate


def _same_type(x: Tensor, result: Tensor) -> bool:
    """A constant of more elements or axes than x would make the result larger than x."""
    return x.type == result.type


def _filled(value: float, like: Tensor) -> Tensor:
    return ops.broadcast_to(ops.scalar(value, like.dtype), like.shape)


# ---------------------------------------------------------------- identities of arithmetic


@_simplification(lambda x: x * 1, where=_same_type)
def times_one(x: Tensor) -> Tensor:
    return x


@_simplification(
    lambda x: x * -1, where=_same_type, types={"x": ("float32", "float64", "int8", "int16", "int32", "int64")}
)
def times_minus_one(x: Tensor) -> Tensor:
    return -x


@_simplification(lambda x: x / 1, where=_same_type)
def over_one(x: Tensor) -> Tensor:
    return x


@_simplification(lambda x: x - 0.0, where=_same_type)
def minus_zero(x: Tensor) -> Tensor:
    return x


@_simplification(lambda x: x + -0.0, where=_same_type)
def plus_negative_zero(x: Tensor) -> Tensor:
    return x


@_simplification(lambda x: x + 0, where=_same_type, types={"x": INTEGER})
def integer_plus_zero(x: Tensor) -> Tensor:
    return x


@_simplification(lambda x: x * 0, types={"x": INTEGER})
def integer_times_zero(x: Tensor, result: Tensor) -> Tensor:
    return _filled(0, result)


@_simplification(lambda x: x - x, types={"x": INTEGER})
def integer_minus_itself(x: Tensor) -> Tensor:
    return _filled(0, x)


@_simplification(lambda x: ops.negative(-x))
def double_negation(x: Tensor) -> Tensor:
    return x


@_simplification(lambda x, y: x + -y)
def plus_negative(x: Tensor, y: Tensor) -> Tensor:
    return x - y


@_simplification(lambda x, y: x - (-y))
def minus_negative(x: Tensor, y: Tensor) -> Tensor:
    return x + y


@_simplification(lambda x, y: -x * -y)
def negative_times_negative(x: Tensor, y: Tensor) -> Tensor:
    return x * y


@_simplification(lambda d: ops.masked_multiply(1, d), where=lambda d, result: d.type == result.type)
def masked_by_one(d: Tensor) -> Tensor:
    return d


@_simplification(lambda x: ops.maximum(x, x))
def maximum_of_itself(x: Tensor) -> Tensor:
    return x


@_simplification(lambda x: ops.minimum(x, x))
def minimum_of_itself(x: Tensor) -> Tensor:
    return x


@_simplification(lambda x: ops.relu(ops.relu(x)))
def relu_of_relu(x: Tensor) -> Tensor:
    return ops.relu(x)


@_simplification(lambda x: ops.abs(ops.abs(x)))
def abs_of_abs(x: Tensor) -> Tensor:
    return ops.abs(x)


@_simplification(lambda x: ops.abs(-x))
def abs_of_negative(x: Tensor) -> Tensor:
    return ops.abs(x)


# ---------------------------------------------------------------- small powers
# pow(x, 0.5) is not sqrt(x): they differ at -0.0 and -inf


@_simplification(lambda x: ops.pow(x, 0))
def power_zero(x: Tensor, result: Tensor) -> Tensor:
    return _filled(1, result)


@_simplification(lambda x: ops.pow(x, 1), where=_same_type)
def power_one(x: Tensor) -> Tensor:
    return x


@_simplification(lambda x: ops.pow(x, 2), where=_same_type)
def power_two(x: Tensor) -> Tensor:
    return x * x


@_simplification(lambda x: ops.pow(x, 3), where=_same_type)
def power_three(x: Tensor) -> Tensor:
    return x * x * x


@_simplification(lambda x: ops.pow(x, -1), where=_same_type)
def power_minus_one(x: Tensor) -> Tensor:
    return 1.0 / x


# ---------------------------------------------------------------- logic and choice


@_simplification(lambda x: ~~x, types={"x": ("bool", *INTEGER)})
def double_invert(x: Tensor) -> Tensor:
    return x


@_simplification(lambda x: x & x, types={"x": ("bool", *INTEGER)})
def and_itself(x: Tensor) -> Tensor:
    return x


@_simplification(lambda x: x | x, types={"x": ("bool", *INTEGER)})
def or_itself(x: Tensor) -> Tensor:
    return x


@_simplification(lambda x: x & True, types={"x": "bool"}, where=_same_type)
def and_true(x: Tensor) -> Tensor:
    return x


@_simplification(lambda x: x & False, types={"x": "bool"})
def and_false(x: Tensor, result: Tensor) -> Tensor:
    return _filled(False, result)


@_simplification(lambda x: x | False, types={"x": "bool"}, where=_same_type)
def or_false(x: Tensor) -> Tensor:
    return x


@_simplification(lambda x: x | True, types={"x": "bool"})
def or_true(x: Tensor, result: Tensor) -> Tensor:
    return _filled(True, result)


@_simplification(lambda a, b: ops.where(True, a, b))
def where_true(a: Tensor, result: Tensor) -> Tensor:
    return ops.broadcast_to(a, result.shape)


@_simplification(lambda a, b: ops.where(False, a, b))
def where_false(b: Tensor, result: Tensor) -> Tensor:
    return ops.broadcast_to(b, result.shape)


@_simplification(lambda c, a: ops.where(c, a, a), types={"c": "bool"})
def where_equal_sides(a: Tensor, result: Tensor) -> Tensor:
    return ops.broadcast_to(a, result.shape)


@_simplification(lambda c, a, b: ops.where(~c, a, b), types={"c": "bool"})
def where_not(c: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return ops.where(c, b, a)


# ---------------------------------------------------------------- conversions


def _cast_is_exact(x: Tensor, middle: str, last: str) -> bool:
    """Whether leaving out the conversion to `middle` changes nothing: it keeps every value, and so does the second
    conversion where that is from a float to an integer, for which out-of-range values are undefined."""
    through_float = middle in FLOATING and last not in FLOATING and last != "bool"
    return can_cast_without_loss(x.dtype, middle) and (not through_float or can_cast_without_loss(x.dtype, last))


@_simplification(
    lambda x: ops.astype.op(ops.astype.op(x, dtype=anything("middle")), dtype=anything("last")), where=_cast_is_exact
)
def cast_of_cast(x: Tensor, last: str) -> Tensor:
    return ops.astype(x, last)


@_simplification(lambda x: ops.astype.op(x, dtype=anything), where=lambda x, dtype: x.dtype == dtype)
def cast_to_itself(x: Tensor) -> Tensor:
    return x


# ---------------------------------------------------------------- views


@_simplification(lambda x: ops.reshape.op(ops.reshape.op(x, shape=anything("inner")), shape=anything))
def reshape_of_reshape(x: Tensor, shape: Shape) -> Tensor:
    return ops.reshape(x, shape)


@_simplification(lambda x: ops.reshape.op(x, shape=anything), where=lambda x, shape: x.shape == shape)
def reshape_to_itself(x: Tensor) -> Tensor:
    return x


@_simplification(lambda x: ops.permute_dims.op(ops.permute_dims.op(x, axes=anything("inner")), axes=anything("outer")))
def permute_of_permute(x: Tensor, inner: tuple[int, ...], outer: tuple[int, ...]) -> Tensor:
    return ops.permute_dims(x, tuple(inner[a] for a in outer))


@_simplification(lambda x: ops.permute_dims.op(x, axes=anything), where=lambda axes: axes == tuple(range(len(axes))))
def permute_to_itself(x: Tensor) -> Tensor:
    return x


@_simplification(lambda x: ops.broadcast_to.op(ops.broadcast_to.op(x, shape=anything("inner")), shape=anything))
def broadcast_of_broadcast(x: Tensor, shape: Shape) -> Tensor:
    return ops.broadcast_to(x, shape)


@_simplification(lambda x: ops.broadcast_to.op(x, shape=anything), where=lambda x, shape: x.shape == shape)
def broadcast_to_itself(x: Tensor) -> Tensor:
    return x


@_simplification(
    lambda x: ops.slice_.op(x, starts=anything, sizes=anything, steps=anything),
    where=lambda x, starts, sizes, steps: (
        sizes == x.shape and all(s == 0 for s in starts) and all(s == 1 for s in steps)
    ),
)
def slice_of_everything(x: Tensor) -> Tensor:
    return x


# A float sum starts at 0.0, and so makes 0.0 of -0.0.
@_simplification(lambda x: ops.sum.op(x, axes=()), types={"x": INTEGER})
def integer_sum_over_no_axis(x: Tensor) -> Tensor:
    return x


@_simplification(lambda x: ops.max.op(x, axes=()))
def max_over_no_axis(x: Tensor) -> Tensor:
    return x


@_simplification(lambda x: ops.min.op(x, axes=()))
def min_over_no_axis(x: Tensor) -> Tensor:
    return x


def _tiles(g: Tensor, axes: tuple[int, ...], lengths: Shape, strides: Any, dilations: Any) -> bool:
    """Whether windows lie side by side and leave nothing between them or at the end."""
    sizes = g.shape[g.ndim - len(axes) :]
    fits = [g.shape[a] * size == length for a, size, length in zip(axes, sizes, lengths, strict=True)]
    return all(fits) and tuple(strides) == sizes and all(d == 1 for d in dilations)


@_simplification(
    lambda g: ops.fold.op(g, axes=anything, lengths=anything, strides=anything, dilations=anything),
    where=_tiles,
    types={"g": FLOATING},
)
def fold_of_tiles(g: Tensor, axes: tuple[int, ...], lengths: Shape) -> Tensor:
    """Windows that do not overlap only move; a sum starts at 0.0, and so makes 0.0 of -0.0."""
    rank = g.ndim - len(axes)
    order = [at for a in range(rank) for at in ((a, rank + axes.index(a)) if a in axes else (a,))]
    shape = [lengths[axes.index(a)] if a in axes else g.shape[a] for a in range(rank)]
    return ops.reshape(ops.permute_dims(g + 0.0, order), tuple(shape))


# ---------------------------------------------------------------- contractions

_MATRIX = TensorType("float32", (2, 2))


def _swaps_last_axes(ndim: int, *axes: tuple[int, ...]) -> bool:
    swapped = (*range(ndim - 2), ndim - 1, ndim - 2)
    return all(a == swapped for a in axes)


@_simplification(
    lambda a, b: ops.permute_dims.op(
        ops.matmul(ops.permute_dims.op(a, axes=anything("inner")), b), axes=anything("outer")
    ),
    traced_as={"a": _MATRIX, "b": _MATRIX},
    where=lambda a, b, inner, outer: a.ndim == b.ndim == len(outer) and _swaps_last_axes(a.ndim, inner, outer),
)
def transposed_product_left(a: Tensor, b: Tensor, outer: tuple[int, ...]) -> Tensor:
    """(aT b)T is bT a: the same products in the same order, and the result needs no transposing."""
    return ops.matmul(ops.permute_dims(b, outer), a)


@_simplification(
    lambda a, b: ops.permute_dims.op(
        ops.matmul(a, ops.permute_dims.op(b, axes=anything("inner"))), axes=anything("outer")
    ),
    traced_as={"a": _MATRIX, "b": _MATRIX},
    where=lambda a, b, inner, outer: a.ndim == b.ndim == len(outer) and _swaps_last_axes(a.ndim, inner, outer),
)
def transposed_product_right(a: Tensor, b: Tensor, outer: tuple[int, ...]) -> Tensor:
    """(a bT)T is b aT."""
    return ops.matmul(b, ops.permute_dims(a, outer))


def _implicit_broadcast(op: Any) -> None:
    """x op broadcast_to(y) is x op y where x has the full shape already: operands broadcast by themselves."""
    from dlc.ops.elementwise import broadcast_shapes

    def fits(x: Tensor, y: Tensor, result: Tensor) -> bool:
        return broadcast_shapes(x.shape, y.shape) == result.shape

    name = f"implicit_broadcast_{op.op.name}"

    @_simplification(lambda x, y: op(x, ops.broadcast_to.op(y, shape=anything)), where=fits, name=name)
    def right(x: Tensor, y: Tensor) -> Tensor:
        return op(x, y)

    if not op.op.commutative:

        @_simplification(lambda x, y: op(ops.broadcast_to.op(x, shape=anything), y), where=fits, name=f"{name}_left")
        def left(x: Tensor, y: Tensor) -> Tensor:
            return op(x, y)


for _op in (ops.add, ops.subtract, ops.multiply, ops.divide, ops.masked_multiply, ops.maximum, ops.minimum):
    _implicit_broadcast(_op)

simplify = rewriter("simplify", RULES)
simplify.__doc__ = "Apply the exact algebraic identities of this file until none fits, in bodies too."
