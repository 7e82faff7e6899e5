"""Reductions as kernels: along rows, down columns, or of everything; those of one operand in one sweep over it.

Columns and everything are reduced in two parts: tasks reduce chunks of fixed size into scratch memory, and then the
chunks are combined in order. So all threads take part, and the numbers do not depend on how many there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from dlc.backends.axes import grouped, is_one, merged, reach
from dlc.backends.emitter import CHUNK, LoopEmitter, put
from dlc.backends.expressions import combined, initial, is_sum
from dlc.backends.maps import map_
from dlc.backends.nests import nest, store
from dlc.dims import DimLike, Shape, product
from dlc.ir import Node
from dlc.ops.definition import Kind

COLUMNS = 512  # elements of a row of accumulators, kept in the first-level cache
ROWS = 256  # rows that are summed before they join the total; part of the numbers' definition


def reduction(k: LoopEmitter, node: Node, outputs: Sequence[Node], targets: Sequence[str]) -> None:
    """Row by row where a reduced axis is innermost in memory; else rows are combined into rows of accumulators."""
    nodes = node.attrs["body"].nodes if node.op.kind is Kind.FUSED else (node,)
    heavies = [n for n in nodes if n.op.kind is Kind.REDUCE]
    shape, axes = heavies[0].inputs[0].shape, tuple(heavies[0].attrs["axes"])
    long = [a for a in range(len(shape)) if not is_one(shape[a])]
    found = merged(reach(h.inputs[0], k.leaves) for h in heavies)
    alike = all(h.inputs[0].shape == shape and tuple(h.attrs["axes"]) == axes for h in heavies)
    searches = any(h.op.name in ("argmax", "argmin") for h in heavies)
    if not long or not alike or searches or {n.shape for n in outputs} != {heavies[0].shape}:
        map_(k, node, outputs, targets)
    elif all(a in axes for a in long):
        _whole(k, heavies, grouped(axes, shape, found), outputs, targets)
    elif found.fastest(long) in axes or not any(a in axes for a in long):
        map_(k, node, outputs, targets)
    else:
        _columns(k, heavies, outputs, targets)


# ---------------------------------------------------------------- everything


def _whole(
    k: LoopEmitter,
    heavies: Sequence[Node],
    groups: Sequence[list[int]],
    outputs: Sequence[Node],
    targets: Sequence[str],
) -> None:
    """Chunks of the operand, and then their total; the tree is that of `LoopEmitter.accumulate`."""
    shape = heavies[0].inputs[0].shape
    extent = product(shape[a] for a in groups[0])
    index = ["0"] * len(heavies[0].shape)
    single = len(groups) == 1
    if isinstance(extent, int) and extent <= (CHUNK if single else 1):
        store(k, outputs, targets, index)
        return
    chunks = (extent + CHUNK - 1) // CHUNK if single else extent
    partials = [k.shared(h.inputs[0].dtype, chunks) for h in heavies]
    with k.tasks(chunks) as chunk:
        place = ["0"] * len(shape)
        if single:
            n, first = k.dim(extent), k.let(f"{chunk} * {CHUNK}")
            stop = k.let(f"lesser({first} + {CHUNK}, {n})")
            parts = _chunk(k, heavies, (first, stop), extent, place, groups[0])
        else:
            rest = list(groups[1:])
            parts = [k.accumulate(h, h.inputs[0], put(place, groups[0], chunk), rest) for h in heavies]
        for partial, part in zip(partials, parts, strict=True):
            k.line(f"{partial}[{chunk}] = {part}")
    k.barrier()
    totals = _started(k, heavies)
    with k.loop(k.dim(chunks)) as chunk:
        for heavy, total, partial in zip(heavies, totals, partials, strict=True):
            part = k.let(f"{partial}[{chunk}]", loads=True)
            k.line(f"{total} = {combined(heavy, total, part)}")
    for heavy, total in zip(heavies, totals, strict=True):
        k.provide(heavy, index, total)
    store(k, outputs, targets, index)


def _chunk(
    k: LoopEmitter,
    heavies: Sequence[Node],
    bounds: tuple[str, str],
    extent: DimLike,
    place: list[str],
    group: list[int],
) -> list[str]:
    """The parts that a chunk adds to each reduction: those in which the order matters by lanes."""
    ordered = [h for h in heavies if is_sum(h)]
    free = [h for h in heavies if not is_sum(h)]
    parts = dict(zip(free, _started(k, free), strict=True))

    def add(chosen: Sequence[Node], into: Sequence[str], i: str) -> None:
        for heavy, name in zip(chosen, into, strict=True):
            value = k.element(heavy.inputs[0], put(place, group, i))
            k.line(f"{name} = {combined(heavy, name, value)}")

    if free:
        with k.loop(bounds[1], bounds[0], independent=True) as i:
            add(free, list(parts.values()), i)
    if ordered:
        dtypes = [h.inputs[0].dtype for h in ordered]
        found = k.sums(dtypes, bounds, extent, lambda into, i: add(ordered, into, i))
        parts.update(zip(ordered, found, strict=True))
    return [parts[h] for h in heavies]


def _started(k: LoopEmitter, heavies: Sequence[Node]) -> list[str]:
    """Accumulators, at their initial values."""
    names = [k.fresh("a") for _ in heavies]
    for name, heavy in zip(names, heavies, strict=True):
        k.line(f"{name} = {initial(heavy)}")
    return names


# ---------------------------------------------------------------- columns


class Columns(NamedTuple):
    """A block of neighbouring columns: where it starts, how wide it is, and the axes that walk along it."""

    start: str
    width: str
    axes: list[int]


def _columns(k: LoopEmitter, heavies: Sequence[Node], outputs: Sequence[Node], targets: Sequence[str]) -> None:
    """Blocks of columns. Where there is nothing else to share out, chunks of rows are tasks too."""
    shape, axes = heavies[0].inputs[0].shape, heavies[0].attrs["axes"]
    kept = [a for a in range(len(shape)) if a not in axes]
    below: Mapping[Node, object] = {**k.leaves, **dict.fromkeys(heavies, "")}
    inside = merged(reach(h.inputs[0], k.leaves) for h in heavies)
    found = merged([inside, *(reach(n, below, tuple(kept)) for n in outputs)])
    fast = inside.fastest([a for a in range(len(shape)) if not is_one(shape[a])])
    groups = grouped(kept, shape, found)
    along = next(group for group in groups if fast in group)
    outer = [group for group in groups if group is not along]
    reduced = grouped(axes, shape, found)
    rows = product(shape[a] for a in reduced[0])
    columns = product(shape[a] for a in along)
    blocks = (columns + COLUMNS - 1) // COLUMNS

    def finish(block: Columns, index: list[str], totals: Sequence[str]) -> None:
        with k.loop(block.width, independent=True) as j:
            at = put(index, along, k.let(f"{block.start} + {j}"))
            place = [at[a] for a in kept]
            for heavy, total in zip(heavies, totals, strict=True):
                k.provide(heavy, place, k.let(f"{total}[{j}]", loads=True))
            store(k, outputs, targets, place)

    index = ["0"] * len(shape)
    few = isinstance(rows, int) and rows <= ROWS
    if not outer and not few:
        chunks = (rows + ROWS - 1) // ROWS
        partials = [k.shared(h.inputs[0].dtype, chunks * columns) for h in heavies]
        with k.tasks(chunks * blocks) as task:
            m = k.dim(blocks)
            chunk = k.let(f"{task} // {m}")
            block = _block(k, k.let(f"{task} % {m}"), columns, along)
            first = k.let(f"{chunk} * {ROWS}")
            parts = _cleared(k, heavies, block)
            with k.loop(f"lesser({first} + {ROWS}, {k.dim(rows)})", first) as row:
                _add_rows(k, heavies, parts, block, put(index, reduced[0], row), reduced[1:])
            base = k.let(f"{chunk} * {k.dim(columns)} + {block.start}")
            with k.loop(block.width, independent=True) as j:
                for partial, part in zip(partials, parts, strict=True):
                    k.line(f"{partial}[{base} + {j}] = {part}[{j}]")
        k.barrier()
        with k.tasks(blocks) as task:
            block = _block(k, task, columns, along)
            totals = _cleared(k, heavies, block)
            with k.loop(k.dim(chunks)) as chunk:
                base = k.let(f"{chunk} * {k.dim(columns)} + {block.start}")
                with k.loop(block.width, independent=True) as j:
                    _combine(k, heavies, totals, [f"{p}[{base} + {j}]" for p in partials], j)
            finish(block, index, totals)
        return
    with (
        nest(k, index, outer, shape, independent=False, tasks=True) as index,
        k.loop(k.dim(blocks)) if outer else k.tasks(blocks) as task,
    ):
        block = _block(k, task, columns, along)
        totals = _cleared(k, heavies, block)
        if few or not any(map(is_sum, heavies)):
            _add_rows(k, heavies, totals, block, index, reduced)
        else:
            parts = [k.local(h.inputs[0].dtype, COLUMNS) for h in heavies]
            with k.loop(k.dim(rows), step=str(ROWS)) as first:
                _clear(k, heavies, parts, block)
                with k.loop(f"lesser({first} + {ROWS}, {k.dim(rows)})", first) as row:
                    _add_rows(k, heavies, parts, block, put(index, reduced[0], row), reduced[1:])
                with k.loop(block.width, independent=True) as j:
                    _combine(k, heavies, totals, [f"{part}[{j}]" for part in parts], j)
        finish(block, index, totals)


def _block(k: LoopEmitter, number: str, columns: DimLike, axes: list[int]) -> Columns:
    start = k.let(f"{number} * {COLUMNS}")
    return Columns(start, k.let(f"lesser({COLUMNS}, {k.dim(columns)} - {start})"), axes)


def _add_rows(
    k: LoopEmitter,
    heavies: Sequence[Node],
    into: Sequence[str],
    block: Columns,
    index: list[str],
    groups: list[list[int]],
) -> None:
    """Lines that add rows, all that `groups` walk, to rows of accumulators."""
    shape: Shape = heavies[0].inputs[0].shape
    with nest(k, index, groups, shape, independent=False) as place, k.loop(block.width, independent=True) as j:
        at = put(place, block.axes, k.let(f"{block.start} + {j}"))
        _combine(k, heavies, into, [k.element(h.inputs[0], at) for h in heavies], j)


def _combine(k: LoopEmitter, heavies: Sequence[Node], into: Sequence[str], values: Sequence[str], j: str) -> None:
    for heavy, name, value in zip(heavies, into, values, strict=True):
        k.line(f"{name}[{j}] = {combined(heavy, f'{name}[{j}]', value)}")


def _cleared(k: LoopEmitter, heavies: Sequence[Node], block: Columns) -> list[str]:
    """Rows of accumulators in local memory, at their initial values."""
    names = [k.local(h.inputs[0].dtype, COLUMNS) for h in heavies]
    _clear(k, heavies, names, block)
    return names


def _clear(k: LoopEmitter, heavies: Sequence[Node], names: Sequence[str], block: Columns) -> None:
    with k.loop(block.width, independent=True) as j:
        for heavy, name in zip(heavies, names, strict=True):
            k.line(f"{name}[{j}] = {initial(heavy)}")
