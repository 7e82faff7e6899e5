"""Conversions between dtypes and the arithmetic of kernels; everything stays in the dtype of its operands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import types

from dlc.backends.cpu import half, philox, vector_math
from dlc.backends.cpu.prelude import DTYPES, NAMES, Buffer, Half, define, name
from dlc.backends.cpu.vector_math import llvm

# ---------------------------------------------------------------- conversions


def convert(b: Any, value: Any, source: Any, target: Any) -> Any:
    """`value` as NumPy's astype gives it. What NumPy leaves undefined (floats beyond the integers' range) saturates."""
    if source == target:
        return value
    if isinstance(target, Half):
        return half.narrowed(b, *_as_float(b, value, source), target.name)
    if isinstance(source, Half):
        value, source = half.widened(b, value, source.name), types.float32
        if target == source:
            return value
    if target == types.boolean:
        zero = ir.Constant(value.type, 0)
        return (
            b.fcmp_unordered("!=", value, zero) if isinstance(source, types.Float) else b.icmp_signed("!=", value, zero)
        )
    kind = (
        {32: ir.FloatType(), 64: ir.DoubleType()}[target.bitwidth]
        if isinstance(target, types.Float)
        else ir.IntType(target.bitwidth)
    )
    if isinstance(source, types.Float):
        if isinstance(target, types.Float):
            return (b.fpext if target.bitwidth > source.bitwidth else b.fptrunc)(value, kind)
        return _truncated(b, value, target, kind)
    unsigned = source == types.boolean or not source.signed
    if isinstance(target, types.Float):
        return (b.uitofp if unsigned else b.sitofp)(value, kind)
    if value.type.width == kind.width:
        return value
    if value.type.width > kind.width:
        return b.trunc(value, kind)
    return (b.zext if unsigned else b.sext)(value, kind)


def _as_float(b: Any, value: Any, source: Any) -> tuple[Any, bool]:
    """A number as a float from which rounding to a half gives what rounding the number gives; whether it is float64."""
    if isinstance(source, Half):
        return half.widened(b, value, source.name), False
    if isinstance(source, types.Float):
        return value, source.bitwidth == 64
    if source != types.boolean and source.bitwidth == 64:
        value = half.shortened(b, value, source.signed)
    return convert(b, value, source, types.float64), True


def _truncated(b: Any, value: Any, target: Any, kind: Any) -> Any:
    """A float towards zero; narrow integers keep the low bits of a wider one, as on the machines NumPy runs on."""
    wide = kind.width if target.bitwidth == 64 or target == types.int32 else 64 if target == types.uint32 else 32
    rule = "fptoui" if target == types.uint64 else "fptosi"
    whole = vector_math.call(
        b, f"llvm.{rule}.sat.i{wide}.{'f32' if value.type == ir.FloatType() else 'f64'}", value, result=ir.IntType(wide)
    )
    return whole if wide == kind.width else b.trunc(whole, kind)


def _define_conversion(text: str, target: Any) -> None:
    def conversion(typingctx: Any, x: Any) -> Any:
        x = types.unliteral(x)

        def emit(context: Any, b: Any, sig: Any, values: Any) -> Any:
            return convert(b, values[0], x, target)

        return (target(x), emit) if isinstance(x, (types.Integer, types.Float, types.Boolean, Half)) else None

    define(text, conversion)


for _text, _dtype in DTYPES.items():
    _define_conversion(_text, _dtype)


def _define_extreme(text: str, floating: float, highest: bool) -> None:
    def extreme(typingctx: Any, constructor: Any) -> Any:
        target = next((DTYPES[n] for n in DTYPES if getattr(constructor, "typing_key", None) is NAMES[n]), None)
        if target is None or isinstance(target, Half):
            return None

        def emit(context: Any, b: Any, sig: Any, values: Any) -> Any:
            if isinstance(target, types.Float):
                return context.get_constant(target, floating)
            return context.get_constant(target, target.maxval if highest else target.minval)

        return target(constructor), emit

    define(text, extreme)


_define_extreme("lowest", float("-inf"), highest=False)
_define_extreme("highest", float("inf"), highest=True)

# ---------------------------------------------------------------- arithmetic


def _elementary(text: str, operands: int, emit: Callable[..., Any], result: Any = None) -> None:
    """An intrinsic on operands of one dtype; `emit` takes the builder, the Numba type and the values."""

    def build(*xs: Any) -> Any:
        kinds = [types.unliteral(x) for x in xs]
        if any(kind != kinds[0] for kind in kinds):
            return None
        return (result or kinds[0])(*kinds), lambda context, b, sig, values: emit(b, kinds[0], *values)

    if operands == 1:
        define(text, lambda typingctx, x: build(x))
    else:
        define(text, lambda typingctx, x, y: build(x, y))


def _is_float(kind: Any) -> bool:
    return isinstance(kind, types.Float)


def _extremum(sign: str, text: str) -> Callable[..., Any]:
    def emit(b: Any, kind: Any, x: Any, y: Any) -> Any:
        if _is_float(kind):  # LLVM's maximum and minimum give NaN if either is; which zero wins is left open
            found = llvm(b, text, x, y)
            found.fastmath.add("nsz")
            return found
        compare = b.icmp_signed if kind.signed else b.icmp_unsigned
        return b.select(compare(sign, x, y), x, y)

    return emit


def _sign(b: Any, kind: Any, x: Any) -> Any:
    zero, one, less = (ir.Constant(x.type, v) for v in (0, 1, -1))
    if _is_float(kind):
        y = b.select(b.fcmp_ordered("<", x, zero), less, x)
        return b.select(b.fcmp_ordered(">", x, zero), one, y)
    return b.select(b.icmp_signed(">", x, zero), one, b.select(b.icmp_signed("<", x, zero), less, zero))


def _relu(b: Any, kind: Any, x: Any) -> Any:
    zero = ir.Constant(x.type, 0)
    below = b.fcmp_ordered("<", x, zero) if _is_float(kind) else b.icmp_signed("<", x, zero)
    return b.select(below, zero, x)


def _abs(b: Any, kind: Any, x: Any) -> Any:
    if _is_float(kind):
        return llvm(b, "fabs", x)
    return b.select(b.icmp_signed("<", x, ir.Constant(x.type, 0)), b.neg(x), x)


def _masked_multiply(b: Any, kind: Any, g: Any, d: Any) -> Any:
    zero = ir.Constant(g.type, 0)
    return b.select(b.fcmp_ordered("==", g, zero), zero, b.fmul(g, d))


def _divided(b: Any, kind: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """Integer quotient towards minus infinity and remainder; division by 0 gives 0 for both, overflow wraps."""
    zero, one = ir.Constant(x.type, 0), ir.Constant(x.type, 1)
    by_zero = b.icmp_signed("==", y, zero)
    unsafe = by_zero
    if kind.signed:
        lowest = b.icmp_signed("==", x, ir.Constant(x.type, kind.minval))
        unsafe = b.or_(by_zero, b.and_(lowest, b.icmp_signed("==", y, ir.Constant(x.type, -1))))
    safe = b.select(unsafe, one, y)
    if not kind.signed:
        q, r = b.udiv(x, safe), b.urem(x, safe)
    else:
        q, r = b.sdiv(x, safe), b.srem(x, safe)
        off = b.and_(b.icmp_signed("!=", r, zero), b.icmp_signed("<", b.xor(r, safe), zero))
        q, r = b.select(off, b.sub(q, one), q), b.select(off, b.add(r, safe), r)
    return b.select(by_zero, zero, q), b.select(by_zero, zero, r)


def _float_divided(b: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """floor(x / y) by way of the exact remainder, and that remainder with the sign of y, as NumPy defines them."""
    zero, one = ir.Constant(x.type, 0.0), ir.Constant(x.type, 1.0)
    r = b.frem(x, y)
    q = b.fdiv(b.fsub(x, r), y)
    exact = b.fcmp_ordered("==", r, zero)
    off = b.and_(b.not_(exact), b.xor(b.fcmp_ordered("<", y, zero), b.fcmp_ordered("<", r, zero)))
    r = b.select(off, b.fadd(r, y), b.select(exact, llvm(b, "copysign", zero, y), r))
    q = b.select(off, b.fsub(q, one), q)
    whole = llvm(b, "floor", q)
    whole = b.select(b.fcmp_ordered(">", b.fsub(q, whole), ir.Constant(x.type, 0.5)), b.fadd(whole, one), whole)
    whole = b.select(b.fcmp_ordered("==", q, zero), llvm(b, "copysign", zero, b.fdiv(x, y)), whole)
    by_zero = b.fcmp_ordered("==", y, zero)
    return b.select(by_zero, b.fdiv(x, y), whole), b.select(by_zero, b.frem(x, y), r)


def _floor_divide(b: Any, kind: Any, x: Any, y: Any) -> Any:
    return (_float_divided(b, x, y) if _is_float(kind) else _divided(b, kind, x, y))[0]


def _remainder(b: Any, kind: Any, x: Any, y: Any) -> Any:
    return (_float_divided(b, x, y) if _is_float(kind) else _divided(b, kind, x, y))[1]


def _isfinite(b: Any, kind: Any, x: Any) -> Any:
    return b.fcmp_ordered("<", llvm(b, "fabs", x), ir.Constant(x.type, float("inf")))


def _shifted(b: Any, kind: Any, x: Any, n: Any, shift: Callable[..., Any]) -> Any:
    """x shifted by n bits; by more than there are, or fewer than none, nothing is left but copies of the sign."""
    most = ir.Constant(x.type, x.type.width - 1)
    fits = b.icmp_unsigned("<=", n, most)
    signs = b.ashr(x, most) if kind.signed and shift == b.ashr else ir.Constant(x.type, 0)
    return b.select(fits, shift(x, b.select(fits, n, most)), signs)


_elementary("accumulate", 2, lambda b, kind, x, y: b.fadd(x, y) if _is_float(kind) else b.add(x, y))
_elementary("multiplied", 2, lambda b, kind, x, y: b.fmul(x, y) if _is_float(kind) else b.mul(x, y))
_elementary("lesser", 2, lambda b, kind, x, y: b.select(b.icmp_signed("<", x, y), x, y))  # of dims and indices
_elementary("greater", 2, lambda b, kind, x, y: b.select(b.icmp_signed(">", x, y), x, y))
_elementary("maximum", 2, _extremum(">", "maximum"))
_elementary("minimum", 2, _extremum("<", "minimum"))
_elementary("masked_multiply", 2, _masked_multiply)
_elementary("floor_divide", 2, _floor_divide)
_elementary("remainder", 2, _remainder)
_elementary("power", 2, lambda b, kind, x, y: vector_math.power(b, x, y))
_elementary("sign", 1, _sign)
_elementary("absolute", 1, _abs)
_elementary("relu", 1, _relu)
_elementary("invert", 1, lambda b, kind, x: b.not_(x))
_elementary("isnan", 1, lambda b, kind, x: b.fcmp_unordered("uno", x, x), result=types.boolean)
_elementary("isfinite", 1, _isfinite, result=types.boolean)
_elementary("shift_left", 2, lambda b, kind, x, n: _shifted(b, kind, x, n, b.shl))
_elementary("shift_right", 2, lambda b, kind, x, n: _shifted(b, kind, x, n, b.ashr if kind.signed else b.lshr))
for _text, _emit in vector_math.UNARY.items():
    _elementary(_text, 1, lambda b, kind, x, emit=_emit: emit(b, x))
for _text, _join in vector_math.BINARY.items():
    _elementary(_text, 2, lambda b, kind, x, y, emit=_join: emit(b, x, y))


@name
def multiply_add(typingctx: Any, x: Any, y: Any, z: Any) -> Any:
    """x * y + z, rounded once where the machine can. Nothing else is: an op rounds its result, alone or fused."""
    kind = types.unliteral(x)
    if not _is_float(kind) or any(types.unliteral(other) != kind for other in (y, z)):
        return None
    return kind(kind, kind, kind), lambda context, b, sig, values: llvm(b, "fmuladd", *values)


def _folded(typingctx: Any, array: Any, count: Any) -> Any:
    """The sum of `count` lanes in memory, a power of two: halves are added to halves until one is left."""
    if not isinstance(array, Buffer) or not isinstance(count, types.IntegerLiteral):
        return None

    def emit(context: Any, b: Any, sig: Any, values: Any) -> Any:
        left = count.literal_value
        kind = ir.VectorType(context.get_data_type(array.dtype), left)
        found = b.load(b.bitcast(values[0], kind.as_pointer()), align=context.get_abi_sizeof(kind.element))
        while left > 1:
            left //= 2
            halves = (
                b.shuffle_vector(
                    found,
                    ir.Constant(found.type, ir.Undefined),
                    ir.Constant(ir.VectorType(ir.IntType(32), left), list(range(first, first + left))),
                )
                for first in (0, left)
            )
            found = (b.fadd if _is_float(array.dtype) else b.add)(*halves)
        return b.extract_element(found, ir.Constant(ir.IntType(32), 0))

    return array.dtype(array, count), emit


define("folded", _folded, literals=True)


@name
def select(typingctx: Any, condition: Any, x: Any, y: Any) -> Any:
    """x where the condition holds, else y; both are evaluated."""
    kind = types.unliteral(x)
    if types.unliteral(y) != kind:
        return None
    return kind(types.boolean, kind, kind), lambda context, b, sig, values: b.select(*values)


@name
def random_word(typingctx: Any, seed: Any, step: Any, site: Any, index: Any, word: Any) -> Any:
    """32 random bits, held as uint64: word 0 to 3 of an element's draw."""
    places = (types.int64,) * 4
    return types.uint64(types.uint64, *places), lambda context, b, sig, values: philox.random_word(b, *values)
