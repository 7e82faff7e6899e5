"""Picture -> DOT text: colours, shapes, clusters and arrows. The same picture gives the same text, in any process.

The colours are tints of the palette of Okabe and Ito (Color Universal Design, 2008), which the colour-blind can tell
apart; shapes and line styles say the same again, so that a picture also works in grey.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from dlc.render.labels import html_text, plain, quoted
from dlc.render.ladder import rungs, update_rungs
from dlc.render.picture import Edge, Picture, Vertex

FONT = "DejaVu Sans"
RANK_DIRECTIONS = ("TB", "LR", "BT", "RL")

BLUE, SKY, ORANGE, VERMILION, GREEN, PURPLE, GREY = (
    "#0072B2",
    "#56B4E9",
    "#E69F00",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#6E6E6E",
)
Style = Mapping[str, str]
# By what a box is; "op" also by the phase it belongs to.
ROLES: Mapping[str, Style] = {
    "input": {"shape": "ellipse", "margin": "0.02,0.02", "fillcolor": "#D3EBFA", "color": SKY},
    "state": {"shape": "cylinder", "fillcolor": "#FBE7B9", "color": ORANGE},
    "constant": {"shape": "note", "fillcolor": "#ECECEC", "color": GREY},
    "output": {"shape": "ellipse", "peripheries": "2", "margin": "0.02,0.02", "fillcolor": "#F3DCE8", "color": PURPLE},
    "update": {"shape": "cylinder", "fillcolor": "#C5E9DD", "color": GREEN, "penwidth": "1.6"},
}
PHASES: Mapping[str, Style] = {
    "forward": {"shape": "box", "style": "filled,rounded", "fillcolor": "#FFFFFF", "color": BLUE},
    "backward": {"shape": "box", "style": "filled,dashed", "fillcolor": "#FCE6D6", "color": VERMILION},
    "update": {"shape": "box", "style": "filled,bold", "fillcolor": "#E3F4EE", "color": GREEN},
}
GROUP: Style = {"shape": "box", "style": "filled", "fillcolor": "#FFF6BF", "penwidth": "2"}
KERNEL: Style = {
    "labeljust": "l", "fontsize": "11", "style": "filled", "fillcolor": "#FFF6BF", "color": "#8C7A00", "penwidth": "1.5"
}  # fmt: skip
FOLDED: Style = {"shape": "box3d", "style": "filled"}
PALE: Style = {"style": "filled,dashed", "fillcolor": "#FAFAFA", "color": "#A0A0A0", "fontcolor": GREY}
EDGES: Mapping[str, Style] = {
    "forward": {"color": BLUE},
    "backward": {"color": VERMILION, "style": "dashed"},
    "update": {"color": GREEN, "style": "bold"},
    "saved": {"color": GREY, "style": "dotted", "arrowhead": "open", "constraint": "false"},
    "pale": {"color": "#A0A0A0", "style": "dotted", "arrowhead": "open"},
}
COLUMNS = ("forward", "backward", "update")


def dot_text(picture: Picture, *, rankdir: str = "TB", title: str | None = None) -> str:
    """The DOT text of a picture."""
    ladder = picture.is_ladder
    lines = ["digraph dlc {", *_defaults(picture, rankdir, title)]
    if ladder:
        for column in COLUMNS:
            members = [v for v in picture.vertices.values() if v.phase == column]
            if column == "update":  # one box a parameter; frames around them would say nothing
                members = [replace(v, module=()) for v in members]
            if members:
                lines.append(f"  subgraph cluster_{column} {{ label=\"\"; style=invis")
                lines.append(f"    head_{column} [label={quoted(column)}, shape=plaintext, fontsize=14]")
                lines += _clusters(members, picture, column, "    ")
                lines.append("  }")
    else:
        lines += _clusters(list(picture.vertices.values()), picture, "module", "  ")
    lines += [_edge_line(edge, picture, ladder) for edge in picture.edges]
    lines += _side_lines(picture)
    if ladder:
        lines += _rung_lines(picture)
    return "\n".join([*lines, "}", ""])


# ---------------------------------------------------------------- the frame


def _defaults(picture: Picture, rankdir: str, title: str | None) -> list[str]:
    graph = {"rankdir": rankdir, "newrank": "true", "nodesep": "0.3", "ranksep": "0.35", "bgcolor": "white"}
    label = _heading(picture, title)
    fonts = f"fontname={quoted(FONT)}"
    return [
        f"  graph [{_attributes(graph)}, {fonts}, fontsize=14, labelloc=t, label={label}]",
        f"  node [{fonts}, fontsize=11, margin={quoted('0.12,0.06')}, height=0.3, width=0.3]",
        f"  edge [{fonts}, fontsize=9, fontcolor={quoted('#404040')}, arrowsize=0.7]",
    ]


def _heading(picture: Picture, title: str | None) -> str:
    """Title, what was left out, and a key to the kinds of boxes that occur, as an HTML-like label."""
    rows = []
    if title:
        rows.append(f'<TR><TD><FONT POINT-SIZE="16">{html_text(title)}</FONT></TD></TR>')
    rows += [
        f'<TR><TD><FONT POINT-SIZE="10" COLOR="{GREY}">{html_text(note)}</FONT></TD></TR>' for note in picture.notes[:4]
    ]
    if len(picture.notes) > 4:
        rows.append(f'<TR><TD><FONT POINT-SIZE="10">and {len(picture.notes) - 4} more</FONT></TD></TR>')
    swatches = "".join(
        f'<TD WIDTH="14" HEIGHT="10" FIXEDSIZE="TRUE" BORDER="1" COLOR="{line}" BGCOLOR="{fill}"></TD>'
        f'<TD ALIGN="LEFT"><FONT POINT-SIZE="10">{name}  </FONT></TD>'
        for name, fill, line in _key(picture)
    )
    rows.append(f'<TR><TD><TABLE BORDER="0" CELLBORDER="0" CELLSPACING="3"><TR>{swatches}</TR></TABLE></TD></TR>')
    return f'<<TABLE BORDER="0" CELLBORDER="0" CELLSPACING="2">{"".join(rows)}</TABLE>>'


def _key(picture: Picture) -> Iterable[tuple[str, str, str]]:
    """Name, fill and line colour of each kind of box in the picture."""
    vertices = [v for v in picture.vertices.values() if not v.pale]
    roles, phases = {v.role for v in vertices}, {v.phase for v in vertices if v.role in ("op", "folded", "group")}
    names = {"input": "input", "state": "parameter or state", "constant": "constant", "output": "output"}
    for role, name in names.items():
        if role in roles:
            yield name, ROLES[role]["fillcolor"], ROLES[role]["color"]
    for phase in COLUMNS:
        if phase in phases:
            yield phase, PHASES[phase]["fillcolor"], PHASES[phase]["color"]
    if "update" in roles:
        yield "new value", ROLES["update"]["fillcolor"], ROLES["update"]["color"]
    if picture.shows_kernels:
        yield "one kernel", KERNEL["fillcolor"], KERNEL["color"]
    elif "group" in roles:
        yield "one kernel or loop", GROUP["fillcolor"], BLUE
    if any(v.pale for v in picture.vertices.values()):
        yield "from the forward part", PALE["fillcolor"], PALE["color"]


# ---------------------------------------------------------------- boxes


def _clusters(members: Sequence[Vertex], picture: Picture, prefix: str, indent: str) -> list[str]:
    """Boxes within frames: those of one kernel where kernels are shown, else those of one module."""
    if not picture.shows_kernels:
        return _module_frames(members, picture, prefix, indent)
    lines: list[str] = []
    kernels: dict[str, list[Vertex]] = {}
    for v in members:
        kernels.setdefault(v.kernel or v.id, []).append(v)
    for number, group in enumerate(kernels.values()):
        if len(group) == 1:
            (v,) = group
            line = _box_line(replace(v, lines=(*v.lines, v.kernel)), GROUP) if v.kernel else _box_line(v)
            lines.append(indent + line)
            continue
        settings = {"label": plain(group[0].kernel), **KERNEL}
        lines.append(f"{indent}subgraph cluster_{prefix}_{number} {{ {_attributes(settings, '; ')}")
        lines += [f"{indent}  {_box_line(v)}" for v in group]
        lines.append(indent + "}")
    return lines


def _module_frames(
    members: Sequence[Vertex], picture: Picture, prefix: str, indent: str, depth: int = 0
) -> list[str]:
    """Boxes, those of one module within a frame of its own; a module of one box needs none."""
    lines: list[str] = []
    inner: dict[str, list[Vertex]] = {}
    for v in members:
        if len(v.module) > depth:
            inner.setdefault(v.module[depth], []).append(v)
        else:
            lines.append(indent + _box_line(v))
    for number, group in enumerate(inner.values()):
        path = group[0].module[: depth + 1]
        name = f"{prefix}_{number}"
        body = _module_frames(group, picture, name, indent + "  ", depth + 1)
        if len(group) == 1 and path not in picture.titles:
            lines += _module_frames(group, picture, name, indent, depth + 1)
            continue
        settings = {
            "label": plain(picture.name_of(path)),
            "labeljust": "l",
            "fontsize": "11",
            "style": "rounded,filled",
            "color": "#B8B8B8",
            "fillcolor": ("#F5F5F5", "#FFFFFF")[depth % 2],
        }
        lines += [f"{indent}subgraph cluster_{name} {{ {_attributes(settings, '; ')}", *body]
        lines.append(indent + "}")
    return lines


def _box_line(v: Vertex, more: Style = {}) -> str:  # noqa: B006 - not written to
    style: dict[str, str] = {"style": "filled"}
    style |= ROLES[v.role] if v.role in ROLES else PHASES[v.phase]
    if v.role == "group":
        style |= GROUP
    elif v.role == "folded":
        style |= FOLDED
    if v.pale:
        style |= PALE
    style |= more
    return f"{v.id} [label={quoted(*v.lines)}, tooltip={quoted(v.tooltip)}, {_attributes(style)}]"


# ---------------------------------------------------------------- arrows


def _edge_line(edge: Edge, picture: Picture, ladder: bool) -> str:
    tail, head = picture.vertices[edge.tail], picture.vertices[edge.head]
    kind = "pale" if tail.pale else "saved" if edge.kind == "saved" else tail.phase
    style = dict(EDGES[kind])
    a, b = tail.id, head.id
    if ladder and edge.kind == "saved":
        label = ""
    else:
        label = edge.label
    if ladder and tail.phase == head.phase == "backward":
        a, b = b, a  # drawn upward, beside the forward part
        style["dir"] = "back"
    elif ladder and edge.kind == "update":
        style["constraint"] = "false"
    if label:
        style["label"] = f" {label} "
    return f"  {a} -> {b} [{_attributes(style)}]"


def _side_lines(picture: Picture) -> list[str]:
    """Stored values stand beside the one box that reads them, so that the flow itself runs straight; those of the
    forward part in a backward picture beside their first reader, so that modules keep to themselves.
    """
    readers: dict[str, list[str]] = {}
    for edge in picture.edges:
        readers.setdefault(edge.tail, []).append(edge.head)
    return [
        f"  {{ rank=same; {id_}; {found[0]} }}"
        for id_, found in readers.items()
        if picture.vertices[id_].pale or (
            picture.vertices[id_].role in ("state", "constant")
            and len(found) == 1
            and picture.vertices[found[0]].phase == picture.vertices[id_].phase
        )
    ]


def _rung_lines(picture: Picture) -> list[str]:
    """Equal heights, and an invisible arrow that puts the forward box to the left."""
    present = [c for c in COLUMNS if any(v.phase == c for v in picture.vertices.values())]
    heads = " -> ".join(f"head_{column}" for column in present)
    lines = [f"  {{ rank=min; {heads} [style=invis, weight=1000] }}"]
    lines += [f"  {{ rank=same; {f} -> {b} [style=invis] }}" for f, b in rungs(picture)]
    return lines + [f"  {{ rank=same; {b}; {u} }}" for b, u in update_rungs(picture)]


def _attributes(attrs: Mapping[str, str], separator: str = ", ") -> str:
    return separator.join(f"{name}={quoted(value)}" for name, value in attrs.items())
