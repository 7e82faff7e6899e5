"""Arrays of other libraries on the memory that they have, by DLPack; also those of bfloat16, which NumPy cannot read.

The layout is that of DLPack's `DLTensor` (dlpack.h, version 0.8), as PyCapsules named "dltensor" hold it.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from dlc.dtypes import numpy_dtype

UNSIGNED, BFLOAT = 1, 4  # DLPack's codes of dtypes
CPU = 1


class DLTensor(ctypes.Structure):
    """What a capsule points to, up to the dtype."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", ctypes.c_int32),
        ("device_number", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
    )


class Handed:
    """A capsule as an array of another library."""

    def __init__(self, capsule: Any) -> None:
        self.capsule = capsule

    def __dlpack__(self, **_: Any) -> Any:
        return self.capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return CPU, 0


def tensor_of(capsule: Any) -> DLTensor:
    """The structure that a capsule points to. Raises `ValueError` for another capsule."""
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    return DLTensor.from_address(pointer(capsule, b"dltensor"))


def array_of(value: Any) -> np.ndarray[Any, Any]:
    """What has `__dlpack__` as a NumPy array on the same memory. Raises what the library or NumPy raises.

    >>> array_of(np.arange(3)).tolist()
    [0, 1, 2]
    """
    try:
        return np.from_dlpack(value)
    except (BufferError, RuntimeError):
        found = _bfloat16(value)
        if found is None:
            raise
        return found


def _bfloat16(value: Any) -> np.ndarray[Any, Any] | None:
    """An array of bfloat16 in main memory; None for any other."""
    if value.__dlpack_device__()[0] != CPU:
        return None
    try:
        capsule = value.__dlpack__()
        tensor = tensor_of(capsule)
    except (BufferError, RuntimeError, ValueError):
        return None
    if (tensor.code, tensor.bits, tensor.lanes) != (BFLOAT, 16, 1):
        return None
    tensor.code = UNSIGNED  # the capsule is ours, and NumPy reads its numbers as their bits
    return np.from_dlpack(Handed(capsule)).view(numpy_dtype("bfloat16"))
