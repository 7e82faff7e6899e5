"""What shares a kernel, and what does not and why.

Nodes are visited users first. A node joins the group of its users when they all lie in one group, so a group has one
result that others read, and no cycle can arise; a result that is besides an output or a new state value, and that is
read in its group alone, becomes a further result (the optimiser's p, m and v in one kernel). Views, and cheap ops on
one full operand that lies in memory anyway, are copied into every group that reads them. Nothing expensive is computed
twice: a node that a group would evaluate more often than once for each of its elements stays outside. What stays
outside, and why, is recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from dlc.ir import Graph, Node
from dlc.ops.definition import Kind
from dlc.ops.fused import HEAVY
from dlc.passes.fused_bodies import is_inline_constant
from dlc.passes.index_places import (
    READ_ONCE,
    Place,
    is_row_reduction,
    is_unit_reshape,
    is_walked,
    place_below,
    repeats,
    root_place,
)

MAX_MEMBERS = 64  # nodes in one kernel: beyond it code grows and nothing is gained
MAX_ROW_REDUCTIONS = 4  # a layer's norm and softmax; more would join layers, which are better compiled once each
MAX_PLACES = 4  # indices that are told apart
MAX_COPIES = 4  # copied ops in a row, so that copying stays linear in the size of the graph

# fmt: off
CHEAP = frozenset((
    "abs", "add", "astype", "bitwise_and", "bitwise_invert", "bitwise_or", "bitwise_xor", "equal", "greater",
    "greater_equal", "iota", "isfinite", "isnan", "less", "less_equal", "masked_multiply", "maximum", "minimum",
    "multiply", "negative", "not_equal", "relu", "sign", "size_of", "subtract", "where",
))
# fmt: on
ROOTS_ONLY = frozenset(("fold", "concat"))  # index ops whose code is too large to be inlined
ALIASES = frozenset(("reshape", "stop_gradient"))  # other names for the bytes of their operand
COMPUTED = (Kind.ELEMENTWISE, Kind.VIEW, Kind.INDEX, *HEAVY)


@dataclass(frozen=True)
class FusionNote:
    """Why `consumer` does not compute `producer` in its own kernel."""

    producer: Node
    consumer: Node
    reason: str

    def __str__(self) -> str:
        return f"{self.producer!r} -> {self.consumer!r}: {self.reason}"


@dataclass
class Member:
    """How a group evaluates one of its nodes."""

    places: tuple[Place, ...]  # the indices at which it is evaluated
    repeated: bool = False  # more than once for each element
    copies: int = 0  # copied ops in a row up to here


@dataclass(eq=False)
class Group:
    """Nodes that become one kernel. `results` starts with the root, whose shape is the domain of a map."""

    root: Node
    whole: tuple[Place, ...]  # where the root is evaluated: at every index of the domain
    results: list[Node] = field(default_factory=list)
    members: dict[Node, Member] = field(default_factory=dict)
    places: dict[Node, Place] = field(default_factory=dict)  # of reductions, for the loops inside them
    heavy: Node | None = None
    by_rows: bool = True  # every reduction so far runs along rows of the domain
    regular: bool = True  # every member so far is elementwise, at an index that the loops name
    fails: bool = False


class Grouping:
    """One sweep over a graph, users first, that decides which nodes share a kernel."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.users = graph.users
        self.roots = set(graph.roots)
        self.homes: dict[Node, list[Group]] = {}  # the groups that evaluate a node
        self.by_root: dict[Node, Group] = {}
        self.refused: dict[Node, str] = {}
        for node in reversed(graph.nodes):
            if node.op.kind is not Kind.LEAF:
                self._visit(node)
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
            group = self.by_root[node] = Group(node, (root_place(node.shape),))
            self._add(node, group, Member(group.whole))
            group.results = [node]
            self.homes[node] = [group]

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
        for user in users:
            homes = self.homes.get(user)
            if not homes:
                return f"{user.op.name} has a kernel of its own"
            for home in homes:
                targets[home] = None
        copied = len(targets) > 1
        if copied and not self._may_be_copied(node):
            return f"{len(targets)} kernels read it"
        if node in self.roots and (copied or not self._may_be_result(node, next(iter(targets)))):
            return "it is a result of the program"
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

    def _may_be_copied(self, node: Node) -> bool:
        """Whether each reader may compute `node` anew: it is cheap, and what it reads lies in memory anyway."""
        if node.op.kind is Kind.VIEW:
            return True
        for _ in range(MAX_COPIES):
            if node.op.name not in CHEAP or not _is_unary(node):
                return False
            below = [x for x in node.inputs if x.shape == node.shape and not is_inline_constant(x)]
            if not below or below[0].op.kind is Kind.LEAF or len(self.users[below[0]]) > 1 or below[0] in self.roots:
                return True
            (node,) = below
        return False

    def _may_be_result(self, node: Node, group: Group) -> bool:
        """Whether `node`, an output or new state value, may be a further result of the one group that reads it."""
        return (
            group.by_rows
            and node.op.kind is Kind.ELEMENTWISE
            and node.shape == group.root.shape
            and all(_places_below(u, group, node) == group.whole for u in self.users[node])
        )

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
        if len(places) > 1 and not self._may_be_computed_again(node, group):
            return "the kernel would compute it more than once"
        copies = max([group.members[u].copies for u in inside], default=0) + (1 if copied else 0)
        if copies > MAX_COPIES:
            return "a chain of copied ops ends here"
        return Member(places, repeated, copies)

    def _may_be_computed_again(self, node: Node, group: Group) -> bool:
        """Whether a kernel may compute `node` anew in each of several loops along a row."""
        if node.op.kind is Kind.VIEW or (node.op.name in CHEAP and _is_unary(node)):
            return True
        return group.by_rows and node.op.kind is Kind.ELEMENTWISE

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
            group.by_rows = group.by_rows and is_row_reduction(node, member.places[0], group.root.shape)
            group.places[node] = member.places[0]
        elif node.op.kind is not Kind.ELEMENTWISE and node.op.name not in ALIASES:
            group.regular = False
        group.members[node] = member
        group.fails = group.fails or node.op.can_fail
        if node in self.roots:
            group.results.append(node)


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
            repeated |= repeats(user, node, place, group.places, group.root.shape)
    return tuple(found)[:MAX_PLACES], repeated or len(found) > MAX_PLACES


def _with_heavy(node: Node, group: Group, places: tuple[Place, ...], repeated: bool) -> Member | str:
    """Whether a group may be built around a reduction or contraction: as an epilogue of it, or row by row."""
    place = places[0]
    rows = sum(n.op.kind is Kind.REDUCE for n in group.places)
    if not repeated and rows < MAX_ROW_REDUCTIONS and group.by_rows and is_row_reduction(node, place, group.root.shape):
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
