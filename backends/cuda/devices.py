"""Where entries run: a GPU by way of numba-cuda, or Numba's simulator. Both offer memory, copies and launches."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from dlc.backends.backend import Array
from dlc.backends.cuda.entry import launch_shape
from dlc.errors import UnsupportedError

EXTRA = 'pip install "dlc[cuda]"'
SIMULATE = "NUMBA_ENABLE_CUDASIM=1 in the environment, set before Numba is imported, runs it in Numba's simulator"
Launch = Callable[[int, int, int, int], None]  # tasks, and the entry's arguments


class Device(Protocol):
    """A place with memory of its own that runs entries in the order of their launches."""

    def empty(self, nbytes: int) -> Any:
        """Memory, uninitialised."""

    def address(self, memory: Any) -> int:
        """Where memory begins."""

    def upload(self, array: Array, memory: Any) -> None:
        """Copy a dense array to the device."""

    def download(self, memory: Any, array: Array) -> None:
        """Copy to a dense array from the device, when all launches are done."""

    def entry(self, source: str) -> Launch:
        """What launches the entry that `source` defines."""


def simulated() -> bool:
    """Whether Numba simulates CUDA in this process."""
    from numba.core import config

    return bool(getattr(config, "ENABLE_CUDASIM", False))


def obstacle() -> str | None:
    """Why CUDA cannot be used here, with the fix; None where it can."""
    if simulated():
        return None
    if importlib.util.find_spec("numba_cuda") is None:
        return f"the cuda backend needs the extra of that name: {EXTRA}. Without a GPU, {SIMULATE}"
    from numba import cuda

    if not cuda.is_available():
        return f"no CUDA device can be used here; see what nvidia-smi says. Without a GPU, {SIMULATE}"
    return None


def describe() -> str:
    """One line on whether, and on what, the cuda backend runs here."""
    reason = obstacle()
    if reason is not None:
        return f"not usable: {reason}"
    if simulated():
        return "Numba's simulator (NUMBA_ENABLE_CUDASIM is set)"
    from numba import cuda

    found = cuda.get_current_device()
    name = found.name.decode() if isinstance(found.name, bytes) else found.name
    return f"{name}, compute capability {'.'.join(map(str, found.compute_capability))}"


def find_device() -> Device:
    """The device that programs run on. Raises `UnsupportedError` naming what is missing, and the fix."""
    reason = obstacle()
    if reason is not None:
        raise UnsupportedError(reason)
    return SimulatedDevice() if simulated() else Gpu()


def _bytes(array: Array) -> Array:
    return array.reshape(-1).view(np.uint8)


class Gpu:
    """The current CUDA device. Copies and launches go to its default stream, which orders them."""

    def __init__(self) -> None:
        from numba import cuda

        from dlc.backends.cuda.device_names import NAMES

        self._cuda = cuda
        self._names = NAMES

    def empty(self, nbytes: int) -> Any:
        """Memory, uninitialised; its address is a multiple of 256."""
        return self._cuda.device_array(max(nbytes, 1), np.uint8)

    def address(self, memory: Any) -> int:
        """Where memory begins."""
        return int(memory.__cuda_array_interface__["data"][0])

    def upload(self, array: Array, memory: Any) -> None:
        """Copy a dense array to the device."""
        if array.nbytes:
            memory[: array.nbytes].copy_to_device(_bytes(array))

    def download(self, memory: Any, array: Array) -> None:
        """Copy to a dense array from the device, when all launches are done."""
        if array.nbytes:
            memory[: array.nbytes].copy_to_host(_bytes(array))

    def entry(self, source: str) -> Launch:
        """Compile for this device."""
        from dlc.backends.cuda.compile import SIGNATURE, defined

        kernel = self._cuda.jit(SIGNATURE)(defined(source, self._names))
        configured: dict[tuple[int, int], Any] = {}

        def launch(tasks: int, bases: int, table: int, row: int) -> None:
            shape = launch_shape(tasks)
            if shape not in configured:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # Numba warns of small grids, which small graphs ask for
                    configured[shape] = kernel[shape]
            configured[shape](bases, table, row)

        return launch


class SimulatedDevice:
    """Numba's simulator: a Python thread for each thread of a block, on memory whose bounds are checked."""

    def __init__(self) -> None:
        from numba import cuda

        from dlc.backends.cuda.simulated_names import Memory

        self._cuda = cuda
        self._memory = Memory()
        self._names = {**self._memory.names(), "cuda": cuda}
        self.launches: list[tuple[int, int]] = []  # (blocks, threads of a block) of each, in order

    def empty(self, nbytes: int) -> Any:
        """Memory, filled with NaN."""
        memory = np.full(-(-max(nbytes, 1) // 8), -1, np.int64)  # words, so that it is aligned
        self._memory.add(memory, nbytes)
        return memory

    def address(self, memory: Any) -> int:
        """Where memory begins."""
        return int(memory.ctypes.data)

    def upload(self, array: Array, memory: Any) -> None:
        """Copy a dense array."""
        _bytes(memory)[: array.nbytes] = _bytes(array)

    def download(self, memory: Any, array: Array) -> None:
        """Copy to a dense array."""
        _bytes(array)[:] = _bytes(memory)[: array.nbytes]

    def entry(self, source: str) -> Launch:
        """The entry as a kernel of the simulator."""
        from dlc.backends.cuda.compile import defined

        kernel = self._cuda.jit(defined(source, self._names))

        def launch(tasks: int, bases: int, table: int, row: int) -> None:
            self.launches.append(launch_shape(tasks))
            kernel[launch_shape(tasks)](bases, table, row)

        return launch
