"""Matrix products as loops, blocked for registers and the first cache, and the two inner loops of all contractions.

Where an operand runs along a row of the result, a few rows of accumulators are updated by outer products
(`outer_products`); where both operands run along the axis that is summed, a small tile of dot products is kept in
registers (`dot_products`). What lies beyond the last row or column of a tile repeats it, and is not stored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dlc.backends.axes import grouped, is_one, merged, reach
from dlc.backends.emitter import CHUNK, LoopEmitter
from dlc.backends.expressions import literal
from dlc.backends.nests import nest, store
from dlc.dims import DimLike
from dlc.ir import Node
from dlc.ops.definition import Kind
from dlc.ops.fused import heavy_node

ROWS = 4  # rows, columns and steps of a register tile
COLUMNS = 256  # elements of a row of accumulators
DEPTH = 1024  # terms of a sum that are added up before they join the total; part of the numbers' definition

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
                    terms = " + ".join(f"{x} * {y}" for x, y in zip(factors[r], row, strict=True))
                    k.line(f"{place} = {place} + {terms}")


def dot_products(
    k: LoopEmitter, dtype: str, rows: int, columns: int, bounds: tuple[str, str], a: Text, b: Text
) -> list[list[str]]:
    """A tile of names of sums of a(r, s) * b(c, s) over s within bounds."""
    tile = [[k.fresh("a") for _ in range(columns)] for _ in range(rows)]
    for name in (name for row in tile for name in row):
        k.line(f"{name} = {literal(0, dtype)}")
    first, stop = bounds
    with k.loop(stop, first, independent=True) as s:
        xs, ys = [a(r, s) for r in range(rows)], [b(c, s) for c in range(columns)]
        for r, x in enumerate(xs):
            for c, y in enumerate(ys):
                k.line(f"{tile[r][c]} = accumulate({tile[r][c]}, {x} * {y})")
    return tile


# ---------------------------------------------------------------- matrix products


@dataclass
class Product:
    """A matrix product under way: `rows` and `columns` are the domain axes that the loops call so."""

    k: LoopEmitter
    heavy: Node
    outputs: Sequence[Node]
    targets: Sequence[str]
    rows: int
    columns: int
    index: list[str]  # batch axes, then M, N, K

    @property
    def shape(self) -> tuple[DimLike, ...]:
        """The dims of the domain: batch axes, M, N, K."""
        a, b = self.heavy.inputs
        return (*a.shape[:-1], b.shape[-1], a.shape[-1])

    def extent(self, axis: int) -> str:
        """The length of a domain axis."""
        return self.k.dim(self.shape[axis])

    def element(self, axis: int, at: str, s: str) -> str:
        """The element that meets step `s` of the sum in row (or column) `at`."""
        batch = self.index[:-3]
        if is_one(self.shape[axis]):
            at = "0"
        if is_one(self.shape[-1]):
            s = "0"
        rows_of_a = axis == len(self.index) - 3
        return (
            self.k.element(self.heavy.inputs[0], [*batch, at, s])
            if rows_of_a
            else self.k.element(self.heavy.inputs[1], [*batch, s, at])
        )

    def finish(self, row: str, column: str, total: str) -> None:
        """Store what follows from one element of the product."""
        place = list(self.index[:-1])
        for axis, at in ((self.rows, row), (self.columns, column)):
            place[axis] = "0" if is_one(self.shape[axis]) else at
        self.k.provide(self.heavy, place, self.k.let(total, loads=True))
        store(self.k, self.outputs, self.targets, place)


def matmul(k: LoopEmitter, node: Node, outputs: Sequence[Node], targets: Sequence[str]) -> None:
    """Loops over the batch; within, outer products along an axis that is dense in an operand, else dot products."""
    heavy = contraction(node)
    a, b = heavy.inputs
    batch = len(a.shape) - 2
    m, n, s = batch, batch + 1, batch + 2
    first = reach(a, k.leaves, (*range(batch), m, s))
    second = reach(b, k.leaves, (*range(batch), s, n))
    after = [reach(x, {**k.leaves, heavy: ""}, (*range(batch), m, n)) for x in outputs]
    shape = (*a.shape[:-1], b.shape[-1], a.shape[-1])
    groups = grouped(range(batch), shape, merged([first, second, *after]))
    across = {
        axis
        for axis, found in ((m, first), (n, second))
        if not is_one(shape[axis]) and found.fastest((s, axis)) == axis
    }
    with nest(k, ["0"] * len(shape), groups, shape, independent=False) as index:
        if n in across or m in across:
            rows, columns = (m, n) if n in across else (n, m)
            _by_rows(Product(k, heavy, outputs, targets, rows, columns, index))
        else:
            _by_dots(Product(k, heavy, outputs, targets, m, n, index))


def _by_rows(p: Product) -> None:
    k, dtype, terms = p.k, p.heavy.dtype, p.shape[-1]
    rows = fewer(ROWS, p.shape[p.rows])
    m, n, depth = p.extent(p.rows), p.extent(p.columns), k.dim(terms)
    long = not (isinstance(terms, int) and terms <= 2 * DEPTH)
    total = k.local(dtype, rows * COLUMNS)
    part = k.local(dtype, rows * COLUMNS) if long else total
    with k.loop(n, step=str(COLUMNS)) as left, k.loop(m, step=str(rows)) as top:
        width = k.let(f"lesser({COLUMNS}, {n} - {left})")
        places = [at_most(k, k.let(f"{top} + {r}"), m) if r else top for r in range(rows)]
        clear(k, total, dtype, str(rows), COLUMNS, width)

        def update(into: str, bounds: tuple[str, str]) -> None:
            outer_products(
                k, into, "0", rows, COLUMNS, bounds, width,
                lambda r, s: p.element(p.rows, places[r], s),
                lambda s, j: p.element(p.columns, k.let(f"{left} + {j}"), s),
            )  # fmt: skip

        if not long:
            update(total, ("0", depth))
        else:
            with k.loop(depth, step=str(DEPTH)) as begin:
                clear(k, part, dtype, str(rows), COLUMNS, width)
                update(part, (begin, k.let(f"lesser({begin} + {DEPTH}, {depth})")))
                with k.loop(str(rows)) as r, k.loop(width, independent=True) as j:
                    place = f"[{k.let(f'{r} * {COLUMNS}')} + {j}]"
                    k.line(f"{total}{place} = {total}{place} + {part}{place}")
        with k.loop(k.let(f"lesser({rows}, {m} - {top})")) as r, k.loop(width, independent=True) as j:
            p.finish(k.let(f"{top} + {r}"), k.let(f"{left} + {j}"), f"{total}[{k.let(f'{r} * {COLUMNS}')} + {j}]")


def _by_dots(p: Product) -> None:
    k, dtype, terms = p.k, p.heavy.dtype, p.shape[-1]
    rows, columns = fewer(ROWS, p.shape[p.rows]), fewer(ROWS, p.shape[p.columns])
    m, n, depth = p.extent(p.rows), p.extent(p.columns), k.dim(terms)
    total = k.local(dtype, rows * columns)
    with k.loop(n, step=str(columns)) as left, k.loop(m, step=str(rows)) as top:
        downs = [at_most(k, k.let(f"{top} + {r}"), m) if r else top for r in range(rows)]
        acrosses = [at_most(k, k.let(f"{left} + {c}"), n) if c else left for c in range(columns)]
        clear(k, total, dtype, "1", 0, str(rows * columns))
        with k.loop(depth, step=str(CHUNK)) as begin:
            end = k.let(f"lesser({begin} + {CHUNK}, {depth})")
            tile = dot_products(
                k, dtype, rows, columns, (begin, end),
                lambda r, s: p.element(p.rows, downs[r], s), lambda c, s: p.element(p.columns, acrosses[c], s),
            )  # fmt: skip
            add_tile(k, total, "0", columns, tile)
        with k.loop(k.let(f"lesser({rows}, {m} - {top})")) as r, k.loop(k.let(f"lesser({columns}, {n} - {left})")) as c:
            p.finish(k.let(f"{top} + {r}"), k.let(f"{left} + {c}"), f"{total}[{k.let(f'{r} * {columns}')} + {c}]")


def add_tile(k: LoopEmitter, total: str, offset: str, pitch: int, tile: list[list[str]]) -> None:
    """Add a tile of dot products to a matrix of local memory, whose rows are `pitch` apart."""
    for r, row in enumerate(tile):
        for c, name in enumerate(row):
            place = f"{total}[{offset} + {r * pitch + c}]"
            k.line(f"{place} = {place} + {name}")
