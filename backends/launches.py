"""Which kernels share a launch: those of equal code that are independent of each other, as the updates of an optimiser
are, one for each parameter.

A kernel joins an earlier launch only where that costs no memory: it writes nothing but results that stay outside the
arena, such as new states; or the launch is the last so far and its results are small. So launches of the plan keep the
order's peak of memory.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from typing import TypeAlias

from dlc.backends.loops import KernelCode
from dlc.ir import Node
from dlc.ops.definition import Kind
from dlc.passes.schedule import Value, result_types, value_of

Emit: TypeAlias = Callable[[Node], KernelCode]

SMALL = 1 << 16  # bytes of a result that may live a little longer


def together(
    order: Sequence[Node],
    emit: Emit,
    targets: Container[Value],
    direct: Mapping[Node, Value],
    commit: int | None = None,
) -> list[list[Node]]:
    """`order` as launches, each of one kernel or several.

    `targets` are results that lie outside the arena, `direct` says which states are overwritten by which results.
    Launches before position `commit` of the order and after it stay apart.
    """
    replaced: dict[Node, list[Node]] = {}
    for state, value in direct.items():
        replaced.setdefault(value.node, []).append(state)
    launches: list[list[Node]] = []
    made: dict[Node, int] = {}  # the launch that runs a node
    read: dict[Node, int] = {}  # the last launch that reads a node's results, or a leaf
    known: dict[str, int] = {}  # the last launch of each code
    for position, node in enumerate(order):
        if position == commit:
            known.clear()
        operands = {value_of(x).node for x in node.inputs}
        at = len(launches)
        if node.op.kind is not Kind.LOOP:
            code = emit(node).source
            before = [*(made.get(x, -1) for x in operands), *(read.get(s, -1) for s in replaced.get(node, ()))]
            joined = known.get(code, -1)
            if joined > max(before, default=-1) and _is_free(node, targets, last=joined == at - 1):
                at = joined
            known[code] = at
        if at == len(launches):
            launches.append([])
        launches[at].append(node)
        made[node] = at
        for x in operands:
            read[x] = max(read.get(x, -1), at)
    return launches


def _is_free(node: Node, targets: Container[Value], last: bool) -> bool:
    """Whether running `node` in an earlier launch, the last one or not, costs no memory."""
    inside = [t.nbytes for i, t in enumerate(result_types(node)) if Value(node, i) not in targets]
    return not inside or (last and all([isinstance(n, int) and n <= SMALL for n in inside]))
