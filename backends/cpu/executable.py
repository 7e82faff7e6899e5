"""A loaded program: one native call for the whole graph, on memory from a pool."""

from __future__ import annotations

import ctypes
import os
import struct
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import starmap
from typing import Any, NamedTuple

import numpy as np

from dlc.backends.backend import Array, KernelSource
from dlc.backends.cpu.compile import compile_kernels
from dlc.backends.cpu.dispatcher import dispatcher
from dlc.backends.cpu.host import cpu_target
from dlc.backends.cpu.threads import pool
from dlc.backends.emission import kernel_of
from dlc.backends.loops import KernelCode
from dlc.backends.plan import FIRST, Plan, make_plan
from dlc.backends.table import Arguments, table_of
from dlc.dims import evaluate
from dlc.dtypes import numpy_dtype
from dlc.errors import DlcError, IndexOutOfRangeError
from dlc.garbage import collection_paused
from dlc.ir import Graph, Node, TensorType
from dlc.ops.fused import can_fail
from dlc.passes.memory import Arena
from dlc.state import State, Updates, aligned_empty

MAX_BINDINGS = 64  # argument blocks that are kept, the least recently used going first
POISON = os.environ.get("DLC_POISON", "0") not in ("", "0")
STATUS_WORDS = 8

_NATIVE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
_PACK = struct.Struct("2q").pack_into


@cache
def _fields() -> tuple[int, int]:
    """Where a NumPy array keeps the address of its data, and a tuple its items: right after Python's object heads."""
    data, items = object.__basicsize__, tuple.__basicsize__
    probes = tuple([np.zeros(shape, np.float32) for shape in ((), (3,), (2, 5))])
    for i, a in enumerate(probes):
        found = ctypes.c_size_t.from_address(id(probes) + items + 8 * i).value
        if found != id(a) or ctypes.c_size_t.from_address(found + data).value != a.ctypes.data:
            raise RuntimeError("this Python or NumPy lays objects out in a way that the CPU backend does not know")
    return data, items


class Memory(NamedTuple):
    """What one call needs for itself: an arena, a status block and the bases."""

    arena: Array
    status: Array
    bases: Any  # a ctypes array of int64
    address: int


class Bound:
    """A program under one binding of the named dims: arguments, offsets and shapes of outputs."""

    def __init__(self, executable: CpuExecutable, bindings: Mapping[str, int]) -> None:
        plan = executable.plan
        arena: Arena = plan.arena(bindings)
        self.peak = arena.peak
        self.args = executable.arguments.bound(arena, bindings)
        graph, table = plan.graph, executable.table
        arrays = (plan.bases, len(graph.inputs), executable.first_output, len(graph.outputs))
        ends = (*_fields(), *arrays, pool().address)
        self.head = np.array([table.ctypes.data, len(table), self.args.ctypes.data, *ends], np.int64)
        self.shared = any(self.args[at] < self.args[at - 1] for at, *_ in executable.arguments.grains)
        self.head_address = self.head.ctypes.data
        self.outputs = [(_shape(n.type, bindings), numpy_dtype(n.type.dtype)) for n in graph.outputs]


def _shape(type: TensorType, bindings: Mapping[str, int]) -> tuple[int, ...]:
    return tuple([evaluate(d, bindings) for d in type.shape])


class CpuExecutable:
    """A graph as native code. `kernels` are its sources, `plan` what runs where, `seconds` how long each stage took.

    Several threads may call it at once; each call has memory of its own and holds no lock while native code runs.
    `poison` fills the arena with NaN before each call, so that a read of what was never written shows.
    """

    def __init__(self, graph: Graph, *, poison: bool = POISON) -> None:
        self.poison = poison
        self.seconds: dict[str, float] = {}
        emitter = _Emitter()
        with collection_paused():
            self.plan: Plan = self._timed("plan", lambda: make_plan(graph, emitter))
        sources = emitter.sources
        addresses = self._timed("compile", lambda: dict(zip(sources, compile_kernels(list(sources)), strict=True)))
        self.seconds["emit"] = emitter.seconds
        self.seconds["plan"] -= emitter.seconds
        named = enumerate(sources.items())
        self.kernels = tuple([KernelSource(f"kernel{i}", source, tuple(nodes)) for i, (source, nodes) in named])
        self.arguments = Arguments(self.plan)
        self.table = table_of(self.arguments, addresses)
        self._pool = pool()
        self._run = _NATIVE(dispatcher())
        self._can_fail = any(can_fail(call.node) for call in self.plan.kernels)
        self._states = [n.leaf for n in graph.states if isinstance(n.leaf, State)]
        self._updates = Updates()
        self._updated = [n.leaf for n, _ in graph.updates if isinstance(n.leaf, State)]
        for state in self._updated:
            state.count(self._updates)
        self.first_output = FIRST + len(graph.inputs) + len(self._states)
        self._tuples = 8 * self.plan.bases
        self._bound: OrderedDict[tuple[tuple[str, int], ...], Bound] = OrderedDict()
        self._owners: set[int] = set()  # of the arrays that hold updated states, known once those have values
        self._memory: list[Memory] = []  # memory that no call is using, for all bindings
        self._last: tuple[Mapping[str, int] | None, Bound | None] = (None, None)

    def _timed(self, stage: str, work: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        result = work()
        self.seconds[stage] = time.perf_counter() - began
        return result

    def __call__(self, inputs: Sequence[Array], bindings: Mapping[str, int]) -> tuple[Array, ...]:
        """Outputs as fresh arrays, after the updates. Raises `IndexOutOfRangeError`, with all state as it was."""
        last, bound = self._last
        if last is not bindings or bound is None:
            bound = self._bind(bindings)
        try:
            memory = self._memory.pop()
            if len(memory.arena) < bound.peak:  # what is too small makes room for what is not
                memory = self._new_memory(bound.peak)
        except IndexError:
            memory = self._new_memory(bound.peak)
        if bound.shared and not self._pool.ready:
            self._pool.start()
        if self.poison:
            memory.arena[...] = 0xFF
        arrays = tuple(inputs)
        for a in arrays:  # an owner of C-ordered, aligned bytes, as nearly every input is, needs no other look
            if not a.flags.carray or a.base is not None:
                arrays = tuple([np.array(a, order="C") if self._must_copy(a) else a for a in arrays])
                break
        results = tuple(starmap(np.empty, bound.outputs))
        _PACK(memory.bases, self._tuples, id(arrays), id(results))
        self._run(memory.address, bound.head_address, 0, 0)
        if self._can_fail and memory.status[0]:
            report = memory.status.tolist()
            memory.status[0] = 0
            self._memory.append(memory)
            raise self._error(*report[1:5])
        self._memory.append(memory)
        self._updates.count += 1
        return results

    def _bind(self, bindings: Mapping[str, int]) -> Bound:
        key = tuple(sorted(bindings.items()))
        bound = self._bound.pop(key, None) or Bound(self, bindings)
        self._bound[key] = bound
        while len(self._bound) > MAX_BINDINGS:
            self._bound.popitem(last=False)
        self._last = (bindings, bound)
        return bound

    def _must_copy(self, a: Array) -> bool:
        """Whether an input is not dense, or is the storage of a state that a call updates: ``step(weight.value)``."""
        if not (a.flags.c_contiguous and a.flags.aligned):
            return True
        owner: Any = a.base
        while type(owner) is np.ndarray and owner.base is not None:
            owner = owner.base
        if type(owner) is np.ndarray:
            return id(owner) in self._owners
        return any(np.may_share_memory(a, state.value) for state in self._updated)

    def _new_memory(self, nbytes: int) -> Memory:
        """An arena of `nbytes`, and bases that hold every address that is the same at each call."""
        self._owners = {id(state.value.base) for state in self._updated}
        arena, status = aligned_empty((nbytes,), "uint8"), np.zeros(STATUS_WORDS, np.int64)
        bases = (ctypes.c_int64 * (self.plan.bases + 2))()  # and the tuples of inputs and outputs
        bases[0], bases[1] = status.ctypes.data, arena.ctypes.data
        for i, state in enumerate(self._states):
            bases[FIRST + len(self.plan.graph.inputs) + i] = state.value.ctypes.data
        for base, array in self.plan.constants:
            bases[base] = array.ctypes.data
        return Memory(arena, status, bases, ctypes.addressof(bases))

    def _error(self, number: int, ordinal: int, index: int, extent: int) -> DlcError:
        """What a status block says, in the user's terms."""
        call = self.plan.kernels[number]
        body = call.node.attrs.get("body")
        node = body.nodes[ordinal] if isinstance(body, Graph) else call.node
        return IndexOutOfRangeError(
            f"{node.op.name}: index {index} is out of range for an axis of {extent} elements; nothing was changed",
            where=call.graph.where(call.node),
        )


class _Emitter:
    """Emits kernels and notes which nodes each source serves, and how long it took."""

    def __init__(self) -> None:
        self.sources: dict[str, list[Node]] = {}
        self.codes: dict[Node, KernelCode] = {}
        self.seconds = 0.0
        self.target = cpu_target()

    def __call__(self, node: Node) -> KernelCode:
        """The kernel of `node`."""
        if node in self.codes:
            return self.codes[node]
        began = time.perf_counter()
        code = self.codes[node] = kernel_of(node, self.target)
        self.sources.setdefault(code.source, []).append(node)
        self.seconds += time.perf_counter() - began
        return code
