"""A CUDA device in plain Python that runs one thread after the other, and notes what each of them touches."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from dlc.backends.cuda.compile import defined
from dlc.backends.cuda.devices import SimulatedDevice
from dlc.backends.cuda.entry import launch_shape
from dlc.backends.cuda.simulated_names import Memory, Pointer


class Watch:
    """The elements that the threads of one launch have read and written, by address."""

    def __init__(self) -> None:
        self.thread = -1
        self.read: dict[int, set[int]] = {}
        self.written: dict[int, int] = {}

    def clear(self) -> None:
        self.read.clear()
        self.written.clear()

    def see(self, address: int, write: bool) -> None:
        others = {self.written.get(address, self.thread)} | (self.read.get(address, set()) if write else set())
        if others - {self.thread}:
            raise AssertionError(f"threads {self.thread} and {others} of one launch share a written element")
        if write:
            self.written[address] = self.thread
        else:
            self.read.setdefault(address, set()).add(self.thread)


class WatchedPointer(Pointer):
    """A pointer whose accesses are noted."""

    __slots__ = ("_watch",)

    def __init__(self, elements: Any, watch: Watch) -> None:
        super().__init__(elements)
        self._watch = watch

    def _address(self, index: Any) -> int:
        return int(self._elements.ctypes.data + index * self._elements.itemsize)

    def __getitem__(self, index: Any) -> Any:
        value = super().__getitem__(index)
        self._watch.see(self._address(index), write=False)
        return value

    def __setitem__(self, index: Any, value: Any) -> None:
        super().__setitem__(index, value)
        self._watch.see(self._address(index), write=True)


class WatchedMemory(Memory):
    """Memory whose typed pointers are watched; the bases, the arguments and the status block are not."""

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self._watch = watch

    def names(self) -> dict[str, Any]:
        found = super().names()
        for text in [t for t in found if t.startswith("pointer_") and t not in ("pointer_at", "pointer_status")]:
            found[text] = self._watched(found[text])
        return found

    def _watched(self, pointer: Callable[..., Pointer]) -> Callable[..., Pointer]:
        return lambda bases, args, k: WatchedPointer(pointer(bases, args, k)._elements, self._watch)


class SerialDevice(SimulatedDevice):
    """Threads one after the other, the last first."""

    def __init__(self) -> None:
        self._watch = Watch()
        self._memory = WatchedMemory(self._watch)
        self._here = SimpleNamespace(grid=lambda axes: self._watch.thread, gridsize=lambda axes: self._threads)
        self._names = {**self._memory.names(), "cuda": self._here}
        self._threads = 0
        self.launches = []

    def entry(self, source: str) -> Callable[[int, int, int, int], None]:
        run = defined(source, self._names)

        def launch(tasks: int, bases: int, table: int, row: int) -> None:
            blocks, threads = launch_shape(tasks)
            self.launches.append((blocks, threads))
            self._threads = blocks * threads
            self._watch.clear()
            for thread in reversed(range(self._threads)):
                self._watch.thread = thread
                with np.errstate(all="ignore"):
                    run(bases, table, row)

        return launch
