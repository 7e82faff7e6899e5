"""Tensors of an ONNX file as NumPy arrays. Sizes are checked before anything is made of them."""

from __future__ import annotations

import math
import os
import stat
import sys
from typing import Any

import numpy as np

from dlc.dtypes import FLOATING, HALF, INTEGER, numpy_dtype
from dlc.errors import FileFormatError, UnsupportedError
from dlc.ops.definition import Array

MAX_ELEMENTS = 2**31  # of any tensor whose shape a file fixes
MAX_AXES = 64

# ONNX's number of each dtype, our name of it, and the field that holds the values where they are not raw bytes.
_ROWS = [
    (1, "float32", "float_data"),
    (2, "uint8", "int32_data"),
    (3, "int8", "int32_data"),
    (4, "uint16", "int32_data"),
    (5, "int16", "int32_data"),
    (6, "int32", "int32_data"),
    (7, "int64", "int64_data"),
    (9, "bool", "int32_data"),
    (10, "float16", "int32_data"),
    (11, "float64", "double_data"),
    (12, "uint32", "uint64_data"),
    (13, "uint64", "uint64_data"),
    (16, "bfloat16", "int32_data"),
]
DTYPES = {number: name for number, name, _ in _ROWS}
NUMBERS = {name: number for number, name, _ in _ROWS}
_FIELDS = {name: field for _, name, field in _ROWS}


def dtype_of(number: int, place: str) -> str:
    """Our name of ONNX's dtype `number`."""
    if number not in DTYPES:
        raise UnsupportedError(f"{place}: dlc has no dtype for ONNX's number {number}; cast the model to float32")
    return DTYPES[number]


def array_of(tensor: Any, model: Any, place: str) -> Array:
    """The value of a TensorProto; `model` is the path of the file, beside which external data may lie, or None."""
    dtype = dtype_of(tensor.data_type, place)
    shape = tuple(tensor.dims)
    if len(shape) > MAX_AXES or any(d < 0 for d in shape):
        raise FileFormatError(f"{place}: {shape[:8]} is not a shape")
    size = math.prod(shape)
    if size > MAX_ELEMENTS:
        raise FileFormatError(f"{place}: a tensor of {size} elements; the limit is {MAX_ELEMENTS}")
    little = numpy_dtype(dtype).newbyteorder("<")
    nbytes = size * little.itemsize
    if tensor.data_location == 1:
        folder = None if model is None else os.path.dirname(os.path.realpath(model))
        data = _external(tensor, nbytes, folder, place)
    elif tensor.HasField("raw_data"):
        data = tensor.raw_data
    else:
        return _from_numbers(getattr(tensor, _FIELDS[dtype]), dtype, shape, size, place)
    if len(data) != nbytes:
        raise FileFormatError(f"{place}: {dtype}{list(shape)} needs {nbytes} bytes, the file has {len(data)}")
    if dtype == "bool":
        return (np.frombuffer(data, np.uint8) != 0).reshape(shape)
    return np.frombuffer(data, little).astype(numpy_dtype(dtype)).reshape(shape)


def _from_numbers(values: Any, dtype: str, shape: tuple[int, ...], size: int, place: str) -> Array:
    if len(values) != size:
        raise FileFormatError(f"{place}: {dtype}{list(shape)} needs {size} values, the file has {len(values)}")
    if dtype in HALF:  # the bits, as integers
        return _from_numbers(values, "uint16", shape, size, place).view(numpy_dtype(dtype))
    wide = np.array(values, np.float64 if dtype in FLOATING else None)
    if dtype in INTEGER and size:
        info = np.iinfo(dtype)
        if int(wide.min()) < info.min or int(wide.max()) > info.max:
            raise FileFormatError(f"{place}: a value does not fit {dtype}")
    return wide.astype(dtype).reshape(shape)


def _external(tensor: Any, nbytes: int, folder: str | None, place: str) -> bytes:
    """The bytes of a file beside the model. It is opened step by step from the folder down, and no link is followed."""
    entries = {e.key: e.value for e in tensor.external_data}
    location: Any = entries.get("location", "")
    if folder is None:
        raise FileFormatError(f"{place}: its data lies in another file; load the model by its path")
    if sys.platform == "win32":
        raise UnsupportedError(f"{place}: data in another file is not read on Windows; save the model as one file")
    if not all(isinstance(t, str) for pair in entries.items() for t in pair):
        raise FileFormatError(f"{place}: a text that is not UTF-8 says where its data lies")
    parts = location.split("/")
    if any(p in ("", ".", "..") or "\\" in p or "\0" in p for p in parts):
        raise FileFormatError(f"{place}: {location!r:.100} is not a file inside the model's folder")
    offset, length = (_count(entries.get(k, d), k, place) for k, d in (("offset", "0"), ("length", str(nbytes))))
    if length != nbytes:
        raise FileFormatError(f"{place}: it needs {nbytes} bytes, but its external data has {length}")
    at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for i, part in enumerate(parts):
            kind = os.O_DIRECTORY if i < len(parts) - 1 else os.O_NONBLOCK
            inner = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | kind, dir_fd=at)
            os.close(at)
            at = inner
        found = os.fstat(at)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            raise FileFormatError(f"{place}: {location!r:.100} is a link or no ordinary file")
        if offset + length > found.st_size:
            raise FileFormatError(f"{place}: {location!r:.100} ends before the {length} bytes at {offset}")
        with os.fdopen(os.dup(at), "rb") as file:
            file.seek(offset)
            return file.read(length)
    except OSError as error:
        raise FileFormatError(f"{place}: {location!r:.100} cannot be read: {error.strerror}") from None
    finally:
        os.close(at)


def _count(text: str, what: str, place: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise FileFormatError(f"{place}: the external data's {what} {text!r:.50} is not a number of bytes")
    return int(text)
