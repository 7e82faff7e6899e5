"""Kernels: one node, plain or fused, as the readable Python source of one function of loops."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from dlc.backends.convolutions import conv2d, conv2d_data_gradient
from dlc.backends.cumulative import cumulative
from dlc.backends.emitter import LoopEmitter, Part
from dlc.backends.expressions import constructor, literal, plus
from dlc.backends.maps import map_
from dlc.backends.matmul import matmul
from dlc.backends.points import points
from dlc.backends.reductions import reduction
from dlc.backends.scattering import put as put_rows
from dlc.backends.sorting import argsort
from dlc.backends.target import Target
from dlc.backends.weight_gradient import conv2d_weight_gradient
from dlc.dims import DimLike, product
from dlc.dtypes import itemsize
from dlc.errors import UnsupportedError
from dlc.ir import Node, TupleType
from dlc.ops.definition import Kind, nbytes
from dlc.ops.fused import heavy_node


@dataclass(frozen=True)
class KernelPart:
    """A function ``kernel(bases, args, begin, end)`` that runs tasks `begin` to `end` of `tasks`, in any division.

    `source` is written in names of the prelude alone. The argument block holds (base, byte offset) of each operand,
    result and scratch array, the node's number for the status block, and the values of `dims`. The parts of a kernel
    are branches of one function, so that a sum is one kernel however long it is: the first of `dims` says which.
    """

    source: str
    dims: tuple[DimLike, ...]
    tasks: DimLike


@dataclass(frozen=True)
class KernelCode:
    """What a node's kernel is and takes: parts to run one after the other.

    `scratch` are the bytes of arrays that live while it runs, `work` is an estimate of its time on one core in
    nanoseconds. A failed check reports as its operand the position of the checking node in the body's `nodes`; 0 where
    the node is not fused.
    """

    parts: tuple[KernelPart, ...]
    scratch: tuple[DimLike, ...]
    work: DimLike

    @property
    def source(self) -> str:
        """The function that all parts share."""
        return self.parts[0].source


Recipe = Callable[[LoopEmitter, Node, Sequence[Node], Sequence[str]], None]


@lru_cache(maxsize=4096)
def emit_kernel(node: Node, target: Target) -> KernelCode:
    """The kernel of one node. Raises `UnsupportedError` where there is no code for it.

    >>> import dlc
    >>> x = dlc.input("x", ("N",))
    >>> print(emit_kernel((x + x).node, Target("cpu", vector=64, registers=32)).parts[0].source)
    def kernel(bases, args, begin, end):
        p0 = pointer_float32(bases, args, 0)
        p2 = pointer_float32(bases, args, 2)
        for i0 in independent(begin, end, 1):
            t0 = p0[i0]
            t1 = t0 + t0
            p2[i0] = t1
    <BLANKLINE>
    """
    body = node.attrs["body"] if node.op.kind is Kind.FUSED else None
    outputs: Sequence[Node] = body.outputs if body else (node,)
    heads = body.inputs if body else node.inputs
    if any(isinstance(n.type, TupleType) for n in (*heads, *outputs)):
        raise UnsupportedError(f"{node.op.name} has several results, which loops do not make")
    operands = len(node.inputs)
    leaves: dict[Node, str] = {}
    for k, x in enumerate(heads):
        leaves.setdefault(x, f"p{k}")
    targets = [f"p{operands + k}" for k in range(len(outputs))]
    ordinals = {n: i for i, n in enumerate(body.nodes if body else (node,))}
    types = [n.type for n in (*node.inputs, *outputs)]
    emitter = LoopEmitter(leaves, ordinals, target, pointers=len(types))
    _recipe(node, body and heavy_node(body), target)(emitter, node, outputs, targets)
    dtypes = [*(t.dtype for t in types), *(dtype for dtype, _ in emitter.scratch)]
    source, several = _assembled(emitter.parts, dtypes), len(emitter.parts) > 1
    parts = tuple(
        [KernelPart(source, (*((i,) if several else ()), *p.dims), p.tasks) for i, p in enumerate(emitter.parts)]
    )
    scratch = tuple([count * itemsize(dtype) for dtype, count in emitter.scratch])
    return KernelCode(parts, scratch, _work(node, body.nodes if body else (node,)))


FLOPS, BYTES = 16, 8  # a nanosecond's worth, on one core


def _work(node: Node, nodes: Sequence[Node]) -> DimLike:
    """About how many nanoseconds one core needs."""
    flops = sum((n.op.flops_and_bytes(n)[0] for n in nodes), start=0)
    moved = sum((nbytes(t) for t in (*(x.type for x in node.inputs), node.type)), start=0)
    return flops // FLOPS + moved // BYTES


def _recipe(node: Node, heavy: Node | None, target: Target) -> Recipe:
    root = heavy or node
    if not target.vector and root.op.kind is not Kind.OPAQUE:
        return points
    match root.op.kind:
        case Kind.REDUCE:
            return reduction
        case Kind.CONTRACT if root.op.name in CONTRACTIONS:
            return CONTRACTIONS[root.op.name]
        case Kind.OPAQUE if root.op.name in OPAQUE:
            return OPAQUE[root.op.name]
        case Kind.ELEMENTWISE | Kind.VIEW | Kind.INDEX | Kind.FUSED:
            return map_
    raise UnsupportedError(f"loops have no code for {root.op.name}")


def _assembled(parts: Sequence[Part], dtypes: Sequence[str]) -> str:
    """The function of a kernel: of several parts the first dim of its argument block says which one runs."""
    used = set(re.findall(r"\bp\d+\b", "\n".join(line for part in parts for line in part.lines)))
    head = [f"p{k} = pointer_{constructor(t)}(bases, args, {k})" for k, t in enumerate(dtypes) if f"p{k}" in used]
    at = 2 * len(dtypes)
    if any(part.checks for part in parts):
        head += ["status = pointer_status(bases)", f"number = args[{at}]"]
    first = at + 1 + (len(parts) > 1)
    bodies = [
        [*(f"{name} = args[{first + i}]" for i, name in enumerate(part.dims.values())), *part.lines] or ["pass"]
        for part in parts
    ]
    lines = head + bodies[0]
    if len(parts) > 1:
        lines = [*head, f"part = args[{at + 1}]"]
        for i, body in enumerate(bodies):
            lines += [f"{'elif' if i else 'if'} part == {i}:", *(f"    {line}" for line in body)]
    return "\n    ".join(["def kernel(bases, args, begin, end):", *lines]) + "\n"


# ---------------------------------------------------------------- ops with code of their own


def _take_adjoint(k: LoopEmitter, node: Node, outputs: Sequence[Node], targets: Sequence[str]) -> None:
    """Zeros, then the slices of the cotangent added one after the other, in the order of the indices."""
    g, indices = node.inputs
    axis, size = node.attrs["axis"], node.attrs["size"]
    lead, count, tail = product(g.shape[:axis]), product(indices.shape), product(g.shape[axis + len(indices.shape) :])
    rows, n, length = k.dim(count), k.dim(size), k.dim(tail)
    zero = literal(0, node.dtype)
    with k.loop(k.dim(product(node.shape)), independent=True) as i:
        k.line(f"{targets[0]}[{i}] = {zero}")
    with k.loop(k.dim(lead)) as outer, k.loop(rows) as row:
        at = k.let(f"int64({k.let(f'{k.leaves[indices]}[{row}]', loads=True)})")
        holds = k.let(f"(0 <= {at}) & ({at} < {n})")
        k.check(node, holds, at, n)
        with k.block(f"if {holds}:", guard=True):
            source = k.let(f"({outer} * {rows} + {row}) * {length}")
            target = k.let(f"({outer} * {n} + {at}) * {length}")
            with k.loop(length, independent=True) as i:
                added = k.let(f"{k.leaves[g]}[{source} + {i}]", loads=True)
                place = f"{targets[0]}[{target} + {i}]"
                k.line(f"{place} = {plus(place, added, node.dtype)}")


CONTRACTIONS: dict[str, Recipe] = {
    "matmul": matmul,
    "conv2d": conv2d,
    "conv2d_data_gradient": conv2d_data_gradient,
    "conv2d_weight_gradient": conv2d_weight_gradient,
}
OPAQUE: dict[str, Recipe] = {
    "take_adjoint": _take_adjoint,
    "cumulative_sum": cumulative,
    "cumulative_prod": cumulative,
    "cumulative_max": cumulative,
    "cumulative_min": cumulative,
    "linear_recurrence": cumulative,
    "argsort": argsort,
    "put": put_rows,
}
