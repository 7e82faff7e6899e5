"""The CUDA backend: what it supports, and loading a graph."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from dlc.backends.cuda.entry import TARGET
from dlc.backends.emission import kernel_of
from dlc.errors import UnsupportedError
from dlc.ir import Graph, Node
from dlc.ops.definition import Kind
from dlc.passes.schedule import is_kernel

if TYPE_CHECKING:
    from dlc.backends.cuda.executable import CudaExecutable

CALLED = re.compile(r"(?<!def )\b([a-z_]\w*)\(")


class CudaBackend:
    """Numba CUDA kernels, one task a thread. A first one: fit to prove the sharing, not yet fast (see docs/cuda.md).

    Loading raises `UnsupportedError` where the `cuda` extra or a device is missing.
    """

    name = "cuda"

    def unsupported(self, graph: Graph) -> list[tuple[Node, str]]:
        """The kernels that cannot be made, each with the reason."""
        found: list[tuple[Node, str]] = []
        for node in graph.nodes:
            if node.op.kind is Kind.LOOP:
                found.append((node, "it has no loops yet"))
            elif node.op.name == "ambient":
                found.append((node, "the compiler has not bound it"))
            elif is_kernel(node) and (reason := _reason_against(node)) is not None:
                found.append((node, reason))
        return found

    def load(self, graph: Graph) -> CudaExecutable:
        """Plan, emit and compile `graph`. Raises `UnsupportedError` for a node without code, and without a device."""
        from dlc.backends.cuda.devices import find_device
        from dlc.backends.cuda.executable import CudaExecutable

        return CudaExecutable(graph, find_device())


def _reason_against(node: Node) -> str | None:
    """Why there is no kernel for `node`; None where there is one. Names that kernels call may be missing here."""
    from dlc.backends.cuda.simulated_names import ADDRESS_NAMES, NAMES

    try:
        code = kernel_of(node, TARGET)
    except UnsupportedError as error:
        return error.message
    called = set(CALLED.findall(code.source))
    missing = sorted(called - NAMES.keys() - set(ADDRESS_NAMES))
    return f"it has no {' and no '.join(missing)} yet" if missing else None
