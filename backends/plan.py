"""The plan of a program: kernels in running order, where every value lies, loops and the commit, as data.

A place is a base (an address known at the call: an input, a state, an output, a constant, or a slot that a loop moves)
or a buffer of the arena. Positions of steps are the time line on which buffers live. Scans are laid out flat: a loop
step, the body's steps, and a step that goes back; so are choices and loops of unknown length, between steps that jump.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from dlc.backends.backend import Array
from dlc.backends.launches import Emit, together
from dlc.backends.loops import KernelCode
from dlc.dims import DimLike, evaluate
from dlc.ir import Graph, Node
from dlc.ops.definition import Kind
from dlc.passes.memory import Arena, allocate
from dlc.passes.schedule import Value, is_kernel, may_overwrite, result_types, schedule, value_of

STATUS, ARENA, FIRST = 0, 1, 2  # bases: the status block, the arena, and then the inputs


class Place(NamedTuple):
    """Where bytes lie: at a base, or in a buffer of the arena."""

    base: int
    buffer: int = -1


class Buffer(NamedTuple):
    """Bytes of the arena that live from step `start` to step `end`, inclusive."""

    nbytes: DimLike
    start: int
    end: int


class Call(NamedTuple):
    """A kernel on places: the node's operands, its results, the kernel's scratch. `graph` holds the node, for its
    origins."""

    graph: Graph
    node: Node
    code: KernelCode
    places: tuple[Place, ...]


@dataclass(frozen=True)
class KernelStep:
    """Run a kernel once for each call, in any order: their codes have the same sources, and none reads or overwrites
    what another writes."""

    calls: tuple[Call, ...]


@dataclass(frozen=True)
class CopyStep:
    """Copy bytes."""

    source: Place
    target: Place
    nbytes: DimLike


@dataclass(frozen=True)
class CommitStep:
    """Stop here if something failed: state is written from here on."""


class Slice(NamedTuple):
    """A slot that walks over `whole`, from byte `first`, by `stride` bytes each iteration."""

    slot: int
    whole: Place
    first: DimLike
    stride: DimLike


class Carry(NamedTuple):
    """A carried value: read at `current`, written at `next`, which alternates so that the last lands in `result`."""

    current: int
    next: int
    initial: Place
    result: Place
    spare: Place
    nbytes: DimLike


@dataclass(frozen=True)
class LoopStep:
    """Run the steps up to `end`, which is a `NextStep`, `length` times. The iteration number is kept in a slot."""

    node: Node
    length: DimLike
    counter: int
    slices: tuple[Slice, ...]
    carries: tuple[Carry, ...]
    end: int


@dataclass(frozen=True)
class NextStep:
    """Go on with the next iteration of the loop at `loop`, if there is one."""

    loop: int


@dataclass(frozen=True)
class BranchStep:
    """Go to the step `target` unless the bool at `condition` is true; always, where there is none."""

    condition: Place | None
    target: int


@dataclass(frozen=True)
class WhileStep:
    """Set the carries to their initial values, and go to the step `end` if there are to be no steps at all.

    At `end`, which is a `FinishStep` just after an `AgainStep`, the last carries lie at `current`.
    """

    node: Node
    most: DimLike
    counter: int
    carries: tuple[Carry, ...]
    end: int


@dataclass(frozen=True)
class AgainStep:
    """Make the new carries the current ones, and go on after the step `loop` unless that were too many steps."""

    loop: int


@dataclass(frozen=True)
class FinishStep:
    """Move the carries of the loop at `loop` into its results, where they do not lie there already."""

    loop: int


Step: TypeAlias = (
    "KernelStep | CopyStep | CommitStep | LoopStep | NextStep | BranchStep | WhileStep | AgainStep | FinishStep"
)
UNLIMITED = 2**63 - 1  # steps of a loop


@dataclass(frozen=True)
class Plan:
    """What runs, in which order, and where everything lies. Bases: status, arena, inputs, states, outputs, then
    `constants` (base and array) and the loops' slots; `bases` counts them all."""

    graph: Graph
    steps: tuple[Step, ...]
    buffers: tuple[Buffer, ...]
    constants: tuple[tuple[int, Array], ...]
    bases: int

    @property
    def kernels(self) -> list[Call]:
        """The calls of kernels, in order."""
        return [call for s in self.steps if isinstance(s, KernelStep) for call in s.calls]

    def arena(self, bindings: Mapping[str, int]) -> Arena:
        """Where the buffers lie when the named dims have these values."""
        known = {nbytes: evaluate(nbytes, bindings) for nbytes in {b.nbytes for b in self.buffers}}
        sizes = [known[b.nbytes] for b in self.buffers]
        return allocate(sizes, [b.start for b in self.buffers], [b.end for b in self.buffers])

    def __str__(self) -> str:
        launches = sum(isinstance(s, KernelStep) for s in self.steps)
        counts = {"kernel calls": len(self.kernels), "buffers": len(self.buffers), "constants": len(self.constants)}
        lines = [f"plan: {', '.join(f'{n} {what}' for what, n in counts.items())}, {launches} kernel launches"]
        depth = 1
        branches: list[int] = []  # where those that are open end
        for position, step in enumerate(self.steps):
            while branches and branches[-1] == position:
                depth -= 1
                branches.pop()
            depth -= isinstance(step, (NextStep, AgainStep))
            first, *more = _step_lines(self, step)
            lines.append(f"{position:5d} {'  ' * depth}{first}")
            lines += [f"      {'  ' * depth}  {text}" for text in more]
            depth += isinstance(step, (LoopStep, WhileStep))
            if isinstance(step, BranchStep):
                depth += 1
                branches.append(step.target)
        return "\n".join(lines)

    def base_name(self, base: int) -> str:
        """A base as text: what it is, and its number among its like."""
        kinds = (("input", self.graph.inputs), ("state", self.graph.states), ("output", self.graph.outputs))
        number = base - FIRST
        for kind, nodes in kinds:
            if number < len(nodes):
                return f"{kind}{number}"
            number -= len(nodes)
        return f"constant@{base}" if any(base == b for b, _ in self.constants) else f"slot@{base}"


def _step_lines(plan: Plan, step: Step) -> list[str]:
    """A step as text; several calls of a kernel are one line each, below their count."""

    def text(place: Place) -> str:
        return f"b{place.buffer}" if place.buffer >= 0 else plan.base_name(place.base)

    def called(call: Call) -> str:
        node = call.node
        inner = node.attrs["body"].nodes if node.op.kind is Kind.FUSED else (node,)
        ops = "+".join([n.op.name for n in inner if is_kernel(n)])
        names = [text(place) for place in call.places]
        names = names[: len(names) - len(call.code.scratch)]
        operands, results = names[: len(node.inputs)], names[len(node.inputs) :]
        return f"{', '.join(results)} = {ops}({', '.join(operands)})  : {node.type}"

    match step:
        case KernelStep(calls=(call,)):
            return [called(call)]
        case KernelStep(calls=calls):
            return [f"one kernel, {len(calls)} times:", *map(called, calls)]
        case CopyStep(source, target, nbytes):
            return [f"{text(target)} = copy({text(source)})  : {nbytes} bytes"]
        case CommitStep():
            return ["commit"]
        case LoopStep(length=length):
            return [f"repeat {length} times:"]
        case BranchStep(condition=None, target=target):
            return [f"go to {target}, past:"]
        case BranchStep(condition=Place() as condition, target=target):
            return [f"go to {target} unless {text(condition)}, past:"]
        case WhileStep(most=most):
            return ["repeat:" if most == UNLIMITED else f"repeat at most {most} times:"]
        case AgainStep():
            return ["again"]
        case FinishStep(loop):
            return [f"{', '.join(text(c.result) for c in _carries(plan, loop))} = the last carries"]
    return ["next"]


def _carries(plan: Plan, loop: int) -> tuple[Carry, ...]:
    step = plan.steps[loop]
    assert isinstance(step, WhileStep)
    return step.carries


class ScanParts(NamedTuple):
    """A scan's operands are its carries' initial values, the sliced operands, and captures; its results the last
    carries and the stacked outputs. The body takes and gives the same in that order, for one iteration."""

    body: Graph
    carries: int
    slices: int
    length: DimLike
    reverse: bool


Final: TypeAlias = "tuple[Value | Place, tuple[Place, DimLike]]"  # a copy at the end: from, (to, bytes)


def make_plan(graph: Graph, emit: Emit) -> Plan:
    """The plan of an optimised graph; `emit` gives a node's kernel."""
    return _Planner(graph, emit).plan()


class _Planner:
    """Lays steps out one after the other and notes how long each buffer lives."""

    def __init__(self, graph: Graph, emit: Emit) -> None:
        self.graph = graph
        self.emit = emit
        self.steps: list[Step] = []
        self.buffers: list[Buffer] = []
        self.constants: dict[object, tuple[int, Array]] = {}
        self.bases = FIRST + len(graph.inputs) + len(graph.states) + len(graph.outputs)
        self.loops: list[tuple[int, set[int]]] = []  # open loops: position, and buffers from outside that they read

    def plan(self) -> Plan:
        graph = self.graph
        order = schedule(graph)
        leaves = [*graph.inputs, *graph.states]
        places = {Value(n): Place(FIRST + i) for i, n in enumerate(leaves)}
        targets = {value: places[Value(state)] for state, value in order.direct.items()}
        finals = self._outputs(places, targets) + self._updates(places, order.direct)
        kept = {value for value, _ in finals if isinstance(value, Value)}
        self._level(graph, order.order, places, targets, kept, order.direct, order.commit)
        for source, target in finals:
            place = self._read(source, places) if isinstance(source, Value) else self._use(source)
            self.steps.append(CopyStep(place, target[0], target[1]))
        return Plan(graph, tuple(self.steps), tuple(self.buffers), tuple(self.constants.values()), self.bases)

    def _outputs(self, places: dict[Value, Place], targets: dict[Value, Place]) -> list[Final]:
        """Let kernels write outputs where they can; copy an old state before it changes; copy the rest at the end."""
        finals: list[Final] = []
        updated = {state for state, _ in self.graph.updates}
        first = FIRST + len(self.graph.inputs) + len(self.graph.states)
        for i, node in enumerate(self.graph.outputs):
            value, place = value_of(node), Place(first + i)
            if is_kernel(value.node) and value not in targets:
                targets[value] = place
            elif value.node in updated:
                self.steps.append(CopyStep(places[value], place, value.type.nbytes))
            else:
                finals.append((value, (place, value.type.nbytes)))
        return finals

    def _updates(self, places: dict[Value, Place], direct: Mapping[Node, Value]) -> list[Final]:
        """Copies for the new states that no kernel writes in place; other states' old values are saved first."""
        finals: list[Final] = []
        updated = {state for state, _ in self.graph.updates}
        saved: dict[Value, Place] = {}
        for state, new in self.graph.updates:
            value, target = value_of(new), (places[Value(state)], state.type.nbytes)
            if value.node is state or state in direct:
                continue
            if value.node not in updated:
                finals.append((value, target))
                continue
            if value not in saved:
                saved[value] = self._buffer(state.type.nbytes)
                self.steps.append(CopyStep(places[value], saved[value], state.type.nbytes))
            finals.append((saved[value], target))
        return finals

    def _level(
        self,
        graph: Graph,
        order: Sequence[Node],
        places: dict[Value, Place],
        targets: Mapping[Value, Place],
        kept: Iterable[Value],
        direct: Mapping[Node, Value],
        commit: int | None = None,
    ) -> None:
        """Steps for the kernels of a graph or of a loop's body; `kept` values are read after them."""
        steps = together(order, self.emit, targets, direct, commit)
        last = {value_of(x): i for i, nodes in enumerate(steps) for node in nodes for x in node.inputs}
        last.update(dict.fromkeys(kept, len(steps)))
        done = 0
        for i, nodes in enumerate(steps):
            if done == commit:
                self.steps.append(CommitStep())
            done += len(nodes)
            if nodes[0].op.kind is Kind.LOOP:
                lay_out = {"scan": self._loop, "cond": self._choice, "while_loop": self._while}[nodes[0].op.name]
                lay_out(nodes[0], places, targets)
                continue
            reads = Counter(value for node in nodes for value in dict.fromkeys(map(value_of, node.inputs)))
            dying = {value for value, readers in reads.items() if last[value] == i and readers == 1}
            calls = [self._call(graph, node, places, targets, dying) for node in nodes]
            self.steps.append(KernelStep(tuple(calls)))
        if commit == len(order) and graph.updates:
            self.steps.append(CommitStep())

    def _call(
        self, graph: Graph, node: Node, places: dict[Value, Place], targets: Mapping[Value, Place], dying: set[Value]
    ) -> Call:
        code = self.emit(node)
        operands = [self._read(value_of(x), places) for x in node.inputs]
        results = []
        for i, t in enumerate(result_types(node)):
            value = Value(node, i)
            place = targets.get(value) or self._overwritten(node, i, places, dying) or self._buffer(t.nbytes)
            places[value] = place
            results.append(place)
        scratch = [self._buffer(nbytes) for nbytes in code.scratch]
        return Call(graph, node, code, (*operands, *results, *scratch))

    def _overwritten(self, node: Node, result: int, places: Mapping[Value, Place], dying: set[Value]) -> Place | None:
        """The buffer of an operand that dies here and whose elements the kernel replaces one by one."""
        for value in map(value_of, node.inputs):
            if value not in dying or not is_kernel(value.node) or places[value].buffer < 0:
                continue
            reads = [p for p, x in enumerate(node.inputs) if value_of(x) == value]
            if all(may_overwrite(node, p, result) for p in reads):
                dying.discard(value)
                return self._use(places[value])
        return None

    def _loop(self, node: Node, places: dict[Value, Place], targets: Mapping[Value, Place]) -> None:
        scan = ScanParts(**node.attrs)
        position = self._mark()
        self.loops.append((position, set()))
        counter = self._slot()
        operands, results = self._ends(node, places, targets)
        inside: dict[Value, Place] = {}
        carries, slices = [], []
        for i, leaf in enumerate(scan.body.inputs):
            place, nbytes = operands[i], leaf.type.nbytes
            if i < scan.carries:
                carries.append(Carry(self._slot(), self._slot(), place, results[i], self._buffer(nbytes), nbytes))
                place = Place(carries[-1].current)
            elif i < scan.carries + scan.slices:
                slices.append(self._slice(place, nbytes, scan))
                place = Place(slices[-1].slot)
            inside[Value(leaf)] = place
        written = [Place(c.next) for c in carries]
        for out, place in zip(scan.body.outputs[scan.carries :], results[scan.carries :], strict=True):
            slices.append(self._slice(place, out.type.nbytes, scan))
            written.append(Place(slices[-1].slot))
        self._body(scan.body, inside, written)
        end = len(self.steps)
        self.steps.append(NextStep(position))
        _, used = self.loops.pop()
        alive = {p.buffer for p in (*operands, *results, *(c.spare for c in carries)) if p.buffer >= 0}
        for b in used | alive:
            self._use(Place(ARENA, b), end)
        self.steps[position] = LoopStep(node, scan.length, counter, tuple(slices), tuple(carries), end)

    def _choice(self, node: Node, places: dict[Value, Place], targets: Mapping[Value, Place]) -> None:
        """A branch to the other body's steps; this body's steps, and one that goes past the others."""
        (condition, *operands), results = self._ends(node, places, targets)

        def lay_out(body: Graph) -> None:
            self._body(body, dict(zip(map(Value, body.inputs), operands, strict=True)), results)

        branch = self._mark()
        lay_out(node.attrs["then"])
        past = self._mark()
        lay_out(node.attrs["otherwise"])
        self.steps[branch] = BranchStep(condition, past + 1)
        self.steps[past] = BranchStep(None, len(self.steps))
        for place in (*operands, *results):
            self._use(place, len(self.steps) - 1)

    def _while(self, node: Node, places: dict[Value, Place], targets: Mapping[Value, Place]) -> None:
        """The condition's steps, a branch to the end, the body's steps, and one that goes back."""
        condition, body = node.attrs["condition"], node.attrs["body"]
        position = self._mark()
        self.loops.append((position, set()))
        counter = self._slot()
        operands, results = self._ends(node, places, targets)
        carries = []
        for i, place in enumerate(results):
            nbytes = body.inputs[i].type.nbytes
            carries.append(Carry(self._slot(), self._slot(), operands[i], place, self._buffer(nbytes), nbytes))
        given = [*(Place(c.current) for c in carries), *operands[len(carries) :]]
        goes_on = self._decided(condition, dict(zip(map(Value, condition.inputs), given, strict=True)))
        branch = self._mark()
        self._body(body, dict(zip(map(Value, body.inputs), given, strict=True)), [Place(c.next) for c in carries])
        self.steps.append(AgainStep(position))
        end = len(self.steps)
        self.steps.append(FinishStep(position))
        self.steps[branch] = BranchStep(goes_on, end)
        _, used = self.loops.pop()
        alive = {p.buffer for p in (*operands, *results, *(c.spare for c in carries)) if p.buffer >= 0}
        for b in used | alive:
            self._use(Place(ARENA, b), end)
        most = node.attrs["max_steps"]
        self.steps[position] = WhileStep(node, UNLIMITED if most is None else most, counter, tuple(carries), end)

    def _decided(self, condition: Graph, places: dict[Value, Place]) -> Place:
        """Steps for a condition, and where its bool lies."""
        value = value_of(condition.outputs[0])
        if is_kernel(value.node):
            place = self._buffer(value.type.nbytes)
            self._body(condition, places, [place])
            return self._use(place)
        return self._read(value, places)

    def _mark(self) -> int:
        """The position of a step that is put there once it is known where others are."""
        self.steps.append(CommitStep())
        return len(self.steps) - 1

    def _ends(
        self, node: Node, places: dict[Value, Place], targets: Mapping[Value, Place]
    ) -> tuple[list[Place], list[Place]]:
        """Where a loop's or choice's operands lie, and its results."""
        operands = [self._read(value_of(x), places) for x in node.inputs]
        results = [targets.get(Value(node, i)) or self._buffer(t.nbytes) for i, t in enumerate(result_types(node))]
        places.update({Value(node, i): place for i, place in enumerate(results)})
        return operands, results

    def _body(self, body: Graph, places: dict[Value, Place], results: Sequence[Place]) -> None:
        """Steps for one iteration: kernels write results where they can, the rest is copied."""
        targets: dict[Value, Place] = {}
        copies = []
        for out, place in zip(body.outputs, results, strict=True):
            value = value_of(out)
            if is_kernel(value.node) and value not in targets:
                targets[value] = place
            else:
                copies.append((value, place))
        self._level(body, schedule(body).order, places, targets, {value for value, _ in copies}, {})
        for value, place in copies:
            self.steps.append(CopyStep(self._read(value, places), place, value.type.nbytes))

    def _slice(self, whole: Place, nbytes: DimLike, scan: ScanParts) -> Slice:
        if scan.reverse:
            return Slice(self._slot(), whole, nbytes * (scan.length - 1), nbytes * -1)
        return Slice(self._slot(), whole, 0, nbytes)

    # ---- places

    def _slot(self) -> int:
        self.bases += 1
        return self.bases - 1

    def _buffer(self, nbytes: DimLike) -> Place:
        self.buffers.append(Buffer(nbytes, len(self.steps), len(self.steps)))
        return Place(ARENA, len(self.buffers) - 1)

    def _use(self, place: Place, position: int | None = None) -> Place:
        """Keep a place's buffer alive up to `position`, by default the step to come."""
        if place.buffer >= 0:
            position = len(self.steps) if position is None else position
            buffer = self.buffers[place.buffer]
            self.buffers[place.buffer] = buffer._replace(end=max(buffer.end, position))
            for start, used in self.loops:
                if buffer.start < start:
                    used.add(place.buffer)
        return place

    def _read(self, value: Value, places: dict[Value, Place]) -> Place:
        node = value.node
        if node.op.name == "constant" and value not in places:
            literal = node.attrs["value"]
            base, _ = self.constants.setdefault(literal.key, (self.bases, literal.array))
            if base == self.bases:
                self.bases += 1
            places[value] = Place(base)
        return self._use(places[value])
