"""Matrix products: on register tiles where they are large enough to pay for packing, else as loops.

The loops are outer products along an axis that is dense in an operand, else dot products.
"""

from __future__ import annotations

from collections.abc import Sequence

from dlc.backends.blocked import FEW, Bounds, blocked, ceiling
from dlc.backends.contractions import add_tile, at_most, clear, contraction, dot_products, fewer, outer_products
from dlc.backends.emitter import CHUNK, LoopEmitter
from dlc.backends.products import COLUMNS, ROWS, Product
from dlc.ir import Node

HEIGHT = 4  # rows, columns and steps of a register tile of loops
WIDTH = 256  # elements of a row of accumulators
DEPTH = 1024  # terms of a sum that are added up before they join the total; part of the numbers' definition
TASK = 64  # rows of a task, and columns where these are not WIDTH
SMALL = 4096  # multiply-adds that are not worth copying operands
UNKNOWN = 32  # what a dim that is not known counts as


def matmul(k: LoopEmitter, node: Node, outputs: Sequence[Node], targets: Sequence[str]) -> None:
    """The kernel of a matrix product and of what is fused with it."""
    p = Product(k, contraction(node), outputs, targets)
    if _worth_packing(p):
        blocked(p)
        return
    rows, columns = (WIDTH if _along(p) == side else TASK for side in (ROWS, COLUMNS))
    with p.blocks(ceiling(p.extent(ROWS), rows), ceiling(p.extent(COLUMNS), columns)) as at:
        _loops(p, *(_bounds(p, side, at[side], size) for side, size in ((ROWS, rows), (COLUMNS, columns))))


def _worth_packing(p: Product) -> bool:
    sizes = [d if isinstance(d, int) else UNKNOWN for d in (p.extent(ROWS), p.extent(COLUMNS), p.terms)]
    large = sizes[0] * sizes[1] * sizes[2] > SMALL and min(sizes[:2]) >= FEW
    return p.k.target.vector > 0 and large


def _bounds(p: Product, side: int, block: str, size: int) -> Bounds:
    start = p.k.let(f"{block} * {size}")
    return start, p.k.let(f"lesser({start} + {size}, {p.k.dim(p.extent(side))})")


def _along(p: Product) -> int | None:
    """The side along which an operand's memory runs, if there is one."""
    return COLUMNS if p.dense(COLUMNS) else ROWS if p.dense(ROWS) else None


def _loops(p: Product, rows: Bounds, columns: Bounds) -> None:
    """A block of the result, without copies of operands."""
    match _along(p):
        case None:
            _by_dots(p, rows, columns)
        case across:
            _by_rows(p, 1 - across, across, (rows, columns))


def _by_rows(p: Product, down: int, across: int, bounds: tuple[Bounds, Bounds]) -> None:
    """Outer products: `across` is the side along which memory runs."""
    k, dtype = p.k, p.heavy.dtype
    rows = fewer(HEIGHT, p.extent(down))
    m, depth = k.dim(p.extent(down)), k.dim(p.terms)
    (first, bottom), (leftmost, right) = bounds[down], bounds[across]
    long = not (isinstance(p.terms, int) and p.terms <= 2 * DEPTH)
    total = k.local(dtype, rows * WIDTH)
    part = k.local(dtype, rows * WIDTH) if long else total
    with k.loop(right, leftmost, str(WIDTH)) as left, k.loop(bottom, first, str(rows)) as top:
        width = k.let(f"lesser({WIDTH}, {right} - {left})")
        places = [at_most(k, k.let(f"{top} + {r}"), m) if r else top for r in range(rows)]
        clear(k, total, dtype, str(rows), WIDTH, width)

        def update(into: str, bounds: Bounds) -> None:
            outer_products(
                k, dtype, into, "0", rows, WIDTH, bounds, width,
                lambda r, s: p.element(down, places[r], s),
                lambda s, j: p.element(across, k.let(f"{left} + {j}"), s),
            )  # fmt: skip

        if not long:
            update(total, ("0", depth))
        else:
            with k.loop(depth, step=str(DEPTH)) as begin:
                clear(k, part, dtype, str(rows), WIDTH, width)
                update(part, (begin, k.let(f"lesser({begin} + {DEPTH}, {depth})")))
                with k.loop(str(rows)) as r, k.loop(width, independent=True) as j:
                    place = f"[{k.let(f'{r} * {WIDTH}')} + {j}]"
                    k.line(f"{total}{place} = {total}{place} + {part}{place}")
        with k.loop(k.let(f"lesser({rows}, {bottom} - {top})")) as r, k.loop(width, independent=True) as j:
            at = {down: k.let(f"{top} + {r}"), across: k.let(f"{left} + {j}")}
            p.finish(at[ROWS], at[COLUMNS], f"{total}[{k.let(f'{r} * {WIDTH}')} + {j}]")


def _by_dots(p: Product, down: Bounds, across: Bounds) -> None:
    """Tiles of dot products, for operands that both run along the sum."""
    k, dtype = p.k, p.heavy.dtype
    rows, columns = fewer(HEIGHT, p.extent(ROWS)), fewer(HEIGHT, p.extent(COLUMNS))
    m, n, depth = k.dim(p.extent(ROWS)), k.dim(p.extent(COLUMNS)), k.dim(p.terms)
    total = k.local(dtype, rows * columns)
    with k.loop(across[1], across[0], str(columns)) as left, k.loop(down[1], down[0], str(rows)) as top:
        downs = [at_most(k, k.let(f"{top} + {r}"), m) if r else top for r in range(rows)]
        acrosses = [at_most(k, k.let(f"{left} + {c}"), n) if c else left for c in range(columns)]
        clear(k, total, dtype, "1", 0, str(rows * columns))
        with k.loop(depth, step=str(CHUNK)) as begin:
            end = k.let(f"lesser({begin} + {CHUNK}, {depth})")
            tile = dot_products(
                k, dtype, rows, columns, (begin, end), p.terms,
                lambda r, s: p.element(ROWS, downs[r], s), lambda c, s: p.element(COLUMNS, acrosses[c], s),
            )  # fmt: skip
            add_tile(k, total, "0", columns, tile)
        height, width = k.let(f"lesser({rows}, {down[1]} - {top})"), k.let(f"lesser({columns}, {across[1]} - {left})")
        with k.loop(height) as r, k.loop(width) as c:
            p.finish(k.let(f"{top} + {r}"), k.let(f"{left} + {c}"), f"{total}[{k.let(f'{r} * {columns}')} + {c}]")
