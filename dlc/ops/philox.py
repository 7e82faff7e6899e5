"""Philox4x32-10, a random number generator that is a function of a counter: any draw can be made alone, in any order.

J. K. Salmon, M. A. Moraes, R. O. Dror and D. E. Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC11. The
functions work on NumPy arrays and on scalars, and Numba can compile them as they stand.
"""

from __future__ import annotations

from typing import Any

import numpy as np

MULTIPLIER_0, MULTIPLIER_1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
WEYL_0, WEYL_1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
LOW, HALF = np.uint64(0xFFFFFFFF), np.uint64(32)


def philox4x32(c0: Any, c1: Any, c2: Any, c3: Any, k0: Any, k1: Any) -> tuple[Any, Any, Any, Any]:
    """Ten rounds on a counter of four words under a key of two. Words are 32-bit numbers held as uint64."""
    for _ in range(10):
        p0, p1 = MULTIPLIER_0 * c0, MULTIPLIER_1 * c2
        c0, c1, c2, c3 = (p1 >> HALF) ^ c1 ^ k0, p1 & LOW, (p0 >> HALF) ^ c3 ^ k1, p0 & LOW
        k0, k1 = (k0 + WEYL_0) & LOW, (k1 + WEYL_1) & LOW
    return c0, c1, c2, c3


def random_word(seed: Any, step: Any, site: Any, index: Any, word: int) -> Any:
    """Word 0 to 3 of the draw for one element, as uint64: the key is the seed, the counter (index, step, site).

    `index` takes the counter's first two words, the low halves of `step` and `site` the others.
    """
    i, s = np.uint64(index), np.uint64(seed)
    counter_2, counter_3 = np.uint64(step) & LOW, np.uint64(site) & LOW
    r0, r1, r2, r3 = philox4x32(i & LOW, i >> HALF, counter_2, counter_3, s & LOW, s >> HALF)
    if word == 0:
        return r0
    if word == 1:
        return r1
    if word == 2:
        return r2
    return r3
