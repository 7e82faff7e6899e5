"""From graph to program: the only place that strings passes and a backend together."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import ndarray

from dlc.arguments import bind_dims, match_arguments, read_argument
from dlc.display import Pictured
from dlc.dtypes import is_floating, numpy_dtype
from dlc.errors import AttributeValueError, GraphError, NonFiniteError, UnsupportedError
from dlc.garbage import collection_paused
from dlc.ir import Graph, Node, TensorType
from dlc.ops.bounds import check_bound_shapes
from dlc.ops.leaves import SEED, STEP, TRAINING, scalar
from dlc.ops.tensor import Tensor, state_node, wrap
from dlc.printer import node_names
from dlc.provenance import here
from dlc.state import State

if TYPE_CHECKING:
    from dlc.backends.backend import Backend, Executable, KernelSource
    from dlc.passes import Pipeline
    from dlc.passes.driver import Record

Array = np.ndarray[Any, Any]

# Each backend by name: where to find it, or a function that makes it.
BACKENDS: dict[str, str | Callable[[], Backend]] = {
    "cpu": "dlc.backends.cpu.backend:CpuBackend",
    "cuda": "dlc.backends.cuda.backend:CudaBackend",
    "reference": "dlc.backends.reference:ReferenceBackend",
}


def find_backend(name: str) -> Backend:
    """The backend called `name`. Raises `AttributeValueError` naming those that exist."""
    if name not in BACKENDS:
        raise AttributeValueError(f"there is no backend {name!r}; choose one of {', '.join(map(repr, BACKENDS))}")
    found = BACKENDS[name]
    if isinstance(found, str):
        module, _, attribute = found.partition(":")
        found = getattr(import_module(module), attribute)
    return found()


class Program(Pictured):
    """A compiled graph. Call it with the graph's inputs, in order or by name; it returns a tuple of fresh arrays.

    Attributes: `graph` (before fusion), `passes` (a record per pass), `plan`, `kernels` (generated sources),
    `backend`, `seconds` (how long compiling took), `seed` and `step` (the states of random draws, if it makes any).
    Calls are re-entrant. A call that fails leaves all state as it was.

    >>> import dlc
    >>> x = dlc.input("x", ("N",))
    >>> program = dlc.compile(dlc.graph([x], [x * 2]))
    >>> program([1.0, 2.0])[0].tolist()
    [2.0, 4.0]
    """

    def __init__(
        self,
        graph: Graph,
        final: Graph,
        records: Sequence[Record],
        executable: Executable,
        *,
        backend: str,
        seconds: float,
        check_finite: bool,
    ) -> None:
        self.graph = graph
        self.final = final
        self.passes = tuple(records)
        self.backend = backend
        self.seconds = seconds
        self.check_finite = check_finite
        self.seed: State | None = None
        self.step: State | None = None
        self._executable = executable
        self._run = executable.__call__
        self._bound: dict[tuple[tuple[int, ...] | None, ...], dict[str, int]] = {}
        self._dtypes = tuple(numpy_dtype(n.type.dtype) for n in graph.inputs)
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        names = node_names(self.graph)
        inputs = ", ".join(f"{names[n]}: {n.type}" for n in self.graph.inputs)
        return f"<Program on {self.backend}: ({inputs}) -> {', '.join(str(n.type) for n in self.graph.outputs)}>"

    @property
    def kernels(self) -> tuple[KernelSource, ...]:
        """The generated kernels, each once, with readable source."""
        return self._executable.kernels

    @property
    def plan(self) -> Any:
        """The ordered kernel calls and buffers; None on the reference backend, which has no plan."""
        return getattr(self._executable, "plan", None)

    def __call__(self, *args: Any, **named: Any) -> tuple[Array, ...]:
        """Run once. Raises `CallError`, `ArgumentError` or `DTypeError` on arguments that do not fit."""
        if named or len(args) != len(self._dtypes):
            args = tuple(match_arguments(self.graph.inputs, args, named))
        # Arrays of the right dtypes and of shapes seen before, which is nearly every call, need no other look.
        fits = zip(args, self._dtypes, strict=True)
        shapes = [a.shape if type(a) is ndarray and a.dtype is d else None for a, d in fits]
        bindings = self._bound.get(tuple(shapes))
        if bindings is None:
            args = tuple([read_argument(n, a) for n, a in zip(self.graph.inputs, args, strict=True)])
            bindings = self._bind(args)
        if self.check_finite:
            return self._run_checked(args, bindings)
        return self._run(args, bindings)

    def _bind(self, arrays: Sequence[Array]) -> dict[str, int]:
        shapes = tuple([a.shape for a in arrays])
        known = self._bound.get(shapes)
        if known is not None:
            return known
        bindings = bind_dims(self.graph.inputs, arrays)
        check_bound_shapes(self.graph, bindings)
        with self._lock:
            if len(self._bound) >= 256:  # shapes that vary without end must not fill the memory
                self._bound.clear()
            return self._bound.setdefault(shapes, bindings)

    def _run_checked(self, arrays: Sequence[Array], bindings: Mapping[str, int]) -> tuple[Array, ...]:
        """Run; if a value that leaves the program is not finite, restore the state and name the first culprit."""
        states = [(n.leaf, n.leaf.value.copy()) for n, _ in self.graph.updates if isinstance(n.leaf, State)]
        outputs = self._executable(arrays, bindings)
        if all(_is_finite(a) for a in outputs) and all(_is_finite(s.value) for s, _ in states):
            return outputs
        for state, before in states:
            state.assign(before)
        raise self._first_non_finite(arrays, bindings)

    def _first_non_finite(self, arrays: Sequence[Array], bindings: Mapping[str, int]) -> NonFiniteError:
        from dlc.ops.interpret import interpret

        found: list[tuple[Node, Any]] = []

        def observe(node: Node, value: Any) -> None:
            if not found and node.op.name != "constant" and not all(map(_is_finite, _items(value))):
                found.append((node, value))

        states = {n: n.leaf.value for n in self.graph.states if isinstance(n.leaf, State)}
        with np.errstate(all="ignore"):
            interpret(self.graph, arrays, bindings, states, observe=observe)
        if not found:
            return NonFiniteError("a result is not finite, but no node is when replayed on the reference backend")
        node, value = found[0]
        bad = next(v for v in _items(value) if not _is_finite(v))
        count, example = int((~np.isfinite(bad)).sum()), bad[~np.isfinite(bad)].flat[0]
        name = f"the {node.op.name} {node.leaf.name!r}" if node.leaf else node.op.name
        fix = "look at its operands, lower the learning rate or clip the gradients"
        if node.op.name == "input":
            fix = "clean the data that was passed"
        return NonFiniteError(
            f"{name} {node.type} is the first value that is not finite: {count} of {bad.size} elements, such as "
            f"{example}. Nothing was changed; {fix}",
            where=self.graph.where(node),
        )

    def explain(self) -> str:
        """How the program came about, as text: passes with times, kernels, memory, what was fused and why not."""
        lines = [repr(self), f"compiled in {self.seconds:.2f} s", "", "passes"]
        lines += [f"  {record}" for record in self.passes]
        lines += ["", f"kernels: {len(self.kernels)}"]
        lines += [f"  {k.name}: {len(k.nodes)} node{'s' * (len(k.nodes) != 1)}" for k in self.kernels]
        if self.plan is not None:
            from dlc.passes.fuse import fusion_notes

            lines += ["", str(self.plan), "", "memory", *(f"  {text}" for text in self._memory())]
            notes = Counter(map(str, fusion_notes(self.graph)))
            lines += ["", f"not fused: {notes.total()} edges"]
            lines += [f"  {note}" + (f" (x {times})" if times > 1 else "") for note, times in notes.items()]
        return "\n".join(lines)


    def _memory(self) -> list[str]:
        """The arena for each binding of the named dims that was called, beside the most bytes alive at one step."""
        named = any(not isinstance(d, int) for n in self.graph.inputs for d in n.type.shape)
        seen = [*{tuple(b.items()): b for b in self._bound.values()}.values()] if named else [{}]
        lines = []
        for bindings in seen:
            arena = self.plan.arena(bindings)
            sizes = ", ".join(f"{name}={size}" for name, size in bindings.items())
            times = f"{arena.peak / arena.lower_bound:.2f} times" if arena.lower_bound else "the same as"
            lines.append(f"arena{sizes and f' for {sizes}'}: {arena.peak:,} bytes, {times} the most alive at once")
        return lines or ["the arena's size follows the named dims: call the program first"]


def compile(
    graph: Graph,
    backend: str = "cpu",
    *,
    pipeline: Pipeline | None = None,
    training: bool = False,
    seed: int | State = 0,
    step: State | None = None,
    check_finite: bool = False,
    check: bool | None = None,
) -> Program:
    """Compile `graph` for a backend: "cpu" (native, the default), "cuda" or "reference" (NumPy, op by op).

    `pipeline` is the passes to run (default `dlc.passes.PIPELINE`). `training` picks the side of layers like dropout.
    Random draws are keyed by `seed` and a step counter that each call advances, unless `step` brings its own.
    `check_finite` names the first node that makes NaN or infinity. `check` verifies and interprets the graph after
    every pass. Raises `UnsupportedError` for what the backend has no code for.

    >>> import dlc
    >>> a, b = dlc.input("a"), dlc.input("b")
    >>> dlc.compile(dlc.graph([a, b], [a * b]), backend="reference")(3.0, 4.0)[0].item()
    12.0
    """
    from dlc.passes import PIPELINE
    from dlc.passes.driver import run_pipeline

    started = time.perf_counter()
    if not isinstance(graph, Graph):
        raise GraphError(
            f"compile takes a graph, not {type(graph).__name__}; make one with dlc.graph(inputs, outputs)", where=here()
        )
    engine = find_backend(backend)
    with collection_paused():
        bound, seed_state, step_state = _bind_ambients(graph, training, seed, step)
        final, records = run_pipeline(PIPELINE if pipeline is None else pipeline, bound, check=check)
    if missing := engine.unsupported(final):
        node, reason = missing[0]
        raise UnsupportedError(
            f"the {backend} backend cannot run {node.op.name} {node.type}: {reason}; the reference backend can",
            where=final.where(node),
        )
    executable = engine.load(final)
    unfused = next((r.before for r in records if r.name == "fuse"), final)
    seconds = time.perf_counter() - started
    program = Program(unfused, final, records, executable, backend=backend, seconds=seconds, check_finite=check_finite)
    program.seed, program.step = seed_state, step_state
    return program


def _bind_ambients(
    graph: Graph, training: bool, seed: int | State, step: State | None
) -> tuple[Graph, State | None, State | None]:
    """Replace the ambient leaves: training by a constant, seed and step by state (a step of our own advances by 1)."""
    used = set(graph.ambients)
    if not used:
        return graph, None, None
    if not isinstance(seed, State):
        check_seed(seed)
    if step is not None and not isinstance(step, State):
        raise AttributeValueError(f"step is a state, such as that of a TrainStep, not {step!r}", where=here())
    values: dict[Node, Node] = {TRAINING.node: scalar(training, "bool").node}
    seed_state = seed if isinstance(seed, State) else State("seed", TensorType("uint64"), lambda: np.uint64(seed))
    step_state = step or State("step", TensorType("int64"), lambda: np.int64(0))
    values[SEED.node], values[STEP.node] = state_node(seed_state), state_node(step_state)
    bound = graph.substitute(values)
    if STEP.node in used and step is None:
        advanced = Tensor(state_node(step_state)) + 1
        bound = Graph(
            bound.inputs, bound.outputs, (*bound.updates, (state_node(step_state), advanced.node)), bound.origins
        )
    return bound, seed_state if SEED.node in used else None, step_state if STEP.node in used else None


def check_seed(seed: Any) -> None:
    """Raise `AttributeValueError` unless `seed` is an int that 64 bits hold."""
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**64:
        raise AttributeValueError(f"a seed is an int from 0 to 2^64 - 1, not {seed!r}", where=here())


def evaluate(*tensors: Any, training: bool = False, seed: int = 0) -> Any:
    """The values of tensors that depend on no input, by the reference backend: for doctests and trying things out.

    One tensor gives an array, several a tuple of arrays.

    >>> import dlc
    >>> dlc.evaluate(dlc.constant([1.0, 2.0]) * 3).tolist()
    [3.0, 6.0]
    """
    nodes = tuple(wrap(t).node for t in tensors)
    values = compile(Graph((), nodes), "reference", training=training, seed=seed)()
    return values[0] if len(values) == 1 else values


def _is_finite(value: Array) -> bool:
    return not is_floating(value.dtype) or bool(np.isfinite(value).all())


def _items(value: Any) -> tuple[Array, ...]:
    return value if isinstance(value, tuple) else (value,)
