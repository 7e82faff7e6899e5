"""Contractions at one point: an element of a matrix product, of a convolution or of its adjoints, by loops of its own.

All convolutions are parts of one trilinear form (see `dlc.ops.convolution`): an element sums over the indices that it
does not have, where they meet an image element that is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from dlc.backends.axes import is_one
from dlc.backends.emitter import LoopEmitter
from dlc.backends.expressions import literal, multiply_add
from dlc.dims import DimLike
from dlc.ir import Node

Index = Sequence[str]


def matmul(k: LoopEmitter, node: Node, index: Index) -> str:
    """The sum over the last axis of the first operand and the last but one of the second."""
    a, b = node.inputs
    *batch, row, column = index

    def add(total: str, at: Index) -> None:
        _add(k, node, total, k.element(a, [*batch, row, *at]), k.element(b, [*batch, *at, column]))

    return _sum(k, node, a.shape[-1:], add)


def conv2d(k: LoopEmitter, node: Node, index: Index) -> str:
    """Over the channels of a group and the places of the kernel: image elements times weights."""
    x, w = node.inputs
    n, o, *pixel = index
    group = k.let(f"{o} // {k.dim(node.shape[1] // node.attrs['groups'])}")

    def add(total: str, at: Index) -> None:
        channel = k.let(f"{group} * {k.dim(w.shape[1])} + {at[0]}")
        with _inside(k, node, x, pixel, at[1:]) as place:
            _add(k, node, total, k.element(x, [n, channel, *place]), k.element(w, [o, *at]))

    return _sum(k, node, w.shape[1:], add)


def conv2d_weight_gradient(k: LoopEmitter, node: Node, index: Index) -> str:
    """Over images and pixels: image elements times the gradients of the results that they took part in."""
    x, g = node.inputs
    o, i, *kernel_place = index
    group = k.let(f"{o} // {k.dim(node.shape[0] // node.attrs['groups'])}")
    channel = k.let(f"{group} * {k.dim(node.shape[1])} + {i}")

    def add(total: str, at: Index) -> None:
        n, *pixel = at
        with _inside(k, node, x, pixel, kernel_place) as place:
            _add(k, node, total, k.element(x, [n, channel, *place]), k.element(g, [n, o, *pixel]))

    return _sum(k, node, (g.shape[0], *g.shape[2:]), add)


def conv2d_data_gradient(k: LoopEmitter, node: Node, index: Index) -> str:
    """Over the filters of a group and the places of the kernel: gradients of the pixels whose window this one is in."""
    g, w = node.inputs
    n, c, *pixel = index
    filters = w.shape[0] // node.attrs["groups"]
    group = k.let(f"{c} // {k.dim(w.shape[1])}")
    i = k.let(f"{c} - {k.let(f'{group} * {k.dim(w.shape[1])}')}")

    def add(total: str, at: Index) -> None:
        o = k.let(f"{group} * {k.dim(filters)} + {at[0]}")
        with _windows(k, node, g, pixel, at[1:]) as place:
            _add(k, node, total, k.element(g, [n, o, *place]), k.element(w, [o, i, *at[1:]]))

    return _sum(k, node, (filters, *w.shape[2:]), add)


POINT_PRODUCTS: dict[str, Callable[[LoopEmitter, Node, Index], str]] = {
    "matmul": matmul,
    "conv2d": conv2d,
    "conv2d_data_gradient": conv2d_data_gradient,
    "conv2d_weight_gradient": conv2d_weight_gradient,
}


def _sum(k: LoopEmitter, node: Node, extents: Sequence[DimLike], add: Callable[[str, Index], None]) -> str:
    """The name of a total that `add` adds to inside loops over `extents`, in order."""
    total = k.fresh("a")
    k.line(f"{total} = {literal(0, node.dtype)}")
    with ExitStack() as loops:
        at = ["0" if is_one(d) else loops.enter_context(k.loop(k.dim(d))) for d in extents]
        add(total, at)
    return total


def _add(k: LoopEmitter, node: Node, total: str, x: str, y: str) -> None:
    k.line(f"{total} = {multiply_add(total, x, y, node.dtype)}")


@contextmanager
def _inside(k: LoopEmitter, node: Node, x: Node, pixel: Index, place: Index) -> Iterator[list[str]]:
    """The branch of an image element under a place of the kernel at a pixel, unless it is padding; gives its index."""
    index, conditions = [], []
    for p, at, stride, gap, (pad, _), extent in zip(pixel, place, *_geometry(node), x.shape[2:], strict=True):
        i = k.let(f"{p} * {stride} + {at} * {gap} - {pad}")
        index.append(i)
        conditions.append(f"({i} >= 0) & ({i} < {k.dim(extent)})")
    with k.block(f"if {k.let(' & '.join(conditions))}:", guard=True):
        yield index


@contextmanager
def _windows(k: LoopEmitter, node: Node, g: Node, pixel: Index, place: Index) -> Iterator[list[str]]:
    """A branch for the result whose window has an image element under a place of the kernel, if one does."""
    index, conditions = [], []
    for p, at, stride, gap, (pad, _), extent in zip(pixel, place, *_geometry(node), g.shape[2:], strict=True):
        first = k.let(f"{p} + {pad} - {at} * {gap}")
        i = first if stride == 1 else k.let(f"{first} // {stride}")
        whole = "" if stride == 1 else f" & ({first} % {stride} == 0)"
        index.append(i)
        conditions.append(f"({first} >= 0) & ({i} < {k.dim(extent)}){whole}")
    with k.block(f"if {k.let(' & '.join(conditions))}:", guard=True):
        yield index


def _geometry(node: Node) -> tuple[Sequence[int], Sequence[int], Sequence[tuple[int, int]]]:
    return node.attrs["stride"], node.attrs["dilation"], node.attrs["padding"]
