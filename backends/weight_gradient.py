"""The weight gradient of a convolution on register tiles.

It is a sum over pixels: a row of the result is a plane of the image (a channel and a horizontal place of the kernel; a
step down the kernel shifts all of them), a column a filter. The gradients of a tile's pixels are transposed, so that
the filters of a pixel lie side by side. Pixels are cut into a number of parts that the shapes alone decide, whose sums
are added in order in a last part of the kernel; so the result has the same bits for any number of threads.
"""

from __future__ import annotations

from collections.abc import Sequence

from dlc.backends.axes import grouped, is_one, merged, reach
from dlc.backends.contractions import contraction
from dlc.backends.emitter import LoopEmitter, put
from dlc.backends.expressions import literal
from dlc.backends.nests import store
from dlc.backends.planes import COLUMNS, Block, Planes, Tile, ceiling, even, grid, kernel_size, lines, tile_at
from dlc.backends.products import unravelled
from dlc.backends.tiling import MOST_ROWS, tile_shape
from dlc.dims import DimLike, product
from dlc.ir import Node

FILTERS = 128  # most filters of a task
STEPS = 300  # most places of the kernel, over all channels, of a task
TASKS = 16  # how many tasks there are at least, where there are as many tiles; part of the numbers' definition


def conv2d_weight_gradient(k: LoopEmitter, node: Node, outputs: Sequence[Node], targets: Sequence[str]) -> None:
    """Planes times gradients, summed over pixels."""
    WeightGradient(k, contraction(node), outputs, targets).emit()


class WeightGradient:
    """result[filter, channel, place] = sum over pixels of gradients[pixel, filter] * planes[channel, place, pixel]."""

    def __init__(self, k: LoopEmitter, heavy: Node, outputs: Sequence[Node], targets: Sequence[str]) -> None:
        self.k, self.heavy, self.outputs, self.targets, self.dtype = k, heavy, outputs, targets, heavy.dtype
        x, self.gradients = heavy.inputs
        self.groups, self.kernel = heavy.attrs["groups"], kernel_size(heavy.shape[2:])
        self.filters, self.channels = heavy.shape[0] // self.groups, heavy.shape[1]
        self.lines = lines(heavy, self.kernel, x.shape[2:], self.gradients.shape[2:])
        how = heavy.attrs
        self.planes = Planes(
            k, x, self.channels, self.kernel, how["stride"], how["dilation"], STEPS, spare=MOST_ROWS - 1
        )
        planes = self.planes
        self.held = even(self.filters, FILTERS) if isinstance(self.filters, int) else FILTERS
        rows = planes.held * planes.wide
        self.tile = tile_shape(k.target, self.dtype, rows, self.held)
        self.pitch = -(-self.held // self.tile.width) * self.tile.width
        self.rows = -(-rows // self.tile.rows) * self.tile.rows  # of one place down the kernel
        self.size = planes.high * self.rows * self.pitch
        rows_of, columns_of = self.gradients.shape[2:]
        self.grid = grid(x.shape[0], rows_of, columns_of, planes.halo)
        self.blocks = [
            self.groups, ceiling(self.filters, self.held), ceiling(self.channels, planes.held),
            -(-self.kernel[0] // planes.high), -(-self.kernel[1] // planes.wide),
        ]  # fmt: skip
        known = 1
        for d in self.blocks:
            known *= d if isinstance(d, int) else 1
        self.parts = max(1, -(-TASKS // max(1, known)))

    def emit(self) -> None:
        """The sums of parts; then the sums of those, where there are several."""
        k, planes = self.k, self.planes
        several = self.parts > 1
        shared = k.shared(self.dtype, product([*self.blocks, self.parts, self.size])) if several else ""
        planes.allocate()
        total = k.local(self.dtype, self.size)
        with k.tasks(product([*self.blocks, self.parts])) as t:
            *at, part = unravelled(k, t, [*self.blocks, self.parts])
            group, first, count, block = self._place(at)
            with k.loop(str(self.size), independent=True) as i:
                k.line(f"{total}[{i}] = {literal(0, self.dtype)}")
            tiles = k.dim(product(self.grid.counts))
            parts = self._parts()
            begin = k.let(f"{part} * {tiles} // {parts}")
            end = k.let(f"select({part} < {parts}, ({part} + 1) * {tiles} // {parts}, {begin})")
            y, x = (line.forward(k) for line in self.lines)
            with k.loop(end, begin) as number:
                corner = unravelled(k, number, self.grid.counts)
                tile = tile_at(
                    k, self.grid, (corner[0], corner[1], corner[2]), k.dim(self.heavy.inputs[0].shape[0]), y, x
                )
                planes.fill(group, block, tile, y, x)
                self._multiply(total, group, first, count, block, tile)
            if several:
                with k.loop(str(self.size), independent=True) as i:
                    k.line(f"{shared}[{k.let(f'{t} * {self.size}')} + {i}] = {total}[{i}]")
            else:
                with k.loop(count, step=str(self.tile.lanes)) as o:
                    self._finish(total, "0", "1", group, first, count, block, o)
        if not several:
            return
        k.barrier()
        quarters = -(-self.held // self.tile.lanes)
        with k.tasks(product([*self.blocks, quarters])) as t:
            *at, quarter = unravelled(k, t, [*self.blocks, quarters])
            group, first, count, block = self._place(at)
            base = k.let(f"{t} // {quarters} * {self.parts * self.size}")
            self._finish(
                shared, base, self._parts(), group, first, count, block, k.let(f"{quarter} * {self.tile.lanes}")
            )

    def _parts(self) -> str:
        """How many parts have pixels; one if there are none at all."""
        k = self.k
        return (
            "1" if self.parts == 1 else k.let(f"greater(1, lesser({self.parts}, {k.dim(product(self.grid.counts))}))")
        )

    def _place(self, at: Sequence[str]) -> tuple[str, str, str, Block]:
        """The group, the first filter within it, how many filters, and the block of channels and places of a task."""
        k, planes = self.k, self.planes
        group, chunk, *rest = at

        def part(i: str, size: int, extent: DimLike) -> tuple[str, str]:
            begin = k.let(f"{i} * {k.dim(size)}")
            if size == extent:
                return begin, k.dim(size)
            return begin, k.let(f"lesser({k.dim(size)}, {k.dim(extent)} - {begin})")

        first, count = part(chunk, self.held, self.filters)
        channel, channels = part(rest[0], planes.held, self.channels)
        down, right = rest[1:]
        down, high = (
            (down, str(planes.high)) if planes.high == self.kernel[0] else part(down, planes.high, self.kernel[0])
        )
        right, wide = (
            (right, str(planes.wide)) if planes.wide == self.kernel[1] else part(right, planes.wide, self.kernel[1])
        )
        return group, first, count, Block(channel, down, right, channels, high, wide)

    def _multiply(self, total: str, group: str, first: str, count: str, block: Block, tile: Tile) -> None:
        """Add the products of one tile of pixels."""
        k, planes, shape = self.k, self.planes, self.tile
        turned = self._turned(group, first, count, tile)
        size = k.let(f"{planes.phases} * {planes.size(tile)}")
        rows = k.let(f"{block.channels} * {block.wide}")
        begin = k.let(f"{rows} * {size}")  # a register tile may have more rows than there are planes
        with k.loop(k.let(f"{shape.rows - 1} * {size}"), independent=True) as i:
            k.line(f"{planes.array}[{begin} + {i}] = {literal(0, self.dtype)}")
        with k.loop(count, step=str(shape.width)) as j, k.loop(block.high) as u:
            run = planes.run(u, tile)
            with k.loop(rows, step=str(shape.rows)) as row:
                place = k.let(f"({u} * {self.rows} + {row}) * {self.pitch} + {j}")
                k.line(
                    f"multiply({shape.rows}, {shape.vectors}, {shape.lanes}, {planes.array}, {row} * {size} + {run}, "
                    f"{size}, 1, {turned}, {j} * {COLUMNS}, {shape.width}, "
                    f"{tile.pixels}, {total}, {place}, {self.pitch}, 0)"
                )

    def _turned(self, group: str, first: str, count: str, tile: Tile) -> str:
        """The gradients of a tile, transposed: the filters of a pixel side by side, as many as a tile takes."""
        k, g, lanes = self.k, self.gradients, self.tile.lanes
        pitch = COLUMNS + lanes
        stage, turned = k.local(self.dtype, lanes * pitch), k.local(self.dtype, COLUMNS * self.pitch)
        rows, columns = map(k.dim, g.shape[2:])
        width = self.tile.width
        with k.loop(k.let(f"({count} + {width - 1}) // {width} * {width}"), step=str(lanes)) as o:
            with k.loop(str(lanes)) as r:
                own, into = k.let(f"{o} + {r}"), k.let(f"{r} * {pitch}")
                filter = k.let(f"{group} * {k.dim(self.filters)} + {first} + {own}")
                inside = k.let(f"select({own} < {count}, {tile.width}, 0)")
                if g in k.leaves:
                    image = k.let(f"{k.dim(g.shape[1])} * {k.let(f'{rows} * {columns}')}")
                    source = f"{tile.n} * {image} + ({filter} * {rows} + {tile.y}) * {columns} + {tile.x}"
                    k.line(
                        f"copy_rows({lanes}, 1, {stage}, {into}, {tile.line}, {tile.width}, {k.leaves[g]}, {source}, "
                        f"{columns}, {image}, {tile.images}, {tile.height}, 0, {tile.height}, "
                        f"{tile.width}, 0, {inside})"
                    )
                else:
                    with k.loop(tile.height) as h, k.loop(tile.images) as i:
                        n, row = k.let(f"{tile.n} + {i}"), k.let(f"{tile.y} + {h}")
                        at = k.let(f"{into} + {h} * {tile.line} + {i} * {tile.width}")
                        with k.loop(tile.width, inside, independent=True) as z:
                            k.line(f"{stage}[{at} + {z}] = {literal(0, self.dtype)}")
                        with k.loop(inside, independent=True) as z:
                            element = k.element(g, [n, filter, row, k.let(f"{tile.x} + {z}")])
                            k.line(f"{stage}[{at} + {z}] = {element}")
            panel = k.let(f"{o} // {width} * {COLUMNS * width} + {o} % {width}")
            with k.loop(tile.pixels, step=str(lanes)) as p:
                k.line(f"transpose({lanes}, {stage}, {p}, {pitch}, {turned}, {panel} + {p} * {width}, {width})")
        return turned

    def _finish(
        self, source: str, base: str, parts: str, group: str, first: str, count: str, block: Block, o: str
    ) -> None:
        """Add up the parts of a vector of filters, and store what follows."""
        k, planes, lanes, heavy = self.k, self.planes, self.tile.lanes, self.heavy
        most = -(-planes.held * planes.high * planes.wide // lanes) * lanes
        added, turned = k.local(self.dtype, most * lanes), k.local(self.dtype, lanes * (most + lanes))
        pitch = most + lanes
        high, wide = (k.dim(int(n)) if n.isdigit() else n for n in (block.high, block.wide))  # not to be unrolled
        with k.loop(parts) as part, k.loop(block.channels) as c, k.loop(high) as u, k.loop(wide) as v:
            at = k.let(
                f"{base} + {part} * {self.size} + ({u} * {self.rows} + {c} * {block.wide} + {v}) * {self.pitch} + {o}"
            )
            into = k.let(f"(({c} * {block.high} + {u}) * {block.wide} + {v}) * {lanes}")
            with k.loop(str(lanes), independent=True) as j:
                before = k.let(f"select({part} == 0, {literal(0, self.dtype)}, {added}[{into} + {j}])", loads=True)
                k.line(f"{added}[{into} + {j}] = {before} + {source}[{at} + {j}]")
        steps = k.let(f"{block.channels} * {block.places}")
        with k.loop(steps, step=str(lanes)) as s:
            k.line(f"transpose({lanes}, {added}, {s} * {lanes}, {lanes}, {turned}, {s}, {pitch})")
        found = merged(reach(n, {**k.leaves, heavy: ""}) for n in self.outputs)
        long = [a for a in (1, 2, 3) if not is_one(heavy.shape[a])]
        joined = planes.whole and len(grouped((1, 2, 3), heavy.shape, found)) == 1
        with k.loop(k.let(f"lesser({lanes}, {count} - {o})")) as r:
            filter = k.let(f"{group} * {k.dim(self.filters)} + {first} + {o} + {r}")
            own = k.let(f"{r} * {pitch}")
            filter = "0" if is_one(heavy.shape[0]) else filter
            if joined:
                start = k.let(f"{block.channel} * {self.kernel[0] * self.kernel[1]}")
                with k.loop(steps, independent=True) as s:
                    place = put([filter, "0", "0", "0"], long, k.let(f"{start} + {s}"))
                    k.provide(heavy, place, k.let(f"{turned}[{own} + {s}]", loads=True))
                    store(k, self.outputs, self.targets, place)
                return
            with k.loop(block.channels) as c, k.loop(block.high) as u, k.loop(block.wide) as v:
                place = [
                    k.let(f"{a} + {b}")
                    for a, b in zip((block.channel, block.down, block.right), (c, u, v), strict=True)
                ]
                place = [filter, *("0" if is_one(d) else i for i, d in zip(place, heavy.shape[1:], strict=True))]
                at = k.let(f"{own} + ({c} * {block.high} + {u}) * {block.wide} + {v}")
                k.provide(heavy, place, k.let(f"{turned}[{at}]", loads=True))
                store(k, self.outputs, self.targets, place)
