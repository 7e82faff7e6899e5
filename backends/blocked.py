"""Matrix products on register tiles, blocked for the caches as Goto's and BLIS's are.

The result is cut into blocks, which are the kernel's tasks, and a block into register tiles (`dlc.backends.tiling`).
The sum runs in blocks too, of at most `BLOCK` terms: they are added up in registers, then join the total, so that an
element's bits follow from the shape alone, whatever tile or number of threads computes it on machines that fuse
multiply-adds.

A task copies the columns of its block into panels as wide as a tile, in the order in which tiles read them; then strip
by strip, as high as a tile, the rows. So tiles read nothing but neighbouring memory, and operands may be any
expressions: transposed, broadcast or computed. What follows from a strip is stored right after its last multiplication.

What lies where, in float32 with AVX-512: a strip of 12 rows (24 KB) stays in the first cache while the panels of the
block (`BREADTH` x `BLOCK`: 512 KB) pass by from the second; they are reused by all strips, of `HEIGHT` rows together.
Totals wait beside them (at most 540 KB) where the sum has several blocks. Copying a line costs about 7 cycles, so
packing takes 14 / rows + 14 / columns of the time of multiplying; memory that comes from farther is asked for in time,
while the strip before is multiplied.
"""

from __future__ import annotations

from dlc.backends import packing
from dlc.backends.contractions import clear, dot_products
from dlc.backends.expressions import literal, multiply_add
from dlc.backends.products import COLUMNS, ROWS, Product
from dlc.backends.tiling import tile_shape
from dlc.dims import DimLike
from dlc.dtypes import itemsize

BLOCK = 512  # terms of a sum that are added up before they join the total; part of the numbers' definition
BREADTH = 1024  # bytes of a row of a block, at most
HEIGHT = 528  # rows of a block, at most; 512 in whole strips of any height
FLAT = 96  # the same where there is but one block of columns
FEW = 4  # rows or terms that are not worth copying operands
SHARED = 128  # columns that are worth two tasks


Bounds = tuple[str, str]


def blocked(p: Product) -> None:
    """Blocks of the result are tasks; each packs what it needs of both operands.

    Where rows or terms turn out to be few as the kernel runs, a block is computed without copies.
    """
    k, block = p.k, Block(p)
    named = [k.dim(d) for d in (p.extent(ROWS), p.terms) if not isinstance(d, int)]
    with p.blocks(block.down, block.across) as (row, column):
        strips = block.part(row, block.strips, block.down)
        panels = block.part(column, block.panels, block.across)
        if named:
            rows = block.covered(ROWS, strips, block.tile.rows)
            columns = block.covered(COLUMNS, panels, block.tile.width)
            with k.block(f"if {' | '.join(f'({n} < {FEW})' for n in named)}:", guard=True):
                _row_by_row(p, rows, columns, block.breadth)
        with k.block(f"if {' & '.join(f'({n} >= {FEW})' for n in named) or True}:", guard=True):
            block.compute(strips, panels)


def _row_by_row(p: Product, rows: Bounds, columns: Bounds, breadth: int) -> None:
    """Rows of at most `breadth` totals, one after the other, without copies of operands."""
    k, dtype, terms = p.k, p.heavy.dtype, p.k.dim(p.terms)
    total, part = k.local(dtype, breadth), k.local(dtype, breadth)
    left, width = columns[0], k.let(f"{columns[1]} - {columns[0]}")
    with k.loop(rows[1], rows[0]) as row:
        clear(k, total, dtype, "1", breadth, width)
        with k.loop(terms, step=str(BLOCK)) as begin:
            steps = (begin, k.let(f"lesser({begin} + {BLOCK}, {terms})"))
            if p.dense(COLUMNS):
                clear(k, part, dtype, "1", breadth, width)
                with k.loop(steps[1], steps[0]) as s:
                    x = p.element(ROWS, row, s)
                    with k.loop(width, independent=True) as j:
                        y = p.element(COLUMNS, k.let(f"{left} + {j}"), s)
                        k.line(f"{part}[{j}] = {multiply_add(f'{part}[{j}]', x, y, dtype)}")
            else:
                with k.loop(width) as j:
                    column = k.let(f"{left} + {j}")
                    ((dot,),) = dot_products(
                        k, dtype, 1, 1, steps, p.terms,
                        lambda _, s: p.element(ROWS, row, s), lambda _, s: p.element(COLUMNS, column, s),
                    )  # fmt: skip
                    k.line(f"{part}[{j}] = {dot}")
            with k.loop(width, independent=True) as j:
                k.line(f"{total}[{j}] = {total}[{j}] + {part}[{j}]")
        with k.loop(width, independent=True) as j:
            p.finish(row, k.let(f"{left} + {j}"), f"{total}[{j}]")


def ceiling(count: DimLike, size: int) -> DimLike:
    """How many times `size` holds all of `count`."""
    return (count + (size - 1)) // size


def multiple(d: DimLike, size: int) -> bool:
    """Whether a dim is known to be a multiple of `size`."""
    return isinstance(d, int) and d % size == 0


class Block:
    """A block of a product. `strips` and `panels` are those of all the result, in `down` x `across` blocks."""

    def __init__(self, p: Product) -> None:
        self.p, self.k, self.dtype = p, p.k, p.heavy.dtype
        rows, columns = p.extent(ROWS), p.extent(COLUMNS)
        self.tile = tile_shape(p.k.target, self.dtype, rows, columns)
        self.strips, self.panels = ceiling(rows, self.tile.rows), ceiling(columns, self.tile.width)
        most = BREADTH // itemsize(self.dtype) // self.tile.width
        if isinstance(columns, int) and columns <= 2 * most * self.tile.width:  # in halves, or whole
            most = max(1, -(-columns // self.tile.width // (1 if columns < SHARED else 2)))
        self.across = ceiling(self.panels, most)
        height = FLAT if self.across == 1 else HEIGHT
        self.down = ceiling(self.strips, height // self.tile.rows)
        self.single = isinstance(p.terms, int) and p.terms <= BLOCK
        depth = min(p.terms, BLOCK) if isinstance(p.terms, int) else BLOCK
        self.depth = -(-depth // self.tile.lanes) * self.tile.lanes  # of a block of the sum, at most
        self.breadth = most * self.tile.width
        self.height = 1 if self.single else height // self.tile.rows  # strips of totals
        self.panel = self.depth * self.tile.width + 3 * self.tile.lanes  # panels do not lie whole pages apart

    def part(self, index: str, count: DimLike, parts: DimLike) -> Bounds:
        """The bounds of one of `parts` nearly equal parts of `count`."""
        k, n, of = self.k, self.k.dim(count), self.k.dim(parts)
        if of == "1":
            return "0", n
        following = k.let(f"{index} + 1")
        return k.let(f"{index} * {n} // {of}"), k.let(f"{following} * {n} // {of}")

    def covered(self, side: int, parts: Bounds, size: int) -> Bounds:
        """The bounds of the rows or columns in some strips or panels."""
        k = self.k
        return k.let(f"{parts[0]} * {size}"), k.let(f"lesser({parts[1]} * {size}, {k.dim(self.p.extent(side))})")

    def compute(self, strips: Bounds, panels: Bounds) -> None:
        """For each block of the sum pack the columns; then strip by strip pack the rows, and multiply."""
        p, k, tile = self.p, self.k, self.tile
        self.packed = k.local(self.dtype, self.breadth // tile.width * self.panel)
        self.total = k.local(self.dtype, self.height * tile.rows * self.breadth)
        self.left, self.count = k.let(f"{panels[0]} * {tile.width}"), k.let(f"{panels[1]} - {panels[0]}")
        self.width = k.let(f"lesser({panels[1]} * {tile.width}, {k.dim(p.extent(COLUMNS))}) - {self.left}")
        terms = k.dim(p.terms)
        if self.single:
            self._pack_columns("0", terms)
            with k.loop(strips[1], strips[0]) as strip:
                top = k.let(f"{strip} * {tile.rows}")
                self._multiply(top, "0", "0", terms, "if True:")
                self._finish(top, "0")
            return
        with k.loop(k.let(f"({strips[1]} - {strips[0]}) * {tile.rows * self.breadth}"), independent=True) as i:
            k.line(f"{self.total}[{i}] = {literal(0, self.dtype)}")
        blocks = k.dim(ceiling(p.terms, BLOCK))
        blocks = k.let(f"select({blocks} > 0, {blocks}, 1)")  # a sum of nothing is stored, too
        with k.loop(blocks) as b:
            begin, end = k.let(f"{b} * {terms} // {blocks}"), k.let(f"({b} + 1) * {terms} // {blocks}")
            steps = k.let(f"{end} - {begin}")
            self._pack_columns(begin, steps)
            whole = f"if {end} == {terms}:"
            with k.loop(strips[1], strips[0]) as strip:
                top = k.let(f"{strip} * {tile.rows}")
                at = k.let(f"({strip} - {strips[0]}) * {tile.rows * self.breadth}")
                self._multiply(top, at, begin, steps, whole)
                with k.block(whole, guard=True):
                    self._finish(top, at)

    def _pack_columns(self, begin: str, steps: str) -> None:
        """The block's columns as panels: in each the columns side by side, the next step behind them."""
        p, k, tile = self.p, self.k, self.tile

        def load(j: str, s: str) -> str:
            return p.element(COLUMNS, k.let(f"{self.left} + {j}"), k.let(f"{begin} + {s}"))

        make = packing.by_steps if p.dense(COLUMNS) else packing.turned
        panels = packing.Panels(self.count, tile.width, tile.lanes, self.panel, tile.width)
        make(k, self.dtype, self.packed, panels, self.width, multiple(p.extent(COLUMNS), tile.width), steps, load)

    def _multiply(self, top: str, at: str, begin: str, steps: str, whole: str) -> None:
        """Pack a strip of rows, and add its products with all panels to the totals at `at`.

        `whole` is the head of what is done when the sums are whole.
        """
        p, k, tile = self.p, self.k, self.tile
        rows = k.dim(p.extent(ROWS))

        def load(r: str, s: str) -> str:
            return p.element(ROWS, k.let(f"{top} + {r}"), k.let(f"{begin} + {s}"))

        if p.dense(ROWS):  # whole vectors are copied, though a strip may be a little less
            half = max(1, tile.lanes // 2)
            row, step, width = 1, tile.rows, -(-tile.rows // half) * half
            strip = k.local(self.dtype, step * self.depth + half)
            height, panels = k.let(f"lesser({width}, {rows} - {top})"), packing.Panels("1", width, tile.lanes, 0, step)
            packing.by_steps(k, self.dtype, strip, panels, height, False, steps, load)
        else:
            row, step = self.depth + tile.lanes, 1
            strip = k.local(self.dtype, tile.rows * row)
            final = k.let(f"{rows} - 1 - {top}")
            packing.by_rows(k, strip, str(tile.rows), row, steps, lambda r, s: load(k.let(f"lesser({r}, {final})"), s))
        with k.loop(self.count) as panel:
            self._look_ahead(top, begin, steps, panel, whole)
            base, place = k.let(f"{panel} * {self.panel}"), k.let(f"{at} + {panel} * {tile.width}")
            shape = f"{tile.rows}, {tile.vectors}, {tile.lanes}"
            into = f"{self.total}, {place}, {self.breadth}, {int(self.single)}"
            packed = f"{self.packed}, {base}, {tile.width}"
            k.line(f"multiply({shape}, {strip}, 0, {row}, {step}, {packed}, {steps}, {into})")

    def _look_ahead(self, top: str, begin: str, steps: str, panel: str, whole: str) -> None:
        """Ask for what is needed next: with each panel a part of the following strip, and what will be stored."""
        p, k, tile = self.p, self.k, self.tile
        final = k.let(f"{k.dim(p.extent(ROWS))} - 1")
        following = k.let(f"{panel} + 1")
        first, stop = k.let(f"{panel} * {steps} // {self.count}"), k.let(f"{following} * {steps} // {self.count}")
        if p.dense(ROWS):
            row = k.let(f"lesser({top} + {2 * tile.rows - 1}, {final})")
            with k.loop(stop, first) as s:
                p.fetch(ROWS, row, k.let(f"{begin} + {s}"))
        else:
            with k.loop(str(tile.rows)) as r, k.loop(stop, first, str(tile.lanes)) as s:
                p.fetch(ROWS, k.let(f"lesser({top} + {tile.rows} + {r}, {final})"), k.let(f"{begin} + {s}"))
        with k.block(whole, guard=True), k.loop(str(tile.rows)) as r:
            left = k.let(f"{self.left} + {panel} * {tile.width}")
            for j in range(0, tile.width, tile.lanes):
                p.make_room(k.let(f"lesser({top} + {r}, {final})"), k.let(f"{left} + {j}"))

    def _finish(self, top: str, at: str) -> None:
        """Store what follows from a strip of totals."""
        p, k = self.p, self.k
        rows = k.let(f"lesser({self.tile.rows}, {k.dim(p.extent(ROWS))} - {top})")
        with k.loop(rows) as r, k.loop(self.width, independent=True) as j:
            place = k.let(f"{at} + {r} * {self.breadth}")
            p.finish(k.let(f"{top} + {r}"), k.let(f"{self.left} + {j}"), f"{self.total}[{place} + {j}]")
