"""The order in which kernels run: deterministic, low in memory, every write to state after what it must follow.

Values are visited depth first, roots in the order of their depth; among operands the deepest comes first, so that short
branches start right before their use. Elementwise updates of states come last, so that those of all parameters stand
side by side and can be one launch. All gradients therefore live at once, but at the end, when activations do not any
more: that is the memory which one launch costs. An update that ends a reduction or contraction, and so reads more than
a gradient, runs as soon as it can.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from dlc.ir import Graph, Node, TensorType, TupleType
from dlc.ops.definition import Kind
from dlc.ops.fused import can_fail, heavy_node


class Value(NamedTuple):
    """One result of a node that has bytes of its own: a kernel or a leaf."""

    node: Node
    result: int = 0

    @property
    def type(self) -> TensorType:
        """dtype and shape of the result."""
        return result_types(self.node)[self.result]


def result_types(node: Node) -> tuple[TensorType, ...]:
    """The types of a node's results."""
    return node.type.items if isinstance(node.type, TupleType) else (node.type,)


def value_of(node: Node) -> Value:
    """The value whose bytes `node` names: reshapes and stopped gradients are other names, items are parts."""
    index = 0
    while True:
        op = node.op
        if op.kind is Kind.ITEM:
            index = node.attrs["index"]
        elif op.name not in ("reshape", "stop_gradient"):
            return Value(node, index)
        node = node.inputs[0]


def is_kernel(node: Node) -> bool:
    """Whether `node` computes something: neither a leaf nor another name for a value."""
    return node.op.kind not in (Kind.LEAF, Kind.ITEM) and node.op.name not in ("reshape", "stop_gradient")


@lru_cache(maxsize=4096)
def _inputs_read_in_place(body: Graph) -> tuple[bool, ...]:
    """For each input of a body, whether every read is at the index that is being written."""
    same: dict[Node, bool] = {}
    for node in reversed(body.nodes):
        same[node] = all(
            same[u] and ((u.op.kind is Kind.ELEMENTWISE and u.shape == node.shape) or u.op.name == "stop_gradient")
            for u in body.users[node]
        )
    return tuple(same[n] for n in body.inputs)


def may_overwrite(node: Node, position: int, result: int) -> bool:
    """Whether `node`'s kernel may write its result number `result` over its operand number `position`."""
    operand, target = node.inputs[position].type, result_types(node)[result]
    if operand != target:
        return False
    if node.op.kind is Kind.FUSED:
        return _inputs_read_in_place(node.attrs["body"])[position]
    return node.op.kind is Kind.ELEMENTWISE


@dataclass(frozen=True)
class Schedule:
    """Kernels in running order. Those from `commit` on may write state; everything that can fail is before.

    `direct` maps an updated state to the value that its kernel writes straight into the state's storage.
    """

    order: tuple[Node, ...]
    commit: int
    direct: Mapping[Node, Value]


def schedule(graph: Graph) -> Schedule:
    """The order of `graph`'s kernels, and which new states can be written in place."""
    kernels = [n for n in graph.nodes if is_kernel(n)]
    operands = {k: tuple(dict.fromkeys(v.node for v in map(value_of, k.inputs))) for k in kernels}
    depth: dict[Node, int] = {}
    for k in kernels:
        depth[k] = 1 + max((depth.get(x, 0) for x in operands[k]), default=0)
    failing = [k for k in kernels if can_fail(k)]
    direct = _direct_candidates(graph, _ancestors(failing, operands))
    readers: dict[Node, list[Node]] = {state: [] for state in direct}
    for k in kernels:
        for x in operands[k]:
            if x in readers:
                readers[x].append(k)
    while True:
        roots = _roots(graph, operands, depth, failing, direct)
        order, conflicts = _depth_first(roots, operands, depth, failing, direct, readers)
        if not conflicts:
            break
        for state in conflicts:
            del direct[state]
    writers = {value.node for value in direct.values()}
    commit = next((i for i, k in enumerate(order) if k in writers), len(order))
    return Schedule(tuple(order), commit, direct)


def _ancestors(nodes: Sequence[Node], operands: Mapping[Node, Sequence[Node]]) -> set[Node]:
    """`nodes` and all that they need."""
    found, stack = set(nodes), list(nodes)
    while stack:
        for x in operands.get(stack.pop(), ()):
            if x not in found:
                found.add(x)
                stack.append(x)
    return found


def _direct_candidates(graph: Graph, needed_before_commit: set[Node]) -> dict[Node, Value]:
    """The updates that a kernel could write into the state's storage, if the order allows."""
    direct: dict[Node, Value] = {}
    taken: set[Value] = set()
    for state, new in graph.updates:
        value = value_of(new)
        node = value.node
        if value in taken or node in needed_before_commit or not is_kernel(node) or node.op.kind is Kind.LOOP:
            continue
        reads = [p for p, x in enumerate(node.inputs) if value_of(x).node is state]
        if all(may_overwrite(node, p, value.result) for p in reads):
            direct[state] = value
            taken.add(value)
    return direct


def _roots(
    graph: Graph,
    operands: Mapping[Node, Sequence[Node]],
    depth: Mapping[Node, int],
    failing: Sequence[Node],
    direct: Mapping[Node, Value],
) -> list[Node]:
    """Where the search starts, shallow first. What updates states waits for the gradients of all of them where it is
    elementwise, or where something deep can fail."""
    needed = dict.fromkeys(v.node for v in map(value_of, graph.roots) if is_kernel(v.node))
    roots = sorted(needed, key=depth.__getitem__)
    writers = {value.node for value in direct.values()}
    late = {w for w in writers if not _is_heavy(w)}
    if max((depth[k] for k in failing), default=0) > min((depth[w] for w in writers - late), default=0):
        late = writers
    if not late:
        return roots
    first = [x for r in roots for x in (operands[r] if r in late else (r,)) if x in depth and x not in late]
    return [*sorted(dict.fromkeys((*first, *failing)), key=depth.__getitem__), *roots]


def _is_heavy(node: Node) -> bool:
    """Whether a kernel reads more than one element of each operand for one of its results."""
    if node.op.kind is Kind.FUSED:
        return heavy_node(node.attrs["body"]) is not None
    return node.op.kind is not Kind.ELEMENTWISE


def _depth_first(
    roots: Sequence[Node],
    operands: Mapping[Node, Sequence[Node]],
    depth: Mapping[Node, int],
    failing: Sequence[Node],
    direct: Mapping[Node, Value],
    readers: Mapping[Node, Sequence[Node]],
) -> tuple[list[Node], set[Node]]:
    """The order, and the states whose write in place would have to both precede and follow some read."""
    writes: dict[Node, list[Node]] = {}
    for state, value in direct.items():
        writes.setdefault(value.node, []).append(state)
    order: list[Node] = []
    finished: set[Node] = set()
    conflicts: set[Node] = set()

    def edges(node: Node) -> list[tuple[Node, Node | None]]:
        """What must run before `node`, the last first; with the state for which, where it is not an operand."""
        found: list[tuple[Node, Node | None]] = []
        for state in writes.get(node, ()):
            found.extend((r, state) for r in readers[state] if r is not node)
            if not finished.issuperset(failing):
                found.extend((f, state) for f in failing)
        found.extend((x, None) for x in sorted((x for x in operands[node] if x in depth), key=depth.__getitem__))
        return found

    for root in roots:
        path: list[tuple[Node, Node | None, list[tuple[Node, Node | None]]]] = []
        on_path: set[Node] = set()
        following: tuple[Node, Node | None] | None = (root, None)
        while following or path:
            if following is not None and following[0] in on_path:
                conflicts.add(_culprit(path, following))
            elif following is not None and following[0] not in finished:
                path.append((*following, edges(following[0])))
                on_path.add(following[0])
            if path[-1:] and path[-1][2]:
                following = path[-1][2].pop()
                continue
            following = None
            if path:
                node = path.pop()[0]
                on_path.discard(node)
                finished.add(node)
                order.append(node)
    return order, conflicts


def _culprit(path: Sequence[tuple[Node, Node | None, object]], closing: tuple[Node, Node | None]) -> Node:
    """A state on the cycle that `closing` closes: operands alone make none."""
    if closing[1] is not None:
        return closing[1]
    for node, state, _ in reversed(path):
        if node is closing[0]:
            break
        if state is not None:
            return state
    raise AssertionError("the operands of a graph form a cycle")
