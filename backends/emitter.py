"""The loop emitter: element texts on demand, loops and temporaries around them. Shared by the backends that make loops.

A kernel is pulled from its results: the emitter opens loops over a domain, asks a node for its element at an index, and
the node asks its operands. Every value becomes a temporary, in the outermost loop that knows all it depends on.

A kernel is one part or several, run one after the other. Each part is a range of tasks that touch nothing in common,
so that threads may share them out; a part begins when all tasks of the one before are done.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from dlc import dtypes
from dlc.backends.axes import grouped, is_one, reach, reshape_blocks
from dlc.backends.expressions import (
    ATOM,
    bare,
    combined,
    constructor,
    elementwise,
    grouping,
    initial,
    is_sum,
    literal,
    plus,
)
from dlc.backends.target import Target
from dlc.dims import DimLike, Shape, product
from dlc.dtypes import itemsize
from dlc.errors import UnsupportedError
from dlc.ir import Node
from dlc.ops.definition import Kind

NAME = re.compile(r"(?<![\w.])[A-Za-z_]\w*")
SHORT = 4  # an inner loop of so few iterations unrolls into the one around it, if its length is written out
# The tree of a sum is part of the numbers' definition: leaves of CHUNK elements, each in LANES sums side by side.
CHUNK = 4096
LANES = 32
CACHE_LINE = 64  # bytes
IN_ORDER = 9  # so few elements, where the number is known, are added one after the other

Index = Sequence[str]


@dataclass
class Scope:
    """The lines of a loop's body, or of a guarded branch, while it is open."""

    guard: bool = False
    lines: list[str] = field(default_factory=list)
    memo: dict[Any, str] = field(default_factory=dict)


@dataclass
class Part:
    """A part of a kernel under way: its lines, the dims that it takes, how many tasks it has, and whether it checks."""

    lines: list[str] = field(default_factory=list)
    dims: dict[DimLike, str] = field(default_factory=dict)
    tasks: DimLike = 1
    checks: bool = False


class Ahead(NamedTuple):
    """A row of an array that will be needed soon: the array's pointer, the row's first element, and what for."""

    pointer: str
    first: str
    dtype: str
    written: bool


@dataclass(frozen=True)
class Row:
    """An array of the elements that a node has along `axis`, where its index is otherwise that of `row`."""

    array: str
    row: tuple[str, ...]
    axis: int

    def has(self, index: Index) -> bool:
        """Whether an index is in the row."""
        return all(i == r for a, (i, r) in enumerate(zip(index, self.row, strict=True)) if a != self.axis)

    def element(self, index: Index) -> str:
        """The place of an element in the array."""
        return f"{self.array}[{index[self.axis]}]"


class LoopEmitter:
    """Builds the source of one kernel. `leaves` are the nodes that lie in memory, each with its pointer's name."""

    def __init__(self, leaves: Mapping[Node, str], ordinals: Mapping[Node, int], target: Target, pointers: int) -> None:
        self.leaves = leaves
        self.target = target
        self.parts = [Part()]
        self.scratch: list[tuple[str, DimLike]] = []  # dtype and number of elements of each shared array
        self.scopes = [Scope(lines=self.part.lines)]
        self.kept: dict[Node, Row] = {}
        self._keeping: dict[Node, Row] = {}
        self._ahead: list[Ahead] = []  # what the next sum's loop fetches
        self._pointers = pointers
        self._ordinals = ordinals
        self._homes: dict[str, int] = {}
        self._window_sizes = {size for n in ordinals for size in n.attrs.get("sizes", ()) if n.op.name == "windows"}
        self._counts = {"i": 0, "t": 0, "a": 0}

    @property
    def part(self) -> Part:
        """The part that is being written."""
        return self.parts[-1]

    # ---- parts and tasks

    def barrier(self) -> None:
        """End a part: what follows begins when all tasks so far are done, and knows none of their names."""
        assert len(self.scopes) == 1, "a barrier stands outside of all loops"
        self.parts.append(Part())
        self.scopes = [Scope(lines=self.part.lines)]
        self._homes.clear()

    @contextmanager
    def tasks(self, extent: DimLike, *, independent: bool = False) -> Iterator[str]:
        """The loop whose iterations are the part's tasks: outermost, and once a part. Without one a part is one task.

        Tasks write nothing that another reads or writes. `independent` says so of iterations to the vectoriser, which
        then may mix them.
        """
        assert len(self.scopes) == 1 and self.part.tasks == 1, "tasks are the outermost loop of a part"
        self.part.tasks = extent
        with self.loop("end", "begin", independent=independent) as i:
            yield i

    def shared(self, dtype: str, count: DimLike) -> str:
        """The name of an array that all tasks and parts of this call see: one part writes it, later ones read it."""
        self.scratch.append((dtype, count))
        return f"p{self._pointers + len(self.scratch) - 1}"

    # ---- names, scopes and lines

    def fresh(self, prefix: str, depth: int | None = None) -> str:
        """A new name that lives in the scope at `depth` (the innermost by default)."""
        name = f"{prefix}{self._counts[prefix]}"
        self._counts[prefix] += 1
        self._homes[name] = len(self.scopes) - 1 if depth is None else depth
        return name

    def local(self, dtype: str, length: int) -> str:
        """The name of an array of fixed length in the kernel's own memory."""
        name = self.fresh("a", 0)
        self.scopes[0].lines.append(f"{name} = local_{constructor(dtype)}({length})")
        return name

    def line(self, text: str) -> None:
        """Append a line to the innermost scope."""
        self.scopes[-1].lines.append(text)

    def depth(self, *texts: str) -> int:
        """The outermost scope in which every name in `texts` is known."""
        return max((self._homes.get(n, 0) for text in texts for n in NAME.findall(text)), default=0)

    def _guard(self) -> int:
        return max((d for d, scope in enumerate(self.scopes) if scope.guard), default=0)

    def let(self, expression: str, *, loads: bool = False) -> str:
        """A name for a value, computed once, as far out as its names allow; a load stays in its guarded branch."""
        if ATOM.fullmatch(expression):
            return expression
        depth = max(self.depth(expression), self._guard() if loads else 0)
        scope = self.scopes[depth]
        for outer in self.scopes[: depth + 1]:
            if expression in outer.memo:
                return outer.memo[expression]
        name = scope.memo[expression] = self.fresh("t", depth)
        scope.lines.append(f"{name} = {expression}")
        return name

    @contextmanager
    def scope_at(self, depth: int) -> Iterator[None]:
        """Emit into an outer scope for a while, before the loops that are open inside it."""
        inner = self.scopes[depth + 1 :]
        del self.scopes[depth + 1 :]
        yield
        self.scopes += inner

    @contextmanager
    def block(self, head: str | Callable[[Sequence[str]], str], guard: bool = False) -> Iterator[Scope]:
        """An indented block under `head`, which may depend on the block's lines; it joins its parent when it closes,
        after what was hoisted out of it."""
        scope = Scope(guard)
        self.scopes.append(scope)
        yield scope
        self.scopes.pop()
        self.line(head if isinstance(head, str) else head(scope.lines))
        self.scopes[-1].lines += [f"    {text}" for text in scope.lines or ["pass"]]

    @contextmanager
    def loop(self, stop: str, start: str = "0", step: str = "1", *, independent: bool = False) -> Iterator[str]:
        """A loop from `start` to `stop`; `independent` promises that iterations touch no memory in common."""
        name = self.fresh("i", len(self.scopes))
        kind = "independent" if independent else "span"
        with self.block(f"for {name} in {kind}({start}, {stop}, {step}):"):
            yield name

    @contextmanager
    def lanes(self, count: int, width: int) -> Iterator[str]:
        """A loop over a fixed number of lanes, independent of each other, in vectors of `width`; where index checks or
        loops inside keep it from being vector code, it is a plain one."""
        name = self.fresh("i", len(self.scopes))

        def head(lines: Sequence[str]) -> str:
            scalar = any(line.lstrip().startswith(("for ", "check(")) for line in lines)
            return f"for {name} in {f'independent(0, {count}, 1)' if scalar else f'lanes({count}, {width})'}:"

        with self.block(head):
            yield name

    @contextmanager
    def _first_lanes(self, count: str, most: int, width: int) -> Iterator[str]:
        """A loop over the first of at most `most` lanes, under masks where the machine has them."""
        if self.target.masks:
            with self.lanes(most, width) as lane, self.block(f"if {lane} < {count}:", guard=True):
                yield lane
        else:
            with self.loop(count, independent=True) as lane:
                yield lane

    # ---- dims and index arithmetic

    def dim(self, d: DimLike) -> str:
        """A dim as an int64 expression: 0 and 1 as they are, all others arguments of the kernel."""
        if isinstance(d, int) and d in (0, 1):
            return str(d)
        dims = self.part.dims
        if d not in dims:
            dims[d] = f"n{len(dims)}"
        return dims[d]

    def short(self, d: DimLike) -> str:
        """A dim, as a literal where it is so small that code for a known length or stride is much better."""
        return str(d) if isinstance(d, int) and d <= SHORT else self.dim(d)

    def reduced_extent(self, d: DimLike) -> str:
        """The length of a loop over a reduced axis; the size of a window is a literal, so that the loop unrolls."""
        return str(d) if d in self._window_sizes else self.dim(d)

    def flat(self, index: Index, shape: Shape) -> str:
        """The row-major position of an index in a dense array."""
        terms = []
        for axis, i in enumerate(index):
            if i != "0":
                stride = self.short(product(shape[axis + 1 :]))
                terms.append(i if stride == "1" else self.let(f"{grouping(i)} * {stride}"))
        terms.sort(key=self.depth)
        total = "0"
        for n, term in enumerate(terms):
            total = term if total == "0" else f"{total} + {term}"
            if n + 1 < len(terms):
                total = self.let(total)
        return total

    # ---- index operands

    def check(self, node: Node, condition: str, index: str, extent: str) -> None:
        """Report an index out of range in the status block; from here on 0 is read in its place."""
        self.part.checks = True
        holds, at, n = self.let(bare(condition)), self.let(bare(index)), self.let(bare(extent))
        scope = self.scopes[max(self.depth(holds), self._guard())]
        if ("safe", at) not in scope.memo:
            scope.lines.append(f"check({holds}, status, number, {self._ordinals.get(node, 0)}, {at}, {n})")
            scope.memo[("safe", at)] = self.let(f"select({holds}, {at}, 0)")

    def checked(self, index: str) -> str:
        """An index, or what stands in for it since it was checked."""
        name = self.let(bare(index))
        return next((s.memo[("safe", name)] for s in self.scopes if ("safe", name) in s.memo), name)

    # ---- elements

    def element(self, node: Node, index: Index) -> str:
        """The element of a node at an index, as a name or a literal."""
        key = (node, tuple(index))
        for scope in self.scopes:
            if key in scope.memo:
                return scope.memo[key]
        text = self._element(node, index)
        self.scopes[self.depth(text)].memo[key] = text
        return text

    def provide(self, node: Node, index: Index, text: str) -> None:
        """Say what a node's element is, in the innermost scope, instead of having it computed."""
        self.scopes[-1].memo[(node, tuple(index))] = text

    @contextmanager
    def keeping(self, nodes: Sequence[Node], length: int, row: Index, axis: int) -> Iterator[None]:
        """Keep some nodes' elements of a row in arrays while a loop along `axis` computes them, for later loops."""
        self._keeping = {n: Row(self.local(n.dtype, length), tuple(row), axis) for n in nodes}
        yield
        self.kept.update(self._keeping)
        self._keeping = {}

    @contextmanager
    def fetching(self, ahead: Sequence[Ahead]) -> Iterator[None]:
        """Fetch what lies ahead while the next sum is computed, as many elements as it adds."""
        self._ahead = list(ahead)
        yield
        self._ahead = []

    def _element(self, node: Node, index: Index) -> str:
        if node in self.leaves:
            return self.let(f"{self.leaves[node]}[{self.flat(index, node.shape)}]", loads=True)
        if node in self.kept and self.kept[node].has(index):
            return self.let(self.kept[node].element(index), loads=True)
        if node.op.name == "constant":
            return literal(node.attrs["value"].array.item(), node.dtype)
        match node.op.kind:
            case Kind.ELEMENTWISE:
                operands = [self.element(x, aligned(index, x.shape)) for x in node.inputs]
                value = self.let(elementwise(node, operands))
                if node in self._keeping and self._keeping[node].has(index):
                    self.line(f"{self._keeping[node].element(index)} = {value}")
                return value
            case Kind.REDUCE:
                return self._reduced(node, index)
        if node.op.name == "reshape":
            return self._reshaped(node, index)
        if node.op.element is not None:
            return self.let(node.op.element(NodeEmitter(self, node), list(index), **node.attrs))
        raise UnsupportedError(f"loops have no element for {node.op.name}")

    def _reshaped(self, node: Node, index: Index) -> str:
        source = node.inputs[0]
        if source in self.leaves:
            return self.let(f"{self.leaves[source]}[{self.flat(index, node.shape)}]", loads=True)
        below = ["0"] * len(source.shape)
        for targets, sources in reshape_blocks(source.shape, node.shape):
            rest = self.flat([index[t] for t in targets], tuple(node.shape[t] for t in targets))
            for s in reversed(sources):
                if rest == "0":
                    break
                extent = self.dim(source.shape[s])
                below[s] = rest if s == sources[0] else self.let(f"{grouping(rest)} % {extent}")
                if s != sources[0]:
                    rest = self.let(f"{grouping(rest)} // {extent}")
        return self.element(source, below)

    # ---- reductions, at one point

    def _reduced(self, node: Node, index: Index) -> str:
        """A reduction computed where its index is known, with loops of its own."""
        with self.scope_at(max(self.depth(*index), self._guard())):
            (x,) = node.inputs
            axes = node.attrs["axes"]
            kept = iter(index)
            place = ["0" if a in axes else next(kept) for a in range(len(x.shape))]
            found = reach(x, self.leaves)
            groups = grouped(axes, x.shape, found)
            if node.op.name in ("argmax", "argmin"):
                return self._best(node, x, place, [a for a in axes if not is_one(x.shape[a])])
            fast = found.fastest([a for group in groups for a in group] or [0])
            groups.sort(key=lambda group: fast in group)
            return self.accumulate(node, x, place, groups)

    def accumulate(self, node: Node, x: Node, place: list[str], groups: list[list[int]]) -> str:
        """A reduction by nested loops, an accumulator for each: the tree of a sum is fixed by the shape alone."""
        if not groups:
            return self.element(x, place)
        every = product(x.shape[a] for group in groups for a in group)
        if len(groups) > 1 and is_sum(node) and isinstance(every, int) and every <= IN_ORDER:
            return self._in_order(node, x, place, groups)
        extent = product(x.shape[a] for a in groups[0])
        ordered = len(groups) == 1 and is_sum(node)

        def add(totals: Sequence[str], i: str) -> None:
            value = self.element(x, put(place, groups[0], i))
            self.line(f"{totals[0]} = {combined(node, totals[0], value)}")

        if ordered and isinstance(extent, int) and extent <= CHUNK:
            stop = str(extent) if extent <= LANES else self.dim(extent)
            return self.sums([x.dtype], ("0", stop), extent, add)[0]
        total = self.fresh("a")
        self.line(f"{total} = {initial(node)}")
        if ordered:
            with self.loop(self.dim(extent), step=str(CHUNK)) as start:
                stop = self.let(f"lesser({start} + {CHUNK}, {self.dim(extent)})")
                (part,) = self.sums([x.dtype], (start, stop), extent, add)
                self.line(f"{total} = {combined(node, total, part)}")
            return total
        innermost = len(groups) == 1
        with self.loop(self.reduced_extent(extent), independent=innermost) as i:
            if innermost:
                add([total], i)
            else:
                part = self.accumulate(node, x, put(place, groups[0], i), groups[1:])
                self.line(f"{total} = {combined(node, total, part)}")
        return total

    def _in_order(self, node: Node, x: Node, place: list[str], groups: list[list[int]]) -> str:
        """A sum of a few elements, a small window for example, along several axes with one accumulator."""
        total = self.fresh("a")
        self.line(f"{total} = {initial(node)}")
        with ExitStack() as loops:
            for group in groups:
                i = loops.enter_context(self.loop(str(product(x.shape[a] for a in group))))
                place = put(place, group, i)
            self.line(f"{total} = {combined(node, total, self.element(x, place))}")
        return total

    def sums(
        self,
        types: Sequence[str],
        bounds: tuple[str, str],
        extent: DimLike | None,
        add: Callable[[Sequence[str], str], None],
        lanes: int = LANES,
    ) -> list[str]:
        """The names of sums over the indices within bounds; `add(places, i)` writes lines that add the terms of i.

        Bounds are one of the leaves of CHUNK elements that an axis of `extent` elements is cut into; None says that
        they may be any. A sum of more than a few terms is made of lanes, which are folded in halves at the end. So the
        order of additions is fixed here: neither what is fused with the sum nor the compiler changes it.
        """
        if self.target.vector == 0 or (isinstance(extent, int) and extent <= IN_ORDER):
            totals = [self.fresh("a") for _ in types]
            for total, dtype in zip(totals, types, strict=True):
                self.line(f"{total} = {literal(0, dtype)}")
            with self.loop(bounds[1], bounds[0]) as i:
                add(totals, i)
            return totals
        count = min(lanes, power_of_two(extent)) if isinstance(extent, int) else lanes
        arrays = [self.local(dtype, count) for dtype in types]
        for array, dtype in zip(arrays, types, strict=True):
            with self.loop(str(count), independent=True) as lane:
                self.line(f"{array}[{lane}] = {literal(0, dtype)}")
        width = min([count, *(self.target.lanes(dtype) for dtype in types)])
        for place, lane in self._lane_loops(bounds, extent, count, width):
            add([f"{array}[{lane}]" for array in arrays], place)
        totals = [self.fresh("t") for _ in arrays]
        for total, array in zip(totals, arrays, strict=True):
            self.line(f"{total} = folded({array}, {count})")
        return totals

    def _lane_loops(
        self, bounds: tuple[str, str], extent: DimLike | None, count: int, width: int
    ) -> Iterator[tuple[str, str]]:
        """Loops over the indices within bounds, `count` at a time, and over those left: (index, lane) in each."""
        ahead, self._ahead = self._ahead, []
        start, stop = bounds
        most = power_of_two(extent % count) if isinstance(extent, int) else count  # of those left
        full = not isinstance(extent, int) or extent >= count
        even = start
        if full:
            whole = isinstance(extent, int) and extent % count == 0
            even = stop if whole else self.let(f"{start} + (({stop} - {start}) & {-count})")
            with self.loop(even, start, str(count)) as first:
                for row in ahead:
                    for line in range(0, count, CACHE_LINE // itemsize(row.dtype)):
                        self.line(f"prefetch({row.pointer}, {row.first} + {first} + {line}, {int(row.written)})")
                with self.lanes(count, width) as lane:
                    yield self.let(f"{first} + {lane}"), lane
        if most:
            with self._first_lanes(self.let(f"{stop} - {even}"), most, min(most, width)) as lane:
                yield self.let(f"{even} + {lane}"), lane

    def _best(self, node: Node, x: Node, place: list[str], axes: list[int]) -> str:
        """The first position of an extremum: NaN beats all numbers, and the first of equals stays."""
        best, at, n = self.fresh("a"), self.fresh("a"), self.fresh("a")
        self.line(f"{best} = {initial(node)}")
        self.line(f"{at} = int64(-1)")
        self.line(f"{n} = int64(0)")

        def nest(rest: list[int]) -> None:
            if rest:
                with self.loop(self.dim(x.shape[rest[0]])) as i:
                    place[rest[0]] = i
                    nest(rest[1:])
                return
            value = self.element(x, place)
            better = node.op.combine.format(a=value, b=best, T=x.dtype)
            wins = f"{at} < 0 or {better}"
            if x.dtype in dtypes.FLOATING:
                wins += f" or ({value} != {value} and {best} == {best})"
            with self.block(f"if {wins}:", guard=True):
                self.line(f"{best} = {value}")
                self.line(f"{at} = {n}")
            self.line(f"{n} = {n} + 1")

        nest(axes)
        return at


def power_of_two(count: int) -> int:
    """The least power of two that is at least `count`; 0 for 0."""
    return 1 << (count - 1).bit_length() if count else 0


def put(place: Sequence[str], group: Sequence[int], i: str) -> list[str]:
    """An index with `i` walking all axes of a group: all but the last stay at 0, row-major order does the rest."""
    result = list(place)
    result[group[-1]] = i
    return result


def aligned(index: Index, shape: Shape) -> list[str]:
    """The index at which an operand of `shape` is read where the result has `index`, by broadcasting."""
    tail = index[len(index) - len(shape) :]
    return ["0" if is_one(d) else i for i, d in zip(tail, shape, strict=True)]


class NodeEmitter:
    """The emitter as one node's index map sees it (see `dlc.ops.definition.Emitter`)."""

    def __init__(self, loops: LoopEmitter, node: Node) -> None:
        self._loops = loops
        self._node = node

    @property
    def operands(self) -> int:
        """How many operands there are."""
        return len(self._node.inputs)

    def dtype(self, operand: int) -> str:
        """The dtype of an operand."""
        dtype: str = self._node.inputs[operand].dtype
        return dtype

    def shape(self, operand: int) -> Shape:
        """The shape of an operand."""
        shape: Shape = self._node.inputs[operand].shape
        return shape

    def load(self, operand: int, index: Index) -> str:
        """The element of an operand."""
        return self._loops.element(self._node.inputs[operand], [self._loops.checked(i) for i in index])

    def dim(self, d: DimLike) -> str:
        """A run-time dimension."""
        return self._loops.dim(d)

    def let(self, expression: str) -> str:
        """A name for a value."""
        return self._loops.let(bare(expression))

    def constant(self, value: float | int | bool, dtype: str) -> str:
        """A literal."""
        return literal(value, dtype)

    def where(self, condition: str, then: Callable[[], str], otherwise: Callable[[], str], dtype: str) -> str:
        """A value by condition; only the side taken is evaluated."""
        loops = self._loops
        chosen = loops.let(bare(condition))
        sides = []
        for side in (then, otherwise):
            scope = Scope(guard=True)
            loops.scopes.append(scope)
            value = side()
            loops.scopes.pop()
            sides.append((scope.lines, value))
        (yes, a), (no, b) = sides
        if not yes and not no:
            return loops.let(f"select({chosen}, {a}, {b})")
        name = loops.fresh("t")
        loops.line(f"if {chosen}:")
        loops.scopes[-1].lines += [f"    {text}" for text in (*yes, f"{name} = {a}")]
        loops.line("else:")
        loops.scopes[-1].lines += [f"    {text}" for text in (*no, f"{name} = {b}")]
        return name

    def total(self, extents: Sequence[str], term: Callable[[Sequence[str]], str], dtype: str) -> str:
        """A sum over a small index space, in row-major order."""
        loops = self._loops
        total = loops.fresh("a")
        loops.line(f"{total} = {literal(0, dtype)}")

        def nest(index: list[str]) -> None:
            if len(index) < len(extents):
                with loops.loop(extents[len(index)]) as i:
                    nest([*index, i])
                return
            value = term(index)
            loops.line(f"{total} = {plus(total, value, dtype)}")

        nest([])
        return total

    def check(self, condition: str, index: str, extent: str) -> None:
        """Report an index that is out of range."""
        self._loops.check(self._node, condition, index, extent)
