"""Elementwise ops as ONNX nodes. Where ONNX has none, or one that means something else at the edges, several."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from dlc import dtypes
from dlc.frontend.onnx.writer import EXPORTERS, Value, Writer, element_type, exports
from dlc.ir import Node

# Dtypes that ONNX's standard, or ONNX Runtime, does not compute an op in, and what to compute in instead.
WIDER = {
    "Max": {"int16": "int32", "uint16": "int32"},
    "Min": {"int16": "int32", "uint16": "int32"},
    "Where": {"int16": "int32", "uint16": "int32", "uint64": "int64", "bool": "uint8"},
    "Neg": {"int16": "int32"},
}


def computed_in(op: str, dtype: str) -> str:
    """The dtype in which nodes of `op` compute for operands of `dtype`."""
    return WIDER.get(op, {}).get(dtype, dtype)


def apply(w: Writer, op: str, dtype: str, *xs: Value) -> Value:
    """A node whose operands and result are of one dtype, computed in a wider one where need be."""
    wide = computed_in(op, dtype)
    return w.cast(w.op(op, *(w.cast(x, dtype, wide) for x in xs)), wide, dtype)


def choose(w: Writer, condition: Value, a: Value, b: Value, dtype: str) -> Value:
    """`a` where the condition holds, else `b`."""
    wide = computed_in("Where", dtype)
    return w.cast(w.op("Where", condition, w.cast(a, dtype, wide), w.cast(b, dtype, wide)), wide, dtype)


def is_zero(w: Writer, x: Value, dtype: str) -> Value:
    return w.op("Equal", x, w.constant(0, dtype))


def _same_dtype(op: str) -> Callable[[Writer, Node, list[Value]], Value]:
    return lambda w, node, xs: apply(w, op, node.dtype, *xs)


def _to_bool(op: str) -> Callable[[Writer, Node, list[Value]], Value]:
    return lambda w, node, xs: w.op(op, *xs)


for _name, _op in {
    "subtract": "Sub", "multiply": "Mul", "divide": "Div", "pow": "Pow", "negative": "Neg", "abs": "Abs",
    "sign": "Sign", "maximum": "Max", "minimum": "Min", "exp": "Exp", "log": "Log", "sqrt": "Sqrt", "sin": "Sin",
    "cos": "Cos", "tan": "Tan", "tanh": "Tanh", "sigmoid": "Sigmoid", "erf": "Erf", "floor": "Floor",
    "ceil": "Ceil", "round": "Round", "asin": "Asin", "acos": "Acos", "atan": "Atan", "sinh": "Sinh", "cosh": "Cosh",
    "asinh": "Asinh", "acosh": "Acosh", "atanh": "Atanh", "stop_gradient": "Identity",
}.items():  # fmt: skip
    EXPORTERS[_name] = _same_dtype(_op)

for _name, _op in {
    "equal": "Equal", "less": "Less", "less_equal": "LessOrEqual", "greater": "Greater",
    "greater_equal": "GreaterOrEqual", "isnan": "IsNaN",
}.items():  # fmt: skip
    EXPORTERS[_name] = _to_bool(_op)


# ---------------------------------------------------------------- choice and conversion


@exports("where")
def _where(w: Writer, node: Node, xs: list[Value]) -> Value:
    condition, a, b = xs
    return choose(w, condition, a, b, node.dtype)


@exports("astype")
def _astype(w: Writer, node: Node, xs: list[Value]) -> Value:
    source, target = node.inputs[0].dtype, node.dtype
    return w.op("Identity", xs[0]) if source == target else w.cast(xs[0], source, target)


# ---------------------------------------------------------------- arithmetic


@exports("masked_multiply")
def _masked_multiply(w: Writer, node: Node, xs: list[Value]) -> Value:
    zero = w.constant(0, node.dtype)
    return w.op("Where", w.op("Equal", xs[0], zero), zero, w.op("Mul", *xs))


def _float_remainder(w: Writer, a: Value, b: Value, dtype: str) -> Value:
    """The remainder with the sign of b; fmod has that of a."""
    zero = w.constant(0, dtype)
    rest = w.op("Mod", a, b, fmod=1)
    differs = w.op("Xor", w.op("Less", rest, zero), w.op("Less", b, zero))
    moved = w.op("And", differs, w.op("Not", w.op("Equal", rest, zero)))
    return w.op("Where", moved, w.op("Add", rest, b), rest)


@exports("remainder")
def _remainder(w: Writer, node: Node, xs: list[Value]) -> Value:
    a, b = xs
    dtype = node.dtype
    if dtype not in dtypes.INTEGER:
        return _float_remainder(w, a, b, dtype)
    return w.op("Mod", a, _nonzero(w, b, dtype))  # anything modulo 1 is 0


def _nonzero(w: Writer, b: Value, dtype: str) -> Value:
    """`b` with 1 for 0, and for -1, whose quotient may overflow: integer division traps on both."""
    unsafe = is_zero(w, b, dtype)
    if dtype in dtypes.SIGNED:
        unsafe = w.op("Or", unsafe, w.op("Equal", b, w.constant(-1, dtype)))
    return choose(w, unsafe, w.constant(1, dtype), b, dtype)


def _float_floor_divide(w: Writer, a: Value, b: Value, dtype: str) -> Value:
    zero, minus_one = w.constant(0, dtype), w.constant(-1, dtype)
    usual = w.op("Round", w.op("Div", w.op("Sub", a, _float_remainder(w, a, b, dtype)), b))
    opposite = w.op("Xor", w.op("Less", a, zero), w.op("Less", b, zero))
    below = w.op("And", opposite, w.op("Not", w.op("Equal", a, zero)))
    of_infinite = w.op("Add", w.op("Where", below, minus_one, zero), w.op("Mul", a, zero))  # NaN where a is no number
    found = w.op("Where", w.op("IsInf", b), of_infinite, usual)
    return w.op("Where", w.op("Equal", b, zero), w.op("Div", a, b), found)


@exports("floor_divide")
def _floor_divide(w: Writer, node: Node, xs: list[Value]) -> Value:
    a, b = xs
    dtype = node.dtype
    if dtype not in dtypes.INTEGER:
        return _float_floor_divide(w, a, b, dtype)
    safe = _nonzero(w, b, dtype)
    quotient = w.op("Div", w.op("Sub", a, w.op("Mod", a, safe)), safe)
    if dtype in dtypes.SIGNED:
        negated = w.op("Sub", w.constant(0, dtype), a)
        quotient = choose(w, w.op("Equal", b, w.constant(-1, dtype)), negated, quotient, dtype)
    return choose(w, is_zero(w, b, dtype), w.constant(0, dtype), quotient, dtype)


def _infinite(w: Writer, *xs: Value) -> Value:
    found = [w.op("IsInf", x) for x in xs]
    return found[0] if len(found) == 1 else w.op("Or", *found)


@exports("relu")
def _relu(w: Writer, node: Node, xs: list[Value]) -> Value:
    if node.dtype in dtypes.INTEGER:  # for which Relu is not made throughout
        return apply(w, "Max", node.dtype, xs[0], w.constant(0, node.dtype))
    return w.op("Relu", xs[0])


# ---------------------------------------------------------------- powers and logarithms


@exports("rsqrt")
def _rsqrt(w: Writer, node: Node, xs: list[Value]) -> Value:
    return w.op("Reciprocal", w.op("Sqrt", xs[0]))


@exports("exp2")
def _exp2(w: Writer, node: Node, xs: list[Value]) -> Value:
    return w.op("Pow", w.constant(2, node.dtype), xs[0])


def _log_to(base: float) -> Callable[[Writer, Node, list[Value]], Value]:
    def export(w: Writer, node: Node, xs: list[Value]) -> Value:
        wide = w.op("Log", w.cast(xs[0], node.dtype, "float64"))  # so that exact powers have exact logarithms
        return w.cast(w.op("Div", wide, w.constant(math.log(base), "float64")), "float64", node.dtype)

    return export


EXPORTERS["log2"] = _log_to(2)
EXPORTERS["log10"] = _log_to(10)


def log1p(w: Writer, x: Value, dtype: str) -> Value:
    """log(u) x / (u - 1) with u = 1 + x as rounded (W. Kahan): accurate where x is small."""
    one = w.constant(1, dtype)
    u = w.op("Add", one, x)
    log = w.op("Log", u)
    corrected = w.op("Mul", log, w.op("Div", x, w.op("Sub", u, one)))
    plain = w.op("Where", w.op("IsInf", x), log, corrected)
    return w.op("Where", w.op("Equal", u, one), x, plain)


@exports("log1p")
def _log1p(w: Writer, node: Node, xs: list[Value]) -> Value:
    return log1p(w, xs[0], node.dtype)


@exports("expm1")
def _expm1(w: Writer, node: Node, xs: list[Value]) -> Value:
    """(u - 1) x / log(u) with u = exp(x) as rounded (W. Kahan): accurate where x is small."""
    x, one = xs[0], w.constant(1, node.dtype)
    u = w.op("Exp", x)
    less = w.op("Sub", u, one)
    corrected = w.op("Mul", less, w.op("Div", x, w.op("Log", u)))
    far = w.op("Greater", w.op("Abs", x), one)
    return w.op("Where", w.op("Equal", u, one), x, w.op("Where", far, less, corrected))


@exports("logaddexp")
def _logaddexp(w: Writer, node: Node, xs: list[Value]) -> Value:
    a, b = xs
    gap = w.op("Neg", w.op("Abs", w.op("Sub", a, b)))
    usual = w.op("Add", w.op("Max", a, b), log1p(w, w.op("Exp", gap), node.dtype))
    double = w.op("Add", a, w.constant(math.log(2), node.dtype))
    return w.op("Where", w.op("Equal", a, b), double, usual)


@exports("hypot")
def _hypot(w: Writer, node: Node, xs: list[Value]) -> Value:
    a, b = w.op("Abs", xs[0]), w.op("Abs", xs[1])
    large, small = w.op("Max", a, b), w.op("Min", a, b)
    scale = w.op("Where", is_zero(w, large, node.dtype), w.constant(1, node.dtype), large)
    ratio = w.op("Div", small, scale)
    length = w.op("Mul", large, w.op("Sqrt", w.op("Add", w.constant(1, node.dtype), w.op("Mul", ratio, ratio))))
    return w.op("Where", _infinite(w, a, b), w.constant(math.inf, node.dtype), length)


@exports("atan2")
def _atan2(w: Writer, node: Node, xs: list[Value]) -> Value:
    y, x = xs
    dtype, zero = node.dtype, w.constant(0, node.dtype)
    left = w.op("Less", w.op("Where", w.op("Equal", x, zero), w.op("Reciprocal", x), x), zero)  # -0.0 is left too
    below = w.op("Less", w.op("Where", w.op("Equal", y, zero), w.op("Reciprocal", y), y), zero)
    one = w.constant(1, dtype)
    side = w.op("Where", left, w.constant(-1, dtype), one)
    height = w.op("Where", below, w.constant(-1, dtype), one)
    both_zero = w.op("And", w.op("Equal", x, zero), w.op("Equal", y, zero))
    both_infinite = w.op("And", _infinite(w, x), _infinite(w, y))
    run = w.op("Where", w.op("Or", both_zero, both_infinite), side, x)
    rise = w.op("Where", both_infinite, height, y)
    angle = w.op("Atan", w.op("Div", rise, run))
    turn = w.op("Where", below, w.constant(-math.pi, dtype), w.constant(math.pi, dtype))
    return w.op("Where", left, w.op("Add", angle, turn), angle)


# ---------------------------------------------------------------- rounding, signs, neighbours


@exports("trunc")
def _trunc(w: Writer, node: Node, xs: list[Value]) -> Value:
    negative = w.op("Less", xs[0], w.constant(0, node.dtype))
    return w.op("Where", negative, w.op("Ceil", xs[0]), w.op("Floor", xs[0]))


@exports("isfinite")
def _isfinite(w: Writer, node: Node, xs: list[Value]) -> Value:
    return w.op("Not", w.op("Or", w.op("IsNaN", xs[0]), w.op("IsInf", xs[0])))


_BITS = {"float16": "int16", "bfloat16": "int16", "float32": "int32", "float64": "int64"}


def _bits(w: Writer, x: Value, dtype: str) -> tuple[Value, str]:
    """The bits of floating-point numbers as signed integers, and the dtype of those."""
    integer = _BITS[dtype]
    return w.op("BitCast", x, since=26, to=element_type(integer)), integer


@exports("copysign")
def _copysign(w: Writer, node: Node, xs: list[Value]) -> Value:
    bits, integer = _bits(w, xs[1], node.dtype)
    size = w.op("Abs", xs[0])
    return w.op("Where", w.op("Less", bits, w.constant(0, integer)), w.op("Neg", size), size)


@exports("nextafter")
def _nextafter(w: Writer, node: Node, xs: list[Value]) -> Value:
    """Neighbours differ by 1 in their bits; next to 0 stands the smallest number of b's sign."""
    a, b = xs
    dtype, zero = node.dtype, w.constant(0, node.dtype)
    bits, integer = _bits(w, a, dtype)
    away = w.op("Equal", w.op("Greater", b, a), w.op("Greater", a, zero))
    step = w.op("Where", away, w.constant(1, integer), w.constant(-1, integer))
    moved = w.op("BitCast", w.op("Add", bits, step), since=26, to=element_type(dtype))
    info = np.finfo(dtype)
    least = w.constant(info.smallest_subnormal, dtype)
    from_zero = w.op("Where", w.op("Less", b, zero), w.op("Neg", least), least)
    found = w.op("Where", w.op("Equal", a, zero), from_zero, moved)
    found = w.op("Where", w.op("Equal", a, b), b, found)
    unknown = w.op("Or", w.op("IsNaN", a), w.op("IsNaN", b))
    return w.op("Where", unknown, w.op("Add", a, b), found)


# ---------------------------------------------------------------- logic and bits


@exports("not_equal")
def _not_equal(w: Writer, node: Node, xs: list[Value]) -> Value:
    return w.op("Not", w.op("Equal", *xs))


def _logic(on_bools: str, on_bits: str) -> Callable[[Writer, Node, list[Value]], Value]:
    return lambda w, node, xs: w.op(on_bools if node.dtype == "bool" else on_bits, *xs)


EXPORTERS["bitwise_and"] = _logic("And", "BitwiseAnd")
EXPORTERS["bitwise_or"] = _logic("Or", "BitwiseOr")
EXPORTERS["bitwise_xor"] = _logic("Xor", "BitwiseXor")
EXPORTERS["bitwise_invert"] = _logic("Not", "BitwiseNot")


def _shift(w: Writer, node: Node, xs: list[Value], direction: str) -> tuple[Value, Value, Value]:
    """The shifted bits of xs[0] (its complement, where it is negative and goes right), by amounts that are in range.

    All as uint64, since BitShift takes unsigned integers only; then whether the amount was in range, and whether x < 0.
    """
    x, dtype = xs[0], node.dtype
    width = np.dtype(dtype).itemsize * 8
    zero = w.constant(0, dtype)
    fits = w.op("Less", xs[1], w.constant(width, dtype))
    if dtype in dtypes.SIGNED:
        fits = w.op("And", fits, w.op("GreaterOrEqual", xs[1], zero))
    negative = w.op("Less", x, zero)
    if direction == "RIGHT" and dtype in dtypes.SIGNED:
        x = choose(w, negative, w.op("BitwiseNot", x), x, dtype)
    amount = w.cast(choose(w, fits, xs[1], zero, dtype), dtype, "uint64")
    return w.op("BitShift", w.cast(x, dtype, "uint64"), amount, direction=direction), fits, negative


@exports("bitwise_left_shift")
def _left_shift(w: Writer, node: Node, xs: list[Value]) -> Value:
    shifted, fits, _ = _shift(w, node, xs, "LEFT")
    return choose(w, fits, w.cast(shifted, "uint64", node.dtype), w.constant(0, node.dtype), node.dtype)


@exports("bitwise_right_shift")
def _right_shift(w: Writer, node: Node, xs: list[Value]) -> Value:
    shifted, fits, negative = _shift(w, node, xs, "RIGHT")
    zero = w.constant(0, node.dtype)
    found = choose(w, fits, w.cast(shifted, "uint64", node.dtype), zero, node.dtype)
    if node.dtype not in dtypes.SIGNED:
        return found
    return choose(w, negative, w.op("BitwiseNot", found), found, node.dtype)
