"""Fusion: chains of elementwise, view and index ops become one kernel, together with the reduction or contraction
that they feed or follow.

Nodes are visited users first. A node joins the group of its users when they all lie in one group, so a group has one
result that others read, and no cycle can arise; a result that is besides an output or a new state value, and that is
read in its group alone, becomes a further result (the optimiser's p, m and v in one kernel). Views, and cheap ops of
one operand, are copied into every group that reads them. Nothing expensive is ever computed twice: a node that a group
would evaluate more than once for each of its elements stays outside. What stayed outside, and why, is recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from dlc.ir import Graph, Node, TensorType, inherit_origins, make_node, same_op
from dlc.ops.definition import Kind
from dlc.ops.fused import FUSED, HEAVY
from dlc.ops.leaves import ITEM
from dlc.passes.fused_bodies import build_body, is_inline_constant

MAX_MEMBERS = 64  # nodes in one kernel: beyond it code grows and nothing is gained
MAX_COPIES = 4  # copied ops in a row, so that copying stays linear in the size of the graph

# fmt: off
CHEAP = frozenset((
    "abs", "add", "astype", "bitwise_and", "bitwise_invert", "bitwise_or", "bitwise_xor", "equal", "greater",
    "greater_equal", "iota", "isfinite", "isnan", "less", "less_equal", "masked_multiply", "maximum", "minimum",
    "multiply", "negative", "not_equal", "relu", "sign", "size_of", "subtract", "where",
))
# fmt: on
READ_ONCE = frozenset(("pad", "fold", "concat"))  # index ops that read every element of an operand at most once
ROOTS_ONLY = frozenset(("fold", "concat"))  # index ops whose code is too large to be inlined
ALIASES = frozenset(("reshape", "stop_gradient"))  # other names for the bytes of their operand
COMPUTED = (Kind.ELEMENTWISE, Kind.VIEW, Kind.INDEX, *HEAVY)

Place = object  # identifies the index at which a member is evaluated; equal places, equal index
SEVERAL = "several"  # a member that is evaluated at more than one index


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

    place: Place
    repeated: bool = False  # more than once for each element
    copies: int = 0  # copied ops in a row up to here


@dataclass(eq=False)
class Group:
    """Nodes that become one kernel. `results` starts with the root, whose shape is the domain of a map."""

    root: Node
    results: list[Node]
    members: dict[Node, Member] = field(default_factory=dict)
    heavy: Node | None = None
    fails: bool = False
    only_elementwise: bool = True  # every member so far is at the root's place, or broadcast: an epilogue

    @property
    def place(self) -> Place:
        """Where the root is evaluated."""
        return self.members[self.root].place


def fuse(graph: Graph) -> Graph:
    """The graph with groups of nodes replaced by `fused` nodes; bodies of scans are fused in the same way."""
    done: dict[Graph, Graph] = {}
    return _fuse(graph, done)


def fusion_notes(graph: Graph) -> tuple[FusionNote, ...]:
    """For a graph before fusion: every edge between two computed nodes that fusion leaves, with the reason."""
    return tuple(_Grouping(graph).notes())


def _fuse(graph: Graph, done: dict[Graph, Graph]) -> Graph:
    if graph in done:
        return done[graph]
    groups = {group.root: group for group in _Grouping(graph).groups()}
    extra = {result for group in groups.values() for result in group.results[1:]}
    new: dict[Node, Node] = {}
    origins = {}
    needed = _outside(graph, groups)
    for node in graph.nodes:
        if node not in needed or node in extra:
            continue
        group = groups.get(node)
        operands, body = build_body(group.results, group.members) if group is not None else ((), None)
        if body is None:
            replacement = _with_fused_bodies(same_op(node, tuple(new[x] for x in node.inputs)), done)
            inherit_origins(origins, replacement, graph.origins.get(node, ()), known=replacement.inputs)
            new[node] = replacement
            continue
        assert group is not None
        fused = make_node(FUSED, tuple(new[x] for x in operands), {"body": body})
        members = sorted(group.members, key=lambda n: (not n.op.can_fail, n is not node))
        origins[fused] = tuple(dict.fromkeys(o for n in members for o in graph.origins.get(n, ())))
        for index, result in enumerate(group.results):
            new[result] = fused if len(group.results) == 1 else make_node(ITEM, (fused,), {"index": index})
            if places := graph.origins.get(result):
                origins.setdefault(new[result], places)
    updates = tuple((state, new[value]) for state, value in graph.updates)
    result = done[graph] = Graph(graph.inputs, tuple(new[n] for n in graph.outputs), updates, origins)
    return result


def _outside(graph: Graph, groups: dict[Node, Group]) -> set[Node]:
    """The nodes that still exist beside the groups' members."""
    owners = {result: group for group in groups.values() for result in group.results}
    needed: set[Node] = set(graph.inputs) | {state for state, _ in graph.updates}
    stack = [*graph.roots]
    while stack:
        node = stack.pop()
        if node in needed:
            continue
        needed.add(node)
        group = owners.get(node)
        if group is None:
            stack.extend(node.inputs)
        else:
            stack.append(group.root)
            stack.extend(x for n in group.members for x in n.inputs if x not in group.members)
    return needed


def _with_fused_bodies(node: Node, done: dict[Graph, Graph]) -> Node:
    bodies = {k: v for k, v in node.attrs.items() if isinstance(v, Graph)}
    if not bodies or node.op.kind is Kind.FUSED:
        return node
    return make_node(node.op, node.inputs, {**node.attrs, **{k: _fuse(v, done) for k, v in bodies.items()}})


# ---------------------------------------------------------------- grouping


def is_unit_reshape(node: Node) -> bool:
    """Whether `node` is a reshape that only adds or drops axes of size 1."""
    return node.op.name == "reshape" and _without_units(node.type) == _without_units(node.inputs[0].type)


def _without_units(t: TensorType) -> list[object]:
    return [d for d in t.shape if not (isinstance(d, int) and d == 1)]


class _Grouping:
    """One sweep over a graph, users first, that decides which nodes share a kernel."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.users = graph.users
        self.roots = set(graph.roots)
        self.homes: dict[Node, list[Group]] = {}  # the groups that evaluate a node
        self.by_root: dict[Node, Group] = {}
        self.refused: dict[Node, str] = {}
        for node in reversed(graph.nodes):
            self._place(node)
        for group in self.by_root.values():
            _eject_outer_reshapes(group)

    def groups(self) -> list[Group]:
        return list(self.by_root.values())

    def notes(self) -> list[FusionNote]:
        """The edges between kernels, in the order of the graph."""
        found = []
        for node in self.graph.nodes:
            if node.op.kind is Kind.LEAF or node not in self.refused:
                continue
            for user in self.users[node]:
                if not any(node in home.members for home in self.homes.get(user, ())):
                    found.append(FusionNote(node, user, self.refused[node]))
        return found

    def _place(self, node: Node) -> None:
        if node.op.kind is Kind.LEAF:
            return
        reason = self._join(node)
        if reason is None:
            return
        self.refused[node] = reason
        if node.op.kind in COMPUTED and node.op.name not in ALIASES:
            heavy = node if node.op.kind in HEAVY else None
            group = Group(node, [node], {node: Member(object())}, heavy, node.op.can_fail)
            group.only_elementwise = node.op.kind is Kind.ELEMENTWISE
            self.by_root[node] = group
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
        if node.op.name in ALIASES and not self._is_index_map(node):
            return "it is another name for the bytes of its operand"
        targets: dict[Group, None] = {}
        for user in users:
            homes = self.homes.get(user)
            if not homes:
                return f"{user.op.name} has a kernel of its own"
            targets.update(dict.fromkeys(homes))
        copied = len(targets) > 1
        if copied and not _may_be_copied(node):
            return f"{len(targets)} kernels read it"
        if node in self.roots and not (not copied and self._may_be_result(node, next(iter(targets)))):
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

    def _is_index_map(self, node: Node) -> bool:
        """Whether a reshape is worth computing in a kernel: it moves axes of size 1 only, and what it names is computed."""
        below = node.inputs[0]
        return below.op.kind in COMPUTED and (node.op.name != "reshape" or is_unit_reshape(node))

    def _may_be_result(self, node: Node, group: Group) -> bool:
        """Whether `node`, an output or new state value, may be a further result of the one group that reads it."""
        return (
            group.heavy is None
            and node.op.kind is Kind.ELEMENTWISE
            and node.shape == group.root.shape
            and all(group.members[u].place is group.place and _same_index(node, u) for u in self.users[node])
        )

    def _member(self, node: Node, group: Group, copied: bool) -> Member | str:
        """How `group` would evaluate `node`; the reason where it must not."""
        inside = [u for u in self.users[node] if u in group.members]
        if len(group.members) >= MAX_MEMBERS:
            return f"the kernel has {MAX_MEMBERS} nodes already"
        if node.op.can_fail and group.fails:
            return "the kernel checks another index already"
        place, repeated = self._place_in(node, group, inside)
        if node.op.kind in HEAVY:
            return self._epilogue(node, group, place)
        if isinstance(reason := self._fits_users(node, group, inside, place), str):
            return reason
        if repeated and node.op.kind is not Kind.VIEW:
            if node.type.size == 1 and node.inputs:
                return "it is one element, computed once"
            if not (_is_unary(node) and node.op.name in CHEAP):
                return "the kernel would compute it more than once"
        copies = max((group.members[u].copies for u in inside), default=0) + (1 if copied else 0)
        if copies > MAX_COPIES:
            return "a chain of copied ops ends here"
        return Member(place, repeated, copies)

    def _place_in(self, node: Node, group: Group, inside: Sequence[Node]) -> tuple[Place, bool]:
        places: dict[int, Place] = {}
        repeated = False
        for user in inside:
            member = group.members[user]
            place = member.place if _same_index(node, user) else object()
            places[id(place)] = place
            repeated |= member.repeated or _expands(node, user)
        repeated |= len(places) > 1
        return (next(iter(places.values())) if len(places) == 1 else object()), repeated

    def _fits_users(self, node: Node, group: Group, inside: Sequence[Node], place: Place) -> str | None:
        for user in inside:
            if user.op.kind is Kind.CONTRACT and node.op.name != "permute_dims":
                return f"{user.op.name} reads whole operands"
            if user.op.kind is Kind.INDEX and user.op.name not in READ_ONCE and node.op.kind is not Kind.VIEW:
                return f"{user.op.name} reads elements at computed places"
            if group.heavy is not None and group.heavy.op.kind is Kind.CONTRACT and user is not group.heavy:
                if group.members[user].place is not group.place:
                    return "it is an operand's index map"
                if not (node.op.kind is Kind.ELEMENTWISE and place is group.place):
                    return "an epilogue of a contraction is elementwise"
        return None

    def _epilogue(self, node: Node, group: Group, place: Place) -> Member | str:
        if group.heavy is not None:
            return f"the kernel is built around {group.heavy.op.name} already"
        if len(group.results) > 1:
            return "the kernel has several results"
        if place is not group.place or node.shape != group.root.shape:
            return "the kernel reads it at other places than it writes"
        if not group.only_elementwise:
            return "an epilogue is elementwise"
        return Member(place)

    def _add(self, node: Node, group: Group, member: Member) -> None:
        if node.op.kind in HEAVY:
            group.heavy = node
        elif group.heavy is None and not (node.op.kind is Kind.ELEMENTWISE and member.place is group.place):
            group.only_elementwise = False
        group.members[node] = member
        group.fails = group.fails or node.op.can_fail
        if node in self.roots:
            group.results.append(node)


def _same_index(node: Node, user: Node) -> bool:
    """Whether `user`, at an index of its result, reads `node` at that same index and nowhere else."""
    if user.op.kind is Kind.ELEMENTWISE:
        return node.shape == user.shape
    return user.op.name == "stop_gradient"


def _expands(node: Node, user: Node) -> bool:
    """Whether `user` reads some element of `node` more than once."""
    match user.op.kind:
        case Kind.ELEMENTWISE:
            return node.shape != user.shape
        case Kind.VIEW:
            return user.op.name in ("broadcast_to", "windows")
        case Kind.INDEX:
            return user.op.name not in READ_ONCE
    return user.inputs.count(node) > 1


def _is_unary(node: Node) -> bool:
    return sum(not is_inline_constant(x) for x in node.inputs) <= 1


def _may_be_copied(node: Node) -> bool:
    return node.op.kind is Kind.VIEW or (node.op.name in CHEAP and _is_unary(node))


def _eject_outer_reshapes(group: Group) -> None:
    """A reshape of a value from outside is another name for its bytes: read that instead of computing indices."""
    for node in reversed(list(group.members)):
        if node.op.name in ALIASES and node is not group.root and node.inputs[0] not in group.members:
            del group.members[node]
