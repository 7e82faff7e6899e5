"""Convolutions and their adjoints as loops.

The image elements that a block of pixels meets are gathered into a panel of local memory, a row for each channel and
place of the kernel, so that the inner loops of `contractions` run over dense rows whatever the stride, dilation and
padding.
"""

from __future__ import annotations

from collections.abc import Sequence

from dlc.backends.axes import Reach, grouped, is_one, merged, reach
from dlc.backends.contractions import (
    COLUMNS,
    ROWS,
    Text,
    add_tile,
    at_most,
    clear,
    contraction,
    dot_products,
    fewer,
    outer_products,
)
from dlc.backends.emitter import LoopEmitter, NodeEmitter
from dlc.backends.expressions import grouping, literal
from dlc.backends.nests import store
from dlc.dims import DimLike, Shape, product
from dlc.ir import Node

FILTERS = 128  # rows of accumulators that stay in the second-level cache together
PANEL = 64  # rows of gathered image elements


class Images:
    """The geometry of a convolution: how a panel of image elements is gathered, row by row.

    A row of a panel belongs to a channel and a place of the kernel, a column to a pixel. `source` holds the elements;
    pixels are those of `pixels`, a shape of two dims.
    """

    def __init__(self, k: LoopEmitter, heavy: Node, source: Node, kernel: Shape, pixels: Shape, backward: bool) -> None:
        self.k, self.heavy, self.source, self.backward = k, heavy, source, backward
        self.kernel, self.pixels = kernel, pixels
        self.stride, self.padding, self.dilation = (heavy.attrs[n] for n in ("stride", "padding", "dilation"))

    def gather(self, panel: str, n: str, channel: str, rows: tuple[str, str], first: str, width: str) -> None:
        """panel[r * COLUMNS + j] is the element that pixel `first` + j meets in row rows[0] + r."""
        k = self.k
        columns = k.dim(self.pixels[1])
        start, count = rows
        with k.loop(count) as r:
            row = k.let(f"{start} + {r}")
            place, down, right = split(k, row, self.kernel)
            c = k.let(f"{channel} + {place}")
            last = k.let(f"({first} + {width} - 1) // {columns} + 1")
            with k.loop(last, k.let(f"{first} // {columns}")) as y:
                begin = k.let(f"{y} * {columns}")
                left = k.let(f"greater({first}, {begin})")
                right_end = k.let(f"lesser({first} + {width}, {begin} + {columns})")
                self._gather_row(
                    f"{panel}[{k.let(f'{r} * {COLUMNS} - {first}')} + ",
                    n,
                    c,
                    (down, right),
                    y,
                    (begin, left, right_end),
                )

    def _gather_row(
        self, into: str, n: str, c: str, place: tuple[str, str], y: str, columns: tuple[str, str, str]
    ) -> None:
        """The pixels of one row of the image: those in the padding at its ends are 0, those between need no test."""
        k = self.k
        begin, left, end = columns
        if (self.backward and self.stride[1] > 1) or not (self.backward or any(map(any, self.padding))):
            with k.loop(end, left, independent=True) as p:
                k.line(f"{into}{p}] = {self.element(n, c, (y, k.let(f'{p} - {begin}')), place)}")
            return
        stride = 1 if self.backward else self.stride[1]
        row, inside = self.source_place(0, y, place[0])
        shift = self.shift(1, place[1])
        low = k.let(f"{begin} + ({stride - 1} - {shift}) // {stride}" if stride > 1 else f"{begin} - {shift}")
        span = f"{k.dim(self.source.shape[3])} + {stride - 1} - {shift}"
        high = k.let(f"{begin} + ({span}) // {stride}" if stride > 1 else f"{begin} + {span}")
        low = k.let(f"lesser(greater({left}, {low}), {end})")
        high = k.let(f"greater(lesser({end}, {high}), {low})")
        if inside:
            high = k.let(f"select({' & '.join(map(grouping, inside))}, {high}, {low})")
        for first, last in ((left, low), (high, end)):
            with k.loop(last, first, independent=True) as p:
                k.line(f"{into}{p}] = {literal(0, self.source.dtype)}")
        with k.block(f"if {low} < {high}:", guard=True), k.loop(high, low, independent=True) as p:
            x = k.let(f"{p} - {begin}")
            at = k.let(f"{x if stride == 1 else k.let(f'{x} * {stride}')} + {shift}")
            k.line(f"{into}{p}] = {k.element(self.source, [n, c, row, at])}")

    def shift(self, axis: int, place: str) -> str:
        """How far along an axis pixel 0 meets a place of the kernel; backwards, the stride is left out."""
        low = self.padding[axis][0]
        reached = place if self.dilation[axis] == 1 else self.k.let(f"{place} * {self.dilation[axis]}")
        return self.k.let(f"{low} - {reached}" if self.backward else f"{reached} - {low}")

    def source_place(self, axis: int, pixel: str, place: str) -> tuple[str, list[str]]:
        """Where along an axis a pixel meets a place of the kernel, and under which conditions that is in the image."""
        k, stride, inside = self.k, self.stride[axis], []
        at = pixel if self.backward or stride == 1 else k.let(f"{pixel} * {stride}")
        at = k.let(f"{at} + {self.shift(axis, place)}")
        if self.backward and stride > 1:
            whole = k.let(f"{at} // {stride}")
            inside.append(k.let(f"{whole} * {stride} == {at}"))
            at = whole
        if self.backward or any(self.padding[axis]):
            inside.append(k.let(f"({at} >= 0) & ({at} < {k.dim(self.source.shape[2 + axis])})"))
        return at, inside

    def element(self, n: str, c: str, pixel: tuple[str, str], place: tuple[str, str]) -> str:
        """The element at which a pixel meets a place of the kernel; 0 in the padding and between strides."""
        k = self.k
        found, tests = zip(*(self.source_place(axis, pixel[axis], place[axis]) for axis in (0, 1)), strict=True)
        inside = [*tests[0], *tests[1]]
        index = [n, c, *found]
        if not inside:
            return k.element(self.source, index)
        dtype = self.source.dtype
        return NodeEmitter(k, self.heavy).where(
            " & ".join(inside), lambda: k.element(self.source, index), lambda: literal(0, dtype), dtype
        )


def conv2d(k: LoopEmitter, node: Node, outputs: Sequence[Node], targets: Sequence[str]) -> None:
    """For each image, group and block of pixels: filters times the gathered panel."""
    heavy = contraction(node)
    x, w = heavy.inputs
    images = Images(k, heavy, x, w.shape[2:], heavy.shape[2:], backward=False)
    flat = grouped((1, 2, 3), w.shape, reach(w, k.leaves))

    def weight(group: str, row: str, s: str) -> str:
        if len(flat) == 1:
            return k.element(w, [row, "0", "0", s])
        return k.element(w, [row, *split(k, s, w.shape[2:])])

    _filtered(k, heavy, outputs, targets, images, w.shape[1] * w.shape[2] * w.shape[3], w.shape[1], weight)


def conv2d_data_gradient(k: LoopEmitter, node: Node, outputs: Sequence[Node], targets: Sequence[str]) -> None:
    """The same, with the channels' roles exchanged: a pixel gathers the gradients of the outputs it took part in."""
    heavy = contraction(node)
    g, w = heavy.inputs
    filters = w.shape[0] // heavy.attrs["groups"]
    images = Images(k, heavy, g, w.shape[2:], heavy.shape[2:], backward=True)
    run = len(grouped((2, 3), w.shape, reach(w, k.leaves))) < 2

    def weight(group: str, row: str, s: str) -> str:
        o, *place = split(k, s, w.shape[2:], run)
        first = k.let(f"{group} * {k.dim(filters)}")
        return k.element(
            w, [k.let(f"{first} + {o}"), k.let(f"{row} - {k.let(f'{group} * {k.dim(w.shape[1])}')}"), *place]
        )

    _filtered(k, heavy, outputs, targets, images, filters * w.shape[2] * w.shape[3], filters, weight)


def split(k: LoopEmitter, s: str, kernel: Sequence[DimLike], run: bool = False) -> tuple[str, str, str]:
    """The channel and place of the kernel of a step of the sum; `run`: places are walked as one axis."""
    wide, size = k.dim(kernel[1]), k.dim(product(kernel))
    if size == "1":
        return s, "0", "0"
    c = k.let(f"{s} // {size}")
    inner = k.let(f"{s} - {k.let(f'{c} * {size}')}")
    if run:
        return (c, "0", inner) if wide != "1" else (c, inner, "0")
    down = k.let(f"{inner} // {wide}")
    return c, down, k.let(f"{inner} - {down} * {wide}")


def _filtered(
    k: LoopEmitter, heavy: Node, outputs: Sequence[Node], targets: Sequence[str],
    images: Images, terms: DimLike, channels: DimLike, weight: Text,
) -> None:  # fmt: skip
    """result[n, o, pixel] = sum of weight(group, o, s) * panel[s, pixel], block by block."""
    dtype, groups = heavy.dtype, heavy.attrs["groups"]
    filters = heavy.shape[1] // groups
    pixels, per_group, depth = k.dim(product(heavy.shape[2:])), k.dim(filters), k.dim(terms)
    rows = fewer(ROWS, filters)
    held = -(-fewer(FILTERS, filters) // rows) * rows
    total, panel = k.local(dtype, held * COLUMNS), k.local(dtype, PANEL * COLUMNS)
    after = merged(reach(x, {**k.leaves, heavy: ""}) for x in outputs)
    with k.loop(k.dim(heavy.shape[0])) as n, k.loop(k.dim(groups)) as group, k.loop(pixels, step=str(COLUMNS)) as first:
        width = k.let(f"lesser({COLUMNS}, {pixels} - {first})")
        begin = k.let(f"{group} * {per_group}")
        with k.loop(per_group, step=str(held)) as block:
            count = k.let(f"lesser({held}, {per_group} - {block})")
            clear(k, total, dtype, str(held), COLUMNS, width)
            with k.loop(depth, step=str(PANEL)) as s0:
                steps = k.let(f"lesser({PANEL}, {depth} - {s0})")
                images.gather(panel, n, k.let(f"{group} * {k.dim(channels)}"), (s0, steps), first, width)
                with k.loop(count, step=str(rows)) as r0:
                    top = k.let(f"{begin} + {block} + {r0}")
                    last = k.let(f"{begin} + {per_group}")
                    places = [at_most(k, k.let(f"{top} + {r}"), last) if r else top for r in range(rows)]
                    outer_products(
                        k, total, k.let(f"{r0} * {COLUMNS}"), rows, COLUMNS, ("0", steps), width,
                        lambda r, s: weight(group, places[r], k.let(f"{s0} + {s}")),
                        lambda s, j: k.let(f"{panel}[{k.let(f'{s} * {COLUMNS}')} + {j}]", loads=True),
                    )  # fmt: skip
            with k.loop(count) as r:
                o = k.let(f"{begin} + {block} + {r}")
                row = k.let(f"{r} * {COLUMNS}")
                _store_pixels(k, heavy, outputs, targets, after, [n, o], f"{total}[{row} - {first}", first, width)


def _store_pixels(
    k: LoopEmitter, heavy: Node, outputs: Sequence[Node], targets: Sequence[str],
    after: Reach, lead: list[str], total: str, first: str, width: str,
) -> None:  # fmt: skip
    """Store a row of pixels: as one run where nothing that follows tells rows of the image apart, else row by row."""

    def finish(place: list[str], p: str) -> None:
        k.provide(heavy, place, k.let(f"{total} + {p}]", loads=True))
        store(k, outputs, targets, place)

    lead = ["0" if is_one(d) else i for i, d in zip(lead, heavy.shape, strict=False)]
    spatial = [a for a in (2, 3) if not is_one(heavy.shape[a])]
    if len(spatial) < 2 or after.joined(2, 3):
        with k.loop(k.let(f"{first} + {width}"), first, independent=True) as p:
            place = [*lead, "0", "0"]
            if spatial:
                place[spatial[-1]] = p
            finish(place, p)
        return
    columns = k.dim(heavy.shape[3])
    last = k.let(f"({first} + {width} - 1) // {columns} + 1")
    with k.loop(last, k.let(f"{first} // {columns}")) as y:
        begin = k.let(f"{y} * {columns}")
        end = k.let(f"lesser({first} + {width}, {begin} + {columns})")
        with k.loop(end, k.let(f"greater({first}, {begin})"), independent=True) as p:
            finish([*lead, y, k.let(f"{p} - {begin}")], p)


def conv2d_weight_gradient(k: LoopEmitter, node: Node, outputs: Sequence[Node], targets: Sequence[str]) -> None:
    """For blocks of filters and of kernel places: dot products of gradients and gathered panel, over all pixels."""
    heavy = contraction(node)
    x, g = heavy.inputs
    dtype, groups = heavy.dtype, heavy.attrs["groups"]
    filters, channels, kernel = heavy.shape[0] // groups, heavy.shape[1], heavy.shape[2:]
    images = Images(k, heavy, x, kernel, g.shape[2:], backward=False)
    pixels, per_group = k.dim(product(g.shape[2:])), k.dim(filters)
    places = k.dim(channels * product(kernel))
    run = len(grouped((2, 3), g.shape, reach(g, k.leaves))) < 2
    rows = fewer(ROWS, filters)
    held = -(-fewer(FILTERS, filters) // rows) * rows
    total, panel = k.local(dtype, held * PANEL), k.local(dtype, PANEL * COLUMNS)

    def gradient(n: str, o: str, p: str) -> str:
        if run:
            spatial = [a for a in (2, 3) if not is_one(g.shape[a])]
            index = [n, o, "0", "0"]
            if spatial:
                index[spatial[-1]] = p
            return k.element(g, index)
        columns = k.dim(g.shape[3])
        y = k.let(f"{p} // {columns}")
        return k.element(g, [n, o, y, k.let(f"{p} - {y} * {columns}")])

    with (
        k.loop(k.dim(groups)) as group,
        k.loop(per_group, step=str(held)) as block,
        k.loop(places, step=str(PANEL)) as left,
    ):
        begin = k.let(f"{group} * {per_group} + {block}")
        end = k.let(f"({group} + 1) * {per_group}")
        height, width = k.let(f"lesser({held}, {per_group} - {block})"), k.let(f"lesser({PANEL}, {places} - {left})")
        clear(k, total, dtype, str(held), PANEL, str(PANEL))
        with k.loop(k.dim(g.shape[0])) as n, k.loop(pixels, step=str(COLUMNS)) as first:
            count = k.let(f"lesser({COLUMNS}, {pixels} - {first})")
            images.gather(panel, n, k.let(f"{group} * {k.dim(channels)}"), (left, width), first, count)
            with k.loop(height, step=str(rows)) as r0, k.loop(width, step=str(ROWS)) as c0:
                downs = [at_most(k, k.let(f"{begin} + {r0} + {r}"), end) for r in range(rows)]
                lines = [k.let(f"{at_most(k, k.let(f'{c0} + {c}'), width)} * {COLUMNS}") for c in range(ROWS)]
                tile = dot_products(
                    k, dtype, rows, ROWS, ("0", count),
                    lambda r, s: gradient(n, downs[r], k.let(f"{first} + {s}")),
                    lambda c, s: k.let(f"{panel}[{lines[c]} + {s}]", loads=True),
                )  # fmt: skip
                add_tile(k, total, k.let(f"{r0} * {PANEL} + {c0}"), PANEL, tile)
        with k.loop(height) as r, k.loop(width) as c:
            parts = split(k, k.let(f"{left} + {c}"), kernel)
            place = [k.let(f"{begin} + {r}"), *parts]
            place = ["0" if is_one(d) else i for i, d in zip(place, heavy.shape, strict=True)]
            k.provide(heavy, place, k.let(f"{total}[{k.let(f'{r} * {PANEL}')} + {c}]", loads=True))
            store(k, outputs, targets, place)
