"""Where a training step's time goes: each row of its table timed by itself, inside whole steps.

    python -m benchmarks.profile resnet [--passes 10] [--rows 30] [--layers]

The rows run one at a time in their order, so every kernel finds the caches and the values that it finds in a step. A
loop is one entry. Rows of one kernel and one node are added up. The sum may exceed the step's time by what starting a
row from Python costs threads that went to sleep.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

import dlc
from benchmarks.networks import NETWORKS, training_step
from benchmarks.timing import turn
from dlc.backends.cpu.executable import _PACK, CpuExecutable
from dlc.backends.plan import CopyStep, KernelStep, LoopStep
from dlc.backends.table import COMMIT
from dlc.dims import evaluate
from dlc.ir import Node
from dlc.ops.definition import Kind, nbytes
from dlc.passes.schedule import is_kernel


@dataclass
class Entry:
    """Rows `first` to `last` of the table, which run together. `times` are seconds, one of each pass."""

    name: str
    place: str
    first: int
    last: int
    flops: int
    nbytes: int
    times: list[float] = field(default_factory=list)

    @property
    def best(self) -> float:
        """The quickest pass."""
        return min(self.times)


class Profile:
    """The entries of a program's table, and passes over them with the states and the memory of a real call."""

    def __init__(self, program: dlc.Program, *arrays: Any) -> None:
        self.inputs = tuple([np.ascontiguousarray(a) for a in arrays])
        self.outputs = program(*self.inputs)
        executable: Any = program._executable
        assert isinstance(executable, CpuExecutable), "only the cpu backend has a table"
        self.executable = executable
        self.bindings = program._bind(self.inputs)
        self.bound = executable._bind(self.bindings)
        self.memory = executable._new_memory(self.bound.peak)
        _PACK(self.memory.bases, executable._tuples, id(self.inputs), id(self.outputs))
        self.entries = list(self._entries())

    def run(self, passes: int) -> None:
        """Run whole steps, timing each entry."""
        native, address = self.executable._run, self.memory.address
        calls = [(entry, self._head(entry)) for entry in self.entries]
        idle = self._head(Entry("", "", 0, 0, 0, 0))
        idle[1] = 0  # no rows: what a call costs by itself
        overhead = min(self._timed(native, address, idle) for _ in range(100))
        for _ in range(passes):
            for entry, head in calls:
                entry.times.append(max(self._timed(native, address, head) - overhead, 0.0))
        if self.memory.status[0]:
            raise RuntimeError("a kernel reported a failure while it was profiled")

    @staticmethod
    def _timed(native: Any, address: int, head: np.ndarray[Any, Any]) -> float:
        where, began = head.ctypes.data, time.perf_counter()
        native(address, where, 0, 0)
        return time.perf_counter() - began

    def _head(self, entry: Entry) -> np.ndarray[Any, Any]:
        """The dispatcher's arguments for the entry's rows alone. The rows of a loop name others by their number, so
        there the rows before it stay, as commits, which do nothing."""
        head, table = self.bound.head.copy(), self.executable.table
        if entry.first == entry.last:
            head[:2] = table.ctypes.data + entry.first * table.strides[0], 1
            return head
        rows = table[: entry.last + 1].copy()
        rows[: entry.first] = COMMIT
        self._kept = [*getattr(self, "_kept", ()), rows]
        head[:2] = rows.ctypes.data, len(rows)
        return head

    def _entries(self) -> Iterator[Entry]:
        plan, first_rows = self.executable.plan, self.executable.arguments._first_row
        ends = [*first_rows[1:], len(self.executable.table)]
        number = 0
        while number < len(plan.steps):
            step, first = plan.steps[number], first_rows[number]
            if isinstance(step, LoopStep):
                inside = [n for s in plan.steps[number : step.end] if isinstance(s, KernelStep) for n in _nodes(s)]
                length = evaluate(step.length, self.bindings)
                flops, moved = self._costs(inside)
                name, costs = f"scan of {length}", (flops * length, moved * length)
                yield Entry(name, "", first, first_rows[step.end], *costs)
                number = step.end
            elif isinstance(step, KernelStep):
                nodes = _nodes(step)
                parts = range(first, ends[number])
                for part in parts:
                    name = _name(step) + (f" [{part - first + 1}/{len(parts)}]" if len(parts) > 1 else "")
                    flops, moved = self._costs(nodes)
                    yield Entry(name, _place(step), part, part, flops // len(parts), moved // len(parts))
            elif isinstance(step, CopyStep):
                yield Entry("copy", "", first, first, 0, 2 * evaluate(step.nbytes, self.bindings))
            number += 1

    def _costs(self, nodes: Sequence[Node]) -> tuple[int, int]:
        """(floating-point operations, bytes of operands and results) of kernels."""
        flops = [n.op.flops_and_bytes(n)[0] for node in nodes for n in _inner(node)]
        moved = [nbytes(t) for node in nodes for t in (*(x.type for x in node.inputs), node.type)]
        return sum(evaluate(d, self.bindings) for d in flops), sum(evaluate(d, self.bindings) for d in moved)


def _nodes(step: KernelStep) -> list[Node]:
    return [call.node for call in step.calls]


def _inner(node: Node) -> Sequence[Node]:
    body = node.attrs.get("body")
    return body.nodes if node.op.kind is Kind.FUSED and body is not None else (node,)


def _name(step: KernelStep) -> str:
    """The ops of a kernel, those that repeat counted, and what it makes."""
    first, *more = step.calls
    ops = Counter(n.op.name for n in _inner(first.node) if is_kernel(n))
    text = "+".join(f"{op} x{times}" if times > 1 else op for op, times in ops.items())
    return f"{text} : {first.node.type}" + (f" and {len(more)} more" if more else "")


def _place(step: KernelStep) -> str:
    """Where in the model a kernel comes from, and in which phase; the first that is known."""
    for call in step.calls:
        for node in (call.node, *_inner(call.node)):
            origin = call.graph.where(node)
            if origin is not None:
                return f"{origin.module or '-'} {origin.phase}"
    return ""


def report(profile: Profile, rows: int, layers: bool) -> Iterator[str]:
    """The entries as a Markdown table, slowest first: those of one name added up, or each with its place."""
    groups: dict[tuple[str, str], list[Entry]] = {}
    for entry in profile.entries:
        groups.setdefault((entry.name, entry.place if layers else ""), []).append(entry)
    total = sum(e.best for e in profile.entries)
    yield f"| us | share | times | GFLOP/s | GB/s | kernel |{' where |' if layers else ''}"
    yield f"|---|---|---|---|---|---|{'---|' if layers else ''}"
    ordered = sorted(groups.items(), key=lambda item: -sum(e.best for e in item[1]))
    for (name, place), entries in ordered[:rows]:
        seconds = max(sum(e.best for e in entries), 1e-9)
        rates = [sum(e.flops for e in entries) / seconds / 1e9, sum(e.nbytes for e in entries) / seconds / 1e9]
        figures = f"{seconds * 1e6:.0f} | {seconds / total:.1%} | {len(entries)} | {rates[0]:.1f} | {rates[1]:.1f}"
        yield f"| {figures} | {name} |{f' {place} |' if layers else ''}"
    if len(ordered) > rows:
        rest = sum(e.best for _, entries in ordered[rows:] for e in entries)
        yield f"| {rest * 1e6:.0f} | {rest / total:.1%} | | | | {len(ordered) - rows} others |{' |' if layers else ''}"
    yield f"\nsum {total * 1e6:.0f} us in {len(profile.entries)} entries"


def main() -> None:
    """Print the profile of a network's training step."""
    names = {n.name: n for n in NETWORKS}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", help=f"a part of one of these names: {', '.join(map(repr, names))}")
    parser.add_argument("--passes", type=int, default=10)
    parser.add_argument("--rows", type=int, default=30)
    parser.add_argument("--layers", action="store_true", help="keep layers apart, and say which they are")
    parser.add_argument("--threads", type=int, default=dlc.get_threads())
    options = parser.parse_args()
    dlc.set_threads(options.threads)
    for name, network in names.items():
        if options.network.lower() in name.lower():
            step, _ = training_step(network)
            data = network.data()
            profile = Profile(step.program, *data)
            profile.run(options.passes)
            whole = min(turn(partial(step, *data), 0.5)) * 1e6
            print(f"## {name}, {options.threads} threads: {whole:.0f} us a step\n")
            print("\n".join(report(profile, options.rows, options.layers)) + "\n", flush=True)


if __name__ == "__main__":
    main()
