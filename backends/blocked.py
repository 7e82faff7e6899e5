"""Matrix products on register tiles, blocked for the caches as Goto's and BLIS's are.

The result is cut into blocks, which are the kernel's tasks, and a block into register tiles (`dlc.backends.tiling`).
The sum runs in blocks too, of at most `BLOCK` terms: they are added up in registers, then join the total, so that an
element's bits follow from the shape alone, whatever tile or number of threads computes it on machines that fuse
multiply-adds.

A task copies the columns of its block into panels as wide as a tile, in the order in which tiles read them; then strip
by strip, as high as a tile, the rows. So tiles read nothing but neighbouring memory, and operands may be any
expressions: transposed, broadcast or computed. What follows from a strip is stored right after its last multiplication.

What lies where, in float32 with AVX-512: a strip of 12 rows (12 KB) stays in the first cache while the panels of the
block (`BREADTH` x `BLOCK`: 512 KB) pass by from the second; they are reused by all strips, of `HEIGHT` rows together.
Totals wait beside them (at most 540 KB) where the sum has several blocks. Copying a line costs about 7 cycles, so
packing takes 14 / rows + 14 / columns of the time of multiplying; memory that comes from farther is asked for in time,
while the strip before is multiplied, or the steps before are copied. Rows of an operand that runs along them lie whole
pages apart, step by step, and share few places of the caches: a line is read once, for all strips that it crosses.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from dlc.backends import packing
from dlc.backends.contractions import clear, dot_products
from dlc.backends.expressions import literal, multiply_add
from dlc.backends.products import COLUMNS, ROWS, Product
from dlc.backends.tiling import tile_shape
from dlc.dims import DimLike
from dlc.dtypes import itemsize

BLOCK = 256  # terms of a sum that are added up before they join the total; part of the numbers' definition
WHOLE = 512  # so few terms are one block
BREADTH = 2048  # bytes of a row of a block, at most
HEIGHT = 264  # rows of a block, at most
FLAT = 96  # the same where there is but one block of columns
GROUP = 4  # strips that are packed together where whole lines of memory run across them
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
    blocks = _blocks(p)
    with k.loop(rows[1], rows[0]) as row:
        clear(k, total, dtype, "1", breadth, width)
        with k.loop(blocks) as block:
            steps = k.let(f"{block} * {terms} // {blocks}"), k.let(f"({block} + 1) * {terms} // {blocks}")
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
                        k, dtype, 1, 1, steps, p.terms if blocks == "1" else None,
                        lambda _, s: p.element(ROWS, row, s), lambda _, s: p.element(COLUMNS, column, s),
                    )  # fmt: skip
                    k.line(f"{part}[{j}] = {dot}")
            with k.loop(width, independent=True) as j:
                k.line(f"{total}[{j}] = {total}[{j}] + {part}[{j}]")
        with k.loop(width, independent=True) as j:
            p.finish(row, k.let(f"{left} + {j}"), f"{total}[{j}]")


def _blocks(p: Product) -> str:
    """How many blocks the sum is made of; a sum of nothing is one, which is stored, too."""
    k, count = p.k, ceiling(p.terms, BLOCK)
    if isinstance(p.terms, int):
        return "1" if p.terms <= WHOLE else k.dim(count)
    return k.let(f"select({k.dim(p.terms)} > {WHOLE}, {k.dim(count)}, 1)")


def ceiling(count: DimLike, size: int) -> DimLike:
    """How many times `size` holds all of `count`."""
    return (count + (size - 1)) // size


def multiple(d: DimLike, size: int) -> bool:
    """Whether a dim is known to be a multiple of `size`."""
    return isinstance(d, int) and d % size == 0


class Strip(NamedTuple):
    """A strip of rows, packed: element (r, s) at `start + r * row + s * step` of an array."""

    array: str
    start: str
    row: int
    step: int


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
        known = p.terms if isinstance(p.terms, int) else None
        self.single = known is not None and known <= WHOLE
        depth = WHOLE if known is None else known if known <= WHOLE else BLOCK
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
            for top, packed in self._packed_strips(strips, "0", terms):
                self._multiply(top, packed, "0", "0", terms, "if True:")
                self._finish(top, "0")
            return
        with k.loop(k.let(f"({strips[1]} - {strips[0]}) * {tile.rows * self.breadth}"), independent=True) as i:
            k.line(f"{self.total}[{i}] = {literal(0, self.dtype)}")
        blocks = _blocks(p)
        with k.loop(blocks) as b:
            begin, end = k.let(f"{b} * {terms} // {blocks}"), k.let(f"({b} + 1) * {terms} // {blocks}")
            steps = k.let(f"{end} - {begin}")
            self._pack_columns(begin, steps)
            whole = f"if {end} == {terms}:"
            for top, packed in self._packed_strips(strips, begin, steps):
                at = k.let(f"({top} - {strips[0]} * {tile.rows}) * {self.breadth}")
                self._multiply(top, packed, at, begin, steps, whole)
                with k.block(whole, guard=True):
                    self._finish(top, at)

    def _pack_columns(self, begin: str, steps: str) -> None:
        """The block's columns as panels: in each the columns side by side, the next step behind them."""
        p, k, tile = self.p, self.k, self.tile

        def load(j: str, s: str) -> str:
            return p.element(COLUMNS, k.let(f"{self.left} + {j}"), k.let(f"{begin} + {s}"))

        def fetch(j: str, s: str) -> None:
            p.fetch(COLUMNS, k.let(f"{self.left} + {j}"), k.let(f"{begin} + {s}"))

        panels = packing.Panels(self.count, tile.width, tile.lanes, self.panel, tile.width)
        exact = multiple(p.extent(COLUMNS), tile.width)
        if p.dense(COLUMNS):
            packing.by_steps(k, self.dtype, self.packed, panels, self.width, exact, steps, load, fetch)
        else:
            packing.turned(k, self.dtype, self.packed, panels, self.width, exact, steps, load)

    def _packed_strips(self, strips: Bounds, begin: str, steps: str) -> Iterator[tuple[str, Strip]]:
        """A loop over strips: the first row of each, and where it lies packed.

        Where the operand runs along its rows, several strips are packed at a time: whole lines of memory, once.
        """
        p, k, tile = self.p, self.k, self.tile
        rows = k.dim(p.extent(ROWS))
        if not p.dense(ROWS):
            pitch = self.depth + tile.lanes
            array = k.local(self.dtype, tile.rows * pitch)
            with k.loop(strips[1], strips[0]) as strip:
                top = k.let(f"{strip} * {tile.rows}")
                final = k.let(f"{rows} - 1 - {top}")

                def load_row(r: str, s: str) -> str:
                    return p.element(ROWS, k.let(f"{top} + {k.let(f'lesser({r}, {final})')}"), k.let(f"{begin} + {s}"))

                packing.by_rows(k, array, str(tile.rows), pitch, steps, load_row)
                yield top, Strip(array, "0", pitch, 1)
            return
        group = 1 if isinstance(self.strips, int) and self.strips == 1 else GROUP
        half = max(1, tile.lanes // 2)
        width = -(-tile.rows // half) * half  # whole vectors are copied, though a strip may be a little less
        size = -(-(tile.rows * self.depth + half) // tile.lanes) * tile.lanes
        array = k.local(self.dtype, group * size)
        with k.loop(strips[1], strips[0], str(group)) as first:
            base = k.let(f"{first} * {tile.rows}")

            def load(r: str, s: str) -> str:
                return p.element(ROWS, k.let(f"{base} + {r}"), k.let(f"{begin} + {s}"))

            def fetch(r: str, s: str) -> None:
                p.fetch(ROWS, k.let(f"{base} + {r}"), k.let(f"{begin} + {s}"))

            number = k.let(f"lesser({group}, {strips[1]} - {first})")
            panels = packing.Panels(number, width, tile.lanes, size, tile.rows)
            packing.by_steps(k, self.dtype, array, panels, k.let(f"{rows} - {base}"), False, steps, load, fetch)
            with k.loop(number) as member:
                top = k.let(f"{base} + {member} * {tile.rows}")
                yield top, Strip(array, k.let(f"{member} * {size}"), 1, tile.rows)

    def _multiply(self, top: str, strip: Strip, at: str, begin: str, steps: str, whole: str) -> None:
        """Add the products of a packed strip with all panels to the totals at `at`.

        `whole` is the head of what is done when the sums are whole.
        """
        k, tile = self.k, self.tile
        with k.loop(self.count) as panel:
            self._look_ahead(top, begin, steps, panel, whole)
            base, place = k.let(f"{panel} * {self.panel}"), k.let(f"{at} + {panel} * {tile.width}")
            shape = f"{tile.rows}, {tile.vectors}, {tile.lanes}"
            rows = f"{strip.array}, {strip.start}, {strip.row}, {strip.step}"
            into = f"{self.total}, {place}, {self.breadth}, {int(self.single)}"
            k.line(f"multiply({shape}, {rows}, {self.packed}, {base}, {tile.width}, {steps}, {into})")

    def _look_ahead(self, top: str, begin: str, steps: str, panel: str, whole: str) -> None:
        """Ask for what is needed next: with each panel a part of the following strip, and what will be stored.

        Not for strips that are packed together: lines whole pages apart would drive each other out of the cache.
        """
        p, k, tile = self.p, self.k, self.tile
        final = k.let(f"{k.dim(p.extent(ROWS))} - 1")
        if not p.dense(ROWS):
            following = k.let(f"{panel} + 1")
            first, stop = k.let(f"{panel} * {steps} // {self.count}"), k.let(f"{following} * {steps} // {self.count}")
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
