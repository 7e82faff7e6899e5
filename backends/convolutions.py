"""Convolutions and their adjoints as loops.

The image elements that a tile of pixels meets are gathered into planes of local memory (see `planes`), so that the
inner loops of `contractions` run over dense rows whatever the stride, dilation and padding.
"""

from __future__ import annotations

from collections.abc import Sequence

from dlc.backends.axes import grouped, is_one, reach
from dlc.backends.contractions import (
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
from dlc.backends.emitter import LoopEmitter, put
from dlc.backends.nests import store
from dlc.backends.planes import COLUMNS, Block, Planes, Tile, divided, tiles
from dlc.dtypes import itemsize
from dlc.ir import Node

FILTERS = 128  # most rows of accumulators; a multiple of ROWS
GRADIENTS = 512  # bytes of a column of gradients beside their accumulators; whole steps of ROWS elements


def conv2d(k: LoopEmitter, node: Node, outputs: Sequence[Node], targets: Sequence[str]) -> None:
    """For each image, group and tile of pixels: filters times the gathered planes."""
    heavy = contraction(node)
    x, w = heavy.inputs
    planes = Planes(k, heavy, x, w.shape[2:], w.shape[1])
    flat = grouped((1, 2, 3), w.shape, reach(w, k.leaves))

    def weight(group: str, row: str, block: Block, s: str) -> str:
        if planes.whole and len(flat) == 1:
            return k.element(w, put([row, "0", "0", "0"], flat[0], k.let(f"{planes.first(block)} + {s}")))
        return k.element(w, [row, *planes.place(block, s)])

    _filtered(k, heavy, outputs, targets, planes, weight)


def conv2d_data_gradient(k: LoopEmitter, node: Node, outputs: Sequence[Node], targets: Sequence[str]) -> None:
    """The same, with the channels' roles exchanged: a pixel gathers the gradients of the outputs it took part in."""
    heavy = contraction(node)
    g, w = heavy.inputs
    filters = w.shape[0] // heavy.attrs["groups"]
    planes = Planes(k, heavy, g, w.shape[2:], filters, backward=True)
    flat = grouped((2, 3), w.shape, reach(w, k.leaves))

    def weight(group: str, row: str, block: Block, s: str) -> str:
        channel, *place = planes.place(block, s)
        o = k.let(f"{k.let(f'{group} * {k.dim(filters)}')} + {channel}")
        c = k.let(f"{row} - {k.let(f'{group} * {k.dim(w.shape[1])}')}")
        if planes.whole and len(flat) == 1:
            return k.element(w, put([o, c, "0", "0"], flat[0], divided(k, s, planes.places)[1]))
        return k.element(w, [o, c, *place])

    _filtered(k, heavy, outputs, targets, planes, weight)


def _filtered(
    k: LoopEmitter, heavy: Node, outputs: Sequence[Node], targets: Sequence[str], planes: Planes, weight: Text
) -> None:
    """result[n, o, pixel] = sum of weight(group, o, s) * planes[s, pixel], tile by tile."""
    filters = heavy.shape[1] // heavy.attrs["groups"]
    per_group, rows = k.dim(filters), fewer(ROWS, filters)
    total = k.local(heavy.dtype, FILTERS * COLUMNS)
    with (
        k.tasks(heavy.shape[0]) as n,
        k.loop(k.dim(heavy.attrs["groups"])) as group,
        tiles(k, heavy.shape[2:], planes.halo) as tile,
        k.loop(per_group, step=str(FILTERS)) as first,
    ):
        top = k.let(f"{group} * {per_group} + {first}")
        count = k.let(f"lesser({FILTERS}, {per_group} - {first})")
        last = k.let(f"{top} + {count}")
        clear(k, total, heavy.dtype, whole(k, count, rows), COLUMNS, tile.lanes)
        with planes.blocks() as block:
            planes.fill(n, group, block, tile)
            with k.loop(count, step=str(rows)) as r0:
                at = [at_most(k, k.let(f"{top} + {r0} + {r}"), last) for r in range(rows)]
                outer_products(
                    k, total, k.let(f"{r0} * {COLUMNS}"), rows, COLUMNS, ("0", block.steps), tile.lanes,
                    lambda r, s: weight(group, at[r], block, s),
                    lambda s, j: k.let(f"{planes.array}[{planes.run(s)} + {j}]", loads=True),
                )  # fmt: skip
        with k.loop(count) as r:
            lead = [n, k.let(f"{top} + {r}")]
            _store_pixels(k, heavy, outputs, targets, lead, f"{total}[{k.let(f'{r} * {COLUMNS}')}", tile)


def _store_pixels(
    k: LoopEmitter, heavy: Node, outputs: Sequence[Node], targets: Sequence[str],
    lead: list[str], total: str, tile: Tile,
) -> None:  # fmt: skip
    """Store a tile of pixels, row by row."""
    with k.loop(tile.height) as y:
        line = k.let(f"{y} * {tile.width}")
        with k.loop(tile.width, independent=True) as x:
            place = [*lead, k.let(f"{tile.y} + {y}"), k.let(f"{tile.x} + {x}")]
            _finish(k, heavy, outputs, targets, place, f"{total} + {line} + {x}]")


def conv2d_weight_gradient(k: LoopEmitter, node: Node, outputs: Sequence[Node], targets: Sequence[str]) -> None:
    """For blocks of filters and of kernel places: dot products of gradients and gathered planes, over all pixels."""
    heavy = contraction(node)
    x, g = heavy.inputs
    filters, channels = heavy.shape[0] // heavy.attrs["groups"], heavy.shape[1]
    planes = Planes(k, heavy, x, heavy.shape[2:], channels)
    per_group, rows = k.dim(filters), fewer(ROWS, filters)
    held = GRADIENTS // itemsize(heavy.dtype)
    pitch = -(-planes.most_steps // ROWS) * ROWS
    total, gradients = k.local(heavy.dtype, held * pitch), k.local(heavy.dtype, held * COLUMNS)
    with (
        k.loop(k.dim(heavy.attrs["groups"])) as group,
        k.loop(per_group, step=str(held)) as first,
        planes.blocks() as block,
    ):
        top = k.let(f"{group} * {per_group} + {first}")
        count = k.let(f"lesser({held}, {per_group} - {first})")
        clear(k, total, heavy.dtype, whole(k, count, rows), pitch, whole(k, block.steps, ROWS))
        with k.loop(k.dim(g.shape[0])) as n, tiles(k, g.shape[2:], planes.halo) as tile:
            planes.fill(n, group, block, tile)
            _gather_gradients(k, g, gradients, n, top, count, tile)
            with k.loop(count, step=str(rows)) as r0, k.loop(block.steps, step=str(ROWS)) as c0:
                lines = [k.let(f"{at_most(k, k.let(f'{r0} + {r}'), count)} * {COLUMNS}") for r in range(rows)]
                runs = [planes.run(at_most(k, k.let(f"{c0} + {c}"), block.steps)) for c in range(ROWS)]
                products = dot_products(
                    k, heavy.dtype, rows, ROWS, ("0", tile.pixels),
                    lambda r, s: k.let(f"{gradients}[{lines[r]} + {s}]", loads=True),
                    lambda c, s: k.let(f"{planes.array}[{runs[c]} + {s}]", loads=True),
                )  # fmt: skip
                add_tile(k, total, k.let(f"{r0} * {pitch} + {c0}"), pitch, products)
        with k.loop(count) as r, k.loop(block.steps) as c:
            place = [k.let(f"{top} + {r}"), *planes.place(block, c)]
            _finish(k, heavy, outputs, targets, place, f"{total}[{k.let(f'{r} * {pitch}')} + {c}]")


def _gather_gradients(k: LoopEmitter, g: Node, into: str, n: str, top: str, count: str, tile: Tile) -> None:
    """The gradients of a tile's pixels, a row for each filter."""
    with k.loop(count) as r, k.loop(tile.height) as y:
        o, row = k.let(f"{top} + {r}"), k.let(f"{tile.y} + {y}")
        line = k.let(f"{r} * {COLUMNS} + {k.let(f'{y} * {tile.width}')}")
        with k.loop(tile.width, independent=True) as x:
            k.line(f"{into}[{line} + {x}] = {k.element(g, [n, o, row, k.let(f'{tile.x} + {x}')])}")


def _finish(
    k: LoopEmitter, heavy: Node, outputs: Sequence[Node], targets: Sequence[str], place: list[str], total: str
) -> None:
    """Store what follows from one element of the result."""
    place = ["0" if is_one(d) else i for i, d in zip(place, heavy.shape, strict=True)]
    k.provide(heavy, place, k.let(total, loads=True))
    store(k, outputs, targets, place)


def whole(k: LoopEmitter, count: str, step: int) -> str:
    """A count, rounded up to whole steps."""
    return k.let(f"({count} + {step - 1}) // {step} * {step}")
