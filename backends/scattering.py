"""Rows set at computed places: a copy, then one row after the other, so that the last of equal places wins."""

from __future__ import annotations

from collections.abc import Sequence

from dlc.backends.emitter import LoopEmitter
from dlc.dims import product
from dlc.ir import Node


def put(k: LoopEmitter, node: Node, outputs: Sequence[Node], targets: Sequence[str]) -> None:
    """Rows of x[N, D] set to values [M, D] at indices [M]."""
    x, indices, values = node.inputs
    (y,) = targets
    n, width = k.dim(x.shape[0]), k.dim(x.shape[1])
    with k.loop(k.dim(product(x.shape)), independent=True) as i:
        k.line(f"{y}[{i}] = {k.leaves[x]}[{i}]")
    with k.loop(k.dim(indices.shape[0])) as row:
        at = k.let(f"int64({k.let(f'{k.leaves[indices]}[{row}]', loads=True)})")
        holds = k.let(f"(0 <= {at}) & ({at} < {n})")
        k.check(node, holds, at, n)
        with k.block(f"if {holds}:", guard=True), k.loop(width, independent=True) as i:
            k.line(f"{y}[{at} * {width} + {i}] = {k.leaves[values]}[{row} * {width} + {i}]")
