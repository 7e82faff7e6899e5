"""The micro-kernel of all contractions: a tile of the result in registers, updated by outer products. Transposition.

A step of the sum reads `vectors` vectors of b and one element of a for each row, which is broadcast, and does
rows * vectors multiply-adds. The tile is stored or added to memory once, after all steps. It is explicit vector IR, so
what the machine executes does not hang on LLVM's vectoriser, and the order of the sum is the order of the steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types

from dlc.backends.cpu import MICRO_KERNEL
from dlc.backends.cpu.prelude import I8, I64, Buffer, DistinctNode, define

BODY = 48  # multiply-adds in the body of the loop, where all strides are known
UNROLL = 4  # steps there, at most
HOPS = 3  # rows of a that are reached from one register and a distance that is not known: as x86 adds while it loads
I32 = ir.IntType(32)
Value = Any

# ---------------------------------------------------------------- loops and vectors in IR


def constant(value: int) -> Value:
    """An int64."""
    return ir.Constant(I64, value)


def loop(b: Any, first: Value, stop: Value, step: int, carried: Sequence[Value], body: Callable[..., Any]) -> list[Any]:
    """``for s in range(first, stop, step): carried = body(s, carried)``; gives what is carried at the end."""
    before, function = b.block, b.function
    head, inside, after = (function.append_basic_block(n) for n in ("head", "inside", "after"))
    b.branch(head)
    b.position_at_end(head)
    s = b.phi(I64)
    phis = [b.phi(x.type) for x in carried]
    b.cbranch(b.icmp_signed("<", s, stop), inside, after)
    b.position_at_end(inside)
    values = body(s, phis)
    following = b.add(s, constant(step), flags=("nsw",))
    for phi, initial, next_value in zip((s, *phis), (first, *carried), (following, *values), strict=True):
        phi.add_incoming(initial, before)
        phi.add_incoming(next_value, b.block)
    back = b.branch(head)
    as_it_is = b.module.add_metadata([ir.MetaDataString(b.module, "llvm.loop.unroll.disable")])
    back.set_metadata("llvm.loop", DistinctNode(b.module, (as_it_is,), of_itself=True))
    b.position_at_end(after)
    return phis


def moved(b: Any, place: Value, elements: Value) -> Value:
    """A place some elements on."""
    return b.gep(place, [elements], inbounds=True)


def splat(b: Any, value: Value, lanes: int) -> Value:
    """A vector of one value."""
    kind = ir.VectorType(value.type, lanes)
    undefined = ir.Constant(kind, ir.Undefined)
    one = b.insert_element(undefined, value, ir.Constant(I32, 0))
    return b.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(I32, lanes), [0] * lanes))


def vector_place(b: Any, place: Value, lanes: int) -> Value:
    """A pointer to elements as a pointer to a vector of them."""
    return b.bitcast(place, ir.VectorType(place.type.pointee, lanes).as_pointer())


def load_vector(b: Any, place: Value, lanes: int) -> Value:
    """`lanes` neighbouring elements, which need no more than an element's alignment."""
    return b.load(vector_place(b, place, lanes), align=_size(place.type.pointee))


def store_vector(b: Any, value: Value, place: Value) -> None:
    """Store neighbouring elements."""
    b.store(value, vector_place(b, place, value.type.count), align=_size(place.type.pointee))


def _size(element: Any) -> int:
    return 4 if element == ir.FloatType() else 8


def multiply_add(b: Any, x: Value, y: Value, z: Value) -> Value:
    """x * y + z, in one rounding where the machine has such an instruction, else in two."""
    kind = x.type
    name = f"llvm.fmuladd.v{kind.count}f{8 * _size(kind.element)}"
    function = cgutils.get_or_insert_function(b.module, ir.FunctionType(kind, [kind] * 3), name)
    return b.call(function, [x, y, z])


# ---------------------------------------------------------------- the micro-kernel


@dataclass(frozen=True)
class Tile:
    """What decides a micro-kernel: its shape, and the strides that are known (None: an argument)."""

    element: str
    rows: int
    vectors: int
    lanes: int
    fresh: bool
    runs: bool
    strides: tuple[int | None, ...]  # a_row, a_step, b_step, steps, c_row

    @property
    def name(self) -> str:
        """The function's name in its module."""
        known = "_".join("n" if s is None else f"m{-s}" if s < 0 else str(s) for s in self.strides)
        how = ("runs" if self.runs else "") + ("fresh" if self.fresh else "")
        return f"{MICRO_KERNEL}{self.element}_{self.rows}_{self.vectors}_{self.lanes}_{how}_{known}"


def micro_kernel(module: Any, tile: Tile) -> Any:
    """``void(a, b, c, runs, a_row, a_step, b_step, steps, c_row)`` of a module, made on first use."""
    if tile.name in module.globals:
        return module.globals[tile.name]
    element = ir.FloatType() if tile.element == "float" else ir.DoubleType()
    place = element.as_pointer()
    takes = [place, place, place, I64.as_pointer(), *[I64] * 5]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), takes), tile.name)
    function.linkage = "internal"
    for attribute in ("noinline", "nounwind"):
        function.attributes.add(attribute)
    b = ir.IRBuilder(function.append_basic_block("entry"))
    a, right, c, runs = function.args[:4]
    sizes = [
        argument if known is None else constant(known)
        for argument, known in zip(function.args[4:], tile.strides, strict=True)
    ]
    a_row, a_step, b_step, steps, c_row = sizes
    unroll = 1
    while None not in tile.strides[:3] and unroll < UNROLL and 2 * unroll * tile.rows * tile.vectors <= BODY:
        unroll *= 2
    known = tile.strides[0] is not None
    corners = [moved(b, a, b.mul(a_row, constant(r))) for r in range(0, 1 if known else tile.rows, HOPS)]
    hops = [b.mul(a_row, constant(r)) for r in range(tile.rows if known else HOPS)]

    def step(s: Value, carried: Sequence[Value]) -> list[Value]:
        """A step of the sum; carried are the places where it reads a and b, and the totals."""
        places, row, totals = carried[: len(corners)], carried[len(corners)], carried[len(corners) + 1 :]
        if tile.runs:
            row = moved(b, right, b.load(b.gep(runs, [s])))
        vectors = [load_vector(b, moved(b, row, constant(v * tile.lanes)), tile.lanes) for v in range(tile.vectors)]
        result = [*(moved(b, place, a_step) for place in places), moved(b, row, b_step)]
        for r in range(tile.rows):
            corner, hop = divmod(r, len(hops))
            factor = splat(b, b.load(moved(b, places[corner], hops[hop])), tile.lanes)
            result += [multiply_add(b, factor, y, totals[r * tile.vectors + v]) for v, y in enumerate(vectors)]
        return result

    def several(s: Value, carried: Sequence[Value]) -> Sequence[Value]:
        for u in range(unroll):
            carried = step(b.add(s, constant(u), flags=("nsw",)), carried)
        return carried

    zero = ir.Constant(ir.VectorType(element, tile.lanes), [0.0] * tile.lanes)
    carried = [*corners, right, *[zero] * (tile.rows * tile.vectors)]
    even = constant(0)
    if unroll > 1:
        even = b.and_(steps, constant(-unroll))
        carried = loop(b, constant(0), even, unroll, carried, several)
    carried = loop(b, even, steps, 1, carried, step)
    totals = carried[len(corners) + 1 :]
    for r in range(tile.rows):
        row = moved(b, c, b.mul(c_row, constant(r)))
        for v in range(tile.vectors):
            at = moved(b, row, constant(v * tile.lanes))
            total = totals[r * tile.vectors + v]
            store_vector(b, total if tile.fresh else b.fadd(total, load_vector(b, at, tile.lanes)), at)
    b.ret_void()
    return function


# ---------------------------------------------------------------- the names that kernels use


def _known(kinds: Iterable[Any]) -> tuple[int | None, ...]:
    return tuple([int(k.literal_value) if isinstance(k, types.Literal) else None for k in kinds])


def _typed(buffers: Sequence[Any], sizes: Sequence[Any]) -> bool:
    """Whether buffers are of one floating dtype, and sizes are ints."""
    if not all(isinstance(k, Buffer) and k.dtype in (types.float32, types.float64) for k in buffers):
        return False
    return len({k.dtype for k in buffers}) == 1 and all(isinstance(types.unliteral(k), types.Integer) for k in sizes)


def multiply(
    typingctx: Any, rows: Any, vectors: Any, lanes: Any, a: Any, a_at: Any, a_row: Any, a_step: Any,
    right: Any, b_at: Any, b_step: Any, steps: Any, c: Any, c_at: Any, c_row: Any, fresh: Any,
) -> Any:  # fmt: skip
    """multiply(rows, vectors, lanes, a, a_at, a_row, a_step, b, b_at, b_step, steps, c, c_at, c_row, fresh)

    For r < rows and j < vectors * lanes::

        c[c_at + r * c_row + j]  =  or, unless fresh,  +=
            sum of a[a_at + r * a_row + s * a_step] * b[b_at + s * b_step + j] over s < steps

    a, b and c are buffers of one floating dtype; rows, vectors, lanes and fresh are literals; the other sizes are
    int64, and those of them that are literals become part of the code.
    """
    shape = _known((rows, vectors, lanes, fresh))
    if None in shape or not _typed((a, right, c), (a_at, a_row, a_step, b_at, b_step, steps, c_at, c_row)):
        return None

    def emit(context: Any, b: Any, sig: Any, values: Any) -> Any:
        _, _, _, a, a_at, a_row, a_step, right, b_at, b_step, steps, c, c_at, c_row, _ = values
        tile = _tile(shape, a, False, (sig.args[i] for i in (5, 6, 9, 10, 13)))
        none = ir.Constant(I64.as_pointer(), None)
        _call(b, tile, (a, a_at), (right, b_at), (c, c_at), none, (a_row, a_step, b_step, steps, c_row))
        return context.get_dummy_value()

    kinds = (rows, vectors, lanes, a, a_at, a_row, a_step, right, b_at, b_step, steps, c, c_at, c_row, fresh)
    return types.none(*kinds), emit


def multiply_runs(
    typingctx: Any, rows: Any, vectors: Any, lanes: Any, a: Any, a_at: Any, a_row: Any, a_step: Any,
    right: Any, b_at: Any, runs: Any, runs_at: Any, steps: Any, c: Any, c_at: Any, c_row: Any, fresh: Any,
) -> Any:  # fmt: skip
    """multiply_runs(rows, vectors, lanes, a, a_at, a_row, a_step, b, b_at, runs, runs_at, steps, c, c_at, c_row, fresh)

    As `multiply`, with row s of b at ``b_at + runs[runs_at + s]``, where runs is a buffer of int64.
    """
    shape = _known((rows, vectors, lanes, fresh))
    if None in shape or not _typed((a, right, c), (a_at, a_row, a_step, b_at, runs_at, steps, c_at, c_row)):
        return None
    if not isinstance(runs, Buffer) or runs.dtype != types.int64:
        return None

    def emit(context: Any, b: Any, sig: Any, values: Any) -> Any:
        _, _, _, a, a_at, a_row, a_step, right, b_at, runs, runs_at, steps, c, c_at, c_row, _ = values
        kinds = (sig.args[5], sig.args[6], types.literal(0), sig.args[11], sig.args[14])
        offsets = b.gep(runs, [runs_at], inbounds=True)
        tile = _tile(shape, a, True, kinds)
        _call(b, tile, (a, a_at), (right, b_at), (c, c_at), offsets, (a_row, a_step, constant(0), steps, c_row))
        return context.get_dummy_value()

    kinds = (rows, vectors, lanes, a, a_at, a_row, a_step, right, b_at, runs, runs_at, steps, c, c_at, c_row, fresh)
    return types.none(*kinds), emit


def _tile(shape: Any, a: Value, runs: bool, kinds: Iterable[Any]) -> Tile:
    rows, vectors, lanes, fresh = shape
    return Tile(str(a.type.pointee), rows, vectors, lanes, bool(fresh), runs, _known(kinds))


def _call(b: Any, tile: Tile, a: Any, right: Any, c: Any, runs: Value, sizes: Sequence[Value]) -> None:
    places = [b.gep(buffer, [at], inbounds=True) for buffer, at in (a, right, c)]
    b.call(micro_kernel(b.module, tile), [*places, runs, *sizes])


def transpose(
    typingctx: Any, lanes: Any, source: Any, source_at: Any, source_row: Any,
    target: Any, target_at: Any, target_row: Any,
) -> Any:  # fmt: skip
    """transpose(lanes, source, source_at, source_row, target, target_at, target_row)

    ``target[target_at + j * target_row + i] = source[source_at + i * source_row + j]`` for i, j < lanes, a literal.
    """
    (count,) = _known((lanes,))
    if count is None or not _typed((source, target), (source_at, source_row, target_at, target_row)):
        return None

    def emit(context: Any, b: Any, sig: Any, values: Any) -> Any:
        _, source, source_at, source_row, target, target_at, target_row = values
        source, target = moved(b, source, source_at), moved(b, target, target_at)
        places = [moved(b, source, b.mul(source_row, constant(i))) for i in range(count)]
        rows = _transposed(b, [load_vector(b, place, count) for place in places])
        for j, row in enumerate(rows):
            store_vector(b, row, moved(b, target, b.mul(target_row, constant(j))))
        return context.get_dummy_value()

    return types.none(lanes, source, source_at, source_row, target, target_at, target_row), emit


def _transposed(b: Any, rows: list[Value]) -> list[Value]:
    """A square matrix turned, by exchanging off-diagonal blocks of one, two, four ... elements."""
    lanes, size = len(rows), 1
    while size < lanes:
        low = [lane if not lane & size else lanes + lane - size for lane in range(lanes)]
        high = [lane + size if not lane & size else lanes + lane for lane in range(lanes)]
        masks = [ir.Constant(ir.VectorType(I32, lanes), mask) for mask in (low, high)]
        for i in range(lanes):
            if not i & size:
                pair = rows[i], rows[i + size]
                rows[i], rows[i + size] = (b.shuffle_vector(*pair, mask) for mask in masks)
        size *= 2
    return rows


# ---------------------------------------------------------------- rows with zeros around them


def copy_rows(
    typingctx: Any, lanes: Any, step: Any, target: Any, target_at: Any, target_row: Any, target_image: Any,
    source: Any, source_at: Any, source_row: Any, source_image: Any,
    images: Any, rows: Any, begin: Any, end: Any, width: Any, first: Any, stop: Any,
) -> Any:  # fmt: skip
    """copy_rows(lanes, step, target, target_at, target_row, target_image, source, source_at, source_row, source_image,
    images, rows, begin, end, width, first, stop)

    For i < images, r < rows and j < width, where 0 <= begin <= end <= rows::

        target[target_at + i * target_image + r * target_row + j]
            = source[source_at + i * source_image + r * source_row + j * step]
              if begin <= r < end and first <= j < stop else 0

    Nothing else is touched, so short rows cost as little as one vector. lanes and step are literals, step 1 or 2.
    """
    shape = _known((lanes, step))
    places = (target_at, target_row, target_image, source_at, source_row, source_image)
    if None in shape or not _typed((source, target), (*places, images, rows, begin, end, width, first, stop)):
        return None

    def emit(context: Any, b: Any, sig: Any, values: Any) -> Any:
        _, _, target, target_at, target_row, target_image, source, source_at, source_row, source_image, *sizes = values
        function = _rows_copy(b.module, target.type, int(lanes.literal_value), int(step.literal_value))
        target, source = b.gep(target, [target_at]), b.gep(source, [source_at])
        b.call(function, [target, target_row, target_image, source, source_row, source_image, *sizes])
        return context.get_dummy_value()

    kinds = (
        lanes, step, target, target_at, target_row, target_image, source, source_at, source_row, source_image,
        images, rows, begin, end, width, first, stop,
    )  # fmt: skip
    return types.none(*kinds), emit


def _rows_copy(module: Any, place: Any, lanes: int, step: int) -> Any:
    """The function of a module that `copy_rows` calls, made on first use."""
    assert step in (1, 2)
    name = f"copy_rows_{place.pointee}_{lanes}_{step}"
    if name in module.globals:
        return module.globals[name]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [place, I64, I64, place, *[I64] * 9]), name)
    function.linkage = "internal"
    for attribute in ("noinline", "nounwind"):
        function.attributes.add(attribute)
    target, target_row, target_image, source, source_row, source_image = function.args[:6]
    images, rows, begin, end, width, first, stop = function.args[6:]
    b = ir.IRBuilder(function.append_basic_block("entry"))
    zero = ir.Constant(ir.VectorType(place.pointee, lanes), [0.0] * lanes)
    scale = constant(step)
    # of elements step apart, those between are read too, but none beyond the last
    low, high = b.mul(first, scale), b.sub(b.mul(stop, scale), constant(step - 1))

    def columns(j: Value, _: Sequence[Value]) -> Sequence[Value]:
        starts = [b.add(b.mul(j, scale), constant(part * lanes)) for part in range(step)]
        masks = [b.and_(b.not_(_below(b, b.sub(low, s), lanes)), _below(b, b.sub(high, s), lanes)) for s in starts]
        inside = _below(b, b.sub(width, j), lanes)

        def image(i: Value, _: Sequence[Value]) -> Sequence[Value]:
            into = moved(b, target, b.add(b.mul(i, target_image), j))
            corner = b.mul(i, source_image)
            at = [b.gep(source, [b.add(corner, s)]) for s in starts]

            def store(r: Value, value: Value) -> None:
                row = b.gep(into, [b.mul(r, target_row)])
                _masked(b, "store", vector_place(b, row, lanes), inside, value)

            def blank(r: Value, _: Sequence[Value]) -> Sequence[Value]:
                store(r, zero)
                return ()

            def copied(r: Value, _: Sequence[Value]) -> Sequence[Value]:
                shift = b.mul(r, source_row)
                parts = [
                    _masked(b, "load", vector_place(b, b.gep(x, [shift]), lanes), mask, zero)
                    for x, mask in zip(at, masks, strict=True)
                ]
                every = ir.Constant(ir.VectorType(I32, lanes), [step * lane for lane in range(lanes)])
                store(r, parts[0] if step == 1 else b.shuffle_vector(*parts, every))
                return ()

            loop(b, constant(0), begin, 1, (), blank)
            loop(b, begin, end, 1, (), copied)
            loop(b, end, rows, 1, (), blank)
            return ()

        loop(b, constant(0), images, 1, (), image)
        return ()

    loop(b, constant(0), width, lanes, (), columns)
    b.ret_void()
    return function


def _below(b: Any, bound: Value, lanes: int) -> Value:
    """For each lane, whether its number is below an int64, which lies within the range of int32."""
    kind = ir.VectorType(I32, lanes)
    return b.icmp_signed("<", ir.Constant(kind, list(range(lanes))), splat(b, b.trunc(bound, I32), lanes))


def _masked(b: Any, what: str, place: Value, mask: Value, value: Value) -> Value:
    """A load where the mask holds, and `value` where not; or a store where it holds."""
    kind = value.type
    align, suffix = ir.Constant(I32, _size(kind.element)), f"v{kind.count}f{8 * _size(kind.element)}.p0"
    if what == "load":
        takes, args = [place.type, I32, mask.type, kind], [place, align, mask, value]
        signature = ir.FunctionType(kind, takes)
    else:
        takes, args = [kind, place.type, I32, mask.type], [value, place, align, mask]
        signature = ir.FunctionType(ir.VoidType(), takes)
    return b.call(cgutils.get_or_insert_function(b.module, signature, f"llvm.masked.{what}.{suffix}"), args)


def prefetch(typingctx: Any, buffer: Any, index: Any, write: Any) -> Any:
    """prefetch(buffer, index, write): bring an element near, to be read or, if `write` (a literal) is 1, written."""
    (writes,) = _known((write,))
    if writes is None or not isinstance(buffer, Buffer) or not isinstance(types.unliteral(index), types.Integer):
        return None

    def emit(context: Any, b: Any, sig: Any, values: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [I8.as_pointer(), I32, I32, I32])
        function = cgutils.get_or_insert_function(b.module, kind, "llvm.prefetch.p0")
        place = b.bitcast(b.gep(values[0], [values[1]]), I8.as_pointer())
        b.call(function, [place, ir.Constant(I32, writes), ir.Constant(I32, 3), ir.Constant(I32, 1)])
        return context.get_dummy_value()

    return types.none(buffer, index, write), emit


define("multiply", multiply, literals=True)
define("multiply_runs", multiply_runs, literals=True)
define("transpose", transpose, literals=True)
define("prefetch", prefetch, literals=True)
define("copy_rows", copy_rows, literals=True)
