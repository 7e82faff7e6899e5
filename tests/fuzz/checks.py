"""What must hold of every graph: on the reference backend under every choice and order of passes, and as native code
on poisoned memory, with one thread and two, fused and unfused.
"""

from __future__ import annotations

import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

import dlc
from dlc.dtypes import is_floating
from dlc.errors import DlcError
from dlc.ir import Graph, Node
from dlc.ops.bounds import check_bound_shapes
from dlc.ops.definition import Kind
from dlc.ops.interpret import interpret
from dlc.passes import PIPELINE
from dlc.passes.bind import bind_ambients
from dlc.state import State

from .author import Case
from .poison import poison, tasks_shared_out
from .rounding import Bounds

Array = np.ndarray[Any, Any]
PASSES = dict(PIPELINE.steps)
LONGEST = 60  # seconds for one graph, compiling on a busy machine included
LAST = "fuse"  # what it makes is for backends: the other passes run before it, in any order


@dataclass
class Found:
    """What one graph showed: differences, and how much of it was checked, and how closely."""

    failures: list[str] = field(default_factory=list)
    runs: int = 0  # bindings under which the graph ran
    errors: int = 0  # those under which it raised the same error everywhere
    refused: int = 0  # bindings that the graph does not fit, besides
    elements: int = 0
    loose: int = 0  # elements that rounding may move by more than a hundredth
    launches: int = 0
    unfused: int = 0  # whether the bits of the unfused program had to be the same


class _TookTooLong(BaseException):
    """Not an `Exception`, which would be taken for an error of what was interrupted."""


def guarded(check: Callable[[Case], Found], case: Case) -> Found:
    """What `check` finds; an error of any kind, or to take more than `LONGEST` seconds, is a failure like others."""

    def stop(*_: Any) -> None:
        raise _TookTooLong

    timed = hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGALRM, stop) if timed else None
    try:
        if timed:
            signal.setitimer(signal.ITIMER_REAL, LONGEST)
        return check(case)
    except (Exception, _TookTooLong):
        return Found([traceback.format_exc(limit=-5)])
    finally:
        if timed:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


# ---------------------------------------------------------------- passes, on the reference backend


def orders(seed: int, shuffles: int = 2) -> dict[str, tuple[str, ...]]:
    """Names of passes to run in order, by what is special: all, each left out in turn, and shuffled before the last."""
    names = PIPELINE.names
    found = {"all passes": names}
    for left_out in names:
        found[f"without {left_out}"] = tuple(n for n in names if n != left_out)
    rng = np.random.default_rng((seed, 7))
    free = [n for n in names if n != LAST]
    for i in range(shuffles):
        order = (*(free[int(k)] for k in rng.permutation(len(free))), LAST)
        found[f"order {i}: {', '.join(order)}"] = order
    return found


def rewritten(graph: Graph, wanted: Mapping[str, Sequence[str]]) -> dict[str, Graph | str]:
    """`graph` after each order of passes, or what the pass raised; a pass runs once on each graph that orders meet."""
    made: dict[Any, Graph | str] = {}

    @cache
    def after(order: tuple[str, ...]) -> Graph | str:
        if not order:
            return graph
        before = after(order[:-1])
        if isinstance(before, str):
            return before
        met = order[-1], before.outputs, before.updates
        if met not in made:
            try:
                made[met] = PASSES[order[-1]](before)
            except Exception as error:  # any at all is a bug of the pass
                made[met] = f"the pass {order[-1]} raised {type(error).__name__}: {error}"
        return made[met]

    return {label: after(tuple(order)) for label, order in wanted.items()}


def values(graph: Graph, inputs: Sequence[Any], bindings: Mapping[str, int], states: Mapping[Node, Array],
           updated: Sequence[Node]) -> list[Array] | type[DlcError]:  # fmt: skip
    """Outputs, and new values of the states `updated`, by the reference; or the type of the error."""
    try:
        with np.errstate(all="ignore"):
            outputs, updates = interpret(graph, inputs, bindings, states)
    except DlcError as error:
        return type(error)
    new = {s: v for (s, _), v in zip(graph.updates, updates, strict=True)}
    return [*outputs, *(new[s] if s in new else states[s] for s in updated)]


def initial(graph: Graph) -> dict[Node, Array]:
    """The first values of a graph's states."""
    return {n: n.leaf.initial() if hasattr(n.leaf, "initial") else n.leaf.value for n in graph.states}  # type: ignore[union-attr]


def on_reference(case: Case, *, bindings: int = 2, shuffles: int = 2) -> Found:
    """The graph before and after all orders of passes, on several bindings of its named dims."""
    found = Found()
    graph = bind_ambients(case.graph, training=case.training)
    graphs: dict[str, Graph] = {}
    for label, after in rewritten(graph, orders(case.seed, shuffles)).items():
        if isinstance(after, str):
            found.failures.append(f"{label}: {after}")
        else:
            graphs[label] = after
    states = initial(graph)
    updated = [s for s, _ in graph.updates]
    for bound, inputs in fitting(case, graph, bindings, found):
        base = values(graph, inputs, bound, states, updated)
        found.runs += 1
        found.failures += [f"{label}, {bound}: {text}" for label, text in misfits(graphs, bound).items()]
        got = _all_values(graphs, graph, inputs, bound, states, updated)
        if isinstance(base, type):
            found.errors += 1
            for label, v in got.items():
                if v is not base:
                    found.failures.append(f"{label}, {bound}: {_shown(v)}, and before {base.__name__}")
            continue
        found.elements += sum(np.size(v) for v in base)
        bounds = Bounds(graph, inputs, bound, states, base, case.seed)
        found.failures += [f"{label}, {bound}: {text}" for label, text in compared(base, got, bounds).items()]
    return found


def fitting(case: Case, graph: Graph, most: int, found: Found) -> Iterator[tuple[dict[str, int], list[Array]]]:
    """At most `most` bindings that the graph's dims and slices fit, with inputs; others are counted."""
    runs = case.runs()
    turn = 1 + case.seed % max(len(runs) - 1, 1)  # the first always, the others in turn
    for bound, inputs in [*runs[:1], *runs[turn:], *runs[1:turn]]:
        try:
            check_bound_shapes(graph, bound)
        except DlcError:
            found.refused += 1
            continue
        if most > 0:
            most -= 1
            yield bound, inputs


def misfits(graphs: Mapping[str, Graph], bound: Mapping[str, int]) -> dict[str, str]:
    """Which graphs have a negative dim, or a slice outside its axis, where the first graph has none."""
    wrong, seen = {}, set()
    for label, graph in graphs.items():
        if (graph.outputs, graph.updates) not in seen:
            seen.add((graph.outputs, graph.updates))
            try:
                check_bound_shapes(graph, bound)
            except DlcError as error:
                wrong[label] = str(error)
    return wrong


def _all_values(graphs: Mapping[str, Graph], graph: Graph, inputs: Sequence[Any], bound: Mapping[str, int],
                states: Mapping[Node, Array], updated: Sequence[Node]) -> dict[str, Any]:  # fmt: skip
    """The values of all graphs. They share most of their nodes, so they are run as one where none of them fails."""
    whole: list[Node] = []
    for after in graphs.values():
        new = dict(after.updates)
        whole += [*after.outputs, *(new.get(s, s) for s in updated)]
    if all(g.inputs == graph.inputs for g in graphs.values()):
        together = values(Graph(graph.inputs, tuple(whole)), inputs, bound, states, ())
        if not isinstance(together, type):
            width = len(graph.outputs) + len(updated)
            return {label: together[i * width : (i + 1) * width] for i, label in enumerate(graphs)}
    return {label: values(g, inputs, bound, states, updated) for label, g in graphs.items()}


def compared(base: Sequence[Array], got: Mapping[str, Any], bounds: Bounds) -> dict[str, str]:
    """What differs, by label; values that are the same object, or the same bits, need no bounds."""
    wrong = {}
    for label, outputs in got.items():
        if isinstance(outputs, type):
            wrong[label] = f"{outputs.__name__}, and before a result"
            continue
        for place, (x, y) in enumerate(zip(base, outputs, strict=True)):
            if x is y:
                continue
            x, y = np.asarray(x), np.asarray(y)
            if x.dtype != y.dtype or x.shape != y.shape:
                wrong[label] = f"value {place} was {x.dtype}{list(x.shape)} and is {y.dtype}{list(y.shape)}"
            elif x.tobytes() != y.tobytes() and (text := bounds.difference(place, y)):
                wrong[label] = f"value {place}: {text}"
    return wrong


def _shown(value: Any) -> str:
    return value.__name__ if isinstance(value, type) else "a result"


# ---------------------------------------------------------------- native code


def on_cpu(case: Case, *, bindings: int = 4, unfused: bool = True, check_loose: bool = False) -> Found:
    """Native code on poisoned memory against the reference; with one thread and two, and unfused, in every bit."""
    found = Found()
    graph = bind_ambients(case.graph, training=case.training)
    kept = initial(case.graph)
    updated = [s for s, _ in graph.updates]
    programs = {}
    for label, pipeline in {"native": PIPELINE, "unfused": PIPELINE.without("fuse")}.items():
        if label == "unfused" and not unfused:
            continue
        try:
            programs[label] = dlc.compile(case.graph, pipeline=pipeline, training=case.training, check=False)
        except Exception as error:
            found.failures.append(f"{label}: compiling raised {type(error).__name__}: {error}")
            return found
        poison(programs[label]._executable)  # type: ignore[arg-type]
    found.launches = len(programs["native"].plan.steps)
    alike = keeps_trees(programs["native"].final)
    found.unfused = int(unfused and alike)
    for bound, inputs in fitting(case, graph, bindings, found):
        base = values(graph, inputs, bound, kept, updated)
        found.runs += 1
        with tasks_shared_out():
            native = {}
            for threads in (2, 1):
                dlc.set_threads(threads)
                native[f"{threads} threads"] = called(programs["native"], inputs, kept, updated)
            if unfused:
                native["unfused"] = called(programs["unfused"], inputs, kept, updated)
        if isinstance(base, type):
            found.errors += 1
            found.failures += [f"{k}, {bound}: {_shown(v)}, and {base.__name__} on the reference"
                               for k, v in native.items() if v is not base]  # fmt: skip
            continue
        found.elements += sum(np.size(v) for v in base)
        bounds = Bounds(graph, inputs, bound, kept, base, case.seed)
        found.failures += [f"{k}, {bound}: {t}" for k, t in compared(base, native, bounds).items()]
        if check_loose:
            found.loose += bounds.loose()[0]
        first = native["2 threads"]
        for label, other in native.items():
            if isinstance(first, type) or isinstance(other, type):
                continue
            for place, (x, y) in enumerate(zip(first, other, strict=True)):
                if same_bits(x, y) or (label == "unfused" and not alike):
                    continue
                with np.errstate(all="ignore"):
                    gap = np.nanmax(np.abs(x.astype("float64") - y), initial=0.0)
                found.failures.append(f"{label}, {bound}: value {place} has other bits, by {gap:.3g}")
                break
    return found


def same_bits(x: Array, y: Array) -> bool:
    """Whether two arrays hold the same, where any NaN is as good as another."""
    if x.tobytes() == y.tobytes():
        return True
    if not is_floating(x.dtype):
        return False
    nan = np.isnan(x)
    return bool((nan == np.isnan(y)).all()) and x[~nan].tobytes() == y[~nan].tobytes()


def keeps_trees(graph: Graph) -> bool:
    """Whether fusion left every sum its tree: views within a kernel may change which axis of a sum lies innermost."""
    for node in graph.nodes:
        bodies = [v for v in node.attrs.values() if isinstance(v, Graph)]
        if node.op.kind is Kind.FUSED:
            kinds = {n.op.kind for n in bodies[0].nodes}
            if kinds & {Kind.REDUCE, Kind.CONTRACT} and Kind.VIEW in kinds:
                return False
        elif not all(map(keeps_trees, bodies)):
            return False
    return True


def called(program: Any, inputs: Sequence[Array], kept: Mapping[Node, Array], updated: Sequence[Node]) -> Any:
    """Outputs and new states of one call that begins with states as they were; or the type of the error."""
    for node, value in kept.items():
        node.leaf.assign(value)  # type: ignore[union-attr]
    for state in (program.seed, program.step):
        if isinstance(state, State):
            state.assign(np.asarray(0, state.value.dtype))
    try:
        outputs = program(*inputs)
    except DlcError as error:
        after = [s.leaf.value for s in updated]  # type: ignore[union-attr]
        if any(x.tobytes() != np.asarray(kept[s]).tobytes() for s, x in zip(updated, after, strict=True)):
            return _StateChanged
        return type(error)
    return [*outputs, *(np.array(s.leaf.value) for s in updated)]  # type: ignore[union-attr]


class _StateChanged(DlcError):
    """A call failed and yet changed a state."""

