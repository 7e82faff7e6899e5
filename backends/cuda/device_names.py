"""The names that kernels are written in, as Numba CUDA intrinsics; transcendental functions are libdevice's.

Each emits its LLVM IR in place, so that an entry is one function and can be compiled where there is no GPU. Addresses
are those of global memory, which the compiler is told, for loads and stores that need not ask what they point to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import cuda
from numba.cuda import cgutils, types
from numba.cuda.extending import intrinsic

from dlc.backends.cpu import philox
from dlc.backends.cuda.simulated_names import DTYPES

I64 = ir.IntType(64)
GLOBAL = 1  # LLVM's address space of global memory
TYPES = {text: types.boolean if text == "boolean" else getattr(types, text) for text in DTYPES}
WORDS = types.CPointer(types.int64)
NAMES: dict[str, Any] = {
    **{text: dtype.type for text, dtype in DTYPES.items()},
    "cuda": cuda, "inf": float("inf"), "nan": float("nan"), "span": range, "independent": range,
}  # fmt: skip


def name(typing: Callable[..., Any]) -> Callable[..., Any]:
    """Enter an intrinsic into the names that kernels are written in."""
    NAMES[typing.__name__] = intrinsic(typing)
    return typing


# ---------------------------------------------------------------- memory


def _global(b: Any, address: Any, element: Any) -> Any:
    return b.addrspacecast(b.inttoptr(address, ir.PointerType(element, GLOBAL)), element.as_pointer())


@name
def pointer_at(typingctx: Any, address: Any) -> Any:
    """An address as a pointer to int64."""
    return WORDS(types.int64), lambda context, b, sig, values: _global(b, values[0], I64)


@name
def pointer_status(typingctx: Any, bases: Any) -> Any:
    """The status block."""
    return WORDS(WORDS), lambda context, b, sig, values: _global(b, b.load(values[0]), I64)


def _define_memory(text: str, dtype: Any) -> None:
    def pointer(typingctx: Any, bases: Any, args: Any, k: Any) -> Any:
        def emit(context: Any, b: Any, sig: Any, values: Any) -> Any:
            bases, args, k = values
            at = b.mul(k, ir.Constant(I64, 2))
            base, offset = [b.load(b.gep(args, [i])) for i in (at, b.add(at, ir.Constant(I64, 1)))]
            return _global(b, b.add(b.load(b.gep(bases, [base])), offset), context.get_data_type(dtype))

        return types.CPointer(dtype)(WORDS, WORDS, types.int64), emit

    def local(typingctx: Any, length: Any) -> Any:
        def emit(context: Any, b: Any, sig: Any, values: Any) -> Any:
            return cgutils.alloca_once(b, context.get_data_type(dtype), size=length.literal_value)

        return (types.CPointer(dtype)(length), emit) if isinstance(length, types.IntegerLiteral) else None

    NAMES[f"pointer_{text}"] = intrinsic(pointer)
    NAMES[f"local_{text}"] = intrinsic(local)


for _text, _dtype in TYPES.items():
    _define_memory(_text, _dtype)


@name
def check(typingctx: Any, holds: Any, status: Any, number: Any, operand: Any, index: Any, extent: Any) -> Any:
    """Report an index out of range unless `holds`; of several threads one reports."""

    def emit(context: Any, b: Any, sig: Any, values: Any) -> Any:
        holds, status, *report = values
        with b.if_then(b.not_(holds), likely=False):
            found = b.cmpxchg(status, ir.Constant(I64, 0), ir.Constant(I64, 1), "monotonic", "monotonic")
            with b.if_then(b.extract_value(found, 1)):
                for i, value in enumerate(report):
                    b.store(value, b.gep(status, [ir.Constant(I64, i + 1)]))
        return context.get_dummy_value()

    long = types.int64
    return types.none(types.boolean, WORDS, long, long, long, long), emit


# ---------------------------------------------------------------- arithmetic


def _define_extreme(text: str, floating: float, highest: bool) -> None:
    def extreme(typingctx: Any, constructor: Any) -> Any:
        target: Any = getattr(constructor, "dtype", None)
        if target not in TYPES.values():
            return None
        bound = floating if isinstance(target, types.Float) else target.maxval if highest else target.minval
        return target(constructor), lambda context, b, sig, values: context.get_constant(target, bound)

    NAMES[text] = intrinsic(extreme)


_define_extreme("lowest", float("-inf"), highest=False)
_define_extreme("highest", float("inf"), highest=True)


def _elementary(text: str, operands: int, emit: Callable[..., Any], result: Any = None) -> None:
    """An intrinsic on operands of one dtype; `emit` takes the builder, the Numba type and the values."""

    def build(*xs: Any) -> Any:
        kinds = [types.unliteral(x) for x in xs]
        if any(kind != kinds[0] for kind in kinds):
            return None
        return (result or kinds[0])(*kinds), lambda context, b, sig, values: emit(b, kinds[0], *values)

    unary, binary = lambda typingctx, x: build(x), lambda typingctx, x, y: build(x, y)
    NAMES[text] = intrinsic(unary if operands == 1 else binary)


def _is_float(kind: Any) -> bool:
    return isinstance(kind, types.Float)


def _libdevice(b: Any, text: str, *values: Any) -> Any:
    kind = values[0].type
    symbol = f"__nv_{text}f" if kind == ir.FloatType() else f"__nv_{text}"
    function = cgutils.get_or_insert_function(b.module, ir.FunctionType(kind, [v.type for v in values]), symbol)
    return b.call(function, values)


def _compare(b: Any, kind: Any, sign: str, x: Any, y: Any) -> Any:
    if _is_float(kind):
        return b.fcmp_ordered(sign, x, y)
    signed = isinstance(kind, types.Integer) and kind.signed
    return (b.icmp_signed if signed else b.icmp_unsigned)(sign, x, y)


def _extremum(sign: str) -> Callable[..., Any]:
    def emit(b: Any, kind: Any, x: Any, y: Any) -> Any:
        wins = _compare(b, kind, sign, x, y)
        if _is_float(kind):  # NaN if either is
            wins = b.or_(wins, b.fcmp_unordered("uno", x, x))
        return b.select(wins, x, y)

    return emit


def _below_zero(b: Any, kind: Any, x: Any, y: Any) -> Any:
    """y where x is negative, else x."""
    return b.select(_compare(b, kind, "<", x, ir.Constant(x.type, 0)), y, x)


def _relu(b: Any, kind: Any, x: Any) -> Any:
    return _below_zero(b, kind, x, ir.Constant(x.type, 0))


def _sign(b: Any, kind: Any, x: Any) -> Any:
    above = _compare(b, kind, ">", x, ir.Constant(x.type, 0))
    return b.select(above, ir.Constant(x.type, 1), _below_zero(b, kind, x, ir.Constant(x.type, -1)))


def _absolute(b: Any, kind: Any, x: Any) -> Any:
    return _libdevice(b, "fabs", x) if _is_float(kind) else _below_zero(b, kind, x, b.neg(x))


def _masked_multiply(b: Any, kind: Any, g: Any, d: Any) -> Any:
    zero = ir.Constant(g.type, 0)
    return b.select(b.fcmp_ordered("==", g, zero), zero, b.fmul(g, d))


def _divided(b: Any, kind: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """Quotient rounded down and remainder with the sign of y; integers give 0 for both by 0, and wrap."""
    zero = ir.Constant(x.type, 0)
    if _is_float(kind):
        return _float_divided(b, x, y)
    if not kind.signed:
        by_zero = b.icmp_unsigned("==", y, zero)
        safe = b.select(by_zero, ir.Constant(x.type, 1), y)
        return b.select(by_zero, zero, b.udiv(x, safe)), b.select(by_zero, zero, b.urem(x, safe))
    by_zero = b.icmp_signed("==", y, zero)
    wraps = b.icmp_signed("==", y, ir.Constant(x.type, -1))
    safe = b.select(b.or_(by_zero, wraps), ir.Constant(x.type, 1), y)
    q, r = b.sdiv(x, safe), b.srem(x, safe)
    off = b.and_(b.icmp_signed("!=", r, zero), b.icmp_signed("<", b.xor(r, safe), zero))
    q, r = b.select(off, b.sub(q, ir.Constant(x.type, 1)), q), b.select(off, b.add(r, safe), r)
    return b.select(by_zero, zero, b.select(wraps, b.neg(x), q)), b.select(by_zero, zero, r)


def _float_divided(b: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """By way of the exact remainder, as NumPy defines both."""
    zero, one = ir.Constant(x.type, 0.0), ir.Constant(x.type, 1.0)
    exact_remainder = _libdevice(b, "fmod", x, y)
    q = b.fdiv(b.fsub(x, exact_remainder), y)
    exact = b.fcmp_ordered("==", exact_remainder, zero)
    off = b.and_(b.not_(exact), b.xor(b.fcmp_ordered("<", y, zero), b.fcmp_ordered("<", exact_remainder, zero)))
    r = b.select(exact, _libdevice(b, "copysign", zero, y), exact_remainder)
    q, r = b.select(off, b.fsub(q, one), q), b.select(off, b.fadd(exact_remainder, y), r)
    whole = _libdevice(b, "floor", q)
    whole = b.select(b.fcmp_ordered(">", b.fsub(q, whole), ir.Constant(x.type, 0.5)), b.fadd(whole, one), whole)
    whole = b.select(b.fcmp_ordered("==", q, zero), _libdevice(b, "copysign", zero, b.fdiv(x, y)), whole)
    by_zero = b.fcmp_ordered("==", y, zero)
    return b.select(by_zero, b.fdiv(x, y), whole), b.select(by_zero, exact_remainder, r)


def _sigmoid(b: Any, kind: Any, x: Any) -> Any:
    """1 / (1 + e) for x >= 0, e / (1 + e) below, with e = exp(-|x|): no overflow."""
    one = ir.Constant(x.type, 1)
    e = _libdevice(b, "exp", b.fsub(ir.Constant(x.type, -0.0), _libdevice(b, "fabs", x)))
    top = b.select(b.fcmp_ordered("<", x, ir.Constant(x.type, 0)), e, one)
    return b.fdiv(top, b.fadd(one, e))


def _isfinite(b: Any, kind: Any, x: Any) -> Any:
    return b.fcmp_ordered("<", _libdevice(b, "fabs", x), ir.Constant(x.type, float("inf")))


def _shifted(b: Any, kind: Any, x: Any, n: Any, shift: Callable[..., Any]) -> Any:
    """x shifted by n bits; by more than there are, or fewer than none, nothing is left but copies of the sign."""
    most = ir.Constant(x.type, x.type.width - 1)
    fits = b.icmp_unsigned("<=", n, most)
    signs = b.ashr(x, most) if kind.signed and shift == b.ashr else ir.Constant(x.type, 0)
    return b.select(fits, shift(x, b.select(fits, n, most)), signs)


_elementary("accumulate", 2, lambda b, kind, x, y: b.fadd(x, y) if _is_float(kind) else b.add(x, y))
_elementary("multiplied", 2, lambda b, kind, x, y: b.fmul(x, y) if _is_float(kind) else b.mul(x, y))
_elementary("lesser", 2, lambda b, kind, x, y: b.select(b.icmp_signed("<", x, y), x, y))
_elementary("greater", 2, lambda b, kind, x, y: b.select(b.icmp_signed(">", x, y), x, y))
_elementary("maximum", 2, _extremum(">"))
_elementary("minimum", 2, _extremum("<"))
_elementary("masked_multiply", 2, _masked_multiply)
_elementary("floor_divide", 2, lambda b, kind, x, y: _divided(b, kind, x, y)[0])
_elementary("remainder", 2, lambda b, kind, x, y: _divided(b, kind, x, y)[1])
_elementary("power", 2, lambda b, kind, x, y: _libdevice(b, "pow", x, y))
_elementary("sign", 1, _sign)
_elementary("absolute", 1, _absolute)
_elementary("relu", 1, _relu)
_elementary("invert", 1, lambda b, kind, x: b.not_(x))
_elementary("isnan", 1, lambda b, kind, x: b.fcmp_unordered("uno", x, x), result=types.boolean)
_elementary("isfinite", 1, _isfinite, result=types.boolean)
_elementary("sigmoid", 1, _sigmoid)
_elementary("shift_left", 2, lambda b, kind, x, n: _shifted(b, kind, x, n, b.shl))
_elementary("shift_right", 2, lambda b, kind, x, n: _shifted(b, kind, x, n, b.ashr if kind.signed else b.lshr))
for _text in (
    *("exp", "log", "tanh", "erf", "expm1", "log1p", "sin", "cos", "sqrt", "rsqrt", "floor", "ceil", "trunc", "rint"),
    *("tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh", "exp2", "log2", "log10"),
):
    _elementary(_text, 1, lambda b, kind, x, text=_text: _libdevice(b, text, x))
for _text in ("atan2", "hypot", "copysign", "nextafter"):
    _elementary(_text, 2, lambda b, kind, x, y, text=_text: _libdevice(b, text, x, y))


@name
def multiply_add(typingctx: Any, x: Any, y: Any, z: Any) -> Any:
    """x * y + z, which the assembler for the device fuses."""
    kind = types.unliteral(x)
    if not _is_float(kind) or any(types.unliteral(other) != kind for other in (y, z)):
        return None
    return kind(kind, kind, kind), lambda context, b, sig, values: b.fadd(b.fmul(*values[:2]), values[2])


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
