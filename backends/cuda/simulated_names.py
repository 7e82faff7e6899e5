"""The names that kernels are written in, as Python on NumPy scalars: for Numba's simulator, and for a look by hand.

Memory is known here: a kernel reaches nothing but arrays that were made known, and no element beyond their ends.
"""

from __future__ import annotations

import math
import threading
from bisect import bisect_right
from typing import Any

import numpy as np

from dlc import dtypes
from dlc.backends.backend import Array
from dlc.backends.expressions import constructor
from dlc.ops.philox import random_word

DTYPES = {constructor(name): np.dtype(name) for name in dtypes.ALL if name not in dtypes.HALF}
ADDRESS_NAMES = ("pointer_at", "pointer_status", *(f"pointer_{text}" for text in DTYPES))


class Pointer:
    """The elements of an array from some byte on. Raises `IndexError` where an index leaves the array."""

    __slots__ = ("_elements",)

    def __init__(self, elements: Array) -> None:
        self._elements = elements

    def _checked(self, index: Any) -> Any:
        if not 0 <= index < len(self._elements):
            raise IndexError(f"a kernel reaches for element {index} of {len(self._elements)} {self._elements.dtype}")
        return index

    def __getitem__(self, index: Any) -> Any:
        return self._elements[self._checked(index)]

    def __setitem__(self, index: Any, value: Any) -> None:
        if getattr(value, "dtype", None) != self._elements.dtype and self._elements.dtype != np.int64:
            raise TypeError(f"a kernel stores {value!r}, a {type(value).__name__}, among {self._elements.dtype}")
        self._elements[self._checked(index)] = value


class Memory:
    """Arrays by address, as kernels see them."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._arrays: list[Array] = []

    def add(self, array: Array, nbytes: int) -> None:
        """Make the first bytes of a dense array known."""
        start = int(array.ctypes.data)
        at = bisect_right(self._starts, start)
        self._starts.insert(at, start)
        self._arrays.insert(at, array.reshape(-1).view(np.uint8)[:nbytes])

    def pointer(self, address: int, dtype: Any) -> Pointer:
        """What lies at an address, up to the end of its array. Raises `IndexError` where nothing is known."""
        at = bisect_right(self._starts, address) - 1
        first = address - self._starts[at]
        if at < 0 or first > len(self._arrays[at]):
            raise IndexError(f"a kernel takes {address:#x} for an address; no array lies there")
        count = (len(self._arrays[at]) - first) // dtype.itemsize
        return Pointer(self._arrays[at][first : first + count * dtype.itemsize].view(dtype))

    def names(self) -> dict[str, Any]:
        """All names, those that take addresses bound to this memory."""
        found = dict(NAMES)
        words = np.dtype(np.int64)
        found["pointer_at"] = lambda address: self.pointer(int(address), words)
        found["pointer_status"] = lambda bases: self.pointer(int(bases[0]), words)
        for text, dtype in DTYPES.items():
            found[f"pointer_{text}"] = lambda bases, args, k, dtype=dtype: self.pointer(
                int(bases[args[2 * k]] + args[2 * k + 1]), dtype
            )
        return found


# ---------------------------------------------------------------- arithmetic


def _bounds(target: Any) -> tuple[Any, Any]:
    dtype = np.dtype(target)
    if dtype.kind == "f":
        return -np.inf, np.inf
    return (False, True) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)


def _local(dtype: Any) -> Any:
    return lambda length: Pointer(np.full(length * dtype.itemsize, 0xFF, np.uint8).view(dtype))


def _relu(x: Any) -> Any:
    return type(x)(0) if x < 0 else x


def _sign(x: Any) -> Any:
    return type(x)(1) if x > 0 else type(x)(-1) if x < 0 else x


def _maximum(x: Any, y: Any) -> Any:
    return x if x > y or x != x else y


def _minimum(x: Any, y: Any) -> Any:
    return x if x < y or x != x else y


def _masked_multiply(g: Any, d: Any) -> Any:
    return type(g)(0) if g == 0 else g * d


def _sigmoid(x: Any) -> Any:
    e = np.exp(-abs(x))
    return (e if x < 0 else type(x)(1)) / (type(x)(1) + e)


def _erf(x: Any) -> Any:
    return type(x)(math.erf(x))


_reporting = threading.Lock()


def _check(holds: Any, status: Pointer, number: int, operand: int, index: int, extent: int) -> None:
    """Report an index out of range unless `holds`; the first report stays."""
    if not holds:
        with _reporting:
            if status[0] == 0:
                for i, value in enumerate((1, number, operand, index, extent)):
                    status[i] = value


NAMES: dict[str, Any] = {
    **{text: dtype.type for text, dtype in DTYPES.items()},
    **{f"local_{text}": _local(dtype) for text, dtype in DTYPES.items()},
    "inf": math.inf, "nan": math.nan, "span": range, "independent": range,
    "lowest": lambda target: target(_bounds(target)[0]), "highest": lambda target: target(_bounds(target)[1]),
    "check": _check, "select": lambda condition, x, y: x if condition else y, "accumulate": lambda x, y: x + y,
    "multiplied": lambda x, y: x * y, "multiply_add": lambda x, y, z: x * y + z,
    "lesser": min, "greater": max, "maximum": _maximum, "minimum": _minimum, "masked_multiply": _masked_multiply,
    "floor_divide": np.floor_divide, "remainder": np.remainder,
    "power": np.power, "sign": _sign, "absolute": abs, "relu": _relu, "invert": np.invert, "isnan": np.isnan,
    "isfinite": np.isfinite, "exp": np.exp, "log": np.log, "tanh": np.tanh, "erf": _erf, "sigmoid": _sigmoid,
    "expm1": np.expm1, "log1p": np.log1p, "sin": np.sin, "cos": np.cos, "sqrt": np.sqrt, "floor": np.floor,
    "ceil": np.ceil, "rsqrt": lambda x: 1 / np.sqrt(x),
    "tan": np.tan, "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "sinh": np.sinh, "cosh": np.cosh,
    "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh, "exp2": np.exp2, "log2": np.log2,
    "log10": np.log10, "trunc": np.trunc, "rint": np.rint, "atan2": np.arctan2, "hypot": np.hypot,
    "copysign": np.copysign, "nextafter": np.nextafter, "shift_left": np.left_shift, "shift_right": np.right_shift,
    "random_word": random_word,
}  # fmt: skip
