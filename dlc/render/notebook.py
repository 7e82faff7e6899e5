"""How notebooks show a graph, a program or a tensor: as a picture where one can be drawn quickly, else as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dlc.errors import RenderError
from dlc.ir import Graph, topological
from dlc.ops.definition import Kind
from dlc.ops.tensor import Tensor, collect_origins

if TYPE_CHECKING:
    from dlc.compiler import Program

TIMEOUT = 10.0  # seconds; a cell's result must not be waited for
MAX_BOXES = 120
MAX_NODES = 2500  # beyond it even folding takes seconds
MIMETYPE = "image/svg+xml"


def mimebundle(drawn: Graph | Program | Tensor, text: str) -> dict[str, str]:
    """What IPython asks an object for: its text, and a picture of `drawn`. Never raises; the text says what is wrong.

    Graphs with gradients are drawn with forward and backward parts side by side. A tensor is drawn with all that it
    was made from; one that was made from nothing is text.

    >>> import dlc
    >>> x = dlc.input("x", ("N", 3))
    >>> sorted(mimebundle(dlc.exp(x), "exp"))
    ['image/svg+xml', 'text/plain']
    """
    bundle = {"text/plain": text}
    if isinstance(drawn, Tensor) and drawn.node.op.kind is Kind.LEAF:
        return bundle
    try:
        bundle[MIMETYPE] = _svg(drawn)
    except Exception as error:  # a traceback would hide the object for what is only its picture
        reason = " ".join(str(getattr(error, "message", error)).split())
        bundle["text/plain"] = f"{text}\n(no picture: {reason})"
    return bundle


def _svg(drawn: Graph | Program | Tensor) -> str:
    from dlc.render import to_dot
    from dlc.render.layout import draw
    from dlc.render.picture import phases_of

    graph = _graph_below(drawn) if isinstance(drawn, Tensor) else drawn if isinstance(drawn, Graph) else drawn.graph
    if len(graph.nodes) > MAX_NODES:
        raise RenderError(
            f"{len(graph.nodes)} nodes take long to draw; dlc.render(graph, 'graph.svg') draws them into a file"
        )
    view = "joint" if "backward" in phases_of(graph).values() else "forward"
    return draw(to_dot(graph, view, max_boxes=MAX_BOXES), "svg", timeout=TIMEOUT).decode("utf-8")


def _graph_below(tensor: Tensor) -> Graph:
    inputs = tuple(node for node in topological([tensor.node]) if node.op.name == "input")
    return Graph(inputs, (tensor.node,), (), collect_origins([tensor]))
