"""The reference backend: NumPy, op by op, from each op's own definition. Slow, and the oracle for everything else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from dlc.backends.backend import Array, KernelSource
from dlc.ir import Graph, Node
from dlc.ops.interpret import interpret
from dlc.state import State


class ReferenceExecutable:
    """A graph that is interpreted at each call."""

    kernels: tuple[KernelSource, ...] = ()

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def __call__(self, inputs: Sequence[Array], bindings: Mapping[str, int]) -> tuple[Array, ...]:
        """Outputs as fresh arrays; the state is assigned only when everything has been computed."""
        states = {n: n.leaf.value for n in self.graph.states if isinstance(n.leaf, State)}
        with np.errstate(all="ignore"):
            outputs, updates = interpret(self.graph, inputs, bindings, states)
        results = tuple(np.array(o) for o in outputs)
        for (node, _), value in zip(self.graph.updates, [np.array(u) for u in updates], strict=True):
            assert isinstance(node.leaf, State)
            node.leaf.assign(value)
        return results


class ReferenceBackend:
    """Runs every op that has a NumPy reference, which is every op of the catalogue."""

    name = "reference"

    def unsupported(self, graph: Graph) -> list[tuple[Node, str]]:
        """Nodes whose op has no reference."""
        leaves = ("input", "state")
        return [
            (n, "it has no NumPy reference") for n in graph.nodes if n.op.reference is None and n.op.name not in leaves
        ]

    def load(self, graph: Graph) -> ReferenceExecutable:
        """Nothing to prepare."""
        return ReferenceExecutable(graph)
