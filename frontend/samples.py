"""Arrays of samples as training takes them: cast once, counted and checked."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlc.arguments import is_foreign, read_foreign
from dlc.errors import ArgumentError, DTypeError
from dlc.ir import TensorType
from dlc.provenance import here

Array = np.ndarray[Any, Any]


def features(value: Any, name: str = "x") -> Array:
    """`value` as an array [N, ...] with N > 0: floats become float32, integers int64, bools stay."""
    try:
        array = read_foreign(value, name) if is_foreign(value) else np.asarray(value)
    except (RuntimeError, TypeError, ValueError) as error:  # rows of unequal lengths
        if isinstance(error, DTypeError):
            raise DTypeError(error.message, where=here()) from error
        kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
        raise DTypeError(f"{name}, a {kind}, cannot be read as a NumPy array: {error}", where=here()) from error
    if array.dtype.kind not in "fiub":
        raise DTypeError(f"{name} holds {array.dtype}; pass numbers", where=here())
    if array.ndim == 0:
        raise ArgumentError(f"{name} is a single number; its first axis must be the samples", where=here())
    if len(array) == 0:
        raise ArgumentError(f"{name} holds no samples (shape {array.shape})", where=here())
    if array.dtype.kind == "u" and array.max(initial=0) > np.iinfo(np.int64).max:
        raise DTypeError(f"{name} holds {array.dtype} values that int64 cannot", where=here())
    target = {"f": np.float32, "i": np.int64, "u": np.int64, "b": np.bool_}[array.dtype.kind]
    return array.astype(target, order="C", copy=False)


def targets(value: Any, name: str = "y") -> Array:
    """`value` as an array [N, ...] with N > 0: floats become float32, integers and bools int64."""
    array = features(value, name)
    return array.astype(np.int64) if array.dtype.kind == "b" else array


def check_count(x: Array, y: Array) -> None:
    """Raise `ArgumentError` unless `x` and `y` hold the same number of samples."""
    if len(x) != len(y):
        raise ArgumentError(f"x holds {len(x)} samples and y {len(y)}; give every sample one target", where=here())


def check_shape(name: str, array: Array, wanted: TensorType) -> None:
    """Raise `ArgumentError` unless samples are as those that the program was built for."""
    if array.shape[1:] != wanted.shape[1:] or array.dtype.name != wanted.dtype:
        raise ArgumentError(
            f"this trainer was built for {name} of type {wanted}, got {array.dtype.name} of shape {array.shape}; "
            "pass samples of that shape, or make another Trainer",
            where=here(),
        )


def count_of(name: str, value: Any) -> int:
    """`value` as an int >= 1, or `ArgumentError`."""
    if isinstance(value, (bool, np.bool_)) or not hasattr(value, "__index__") or value.__index__() < 1:
        raise ArgumentError(f"{name} is an integer of at least 1, not {value!r}", where=here())
    return int(value.__index__())
