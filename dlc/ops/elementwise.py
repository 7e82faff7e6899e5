"""Elementwise ops: a scalar expression over operands that broadcast to one shape.

Operands promote by the Array API's rules; Python scalars are weak. A named dim never broadcasts as if it were 1.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import Any

import numpy as np

from dlc import dtypes
from dlc.dims import DimLike, Shape
from dlc.errors import DTypeError, ShapeError
from dlc.ir import TensorType
from dlc.ops.definition import CATALOGUE, Array, Defined, Kind, Sample, arrays, build, define
from dlc.ops.leaves import scalar
from dlc.ops.tensor import Tensor, wrap

Domain = tuple[float, float]


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
    return [
        convert(t, dtype) if t is not None else scalar(x, dtypes.weak_dtype(x, dtype) if names else dtype)
        for x, t in zip(operands, strong, strict=True)
    ]


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


FLOAT = dtypes.FLOATING
SIGNED = dtypes.SIGNED + FLOAT
BITS = dtypes.BOOL + dtypes.INTEGER

# ---------------------------------------------------------------- arithmetic


@elementwise("{0} + {1}", reference=np.add, vjp=lambda g, y, a, b: (g, g), commutative=True)
def add(a: Any, b: Any) -> Any:
    """The sum a + b.

    >>> import dlc
    >>> dlc.evaluate(dlc.add(2.0, 3.0)).item()
    5.0
    """


@elementwise("{0} - {1}", reference=np.subtract, vjp=lambda g, y, a, b: (g, negative(g)))
def subtract(a: Any, b: Any) -> Any:
    """The difference a - b.

    >>> import dlc
    >>> dlc.evaluate(dlc.subtract(2.0, 3.0)).item()
    -1.0
    """


@elementwise("{0} * {1}", reference=np.multiply, vjp=lambda g, y, a, b: (g * b, g * a), commutative=True)
def multiply(a: Any, b: Any) -> Any:
    """The product a * b.

    >>> import dlc
    >>> dlc.evaluate(dlc.multiply(2.0, 3.0)).item()
    6.0
    """


@elementwise(
    "masked_multiply({0}, {1})",
    reference=lambda g, d: np.where(g == 0, np.zeros((), g.dtype), g * d).astype(g.dtype),
    accepts=FLOAT,
    vjp=lambda h, y, g, d: (masked_multiply(h, d), masked_multiply(h, g)),
)
def masked_multiply(g: Any, d: Any) -> Any:
    """g * d, but exactly 0 where g is 0, whatever d: how VJPs scale a cotangent by a derivative that may be infinite.

    It keeps NaN out of the branches that `where` masks.

    >>> import dlc
    >>> dlc.evaluate(dlc.ops.masked_multiply([0.0, 2.0], [float("inf"), 3.0])).tolist()
    [0.0, 6.0]
    """


@elementwise(
    "{0} / {1}",
    reference=np.divide,
    accepts=FLOAT,
    domains=((-2.0, 2.0), (0.5, 2.0)),
    vjp=lambda g, y, a, b: (masked_multiply(g, 1.0 / b), masked_multiply(g, negative(y) / b)),
)
def divide(a: Any, b: Any) -> Any:
    """The quotient a / b of floating-point tensors.

    >>> import dlc
    >>> dlc.evaluate(dlc.divide(3.0, 2.0)).item()
    1.5
    """


@elementwise("floor_divide({0}, {1})", reference=np.floor_divide, domains=((-9.0, 9.0), (1.0, 4.0)), gradient=False,
             vjp=lambda g, y, a, b: (None, None))  # fmt: skip
def floor_divide(a: Any, b: Any) -> Any:
    """a / b rounded towards minus infinity; its derivative is 0 almost everywhere. An integer divided by 0 gives 0.

    >>> import dlc
    >>> dlc.evaluate(dlc.floor_divide(-7.0, 2.0)).item()
    -4.0
    """


@elementwise("remainder({0}, {1})", reference=np.remainder, domains=((-9.0, 9.0), (1.0, 4.0)), gradient=False,
             vjp=lambda g, y, a, b: (g, negative(g) * floor_divide(a, b)))  # fmt: skip
def remainder(a: Any, b: Any) -> Any:
    """a - b * floor(a / b): the remainder with the sign of b.

    >>> import dlc
    >>> dlc.evaluate(dlc.remainder(-7.0, 2.0)).item()
    1.0
    """


def _pow_vjp(g: Tensor, y: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    power = where(b == 0, 0.0, b * pow(a, where(b == 0, 1.0, b) - 1.0))
    logarithm = where(a > 0, y * log(where(a > 0, a, 1.0)), 0.0)
    return masked_multiply(g, power), masked_multiply(g, logarithm)


@elementwise("power({0}, {1})", reference=np.power, accepts=FLOAT, domains=((0.5, 2.0), (-2.0, 2.0)), vjp=_pow_vjp)
def pow(a: Any, b: Any) -> Any:
    """a to the power b. The derivative by b is taken as 0 where a <= 0.

    >>> import dlc
    >>> dlc.evaluate(dlc.pow(2.0, 3.0)).item()
    8.0
    """


@elementwise("-{0}", reference=np.negative, accepts=SIGNED, vjp=lambda g, y, x: (negative(g),))
def negative(x: Any) -> Any:
    """-x.

    >>> import dlc
    >>> dlc.evaluate(dlc.negative(2.0)).item()
    -2.0
    """


@elementwise("absolute({0})", reference=np.abs, accepts=SIGNED, domains=((0.5, 2.0),),
             vjp=lambda g, y, x: (g * sign(x),))  # fmt: skip
def abs(x: Any) -> Any:
    """The absolute value; its derivative at 0 is 0.

    >>> import dlc
    >>> dlc.evaluate(dlc.abs(-2.0)).item()
    2.0
    """


@elementwise("sign({0})", reference=lambda x: np.where(x == 0, x, np.sign(x)), accepts=SIGNED,
             vjp=lambda g, y, x: (None,), gradient=False)  # fmt: skip
def sign(x: Any) -> Any:
    """-1, 0 or 1 by the sign of x; NaN and both zeros stay as they are. Its derivative is 0 almost everywhere.

    >>> import dlc
    >>> dlc.evaluate(dlc.sign([-2.0, 0.0, 3.0])).tolist()
    [-1.0, 0.0, 1.0]
    """


@elementwise("maximum({0}, {1})", reference=np.maximum, vjp=lambda g, y, a, b: _share(g, a, b, a > b), commutative=True)
def maximum(a: Any, b: Any) -> Any:
    """The larger of a and b; NaN wins. Where they are equal the cotangent is split in halves.

    >>> import dlc
    >>> dlc.evaluate(dlc.maximum(2.0, 3.0)).item()
    3.0
    """


@elementwise("minimum({0}, {1})", reference=np.minimum, vjp=lambda g, y, a, b: _share(g, a, b, a < b), commutative=True)
def minimum(a: Any, b: Any) -> Any:
    """The smaller of a and b; NaN wins. Where they are equal the cotangent is split in halves.

    >>> import dlc
    >>> dlc.evaluate(dlc.minimum(2.0, 3.0)).item()
    2.0
    """


def _share(g: Tensor, a: Tensor, b: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
    half, tie = g * 0.5, a == b
    return where(tie, half, where(first, g, 0.0)), where(tie, half, where(first, 0.0, g))


# ---------------------------------------------------------------- functions of one real number


@elementwise("exp({0})", reference=np.exp, accepts=FLOAT, vjp=lambda g, y, x: (masked_multiply(g, y),))
def exp(x: Any) -> Any:
    """e to the power x.

    >>> import dlc
    >>> dlc.evaluate(dlc.exp(0.0)).item()
    1.0
    """


@elementwise("expm1({0})", reference=np.expm1, accepts=FLOAT, vjp=lambda g, y, x: (masked_multiply(g, y + 1.0),))
def expm1(x: Any) -> Any:
    """exp(x) - 1, exact near 0.

    >>> import dlc
    >>> dlc.evaluate(dlc.expm1(0.0)).item()
    0.0
    """


@elementwise("log({0})", reference=np.log, accepts=FLOAT, domains=((0.5, 2.0),),
             vjp=lambda g, y, x: (masked_multiply(g, 1.0 / x),))  # fmt: skip
def log(x: Any) -> Any:
    """The natural logarithm; -inf at 0, NaN below.

    >>> import dlc
    >>> dlc.evaluate(dlc.log(1.0)).item()
    0.0
    """


@elementwise("log1p({0})", reference=np.log1p, accepts=FLOAT, domains=((-0.5, 2.0),),
             vjp=lambda g, y, x: (masked_multiply(g, 1.0 / (1.0 + x)),))  # fmt: skip
def log1p(x: Any) -> Any:
    """log(1 + x), exact near 0.

    >>> import dlc
    >>> dlc.evaluate(dlc.log1p(0.0)).item()
    0.0
    """


@elementwise("sqrt({0})", reference=np.sqrt, accepts=FLOAT, domains=((0.5, 2.0),),
             vjp=lambda g, y, x: (masked_multiply(g, 0.5 / y),))  # fmt: skip
def sqrt(x: Any) -> Any:
    """The square root; its derivative at 0 is infinite.

    >>> import dlc
    >>> dlc.evaluate(dlc.sqrt(9.0)).item()
    3.0
    """


@elementwise("sin({0})", reference=np.sin, accepts=FLOAT, vjp=lambda g, y, x: (g * cos(x),))
def sin(x: Any) -> Any:
    """The sine of x radians.

    >>> import dlc
    >>> dlc.evaluate(dlc.sin(0.0)).item()
    0.0
    """


@elementwise("cos({0})", reference=np.cos, accepts=FLOAT, vjp=lambda g, y, x: (negative(g) * sin(x),))
def cos(x: Any) -> Any:
    """The cosine of x radians.

    >>> import dlc
    >>> dlc.evaluate(dlc.cos(0.0)).item()
    1.0
    """


@elementwise("tanh({0})", reference=np.tanh, accepts=FLOAT, vjp=lambda g, y, x: (g * (1.0 - y * y),))
def tanh(x: Any) -> Any:
    """The hyperbolic tangent.

    >>> import dlc
    >>> dlc.evaluate(dlc.tanh(0.0)).item()
    0.0
    """


def _sigmoid_reference(x: np.ndarray[Any, Any]) -> Any:
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e)).astype(x.dtype)


@elementwise("sigmoid({0})", reference=_sigmoid_reference, accepts=FLOAT, vjp=lambda g, y, x: (g * (y * (1.0 - y)),))
def sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x)), without overflow for any x.

    >>> import dlc
    >>> dlc.evaluate(dlc.sigmoid(0.0)).item()
    0.5
    """


def _erf_reference(x: np.ndarray[Any, Any]) -> Any:
    return np.array([math.erf(v) for v in x.ravel()], x.dtype).reshape(x.shape)


@elementwise("erf({0})", reference=_erf_reference, accepts=FLOAT,
             vjp=lambda g, y, x: (g * (exp(negative(x * x)) * (2.0 / math.sqrt(math.pi))),))  # fmt: skip
def erf(x: Any) -> Any:
    """The error function, 2/sqrt(pi) times the integral of exp(-t^2) from 0 to x.

    >>> import dlc
    >>> dlc.evaluate(dlc.erf(0.0)).item()
    0.0
    """


@elementwise("relu({0})", reference=lambda x: np.where(x < 0, np.zeros((), x.dtype), x), accepts=SIGNED,
             vjp=lambda g, y, x: (where(y > 0, g, 0.0),))  # fmt: skip
def relu(x: Any) -> Any:
    """max(x, 0), with derivative 0 at 0; NaN and -0.0 stay as they are.

    >>> import dlc
    >>> dlc.evaluate(dlc.relu([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """


@elementwise("floor({0})", reference=np.floor, accepts=FLOAT, vjp=lambda g, y, x: (None,), gradient=False)
def floor(x: Any) -> Any:
    """The largest integer not above x; its derivative is 0 almost everywhere.

    >>> import dlc
    >>> dlc.evaluate(dlc.floor(-1.5)).item()
    -2.0
    """


@elementwise("ceil({0})", reference=np.ceil, accepts=FLOAT, vjp=lambda g, y, x: (None,), gradient=False)
def ceil(x: Any) -> Any:
    """The smallest integer not below x; its derivative is 0 almost everywhere.

    >>> import dlc
    >>> dlc.evaluate(dlc.ceil(1.5)).item()
    2.0
    """


@elementwise("isnan({0})", reference=np.isnan, accepts=FLOAT, result="bool")
def isnan(x: Any) -> Any:
    """Whether x is NaN.

    >>> import dlc
    >>> dlc.evaluate(dlc.isnan(float("nan"))).item()
    True
    """


@elementwise("isfinite({0})", reference=np.isfinite, accepts=FLOAT, result="bool")
def isfinite(x: Any) -> Any:
    """Whether x is neither infinite nor NaN.

    >>> import dlc
    >>> dlc.evaluate(dlc.isfinite(1.0)).item()
    True
    """


# ---------------------------------------------------------------- comparisons, logic, choice, conversion


@elementwise("{0} == {1}", reference=np.equal, accepts=dtypes.ALL, result="bool", commutative=True)
def equal(a: Any, b: Any) -> Any:
    """Whether a equals b, elementwise.

    >>> import dlc
    >>> dlc.evaluate(dlc.equal([1.0, 2.0], [1.0, 3.0])).tolist()
    [True, False]
    """


@elementwise("{0} != {1}", reference=np.not_equal, accepts=dtypes.ALL, result="bool", commutative=True)
def not_equal(a: Any, b: Any) -> Any:
    """Whether a differs from b, elementwise.

    >>> import dlc
    >>> dlc.evaluate(dlc.not_equal(1.0, 2.0)).item()
    True
    """


@elementwise("{0} < {1}", reference=np.less, result="bool")
def less(a: Any, b: Any) -> Any:
    """Whether a < b, elementwise.

    >>> import dlc
    >>> dlc.evaluate(dlc.less(1.0, 2.0)).item()
    True
    """


@elementwise("{0} <= {1}", reference=np.less_equal, result="bool")
def less_equal(a: Any, b: Any) -> Any:
    """Whether a <= b, elementwise.

    >>> import dlc
    >>> dlc.evaluate(dlc.less_equal(2.0, 2.0)).item()
    True
    """


@elementwise("{0} > {1}", reference=np.greater, result="bool")
def greater(a: Any, b: Any) -> Any:
    """Whether a > b, elementwise.

    >>> import dlc
    >>> dlc.evaluate(dlc.greater(1.0, 2.0)).item()
    False
    """


@elementwise("{0} >= {1}", reference=np.greater_equal, result="bool")
def greater_equal(a: Any, b: Any) -> Any:
    """Whether a >= b, elementwise.

    >>> import dlc
    >>> dlc.evaluate(dlc.greater_equal(1.0, 2.0)).item()
    False
    """


@elementwise("{0} & {1}", reference=np.bitwise_and, accepts=BITS, commutative=True)
def bitwise_and(a: Any, b: Any) -> Any:
    """a & b of bools or integers.

    >>> import dlc
    >>> dlc.evaluate(dlc.bitwise_and(True, False)).item()
    False
    """


@elementwise("{0} | {1}", reference=np.bitwise_or, accepts=BITS, commutative=True)
def bitwise_or(a: Any, b: Any) -> Any:
    """a | b of bools or integers.

    >>> import dlc
    >>> dlc.evaluate(dlc.bitwise_or(True, False)).item()
    True
    """


@elementwise("{0} ^ {1}", reference=np.bitwise_xor, accepts=BITS, commutative=True)
def bitwise_xor(a: Any, b: Any) -> Any:
    """a ^ b of bools or integers.

    >>> import dlc
    >>> dlc.evaluate(dlc.bitwise_xor(True, True)).item()
    False
    """


@elementwise("invert({0})", reference=np.invert, accepts=BITS)
def bitwise_invert(x: Any) -> Any:
    """Not x, of bools or integers.

    >>> import dlc
    >>> dlc.evaluate(dlc.bitwise_invert(True)).item()
    False
    """


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
    reference=lambda x, *, dtype: x.astype(dtype),
    vjp=lambda g, y, x, *, dtype: (convert(g, x.dtype) if {dtype, x.dtype} <= set(FLOAT) else None,),
    expression="{T}({0})",
    samples=_astype_samples,
)
def astype(x: Any, dtype: Any) -> Tensor:
    """The values of `x` converted to `dtype` as NumPy does; floats to integers truncate towards zero.

    >>> import dlc
    >>> dlc.evaluate(dlc.astype([1.5, -1.5], "int32")).tolist()
    [1, -1]
    """
    return convert(wrap(x), dtypes.dtype_name(dtype))

