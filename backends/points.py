"""One task an element: the kernels of machines that run one task a thread and have no vectors.

A task computes one element of the results, or the few that share a reduction, and asks for all it needs by loops of its
own. Neighbouring tasks compute neighbouring elements, so that their loads and stores coalesce.
"""

from __future__ import annotations

from collections.abc import Sequence

from dlc.backends.axes import grouped, merged, reach
from dlc.backends.emitter import LoopEmitter, put
from dlc.backends.nests import nest, store
from dlc.backends.point_products import POINT_PRODUCTS
from dlc.dims import Shape, product
from dlc.errors import UnsupportedError
from dlc.ir import Node
from dlc.ops.definition import Kind
from dlc.passes.index_places import body_loops, root_place, walked_axes


def points(k: LoopEmitter, node: Node, outputs: Sequence[Node], targets: Sequence[str]) -> None:
    """Tasks over the domain of the first result, last axis fastest; elements are computed before any is stored.

    Axes that the result of a reduction is broadcast along are walked within the task, so that it is computed once; so
    are those that other results, of one element a row, do not have.
    """
    shape = outputs[0].shape
    body = node.attrs["body"] if node.op.kind is Kind.FUSED else None
    nodes = body.nodes if body else (node,)
    axes = walked_axes(shape)
    heavy = next((n for n in nodes if n.op.kind is Kind.CONTRACT), None)
    if heavy is not None and heavy.op.name not in POINT_PRODUCTS:
        raise UnsupportedError(f"one task an element has no code for {heavy.op.name}")
    places = body_loops(body)[1] if body and len(outputs) > 1 else (root_place(shape),)
    walks = [tuple([a if isinstance(a, int) else None for a in place]) for place in places]
    found = merged(reach(n, k.leaves, walk) for n, walk in zip(outputs, walks, strict=True))
    found.operands.append(axes)  # the results themselves, row-major
    shared = _shared_axes(nodes, outputs, walks, axes)
    groups = [[a] for a in axes] if heavy else grouped([a for a in axes if a not in shared], shape, found)
    inner = [] if heavy else grouped(sorted(shared), shape, found)
    whole = [i for i, n in enumerate(outputs) if n.shape == shape]
    once = [i for i, n in enumerate(outputs) if n.shape != shape]
    with k.tasks(product(shape[a] for group in groups for a in group)) as task:
        row = _index(k, task, groups, shape)
        with nest(k, row, inner, shape) as place:
            if heavy is not None:
                k.provide(heavy, place, POINT_PRODUCTS[heavy.op.name](k, heavy, place))
            store(k, [outputs[i] for i in whole], [targets[i] for i in whole], place)
        for i in once:
            store(k, [outputs[i]], [targets[i]], ["0" if a is None else row[a] for a in walks[i]])


def _index(k: LoopEmitter, task: str, groups: Sequence[Sequence[int]], shape: Shape) -> list[str]:
    """Where a task stands in the domain: its number taken apart, axes that the task walks itself at 0."""
    index = ["0"] * len(shape)
    for group in reversed(groups[1:]):
        extent = k.dim(product(shape[a] for a in group))
        index = put(index, group, k.let(f"{task} % {extent}"))
        task = k.let(f"{task} // {extent}")
    return put(index, groups[0], task) if groups else index


def _shared_axes(
    nodes: Sequence[Node], outputs: Sequence[Node], walks: Sequence[tuple[int | None, ...]], axes: Sequence[int]
) -> set[int]:
    """The domain axes along which a result, or the result of a reduction, stays the same."""
    held = list(walks)
    for reduced in nodes:
        if reduced.op.kind is Kind.REDUCE:
            for n, walk in zip(outputs, walks, strict=True):
                held += reach(n, {reduced: ""}, walk).operands
    return {a for a in axes for walk in held if a not in walk}
