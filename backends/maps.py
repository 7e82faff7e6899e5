"""Maps: kernels that compute the elements of their results one after the other, and rows' reductions on the way."""

from __future__ import annotations

from collections.abc import Sequence

from dlc.backends.axes import Reach, grouped, merged, reach
from dlc.backends.emitter import IN_ORDER, Ahead, LoopEmitter
from dlc.backends.expressions import is_costly
from dlc.backends.nests import nest, store
from dlc.dims import Shape, product
from dlc.ir import Graph, Node
from dlc.ops.definition import Kind
from dlc.passes.index_places import Place, body_loops, root_place, walked_axes

ROW = 4096  # elements of a row, at most, that are kept instead of computed twice


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
        if outer and len(inner) == 1:
            _reduce(k, node.attrs["body"], [outputs[i] for i in whole], [targets[i] for i in whole], row, inner[0])
        with nest(k, row, inner, shape, tasks=not outer) as index:
            store(k, [outputs[i] for i in whole], [targets[i] for i in whole], index)
        once = [i for i in range(len(outputs)) if i not in whole]
        indices = [["0" if t is None else row[t] for t in _walked_by(places[i])] for i in once]
        store(k, [outputs[i] for i in once], [targets[i] for i in once], *indices)


def _reduce(
    k: LoopEmitter,
    body: Graph,
    outputs: Sequence[Node],
    targets: Sequence[str],
    row: Sequence[str],
    axes: Sequence[int],
) -> None:
    """Run the reductions along a row that is not long, ahead of the loop that stores it.

    Their costly terms that the outputs need again are kept in arrays. While the last one computes, its row being near
    already, the row that is stored next and the operands' next rows are fetched.
    """
    shape = outputs[0].shape
    length = product(shape[a] for a in axes)
    if not isinstance(length, int) or not IN_ORDER < length <= ROW:
        return
    again = {n for n in _beside(outputs) if is_costly(n)}
    along = [n for n in body.nodes if n.op.kind is Kind.REDUCE and _runs_along(k, n, shape, axes)]
    for reduction in along:
        terms = [n for n in _beside(reduction.inputs) if n in again and n not in k.kept]
        ahead = _ahead(k, outputs, targets, row, length) if reduction is along[-1] else []
        if terms or ahead:
            with k.keeping(terms, length, row, axes[-1]), k.fetching(ahead):
                k.element(reduction, [i for a, i in enumerate(row) if a not in reduction.attrs["axes"]])


def _runs_along(k: LoopEmitter, reduction: Node, shape: Shape, axes: Sequence[int]) -> bool:
    """Whether a reduction has a kernel's domain, and reduces just these axes in one loop."""
    (x,) = reduction.inputs
    return x.shape == shape and grouped(reduction.attrs["axes"], shape, reach(x, k.leaves)) == [list(axes)]


def _ahead(
    k: LoopEmitter, outputs: Sequence[Node], targets: Sequence[str], row: Sequence[str], length: int
) -> list[Ahead]:
    """This row of the outputs, and the next row of the operands that have the same shape."""
    shape = outputs[0].shape
    first = k.let(k.flat(row, shape))
    following = k.let(f"{first} + {k.dim(length)}")
    read = [Ahead(name, following, n.dtype, written=False) for n, name in k.leaves.items() if n.shape == shape]
    return read + [Ahead(name, first, n.dtype, written=True) for n, name in zip(outputs, targets, strict=True)]


def _beside(roots: Sequence[Node]) -> list[Node]:
    """The elementwise nodes that computing roots at an index needs at that same index, costly ones without operands."""
    shape, found = roots[0].shape, dict.fromkeys(roots)
    stack = list(roots)
    while stack:
        node = stack.pop()
        if node.op.kind is Kind.ELEMENTWISE and not is_costly(node):
            more = [x for x in node.inputs if x.shape == shape and x not in found]
            found.update(dict.fromkeys(more))
            stack.extend(more)
    return [n for n in found if n.op.kind is Kind.ELEMENTWISE]


def _walked_by(place: Place) -> tuple[int | None, ...]:
    """For each axis the domain axis that walks it; None where it stays at 0."""
    return tuple([t if isinstance(t, int) else None for t in place])
