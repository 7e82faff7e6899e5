"""Conversions of float16 and bfloat16 as LLVM IR that vectorises and calls nothing; a half is the integer of its bits.

LLVM's own conversion of float16 is taken where the machine has instructions for it; elsewhere it would call functions
of compiler-rt, which are not there. Roundings are to the nearest, ties to even.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from dlc.backends.cpu.host import converts_halves
from dlc.backends.cpu.vector_math import llvm

I16, I32, I64 = ir.IntType(16), ir.IntType(32), ir.IntType(64)
FLOAT, DOUBLE = ir.FloatType(), ir.DoubleType()
LEAST = 113 << 23  # float32's bits of 2^-14, float16's least normal number
DENORMAL_ROUNDER = 126 << 23  # those of 0.5, whose last bit is worth 2^-24, as that of float16's subnormal numbers
BEYOND = 143 << 23  # those of 2^16
INFINITY, NOT_A_NUMBER = 0x7C00, 0x7E00  # float16's bits


def widened(b: Any, value: Any, dtype: str) -> Any:
    """A half as a float32, exactly."""
    if dtype == "bfloat16":
        return b.bitcast(b.shl(b.zext(value, I32), I32(16)), FLOAT)
    if converts_halves():
        return b.fpext(b.bitcast(value, ir.HalfType()), FLOAT)
    bits = b.zext(value, I32)
    magnitude = b.shl(b.and_(bits, I32(0x7FFF)), I32(13))
    normal = b.add(magnitude, I32(112 << 23))
    subnormal = b.bitcast(b.fsub(b.bitcast(b.or_(magnitude, I32(LEAST)), FLOAT), _float(b, LEAST)), I32)
    special = b.or_(magnitude, I32(255 << 23))  # infinity and NaN
    found = b.select(b.icmp_unsigned("<", magnitude, I32(1 << 23)), subnormal, normal)
    found = b.select(b.icmp_unsigned(">=", magnitude, I32(31 << 23)), special, found)
    return b.bitcast(b.or_(found, b.shl(b.and_(bits, I32(0x8000)), I32(16))), FLOAT)


def narrowed(b: Any, value: Any, double: bool, dtype: str) -> Any:
    """A float32 or, if `double`, a float64 as the nearest half; beyond its range is inf, NaN stays."""
    if double:
        value = _rounded_to_odd(b, value)
    if dtype == "float16" and converts_halves():
        return b.bitcast(b.fptrunc(value, ir.HalfType()), I16)
    bits = b.bitcast(value, I32)
    if dtype == "bfloat16":
        high = b.lshr(bits, I32(16))
        rounded = b.lshr(b.add(bits, b.add(I32(0x7FFF), b.and_(high, I32(1)))), I32(16))
        return b.trunc(b.select(b.fcmp_unordered("uno", value, value), b.or_(high, I32(0x40)), rounded), I16)
    magnitude = b.and_(bits, I32(0x7FFFFFFF))
    tie = b.add(I32(0xFFF), b.and_(b.lshr(magnitude, I32(13)), I32(1)))
    normal = b.lshr(b.add(magnitude, b.sub(tie, I32(112 << 23))), I32(13))
    aligned = b.fadd(b.bitcast(magnitude, FLOAT), _float(b, DENORMAL_ROUNDER))
    subnormal = b.sub(b.bitcast(aligned, I32), I32(DENORMAL_ROUNDER))
    special = b.select(b.icmp_unsigned(">", magnitude, I32(255 << 23)), I32(NOT_A_NUMBER), I32(INFINITY))
    found = b.select(b.icmp_unsigned("<", magnitude, I32(LEAST)), subnormal, normal)
    found = b.select(b.icmp_unsigned(">=", magnitude, I32(BEYOND)), special, found)
    return b.trunc(b.or_(found, b.and_(b.lshr(bits, I32(16)), I32(0x8000))), I16)


def shortened(b: Any, value: Any, signed: bool) -> Any:
    """An integer of 64 bits that float64 has: a long one has its lowest gathered in one (see conversions.py)."""
    low = b.and_(value, I64(2047))
    gathered = b.select(b.icmp_unsigned("!=", low, I64(0)), I64(2048), I64(0))
    short = b.or_(b.sub(value, low), gathered)
    place = b.add(value, I64(2**53)) if signed else value
    return b.select(b.icmp_unsigned("<", place, I64(2**54 if signed else 2**53)), value, short)


def _rounded_to_odd(b: Any, value: Any) -> Any:
    """A float64 as the float32 from which rounding to a half goes on as from the value (see conversions.py)."""
    near = b.fptrunc(value, FLOAT)
    back, bits = b.fpext(near, DOUBLE), b.bitcast(near, I32)
    even = b.icmp_unsigned("==", b.and_(bits, I32(1)), I32(0))
    inexact = b.and_(b.fcmp_ordered("!=", back, value), even)
    above = b.fcmp_ordered(">", llvm(b, "fabs", back), llvm(b, "fabs", value))
    towards = b.add(bits, b.select(above, I32(-1), I32(1)))
    return b.bitcast(b.select(inexact, towards, bits), FLOAT)


def _float(b: Any, bits: int) -> Any:
    return b.bitcast(I32(bits), FLOAT)
