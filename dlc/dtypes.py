"""Data types: their names, NumPy counterparts and promotion (the Array API's rules, Python scalars being weak)."""

from __future__ import annotations

import math
from functools import cache, reduce
from typing import Any

import numpy as np

from dlc.errors import DTypeError

BOOL = ("bool",)
SIGNED = ("int8", "int16", "int32", "int64")
UNSIGNED = ("uint8", "uint16", "uint32", "uint64")
HALF = ("float16", "bfloat16")  # of storage: computed with in float32, each result rounded (dlc/ops/half.py)
FLOATING = (*HALF, "float32", "float64")
INTEGER = SIGNED + UNSIGNED
NUMERIC = INTEGER + FLOATING
ALL = BOOL + NUMERIC

SHORT = {"bool": "bool"} | {n: n.replace("uint", "u").replace("int", "i").replace("float", "f") for n in NUMERIC}
_DIGITS = {"float16": 11, "bfloat16": 8, "float32": 24, "float64": 53}  # binary, of the integers that a float has all
_EXPONENTS = {"float16": 5, "bfloat16": 8, "float32": 8, "float64": 11}  # bits


@cache
def numpy_dtype(name: str) -> np.dtype[Any]:
    """The NumPy dtype called `name`; that of bfloat16, which NumPy lacks, is from `ml_dtypes`."""
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


@cache
def name_of(dtype: np.dtype[Any]) -> str:
    """The name of a NumPy dtype, which NumPy itself works out anew each time."""
    return dtype.name


def is_floating(dtype: np.dtype[Any]) -> bool:
    """Whether a NumPy dtype is one of our floats; NumPy's own `kind` of bfloat16 is not "f"."""
    return name_of(dtype) in FLOATING


def itemsize(name: str) -> int:
    """Bytes of one element."""
    return numpy_dtype(name).itemsize


def dtype_name(dtype: Any) -> str:
    """The canonical name of anything that means a dtype: a name, a NumPy dtype or scalar type, or Python's own types.

    Raises `DTypeError` for a type that dlc does not compute with.

    >>> dtype_name(np.float32), dtype_name("int64"), dtype_name(bool)
    ('float32', 'int64', 'bool')
    """
    if isinstance(dtype, str) and dtype in ALL:
        return dtype
    if isinstance(dtype, np.dtype) and name_of(dtype) in ALL:
        return name_of(dtype)
    if dtype is float:
        return "float32"
    if dtype is int:
        return "int64"
    try:
        name = "None" if dtype is None else np.dtype(dtype).name  # NumPy takes None for float64
    except TypeError:
        name = str(dtype)
    if name not in ALL:
        raise DTypeError(f"dlc does not compute with the dtype {name!r}; it knows {', '.join(ALL)}")
    return name


@cache
def promote_pair(a: str, b: str) -> str:
    """The Array API's promotion of two dtypes. Raises `DTypeError` where it defines none.

    It defines none for an integer with a float, nor for a bool with a number. It has no float16 and bfloat16: a
    half with a wider float gives that, float16 with bfloat16 float32, the least that holds both.
    """
    if a == b:
        return a
    if a in FLOATING and b in FLOATING:
        return "float32" if a in HALF and b in HALF else max(a, b, key=_rank)
    same_family = any(a in family and b in family for family in (INTEGER, BOOL))
    result = np.promote_types(a, b).name if same_family else None
    if result is None or (a in INTEGER and result not in INTEGER):  # uint64 with a signed integer
        wider = max(a, b, key=_rank)
        raise DTypeError(f"{a} and {b} do not promote to one dtype; convert one of them with .astype('{wider}')")
    return result


def promote(*names: str) -> str:
    """The Array API's promotion of several dtypes.

    >>> promote("int8", "uint8"), promote("float32", "float64")
    ('int16', 'float64')
    """
    return reduce(promote_pair, names)


def weak_dtype(value: bool | int | float, among: str) -> str:
    """The dtype a Python scalar takes beside operands of dtype `among`: theirs, unless the scalar is of a higher kind.

    Raises `DTypeError` for an int that the dtype cannot hold, or a float beside integers.
    """
    if isinstance(value, bool):
        if among != "bool":
            raise DTypeError(f"the Python bool {value} does not combine with {among}; write {int(value)}")
        return "bool"
    if isinstance(value, int):
        if among == "bool":
            raise DTypeError(f"the Python int {value} does not combine with bool; convert with .astype('int32')")
        if among in INTEGER:
            info = np.iinfo(among)
            if not info.min <= value <= info.max:
                raise DTypeError(f"the Python int {value} does not fit {among} ({info.min} to {info.max})")
        return among
    if among not in FLOATING:
        raise DTypeError(f"the Python float {value} does not combine with {among}; convert with .astype('float32')")
    return among


def can_cast_without_loss(source: str, target: str) -> bool:
    """Whether every value of `source` survives in `target`; for NumPy int64 to float64 is safe, yet 2^53+1 is lost.

    >>> can_cast_without_loss("uint8", "float16"), can_cast_without_loss("int16", "float16")
    (True, False)
    """
    if target in FLOATING:
        if source in FLOATING:
            return _DIGITS[source] <= _DIGITS[target] and _EXPONENTS[source] <= _EXPONENTS[target]
        bits = 1 if source == "bool" else 8 * itemsize(source) - (source in SIGNED)
        return bits <= _DIGITS[target]
    return source == target or (source not in HALF and bool(np.can_cast(source, target, casting="safe")))


def epsilon(name: str) -> float:
    """The gap between 1 and the next number of a float dtype.

    >>> epsilon("bfloat16"), epsilon("float32") == float(np.finfo(np.float32).eps)
    (0.0078125, True)
    """
    return 2.0 ** (1 - _DIGITS[name])


def extremes(name: str) -> tuple[int, int] | tuple[float, float]:
    """The lowest and the highest value of a dtype.

    >>> extremes("int8"), extremes("float32")
    ((-128, 127), (-inf, inf))
    """
    if name in FLOATING:
        return -math.inf, math.inf
    if name == "bool":
        return 0, 1
    info = np.iinfo(name)
    return info.min, info.max


def can_assign(source: np.dtype[Any], target: str) -> bool:
    """Whether values of `source` may be stored as `target`, with rounding: numbers of no lower a kind."""
    name = name_of(source)
    if name == target or (name in FLOATING and target in FLOATING):
        return True
    return name in ALL and (target in FLOATING or (target not in HALF and np.can_cast(source, target, "same_kind")))


def _rank(name: str) -> int:
    return ALL.index(name)
