"""What a backend is: a finished graph goes in, something that runs it comes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from dlc.ir import Graph, Node

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class KernelSource:
    """One generated kernel: its counter-made name, readable Python source, and the nodes that it serves."""

    name: str
    source: str
    nodes: tuple[Node, ...] = ()


class Executable(Protocol):
    """A graph made ready to run. State is read and updated in place, by reference; calls are re-entrant."""

    kernels: tuple[KernelSource, ...]

    def __call__(self, inputs: Sequence[Array], bindings: Mapping[str, int]) -> tuple[Array, ...]:
        """Outputs as fresh arrays, after the updates are done; `inputs` fit the graph's inputs under `bindings`.

        An error found while running is raised after which all state is as it was.
        """


class Backend(Protocol):
    """A way to run graphs."""

    name: str

    def unsupported(self, graph: Graph) -> list[tuple[Node, str]]:
        """The nodes that this backend has no code for, each with the reason."""

    def load(self, graph: Graph) -> Executable:
        """Make a graph ready to run. Ambient leaves are bound already."""
