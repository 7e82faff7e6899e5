"""Files of named arrays that survive a crash at any moment: safetensors, written beside and moved into place.

Nothing in a file is executed: arrays are bytes, and everything else is JSON in the header.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, BinaryIO

import numpy as np

from dlc.dtypes import numpy_dtype
from dlc.errors import ArgumentError, FileFormatError, MissingFolderError, shown
from dlc.garbage import collection_paused
from dlc.provenance import here

Array = np.ndarray[Any, Any]
PathLike = str | os.PathLike[str]

# The format's names of the dtypes.
_DTYPES = {"BOOL": "bool", "BF16": "bfloat16", "F16": "float16", "F32": "float32", "F64": "float64"}
_DTYPES |= {f"{k}{b}": f"{name}{b}" for k, name in (("I", "int"), ("U", "uint")) for b in (8, 16, 32, 64)}
_CHECKPOINT = "dlc.checkpoint.1"
_MAX_HEADER = 2**24  # bytes; the format allows 100 MB
_MAX_ARRAYS = 2**16  # in a file; they take a second or two to read


def write_arrays(path: PathLike, arrays: Mapping[str, Array], metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file so that `path` holds either what it held or all of the new, whatever happens.

    Temporary file in the same folder, fsync, rename over `path`, fsync of the folder. Raises `MissingFolderError`, and
    `ArgumentError` for more arrays than are read again.
    """
    from safetensors.numpy import save

    if len(arrays) > _MAX_ARRAYS:
        raise ArgumentError(f"{len(arrays)} arrays for one file; at most {_MAX_ARRAYS} are read: write several files")
    dense = {name: np.array(a, order="C", copy=None) for name, a in arrays.items()}
    write_atomically(path, save(dense, dict(metadata) if metadata else None))


def read_arrays(path: PathLike) -> tuple[dict[str, Array], dict[str, str]]:
    """The arrays and the metadata of a safetensors file. Raises `FileFormatError` for a damaged or foreign file."""
    from safetensors import SafetensorError, deserialize

    try:
        with _opened(path) as (file, size):
            metadata = _header(file, size).get("__metadata__", {})  # before the arrays, which may be many
            file.seek(0)
            data = file.read()
        with collection_paused():
            records = deserialize(data)
            unknown = sorted({record["dtype"] for _, record in records} - _DTYPES.keys())
            if unknown:
                raise ValueError(f"dlc has no dtype {', '.join(unknown)}; it reads {', '.join(_DTYPES)}")
            arrays = {name: _array(record) for name, record in records}
    except FileFormatError:
        raise
    except (SafetensorError, ArithmeticError, LookupError, MemoryError, RecursionError, TypeError, ValueError) as error:
        raise FileFormatError(f"{os.fspath(path)!r} is not a sound safetensors file: {shown(str(error))}") from None
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise FileFormatError(f"{os.fspath(path)!r} is not a sound safetensors file: its metadata is not text")
    return dict(sorted(arrays.items())), metadata


def _header(file: BinaryIO, size: int) -> dict[str, Any]:
    """The JSON at the start. Raises `ValueError` where it does not end, with the arrays it lists, at the file's end."""
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= min(_MAX_HEADER, size - 8):
        raise ValueError(f"its header would have {length} bytes, in a file of {size}; at most {_MAX_HEADER} are read")
    header = json.loads(file.read(length))
    if not isinstance(header, dict):
        raise ValueError("its header is no JSON object")
    if len(header) > _MAX_ARRAYS + ("__metadata__" in header):
        raise ValueError(f"it has {len(header)} arrays; at most {_MAX_ARRAYS} are read")
    ends = [record["data_offsets"][1] for name, record in header.items() if name != "__metadata__"]
    if 8 + length + max(ends, default=0) != size:
        raise ValueError(f"its arrays do not end where the file does, after {size} bytes")
    return header


def _array(record: Mapping[str, Any]) -> Array:
    if record["dtype"] == "BOOL" and bytes(record["data"]).strip(b"\0\1"):
        raise ValueError("a bool in it is neither 0 nor 1")
    little = numpy_dtype(_DTYPES[record["dtype"]]).newbyteorder("<")
    return np.frombuffer(record["data"], little).reshape(record["shape"])


def read_file(path: PathLike, most: int | None = None) -> bytes:
    """The bytes of a file. Raises `FileFormatError` for a pipe, device or folder, and for more than `most` bytes."""
    with _opened(path) as (file, size):
        if most is not None and size > most:
            raise FileFormatError(f"{os.fspath(path)!r} has more than {most} bytes", where=here())
        return file.read()


@contextlib.contextmanager
def _opened(path: PathLike) -> Iterator[tuple[BinaryIO, int]]:
    """An ordinary file and its size. Raises `FileFormatError` for others, and where what is read of it is too large."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise FileFormatError(f"{os.fspath(path)!r} is not an ordinary file", where=here())
            yield file, found.st_size
    except (IsADirectoryError, MemoryError) as error:
        what = "is a folder" if isinstance(error, OSError) else "does not fit into memory"
        raise FileFormatError(f"{os.fspath(path)!r} {what}", where=here()) from None


# ---------------------------------------------------------------- checkpoints


def write_checkpoint(path: PathLike, arrays: Mapping[str, Array], record: Any) -> None:
    """Write arrays and a JSON-able record, with a digest of both."""
    text = json.dumps(record)
    write_arrays(path, arrays, {"format": _CHECKPOINT, "record": text, "digest": _digest(arrays, text)})


def read_checkpoint(path: PathLike) -> tuple[dict[str, Array], Any]:
    """What `write_checkpoint` wrote. Raises `FileFormatError` where the file is foreign or a single bit has changed."""
    arrays, metadata = read_arrays(path)
    if not is_checkpoint(metadata):
        raise FileFormatError(
            f"{os.fspath(path)!r} is not a checkpoint of this version of dlc; "
            "weights alone are read by dlc.load(model, path)"
        )
    text = metadata.get("record", "")
    if metadata.get("digest") != _digest(arrays, text):
        raise FileFormatError(
            f"{os.fspath(path)!r} is damaged: its contents do not match its digest; use an older checkpoint"
        )
    try:
        return arrays, json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{os.fspath(path)!r} is damaged: {error}") from None


def is_checkpoint(metadata: Mapping[str, str]) -> bool:
    """Whether a file with this metadata is a checkpoint that this version writes."""
    return metadata.get("format") == _CHECKPOINT


def _digest(arrays: Mapping[str, Array], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        a = arrays[name]
        digest.update(json.dumps([name, a.dtype.name, a.shape]).encode())
        digest.update(a.tobytes())
    return digest.hexdigest()


# ---------------------------------------------------------------- atomic files


def write_atomically(path: PathLike, data: bytes | Iterable[bytes | memoryview]) -> None:
    """Replace the file at `path` by `data`, whole or in pieces, all or nothing, and durably; links are followed."""
    check_folder(path)
    target = os.path.realpath(path)
    folder, name = os.path.split(target)
    clean_leftovers(target)
    temporary = os.path.join(folder, f".{name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.writelines([data] if isinstance(data, bytes) else data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    _sync_folder(folder)


def check_folder(path: PathLike) -> None:
    """Raise `MissingFolderError` unless the folder that `path` lies in exists."""
    if not os.path.isdir(os.path.dirname(os.path.realpath(path))):
        folder = os.path.dirname(os.fspath(path))
        raise MissingFolderError(
            f"{os.fspath(path)!r} cannot be written: the folder {folder!r} does not exist; create it first, "
            f"for example with os.makedirs({folder!r})",
            where=here(),
        )


def clean_leftovers(path: PathLike) -> None:
    """Remove temporary files of `path` that processes which no longer run have left behind."""
    folder, name = os.path.split(os.path.realpath(path))
    pattern = re.compile(rf"\.{re.escape(name)}\.(\d+)\.[0-9a-f]{{8}}\.tmp")
    with contextlib.suppress(OSError):
        for entry in os.listdir(folder):
            found = pattern.fullmatch(entry)
            if found and not _runs(int(found[1])):
                with contextlib.suppress(OSError):
                    os.unlink(os.path.join(folder, entry))


def _runs(pid: int) -> bool:
    if pid == os.getpid():
        return True
    if os.name != "posix":  # there os.kill would end the process; leave its file alone
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


def _sync_folder(folder: str) -> None:
    """Make the rename itself durable, where the system allows opening a folder."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
