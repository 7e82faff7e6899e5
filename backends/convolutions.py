"""Convolutions and their data gradients on register tiles.

A row of the result is a filter, a column a pixel; the sum runs over channels and places of the kernel. A first part of
the kernel packs the weights (see `filters`); then a task takes some filters of a tile of pixels, whose elements it
gathers into planes of local memory (see `planes`). The data gradient is a convolution of the result's gradient, with
the roles of channels and filters exchanged and the kernel turned around; with a stride, one for each residue class of
pixels, which meet the places of their class alone. Beyond the gradients there is nothing, not zeros as beyond an image:
where weights are infinite or NaN, the first part says so, and sums that become NaN are made anew (`_amend`).
"""

from __future__ import annotations

from collections.abc import Sequence

from dlc.backends.axes import grouped, is_one, merged, reach
from dlc.backends.contractions import contraction
from dlc.backends.emitter import LoopEmitter, put
from dlc.backends.expressions import literal, multiply_add
from dlc.backends.filters import TURNED, Filters
from dlc.backends.nests import store
from dlc.backends.planes import COLUMNS, Axis, Line, Planes, Tile, ceiling, even, grid, kernel_size, lines, tile_at
from dlc.backends.products import unravelled
from dlc.backends.tiling import tile_shape
from dlc.dims import product
from dlc.ir import Node

ROWS = 144  # most rows of a task
STEPS = 150  # terms of a sum, at most, that are added up in registers; part of the numbers' definition


def conv2d(k: LoopEmitter, node: Node, outputs: Sequence[Node], targets: Sequence[str]) -> None:
    """Filters times the planes of the image."""
    heavy = contraction(node)
    x, w = heavy.inputs
    kernel = kernel_size(w.shape[2:])
    axes = lines(heavy, kernel, x.shape[2:], heavy.shape[2:])
    planes = Planes(k, x, w.shape[1], kernel, heavy.attrs["stride"], heavy.attrs["dilation"], STEPS)
    Filtering(k, heavy, outputs, targets, planes, axes, backward=False).emit()


def conv2d_data_gradient(k: LoopEmitter, node: Node, outputs: Sequence[Node], targets: Sequence[str]) -> None:
    """The turned kernels, channel by channel, times the planes of the gradient."""
    heavy = contraction(node)
    g, w = heavy.inputs
    axes = lines(heavy, kernel_size(w.shape[2:]), heavy.shape[2:], g.shape[2:])
    most, gap = (axes[0].most, axes[1].most), (axes[0].gap, axes[1].gap)
    planes = Planes(k, g, w.shape[0] // heavy.attrs["groups"], most, (1, 1), gap, STEPS)
    Filtering(k, heavy, outputs, targets, planes, axes, backward=True).emit()


class Filtering:
    """result[n, row, pixel] = sum over s of weights[row, s] * planes[s, pixel]."""

    def __init__(
        self, k: LoopEmitter, heavy: Node, outputs: Sequence[Node], targets: Sequence[str],
        planes: Planes, axes: Sequence[Line], backward: bool,
    ) -> None:  # fmt: skip
        self.k, self.heavy, self.outputs, self.targets = k, heavy, outputs, targets
        self.planes, self.lines, self.backward = planes, axes, backward
        self.groups = heavy.attrs["groups"]
        self.strides = (axes[0].stride, axes[1].stride) if backward else (1, 1)
        classes = self.strides[0] * self.strides[1]
        self.tile = tile_shape(k.target, heavy.dtype, heavy.shape[1] // self.groups, COLUMNS)
        self.pitch = -(-COLUMNS // self.tile.width) * self.tile.width
        self.filters = Filters(k, heavy.inputs[1], self.groups, backward, self.tile.rows, planes.most, classes)
        pixels = [ceiling(d, s) for d, s in zip(heavy.shape[2:], self.strides, strict=True)]
        self.grid = grid(heavy.shape[0], pixels[0], pixels[1], planes.halo)
        blocks, most = self.filters.blocks, max(1, ROWS // self.tile.rows)
        self.held = even(blocks, most) if isinstance(blocks, int) else most  # blocks of rows of a task
        self.most_rows = min(most, blocks if isinstance(blocks, int) else most) * self.tile.rows
        self.turned = backward and planes.whole and self.filters.in_order and max(planes.most) > 1
        parts = ceiling(self.filters.channels, TURNED) if self.turned else self.filters.blocks
        self.sections = [*self.filters.extents[:2], parts]  # what the tasks of the first part pack
        self.nonfinite = k.shared("bool", product(self.sections)) if backward else ""

    def emit(self) -> None:
        """Both parts."""
        self._pack()
        k = self.k
        k.barrier()
        planes, cut, rows = self.planes, self.grid, self.tile.rows
        extents = [*cut.counts, self.strides[0] * self.strides[1], self.groups, ceiling(self.filters.blocks, self.held)]
        planes.allocate()
        total = k.local(self.heavy.dtype, (self.most_rows + 1) * self.pitch)
        runs = k.local("int64", planes.held * planes.high * planes.wide)
        with k.tasks(product(extents)) as t:
            *at, which, group, chunk = unravelled(k, t, extents)
            y, x = self._axes(which)
            tile = tile_at(k, cut, (at[0], at[1], at[2]), k.dim(self.heavy.shape[0]), y, x)
            first = k.let(f"{chunk} * {k.dim(self.held)}")
            blocks = k.let(f"lesser({k.dim(self.held)}, {k.dim(self.filters.blocks)} - {first})")
            if not planes.single:
                with k.loop(k.let(f"{blocks} * {rows * self.pitch}"), independent=True) as i:
                    k.line(f"{total}[{i}] = {literal(0, self.heavy.dtype)}")
            with planes.blocks(y, x) as block:
                planes.fill(group, block, tile, y, x)
                planes.table(runs, block, tile)
                steps = k.let(f"{block.channels} * {block.places}")
                with k.loop(blocks) as b:
                    section = self.filters.section_at(which, group, k.let(f"{first} + {b}"))
                    left = k.let(f"{section} + {self.filters.steps_at(block, x)} * {rows}")
                    with k.loop(tile.pixels, step=str(self.tile.width)) as j:
                        k.line(
                            f"multiply_runs({rows}, {self.tile.vectors}, {self.tile.lanes}, {self.filters.packed}, "
                            f"{left}, 1, {rows}, {planes.array}, {j}, {runs}, 0, {steps}, {total}, "
                            f"{k.let(f'{b} * {rows * self.pitch}')} + {j}, {self.pitch}, {int(planes.single)})"
                        )
            if self.backward:
                self._amend(tile, (y, x), which, group, first, blocks, total)
            self._finish(tile, (y, x), group, first, total)

    def _pack(self) -> None:
        """The part that packs the weights."""
        k, filters = self.k, self.filters
        with k.tasks(product(self.sections)) as t:
            at = unravelled(k, t, self.sections)
            if not self.backward:
                self._pack_section(*at)
                return
            with filters.noting() as found:
                self._pack_section(*at)
            k.line(f"{self.nonfinite}[{t}] = {found}")

    def _pack_section(self, which: str, group: str, part: str) -> None:
        """Pack the weights of one task."""
        filters = self.filters
        y, x = self._axes(which)
        if self.turned:
            filters.pack_turned(which, group, part, y, x)
        elif self.planes.whole and filters.in_order and not self.backward:
            filters.pack_rows(group, part)
        else:
            with self.planes.blocks(y, x) as places:
                filters.pack(which, group, part, places, y, x)

    def _axes(self, which: str) -> tuple[Axis, Axis]:
        """How pixels of a class meet elements."""
        if not self.backward:
            return self.lines[0].forward(self.k), self.lines[1].forward(self.k)
        down, right = unravelled(self.k, which, self.strides)
        return self.lines[0].backward(self.k, down), self.lines[1].backward(self.k, right)

    def _amend(
        self, tile: Tile, axes: tuple[Axis, Axis], which: str, group: str, first: str, blocks: str, total: str
    ) -> None:
        """Add up once more, over the gradients that there are, what is NaN where a weight is infinite or NaN.

        Planes hold zeros beyond the gradients, which such a weight turns into NaN; to a sum they do not belong.
        """
        k, filters, rows = self.k, self.filters, self.tile.rows
        parts = k.dim(self.sections[2])
        found = k.fresh("a")
        k.line(f"{found} = False")
        with k.loop(parts) as i:
            k.line(f"{found} = {found} | {self.nonfinite}[({which} * {k.dim(self.groups)} + {group}) * {parts} + {i}]")
        with k.block(f"if {found}:", guard=True):
            top = k.let(f"{first} * {rows}")
            with (
                k.loop(k.let(f"lesser({blocks} * {rows}, {k.dim(filters.count)} - {top})")) as r,
                k.loop(tile.height) as h,
                k.loop(tile.images) as i,
                k.loop(tile.width) as z,
            ):
                place = k.let(f"{r} * {self.pitch} + {h} * {tile.line} + {i} * {tile.width} + {z}")
                with k.block(f"if isnan({total}[{place}]):", guard=True):
                    pixel = [k.let(f"{a} + {b}") for a, b in ((tile.n, i), (tile.y, h), (tile.x, z))]
                    k.line(f"{total}[{place}] = {self._plain_sum(axes, pixel, group, k.let(f'{top} + {r}'))}")

    def _plain_sum(self, axes: tuple[Axis, Axis], pixel: Sequence[str], group: str, channel: str) -> str:
        """A channel of one pixel of the images, by the definition."""
        k, (g, w), count = self.k, self.heavy.inputs, self.filters.channels
        total = k.fresh("a")
        k.line(f"{total} = {literal(0, w.dtype)}")
        with k.loop(k.dim(count)) as c, k.loop(axes[0].places) as u, k.loop(axes[1].places) as v:
            met = [
                k.let(f"{i} + {place} * {axis.gap} + {axis.shift}")
                for i, place, axis in zip(pixel[1:], (u, v), axes, strict=True)
            ]
            inside = [k.let(f"(0 <= {i}) & ({i} < {axis.size})") for i, axis in zip(met, axes, strict=True)]
            with k.block(f"if {inside[0]} & {inside[1]}:", guard=True):
                filter = k.let(f"{group} * {k.dim(count)} + {c}")
                kernel = [axis.kernel(i) for axis, i in zip(axes, (u, v), strict=True)]
                gradient, weight = (
                    k.element(n, ["0" if is_one(d) else i for d, i in zip(n.shape, index, strict=True)])
                    for n, index in ((g, [pixel[0], filter, *met]), (w, [filter, channel, *kernel]))
                )
                k.line(f"{total} = {multiply_add(total, gradient, weight, w.dtype)}")
        return total

    def _finish(self, tile: Tile, axes: tuple[Axis, Axis], group: str, first: str, total: str) -> None:
        """Store what follows from a tile of totals, filter by filter and image by image."""
        k, filters = self.k, self.filters
        top = k.let(f"{first} * {self.tile.rows}")
        count = k.let(f"lesser({k.dim(self.held)} * {self.tile.rows}, {k.dim(filters.count)} - {top})")
        spare = str(self.most_rows * self.pitch)
        high, wide = tile.height, tile.width
        image = k.let(f"{high} * {wide}")
        with k.loop(count) as r:
            row = k.let(f"{group} * {k.dim(filters.count)} + {top} + {r}")
            own = k.let(f"{r} * {self.pitch}")
            if self.grid.images != 1:  # rows of several images lie side by side: apart they are longer
                many = k.let(f"1 < {tile.images}")
                with k.block(f"if {many}:", guard=True):
                    k.line(
                        f"copy_rows({self.tile.lanes}, 1, {total}, {spare}, {wide}, {image}, "
                        f"{total}, {own}, {tile.line}, {wide}, {tile.images}, {high}, 0, {high}, {wide}, 0, {wide})"
                    )
                own = k.let(f"select({many}, {spare}, {own})")
            with k.loop(tile.images) as i:
                lead = [k.let(f"{tile.n} + {i}"), row]
                self._store(tile, axes, lead, total, k.let(f"{own} + {i} * {image}"))

    def _store(self, tile: Tile, axes: tuple[Axis, Axis], lead: list[str], total: str, base: str) -> None:
        """Store a rectangle of pixels: row by row, or as one line where it is one in all memory."""
        k, heavy = self.k, self.heavy
        found = merged(reach(n, {**k.leaves, heavy: ""}) for n in self.outputs)
        long = [a for a in (2, 3) if not is_one(heavy.shape[a])]
        joined = self.strides == (1, 1) and len(grouped(long, heavy.shape, found)) == 1
        rows, length = tile.height, tile.width
        if joined:
            columns = k.dim(heavy.shape[3])
            dense = k.let(f"{tile.width} == {columns}")
            rows = k.let(f"select({dense}, 1, {tile.height})")
            length = k.let(f"select({dense}, {tile.height} * {tile.width}, {tile.width})")
        with k.loop(rows) as h, k.loop(length, independent=True) as z:
            if joined:
                start = k.let(f"({tile.y} + {h}) * {columns} + {tile.x}")
                place = put([*lead, "0", "0"], long, k.let(f"{start} + {z}"))
            else:
                corner = (k.let(f"{tile.y} + {h}"), k.let(f"{tile.x} + {z}"))
                place = [*lead, *(axis.pixel(i) for axis, i in zip(axes, corner, strict=True))]
            place = ["0" if is_one(d) else i for i, d in zip(place, heavy.shape, strict=True)]
            value = k.let(f"{total}[{k.let(f'{base} + {h} * {tile.width}')} + {z}]", loads=True)
            k.provide(heavy, place, value)
            store(k, self.outputs, self.targets, place)
