"""Which kernels must run after which, while kernels are still being put together: what keeps fusion free of cycles.

Kernels are numbered as they are found, users first. Each knows, as the bits of an int, all that run after it.
"""

from __future__ import annotations

from collections.abc import Iterable


class KernelOrder:
    """The order among kernels, closed under "after": asking is one step, and so is most growing."""

    def __init__(self) -> None:
        self._after: list[int] = []
        self._sources: list[set[int]] = []  # who feeds a kernel directly
        self._joined: dict[int, int] = {}

    def add(self, readers: Iterable[int]) -> int:
        """A new kernel, whose result these read."""
        kernel = len(self._after)
        self._after.append(0)
        self._sources.append(set())
        self.feed(kernel, readers)
        return kernel

    def may_feed(self, kernel: int, readers: Iterable[int]) -> bool:
        """Whether all of `readers` may read a result of `kernel`: none of them has to run before it."""
        return not any(self.is_before(reader, kernel) for reader in readers)

    def is_before(self, first: int, second: int) -> bool:
        """Whether `first` is `second` or has to run before it."""
        first, second = self._name(first), self._name(second)
        return first == second or bool(self._after[first] >> second & 1)

    def feed(self, kernel: int, readers: Iterable[int]) -> None:
        """Note that `readers` read a result of `kernel`."""
        kernel = self._name(kernel)
        news = 0
        for reader in map(self._name, readers):
            if reader != kernel:
                news |= 1 << reader | self._after[reader]
                self._sources[reader].add(kernel)
        stack = [kernel]
        while stack:
            at = self._name(stack.pop())
            if self._after[at] | news != self._after[at]:
                self._after[at] |= news
                stack.extend(self._sources[at])

    def join(self, kernel: int, other: int) -> None:
        """Make `other` a part of `kernel`: neither may have to run before the other."""
        kernel, other = self._name(kernel), self._name(other)
        self._joined[other] = kernel
        self._sources[kernel] |= self._sources[other]
        self._after[kernel] |= self._after[other]
        news = self._after[kernel] | 1 << kernel
        stack = list(self._sources[kernel])
        while stack:
            at = self._name(stack.pop())
            if self._after[at] | news != self._after[at]:
                self._after[at] |= news
                stack.extend(self._sources[at])

    def _name(self, kernel: int) -> int:
        while kernel in self._joined:
            kernel = self._joined[kernel]
        return kernel
