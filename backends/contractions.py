"""The two inner loops of contractions that are written as plain loops.

Where an operand runs along a row of the result, a few rows of accumulators are updated by outer products
(`outer_products`); where both operands run along the axis that is summed, a small tile of dot products is kept in
registers (`dot_products`). What lies beyond the last row or column of a tile repeats it, and is not stored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

from dlc.backends.emitter import LANES, LoopEmitter
from dlc.backends.expressions import literal, multiply_add
from dlc.dims import DimLike
from dlc.ir import Node
from dlc.ops.definition import Kind
from dlc.ops.fused import heavy_node

ROWS = 4  # rows, columns and steps of a register tile

Text = Callable[..., str]


def contraction(node: Node) -> Node:
    """The contraction that a kernel is built around."""
    heavy = node if node.op.kind is Kind.CONTRACT else heavy_node(node.attrs["body"])
    assert heavy is not None
    return heavy


def at_most(k: LoopEmitter, index: str, extent: str) -> str:
    """An index, or the last one where it lies beyond."""
    return k.let(f"lesser({index}, {extent} - 1)")


def fewer(limit: int, d: DimLike) -> int:
    """`limit`, or a dim that is known to be smaller."""
    return max(1, min(limit, d)) if isinstance(d, int) else limit


def clear(k: LoopEmitter, array: str, dtype: str, rows: str, pitch: int, width: str) -> None:
    """Zeros in the first `width` elements of some rows of local memory."""
    with k.loop(rows) as r, k.loop(width, independent=True) as j:
        k.line(f"{array}[{k.let(f'{r} * {pitch}')} + {j}] = {literal(0, dtype)}")


# ---------------------------------------------------------------- the two inner loops


def outer_products(
    k: LoopEmitter,
    dtype: str,
    total: str,
    offset: str,
    rows: int,
    pitch: int,
    bounds: tuple[str, str],
    width: str,
    a: Text,
    b: Text,
) -> None:
    """total[offset + r * pitch + j] += sum of a(r, s) * b(s, j) over s within bounds, j < width, for all r < rows."""
    first, stop = bounds
    even = k.let(f"{first} + (({stop} - {first}) & {-ROWS})")
    for begin, end, steps in ((first, even, ROWS), (even, stop, 1)):
        with k.loop(end, begin, str(steps)) as s:
            at = [s if u == 0 else k.let(f"{s} + {u}") for u in range(steps)]
            factors = [[a(r, x) for x in at] for r in range(rows)]
            with k.loop(width, independent=True) as j:
                row = [b(x, j) for x in at]
                for r in range(rows):
                    place = f"{total}[{k.let(f'{offset} + {r * pitch}')} + {j}]"
                    total_of = place
                    for x, y in zip(factors[r], row, strict=True):
                        total_of = multiply_add(total_of, x, y, dtype)
                    k.line(f"{place} = {total_of}")


def dot_products(
    k: LoopEmitter,
    dtype: str,
    rows: int,
    columns: int,
    bounds: tuple[str, str],
    extent: DimLike | None,
    a: Text,
    b: Text,
) -> list[list[str]]:
    """A tile of names of sums of a(r, s) * b(c, s) over s within bounds (of `extent`: see `LoopEmitter.sums`)."""

    def add(places: Sequence[str], s: str) -> None:
        xs, ys = [a(r, s) for r in range(rows)], [b(c, s) for c in range(columns)]
        for place, (x, y) in zip(places, product(xs, ys), strict=True):
            k.line(f"{place} = {multiply_add(place, x, y, dtype)}")

    lanes = LANES if rows * columns == 1 else k.target.lanes(dtype)
    tile = k.sums([dtype] * (rows * columns), bounds, extent, add, lanes)
    return [tile[r * columns : (r + 1) * columns] for r in range(rows)]


def add_tile(k: LoopEmitter, total: str, offset: str, pitch: int, tile: list[list[str]]) -> None:
    """Add a tile of dot products to a matrix of local memory, whose rows are `pitch` apart."""
    for r, row in enumerate(tile):
        for c, name in enumerate(row):
            place = f"{total}[{offset} + {r * pitch + c}]"
            k.line(f"{place} = {place} + {name}")
