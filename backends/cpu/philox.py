"""Philox4x32-10 (see dlc/ops/philox.py, which it must equal) as LLVM instructions."""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from dlc.ops import philox

I64 = ir.IntType(64)


def _number(value: Any) -> ir.Constant:
    return ir.Constant(I64, int(value))


def random_word(b: Any, seed: Any, step: Any, site: Any, index: Any, word: Any) -> Any:
    """The word number `word` of one element's draw; all values are 64 bits wide. Equal draws are merged by LLVM."""
    low, half = _number(philox.LOW), _number(philox.HALF)
    c0, c1 = b.and_(index, low), b.lshr(index, half)
    c2, c3 = b.and_(step, low), b.and_(site, low)
    k0, k1 = b.and_(seed, low), b.lshr(seed, half)
    for _ in range(10):
        p0, p1 = b.mul(_number(philox.MULTIPLIER_0), c0), b.mul(_number(philox.MULTIPLIER_1), c2)
        c0, c2 = b.xor(b.xor(b.lshr(p1, half), c1), k0), b.xor(b.xor(b.lshr(p0, half), c3), k1)
        c1, c3 = b.and_(p1, low), b.and_(p0, low)
        k0, k1 = b.and_(b.add(k0, _number(philox.WEYL_0)), low), b.and_(b.add(k1, _number(philox.WEYL_1)), low)
    found = c3
    for n, value in ((2, c2), (1, c1), (0, c0)):
        found = b.select(b.icmp_unsigned("==", word, _number(n)), value, found)
    return found
