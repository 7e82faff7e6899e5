"""Maps: kernels that compute the elements of their results one after the other, and rows' reductions on the way."""

from __future__ import annotations

from collections.abc import Sequence

from dlc.backends.axes import Reach, grouped, merged, reach
from dlc.backends.emitter import LoopEmitter
from dlc.backends.nests import nest, store
from dlc.ir import Node
from dlc.ops.definition import Kind
from dlc.passes.index_places import Place, body_loops, root_place, walked_axes


def map_(k: LoopEmitter, node: Node, outputs: Sequence[Node], targets: Sequence[str]) -> None:
    """Loops over the domain of the first output, outermost axis first, or rows first where reductions run along rows;
    every element is computed before any is stored. Results that are one element a row are stored at its end."""
    shape = outputs[0].shape
    rows, places = body_loops(node.attrs["body"]) if node.op.kind is Kind.FUSED else ((), (root_place(shape),))
    order = walked_axes(shape, rows)
    reached = [reach(n, k.leaves, _walked_by(p)) for n, p in zip(outputs, places, strict=True)]
    found = merged([*reached, Reach([walked_axes(shape)])])
    outer = grouped(order[: len(rows)], shape, found)
    inner = grouped(order[len(rows) :], shape, found)
    whole = [i for i, n in enumerate(outputs) if n.shape == shape]
    with nest(k, ["0"] * len(shape), outer, shape, tasks=True) as row:
        with nest(k, row, inner, shape, tasks=not outer) as index:
            store(k, [outputs[i] for i in whole], [targets[i] for i in whole], index)
        once = [i for i in range(len(outputs)) if i not in whole]
        indices = [["0" if t is None else row[t] for t in _walked_by(places[i])] for i in once]
        store(k, [outputs[i] for i in once], [targets[i] for i in once], *indices)


def _walked_by(place: Place) -> tuple[int | None, ...]:
    """For each axis the domain axis that walks it; None where it stays at 0."""
    return tuple([t if isinstance(t, int) else None for t in place])
