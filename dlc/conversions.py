"""Conversion of arrays between dtypes, defined for every value: what `astype` means, on all backends.

- To a float: rounded once to the nearest, ties to even, whatever the source; beyond the range is inf.
- A float to an integer: towards zero, NaN to 0. int32, int64 and uint64 saturate; uint32 has the low bits of the int64,
  and narrower integers those of the int32.
- An integer to an integer: modulo 2 to the number of bits. To bool: whether it is not 0 (NaN is not).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dlc.dtypes import FLOATING, HALF, INTEGER, name_of, numpy_dtype

Array = np.ndarray[Any, Any]

_EXACT = 2**53  # up to here float64 has all integers
_THROUGH = {"int64": "int64", "uint64": "uint64", "uint32": "int64"}  # other integers through int32


def cast(array: Array, dtype: str) -> Array:
    """`array` in another dtype; itself where that is the same.

    >>> cast(np.array([1.5, -1.5, np.nan, 1e20]), "int32").tolist()
    [1, -1, 0, 2147483647]
    >>> cast(np.array([1 + 2**-8 + 2**-40]), "bfloat16").tolist()  # the nearest, though float32 has a tie there
    [1.0078125]
    """
    target = numpy_dtype(dtype)
    if array.dtype == target:
        return array
    if dtype == "bool":
        return np.asarray(array != 0)
    source = name_of(array.dtype)
    with np.errstate(all="ignore"):
        if source in HALF:
            array = array.astype(np.float32)
        if source in FLOATING and dtype in INTEGER:
            return _whole(array, dtype)
        if dtype == "bfloat16":
            if source in INTEGER and array.dtype.itemsize == 8:
                array = _shortened(array)
            if source not in ("bool", "float16", "float32"):
                array = _rounded_to_odd(array.astype(np.float64))
        return np.asarray(array.astype(target))


def _whole(array: Array, dtype: str) -> Array:
    """Floats as integers, saturated at those that they are converted through."""
    through = _THROUGH.get(dtype, "int32")
    limits = np.iinfo(through)
    numbers = np.nan_to_num(np.trunc(array.astype(np.float64)), nan=0.0)
    above, below = numbers > limits.max, numbers < limits.min
    if through in ("int64", "uint64"):  # their largest is no float
        above = numbers >= float(limits.max)
    result = np.where(above | below, 0.0, numbers).astype(through)
    result = np.where(above, np.array(limits.max, through), np.where(below, np.array(limits.min, through), result))
    return np.asarray(result.astype(dtype))


def _shortened(array: Array) -> Array:
    """Integers of 64 bits that float64 has; of a long one the bits below 53 are gathered in the lowest, so that
    rounding to fewer is as before."""
    low = array & array.dtype.type(2047)
    short = (array - low) | np.where(low != 0, array.dtype.type(2048), array.dtype.type(0))
    long = array >= _EXACT if array.dtype.kind == "u" else (array >= _EXACT) | (array <= -_EXACT)
    return np.asarray(np.where(long, short, array))


def _rounded_to_odd(array: Array) -> Array:
    """float64 as float32; of the two neighbours of an inexact value that with an odd last bit, so that rounding on to
    fewer bits is as if from the value itself (S. Boldo and G. Melquiond, "Emulation of FMA and correctly rounded
    sums", IEEE Transactions on Computers 57, 2008)."""
    near = array.astype(np.float32)
    back = near.astype(np.float64)
    bits = near.view(np.uint32)
    inexact = (back != array) & ~np.isnan(array) & (bits & 1 == 0)
    towards = np.where(np.abs(back) > np.abs(array), bits - np.uint32(1), bits + np.uint32(1))
    return np.asarray(np.where(inexact, towards, bits).astype(np.uint32)).view(np.float32)
