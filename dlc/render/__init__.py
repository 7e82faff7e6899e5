"""Graphs as pictures: forward, backward, or both side by side."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from dlc.errors import AttributeValueError, RenderError
from dlc.ir import Graph
from dlc.render.dot import RANK_DIRECTIONS, dot_text
from dlc.render.fold import fold
from dlc.render.layout import FORMATS, TIMEOUT, checked_path, draw, write_atomically
from dlc.render.picture import VIEWS, picture_of

if TYPE_CHECKING:
    import graphviz

__all__ = ["render", "to_dot", "to_graphviz"]


def to_dot(
    graph: Graph, view: str = "forward", *, rankdir: str = "TB", depth: int | None = None, title: str | None = None
) -> str:
    """The graph as DOT text, the same in every process. Arguments and errors as for `render`.

    >>> import dlc
    >>> x = dlc.input("x", ("N", 3))
    >>> print(to_dot(dlc.graph([x], [dlc.exp(x)])).splitlines()[0])
    digraph dlc {
    """
    if not isinstance(graph, Graph):
        raise AttributeValueError(
            f"only a graph can be drawn, not {type(graph).__name__}; make one with dlc.graph(inputs, outputs), "
            "dlc.trace(model, input), or take program.graph"
        )
    _one_of("view", view, tuple(VIEWS))
    _one_of("rankdir", rankdir, RANK_DIRECTIONS)
    if depth is not None and (not isinstance(depth, int) or isinstance(depth, bool) or depth < 1):
        raise AttributeValueError(f"depth={depth!r} is no depth of the module tree; pass an int of at least 1, or None")
    return dot_text(fold(picture_of(graph, view), depth), rankdir=rankdir, title=title)


def to_graphviz(graph: Graph, view: str = "forward", **options: Any) -> graphviz.Source:
    """The graph as an object of the `graphviz` package, which notebooks show. Arguments and errors as for `to_dot`.

    >>> import dlc
    >>> x = dlc.input("x", ("N", 3))
    >>> to_graphviz(dlc.graph([x], [dlc.exp(x)])).source.splitlines()[0]
    'digraph dlc {'
    """
    import graphviz

    return graphviz.Source(to_dot(graph, view, **options))


def render(
    graph: Graph,
    path: str | os.PathLike[str],
    view: str = "forward",
    *,
    rankdir: str = "TB",
    depth: int | None = None,
    title: str | None = None,
    timeout: float = TIMEOUT,
) -> Path:
    """Draw `graph` into the file `path`, whose suffix says the format: .svg, .png, .pdf or .dot. Returns the path.

    `view`: "forward", the values written by the user; "backward", the gradients, with the forward values that they
    use as pale boxes; "joint", both side by side, and the updates of parameters. `rankdir` is the direction of the
    data: "TB" (down), "LR", "BT" or "RL". `depth` draws modules below that depth of the module tree as one box each.
    Above 250 boxes, repeated modules are drawn once, then modules as one box at the largest depth that fits, and the
    picture says so. `timeout` is in seconds.

    Arrows carry types (``f32[N,6,28,28]``). Scalar constants are written into the boxes that use them. The file is
    replaced as a whole or not at all.

    Raises `AttributeValueError` for an unknown view, direction or depth, and `RenderError` when the path does not
    fit, when the graph has no backward part to draw, when time runs out or when no Graphviz is found; in the last two
    cases the DOT text is written beside the picture.

    >>> import dlc, tempfile, os
    >>> a, b = dlc.input("a"), dlc.input("b")
    >>> graph = dlc.graph([a, b], [a * b])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     dlc.render(graph, os.path.join(folder, "product.svg")).name
    'product.svg'
    """
    target = checked_path(path, (*FORMATS, "dot"))
    if not isinstance(timeout, (int, float)) or not timeout > 0:
        raise AttributeValueError(f"timeout={timeout!r} is not a time in seconds; pass a positive number")
    text = to_dot(graph, view, rankdir=rankdir, depth=depth, title=title)
    form = target.suffix.lower().lstrip(".")
    if form == "dot":
        write_atomically(target, text.encode("utf-8"))
        return target
    try:
        data = draw(text, form, timeout=timeout)
    except RenderError as error:
        beside = target.with_suffix(".dot")
        write_atomically(beside, text.encode("utf-8"))
        raise RenderError(f"{error.message}. The graph was written as DOT text to {str(beside)!r}") from error
    write_atomically(target, data)
    return target


def _one_of(name: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        raise AttributeValueError(f"{name}={value!r} is unknown; choose one of {', '.join(map(repr, known))}")


class _CallableModule(ModuleType):
    """`dlc.render` is this package and, called, the function: ``dlc.render(graph, "net.svg")``."""

    def __call__(self, *args: Any, **kwargs: Any) -> Path:
        return render(*args, **kwargs)


sys.modules[__name__].__class__ = _CallableModule
