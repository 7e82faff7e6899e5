"""Which register tile a contraction is computed in: as many accumulators as there are registers for them.

A step of a tile of r rows and v vectors of columns costs r * v multiply-adds, of which a core starts two a cycle, and
r + v loads, of which it also does two; fewer than eight multiply-adds would wait for one another. Loads that keep up
still cost a little (`LOAD`, fitted), since not all come from the first cache. The tile chosen is the one that needs the
fewest cycles for all of the result, with what its last row and column of tiles waste.
"""

from __future__ import annotations

from dataclasses import dataclass

from dlc.backends.target import Target
from dlc.dims import DimLike

LATENCY = 8  # multiply-adds under way at once: two a cycle, four cycles each
LOAD = 0.25  # cycles
MOST_ROWS = 13
BATCH = 32  # stands for a dim that is not known, which most often is a batch


@dataclass(frozen=True)
class TileShape:
    """Rows, and vectors of `lanes` columns."""

    rows: int
    vectors: int
    lanes: int

    @property
    def width(self) -> int:
        """Columns."""
        return self.vectors * self.lanes


def tile_shape(target: Target, dtype: str, rows: DimLike, columns: DimLike) -> TileShape:
    """The best tile for a result of `rows` x `columns`.

    >>> tile_shape(Target("cpu", vector=64, registers=32), "float32", 768, 768)
    TileShape(rows=12, vectors=2, lanes=16)
    >>> tile_shape(Target("cpu", vector=32, registers=16), "float32", 768, 768)
    TileShape(rows=6, vectors=2, lanes=8)
    """
    lanes = target.lanes(dtype)
    m, n = (d if isinstance(d, int) else BATCH for d in (rows, columns))
    shapes = [
        TileShape(r, v, lanes)
        for v in (1, 2)
        for r in range(1, min(max(m, 1), MOST_ROWS) + 1)
        if r * v + v + 1 < target.registers
    ]
    return min(shapes, key=lambda t: (_cycles(t, m, n), -t.rows * t.vectors))


def _cycles(t: TileShape, m: int, n: int) -> float:
    """Cycles of one step over all tiles of a result."""
    tiles = -(-m // t.rows) * -(-n // t.width)
    loads = t.rows + t.vectors
    return tiles * (max(t.rows * t.vectors, loads, LATENCY) / 2 + LOAD * loads)
