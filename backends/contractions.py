"""Matrix products and convolutions as loops, blocked for registers and for the first two caches.

Two shapes of inner loop do all the work. Where an operand runs along a row of the result, a few rows of accumulators
are updated by outer products (`outer_products`); where both operands run along the axis that is summed, a small tile of
dot products is kept in registers (`dot_products`). Convolutions gather the image elements that a block of pixels meets
into a panel of local memory first, so that both loops run over dense rows whatever the stride, dilation and padding.
What lies beyond the last row or column of a tile repeats it, and is not stored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dlc.backends.axes import Reach, grouped, is_one, merged, reach
from dlc.backends.emitter import CHUNK, LoopEmitter, NodeEmitter, literal
from dlc.backends.nests import nest, store
from dlc.dims import DimLike, product
from dlc.ir import Node
from dlc.ops.definition import Kind
from dlc.ops.fused import heavy_node

ROWS = 4  # rows, columns and steps of a register tile
COLUMNS = 256  # elements of a row of accumulators
DEPTH = 1024  # terms of a sum that are added up before they join the total; part of the numbers' definition
FILTERS = 128  # rows of accumulators that stay in the second-level cache together
PANEL = 64  # rows of gathered image elements

Text = Callable[..., str]


def _heavy(node: Node) -> Node:
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
    k: LoopEmitter, total: str, offset: str, rows: int, pitch: int, bounds: tuple[str, str], width: str, a: Text, b: Text
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
        return self.k.element(self.heavy.inputs[0], [*batch, at, s]) if rows_of_a else self.k.element(self.heavy.inputs[1], [*batch, s, at])

    def finish(self, row: str, column: str, total: str) -> None:
        """Store what follows from one element of the product."""
        place = list(self.index[:-1])
        for axis, at in ((self.rows, row), (self.columns, column)):
            place[axis] = "0" if is_one(self.shape[axis]) else at
        self.k.provide(self.heavy, place, self.k.let(total, loads=True))
        store(self.k, self.outputs, self.targets, place)


def matmul(k: LoopEmitter, node: Node, outputs: Sequence[Node], targets: Sequence[str]) -> None:
    """Loops over the batch; within, outer products along an axis that is dense in an operand, else dot products."""
    heavy = _heavy(node)
    a, b = heavy.inputs
    batch = len(a.shape) - 2
    m, n, s = batch, batch + 1, batch + 2
    first = reach(a, k.leaves, (*range(batch), m, s))
    second = reach(b, k.leaves, (*range(batch), s, n))
    after = [reach(x, {**k.leaves, heavy: ""}, (*range(batch), m, n)) for x in outputs]
    shape = (*a.shape[:-1], b.shape[-1], a.shape[-1])
    groups = grouped(range(batch), shape, merged([first, second, *after]))
    across = {axis for axis, found in ((m, first), (n, second)) if not is_one(shape[axis]) and found.fastest((s, axis)) == axis}
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
            _add_tile(k, total, "0", columns, tile)
        with k.loop(k.let(f"lesser({rows}, {m} - {top})")) as r, k.loop(k.let(f"lesser({columns}, {n} - {left})")) as c:
            p.finish(k.let(f"{top} + {r}"), k.let(f"{left} + {c}"), f"{total}[{k.let(f'{r} * {columns}')} + {c}]")


def _add_tile(k: LoopEmitter, total: str, offset: str, pitch: int, tile: list[list[str]]) -> None:
    for r, row in enumerate(tile):
        for c, name in enumerate(row):
            place = f"{total}[{offset} + {r * pitch + c}]"
            k.line(f"{place} = {place} + {name}")


# ---------------------------------------------------------------- convolutions


class Images:
    """The geometry of a convolution: how a panel of image elements is gathered, row by row.

    A row of a panel belongs to a channel and a place of the kernel, a column to a pixel. `source` holds the elements;
    pixels are those of `pixels`, a shape of two dims.
    """

    def __init__(self, k: LoopEmitter, heavy: Node, source: Node, kernel: tuple[DimLike, DimLike], pixels: tuple[DimLike, DimLike], backward: bool) -> None:
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
                self._gather_row(f"{panel}[{k.let(f'{r} * {COLUMNS} - {first}')} + ", n, c, (down, right), y, (begin, left, right_end))

    def _gather_row(self, into: str, n: str, c: str, place: tuple[str, str], y: str, columns: tuple[str, str, str]) -> None:
        """The pixels of one row of the image: those in the padding at its ends are 0, those between need no test."""
        k = self.k
        begin, left, end = columns
        if self.backward and self.stride[1] > 1 or not (self.backward or any(map(any, self.padding))):
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
            inside = k.let(" & ".join(inside)) if len(inside) > 1 else inside[0]
            high = k.let(f"select({inside}, {high}, {low})")
        for first, last in ((left, low), (high, end)):
            with k.loop(last, first, independent=True) as p:
                k.line(f"{into}{p}] = {literal(0, self.source.dtype)}")
        with k.block(f"if {low} < {high}:", guard=True), k.loop(high, low, independent=True) as p:
            x = k.let(f"{p} - {begin}")
            at = k.let(f"{x if stride == 1 else k.let(f'{x} * {stride}')} + {shift}")
            k.line(f"{into}{p}] = {k.element(self.source, [n, c, row, at])}")

    def shift(self, axis: int, place: str) -> str:
        """How far along an axis the element is that pixel 0 meets at a place of the kernel; backwards, stride left out."""
        low = self.padding[axis][0]
        reached = place if self.dilation[axis] == 1 else self.k.let(f"{place} * {self.dilation[axis]}")
        return self.k.let(f"{low} - {reached}" if self.backward else f"{reached} - {low}")

    def source_place(self, axis: int, pixel: str, place: str) -> tuple[str, list[str]]:
        """Where along an axis a pixel meets a place of the kernel, and the conditions under which that is in the image."""
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
    heavy = _heavy(node)
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
    heavy = _heavy(node)
    g, w = heavy.inputs
    filters = w.shape[0] // heavy.attrs["groups"]
    images = Images(k, heavy, g, w.shape[2:], heavy.shape[2:], backward=True)
    run = len(grouped((2, 3), w.shape, reach(w, k.leaves))) < 2

    def weight(group: str, row: str, s: str) -> str:
        o, *place = split(k, s, w.shape[2:], run)
        first = k.let(f"{group} * {k.dim(filters)}")
        return k.element(w, [k.let(f"{first} + {o}"), k.let(f"{row} - {k.let(f'{group} * {k.dim(w.shape[1])}')}"), *place])

    _filtered(k, heavy, outputs, targets, images, filters * w.shape[2] * w.shape[3], filters, weight)


def split(k: LoopEmitter, s: str, kernel: Sequence[DimLike], run: bool = False) -> tuple[str, str, str]:
    """The channel and the place of the kernel that a step of the sum stands for; `run`: places are walked as one axis."""
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
    """For blocks of filters and of places of the kernel: dot products of gradients and gathered panel, over all pixels."""
    heavy = _heavy(node)
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
                _add_tile(k, total, k.let(f"{r0} * {PANEL} + {c0}"), PANEL, tile)
        with k.loop(height) as r, k.loop(width) as c:
            parts = split(k, k.let(f"{left} + {c}"), kernel)
            place = [k.let(f"{begin} + {r}"), *parts]
            place = ["0" if is_one(d) else i for i, d in zip(place, heavy.shape, strict=True)]
            k.provide(heavy, place, k.let(f"{total}[{k.let(f'{r} * {PANEL}')} + {c}]", loads=True))
            store(k, outputs, targets, place)


CONTRACTIONS: dict[str, Any] = {
    f.__name__: f for f in (matmul, conv2d, conv2d_data_gradient, conv2d_weight_gradient)
}
