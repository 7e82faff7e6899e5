"""One task an element: the kernels of machines that run one task a thread and have no vectors.

A task computes one element of the results, or the few that share a reduction, and asks for all it needs by loops of its
own. Neighbouring tasks compute neighbouring elements, so that their loads and stores coalesce.
"""

from __future__ import annotations

from collections.abc import Sequence

from dlc.backends.axes import grouped, is_one, merged, reach
from dlc.backends.emitter import LoopEmitter, put
from dlc.backends.expressions import literal, narrowed, plus
from dlc.backends.nests import nest, store
from dlc.dims import product
from dlc.errors import UnsupportedError
from dlc.ir import Node
from dlc.ops.definition import Kind


def points(k: LoopEmitter, node: Node, outputs: Sequence[Node], targets: Sequence[str]) -> None:
    """Tasks over the domain of the results, last axis fastest; every element is computed before any is stored.

    Axes that a reduction inside is broadcast along are walked within the task, so that it is computed once.
    """
    shape = outputs[0].shape
    nodes = node.attrs["body"].nodes if node.op.kind is Kind.FUSED else (node,)
    product_node = next((n for n in nodes if n.op.kind is Kind.CONTRACT), None)
    if any(n.shape != shape for n in (*outputs, *([product_node] if product_node else []))):
        raise UnsupportedError(f"one kernel's results have one shape, not {', '.join(str(n.shape) for n in outputs)}")
    if product_node is not None and product_node.op.name != "matmul":
        raise UnsupportedError(f"one task an element has no code for {product_node.op.name}")
    axes = [a for a in range(len(shape)) if not is_one(shape[a])]
    if product_node is not None:
        groups, inner = [[a] for a in axes], []
    else:
        found = merged(reach(n, k.leaves) for n in outputs)
        shared = _shared_axes(nodes, outputs, axes)
        groups = grouped([a for a in axes if a not in shared], shape, found)
        inner = grouped(sorted(shared), shape, found)
    with k.tasks(product(shape[a] for group in groups for a in group)) as rest:
        index = ["0"] * len(shape)
        for group in reversed(groups[1:]):
            extent = k.dim(product(shape[a] for a in group))
            index = put(index, group, k.let(f"{rest} % {extent}"))
            rest = k.let(f"{rest} // {extent}")
        if groups:
            index = put(index, groups[0], rest)
        with nest(k, index, inner, shape) as place:
            if product_node is not None:
                k.provide(product_node, place, _dot_product(k, product_node, place))
            store(k, outputs, targets, place)


def _shared_axes(nodes: Sequence[Node], outputs: Sequence[Node], axes: Sequence[int]) -> set[int]:
    """The domain axes along which the result of a reduction is read again and again."""
    shared: set[int] = set()
    for reduced in nodes:
        if reduced.op.kind is Kind.REDUCE:
            for places in (p for n in outputs for p in reach(n, {reduced: ""}).operands):
                shared.update(a for a in axes if a not in places)
    return shared


def _dot_product(k: LoopEmitter, heavy: Node, index: Sequence[str]) -> str:
    """The name of one element of a matrix product, added up in order."""
    a, b = heavy.inputs
    *batch, row, column = index
    total = k.fresh("a")
    k.line(f"{total} = {literal(0, heavy.dtype)}")
    with k.loop(k.dim(a.shape[-1]), independent=True) as i:
        at = "0" if is_one(a.shape[-1]) else i
        term = narrowed(f"{k.element(a, [*batch, row, at])} * {k.element(b, [*batch, at, column])}", heavy.dtype)
        k.line(f"{total} = {plus(total, term, heavy.dtype)}")
    return total
