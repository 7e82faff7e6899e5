"""The form of elementwise ops, a scalar expression over operands that broadcast to one shape; choice and conversion.

Operands promote by the Array API's rules; Python scalars are weak. A named dim never broadcasts as if it were 1.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import Any, ParamSpec

import numpy as np

from dlc import dtypes
from dlc.conversions import cast
from dlc.dims import DimLike, Shape
from dlc.errors import DTypeError, ShapeError
from dlc.ir import TensorType
from dlc.ops.definition import CATALOGUE, Array, Defined, Kind, Sample, arrays, build, define
from dlc.ops.leaves import constant, scalar
from dlc.ops.tensor import Tensor, wrap

Domain = tuple[float, float]
P = ParamSpec("P")


def broadcast_shapes(*shapes: Shape, op: str = "broadcast") -> Shape:
    """The common shape of operands, aligned at the last axis; raises `ShapeError` where dims differ and none is 1."""
    first = shapes[0] if shapes else ()
    if all([s == first or s == () for s in shapes]):  # the common case
        return first
    result: list[DimLike] = []
    for axis in range(-max((len(s) for s in shapes), default=0), 0):
        found: DimLike = 1
        for shape in shapes:
            d = shape[axis] if len(shape) >= -axis else 1
            if (isinstance(d, int) and d == 1) or d == found:
                continue
            if not (isinstance(found, int) and found == 1):
                listed = " and ".join(_shape_text(s) for s in shapes)
                raise ShapeError(
                    f"{op} cannot broadcast {listed}: axis {axis} is {found} in one and {d} in another; "
                    "make them equal, or 1 (a named dim is never taken to be 1)"
                )
            found = d
        result.append(found)
    return tuple(result)


def _shape_text(shape: Shape) -> str:
    return f"[{','.join(map(str, shape))}]"


def convert(t: Tensor, dtype: str) -> Tensor:
    """`t` in another dtype; itself where that is the same."""
    return t if t.dtype == dtype else astype.op(t, dtype=dtype)


def taken_as(value: Any, dtype: str) -> Tensor:
    """`value` in a dtype. Python numbers, alone or in lists, are read in it, and not by way of float32."""
    t = wrap(value)
    python = isinstance(value, (int, float, list, tuple))  # a scalar of NumPy may be a float as well
    return constant(value, dtype) if python and dtype in dtypes.FLOATING else convert(t, dtype)


def promoted(operands: Sequence[Any]) -> list[Tensor]:
    """Operands as tensors of one dtype: tensors promote, Python scalars take the tensors' dtype where they fit."""
    if all([type(x) is Tensor for x in operands]):
        dtype = operands[0].node.type.dtype
        if all([x.node.type.dtype == dtype for x in operands]):
            return list(operands)
    weak = [isinstance(x, (bool, int, float)) and not isinstance(x, np.generic) for x in operands]
    strong = [None if w else wrap(x) for x, w in zip(operands, weak, strict=True)]
    names = [t.dtype for t in strong if t is not None]
    if names:
        dtype = dtypes.promote(*names)
    else:
        dtype = max((wrap(x).dtype for x in operands), key=dtypes.ALL.index)

    def read(x: Any, t: Tensor | None) -> Tensor:
        if t is None:
            return scalar(x, dtypes.weak_dtype(x, dtype) if names else dtype)
        return taken_as(x, dtype) if isinstance(x, (list, tuple)) else convert(t, dtype)

    return [read(x, t) for x, t in zip(operands, strong, strict=True)]


def rounded_once(*names: str) -> Callable[[Callable[P, Tensor]], Callable[P, Tensor]]:
    """For a function composed of ops: on float16 and bfloat16 it computes in float32, and rounds its result alone.

    `names` are the parameters that may be tensors; the result has the dtype that they promote to. So a mean of many
    float16 does not overflow on the way, and a normalisation is as exact as one op.
    """

    def decorate(function: Callable[P, Tensor]) -> Callable[P, Tensor]:
        signature = inspect.signature(function)

        @wraps(function)
        def public(*args: P.args, **kwargs: P.kwargs) -> Tensor:
            first = args[0] if args else None
            if isinstance(first, Tensor) and first.dtype in ("float32", "float64"):
                return function(*args, **kwargs)  # the common case
            given = signature.bind(*args, **kwargs)
            plain = (type(None), bool, int, float, list, tuple)
            found = {n: wrap(v) for n, v in given.arguments.items() if n in names and not isinstance(v, plain)}
            floats = [t.dtype for t in found.values() if t.dtype in dtypes.FLOATING]
            if not set(floats) & set(dtypes.HALF):
                return function(*args, **kwargs)
            given.arguments.update({n: convert(t, "float32") for n, t in found.items() if t.dtype in dtypes.HALF})
            return convert(function(*given.args, **given.kwargs), dtypes.promote(*floats))

        return public

    return decorate


def sum_to_shape(g: Tensor, shape: Shape) -> Tensor:
    """A cotangent of a broadcast operand, summed back over the axes that broadcasting made or stretched."""
    from dlc.ops.reduce import sum as sum_
    from dlc.ops.view import reshape

    if g.shape == shape:
        return g
    lead = g.ndim - len(shape)
    stretched = [lead + i for i, d in enumerate(shape) if d == 1 and g.shape[lead + i] != 1]
    summed = sum_(g, axis=(*range(lead), *stretched))
    return summed if summed.shape == shape else reshape(summed, shape)


def elementwise(
    expression: str,
    *,
    reference: Callable[..., Any],
    accepts: Sequence[str] = dtypes.NUMERIC,
    result: str | None = None,
    vjp: Callable[..., Sequence[Tensor | None]] | None = None,
    domains: Sequence[Domain] = ((-2.0, 2.0),),
    sample_dtype: str | None = None,
    gradient: bool = True,
    commutative: bool = False,
) -> Callable[[Callable[..., Any]], Defined[...]]:
    """Define an elementwise op from a signature and a docstring alone.

    `expression` computes one element; `accepts` lists the operand dtypes; `result` is the result's dtype where it is
    not the operands'; `domains` gives the operands' ranges in samples.
    """

    def decorate(function: Callable[..., Any]) -> Defined[...]:
        name = function.__name__.rstrip("_")
        parameters = list(inspect.signature(function).parameters)

        def infer(*types: TensorType) -> TensorType:
            if len(types) != len(parameters):
                raise TypeError(f"{name} takes {len(parameters)} operands, got {len(types)}")
            for t in types:
                if t.dtype not in accepts:
                    fix = "float32" if "float32" in accepts else accepts[-1]
                    raise DTypeError(f"{name} takes {_family(accepts)}, not {t}; convert with .astype('{fix}')")
                if t.dtype != types[0].dtype:
                    raise DTypeError(f"{name} takes operands of one dtype, not {types[0]} and {t}")
            shape = broadcast_shapes(*[t.shape for t in types], op=name)
            if shape is types[0].shape and result is None:
                return types[0]
            return TensorType(result or types[0].dtype, shape)

        def samples() -> Iterable[Sample]:
            dtype = sample_dtype or ("float32" if "float32" in accepts else accepts[0])
            ranges = [domains[min(i, len(domains) - 1)] for i in range(len(parameters))]
            for shapes in _sample_shapes(len(parameters)):
                operands = tuple(
                    arrays(s, dtype=dtype, low=low, high=high, seed=i)[0]
                    for i, (s, (low, high)) in enumerate(zip(shapes, ranges, strict=True))
                )
                yield Sample(operands, gradient=gradient and vjp is not None and dtype in dtypes.FLOATING)

        def reduced_vjp(g: Tensor, y: Tensor, *xs: Tensor) -> Sequence[Tensor | None]:
            assert vjp is not None
            cotangents = vjp(g, y, *xs)
            return [None if c is None else sum_to_shape(c, x.shape) for c, x in zip(cotangents, xs, strict=True)]

        @wraps(function)
        def public(*operands: Any) -> Tensor:
            return build(CATALOGUE[name], promoted(operands))

        return define(
            kind=Kind.ELEMENTWISE,
            infer=infer,
            reference=reference,
            vjp=reduced_vjp if vjp else None,
            expression=expression,
            samples=samples,
            commutative=commutative,
        )(public)

    return decorate


def _sample_shapes(operands: int) -> list[list[tuple[int, ...]]]:
    if operands == 1:
        return [[(3, 4)], [()], [(0, 3)]]
    first, second, third = (3, 4), (4,), (3, 1)
    shapes: list[list[tuple[int, ...]]] = [[first, second, third], [(2, 3)] * 3, [(), (5,), ()]]
    return [s[:operands] for s in shapes]


def _family(accepts: Sequence[str]) -> str:
    if tuple(accepts) == dtypes.FLOATING:
        return "floating-point tensors"
    if tuple(accepts) == dtypes.NUMERIC:
        return "numbers"
    return "one of " + ", ".join(accepts)


# ---------------------------------------------------------------- choice and conversion


def _where_type(condition: TensorType, a: TensorType, b: TensorType) -> TensorType:
    if condition.dtype != "bool":
        raise DTypeError(f"where takes a bool condition, not {condition}; compare it with != 0")
    if a.dtype != b.dtype:
        raise DTypeError(f"where takes two values of one dtype, not {a} and {b}")
    return TensorType(a.dtype, broadcast_shapes(condition.shape, a.shape, b.shape, op="where"))


def _where_vjp(g: Tensor, y: Tensor, condition: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor | None, ...]:
    zero = scalar(0, g.dtype)
    return None, sum_to_shape(where(condition, g, zero), a.shape), sum_to_shape(where(condition, zero, g), b.shape)


def _where_reference(condition: Array, a: Array, b: Array) -> Array:
    chosen: Array = np.where(condition, a, b)
    return chosen.astype(a.dtype)


def _where_samples() -> Iterable[Sample]:
    (c,) = arrays((3, 4), dtype="bool")
    yield Sample((c, *arrays((3, 4), (4,))))
    yield Sample((np.array(True), *arrays((2,), ())))


@define(
    kind=Kind.ELEMENTWISE,
    infer=_where_type,
    reference=_where_reference,
    vjp=_where_vjp,
    expression="select({0}, {1}, {2})",
    samples=_where_samples,
)
def where(condition: Any, a: Any, b: Any) -> Tensor:
    """`a` where the condition holds, else `b`; all three broadcast. No NaN comes back from the side not taken.

    >>> import dlc
    >>> dlc.evaluate(dlc.where(dlc.constant([True, False]), 1.0, 2.0)).tolist()
    [1.0, 2.0]
    """
    return where.op(wrap(condition), *promoted([a, b]))


def _astype_samples() -> Iterable[Sample]:
    (x,) = arrays((3, 4))
    yield Sample((x,), {"dtype": "float64"}, gradient=False)
    yield Sample((x,), {"dtype": "int32"}, gradient=False)
    yield Sample((x,), {"dtype": "bool"}, gradient=False)


@define(
    kind=Kind.ELEMENTWISE,
    infer=lambda x, *, dtype: TensorType(dtypes.dtype_name(dtype), x.shape),
    reference=lambda x, *, dtype: cast(x, dtype),
    vjp=lambda g, y, x, *, dtype: (convert(g, x.dtype) if {dtype, x.dtype} <= set(dtypes.FLOATING) else None,),
    expression="{T}({0})",
    samples=_astype_samples,
)
def astype(x: Any, dtype: Any) -> Tensor:
    """The values of `x` converted to `dtype` as NumPy does; floats to integers truncate towards zero.

    What NumPy leaves open is defined (see dlc/conversions.py): floats beyond the integers' range saturate, NaN is 0.

    >>> import dlc
    >>> dlc.evaluate(dlc.astype([1.5, -1.5], "int32")).tolist()
    [1, -1]
    """
    return convert(wrap(x), dtypes.dtype_name(dtype))

