"""State: parameters, optimiser slots, running statistics and counters. A leaf that owns its storage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dlc.conversions import cast
from dlc.dims import Dim
from dlc.dtypes import HALF, can_assign, numpy_dtype
from dlc.errors import ArgumentError, GraphError
from dlc.ir import Leaf, TensorType

ALIGNMENT = 64  # bytes: one cache line, one AVX-512 vector


def aligned_empty(shape: tuple[int, ...], dtype: str) -> np.ndarray[Any, Any]:
    """An uninitialised C-ordered array whose data starts on a 64-byte boundary."""
    d = numpy_dtype(dtype)
    nbytes = int(np.prod(shape, dtype=np.int64)) * d.itemsize
    raw = np.empty(nbytes + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + nbytes].view(d).reshape(shape)


class Updates:
    """How often a program has updated its states: one count for them all, so that a call need not touch each."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class State(Leaf):
    """A value that outlives calls. Programs bind it by reference, so an update through one is seen by all.

    `type` has a concrete shape. The value materialises when first asked for, from `initial()`; one that was set or
    loaded is never overwritten by a later initialisation.
    """

    __slots__ = ("_assigned", "_updates", "_value", "initial", "type")

    def __init__(self, name: str, type: TensorType, initial: Callable[[], Any]) -> None:
        super().__init__(name)
        if any(isinstance(d, Dim) for d in type.shape):
            raise GraphError(f"the state {name!r} needs a shape of plain ints, not {type}")
        self.type = type
        self.initial = initial
        self._assigned = 0
        self._updates: tuple[Updates, ...] = ()
        self._value: np.ndarray[Any, Any] | None = None

    @property
    def is_materialised(self) -> bool:
        """Whether the value exists already."""
        return self._value is not None

    @property
    def value(self) -> np.ndarray[Any, Any]:
        """The storage itself: C-ordered, 64-byte aligned, never reallocated."""
        if self._value is None:
            self._write(self.initial())
        assert self._value is not None
        return self._value

    @property
    def version(self) -> int:
        """Grows with every assignment and every update by a program, for what is derived from the value."""
        return self._assigned + sum([u.count for u in self._updates])

    def count(self, updates: Updates) -> None:
        """Let `version` follow the updates of a program."""
        self._updates += (updates,)

    def assign(self, value: Any) -> None:
        """Copy `value` into the storage. Raises `ArgumentError` when shape or dtype do not fit."""
        array = np.asarray(value)
        if array.shape != self.type.shape:
            raise ArgumentError(f"the state {self.name!r} has shape {self.type.shape}, the value {array.shape}")
        if not can_assign(array.dtype, self.type.dtype):
            raise ArgumentError(f"the state {self.name!r} is {self.type.dtype}, the value {array.dtype.name}")
        self._write(array)
        self._assigned += 1

    def _write(self, array: Any) -> None:
        if self._value is None:
            self._value = aligned_empty(self.type.shape, self.type.dtype)  # type: ignore[arg-type]
        self._value[...] = cast(np.asarray(array), self.type.dtype) if self.type.dtype in HALF else array
