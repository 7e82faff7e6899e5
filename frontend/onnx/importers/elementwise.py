"""Elementwise operators."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

from dlc import ops
from dlc.dtypes import FLOATING, INTEGER, UNSIGNED, itemsize
from dlc.errors import FileFormatError
from dlc.frontend.onnx.arrays import dtype_of
from dlc.frontend.onnx.call import Call, Importer
from dlc.frontend.onnx.importers.old import pair
from dlc.ops.tensor import Tensor


def _unary(function: Callable[..., Any]) -> Importer:
    return lambda c: function(c[0])


def _binary(function: Callable[..., Any]) -> Importer:
    return lambda c: function(*pair(c))


def _several(function: Callable[..., Any]) -> Importer:
    return lambda c: reduce(function, (c[i] for i in range(len(c.operands))))


def _divide(c: Call) -> Tensor:
    """Integers divide towards zero in ONNX."""
    a, b = pair(c)
    if a.dtype in FLOATING:
        return ops.divide(a, b)
    if a.dtype in UNSIGNED:
        return ops.floor_divide(a, b)
    quotient = ops.floor_divide(ops.abs(a), ops.abs(b))
    return ops.where(ops.equal(ops.less(a, 0), ops.less(b, 0)), quotient, ops.negative(quotient))


def _modulo(c: Call) -> Tensor:
    """With fmod the result has the sign of the dividend, as in C; else that of the divisor."""
    a, b = c[0], c[1]
    if not c.int("fmod", 0):
        return ops.remainder(a, b)
    if a.dtype in UNSIGNED:
        return ops.remainder(a, b)
    rest = ops.remainder(ops.abs(a), ops.abs(b))
    return ops.copysign(rest, a) if a.dtype in FLOATING else ops.where(ops.less(a, 0), ops.negative(rest), rest)


def _is_inf(c: Call) -> Tensor:
    x = c[0]
    found = ops.isinf(x)
    if not c.int("detect_negative", 1):
        found = ops.logical_and(found, ops.greater(x, 0))
    return found if c.int("detect_positive", 1) else ops.logical_and(found, ops.less(x, 0))


def _shift(c: Call) -> Tensor:
    direction = c.text("direction")
    if direction not in ("LEFT", "RIGHT"):
        raise FileFormatError(f"{c.place}: there is no direction {direction!r:.40}")
    return (ops.bitwise_left_shift if direction == "LEFT" else ops.bitwise_right_shift)(c[0], c[1])


def _power(c: Call) -> Tensor:
    """The result has the base's dtype; integers are raised in float64, which is exact up to 2^53."""
    a, b = pair(c)
    dtype = a.dtype if a.dtype in FLOATING else "float64"
    found = ops.pow(ops.astype(a, dtype), ops.astype(b, dtype))
    return ops.astype(found, a.dtype)


def _mean(c: Call) -> Tensor:
    return reduce(ops.add, (c[i] for i in range(len(c.operands)))) / float(len(c.operands))


def _bit_cast(c: Call) -> Tensor:
    to = dtype_of(c.int("to", 0), c.place)
    if to == c[0].dtype:
        return c[0]
    integer = c[0].dtype in (*INTEGER, "bool") and to in INTEGER
    if integer and itemsize(to) == itemsize(c[0].dtype):
        return ops.astype(c[0], to)
    raise c.unsupported(f"the bits of {c[0].type} as {to}")


def _cast(c: Call) -> Tensor:
    c.read.update(("saturate", "round_mode"))  # for dtypes of 8 bits and less
    return ops.astype(c[0], dtype_of(c.int("to", 0), c.place))


def _prelu(c: Call) -> Tensor:
    """Before opset 7 a vector of slopes was one for each channel."""
    x, slope = c[0], c[1]
    if c.opset < 7 and slope.ndim == 1 and x.ndim > 2:
        slope = ops.reshape(slope, (slope.shape[0], *[1] * (x.ndim - 2)))
    return ops.where(ops.less(x, 0), x * slope, x)


def _clip(c: Call) -> Tensor:
    """The bounds were attributes before opset 11. The upper one wins where they cross."""
    x = c[0]
    if c.opset < 11:
        low, high = c.float("min"), c.float("max")
    else:
        low, high = (c[i] if c.has(i) else None for i in (1, 2))
    lifted = x if low is None else ops.maximum(x, low)
    return lifted if high is None else ops.minimum(lifted, high)


ELEMENTWISE: dict[str, Importer] = {
    "Abs": _unary(ops.abs),
    "Acos": _unary(ops.acos),
    "Acosh": _unary(ops.acosh),
    "Add": _binary(ops.add),
    "And": _binary(ops.logical_and),
    "Asin": _unary(ops.asin),
    "Asinh": _unary(ops.asinh),
    "Atan": _unary(ops.atan),
    "Atanh": _unary(ops.atanh),
    "BitShift": _shift,
    "BitwiseAnd": _binary(ops.bitwise_and),
    "BitwiseNot": _unary(ops.bitwise_invert),
    "BitwiseOr": _binary(ops.bitwise_or),
    "BitwiseXor": _binary(ops.bitwise_xor),
    "Cast": _cast,
    "CastLike": lambda c: ops.astype(c[0], c[1].dtype),
    "Ceil": _unary(ops.ceil),
    "Clip": _clip,
    "Cos": _unary(ops.cos),
    "Cosh": _unary(ops.cosh),
    "Div": _divide,
    "Celu": lambda c: ops.celu(c[0], c.float("alpha", 1.0)),
    "Elu": lambda c: ops.elu(c[0], c.float("alpha", 1.0)),
    "Equal": _binary(ops.equal),
    "Erf": _unary(ops.erf),
    "Exp": _unary(ops.exp),
    "Floor": _unary(ops.floor),
    "Gelu": lambda c: ops.gelu(c[0], c.text("approximate", "none")),
    "Greater": _binary(ops.greater),
    "GreaterOrEqual": _binary(ops.greater_equal),
    "HardSigmoid": lambda c: ops.minimum(
        ops.maximum(c[0] * c.float("alpha", 0.2) + c.float("beta", 0.5), 0.0), 1.0
    ),
    "HardSwish": _unary(ops.hardswish),
    "IsInf": _is_inf,
    "IsNaN": _unary(ops.isnan),
    "LeakyRelu": lambda c: ops.leaky_relu(c[0], c.float("alpha", 0.01)),
    "Less": _binary(ops.less),
    "LessOrEqual": _binary(ops.less_equal),
    "Log": _unary(ops.log),
    "Max": _several(ops.maximum),
    "Min": _several(ops.minimum),
    "Mean": _mean,
    "BitCast": _bit_cast,
    "Mish": _unary(ops.mish),
    "Mod": _modulo,
    "Mul": _binary(ops.multiply),
    "Neg": _unary(ops.negative),
    "Not": _unary(ops.logical_not),
    "Or": _binary(ops.logical_or),
    "Pow": _power,
    "PRelu": _prelu,
    "Reciprocal": _unary(ops.reciprocal),
    "Relu": lambda c: ops.relu(c[0]) if c[0].dtype in FLOATING else ops.maximum(c[0], 0),
    "Round": _unary(ops.round),
    "Sigmoid": _unary(ops.sigmoid),
    "Sign": _unary(ops.sign),
    "Sin": _unary(ops.sin),
    "Sinh": _unary(ops.sinh),
    "Softplus": _unary(ops.softplus),
    "Softsign": _unary(ops.softsign),
    "Sqrt": _unary(ops.sqrt),
    "Sub": _binary(ops.subtract),
    "Sum": _several(ops.add),
    "Tan": _unary(ops.tan),
    "Tanh": _unary(ops.tanh),
    "Where": lambda c: ops.where(c[0], c[1], c[2]),
    "Xor": _binary(ops.logical_xor),
}
