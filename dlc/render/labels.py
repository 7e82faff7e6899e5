"""What stands in the boxes of a picture, as plain text, and how text becomes safe DOT."""

from __future__ import annotations

import html
import itertools
from collections.abc import Iterable, Sequence

import numpy as np

from dlc.ir import Graph, Leaf, Literal, Node
from dlc.ops.definition import Kind
from dlc.printer import attribute_text
from dlc.provenance import Origin

NAME_LIMIT = 48  # characters of a name that a box shows
LINE_LIMIT = 30  # characters in a line of attributes
ATTRIBUTE_LINES = 3
BODY_LINES = 8  # ops of a fused or looped body that are listed
_SHOWN_BY_THE_TYPE = frozenset({"shape"})
_ARITHMETIC = {
    "add": "{} + {}", "subtract": "{} - {}", "multiply": "{}·{}", "divide": "{} / {}", "maximum": "max({}, {})"
}  # fmt: skip
_NEUTRAL = {"stride": 1, "strides": 1, "dilation": 1, "dilations": 1, "groups": 1, "padding": 0}  # these say nothing


def plain(text: str, limit: int = NAME_LIMIT) -> str:
    """`text` on one line, with characters that do not print written as escapes, and the middle of long ones left out.

    >>> plain("a\\nb"), plain("x" * 60, limit=9)
    ('a\\\\nb', 'xxxx…xxxx')
    """
    if len(text) > 4 * limit:  # cut first, so that a name of a million characters costs nothing
        text = text[: 2 * limit] + text[-2 * limit :]
    if text.isprintable() and len(text) <= limit:
        return text
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    if len(shown) <= limit:
        return shown
    head = limit // 2
    return f"{shown[:head]}…{shown[len(shown) - (limit - head - 1) :]}"


def quoted(*lines: str) -> str:
    """Lines of text as a DOT string: quotes, backslashes and HTML entities stand for themselves.

    >>> print(quoted('say "hi"', "a&b"))
    "say \\"hi\\"\\na&amp;b"
    """
    safe = (line.replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"') for line in lines)
    return '"' + "\\n".join(safe) + '"'


def html_text(text: str) -> str:
    """Text for the inside of an HTML-like label."""
    return html.escape(plain(text, limit=200), quote=False)


def scalar_text(node: Node) -> str | None:
    """What a box shows in place of an operand: the value of a constant with one value, or arithmetic on the sizes of
    named dims, seen through views of it; None for any other node.
    """
    while node.op.name in ("broadcast_to", "reshape"):
        (node,) = node.inputs
    if node.op.name != "constant":
        return _size_text(node)
    literal = node.attrs["value"]
    assert isinstance(literal, Literal)
    if literal.array.ndim:
        return None
    value = literal.array.item()
    return f"{value:.6g}" if isinstance(value, float) else str(value).lower()


def _size_text(node: Node) -> str | None:
    """A scalar made of the sizes of named dims alone, such as the number of samples; None where that is long."""
    if node.op.name == "size_of":
        return plain(str(node.attrs["size"]), LINE_LIMIT)
    form = _ARITHMETIC.get(node.op.name)
    if form is None or not is_scalar(node) or not any(_size_text(x) for x in node.inputs):
        return None
    parts = [scalar_text(x) for x in node.inputs]
    if any(part is None for part in parts):
        return None
    nested = node.op.name != "maximum"
    text = form.format(*(f"({part})" if nested and " " in str(part) else part for part in parts))
    return text if len(text) <= LINE_LIMIT else None


def leaf_lines(leaf: Node, view: Node) -> tuple[str, ...]:
    """Name and type of an input, a state, an ambient value or a constant array, and the views of it up to `view`."""
    if leaf.leaf is not None:
        name = plain(leaf.leaf.name)
    else:
        value = leaf.attrs["value"]
        small = isinstance(value, Literal) and value.array.size <= 4
        name = attribute_text(value) if small else "constant"
    views: list[Node] = []
    while view is not leaf:
        views.append(view)
        (view,) = view.inputs
    shown = str(views[0].type if views else leaf.type)
    if len(views) > 1 and all(v.op.name == "permute_dims" for v in views):
        axes = tuple(range(leaf.type.ndim))
        for v in reversed(views):
            axes = tuple(axes[i] for i in v.attrs["axes"])
        moved = axes != tuple(range(leaf.type.ndim))
        return (name, *([f"permute_dims axes={attribute_text(axes)}"] if moved else []), shown)
    if len(views) > 1:
        return (name, plain(", ".join(v.op.name for v in reversed(views))), shown)
    return (name, *(" ".join(op_lines(v, ())) for v in views), shown)


def op_lines(node: Node, operands: Sequence[str | None]) -> tuple[str, ...]:
    """The op, with the operands that are written into the box instead of drawn, its attributes and its bodies' ops."""
    inline = f"({', '.join('·' if x is None else x for x in operands)})" if any(operands) else ""
    own = frozenset({"name", "explicit"}) if node.op.name == "call" else frozenset()
    attrs = [
        f"{name}={attribute_text(value)}"
        for name, value in node.attrs.items()
        if not isinstance(value, (Graph, Leaf, Literal)) and name not in (_SHOWN_BY_THE_TYPE | own)
        if value is not None and not _is_neutral(name, value)
    ]
    title = f"call of {node.attrs['name']}" if own else node.op.name
    lines = [plain(title + inline), *_wrapped(attrs)]
    for name, value in node.attrs.items():
        if isinstance(value, Graph):
            lines += body_lines(value, name)
    return tuple(lines)


def body_lines(body: Graph, name: str) -> list[str]:
    """The ops of a body graph, runs of equal ones counted, one a line."""
    ops = runs(n.op.name for n in body.nodes if n.op.kind not in (Kind.LEAF, Kind.ITEM))
    rest = [f"… {len(ops) - BODY_LINES + 1} more"] if len(ops) > BODY_LINES else []
    listed = ops[: BODY_LINES - 1] + rest if rest else ops
    return [f"{plain(name, 16)}:", *(f"· {op}" for op in listed)]


def runs(names: Iterable[str]) -> list[str]:
    """Names with runs of equal ones counted.

    >>> runs(["add", "add", "relu"])
    ['add ×2', 'relu']
    """
    counted = [(name, sum(1 for _ in group)) for name, group in itertools.groupby(names)]
    return [plain(name) if count == 1 else f"{plain(name)} ×{count}" for name, count in counted]


def tooltip(origin: Origin | None, type_: object) -> str:
    """What an SVG shows under the pointer: the type and the user's line, without the folders it lies in."""
    if origin is None:
        return str(type_)
    file = origin.file.replace("\\", "/").rpartition("/")[2]
    module = f" in {plain(origin.module)}" if origin.module else ""
    return f"{type_} at {plain(file)}:{origin.line}{module}"


def _is_neutral(name: str, value: object) -> bool:
    if isinstance(value, tuple):
        return all(_is_neutral(name, item) for item in value)
    return name in _NEUTRAL and value == _NEUTRAL[name]


def _wrapped(items: Iterable[str]) -> list[str]:
    """Attributes in lines of a readable length; what does not fit is counted out with an ellipsis."""
    lines: list[str] = []
    for item in (plain(i, LINE_LIMIT) for i in items):
        if lines and len(lines[-1]) + 2 + len(item) <= LINE_LIMIT:
            lines[-1] += ", " + item
        else:
            lines.append(item)
    return lines if len(lines) <= ATTRIBUTE_LINES else [*lines[:ATTRIBUTE_LINES], "…"]


def count(number: int, noun: str) -> str:
    """"1 op", "3 ops"."""
    return f"{number} {noun}{'s' * (number != 1)}"


def is_scalar(node: Node) -> bool:
    """Whether the node's value has no axes."""
    return bool(np.size(getattr(node.type, "shape", (0,))) == 0)
