"""The image elements that a tile of a convolution's pixels meets, gathered into local memory without tests.

For a channel and a horizontal place of the kernel, a plane holds the elements that the tile's pixels meet there, in
rows as wide as the tile: padding is zeros in it, strides and horizontal dilation are gone. A step down the kernel is
then a shift by whole rows, so that the operand of each place is one dense run, as long as the tile has pixels. Rows
that a vertical stride tells apart lie in planes of their own, its phases. Backwards (a pixel meets the gradients of
the outputs that it took part in) the stride parts the elements instead, and zeros lie between them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from dlc.backends.axes import is_one
from dlc.backends.emitter import LoopEmitter
from dlc.backends.expressions import literal
from dlc.dims import DimLike, Shape
from dlc.dtypes import itemsize
from dlc.ir import Node

COLUMNS = 256  # most pixels of a tile
WIDE, NARROW = 128, 64  # most columns of a tile whose planes are higher; the fewer where there are rows to fill it
LANES = 16  # runs are worked on in whole vectors of this many elements
PLANES = 96 * 1024  # bytes of local memory for planes


@dataclass(frozen=True)
class Tile:
    """A rectangle of pixels: its corner, its size, how many pixels it has, and that number in whole vectors."""

    y: str
    x: str
    height: str
    width: str
    pixels: str
    lanes: str


@contextmanager
def tiles(k: LoopEmitter, shape: Shape, halo: int) -> Iterator[Tile]:
    """Loops over tiles of nearly equal sizes that cover an image; `halo` is by how many rows planes are higher."""
    rows, columns = map(k.dim, shape)
    limit = k.let(f"select({rows} * {NARROW} < {COLUMNS}, {WIDE}, {NARROW})") if halo else str(COLUMNS)
    wide = _even(k, columns, limit)
    high = _even(k, rows, k.let(f"{COLUMNS} // {wide}"))
    with k.loop(rows, step=high) as y, k.loop(columns, step=wide) as x:
        height, width = k.let(f"lesser({high}, {rows} - {y})"), k.let(f"lesser({wide}, {columns} - {x})")
        pixels = k.let(f"{height} * {width}")
        yield Tile(y, x, height, width, pixels, k.let(f"({pixels} + {LANES - 1}) & {-LANES}"))


def _even(k: LoopEmitter, extent: str, limit: str) -> str:
    """The step that covers an extent in as few parts as `limit` allows, all nearly equal; at least 1."""
    parts = k.let(f"greater(1, ({extent} + {limit} - 1) // {limit})")
    return k.let(f"greater(1, ({extent} + {parts} - 1) // {parts})")


@dataclass(frozen=True)
class Block:
    """The channels and kernel places whose planes are held at once: where they begin, and how many steps they are."""

    channel: str
    channels: str
    down: str
    right: str
    steps: str


class Planes:
    """The planes of one operand of a convolution: how they are laid out, filled and read.

    `source` holds the elements; `channels` is how many channels a group of it has. Sizes of blocks are literals, so
    that places in local memory are known, whatever the sizes of images are; a block never ends before its last place.
    """

    def __init__(
        self, k: LoopEmitter, heavy: Node, source: Node, kernel: Shape, channels: DimLike, backward: bool = False
    ) -> None:
        self.k, self.source, self.kernel, self.channels, self.backward = k, source, kernel, channels, backward
        self.stride, self.padding, self.dilation = (heavy.attrs[n] for n in ("stride", "padding", "dilation"))
        self.most = PLANES // itemsize(source.dtype)
        self.high, self.wide = self._block()
        self.phases, self.halo = self._rows(self.high)
        self.held = self.most // self._bound(self.high, self.wide)
        self.array = k.local(source.dtype, self.most + LANES)
        self.runs = k.local("int64", self.most_steps)  # where the operand of each step of a block begins
        with k.loop(str(self.most + LANES), independent=True) as i:  # vectors may run over the end of what is filled
            k.line(f"{self.array}[{i}] = {literal(0, source.dtype)}")

    # ---- how large a block is

    def _rows(self, high: int) -> tuple[int, int]:
        """How many phases a block of `high` places has, and by how many rows a plane is higher than the tile."""
        span = (high - 1) * self.dilation[0]
        stride = 1 if self.backward else self.stride[0]
        return min(stride, span + 1), span // stride

    def _bound(self, high: int, wide: int) -> int:
        """The most elements that a block of places takes for each channel."""
        phases, halo = self._rows(high)
        return wide * phases * (COLUMNS + halo * WIDE)

    def _block(self) -> tuple[int, int]:
        """The largest block of kernel places whose planes fit; it divides the kernel."""
        parts = [(h, w) for h in divisors(self.kernel[0]) for w in divisors(self.kernel[1])]
        return max((p for p in parts if self._bound(*p) <= self.most), key=lambda p: (p[0] * p[1], p[0]))

    @property
    def places(self) -> int:
        """How many kernel places a block has."""
        return self.high * self.wide

    @property
    def whole(self) -> bool:
        """Whether a block has all places of the kernel."""
        return (self.high, self.wide) == self.kernel

    @property
    def most_steps(self) -> int:
        """The most steps that a block has."""
        return self.held * self.places

    @contextmanager
    def blocks(self) -> Iterator[Block]:
        """Loops over blocks of channels and of kernel places."""
        k, channels = self.k, self.k.dim(self.channels)
        with (
            k.loop(channels, step=str(self.held)) as channel,
            self._parts(0, self.high) as down,
            self._parts(1, self.wide) as right,
        ):
            count = k.let(f"lesser({self.held}, {channels} - {channel})")
            yield Block(channel, count, down, right, k.let(f"{count} * {self.places}") if self.places > 1 else count)

    @contextmanager
    def _parts(self, axis: int, size: int) -> Iterator[str]:
        if self.kernel[axis] == size:
            yield "0"
        else:
            with self.k.loop(self.k.dim(self.kernel[axis]), step=str(size)) as place:
                yield place

    # ---- filling

    def fill(self, n: str, group: str, block: Block, tile: Tile) -> None:
        """Gather the planes of a block: zeros first, then what of each plane lies in the image."""
        k = self.k
        with k.loop(block.steps, independent=True) as s:
            k.line(f"{self.runs}[{s}] = {self._place(s, tile)}")
        size = self._size(tile)
        if self.backward or any(map(any, self.padding)):
            with k.loop(k.let(f"{block.channels} * {self.wide * self.phases} * {size}"), independent=True) as i:
                k.line(f"{self.array}[{i}] = {literal(0, self.source.dtype)}")
        first = k.let(f"{group} * {k.dim(self.channels)} + {block.channel}")
        with k.loop(block.channels) as c, k.loop(str(self.wide)) as v, k.loop(str(self.phases)) as phase:
            plane = k.let(f"(({c} * {self.wide} + {v}) * {self.phases} + {phase}) * {size}")
            below = k.let(f"{block.down} + {self.high - 1 if self.backward else 0}")
            rows = self._overlap(0, below, tile.y, self._height(tile), phase)
            columns = self._overlap(1, k.let(f"{block.right} + {v}"), tile.x, tile.width)
            channel = k.let(f"{first} + {c}")
            with k.loop(rows.stop, rows.start) as i:
                line = k.let(f"{plane} + {k.let(f'{rows.plane(k, i)} * {tile.width}')}")
                row = rows.source(k, i)
                with k.loop(columns.stop, columns.start, independent=True) as j:
                    element = k.element(self.source, [n, channel, row, columns.source(k, j)])
                    k.line(f"{self.array}[{k.let(f'{line} + {columns.plane(k, j)}')}] = {element}")

    def _height(self, tile: Tile) -> str:
        return self.k.let(f"{tile.height} + {self.halo}") if self.halo else tile.height

    def _size(self, tile: Tile) -> str:
        elements = self.k.let(f"{self._height(tile)} * {tile.width}")
        return self.k.let(f"({elements} + {LANES - 1}) & {-LANES}")

    def _overlap(self, axis: int, place: str, corner: str, extent: str, phase: str = "0") -> Overlap:
        """What of a plane lies in the image, along an axis."""
        k, stride, low = self.k, self.stride[axis], self.padding[axis][0]
        reached = k.let(f"{place} * {self.dilation[axis]}")
        n = k.dim(self.source.shape[2 + axis])
        if self.backward:
            shift = k.let(f"{corner} + {low} - {reached}")
            start = k.let(f"greater(0, {_ceiling(shift, stride)})")
            stop = k.let(f"lesser({n}, {_ceiling(f'{shift} + {extent}', stride)})")
            return Overlap(start, stop, stride, f"0 - {shift}", 1, "0")
        shift = k.let(f"{corner} * {stride} + {reached} + {phase} - {low}")
        if not any(self.padding[axis]) and (axis == 1 or self.phases == 1):
            return Overlap("0", extent, 1, "0", stride, shift)
        start = k.let(f"greater(0, {_ceiling(f'0 - {shift}', stride)})")
        stop = k.let(f"lesser({extent}, {_ceiling(f'{n} - {shift}', stride)})")
        return Overlap(start, stop, 1, "0", stride, shift)

    def _place(self, s: str, tile: Tile) -> str:
        """Where the operand of a step begins: one element for each pixel of the tile."""
        k = self.k
        c, u, v = self._step(s)
        if self.backward:
            phase, row = "0", k.let(f"({self.high - 1} - {u}) * {self.dilation[0]}")
        else:
            row, phase = divided(k, k.let(f"{u} * {self.dilation[0]}"), self.stride[0])
        plane = k.let(f"(({c} * {self.wide} + {v}) * {self.phases} + {phase}) * {self._size(tile)}")
        return f"{plane} + {k.let(f'{row} * {tile.width}')}"

    # ---- reading

    def run(self, s: str) -> str:
        """Where the operand of a step begins: one element for each pixel of the tile."""
        return self.k.let(f"{self.runs}[{s}]", loads=True)

    def _step(self, s: str) -> tuple[str, str, str]:
        """The channel and the place down and right, within its block, of a step."""
        c, place = divided(self.k, s, self.places)
        u, v = divided(self.k, place, self.wide) if self.high > 1 else ("0", place)
        return c, u, v

    def first(self, block: Block) -> str:
        """The first step of a block of whole kernels, among all steps of a group."""
        return self.k.let(f"{block.channel} * {self.places}") if self.places > 1 else block.channel

    def place(self, block: Block, s: str) -> list[str]:
        """The channel, within its group, and the kernel's place that a step stands for."""
        k = self.k
        c, u, v = self._step(s)
        down, right = (
            "0" if is_one(d) else k.let(f"{first} + {i}")
            for d, first, i in zip(self.kernel, (block.down, block.right), (u, v), strict=True)
        )
        return ["0" if is_one(self.channels) else k.let(f"{block.channel} + {c}"), down, right]


@dataclass(frozen=True)
class Overlap:
    """Along an axis, the i in start .. stop for which plane element i * a + b is image element i * p + q."""

    start: str
    stop: str
    a: int
    b: str
    p: int
    q: str

    def plane(self, k: LoopEmitter, i: str) -> str:
        """The place in the plane."""
        return i if (self.a, self.b) == (1, "0") else k.let(f"{i} * {self.a} + {k.let(self.b)}")

    def source(self, k: LoopEmitter, i: str) -> str:
        """The place in the image."""
        return i if (self.p, self.q) == (1, "0") else k.let(f"{i} * {self.p} + {self.q}")


def divided(k: LoopEmitter, i: str, size: int) -> tuple[str, str]:
    """The quotient and the remainder of an index by a literal."""
    if size == 1:
        return i, "0"
    quotient = k.let(f"{i} // {size}")
    return quotient, k.let(f"{i} - {quotient} * {size}")


def divisors(d: DimLike) -> list[int]:
    """What divides a dim for certain."""
    return [n for n in range(1, d + 1) if d % n == 0] if isinstance(d, int) and d else [1]


def _ceiling(a: str, b: int) -> str:
    return a if b == 1 else f"({a} + {b - 1}) // {b}"
