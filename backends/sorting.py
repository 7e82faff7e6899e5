"""Stable sorting of positions by merging: runs of doubling length, between the result and an array beside it."""

from __future__ import annotations

from collections.abc import Sequence

from dlc.backends.emitter import LoopEmitter
from dlc.dims import product
from dlc.dtypes import FLOATING
from dlc.ir import Node


def argsort(k: LoopEmitter, node: Node, outputs: Sequence[Node], targets: Sequence[str]) -> None:
    """A task for each line along the axis. Of two runs the right one's head is taken only if it must come first."""
    (x,) = node.inputs
    axis, shape = node.attrs["axis"], node.shape
    count, tail = k.dim(shape[axis]), k.dim(product(shape[axis + 1 :]))
    source, (y,) = k.leaves[x], targets
    beside = k.shared("int64", product(shape))
    with k.tasks(product((*shape[:axis], *shape[axis + 1 :]))) as line:
        first = k.let(f"{line} // {tail} * ({count} * {tail}) + {line} % {tail}")
        with k.loop(count) as i:
            k.line(f"{y}[{first} + {i} * {tail}] = int64({i})")
        width, low, middle, high, left, right, go = (k.fresh("t") for _ in range(7))
        k.line(f"{width} = 1")
        with k.block(f"while {width} < {count}:"):
            with k.loop(count, step=f"2 * {width}") as start:
                k.line(f"{low} = int64({start})")
                k.line(f"{middle} = lesser({low} + {width}, {count})")
                k.line(f"{high} = lesser({middle} + {width}, {count})")
                k.line(f"{left} = {low}")
                k.line(f"{right} = {middle}")
                with k.loop(high, low) as place:
                    at = f"{first} + {place} * {tail}"
                    a, b = k.fresh("t"), k.fresh("t")
                    k.line(f"{a} = {y}[{first} + lesser({left}, {middle} - 1) * {tail}]")
                    k.line(f"{b} = {y}[{first} + lesser({right}, {high} - 1) * {tail}]")
                    u, v = (f"{source}[{first} + {i} * {tail}]" for i in (a, b))
                    before = _before(u, v, x.dtype, node.attrs["descending"])
                    k.line(f"{go} = ({left} >= {middle}) | (({right} < {high}) & {before})")
                    k.line(f"{beside}[{at}] = select({go}, {b}, {a})")
                    k.line(f"{right} = {right} + int64({go})")
                    k.line(f"{left} = {left} + int64(1) - int64({go})")
            with k.loop(count) as i:
                k.line(f"{y}[{first} + {i} * {tail}] = {beside}[{first} + {i} * {tail}]")
            k.line(f"{width} = 2 * {width}")


def _before(u: str, v: str, dtype: str, descending: bool) -> str:
    """Whether v must come before u, which stands first; NaN is above all numbers."""
    if descending:
        u, v = v, u
    smaller = f"({v} < {u})"
    return f"({smaller} | (isnan({u}) & ({v} == {v})))" if dtype in FLOATING else smaller
