"""From graph to picture: which values are drawn, as what, and where the arrows go. Independent of DOT."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import TYPE_CHECKING, Literal

from dlc.errors import RenderError
from dlc.ir import Graph, Node, TupleType
from dlc.ops.definition import Kind
from dlc.provenance import Origin
from dlc.render.labels import is_scalar, leaf_lines, op_lines, plain, scalar_text, tooltip

if TYPE_CHECKING:
    from dlc.backends.backend import KernelSource

Role = Literal["input", "state", "constant", "op", "group", "output", "update", "folded"]
EdgeKind = Literal["data", "saved", "update"]
VIEWS: dict[str, tuple[str, ...]] = {
    "forward": ("forward",),
    "backward": ("backward",),
    "joint": ("forward", "backward", "update"),
}
_PHASES = ("forward", "backward", "update")


@dataclass(frozen=True)
class Vertex:
    """One box. `nodes` are the values it stands for, `module` the path of the module it was written in.

    `kernel` is the kernel that computes it, where kernels are drawn; `writes` names the states that it assigns to.
    """

    id: str
    role: Role
    phase: str
    lines: tuple[str, ...]
    nodes: tuple[Node, ...] = ()
    module: tuple[str, ...] = ()
    pale: bool = False
    tooltip: str = ""
    origin: Origin | None = None
    kernel: str = ""
    writes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Edge:
    """One arrow, in the direction of the data."""

    tail: str
    head: str
    label: str = ""
    kind: EdgeKind = "data"


@dataclass(frozen=True)
class Picture:
    """Boxes and arrows. `notes` say what was left out; `titles` replace the names of some modules; `classes` are those
    of modules by path, where they are known.
    """

    vertices: Mapping[str, Vertex]
    edges: tuple[Edge, ...]
    notes: tuple[str, ...] = ()
    titles: Mapping[tuple[str, ...], str] = field(default_factory=dict)
    classes: Mapping[tuple[str, ...], str] = field(default_factory=dict)

    def name_of(self, path: tuple[str, ...]) -> str:
        """How a module is called: its path and its class, such as "features.0 · Conv2d"."""
        name = self.titles.get(path) or ".".join(path)
        return f"{name} · {self.classes[path]}" if self.classes.get(path) else name

    @property
    def shows_kernels(self) -> bool:
        """Whether boxes are grouped by kernel."""
        return any(v.kernel for v in self.vertices.values())

    @property
    def is_ladder(self) -> bool:
        """Whether forward and backward are both shown, and so drawn side by side."""
        return {"forward", "backward"} <= {v.phase for v in self.vertices.values() if not v.pale}


def picture_of(
    graph: Graph, view: str, kernels: Mapping[Node, str] | None = None, *, opened: bool = True
) -> Picture:
    """The picture of one view of a graph. Raises `RenderError` for a backward view without backward nodes.

    `kernels` names the kernel of each node that has one; the fused among them are drawn op by op where `opened`.
    """
    return _Drawer(graph, view, kernels or {}, opened).picture()


def kernel_names(graph: Graph, kernels: Iterable[KernelSource]) -> dict[Node, str]:
    """The kernels of each node of `graph`, by the names that they have in `explain`, one for each part that it runs in;
    calls of one kernel are counted."""
    drawn = set(graph.nodes)
    names: dict[Node, str] = {}
    for kernel in kernels:
        calls = [node for node in dict.fromkeys(kernel.nodes) if node in drawn]
        for i, node in enumerate(calls):
            name = f"{kernel.name} ({i + 1} of {len(calls)})" if len(calls) > 1 else kernel.name
            names[node] = f"{names[node]}, {name}" if node in names else name
    return names


def phases_of(graph: Graph) -> dict[Node, str]:
    """The phase that each node belongs to: the earliest it was written in; leaves go with their users.

    A fused node may compute values of earlier phases again on its way, so one with a single result belongs to the
    latest phase in it, and none to an earlier phase than it reads from.
    """
    phases: dict[Node, str] = {}
    for node in graph.nodes:
        if node.op.kind is not Kind.LEAF:
            found = [o.phase for o in graph.origins.get(node, ()) if o.phase in _PHASES]
            single = node.op.kind is Kind.FUSED and not isinstance(node.type, TupleType)
            phases[node] = (max if single else min)(found, key=_PHASES.index, default="forward")
            if node.op.kind is Kind.FUSED or (node.op.kind is Kind.ITEM and node.inputs[0].op.kind is Kind.FUSED):
                read = [phases[x] for x in node.inputs if x in phases]
                phases[node] = max([phases[node], *read], key=_PHASES.index)
    for node in graph.nodes:
        if node.op.kind is Kind.LEAF:
            phases[node] = min((phases[user] for user in graph.users[node]), key=_PHASES.index, default="forward")
    return phases


def stored_value(node: Node) -> Node | None:
    """The state or constant that `node` is, or is a view of: one box, since a view of a parameter computes nothing."""
    while node.op.kind is Kind.VIEW and node.op.name != "stop_gradient":
        (node,) = node.inputs
    return node if node.op.name in ("state", "constant") else None


class _Drawer:
    """Draws one view: boxes first, then the arrows between boxes that are there."""

    def __init__(self, graph: Graph, view: str, kernels: Mapping[Node, str], opens: bool) -> None:
        self.graph = graph
        self.view = view
        self.kernels = kernels
        self.opens = opens
        self.opened: dict[tuple[Node, int], tuple[str, Node | None]] = {}  # result of a fused node -> box, or operand
        self.classes: dict[tuple[str, ...], str] = {}
        self.paths: dict[Node, tuple[str, ...]] = {}
        self.phases = phases_of(graph)
        self.ids = {node: f"n{i}" for i, node in enumerate(graph.nodes)}
        self.scalars = {node: text for node in graph.nodes if (text := scalar_text(node)) is not None}
        self.vertices: dict[str, Vertex] = {}
        self.edges: dict[Edge, None] = {}

    def picture(self) -> Picture:
        shown = VIEWS[self.view]
        if self.view == "backward" and "backward" not in self.phases.values():
            raise RenderError(
                "the graph has no backward part to draw: none of its nodes was made by dlc.grad or dlc.train_step. "
                "Put gradients among the outputs, as in dlc.graph(inputs, [y, *dlc.grad(y, inputs)]), "
                'or draw view="forward"'
            )
        inputs = set(self.graph.inputs)
        for node in self.graph.nodes:
            on_demand = node in self.scalars or node.op.kind is Kind.ITEM or stored_value(node) is not None
            if self.phases[node] in shown and not on_demand and (node in inputs or node.op.kind is not Kind.LEAF):
                self.draw_node(node)
        for number, node in enumerate(self.graph.outputs):
            if self.phases[node] in shown:
                name = "output" if len(self.graph.outputs) == 1 else f"output {number}"
                self.draw_end(f"out{number}", node, "output", self.phases[node], (name, str(node.type)))
        for number, (state, value) in enumerate(self.graph.updates):
            phase = self.phases[value]
            phase = "update" if phase == "backward" or self.phases[state] == "update" else phase
            if phase in shown:
                name = plain(state.leaf.name if state.leaf else "?")
                self.draw_end(f"new{number}", value, "update", phase, (f"{name} :=", str(state.type)))
        return Picture(self.vertices, tuple(self.edges), classes=self.classes)

    def draw_node(self, node: Node) -> None:
        if self.opens and node.op.kind is Kind.FUSED and node in self.kernels:
            self.open(node)
            return
        inline = [self.inline_text(x, node) for x in node.inputs]
        for x, text in zip(node.inputs, inline, strict=True):
            if text is None:
                self.connect(x, self.ids[node], self.phases[node])
        self.add(node, self.ids[node], self.phases[node], inline)

    def open(self, node: Node) -> None:
        """A fused node as the boxes of its body."""
        body: Graph = node.attrs["body"]
        phase, kernel = self.phases[node], self.kernels[node]
        operands = dict(zip(body.inputs, node.inputs, strict=True))
        ids = {n: f"{self.ids[node]}_{i}" for i, n in enumerate(body.nodes)}
        scalars = {n: text for n in body.nodes if (text := scalar_text(n)) is not None}
        for n, x in operands.items():
            text = self.inline_text(x, node)
            if text is not None:
                scalars[n] = text
        for n in body.nodes:
            if n in operands or n in scalars:
                continue
            id_, place = ids[n], self.origin(node)
            lines, tip = op_lines(n, [scalars.get(x) for x in n.inputs]), tooltip(place, n.type)
            self.vertices[id_] = Vertex(id_, "op", phase, lines, (n,), tooltip=tip, origin=place, kernel=kernel)
            for x in n.inputs:
                if x in operands and x not in scalars:
                    self.connect(operands[x], id_, phase)
                elif x not in scalars:
                    self.edges[Edge(ids[x], id_, str(x.type))] = None
        for i, n in enumerate(body.outputs):
            self.opened[node, i] = ids[n], operands.get(n)

    def draw_end(self, id_: str, node: Node, role: Role, phase: str, lines: tuple[str, ...]) -> None:
        text = self.scalars.get(node)
        if text is not None:
            lines = (*lines, f"= {text}")
        nodes = (node,) if role == "update" else ()
        writes = lines[:1] if role == "update" else ()
        self.vertices[id_] = Vertex(id_, role, phase, lines, nodes, tooltip=str(node.type), writes=writes)
        if text is None:
            self.connect(node, id_, phase)

    def inline_text(self, x: Node, user: Node) -> str | None:
        """What is written into the user's box, not drawn: scalar constants, and what an update reads from afar."""
        if x in self.scalars:
            return self.scalars[x]
        is_far = is_scalar(x) or self.phases[x] != "update" or user in self.kernels
        if x.leaf is not None and self.phases[user] == "update" and is_far:
            return plain(x.leaf.name, 24)
        return None

    def add(self, node: Node, id_: str, phase: str, inline: Sequence[str | None]) -> None:
        origin = self.origin(node)
        leaf = stored_value(node)
        if leaf is not None:
            role: Role = "constant" if leaf.op.name == "constant" else "state"
            lines = leaf_lines(leaf, node)
        elif node.op.kind is Kind.LEAF:
            role, lines = "input", leaf_lines(node, node)
        else:
            role = "group" if any(isinstance(v, Graph) for v in node.attrs.values()) else "op"
            lines = op_lines(node, inline)
        pale = phase not in VIEWS[self.view]
        tip = tooltip(origin, node.type)
        module, kernel = self.module(node, phase), self.kernels.get(node, "")
        self.vertices[id_] = Vertex(id_, role, phase, lines, (node,), module, pale, tip, origin, kernel)

    def connect(self, x: Node, head: str, phase: str) -> None:
        source, item, index = x, "", 0
        while source.op.kind is Kind.ITEM:
            index = source.attrs["index"]
            item = f"#{index} "
            (source,) = source.inputs
        id_, home = self.ids[source], self.phases[source]
        if (source, index) in self.opened:
            item = ""
            id_, operand = self.opened[source, index]
            if operand is not None:  # the body hands an operand on
                self.connect(operand, head, phase)
                return
        if stored_value(source) is not None and home != phase:  # every part has parameters of its own at hand
            id_, home = f"{id_}_{phase}", phase
        if id_ not in self.vertices:  # a stored value, or one of a part that this view leaves out
            self.add(source, id_, home, [self.scalars.get(i) for i in source.inputs])
        tail = self.vertices[id_]
        kind: EdgeKind = "data" if tail.phase == phase or tail.pale else "update" if phase == "update" else "saved"
        label = "" if tail.role in ("input", "state", "constant") else f"{item}{x.type}"
        self.edges[Edge(tail.id, head, label, kind)] = None

    def origin(self, node: Node) -> Origin | None:
        """The place the node was written at in the phase that it is drawn in."""
        places = self.graph.origins.get(node, ())
        return next((o for o in places if o.phase == self.phases[node]), places[0] if places else None)

    def module(self, node: Node, phase: str) -> tuple[str, ...]:
        """The module path; that of a leaf is what its users in a phase have in common."""
        if node.op.kind is not Kind.LEAF:
            if node not in self.paths:
                self.paths[node] = self.path(node)
            return self.paths[node]
        if node.op.name in ("input", "ambient"):
            return ()
        return _common(self.module(u, phase) for u in self.graph.users[node] if self.phases[u] == phase)

    def path(self, node: Node) -> tuple[str, ...]:
        """Where a node was written; a part of a sum of gradients, where those come from.

        Such a part was made for a value that is read three times or more, at the first two readers: in the frame of the
        value's own module it would stretch the frame over theirs.
        """
        origin = self.origin(node)
        own: tuple[str, ...] = ()
        if origin is not None and origin.module:
            own, classes = tuple(plain(part) for part in origin.module.split(".")), origin.classes.split(".")
            if len(own) == len(classes):
                self.classes |= {own[: i + 1]: plain(name) for i, name in enumerate(classes) if name}
        around = (node, *self.graph.users[node])
        if all(n.op.name == "add" and self.phases[n] == "backward" for n in around) and len(around) == 2:
            sources = [self.paths.get(x, ()) for x in node.inputs]
            if all(path[: len(own)] != own for path in sources):
                return _common(sources)
        return own


def _common(paths: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """The longest path that all of these begin with."""
    parts = takewhile(lambda level: len(set(level)) == 1, zip(*paths, strict=False))
    return tuple(level[0] for level in parts)
