"""What notebooks ask of the things they show."""

from __future__ import annotations

from importlib import import_module
from typing import Any


class Pictured:
    """Something that a notebook shows as a picture beside its text.

    Drawing lies far above what is drawn, so it is looked up by name, when a notebook asks.
    """

    __slots__ = ()

    @property
    def _drawn(self) -> Any:
        """The graph, program or tensor to draw."""
        return self

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        bundle: dict[str, str] = import_module("dlc.render.notebook").mimebundle(self._drawn, repr(self))
        return bundle
