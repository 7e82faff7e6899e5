"""Running sums, products, extrema and linear recurrences as loops: neighbouring lines walk along the axis together."""

from __future__ import annotations

from collections.abc import Sequence

from dlc.backends.emitter import LoopEmitter
from dlc.backends.expressions import plus
from dlc.dims import product
from dlc.ir import Node


def cumulative(k: LoopEmitter, node: Node, outputs: Sequence[Node], targets: Sequence[str]) -> None:
    """A task for each index before the axis; each place of the axis is made from the one before, for all lines after.

    Sums of floats are added one after the other, in the order of the axis.
    """
    axis, reverse = node.attrs["axis"], node.attrs["reverse"]
    shape = node.shape
    count, tail = k.dim(shape[axis]), k.dim(product(shape[axis + 1 :]))
    sources = [k.leaves[x] for x in node.inputs]
    (y,) = targets
    with k.tasks(product(shape[:axis])) as row:
        start = k.let(f"{row} * ({count} * {tail})")
        first = k.let(f"{start} + ({count} - 1) * {tail}") if reverse else start
        with k.block(f"if {count} > 0:", guard=True), k.loop(tail, independent=True) as j:
            k.line(f"{y}[{first} + {j}] = {sources[-1]}[{first} + {j}]")
        with k.loop(count, "1") as i:
            at = k.let(f"{first} {'-' if reverse else '+'} {i} * {tail}")
            before = k.let(f"{at} {'+' if reverse else '-'} {tail}")
            with k.loop(tail, independent=True) as j:
                terms = [f"{s}[{at} + {j}]" for s in sources]
                k.line(f"{y}[{at} + {j}] = {_next(node, f'{y}[{before} + {j}]', terms)}")


def _next(node: Node, last: str, terms: list[str]) -> str:
    match node.op.name:
        case "cumulative_sum":
            return plus(last, terms[0], node.dtype)
        case "cumulative_prod":
            return f"multiplied({last}, {terms[0]})"
        case "cumulative_max":
            return f"maximum({last}, {terms[0]})"
        case "cumulative_min":
            return f"minimum({last}, {terms[0]})"
    return f"{terms[0]} * {last} + {terms[1]}"
