"""Fewer boxes: modules drawn as one box, repeated modules drawn once, an optimiser's arithmetic drawn as one box."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import TypeAlias

from dlc.ir import Node
from dlc.ops.definition import Kind
from dlc.render.labels import LINE_LIMIT, count, is_scalar, plain, runs
from dlc.render.picture import Edge, Picture, Vertex, stored_value

GroupKey: TypeAlias = tuple[str, tuple[str, ...]]  # a phase, and a module path or another name
NODE_BUDGET = 250  # boxes; above it repeated modules are rolled up, then modules drawn as one box
UPDATES_NOTE = "each parameter's update is drawn as one box"
UPDATE_BUDGET = 40  # boxes; above it the arithmetic of each parameter's update is one box


def fold(picture: Picture, depth: int | None, max_boxes: int = NODE_BUDGET) -> Picture:
    """What is asked for by `depth`, then what the budgets ask for; the notes say what was done."""
    if depth is not None:
        picture = collapse_modules(picture, depth)
    if len(picture.vertices) > (max_boxes if picture.shows_kernels else UPDATE_BUDGET):
        picture = collapse_updates(picture)
    size = len(picture.vertices)
    if size <= max_boxes:
        return picture
    folded = _fit(roll_up_repeats(picture), depth, max_boxes)
    left = len(folded.vertices)
    hint = f"{left} of {size} boxes are drawn; max_boxes={min(size, 4 * max_boxes)} draws more"
    if left > max_boxes:
        hint += ', depth=1 or view="forward" fewer'
    return replace(folded, notes=(hint, *folded.notes))


def _fit(picture: Picture, depth: int | None, max_boxes: int) -> Picture:
    """Modules as one box, at the largest depth at which the boxes are few enough; then chains of ops."""
    if len(picture.vertices) <= max_boxes:
        return picture
    deepest = max((len(v.module) for v in picture.vertices.values()), default=0)
    folded = picture
    for level in range(min(deepest, depth - 1 if depth else deepest), 0, -1):
        folded = collapse_modules(picture, level)
        if len(folded.vertices) <= max_boxes:
            return folded
    return collapse_chains(folded)


def beside_readers(picture: Picture) -> Picture:
    """Values of a part that is left out, such as forward values in a backward picture, once in each module that reads
    them: in the frame of their own module they would stretch it over the whole picture.
    """
    vertices = {id_: v for id_, v in picture.vertices.items() if not v.pale}
    copies: dict[tuple[str, tuple[str, ...]], Vertex] = {}
    edges: dict[Edge, None] = {}
    for edge in picture.edges:
        tail, module = picture.vertices[edge.tail], picture.vertices[edge.head].module
        if tail.pale:
            copy = copies.get((tail.id, module))
            if copy is None:
                copy = copies[tail.id, module] = replace(tail, id=f"{tail.id}_at_{edge.head}", module=module)
                vertices[copy.id] = copy
            edge = replace(edge, tail=copy.id)
        edges[edge] = None
    return replace(picture, vertices=vertices, edges=tuple(edges))


# ---------------------------------------------------------------- modules as one box


def collapse_modules(picture: Picture, depth: int) -> Picture:
    """Every module at `depth` of the module tree, and those above it that hold no others, as one box in each phase.

    The states that such a box alone writes, or whose updates it alone feeds, are one box beside it.
    """
    holders = {v.module[:length] for v in picture.vertices.values() for length in range(len(v.module))}
    groups: dict[str, GroupKey] = {
        v.id: (v.phase, v.module[:depth])
        for v in picture.vertices.values()
        if v.module and (len(v.module) >= depth or v.module not in holders)
        if v.phase != "update" and v.role not in ("output", "update", "input")
    }
    groups = _several(groups)
    if not groups:
        return picture

    def box(members: Sequence[Vertex]) -> Vertex:
        path = members[0].module[:depth]
        name = plain(picture.name_of(path))
        lines = (name, *_contents(members))
        return replace(members[0], role="folded", lines=lines, nodes=_nodes(members), module=path[:-1], tooltip=name)

    merged = _gather_updates(_collapse_writes(_merge(picture, groups, box)))
    return replace(merged, notes=(*merged.notes, f"modules below depth {depth} are drawn as one box"))


def _collapse_writes(picture: Picture) -> Picture:
    """The states that one folded module alone writes, such as running statistics, as one box beside it."""
    writers: dict[str, set[str]] = {}
    for edge in picture.edges:
        head = picture.vertices[edge.head]
        if head.role == "update" and head.phase != "update":
            writers.setdefault(edge.head, set()).add(edge.tail)
    alone = {head: tails.pop() for head, tails in writers.items() if len(tails) == 1}
    groups = {head: ("written", (tail,)) for head, tail in alone.items() if picture.vertices[tail].role == "folded"}

    def box(members: Sequence[Vertex]) -> Vertex:
        targets = _writes(members)
        tip = plain(" ".join(targets), 200)
        return replace(members[0], lines=_shortened(targets), nodes=_nodes(members), tooltip=tip, writes=targets)

    return _without_labels(_merge(picture, _several(groups), box), groups)


def _without_labels(picture: Picture, boxes: Iterable[str]) -> Picture:
    """One arrow to each of these boxes for all types."""
    into = set(boxes)
    edges = {replace(e, label="") if e.head in into else e: None for e in picture.edges}
    return replace(picture, edges=tuple(edges))


def _contents(members: Sequence[Vertex]) -> list[str]:
    """Short lines that list the ops of a box and how many parameters it holds."""
    ops = runs(n.op.name for v in members if v.role not in ("state", "constant") for n in v.nodes)
    lines: list[str] = []
    for op in ops:
        if lines and len(lines[-1]) + 2 + len(op) <= LINE_LIMIT:
            lines[-1] += ", " + op
        elif len(lines) == 3:
            lines[-1] += ", …"
            break
        else:
            lines.append(op)
    states = {stored_value(n) for v in members if v.role == "state" for n in v.nodes}  # several views are one parameter
    return [*lines, *([count(len(states), "parameter")] if states else [])]


# ---------------------------------------------------------------- an optimiser's arithmetic


def collapse_updates(picture: Picture) -> Picture:
    """Each parameter's update as one box: the update's nodes that are connected through values with axes.

    Parameters meet only in scalars (the step, the norm of all gradients), so each gets a box of its own; those of a
    module that is drawn as one box share one.
    """
    import networkx as nx

    members = [v for v in picture.vertices.values() if v.phase == "update" and v.nodes]
    shared = {v.id for v in members if is_scalar(v.nodes[0])}
    related = nx.Graph()
    related.add_nodes_from(v.id for v in members)
    related.add_edges_from(
        (e.tail, e.head)
        for e in picture.edges
        if e.tail in related and e.head in related and (e.tail in shared) == (e.head in shared)
    )
    groups: dict[str, GroupKey] = dict.fromkeys(shared, ("update", ("shared",)))
    for number, component in enumerate(nx.connected_components(related)):
        groups |= {id_: ("update", (str(number),)) for id_ in component if id_ not in shared}
    groups = _several({v.id: groups[v.id] for v in members})
    if not groups:
        return picture
    module = {e.head: picture.vertices[e.tail].module for e in picture.edges if e.kind == "update"}

    def box(members: Sequence[Vertex]) -> Vertex:
        head = ("shared by all updates",) if members[0].id in shared else ()
        merged = _update_box(members, head)
        path = next((module[v.id] for v in members if v.id in module), ())  # where its gradient was made
        return replace(merged, module=path)

    merged = _merge(picture, groups, box)
    scalars = {v.id for v in merged.vertices.values() if v.phase == "update" and v.lines[0] == "shared by all updates"}
    edges = tuple(e for e in merged.edges if e.tail not in scalars)  # one to every update would hide the rest
    return _gather_updates(replace(merged, edges=edges, notes=(*picture.notes, UPDATES_NOTE)))


def _gather_updates(picture: Picture) -> Picture:
    """The updates that one folded module alone feeds as one box, where each update is one box already."""
    if UPDATES_NOTE not in picture.notes:
        return picture
    makers: dict[str, set[str]] = {}
    for edge in picture.edges:
        if edge.kind == "update":
            makers.setdefault(edge.head, set()).add(edge.tail)
    groups: dict[str, GroupKey] = {
        head: ("update", tuple(tails))
        for head, tails in makers.items()
        if len(tails) == 1 and all(picture.vertices[tail].role == "folded" for tail in tails)
    }
    groups = _several(groups)
    if not groups:
        return picture
    together = UPDATES_NOTE + ", those of a folded module together"
    notes = tuple(together if note == UPDATES_NOTE else note for note in picture.notes)
    return replace(_without_labels(_merge(picture, groups, _update_box), groups), notes=notes)


def _update_box(members: Sequence[Vertex], head: tuple[str, ...] = ()) -> Vertex:
    """What the members write, and how many ops they take for it."""
    targets = _writes(members)
    nodes = tuple(dict.fromkeys(_nodes(members)))
    ops = [n.op.name for n in nodes if n.op.kind is not Kind.LEAF]
    lines = (*head, *_shortened(targets), *([count(len(ops), "op")] if ops else []))
    role = "update" if targets else "folded" if ops else members[0].role
    return replace(members[0], role=role, lines=lines, nodes=nodes, tooltip=plain(", ".join(ops), 200), writes=targets)


def _writes(members: Sequence[Vertex]) -> tuple[str, ...]:
    return tuple(name for v in members for name in v.writes)


def _shortened(targets: Sequence[str]) -> tuple[str, ...]:
    """At most four lines of the states that a box writes."""
    return (*targets[:4], *([f"… {len(targets) - 4} more"] if len(targets) > 4 else []))


def _several(groups: Mapping[str, GroupKey]) -> dict[str, GroupKey]:
    """The groups of more than one vertex."""
    sizes = Counter(groups.values())
    return {id_: key for id_, key in groups.items() if sizes[key] > 1}


# ---------------------------------------------------------------- repeats


def roll_up_repeats(picture: Picture) -> Picture:
    """Neighbouring modules of equal structure drawn once, titled with their range and number."""
    blocks: dict[tuple[str, ...], list[Vertex]] = {}
    for v in picture.vertices.values():
        for length in range(1, len(v.module) + 1):
            blocks.setdefault(v.module[:length], []).append(v)
    structures = {path: _block_structure(picture, path, members) for path, members in blocks.items()}
    representative: dict[str, str] = {}
    copy_of: dict[str, tuple[str, ...]] = {}  # vertex -> the block that it lies in, of those that are rolled up
    titles = dict(picture.titles)
    notes: list[str] = []
    for run in _runs_of_equal_siblings(structures):
        first, last = run[0], run[-1]
        if blocks[first][0].id in copy_of:
            continue  # inside a block that is rolled up already
        for path in run:
            copy_of |= dict.fromkeys((v.id for v in blocks[path]), path)
            representative |= {b.id: a.id for a, b in zip(blocks[first], blocks[path], strict=True) if a is not b}
        titles[first] = f"{'.'.join(first)} … {last[-1]}  ×{len(run)}"
        notes.append(f"{'.'.join(first)} to {'.'.join(last)} are alike and drawn once (×{len(run)})")
    if not representative:
        return picture
    vertices = {id_: v for id_, v in picture.vertices.items() if id_ not in representative}
    edges: dict[Edge, None] = {}
    for edge in picture.edges:
        tail, head = representative.get(edge.tail, edge.tail), representative.get(edge.head, edge.head)
        same_block = copy_of.get(tail) is not None and copy_of.get(tail) == copy_of.get(head)
        if same_block and copy_of[edge.tail] != copy_of[edge.head]:
            continue  # from one copy to the next
        if tail != head:
            edges[replace(edge, tail=tail, head=head)] = None
    return replace(picture, vertices=vertices, edges=tuple(edges), notes=(*picture.notes, *notes), titles=titles)


def _block_structure(picture: Picture, path: tuple[str, ...], members: Sequence[Vertex]) -> object:
    """What two modules share when they may be drawn as one: the boxes and the arrows among them, names left out."""
    number = {v.id: i for i, v in enumerate(members)}
    boxes = [
        (v.role, v.phase, v.module[len(path) :], v.lines if v.role == "op" else None, _ops_and_types(v))
        for v in members
    ]
    arrows = sorted(
        (number[e.tail], number[e.head], e.label) for e in picture.edges if e.tail in number and e.head in number
    )
    return boxes, arrows


def _ops_and_types(v: Vertex) -> list[tuple[str, str]]:
    return [(n.op.name, str(n.type)) for n in v.nodes]


def _runs_of_equal_siblings(structures: Mapping[tuple[str, ...], object]) -> list[list[tuple[str, ...]]]:
    """Runs of two or more neighbouring modules of equal structure, outermost first."""
    found: list[list[tuple[str, ...]]] = []
    paths = sorted(structures, key=lambda path: (len(path), path[:-1]))  # stable: siblings stay in the graph's order
    for _, siblings in groupby(paths, key=lambda path: path[:-1]):
        run: list[tuple[str, ...]] = []
        for path in siblings:
            if run and structures[path] == structures[run[-1]]:
                run.append(path)
                continue
            found += [run] if len(run) > 1 else []
            run = [path]
        found += [run] if len(run) > 1 else []
    return found


# ---------------------------------------------------------------- chains


def collapse_chains(picture: Picture) -> Picture:
    """Ops of one module that follow each other with no other arrow in between as one box, from three ops on."""
    out: dict[str, list[Edge]] = {}
    into: dict[str, list[Edge]] = {}
    for edge in picture.edges:
        out.setdefault(edge.tail, []).append(edge)
        into.setdefault(edge.head, []).append(edge)
    follower: dict[str, str] = {}
    for tail, edges in out.items():
        a, b = picture.vertices[tail], picture.vertices[edges[0].head]
        alike = a.role == b.role == "op" and (a.phase, a.module, a.pale) == (b.phase, b.module, b.pale)
        if len(edges) == 1 and len(into[b.id]) == 1 and alike:
            follower[tail] = b.id
    groups: dict[str, GroupKey] = {}
    for first in picture.vertices.keys() - follower.values():
        chain = [first]
        while chain[-1] in follower:
            chain.append(follower[chain[-1]])
        if len(chain) >= 3:
            groups |= dict.fromkeys(chain, ("chain", (first,)))
    if not groups:
        return picture

    def box(members: Sequence[Vertex]) -> Vertex:
        lines = (count(len(members), "op"), *_contents(members))
        return replace(members[0], role="folded", lines=lines, nodes=_nodes(members))

    ordered = {id_: groups[id_] for id_ in picture.vertices if id_ in groups}
    merged = _merge(picture, ordered, box)
    return replace(merged, notes=(*picture.notes, "chains of ops are drawn as one box"))


# ---------------------------------------------------------------- merging


def _merge(picture: Picture, groups: Mapping[str, GroupKey], box: Callable[[Sequence[Vertex]], Vertex]) -> Picture:
    """The picture with each group of vertices as the one vertex that `box` makes of them; inner arrows go."""
    members: dict[GroupKey, list[Vertex]] = {}
    for id_, key in groups.items():
        members.setdefault(key, []).append(picture.vertices[id_])
    boxes = {key: box(found) for key, found in members.items()}
    new_id = {id_: boxes[key].id for id_, key in groups.items()}
    vertices = {}
    for id_, v in picture.vertices.items():
        v = boxes[groups[id_]] if id_ in groups else v
        vertices[v.id] = v
    edges: dict[Edge, None] = {}
    for edge in picture.edges:
        tail, head = new_id.get(edge.tail, edge.tail), new_id.get(edge.head, edge.head)
        if tail != head:
            edges[replace(edge, tail=tail, head=head)] = None
    return replace(picture, vertices=vertices, edges=tuple(edges))


def _nodes(members: Sequence[Vertex]) -> tuple[Node, ...]:
    return tuple(n for v in members for n in v.nodes)
