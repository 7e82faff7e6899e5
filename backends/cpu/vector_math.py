"""Transcendental functions of float32 as straight-line LLVM IR, which vectorises; float64 calls the C library.

Each function takes an IR builder and a scalar and reduces its argument to a small interval, where a polynomial stands
for the function. The coefficients are Chebyshev interpolants of the functions named beside them, rounded to float32.
No operation here may be reassociated: the reduction lives on rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba.core import cgutils

FLOAT, DOUBLE, INT = ir.FloatType(), ir.DoubleType(), ir.IntType(32)

LOG2E = 1.4426950408889634
LN2_HIGH = (
    0.693359375  # ln 2 in two parts (Cody and Waite): the first has trailing zeros, so that n * LN2_HIGH is exact
)
LN2_LOW = -2.12194440e-4
ROUND = 12582912.0  # 1.5 * 2**23: adding it leaves the nearest integer in the low bits
ROUND_BITS = 0x4B400000
SQRT_HALF_BITS = 0x3F3504F3

# (exp(r) - 1 - r) / r**2, |r| <= ln(2) / 2
EXP = (0.5, 0.1666666716337204, 0.041666463017463684, 0.00833331048488617, 0.0013933731243014336, 0.000198910798644647)
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
    total = number(coefficients[-1])
    for c in reversed(coefficients[:-1]):
        total = fma(b, total, x, number(c))
    return total


def _clamped(b: Any, x: Any, low: float, high: float) -> Any:
    """x within bounds; NaN passes."""
    x = b.select(b.fcmp_ordered("<", x, number(low)), number(low), x)
    return b.select(b.fcmp_ordered(">", x, number(high)), number(high), x)


def _power_of_two(b: Any, n: Any) -> Any:
    return b.bitcast(b.shl(b.add(n, ir.Constant(INT, 127)), ir.Constant(INT, 23)), FLOAT)


def exp_f32(b: Any, x: Any) -> Any:
    """exp(x) = 2**n * exp(r) with x = n ln 2 + r; the scale in two factors, so that subnormal results come out."""
    x = _clamped(b, x, -105.0, 90.0)
    rounded = fma(b, x, number(LOG2E), number(ROUND))
    n = b.fsub(rounded, number(ROUND))
    r = fma(b, n, number(-LN2_HIGH), x)
    r = fma(b, n, number(-LN2_LOW), r)
    y = b.fadd(fma(b, polynomial(b, r, EXP), b.fmul(r, r), r), number(1.0))
    whole = b.sub(b.bitcast(rounded, INT), ir.Constant(INT, ROUND_BITS))
    half = b.ashr(whole, ir.Constant(INT, 1))
    return b.fmul(b.fmul(y, _power_of_two(b, half)), _power_of_two(b, b.sub(whole, half)))


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


def sigmoid(b: Any, x: Any) -> Any:
    """1 / (1 + e) for x >= 0, e / (1 + e) below, with e = exp(-|x|): no overflow."""
    one = number(1.0, x.type)
    e = exp(b, b.fneg(llvm(b, "fabs", x)))
    top = b.select(b.fcmp_unordered(">=", x, number(0.0, x.type)), one, e)
    return b.fdiv(top, b.fadd(one, e))


def _own_or_library(own: Callable[[Any, Any], Any] | None, name: str) -> Callable[[Any, Any], Any]:
    def function(b: Any, x: Any) -> Any:
        if x.type == FLOAT:
            return own(b, x) if own else call(b, f"{name}f", x)
        return call(b, name, x)

    return function


exp = _own_or_library(exp_f32, "exp")
log = _own_or_library(log_f32, "log")
tanh = _own_or_library(tanh_f32, "tanh")
erf = _own_or_library(erf_f32, "erf")
expm1 = _own_or_library(None, "expm1")
log1p = _own_or_library(None, "log1p")
sin = _own_or_library(None, "sin")
cos = _own_or_library(None, "cos")

UNARY: dict[str, Callable[[Any, Any], Any]] = {
    "exp": exp, "log": log, "tanh": tanh, "erf": erf, "sigmoid": sigmoid,
    "expm1": expm1, "log1p": log1p, "sin": sin, "cos": cos,
    "sqrt": lambda b, x: llvm(b, "sqrt", x),
    "floor": lambda b, x: llvm(b, "floor", x),
    "ceil": lambda b, x: llvm(b, "ceil", x),
}  # fmt: skip
