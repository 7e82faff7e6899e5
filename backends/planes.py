"""The elements that a tile of a convolution's pixels meets, gathered into local memory without tests.

For a channel and a horizontal place of the kernel, a plane holds the elements that the tile's pixels meet there, row
below row: padding is zeros in it, strides and horizontal dilation are gone. A step down the kernel is then a shift by
whole rows, so that the operand of each place is one dense run, as long as the tile has pixels. Rows that a vertical
stride tells apart lie in planes of their own, its phases. Where images are small a tile spans several: their rows lie
side by side, so that the runs stay dense; the order of a tile's pixels is (row, image, column).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from dlc.backends.emitter import LoopEmitter
from dlc.backends.expressions import literal
from dlc.dims import DimLike, Shape
from dlc.dtypes import itemsize
from dlc.ir import Node

COLUMNS = 256  # most pixels of a tile
WIDE, NARROW = 128, 64  # most columns of a tile whose planes are higher; the fewer where there are rows to fill it
BEYOND = 64  # elements beyond the last plane that vectors may run over; no register tile is wider
PLANES = 256 * 1024  # bytes of local memory for planes


def ceiling(count: DimLike, size: int) -> DimLike:
    """How many times `size` holds all of `count`."""
    return (count + (size - 1)) // size


def even(extent: int, limit: int) -> int:
    """The step that covers an extent in as few parts as `limit` allows, all nearly equal; at least 1."""
    parts = max(1, -(-extent // max(1, limit)))
    return max(1, -(-extent // parts))


# ---------------------------------------------------------------- how pixels meet elements, along an axis


@dataclass(frozen=True)
class Axis:
    """Pixel i meets element ``i * step + place * gap + shift`` at a place of the kernel, if there is such an element.

    `size` is how many elements there are, `length` how many pixels, `places` how many places of the kernel. `kernel`
    and `pixel` give the index in the kernel of a place, and the index in the result of a pixel.
    """

    step: int
    gap: int
    shift: str
    size: str
    length: str
    places: str
    kernel: Callable[[str], str]
    pixel: Callable[[str], str]


@dataclass(frozen=True)
class Line:
    """A convolution along one axis: of `size` elements with `kernel` places to `pixels`."""

    size: DimLike
    kernel: int
    pixels: DimLike
    stride: int
    padding: int
    dilation: int

    def forward(self, k: LoopEmitter) -> Axis:
        """Pixels of the result and elements of the image."""
        shift = "0" if self.padding == 0 else k.let(f"0 - {self.padding}")
        return Axis(
            self.stride, self.dilation, shift, k.dim(self.size), k.dim(self.pixels), str(self.kernel),
            lambda place: place, lambda pixel: pixel,
        )  # fmt: skip

    # Backwards a pixel of the image meets the gradients of the outputs that it took part in. With a stride, pixels of
    # one residue class meet every `period`-th place of the kernel only, and for each class the axis is one without
    # stride. Classes are numbered by their first place; those beyond the period meet none.

    @property
    def period(self) -> int:
        """How far apart the places are that a pixel meets."""
        return self.stride // self._common

    @property
    def most(self) -> int:
        """The most places that a pixel meets."""
        return -(-self.kernel // self.period)

    @property
    def gap(self) -> int:
        """How far apart the gradients are that a pixel meets."""
        return self.dilation // self._common

    @property
    def _common(self) -> int:
        a, b = self.stride, self.dilation
        while b:
            a, b = b, a % b
        return a

    def backward(self, k: LoopEmitter, which: str) -> Axis:
        """Pixels of one class, and elements of the result's gradient."""
        period, stride, size = self.period, self.stride, self.kernel
        first = k.let(f"{which} % {period}") if period > 1 else "0"
        places = str(size)
        if stride > 1:
            met = k.let(f"greater(0, ({size + period - 1} - {first}) // {period})")
            places = met if self._common == 1 else k.let(f"select({which} < {period}, {met}, 0)")
        residue, origin = "0", k.let(f"{self.padding} - {k.let(f'{first} * {self.dilation}')}")
        if stride > 1:
            beyond = k.let(f"{which} // {period}")
            residue = k.let(f"({first} * {self.dilation} + {beyond} + {self.padding * (stride - 1)}) % {stride}")
            origin = k.let(f"({residue} + {origin}) // {stride}")
        last = k.let(f"{places} - 1")
        pixels = k.dim(self.size)
        length = pixels if stride == 1 else k.let(f"({pixels} - {residue} + {stride - 1}) // {stride}")
        return Axis(
            1, self.gap, k.let(f"{origin} - {last} * {self.gap}"), k.dim(self.pixels), length, places,
            lambda place: k.let(f"{first} + ({last} - {place}) * {period}"),
            lambda pixel: pixel if stride == 1 else k.let(f"{residue} + {pixel} * {stride}"),
        )  # fmt: skip


def kernel_size(dims: Shape) -> tuple[int, int]:
    """The size of a kernel, which is always known."""
    high, wide = dims
    assert isinstance(high, int) and isinstance(wide, int)
    return high, wide


def lines(heavy: Node, kernel: tuple[int, int], images: Shape, pixels: Shape) -> list[Line]:
    """A convolution along its two axes."""
    how = heavy.attrs
    return [
        Line(images[a], kernel[a], pixels[a], how["stride"][a], how["padding"][a][0], how["dilation"][a])
        for a in (0, 1)
    ]


# ---------------------------------------------------------------- tiles


@dataclass(frozen=True)
class Grid:
    """How pixels are cut into tiles: the sizes of a tile, and how many there are along images, rows and columns."""

    images: int
    height: int
    width: int
    counts: tuple[DimLike, DimLike, DimLike]


def grid(images: DimLike, rows: DimLike, columns: DimLike, halo: int) -> Grid:
    """Tiles of nearly equal sizes; `halo` is by how many rows planes are higher."""
    wide = COLUMNS if not halo else WIDE if isinstance(rows, int) and rows * NARROW < COLUMNS else NARROW
    width = even(columns, wide) if isinstance(columns, int) else wide
    height = even(rows, COLUMNS // width) if isinstance(rows, int) else COLUMNS // width
    several = 1
    if (rows, columns) == (height, width):
        several = max(1, min(COLUMNS // (width * height), (WIDE if halo else COLUMNS) // width))
        several = even(images, several) if isinstance(images, int) else several
    return Grid(several, height, width, (ceiling(images, several), ceiling(rows, height), ceiling(columns, width)))


@dataclass(frozen=True)
class Tile:
    """Pixels: where they begin, how many images, rows and columns they are; `line` are those of one row."""

    n: str
    y: str
    x: str
    images: str
    height: str
    width: str
    line: str
    pixels: str


def tile_at(k: LoopEmitter, cut: Grid, at: tuple[str, str, str], images: str, y: Axis, x: Axis) -> Tile:
    """The tile at a place of a grid."""

    def part(i: str, size: int, extent: str) -> tuple[str, str]:
        first = k.let(f"{i} * {k.dim(size)}")
        return first, k.let(f"greater(0, lesser({k.dim(size)}, {extent} - {first}))")

    n, several = part(at[0], cut.images, images)
    top, height = part(at[1], cut.height, y.length)
    left, width = part(at[2], cut.width, x.length)
    line = k.let(f"{several} * {width}")
    return Tile(n, top, left, several, height, width, line, k.let(f"{line} * {height}"))


# ---------------------------------------------------------------- planes


@dataclass(frozen=True)
class Block:
    """The channels and places whose planes are held at once: where they begin, and how many they are."""

    channel: str
    down: str
    right: str
    channels: str
    high: str
    wide: str

    @property
    def places(self) -> str:
        """How many places of the kernel."""
        return f"{self.high} * {self.wide}"


class Planes:
    """The planes of one operand of a convolution: how they are laid out, filled and read.

    `source` holds the elements, `channels` of them in each of its groups; `most`, `step` and `gap` are of the rows and
    of the columns. A block has at most `steps` channels and places; `spare` is how many planes beyond those
    filled may be read.
    """

    def __init__(
        self, k: LoopEmitter, source: Node, channels: DimLike,
        most: tuple[int, int], step: tuple[int, int], gap: tuple[int, int], steps: int, spare: int = 0,
    ) -> None:  # fmt: skip
        self.k, self.source, self.channels = k, source, channels
        self.most, self.step, self.gap = most, step, gap
        self.lanes = k.target.lanes(source.dtype)
        held = PLANES // itemsize(source.dtype)
        self.high, self.wide = self._block(held, steps)
        self.phases, self.halo = self._rows(self.high)
        limit = max(1, min(steps // (self.high * self.wide), held // self._bound(self.high, self.wide)))
        self.held = even(channels, limit) if isinstance(channels, int) else limit
        plane = self._bound(1, 1) if self.high == 1 else self._bound(self.high, 1) // self.phases
        length = self.held * self._bound(self.high, self.wide) + spare * self.phases * plane
        self.length = -(-length // COLUMNS) * COLUMNS + COLUMNS
        self.array = ""

    def allocate(self) -> None:
        """Local memory for the planes, in the part of the kernel that is being written."""
        self.array = self.k.local(self.source.dtype, self.length)

    @property
    def whole(self) -> bool:
        """Whether a block has all places."""
        return (self.high, self.wide) == self.most

    @property
    def single(self) -> bool:
        """Whether there is one block."""
        return self.whole and self.held == self.channels

    def _rows(self, high: int) -> tuple[int, int]:
        """How many phases a block of `high` places has, and by how many rows a plane is higher than the tile."""
        span = (high - 1) * self.gap[0]
        return min(self.step[0], span + 1), span // self.step[0]

    def _bound(self, high: int, wide: int) -> int:
        """The most elements that a block of places takes for each channel."""
        phases, halo = self._rows(high)
        return wide * phases * (COLUMNS + halo * WIDE + self.lanes)

    def _block(self, held: int, steps: int) -> tuple[int, int]:
        """The largest block of places that are few enough, and whose planes fit."""
        blocks = [(h, w) for h in range(1, self.most[0] + 1) for w in range(1, self.most[1] + 1)]
        fit = [b for b in blocks if self._bound(*b) <= held and b[0] * b[1] <= steps]
        return max(fit, key=lambda b: (b[0] * b[1], b[0]))

    @contextmanager
    def blocks(self, y: Axis, x: Axis) -> Iterator[Block]:
        """Loops over blocks of places and of channels."""
        k, channels = self.k, self.k.dim(self.channels)
        with (
            self._part(y.places, self.high, self.most[0]) as (down, high),
            self._part(x.places, self.wide, self.most[1]) as (right, wide),
        ):
            if self.held == self.channels:
                yield Block("0", down, right, channels, high, wide)
                return
            held = k.dim(self.held)
            with k.loop(channels, step=held) as channel:
                yield Block(channel, down, right, k.let(f"lesser({held}, {channels} - {channel})"), high, wide)

    @contextmanager
    def _part(self, places: str, size: int, most: int) -> Iterator[tuple[str, str]]:
        if size == most:
            yield "0", places
            return
        with self.k.loop(places, step=str(size)) as first:
            yield first, self.k.let(f"lesser({size}, {places} - {first})")

    # ---- where planes and runs lie

    def height(self, tile: Tile) -> str:
        """The rows of a plane."""
        return self.k.let(f"{tile.height} + {self.halo}") if self.halo else tile.height

    def size(self, tile: Tile) -> str:
        """The distance from one plane to the next."""
        elements = self.k.let(f"{self.height(tile)} * {tile.line}")
        return self.k.let(f"greater({self.lanes}, ({elements} + {self.lanes - 1}) & {-self.lanes})")

    def run(self, down: str, tile: Tile) -> str:
        """Where, from the first plane of a channel and column on, the run of a place `down` in its block begins."""
        k = self.k
        rows = k.let(f"{down} * {self.gap[0]}")
        row, phase = divided(k, rows, self.step[0])
        return k.let(f"{k.let(f'{phase} * {self.size(tile)}')} + {row} * {tile.line}")

    def table(self, into: str, block: Block, tile: Tile) -> None:
        """Write down where the run of each step of a block begins; steps are (channel, row, column)."""
        k = self.k
        with k.loop(block.channels) as c, k.loop(block.high) as u, k.loop(block.wide) as v:
            step = k.let(f"({c} * {block.high} + {u}) * {block.wide} + {v}")
            plane = k.let(f"({c} * {block.wide} + {v}) * {self.phases} * {self.size(tile)}")
            k.line(f"{into}[{step}] = {plane} + {self.run(u, tile)}")

    # ---- filling

    def fill(self, group: str, block: Block, tile: Tile, y: Axis, x: Axis) -> None:
        """Gather the planes of a block."""
        k = self.k
        size, first = self.size(tile), k.let(f"{group} * {k.dim(self.channels)} + {block.channel}")
        zero = literal(0, self.source.dtype)
        planes = k.let(f"{block.channels} * {block.wide} * {self.phases}")
        with k.loop(str(BEYOND), independent=True) as z:
            k.line(f"{self.array}[{k.let(f'{planes} * {size}')} + {z}] = {zero}")
        with k.loop(block.channels) as c, k.loop(block.wide) as v, k.loop(str(self.phases)) as phase:
            plane = k.let(f"(({c} * {block.wide} + {v}) * {self.phases} + {phase}) * {size}")
            column = k.let(f"{tile.x} * {x.step} + ({block.right} + {v}) * {x.gap} + {x.shift}")
            row = k.let(f"{tile.y} * {y.step} + {block.down} * {y.gap} + {phase} + {y.shift}")
            left, right = self._overlap(column, x, tile.width)
            top, bottom = self._overlap(row, y, self.height(tile))
            channel = k.let(f"{first} + {c}")
            with k.loop(str(self.lanes), independent=True) as z:  # vectors run over the end, and subnormals are slow
                k.line(f"{self.array}[{k.let(f'{plane} + {size} - {self.lanes}')} + {z}] = {zero}")
            if self.source in k.leaves and x.step in (1, 2):
                image = k.let(f"{k.dim(self.source.shape[1])} * {k.let(f'{y.size} * {x.size}')}")
                source = f"{tile.n} * {image} + ({channel} * {y.size} + {row}) * {x.size} + {column}"
                k.line(
                    f"copy_rows({self.lanes}, {x.step}, {self.array}, {plane}, {tile.line}, {tile.width}, "
                    f"{k.leaves[self.source]}, {source}, {y.step} * {x.size}, {image}, "
                    f"{tile.images}, {self.height(tile)}, {top}, {bottom}, {tile.width}, {left}, {right})"
                )
                return
            with k.loop(size, independent=True) as z:
                k.line(f"{self.array}[{plane} + {z}] = {zero}")
            with k.loop(bottom, top) as j, k.loop(tile.images) as i:
                at = k.let(f"{plane} + {j} * {tile.line} + {i} * {tile.width}")
                n, line = k.let(f"{tile.n} + {i}"), k.let(f"{j} * {y.step} + {row}")
                with k.loop(right, left, independent=True) as z:
                    element = k.element(self.source, [n, channel, line, k.let(f"{z} * {x.step} + {column}")])
                    k.line(f"{self.array}[{at} + {z}] = {element}")

    def _overlap(self, origin: str, axis: Axis, extent: str) -> tuple[str, str]:
        """Which of `extent` pixels, of which the first meets `origin`, meet an element: from where to where."""
        k = self.k
        begin = k.let(f"lesser({extent}, greater(0, {k.let(_ceiling(k.let(f'0 - {origin}'), axis.step))}))")
        end = k.let(f"lesser({extent}, {k.let(_ceiling(k.let(f'{axis.size} - {origin}'), axis.step))})")
        return begin, k.let(f"greater({begin}, {end})")


def divided(k: LoopEmitter, i: str, size: int) -> tuple[str, str]:
    """The quotient and the remainder of an index by a literal."""
    if size == 1:
        return i, "0"
    quotient = k.let(f"{i} // {size}")
    return quotient, k.let(f"{i} - {quotient} * {size}")


def _ceiling(a: str, b: int) -> str:
    return a if b == 1 else f"({a} + {b - 1}) // {b}"
