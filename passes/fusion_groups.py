"""What shares a kernel, and what does not and why.

Nodes are visited users first. A node joins the group of its users when they all lie in one group. One that others read
too, or that is an output or a new state value, becomes a further result of a group that computes it anyway, an element
at each point or one a row (the optimiser's p, m and v; batch norm's result, mean and deviation), unless some reader has
to run before that group. Views, and cheap ops on one full operand that lies in memory anyway, are copied into every
group that reads them.

Nothing expensive is computed twice: a node that a group would evaluate more often than once for each of its elements
stays outside. The exception is what several loops along one row read and what little work leads to, as softmax's
exponential: each loop computes it anew, since to store it and load it again takes longer where rows are in memory
(softmax of 8192 x 2048 floats: 27 ms, not 38). What stays outside, and why, is recorded.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dlc.ir import Graph, Node
from dlc.ops.definition import Kind
from dlc.ops.fused import HEAVY
from dlc.passes.fused_bodies import is_inline_constant
from dlc.passes.groups import (
    ALIASES,
    COMPUTED,
    MAX_AGAIN,
    MAX_COPIES,
    MAX_EXPENSIVE,
    MAX_MEMBERS,
    MAX_PLACES,
    MAX_RESULTS,
    MAX_ROW_REDUCTIONS,
    Group,
    Member,
)
from dlc.passes.index_places import (
    READ_ONCE,
    Place,
    is_row,
    is_row_reduction,
    is_unit_reshape,
    is_walked,
    place_below,
    repeats,
    root_place,
    rows_above,
    walked_axes,
)
from dlc.passes.kernel_order import KernelOrder
from dlc.passes.siblings import join_siblings

# fmt: off
CHEAP = frozenset((
    "abs", "add", "astype", "bitwise_and", "bitwise_invert", "bitwise_or", "bitwise_xor", "equal", "greater",
    "greater_equal", "iota", "isfinite", "isnan", "less", "less_equal", "masked_multiply", "maximum", "minimum",
    "multiply", "negative", "not_equal", "relu", "sign", "size_of", "subtract", "where",
))
# fmt: on
ROOTS_ONLY = frozenset(("fold", "concat"))  # index ops whose code is too large to be inlined


@dataclass(frozen=True)
class FusionNote:
    """Why `consumer` does not compute `producer` in its own kernel."""

    producer: Node
    consumer: Node
    reason: str

    def __str__(self) -> str:
        return f"{self.producer!r} -> {self.consumer!r}: {self.reason}"


class Grouping:
    """One sweep over a graph, users first, that decides which nodes share a kernel."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.users = graph.users
        self.roots = set(graph.roots)
        self.order = KernelOrder()
        self.units: dict[Node, int] = {}  # the numbers of kernels that are no groups
        self.homes: dict[Node, list[Group]] = {}  # the groups that evaluate a node
        self.by_root: dict[Node, Group] = {}
        self.refused: dict[Node, str] = {}
        for node in reversed(graph.nodes):
            if node.op.kind is not Kind.LEAF:
                self._visit(node)
        join_siblings(self)
        for group in self.by_root.values():
            _eject_outer_aliases(group)

    def groups(self) -> list[Group]:
        """The kernels, those of the last nodes first."""
        return list(self.by_root.values())

    def notes(self) -> list[FusionNote]:
        """The edges between kernels, in the order of the graph."""
        found = []
        for node, reason in reversed(self.refused.items()):
            for user in self.users[node]:
                if not any(node in home.members for home in self.homes.get(user, ())):
                    found.append(FusionNote(node, user, reason))
        return found

    def _visit(self, node: Node) -> None:
        reason = self._join(node)
        if reason is None:
            return
        self.refused[node] = reason
        if node.op.kind in COMPUTED and node.op.name not in ALIASES:
            rows = rows_above(node, _is_computed) if node.op.kind is Kind.ELEMENTWISE else ()
            group = self.by_root[node] = Group(node, (root_place(node.shape),), order=walked_axes(node.shape, rows))
            self._add(node, group, Member(group.whole))
            group.results = [node]
            group.unit = self.order.add(self.readers(node))
            self.homes[node] = [group]
        elif not _is_other_name(node):
            self.units[node] = self.order.add(self.readers(node))

    def readers(self, node: Node) -> list[int]:
        """The numbers of the kernels that read `node`, under any name."""
        found: dict[int, None] = {}
        stack = [node]
        while stack:
            for user in self.users[stack.pop()]:
                if homes := self.homes.get(user):
                    found.update(dict.fromkeys([home.unit for home in homes]))
                elif _is_other_name(user):
                    stack.append(user)
                else:
                    found[self.units[user]] = None
        return list(found)

    def reads_renamed(self, group: Group, node: Node) -> bool:
        """Whether `group` reads the bytes of `node` under another name, which it can only once they are stored."""
        stack = [node]
        while stack:
            for user in self.users[stack.pop()]:
                if _is_other_name(user) and not self.homes.get(user):
                    if any(group in self.homes.get(reader, ()) for reader in self.users[user]):
                        return True
                    stack.append(user)
        return False

    def _join(self, node: Node) -> str | None:
        """Put `node` into its users' groups, or say why not."""
        users = self.users[node]
        if not users:
            return "it is a result of the program"
        if node.op.kind not in COMPUTED:
            return f"{node.op.name} has a kernel of its own"
        if node.op.name in ROOTS_ONLY:
            return f"{node.op.name} is the root of its kernel"
        if node.op.name in ALIASES and not _is_index_map(node):
            return "it is another name for the bytes of its operand"
        targets: dict[Group, None] = {}
        reason = "it is a result of the program" if node in self.roots else None
        for user in users:
            homes = self.homes.get(user, ())
            targets.update(dict.fromkeys(homes))
            if not homes:
                reason = reason or f"{user.op.name} has a kernel of its own"
        copied = len(targets) > 1
        if copied and not reason and not self._may_be_copied(node):
            reason = f"{len(targets)} kernels read it"
        if reason:
            return reason if not self._becomes_result(node, targets) else None
        members = []
        for group in targets:
            member = self._member(node, group, copied)
            if isinstance(member, str):
                return member
            members.append(member)
        for group, member in zip(targets, members, strict=True):
            self._add(node, group, member)
        self.homes[node] = list(targets)
        return None

    def _becomes_result(self, node: Node, targets: Iterable[Group]) -> bool:
        """Make `node` a further result of a group that reads it, if one can compute and store it on its way."""
        for group in targets:
            others = [unit for unit in self.readers(node) if unit != group.unit]
            if not self.order.may_feed(group.unit, others) or self.reads_renamed(group, node):
                continue
            member = self._member(node, group, copied=False)
            if not isinstance(member, str) and self._may_be_result(node, member, group):
                self._add(node, group, member)
                if tokens := _row_of(member, group):
                    group.rows = tokens
                group.results.append(node)
                self.order.feed(group.unit, others)
                self.homes[node] = [group]
                return True
        return False

    def _may_be_copied(self, node: Node) -> bool:
        """Whether each reader may compute `node` anew: it is cheap, and what it reads lies in memory anyway."""
        if node.op.kind is Kind.VIEW:
            return True
        if node.op.name == "divide" and not self._is_near_memory(node):
            return False
        for _ in range(MAX_COPIES):
            if (node.op.name not in CHEAP and node.op.name != "divide") or not _is_unary(node):
                return False
            below = [x for x in node.inputs if x.shape == node.shape and not is_inline_constant(x)]
            if not below or below[0].op.kind is Kind.LEAF or len(self.users[below[0]]) > 1 or below[0] in self.roots:
                return True
            (node,) = below
        return False

    def _may_be_result(self, node: Node, member: Member, group: Group) -> bool:
        """Whether a group may store `node`: at each point, or once a row."""
        if not group.by_rows or len(group.results) >= MAX_RESULTS:
            return False
        if node.op.kind not in (Kind.ELEMENTWISE, Kind.REDUCE):
            return False
        if node not in self.roots and self._ends_contraction(node):
            return False
        if node.shape == group.root.shape:
            return group.whole[0] in member.places
        tokens = _row_of(member, group)
        return bool(tokens) and group.rows in (None, tokens)

    def _ends_contraction(self, node: Node) -> bool:
        """Whether a contraction can take in `node` as its epilogue, and so store it in place of its own result."""
        stack = [node]
        for _ in range(MAX_COPIES * 2):
            if not stack:
                return False
            x = stack.pop()
            if x.op.kind is Kind.CONTRACT:
                return True
            if x.op.kind is Kind.ELEMENTWISE:
                stack += [y for y in x.inputs if y.shape == node.shape and len(self.users[y]) == 1]
        return False

    def _member(self, node: Node, group: Group, copied: bool) -> Member | str:
        """How `group` would evaluate `node`; the reason where it must not."""
        inside = [u for u in self.users[node] if u in group.members]
        if len(group.members) >= MAX_MEMBERS:
            return f"the kernel has {MAX_MEMBERS} nodes already"
        if node.op.can_fail and group.fails:
            return "the kernel checks another index already"
        if reason := self._refused_by(inside, node, group):
            return reason
        places, repeated = _places_in(node, group, inside)
        if node.op.kind in HEAVY:
            return _with_heavy(node, group, places, repeated)
        if repeated and node.op.kind is not Kind.VIEW and not (node.op.name in CHEAP and _is_unary(node)):
            return "the kernel would compute it more than once"
        if len(places) > 1 and not self.may_be_computed_again(node, group):
            return "the kernel would compute it more than once"
        copies = max([group.members[u].copies for u in inside], default=0) + (1 if copied else 0)
        if copies > MAX_COPIES:
            return "a chain of copied ops ends here"
        return Member(places, repeated, copies)

    def may_be_computed_again(self, node: Node, group: Group) -> bool:
        """Whether a kernel may compute `node` anew in each of several loops along a row."""
        if node.op.kind is Kind.VIEW or (node.op.name in CHEAP and _is_unary(node)):
            return True
        return group.by_rows and node.op.kind is Kind.ELEMENTWISE and self._is_near_memory(node)

    def _is_near_memory(self, node: Node) -> bool:
        """Whether little work leads to `node` from what lies in memory: few ops, and fewer that are expensive."""
        stack, seen, expensive = [node], {node}, 0
        while stack:
            x = stack.pop()
            expensive += x.op.name not in CHEAP and x.op.kind is Kind.ELEMENTWISE
            if expensive > MAX_EXPENSIVE or len(seen) > MAX_AGAIN:
                return False
            below = [y for y in x.inputs if y.shape == x.shape and y not in seen and y.op.kind in COMPUTED]
            below = [y for y in below if y.op.kind not in HEAVY and not is_inline_constant(y)]
            seen.update(below)
            stack += below
        return True

    def _refused_by(self, inside: Sequence[Node], node: Node, group: Group) -> str | None:
        """Why one of the users of `node` in a group cannot have it computed on the spot."""
        contracts = group.heavy is not None and group.heavy.op.kind is Kind.CONTRACT
        for user in inside:
            if user.op.kind is Kind.CONTRACT:
                if node.op.name != "permute_dims":
                    return f"{user.op.name} reads whole operands"
            elif user.op.kind is Kind.INDEX and user.op.name not in READ_ONCE and node.op.kind is not Kind.VIEW:
                return f"{user.op.name} reads elements at computed places"
            elif contracts and not (node.op.kind is Kind.ELEMENTWISE or node.op.name in ALIASES):
                return "around a contraction only elementwise ops are computed"
        return None

    def _add(self, node: Node, group: Group, member: Member) -> None:
        if node.op.kind in HEAVY:
            group.heavy = group.heavy or node
            group.by_rows = group.by_rows and is_row_reduction(node, member.places[0], group.order)
            group.places[node] = member.places[0]
        elif node.op.kind is not Kind.ELEMENTWISE and node.op.name not in (*ALIASES, "size_of"):
            group.regular = False
        group.members[node] = member
        group.fails = group.fails or node.op.can_fail


def _places_below(user: Node, group: Group, node: Node) -> tuple[Place, ...]:
    """Where `user`, wherever a group evaluates it, reads `node`."""
    return tuple(dict.fromkeys([place_below(user, place, node) for place in group.members[user].places]))


def _places_in(node: Node, group: Group, inside: Sequence[Node]) -> tuple[tuple[Place, ...], bool]:
    """The indices at which a group evaluates `node`, and whether that repeats work."""
    shape, whole = node.shape, group.whole
    if all([u.op.kind is Kind.ELEMENTWISE and u.shape == shape and group.members[u].places == whole for u in inside]):
        return whole, False  # the common case: one element for each element
    found: dict[Place, None] = {}
    repeated = False
    for user in inside:
        for place in _places_below(user, group, node):
            found[place] = None
            repeated |= not is_walked(place) and group.members[user].repeated
            repeated |= repeats(user, node, place, group.places, group.order)
    return tuple(found)[:MAX_PLACES], repeated or len(found) > MAX_PLACES


def _with_heavy(node: Node, group: Group, places: tuple[Place, ...], repeated: bool) -> Member | str:
    """Whether a group may be built around a reduction or contraction: as an epilogue of it, or row by row."""
    place = places[0]
    rows = sum(n.op.kind is Kind.REDUCE for n in group.places)
    by_rows = group.by_rows and is_row_reduction(node, place, group.order)
    updates = len(group.results) > 1 and place == group.whole[0]
    if by_rows and not repeated and not updates and rows < MAX_ROW_REDUCTIONS:
        return Member(places)
    if group.heavy is not None:
        return f"the kernel is built around {group.heavy.op.name} already"
    if places != group.whole or node.shape != group.root.shape:
        return "the kernel reads it at other places than it writes"
    if len(group.results) > 1:
        return "the kernel has several results"
    if not group.regular:
        return "what follows it in a kernel is elementwise"
    return Member(places)


def _row_of(member: Member, group: Group) -> frozenset[int] | None:
    """The axes that name a row, where a group evaluates a member once a row and nowhere else."""
    (place, *others) = member.places
    if others or not is_row(place, group.order):
        return None
    tokens = frozenset(t for t in place if isinstance(t, int))
    return tokens if len(tokens) < len(group.order) else None


def _is_computed(node: Node) -> bool:
    """Whether a group may evaluate `node` on its way to something else."""
    return node.op.kind in COMPUTED and node.op.kind is not Kind.CONTRACT and node.op.name not in ROOTS_ONLY


def _is_other_name(node: Node) -> bool:
    """Whether `node`, outside of all groups, is another name for bytes of its operand."""
    return node.op.kind is Kind.ITEM or node.op.name in ALIASES


def _is_index_map(node: Node) -> bool:
    """Whether an alias is worth computing in a kernel: it moves axes of size 1 only, and what it names is computed."""
    below = node.inputs[0]
    return below.op.kind in COMPUTED and (node.op.name != "reshape" or is_unit_reshape(node))


def _is_unary(node: Node) -> bool:
    """Whether `node` reads at most one element of full size for each of its own: constants and broadcasts are small."""
    return sum(x.shape == node.shape and not is_inline_constant(x) for x in node.inputs) <= 1


def _eject_outer_aliases(group: Group) -> None:
    """A reshape of a value from outside is another name for its bytes: read that instead of computing indices."""
    for node in reversed(list(group.members)):
        if node.op.name in ALIASES and node is not group.root and node.inputs[0] not in group.members:
            del group.members[node]
