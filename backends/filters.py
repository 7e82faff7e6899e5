"""The weights of a convolution, copied into the order in which register tiles read them.

A row of the result is a filter; backwards it is a channel, and filters are what is summed. A block of as many rows as
the tile has lies side by side, the next step of the sum behind them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dlc.backends.axes import grouped, reach
from dlc.backends.emitter import LoopEmitter, put
from dlc.backends.expressions import literal
from dlc.backends.planes import Axis, Block, ceiling, kernel_size
from dlc.dims import DimLike, product
from dlc.ir import Node

STAGE = 128  # steps that are copied before they are transposed
TURNED = 16  # filters of a task that packs channels


class Filters:
    """Packed weights: for each class of pixels, group and block of rows a section of shared memory."""

    def __init__(
        self, k: LoopEmitter, weights: Node, groups: int, backward: bool, rows: int, most: tuple[int, int], classes: int
    ) -> None:
        self.k, self.weights, self.backward, self.rows = k, weights, backward, rows
        filters = weights.shape[0] // groups
        self.count, self.channels = (weights.shape[1], filters) if backward else (filters, weights.shape[1])
        self.blocks = ceiling(self.count, rows)
        self.lanes = k.target.lanes(weights.dtype)
        self.extents: list[DimLike] = [classes, groups, self.blocks]
        self.places = most[0] * most[1]
        steps = ceiling(self.channels * self.places, self.lanes) * self.lanes
        self.section = steps * rows + self.lanes  # a transposition writes whole vectors
        self.nonfinite = ""
        self.packed = k.shared(weights.dtype, product([*self.extents, self.section]))

    def section_at(self, which: str, group: str, block: str) -> str:
        """Where a section begins."""
        k = self.k
        flat = block
        if self.extents[0] != 1 or self.extents[1] != 1:
            flat = k.let(f"({which} * {k.dim(self.extents[1])} + {group}) * {k.dim(self.blocks)} + {block}")
        return k.let(f"{flat} * {k.dim(self.section)}")

    def steps_at(self, block: Block, x: Axis) -> str:
        """How many steps come before those of a block."""
        k = self.k
        before = k.let(f"{k.dim(self.channels)} * ({block.down} * {x.places} + {block.high} * {block.right})")
        return k.let(f"{before} + {block.channel} * {block.high} * {block.wide}")

    def pack_rows(self, group: str, block: str) -> None:
        """Pack a block of filters, whose steps are in the order of memory."""
        k, dtype = self.k, self.weights.dtype
        lanes, rows = self.lanes, self.rows
        base = self.section_at("0", group, block)
        first = k.let(f"{block} * {rows}")
        count = k.let(f"lesser({rows}, {k.dim(self.count)} - {first})")
        steps, pitch = k.dim(self.channels * self.places), STAGE + lanes
        top = k.let(f"{group} * {k.dim(self.count)} + {first}")
        stage = k.local(dtype, max(lanes, rows) * pitch)
        with k.loop(k.let(f"{max(lanes, rows)} - {count}")) as r, k.loop(str(STAGE), independent=True) as s:
            k.line(f"{stage}[{k.let(f'({count} + {r}) * {pitch}')} + {s}] = {literal(0, dtype)}")
        with k.loop(steps, step=str(STAGE)) as begin:
            length = k.let(f"lesser({STAGE}, {steps} - {begin})")
            with k.loop(count) as r, k.loop(length, independent=True) as s:
                place = put([k.let(f"{top} + {r}"), "0", "0", "0"], [1, 2, 3], k.let(f"{begin} + {s}"))
                self._copy(f"{stage}[{k.let(f'{r} * {pitch}')} + {s}]", place)
            with k.loop(length, step=str(lanes)) as s:
                into = k.let(f"{base} + ({begin} + {s}) * {rows}")
                k.line(f"transpose({lanes}, {stage}, {s}, {pitch}, {self.packed}, {into}, {rows})")

    @property
    def in_order(self) -> bool:
        """Whether channels and places of a filter can be walked as one, and vectors can be transposed into rows."""
        w = self.weights
        high, wide = kernel_size(w.shape[2:])
        long = [a for a in (1, 2, 3) if w.shape[a] != 1]
        walks = grouped(long, w.shape, reach(w, self.k.leaves))
        return self.rows <= self.lanes and len(walks) <= 1 and high * wide <= STAGE

    def pack_turned(self, which: str, group: str, part: str, y: Axis, x: Axis) -> None:
        """Pack the channels of `TURNED` filters, in which places are neighbours; all places are one block."""
        k, w, dtype, lanes, rows = self.k, self.weights, self.weights.dtype, self.lanes, self.rows
        high, wide = kernel_size(w.shape[2:])
        size = high * wide
        whole = -(-size // lanes) * lanes
        stage, turned = k.local(dtype, lanes * (size + lanes)), k.local(dtype, whole * lanes)
        with k.loop(str(lanes * (size + lanes)), independent=True) as i:
            k.line(f"{stage}[{i}] = {literal(0, dtype)}")
        long = [a for a in (1, 2, 3) if w.shape[a] != 1]
        begin = k.let(f"{part} * {TURNED}")
        end = k.let(f"lesser({begin} + {TURNED}, {k.dim(self.channels)})")
        with k.loop(end, begin) as o, k.loop(k.dim(self.blocks)) as block:
            base, first = self.section_at(which, group, block), k.let(f"{block} * {rows}")
            count = k.let(f"lesser({rows}, {k.dim(self.count)} - {first})")
            filter = "0" if w.shape[0] == 1 else k.let(f"{group} * {k.dim(self.channels)} + {o}")
            with k.loop(k.let(f"{count} * {size}"), independent=True) as i:
                place = put([filter, "0", "0", "0"], long, k.let(f"{first} * {size} + {i}"))
                self._copy(f"{stage}[{i}]", place)
            with k.loop(k.let(f"{rows} * {size}"), k.let(f"{count} * {size}"), independent=True) as i:
                k.line(f"{stage}[{i}] = {literal(0, dtype)}")
            with k.loop(str(whole), step=str(lanes)) as i:
                k.line(f"transpose({lanes}, {stage}, {i}, {size}, {turned}, {i} * {lanes}, {lanes})")
            with k.loop(y.places) as u:
                into = k.let(f"{base} + ({o} * {y.places} + {u}) * {x.places} * {rows}")
                start, following = (k.let(f"{y.kernel(u)} * {wide} + {x.kernel(v)}") for v in "01")
                k.line(
                    f"copy_rows({lanes}, 1, {self.packed}, {into}, {rows}, 0, {turned}, {start} * {lanes}, "
                    f"({following} - {start}) * {lanes}, 0, 1, {x.places}, 0, {x.places}, {rows}, 0, {rows})"
                )

    @contextmanager
    def noting(self) -> Iterator[str]:
        """Keep, in the name given, whether any weight that is packed meanwhile is infinite or NaN."""
        self.nonfinite = self.k.fresh("a")
        self.k.line(f"{self.nonfinite} = False")
        yield self.nonfinite
        self.nonfinite = ""

    def _copy(self, into: str, place: list[str]) -> None:
        """Copy one weight."""
        weight = self.k.element(self.weights, place)
        self.k.line(f"{into} = {weight}")
        if self.nonfinite:
            self.k.line(f"{self.nonfinite} = {self.nonfinite} | invert(isfinite({weight}))")

    def pack(self, which: str, group: str, block: str, places: Block, y: Axis, x: Axis) -> None:
        """Pack one block of rows, for one block of places and channels."""
        k, w, rows = self.k, self.weights, self.rows
        base = k.let(f"{self.section_at(which, group, block)} + {self.steps_at(places, x)} * {rows}")
        first = k.let(f"{block} * {rows}")
        count = k.let(f"lesser({rows}, {k.dim(self.count)} - {first})")
        with k.loop(places.channels) as c, k.loop(places.high) as u, k.loop(places.wide) as v:
            at = k.let(f"{base} + (({c} * {places.high} + {u}) * {places.wide} + {v}) * {rows}")
            channel = k.let(f"{places.channel} + {c}")
            down, right = (
                "0" if d == 1 else axis.kernel(k.let(f"{begin} + {i}"))
                for d, axis, begin, i in zip(w.shape[2:], (y, x), (places.down, places.right), (u, v), strict=True)
            )
            if self.backward:
                channel = k.let(f"{group} * {k.dim(self.channels)} + {channel}")
            with k.loop(count) as r:
                row = k.let(f"{first} + {r}")
                own = [channel, row] if self.backward else [k.let(f"{group} * {k.dim(self.count)} + {row}"), channel]
                lead = ["0" if d == 1 else i for d, i in zip(w.shape, own, strict=False)]
                self._copy(f"{self.packed}[{at} + {r}]", [*lead, down, right])
            with k.loop(str(rows), count) as r:
                k.line(f"{self.packed}[{at} + {r}] = {literal(0, w.dtype)}")
