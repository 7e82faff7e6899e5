"""The CPU backend: what it supports, and loading a graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dlc.backends.cpu.host import cpu_target
from dlc.backends.emission import reason_against
from dlc.ir import Graph, Node
from dlc.ops.definition import Kind
from dlc.passes.halves import computing_in_half
from dlc.passes.schedule import is_kernel

if TYPE_CHECKING:
    from dlc.backends.cpu.executable import CpuExecutable


class CpuBackend:
    """Native code for this machine's CPU, compiled by Numba and cached.

    >>> import dlc, numpy as np
    >>> x = dlc.input("x", ("N",))
    >>> run = CpuBackend().load(dlc.graph([x], [x * 2]))
    >>> run([np.array([1, 2], np.float32)], {"N": 2})[0].tolist()
    [2.0, 4.0]
    """

    name = "cpu"

    def unsupported(self, graph: Graph) -> list[tuple[Node, str]]:
        """The kernels that cannot be made, each with the reason; in the bodies of loops too."""
        found: list[tuple[Node, str]] = []
        for node in graph.nodes:
            if node.op.kind is Kind.LOOP:
                for body in [v for v in node.attrs.values() if isinstance(v, Graph)]:
                    found += [(node, f"{inner.op.name}: {reason}") for inner, reason in self.unsupported(body)]
            elif node.op.name == "ambient":
                found.append((node, "the compiler has not bound it"))
            elif (half := computing_in_half(node)) is not None:
                found.append((node, f"{half.op.name} computes in a half; keep the pass 'halves' in the pipeline"))
            elif is_kernel(node) and (reason := reason_against(node, cpu_target())) is not None:
                found.append((node, reason))
        return found

    def load(self, graph: Graph) -> CpuExecutable:
        """Plan, emit and compile `graph`. Raises `UnsupportedError` for a node without code."""
        from dlc.backends.cpu.executable import CpuExecutable

        return CpuExecutable(graph)
