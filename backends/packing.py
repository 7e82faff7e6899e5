"""Copies of parts of an operand into neighbouring memory, in the order in which a register tile reads them.

`load(at, s)` gives the element of row or column `at` at step `s` of the sum, both from 0 on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from dlc.backends.emitter import LoopEmitter
from dlc.backends.expressions import literal

STAGE = 128  # steps that are copied before they are transposed
AHEAD = 2  # steps

Load = Callable[[str, str], str]
Fetch = Callable[[str, str], None]


class Panels(NamedTuple):
    """How columns lie packed: `number` panels of `width` columns, `size` apart.

    Steps are `pitch` apart: where that is less than `width`, a step is laid over the last columns of the one before.
    """

    number: str
    width: int
    lanes: int
    size: int
    pitch: int


def by_rows(k: LoopEmitter, into: str, rows: str, pitch: int, steps: str, load: Load) -> None:
    """``into[r * pitch + s]``: for operands that run along the sum."""
    with k.loop(rows) as r, k.loop(steps, independent=True) as s:
        k.line(f"{into}[{k.let(f'{r} * {pitch}')} + {s}] = {load(r, s)}")


def by_steps(
    k: LoopEmitter,
    dtype: str,
    into: str,
    panels: Panels,
    columns: str,
    exact: bool,
    steps: str,
    load: Load,
    fetch: Fetch,
) -> None:
    """``into[panel * size + s * pitch + j]``: for operands that run along their side.

    There are zeros where the last panel has no columns, unless `exact` says that it has all. Steps may lie whole pages
    apart, where no processor looks ahead: `fetch(at, s)` asks for the memory of `load(at, s)`.
    """
    width = panels.width

    def copy(panel: str, s: str, first: str, stop: str, value: Load) -> None:
        row = k.let(f"{panel} * {panels.size} + {s} * {panels.pitch}")
        left = k.let(f"{panel} * {panels.pitch}")
        with k.loop(stop, first, independent=True) as j:
            k.line(f"{into}[{row} + {j}] = {value(k.let(f'{left} + {j}'), s)}")

    whole = k.let(f"greater({columns} - {width - panels.pitch}, 0)")  # of a width less than that no panel is full
    full = panels.number if exact else k.let(f"lesser({whole} // {panels.pitch}, {panels.number})")
    with k.loop(steps) as s:
        coming = k.let(f"lesser({s} + {AHEAD}, {steps} - 1)")
        with k.loop(full) as panel:
            for j in range(0, width, panels.lanes):
                fetch(k.let(f"{panel} * {panels.pitch} + {j}"), coming)
            copy(panel, s, "0", str(width), load)
        if not exact:
            with k.loop(panels.number, full) as panel:
                rest = k.let(f"lesser({columns} - {panel} * {panels.pitch}, {width})")
                copy(panel, s, "0", rest, load)
                copy(panel, s, rest, str(width), lambda j, s: literal(0, dtype))


def turned(
    k: LoopEmitter, dtype: str, into: str, panels: Panels, columns: str, exact: bool, steps: str, load: Load
) -> None:
    """What `by_steps` makes, for operands that run along the sum. Writes whole vectors of steps."""
    width, lanes, pitch = panels.width, panels.lanes, STAGE + panels.lanes
    stage = k.local(dtype, width * pitch)
    with k.loop(panels.number) as panel, k.loop(steps, step=str(STAGE)) as first:
        left, length = k.let(f"{panel} * {width}"), k.let(f"lesser({STAGE}, {steps} - {first})")
        rows = str(width) if exact else k.let(f"lesser({width}, {columns} - {left})")
        by_rows(k, stage, rows, pitch, length, lambda j, s: load(k.let(f"{left} + {j}"), k.let(f"{first} + {s}")))
        if not exact:
            with k.loop(str(width), rows) as j, k.loop(length, independent=True) as s:
                k.line(f"{stage}[{k.let(f'{j} * {pitch}')} + {s}] = {literal(0, dtype)}")
        with k.loop(length, step=str(lanes)) as s:
            row = k.let(f"{panel} * {panels.size} + ({first} + {s}) * {width}")
            for column in range(0, width, lanes):
                source, target = f"{column * pitch} + {s}", f"{row} + {column}"
                k.line(f"transpose({lanes}, {stage}, {source}, {pitch}, {into}, {target}, {width})")
