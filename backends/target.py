"""What a kernel is written for: how wide vectors are, how many registers hold them, and how large the caches are."""

from __future__ import annotations

from dataclasses import dataclass

from dlc.dtypes import itemsize


@dataclass(frozen=True)
class Target:
    """A machine, as far as the source of a kernel depends on it. Sizes are in bytes.

    A machine without vectors (`vector` is 0) runs one task a thread. Caches are those of one core.
    """

    name: str
    vector: int
    registers: int
    first_cache: int = 32 * 1024
    second_cache: int = 1024 * 1024

    @property
    def masks(self) -> bool:
        """Whether loads and stores of a vector can leave out some of its elements."""
        return self.vector >= 32

    def lanes(self, dtype: str) -> int:
        """How many elements a vector register holds."""
        return max(1, self.vector // itemsize(dtype))
