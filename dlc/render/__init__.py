"""Graphs as pictures: forward, backward, or both side by side."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from dlc.errors import AttributeValueError, RenderError
from dlc.ir import Graph, Node
from dlc.ops.definition import Kind
from dlc.render.dot import RANK_DIRECTIONS, dot_text
from dlc.render.fold import NODE_BUDGET, beside_readers, fold
from dlc.render.layout import FORMATS, TIMEOUT, checked_path, draw, write_atomically
from dlc.render.picture import VIEWS, kernel_names, picture_of

if TYPE_CHECKING:
    import graphviz

    from dlc.compiler import Program

__all__ = ["render", "to_dot", "to_graphviz"]


def to_dot(
    graph: Graph | Program,
    view: str = "forward",
    *,
    rankdir: str = "TB",
    depth: int | None = None,
    kernels: bool = False,
    title: str | None = None,
    max_boxes: int = NODE_BUDGET,
) -> str:
    """The graph as DOT text, the same in every process. Arguments and errors as for `render`.

    >>> import dlc
    >>> x = dlc.input("x", ("N", 3))
    >>> print(to_dot(dlc.graph([x], [dlc.exp(x)])).splitlines()[0])
    digraph dlc {
    """
    drawn, names = _graph_of(graph, kernels)
    _one_of("view", view, tuple(VIEWS))
    _one_of("rankdir", rankdir, RANK_DIRECTIONS)
    for name, value in (("depth", depth), ("max_boxes", max_boxes)):
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            what = "depth of the module tree" if name == "depth" else "number of boxes"
            raise AttributeValueError(f"{name}={value!r} is no {what}; pass an int of at least 1")
    if kernels and depth is not None:
        raise AttributeValueError("depth= folds modules and kernels=True draws kernels; leave out one of them")
    picture = picture_of(drawn, view, names)
    if kernels and len(picture.vertices) > max_boxes:
        picture = picture_of(drawn, view, names, opened=False)
        note = f"each fused kernel is drawn as one box; max_boxes={4 * max_boxes} opens them"
        picture = replace(picture, notes=(note,))
    return dot_text(beside_readers(fold(picture, depth, max_boxes)), rankdir=rankdir, title=title)


def _graph_of(graph: object, kernels: bool) -> tuple[Graph, dict[Node, str]]:
    """The graph to draw of a graph, a program or a training step, and the names of its kernels where they are shown."""
    from dlc.compiler import Program

    program = getattr(graph, "program", graph)
    if isinstance(program, Program):
        return (program.final, kernel_names(program.final, program.kernels)) if kernels else (program.graph, {})
    if not isinstance(graph, Graph):
        raise AttributeValueError(
            f"only a graph can be drawn, not {type(graph).__name__}; make one with dlc.graph(inputs, outputs), "
            "dlc.trace(model, input), or take program.graph"
        )
    if not kernels:
        return graph, {}
    fused = [node for node in graph.nodes if node.op.kind is Kind.FUSED]
    if not fused:
        raise AttributeValueError(
            "kernels=True draws what a compiled program fused, and nothing in this graph is fused; "
            "pass the program: dlc.render(dlc.compile(graph), path, kernels=True)"
        )
    return graph, {node: f"kernel {i}" for i, node in enumerate(fused)}


def to_graphviz(graph: Graph | Program, view: str = "forward", **options: Any) -> graphviz.Source:
    """The graph as an object of the `graphviz` package, which notebooks show. Arguments and errors as for `to_dot`.

    >>> import dlc
    >>> x = dlc.input("x", ("N", 3))
    >>> to_graphviz(dlc.graph([x], [dlc.exp(x)])).source.splitlines()[0]
    'digraph dlc {'
    """
    import graphviz

    return graphviz.Source(to_dot(graph, view, **options))


def render(
    graph: Graph | Program,
    path: str | os.PathLike[str],
    view: str = "forward",
    *,
    rankdir: str = "TB",
    depth: int | None = None,
    kernels: bool = False,
    title: str | None = None,
    max_boxes: int = NODE_BUDGET,
    timeout: float = TIMEOUT,
) -> Path:
    """Draw `graph` into the file `path`, whose suffix says the format: .svg, .png, .pdf or .dot. Returns the path.

    A program or a training step is drawn too: the graph that it was compiled from.

    `view`: "forward", the values written by the user; "backward", the gradients, with the forward values that they
    use as pale boxes; "joint", both side by side, and the updates of parameters. `rankdir` is the direction of the
    data: "TB" (down), "LR", "BT" or "RL". Frames are modules, with their path and class. `depth` draws modules at that
    depth of the module tree, and those above it that hold no others, as one box each. `kernels` draws a program as it
    runs: a frame for each kernel, around the ops that were fused into it.

    Above `max_boxes` boxes, neighbouring modules that are alike are drawn once (``×12``), then modules as one box at
    the largest depth that fits, then chains of ops; the picture says so. `timeout` is in seconds.

    Arrows carry types (``f32[N,6,28,28]``). Scalar constants, and arithmetic on the sizes of named dims, are
    written into the boxes that use them. The file is
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
    text = to_dot(graph, view, rankdir=rankdir, depth=depth, kernels=kernels, title=title, max_boxes=max_boxes)
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
