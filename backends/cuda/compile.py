"""Entries as PTX and as cubins, which needs the `cuda` extra and no GPU.

The driver's own compiler is not asked: PTX comes from NVVM, and nvJitLink makes the cubin and says what it uses.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from dlc.errors import UnsupportedError

SIGNATURE = "void(int64, int64, int64)"
CAPABILITY = (9, 0)


class Compiled(NamedTuple):
    """An entry for one kind of GPU: its PTX, its cubin, and per thread the registers and the bytes that do not fit."""

    ptx: str
    cubin: bytes
    registers: int
    stack: int
    spilled: int


def defined(source: str, names: Mapping[str, Any]) -> Callable[..., None]:
    """The function that the source of an entry defines."""
    scope = dict(names)
    exec(compile(source, "<entry>", "exec"), scope)
    entry: Callable[..., None] = scope["entry"]
    return entry


def compile_entry(source: str, capability: tuple[int, int] = CAPABILITY) -> Compiled:
    """PTX and cubin of an entry for a compute capability. Raises `UnsupportedError` where the extra is missing."""
    try:
        from cuda.bindings import nvjitlink
        from numba import cuda
        from numba.cuda import types

        from dlc.backends.cuda.device_names import NAMES
    except ImportError as error:
        reason = f'compiling for CUDA needs the extra of that name: pip install "dlc[cuda]" ({error})'
        raise UnsupportedError(reason) from error
    signature = types.void(types.int64, types.int64, types.int64)
    ptx, _ = cuda.compile_ptx(defined(source, NAMES), signature, cc=capability)
    handle = nvjitlink.create(2, [f"-arch=sm_{capability[0]}{capability[1]}", "-verbose"])
    try:
        data = ptx.encode()
        nvjitlink.add_data(handle, nvjitlink.InputType.PTX, data, len(data), "entry")
        nvjitlink.complete(handle)
        cubin = bytearray(nvjitlink.get_linked_cubin_size(handle))
        nvjitlink.get_linked_cubin(handle, cubin)
        log = bytearray(nvjitlink.get_info_log_size(handle))
        nvjitlink.get_info_log(handle, log)
    finally:
        nvjitlink.destroy(handle)
    text = log.decode(errors="replace")
    return Compiled(
        ptx, bytes(cubin), _number(r"Used (\d+) registers", text), _number(r"(\d+) bytes stack frame", text),
        _number(r"(\d+) bytes spill stores", text) + _number(r"(\d+) bytes spill loads", text),
    )  # fmt: skip


def _number(pattern: str, log: str) -> int:
    found = re.search(pattern, log)
    if found is None:
        raise UnsupportedError(f"nvJitLink does not say what a kernel uses ({pattern}): {log}")
    return int(found.group(1))
