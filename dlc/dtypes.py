"""Data types: their names, NumPy counterparts and promotion (the Array API's rules, Python scalars being weak)."""

from __future__ import annotations

from functools import cache, reduce
from typing import Any

import numpy as np

from dlc.errors import DTypeError

BOOL = ("bool",)
SIGNED = ("int8", "int16", "int32", "int64")
UNSIGNED = ("uint8", "uint16", "uint32", "uint64")
FLOATING = ("float32", "float64")
INTEGER = SIGNED + UNSIGNED
NUMERIC = INTEGER + FLOATING
ALL = BOOL + NUMERIC

SHORT = {"bool": "bool"} | {n: n.replace("uint", "u").replace("int", "i").replace("float", "f") for n in NUMERIC}


@cache
def numpy_dtype(name: str) -> np.dtype[Any]:
    """The NumPy dtype called `name`."""
    return np.dtype(name)


@cache
def name_of(dtype: np.dtype[Any]) -> str:
    """The name of a NumPy dtype, which NumPy itself works out anew each time."""
    return dtype.name


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

    It defines none for an integer with a float, nor for a bool with a number.
    """
    if a == b:
        return a
    same_family = any(a in family and b in family for family in (SIGNED + UNSIGNED, FLOATING))
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
    """Whether every value of `source` survives in `target`; for NumPy int64 to float64 is safe, yet 2^53+1 is lost."""
    wide = source in ("int64", "uint64") and target in FLOATING
    return source == target or (not wide and np.can_cast(source, target, casting="safe"))


def _rank(name: str) -> int:
    return ALL.index(name)
