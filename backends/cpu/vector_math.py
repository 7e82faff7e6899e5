"""Transcendental functions of float32 as straight-line LLVM IR, which vectorises; float64 calls the C library.

Each function takes an IR builder and a scalar and reduces its argument to a small interval, where a polynomial stands
for the function. The coefficients are Chebyshev interpolants of the functions named beside them, rounded to float32.
Where float32 arithmetic would lose bits, the function is computed in float64 and rounded once. Results of float32
are held to 2 ulp on a sample of all exponents and edges (tests/test_vector_math.py).
No operation here may be reassociated: the reduction lives on rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from llvmlite import ir
from numba.core import cgutils

FLOAT, DOUBLE, INT, LONG = ir.FloatType(), ir.DoubleType(), ir.IntType(32), ir.IntType(64)

LOG2E = 1.4426950408889634
LN2_HIGH = (
    0.693359375  # ln 2 in two parts (Cody and Waite): the first has trailing zeros, so that n * LN2_HIGH is exact
)
LN2_LOW = -2.12194440e-4
ROUND = 12582912.0  # 1.5 * 2**23: adding it leaves the nearest integer in the low bits
BIAS = 127  # of float32's exponent field
SQRT_HALF_BITS = 0x3F3504F3

# (exp(r) - 1 - r) / r**2, |r| <= ln(2) / 2
EXP = (0.5, 0.16666576266288757, 0.041666556149721146, 0.008363203145563602, 0.0013926213141530752)
# (log(1 + f) - f + f**2 / 2) / f**3, sqrt(1/2) <= 1 + f <= sqrt(2)
LOG = (0.3333333432674408, -0.24999989569187164, 0.2000001072883606, -0.1666800081729889,
       0.14286524057388306, -0.12450743466615677, 0.11037783324718475, -0.10646191984415054, 0.1053086444735527,
       -0.062015000730752945)  # fmt: skip
# (tanh(x) - x) / x**3 in x**2, |x| <= 0.625
TANH = (-0.3333333432674408, 0.13333304226398468, -0.053959257900714874, 0.02176891826093197, -0.008343945257365704,
        0.002292744815349579)  # fmt: skip
# erf(x) / x - 1 in x**2, |x| <= 1
ERF = (0.12837916612625122, -0.37612637877464294, 0.11283782124519348, -0.026865430176258087, 0.005221031606197357,
       -0.0008484080317430198, 0.00011265958892181516, -9.667043741501402e-06)  # fmt: skip
# -log(erfc(x)), 1 <= x <= 4
ERFC = (-0.0003201380604878068, 1.1302334070205688, 0.6318260431289673, 0.11008008569478989, -0.026421135291457176,
        0.004759596195071936, -0.0005968056502752006, 4.605804497259669e-05, -1.6371513393362896e-06)  # fmt: skip

# Of the functions of float32 that are computed in float64. Chebyshev interpolants too; the error stands beside each.
LN2 = 0.6931471805599453
WIDE_ROUND = 6755399441055744.0  # 1.5 * 2**52
WIDE_SQRT_HALF_BITS = 0x3FE6A09E667F3BCD
HALF_PI_HIGH, HALF_PI_LOW = 1.5707963267948966, 6.123233995736766e-17  # their sum is pi / 2 to 107 bits
# (exp(r) - 1) / r, |r| <= ln(2) / 2: 2.4e-10
WIDE_EXPM1 = (1.0, 0.5000000047117757, 0.16666666718997508, 0.04166635289677516, 0.008333298483754886,
              0.0013941108433972674, 0.0001989927395864936)  # fmt: skip
# log(1 + f) / f, sqrt(1/2) <= 1 + f <= sqrt(2): 2.2e-11
WIDE_LOG1P = (0.9999999999874651, -0.5000000003595171, 0.3333333424920659, -0.24999992728449305, 0.19999888139973632,
              -0.16667024572009081, 0.1429081173942899, -0.12495435324992145, 0.11006038270379548, -0.09945996186719662,
              0.1004720511888933, -0.09804420067786203, 0.05235888516923783)  # fmt: skip
# sin(r) / r in r**2, |r| <= 1.575: 1.8e-11
WIDE_SIN = (0.9999999999823658, -0.16666666615474937, 0.008333330923667748, -0.00019840854645757476,
            2.7524930411496343e-06, -2.3883122607754572e-08)  # fmt: skip


def call(b: Any, name: str, *args: Any, result: Any = None) -> Any:
    """Call an LLVM intrinsic or a function of the C library on values of one type."""
    kind = result or args[0].type
    function = cgutils.get_or_insert_function(b.module, ir.FunctionType(kind, [a.type for a in args]), name)
    return b.call(function, args)


def intrinsic_name(name: str, kind: Any) -> str:
    """The name of LLVM's intrinsic for a type: llvm.exp.f32."""
    width = kind.width if isinstance(kind, ir.IntType) else 32 if kind == FLOAT else 64
    return f"llvm.{name}.{'i' if isinstance(kind, ir.IntType) else 'f'}{width}"


def llvm(b: Any, name: str, *args: Any) -> Any:
    """Call LLVM's intrinsic for the type of the first argument."""
    return call(b, intrinsic_name(name, args[0].type), *args)


def number(value: float, kind: Any = FLOAT) -> Any:
    """A constant."""
    return ir.Constant(kind, value)


def fma(b: Any, x: Any, y: Any, z: Any) -> Any:
    """x * y + z, rounded once."""
    return llvm(b, "fma", x, y, z)


def polynomial(b: Any, x: Any, coefficients: Sequence[float]) -> Any:
    """Horner's rule; coefficients from the constant one upwards."""
    total = number(coefficients[-1], x.type)
    for c in reversed(coefficients[:-1]):
        total = fma(b, total, x, number(c, x.type))
    return total


def _clamped(b: Any, x: Any, low: float, high: float) -> Any:
    """x within bounds; NaN passes."""
    x = b.select(b.fcmp_ordered("<", x, number(low)), number(low), x)
    return b.select(b.fcmp_ordered(">", x, number(high)), number(high), x)


def exp_f32(b: Any, x: Any) -> Any:
    """exp(x) = 2**n * exp(r) with x = n ln 2 + r; the scale in two factors, so that subnormal results come out."""
    x = _clamped(b, x, -105.0, 90.0)
    rounded = fma(b, x, number(LOG2E), number(ROUND + 2 * BIAS))
    n = b.fsub(rounded, number(ROUND + 2 * BIAS))
    r = fma(b, n, number(-LN2_HIGH), x)
    r = fma(b, n, number(-LN2_LOW), r)
    less_one = fma(b, polynomial(b, r, EXP), b.fmul(r, r), r)
    # The low bits of `rounded` are n + 2 BIAS: each factor's exponent field has half of it, the second the odd one.
    bits = b.bitcast(rounded, INT)
    first = b.and_(b.shl(bits, ir.Constant(INT, 22)), ir.Constant(INT, 0x7F800000))
    second = b.bitcast(b.sub(b.shl(bits, ir.Constant(INT, 23)), first), FLOAT)
    first = b.bitcast(first, FLOAT)
    return b.fmul(fma(b, less_one, first, first), second)


def log_f32(b: Any, x: Any) -> Any:
    """log(x) = e ln 2 + log(m) with sqrt(1/2) <= m < sqrt(2); subnormal arguments are scaled up first."""
    tiny = b.fcmp_ordered("<", x, number(1.1754943508222875e-38))
    scaled = b.select(tiny, b.fmul(x, number(8388608.0)), x)
    bits = b.bitcast(scaled, INT)
    exponent = b.ashr(b.sub(bits, ir.Constant(INT, SQRT_HALF_BITS)), ir.Constant(INT, 23))
    m = b.bitcast(b.sub(bits, b.shl(exponent, ir.Constant(INT, 23))), FLOAT)
    e = b.sitofp(b.sub(exponent, b.select(tiny, ir.Constant(INT, 23), ir.Constant(INT, 0))), FLOAT)
    f = b.fsub(m, number(1.0))
    z = b.fmul(f, f)
    y = b.fmul(b.fmul(f, z), polynomial(b, f, LOG))
    y = fma(b, e, number(LN2_LOW), y)
    y = fma(b, z, number(-0.5), y)
    y = fma(b, e, number(LN2_HIGH), b.fadd(f, y))
    y = b.select(b.fcmp_ordered("==", x, number(float("inf"))), x, y)
    y = b.select(b.fcmp_ordered("==", x, number(0.0)), number(float("-inf")), y)
    return b.select(b.fcmp_unordered("<", x, number(0.0)), number(float("nan")), y)


def tanh_f32(b: Any, x: Any) -> Any:
    """An odd polynomial near 0, else 1 - 2 / (exp(2|x|) + 1) with the sign of x."""
    size = llvm(b, "fabs", x)
    z = b.fmul(x, x)
    near = fma(b, b.fmul(polynomial(b, z, TANH), z), x, x)
    e = exp_f32(b, b.fadd(size, size))
    far = b.fsub(number(1.0), b.fdiv(number(2.0), b.fadd(e, number(1.0))))
    return llvm(b, "copysign", b.select(b.fcmp_ordered("<", size, number(0.625)), near, far), x)


def erf_f32(b: Any, x: Any) -> Any:
    """An odd polynomial within 1, else 1 - exp(-p(|x|)) with the sign of x; 1 from 4 on."""
    size = llvm(b, "fabs", x)
    near = fma(b, polynomial(b, b.fmul(x, x), ERF), x, x)
    limited = b.select(b.fcmp_ordered(">", size, number(4.0)), number(4.0), size)
    tail = exp_f32(b, b.fneg(polynomial(b, limited, ERFC)))
    far = llvm(b, "copysign", b.fsub(number(1.0), tail), x)
    return b.select(b.fcmp_ordered("<", size, number(1.0)), near, far)


def _widened(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of float32 computed in float64 and rounded once: half the lanes, but no error to speak of."""

    def narrow(b: Any, *xs: Any) -> Any:
        return b.fptrunc(function(b, *[b.fpext(x, DOUBLE) for x in xs]), FLOAT)

    return narrow


def _wide(value: float) -> Any:
    return number(value, DOUBLE)


def _long(value: int) -> Any:
    return ir.Constant(LONG, value)


def _bounded(b: Any, x: Any, bound: float) -> Any:
    """x between -bound and bound; NaN passes."""
    x = b.select(b.fcmp_ordered("<", x, _wide(-bound)), _wide(-bound), x)
    return b.select(b.fcmp_ordered(">", x, _wide(bound)), _wide(bound), x)


def _exp_parts(b: Any, x: Any) -> tuple[Any, Any]:
    """2**n and exp(r) - 1 with x = n ln 2 + r, for |x| below 700; neither part leaves float64's normal range."""
    rounded = fma(b, x, _wide(LOG2E), _wide(WIDE_ROUND))
    r = fma(b, b.fsub(rounded, _wide(WIDE_ROUND)), _wide(-LN2), x)
    scale = b.bitcast(b.shl(b.add(b.bitcast(rounded, LONG), _long(1023)), _long(52)), DOUBLE)
    return scale, b.fmul(r, polynomial(b, r, WIDE_EXPM1))


def _wide_exp(b: Any, x: Any) -> Any:
    scale, p = _exp_parts(b, _bounded(b, x, 120.0))
    return fma(b, scale, p, scale)


def _wide_expm1(b: Any, x: Any) -> Any:
    """(2**n - 1) + 2**n (exp(r) - 1), where n = 0 near 0, so that small results keep all their bits."""
    scale, p = _exp_parts(b, _bounded(b, x, 120.0))
    return llvm(b, "copysign", fma(b, scale, p, b.fsub(scale, _wide(1.0))), x)


def _wide_sigmoid(b: Any, x: Any) -> Any:
    """1 / (1 + exp(-x)): for float32 arguments nothing overflows."""
    return b.fdiv(_wide(1.0), b.fadd(_wide(1.0), _wide_exp(b, b.fneg(x))))


def _log_of_normal(b: Any, u: Any, less_one: Any | None = None) -> Any:
    """log(u) of a positive normal float64; `less_one` is u - 1 where that is known better than u tells."""
    bits = b.bitcast(u, LONG)
    offset = b.sub(bits, _long(WIDE_SQRT_HALF_BITS))
    exponent = b.ashr(offset, _long(52))
    m = b.bitcast(b.sub(bits, b.and_(offset, _long(-(1 << 52)))), DOUBLE)
    f = b.fsub(m, _wide(1.0))
    if less_one is not None:
        f = b.select(b.icmp_signed("==", exponent, _long(0)), less_one, f)
    e = b.sitofp(b.trunc(exponent, INT), DOUBLE)
    return fma(b, e, _wide(LN2), b.fmul(f, polynomial(b, f, WIDE_LOG1P)))


def _log_special(b: Any, u: Any, y: Any) -> Any:
    """log(u), where y is that for positive finite u."""
    y = b.select(b.fcmp_ordered("==", u, _wide(float("inf"))), u, y)
    y = b.select(b.fcmp_ordered("==", u, _wide(0.0)), _wide(float("-inf")), y)
    return b.select(b.fcmp_unordered("<", u, _wide(0.0)), _wide(float("nan")), y)


def _wide_log1p(b: Any, x: Any) -> Any:
    u = b.fadd(x, _wide(1.0))
    y = _log_special(b, u, _log_of_normal(b, u, less_one=x))
    return b.select(b.fcmp_ordered("==", x, _wide(0.0)), x, y)


def _wide_pow(b: Any, x: Any, y: Any) -> Any:
    """exp(y log |x|), with the sign and the special cases of IEEE 754's pow."""
    zero, one = _wide(0.0), _wide(1.0)
    size = llvm(b, "fabs", x)
    result = _wide_exp(b, b.fmul(y, _log_special(b, size, _log_of_normal(b, size))))
    half = b.fmul(y, _wide(0.5))
    whole = b.fcmp_ordered("==", llvm(b, "floor", y), y)
    odd = b.and_(whole, b.fcmp_ordered("!=", llvm(b, "floor", half), half))
    result = b.select(odd, llvm(b, "copysign", result, x), result)
    finite_below = b.and_(b.fcmp_ordered("<", x, zero), b.fcmp_ordered(">", x, _wide(float("-inf"))))
    result = b.select(b.and_(finite_below, b.not_(whole)), _wide(float("nan")), result)
    both = b.and_(b.fcmp_ordered("==", size, one), b.fcmp_ordered("==", llvm(b, "fabs", y), _wide(float("inf"))))
    is_one = b.or_(b.or_(b.fcmp_ordered("==", y, zero), b.fcmp_ordered("==", x, one)), both)
    result = b.select(b.fcmp_unordered("uno", x, y), _wide(float("nan")), result)
    return b.select(is_one, one, result)


def _arctan_of_reciprocal(n: int, unit: int) -> int:
    """unit * arctan(1 / n) in integers, by the Taylor series."""
    power, total, k = unit // n, 0, 0
    while power:
        total += (-power if k % 2 else power) // (2 * k + 1)
        power //= n * n
        k += 1
    return total


@cache
def _turns() -> tuple[tuple[float, ...], ...]:
    """Factors that bring a float32 x below 2**32 without changing its sine: high, middle and low parts.

    Entry 0, for |x| < 2**32, is 1. Entry j, for exponents e = 31 + j, is 2**-k (2**k mod 2 pi) with k = e - 23: then
    x 2**-k is an integer, so that x times the factor differs from x by a multiple of 2 pi. High and middle have 29 bits
    and x has 24, so their products are exact in float64. The last entry, for inf and NaN, is NaN.
    """
    digits = 320
    unit = 1 << digits
    turn = 2 * (16 * _arctan_of_reciprocal(5, unit) - 4 * _arctan_of_reciprocal(239, unit))  # Machin's formula
    rows = [(1.0, 0.0, 0.0)]
    for exponent in range(32, 128):
        k = exponent - 23
        rest = (1 << (k + digits)) % turn
        rest -= turn if 2 * rest > turn else 0
        parts = []
        for bits in (29, 29, 53):
            shift = max(abs(rest).bit_length() - bits, 0)
            part = (abs(rest) >> shift << shift) * (-1 if rest < 0 else 1)
            parts.append(math.ldexp(part / unit, -k))
            rest -= part
        rows.append((parts[0], parts[1], parts[2]))
    rows.append((math.nan,) * 3)
    return tuple(zip(*rows, strict=True))


def _gathered(b: Any, name: str, values: Sequence[float], index: Any) -> Any:
    """An element of a constant table."""
    table = b.module.globals.get(name)
    if table is None:
        kind = ir.ArrayType(DOUBLE, len(values))
        table = ir.GlobalVariable(b.module, kind, name)
        table.linkage, table.global_constant = "internal", True
        table.initializer = ir.Constant(kind, [_wide(v) for v in values])
    return b.load(b.gep(table, [_long(0), index], inbounds=True))


def _sine(b: Any, x: Any, phase: int) -> Any:
    """sin(x) (phase 0) or cos(x) (phase 1): ± sin(r) with r = x - q pi / 2, q - phase even, |r| <= pi / 2.

    x times its factor is y + w (+ low), y and w exact. q HALF_PI_HIGH is a multiple of 2**-52, as y is where it
    matters, so r keeps its relative accuracy however close x is to a multiple of pi. The look-up keeps LLVM from
    vectorising the loop of a kernel.
    """
    exponent = b.and_(b.lshr(b.bitcast(x, INT), ir.Constant(INT, 23)), ir.Constant(INT, 255))
    above = b.sub(exponent, ir.Constant(INT, 127 + 31))
    row = b.zext(b.select(b.icmp_signed(">", above, ir.Constant(INT, 0)), above, ir.Constant(INT, 0)), LONG)
    wide = b.fpext(x, DOUBLE)
    high, middle, low = (
        _gathered(b, f"dlc_turns_{part}", values, row) for part, values in enumerate(_turns())
    )
    y, w = b.fmul(wide, high), b.fmul(wide, middle)
    turns = fma(b, b.fadd(y, w), _wide(1 / math.pi), _wide(-0.5 * phase))
    rounded = b.fadd(turns, _wide(WIDE_ROUND))
    n = b.fsub(rounded, _wide(WIDE_ROUND))
    q = fma(b, n, _wide(2.0), _wide(float(phase)))
    r = b.fadd(fma(b, q, _wide(-HALF_PI_HIGH), y), w)
    r = fma(b, q, _wide(-HALF_PI_LOW), r)
    r = fma(b, wide, low, r)
    size = b.fmul(r, polynomial(b, b.fmul(r, r), WIDE_SIN))
    flip = b.shl(b.bitcast(rounded, LONG), _long(63))  # q = 2 n + phase: n odd turns the sign
    if phase:
        flip = b.xor(flip, _long(-(1 << 63)))  # cos(x) = -sin(x - pi / 2)
    return b.fptrunc(b.bitcast(b.xor(b.bitcast(size, LONG), flip), DOUBLE), FLOAT)


def sin_f32(b: Any, x: Any) -> Any:
    """sin(x) for every x; -0 stays."""
    return b.select(b.fcmp_ordered("==", x, number(0.0)), x, _sine(b, x, 0))


def cos_f32(b: Any, x: Any) -> Any:
    """cos(x) for every x."""
    return _sine(b, x, 1)


def sigmoid_f64(b: Any, x: Any) -> Any:
    """1 / (1 + e) for x >= 0, e / (1 + e) below, with e = exp(-|x|): no overflow."""
    one = _wide(1.0)
    e = exp(b, b.fneg(llvm(b, "fabs", x)))
    top = b.select(b.fcmp_unordered(">=", x, _wide(0.0)), one, e)
    return b.fdiv(top, b.fadd(one, e))


def rsqrt(b: Any, x: Any) -> Any:
    """1 / sqrt(x); infinite at 0, with its sign."""
    return b.fdiv(number(1.0, x.type), llvm(b, "sqrt", x))


def _by_type(own: Callable[..., Any], other: str | Callable[..., Any]) -> Callable[..., Any]:
    """`own` for float32; for float64 another function, or that of the C library."""

    def function(b: Any, *xs: Any) -> Any:
        if xs[0].type == FLOAT:
            return own(b, *xs)
        return call(b, other, *xs) if isinstance(other, str) else other(b, *xs)

    return function


def _c_library(name: str) -> Callable[..., Any]:
    """A function of the C library, of float64; that of float32 is the same, rounded."""

    def wide(b: Any, *xs: Any) -> Any:
        return call(b, name, *xs)

    return _by_type(_widened(wide), wide)


exp = _by_type(exp_f32, "exp")
log = _by_type(log_f32, "log")
tanh = _by_type(tanh_f32, "tanh")
erf = _by_type(erf_f32, "erf")
sigmoid = _by_type(_widened(_wide_sigmoid), sigmoid_f64)
expm1 = _by_type(_widened(_wide_expm1), "expm1")
log1p = _by_type(_widened(_wide_log1p), "log1p")
sin = _by_type(sin_f32, "sin")
cos = _by_type(cos_f32, "cos")
power = _by_type(_widened(_wide_pow), "pow")

UNARY: dict[str, Callable[[Any, Any], Any]] = {
    "exp": exp, "log": log, "tanh": tanh, "erf": erf, "sigmoid": sigmoid,
    "expm1": expm1, "log1p": log1p, "sin": sin, "cos": cos,
    "rsqrt": rsqrt,
    "sqrt": lambda b, x: llvm(b, "sqrt", x),
    "floor": lambda b, x: llvm(b, "floor", x),
    "ceil": lambda b, x: llvm(b, "ceil", x),
    "trunc": lambda b, x: llvm(b, "trunc", x),
    "rint": lambda b, x: llvm(b, "rint", x),
    **{
        text: _c_library(text)
        for text in ("tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh", "exp2", "log2", "log10")
    },
}  # fmt: skip
BINARY: dict[str, Callable[[Any, Any, Any], Any]] = {
    "atan2": _c_library("atan2"),
    "hypot": _c_library("hypot"),
    "copysign": lambda b, x, y: llvm(b, "copysign", x, y),
    "nextafter": lambda b, x, y: call(b, "nextafterf" if x.type == FLOAT else "nextafter", x, y),
}
