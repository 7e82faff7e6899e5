"""A loaded program on a CUDA device: the plan's table, walked from the host as one launch a row.

All launches of a call go to one stream, which orders them; nothing waits before the results are fetched. The device
holds memory for the bindings seen last: bases, status, arguments, arena, inputs and outputs; states and constants are
there once. The values of states live on the host, which may write to them between calls, so they travel at each call.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from dlc.backends.backend import Array, KernelSource
from dlc.backends.cuda.devices import Device, Launch
from dlc.backends.cuda.entry import COPY_ENTRY, TARGET, entry_source
from dlc.backends.emission import kernel_of
from dlc.backends.loops import KernelCode
from dlc.backends.plan import ARENA, FIRST, STATUS, Plan, make_plan
from dlc.backends.table import COPY, COPY_FIELDS, Arguments
from dlc.dims import evaluate
from dlc.errors import DlcError, IndexOutOfRangeError
from dlc.ir import Graph, Node
from dlc.ops.fused import can_fail
from dlc.state import State, Updates

STATUS_WORDS = 8
MAX_BINDINGS = 4  # values of the named dims whose memory is kept, the least recently used going first


class Bound:
    """A program under one binding of the named dims: its memory on the device, and what to launch, in order."""

    def __init__(self, executable: CudaExecutable, bindings: Mapping[str, int]) -> None:
        plan, device = executable.plan, executable.device
        arena = plan.arena(bindings)
        table = executable.arguments.bound(arena, bindings)
        shapes = [tuple(evaluate(d, bindings) for d in n.shape) for n in (*plan.graph.inputs, *plan.graph.outputs)]
        dtypes = [n.dtype for n in (*plan.graph.inputs, *plan.graph.outputs)]
        sizes = [int(np.prod(s, dtype=np.int64)) * np.dtype(t).itemsize for s, t in zip(shapes, dtypes, strict=True)]
        memory = [device.empty(size) for size in sizes]
        first = len(plan.graph.inputs)
        self.inputs, self.outputs = memory[:first], memory[first:]
        self.results = list(zip(shapes[first:], dtypes[first:], strict=True))
        self.arena = device.empty(arena.peak)
        self.status = device.empty(8 * STATUS_WORDS)
        self._bases, self._table = device.empty(8 * plan.bases), device.empty(table.nbytes)
        bases = np.zeros(plan.bases, np.int64)
        bases[STATUS], bases[ARENA] = device.address(self.status), device.address(self.arena)
        for i, held in enumerate((*self.inputs, *executable.states, *self.outputs)):
            bases[FIRST + i] = device.address(held)
        for base, held in executable.constants.items():
            bases[base] = device.address(held)
        device.upload(bases, self._bases)
        device.upload(table, self._table)
        ends = (device.address(self._bases), device.address(self._table))
        self.launches: list[Callable[[], None]] = []
        for what, row in executable.arguments.rows:
            tasks = int(table[row + COPY_FIELDS - 1] if what == COPY else table[row])
            if what in executable.entries and tasks:
                self.launches.append(partial(executable.entries[what], tasks, *ends, row))


class CudaExecutable:
    """A graph as kernels for a CUDA device. `kernels` are their sources, `plan` what runs where.

    Several threads may call it; one runs at a time.
    """

    def __init__(self, graph: Graph, device: Device) -> None:
        self.device = device
        sources: dict[str, list[Node]] = {}

        def emit(node: Node) -> KernelCode:
            code = kernel_of(node, TARGET)
            sources.setdefault(code.source, []).append(node)
            return code

        self.plan: Plan = make_plan(graph, emit)
        named = enumerate(sources.items())
        self.kernels = tuple([KernelSource(f"kernel{i}", source, tuple(nodes)) for i, (source, nodes) in named])
        self.arguments = Arguments(self.plan)
        self.entries: dict[int | str, Launch] = {COPY: device.entry(COPY_ENTRY)}
        self.entries.update({source: device.entry(entry_source(source)) for source in sources})
        self._leaves = [n.leaf for n in graph.states if isinstance(n.leaf, State)]
        self.states = [device.empty(evaluate(leaf.type.nbytes, {})) for leaf in self._leaves]
        self.constants = {base: device.empty(array.nbytes) for base, array in self.plan.constants}
        for base, array in self.plan.constants:
            device.upload(array, self.constants[base])
        self._updates = Updates()
        self._updated = [n.leaf for n, _ in graph.updates if isinstance(n.leaf, State)]
        for state in self._updated:
            state.count(self._updates)
        self._can_fail = any(can_fail(call.node) for call in self.plan.kernels)
        self._bound: OrderedDict[tuple[tuple[str, int], ...], Bound] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, inputs: Sequence[Array], bindings: Mapping[str, int]) -> tuple[Array, ...]:
        """Outputs as fresh arrays, after the updates. Raises `IndexOutOfRangeError`, with all state as it was."""
        with self._lock:
            return self._run(inputs, self._bind(bindings))

    def _bind(self, bindings: Mapping[str, int]) -> Bound:
        key = tuple(sorted(bindings.items()))
        bound = self._bound.pop(key, None) or Bound(self, bindings)
        self._bound[key] = bound
        while len(self._bound) > MAX_BINDINGS:
            self._bound.popitem(last=False)
        return bound

    def _run(self, inputs: Sequence[Array], bound: Bound) -> tuple[Array, ...]:
        device, status = self.device, np.zeros(STATUS_WORDS, np.int64)
        device.upload(status, bound.status)
        for array, memory in zip(inputs, bound.inputs, strict=True):
            device.upload(np.ascontiguousarray(array), memory)
        for state, memory in zip(self._leaves, self.states, strict=True):
            device.upload(state.value, memory)
        for launch in bound.launches:
            launch()
        if self._can_fail:
            device.download(bound.status, status)
            if status[0]:
                raise self._error(*status[1:5].tolist())
        results = tuple([np.empty(shape, dtype) for shape, dtype in bound.results])
        for array, memory in zip(results, bound.outputs, strict=True):
            device.download(memory, array)
        for state, memory in zip(self._leaves, self.states, strict=True):
            if state in self._updated:
                device.download(memory, state.value)
        self._updates.count += 1
        return results

    def _error(self, number: int, ordinal: int, index: int, extent: int) -> DlcError:
        """What a status block says, in the user's terms."""
        call = self.plan.kernels[number]
        body: Any = call.node.attrs.get("body")
        node = body.nodes[ordinal] if isinstance(body, Graph) else call.node
        return IndexOutOfRangeError(
            f"{node.op.name}: index {index} is out of range for an axis of {extent} elements; nothing was changed",
            where=call.graph.where(call.node),
        )
