"""Whether two graphs compute the same: both run on the reference interpreter, on the same random inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dlc.dims import Dim, evaluate
from dlc.dtypes import is_floating, numpy_dtype
from dlc.errors import DimError, DlcError, IndexOutOfRangeError, ShapeError, VerificationError
from dlc.ir import Graph, Node, TensorType, TupleType, make_node, same_op
from dlc.ops.bounds import check_bound_shapes
from dlc.ops.while_loop import WHILE
from dlc.passes.bind import bind_ambients

Array = np.ndarray[Any, Any]
_EXTENTS = ((2, 3, 4, 5), (1, 2, 3), (5, 6, 7, 8, 9), (12, 14, 16), (28, 32, 36), (64, 96))

MAX_STEPS = 100  # of a while_loop here


@dataclass
class Case:
    """One run of a graph: arrays for its inputs and states by position, and what came out, or the error's type."""

    bindings: Mapping[str, int]
    training: bool
    inputs: Sequence[Array]
    states: Mapping[Any, Array]
    outputs: list[Array] | type[DlcError]


class Comparison:
    """The results of a graph on random inputs, under a few bindings of its named dims, to hold others against."""

    def __init__(self, graph: Graph, *, runs: int = 2, seed: int = 0, inputs: Sequence[Any] | None = None) -> None:
        rng = np.random.default_rng(seed)
        self.update_states = [state for state, _ in graph.updates]
        self.cases: list[Case] = []
        runs = runs if graph.symbols or graph.inputs or graph.ambients else 1
        for number in range(runs):
            training = bool(number % 2)
            states = {n.leaf: random_array(n.type, {}, rng, positive=True) for n in graph.states}
            if inputs is not None:
                arrays = [np.asarray(a, numpy_dtype(n.dtype)) for n, a in zip(graph.inputs, inputs, strict=True)]
                bindings = _bindings_of(graph, arrays)
            else:
                bindings = random_bindings(graph, rng)
                arrays = [random_array(n.type, bindings, rng) for n in graph.inputs]
            results = self._run(graph, bindings, training, arrays, states)
            if results is IndexOutOfRangeError and inputs is None:  # random indices point anywhere; zeros fit
                arrays = [np.zeros_like(a) if a.dtype.kind in "iu" else a for a in arrays]
                results = self._run(graph, bindings, training, arrays, states)
            self.cases.append(Case(bindings, training, arrays, states, results))

    def check(self, graph: Graph, *, rtol: float = 1e-4) -> None:
        """Raise `VerificationError`, naming output and place, where `graph` gives other results than the first."""
        for case in self.cases:
            got = self._run(graph, case.bindings, case.training, case.inputs, case.states)
            if isinstance(got, type) or isinstance(case.outputs, type):
                if got is not case.outputs:
                    raise VerificationError(f"it {_outcome(case.outputs)} before, and {_outcome(got)} now")
                continue
            names = [f"output {i}" for i in range(len(graph.outputs))]
            names += [f"the update of {s.leaf.name if s.leaf else '?'!r}" for s in self.update_states]
            for name, old, new in zip(names, case.outputs, got, strict=True):
                if difference := first_difference(old, new, rtol):
                    raise VerificationError(f"{name} changed{_under(case)}: {difference}")

    def _run(
        self,
        graph: Graph,
        bindings: Mapping[str, int],
        training: bool,
        inputs: Sequence[Array],
        states: Mapping[Any, Array],
    ) -> list[Array] | type[DlcError]:
        from dlc.ops.interpret import interpret

        bound = _bounded(bind_ambients(graph, training=training))
        values = {n: states[n.leaf] for n in bound.states}
        try:
            with np.errstate(all="ignore"):
                outputs, updates = interpret(bound, inputs, bindings, values)
        except DlcError as error:
            return type(error)
        new = {state: value for (state, _), value in zip(bound.updates, updates, strict=True)}
        # an update that is gone leaves its state as it was
        return [*outputs, *(new[s] if s in new else states[s.leaf] for s in self.update_states)]


def _bounded(graph: Graph) -> Graph:
    """`graph` with a limit to its loops: on random inputs one that ends on the user's may go on for ever."""

    def limited(node: Node, operands: tuple[Node, ...]) -> Node:
        attrs = {k: _bounded(v) if isinstance(v, Graph) else v for k, v in node.attrs.items()}
        if node.op is WHILE and attrs["max_steps"] is None:
            attrs["max_steps"] = MAX_STEPS
        return make_node(node.op, operands, attrs) if attrs != node.attrs else same_op(node, operands)

    held = any(isinstance(v, Graph) for n in graph.nodes for v in n.attrs.values())
    return graph.rebuild(limited) if held else graph


def first_difference(old: Array, new: Array, rtol: float) -> str:
    """Where and by how much two arrays differ beyond rounding; "" if they do not. NaN equals NaN, inf equals inf."""
    old, new = np.asarray(old), np.asarray(new)
    if old.shape != new.shape or old.dtype != new.dtype:
        return f"it was {old.dtype}{list(old.shape)} and is {new.dtype}{list(new.shape)}"
    if not is_floating(old.dtype):
        wrong = old != new
    else:
        with np.errstate(all="ignore"):
            finite = np.isfinite(old) & np.isfinite(new)
            scale = np.max(np.abs(old), where=finite, initial=0.0)
            close = np.abs(old - new) <= rtol * (np.abs(old) + 0.1 * scale)
        wrong = np.where(finite, ~close, ~((old == new) | (np.isnan(old) & np.isnan(new))))
    if not wrong.any():
        return ""
    place = tuple(int(i) for i in np.argwhere(wrong)[0])
    return f"{int(wrong.sum())} of {wrong.size} elements; at {list(place)} it was {old[place]} and is {new[place]}"


def random_inputs(
    graph: Graph, bindings: Mapping[str, int] | None = None, rng: np.random.Generator | None = None
) -> list[Array]:
    """Random arrays for the graph's inputs: normal floats, small integers >= 0, fair bools.

    `bindings` gives the named dims; those left out are drawn so that every shape of the graph makes sense.

    >>> import dlc
    >>> x = dlc.input("x", ("N", 3))
    >>> random_inputs(dlc.graph([x], [x * 2]), {"N": 4})[0].shape
    (4, 3)
    """
    rng = np.random.default_rng(0) if rng is None else rng
    bound = {**random_bindings(graph, rng, bindings or {}), **(bindings or {})}
    return [random_array(n.type, bound, rng) for n in graph.inputs]


def random_array(
    type: TensorType, bindings: Mapping[str, int], rng: np.random.Generator, *, positive: bool = False
) -> Array:
    """One random array of a type. `positive` floats lie in [0.5, 1.5), as suits state such as variances."""
    shape = tuple(evaluate(d, bindings) for d in type.shape)
    dtype = numpy_dtype(type.dtype)
    if dtype.kind == "b":
        return np.asarray(rng.random(shape) < 0.5)
    if dtype.kind in "iu":
        return np.asarray(rng.integers(0, 3, shape)).astype(dtype)
    values = rng.uniform(0.5, 1.5, shape) if positive else rng.standard_normal(shape)
    return np.asarray(values).astype(dtype)


def random_bindings(graph: Graph, rng: np.random.Generator, given: Mapping[str, int] | None = None) -> dict[str, int]:
    """Small values for the named dims such that no dim of the graph is negative (or divides by zero).

    Raises `VerificationError` when none are found.
    """
    needed = sorted(set(graph.symbols) - set(given or {}))
    for extents in _EXTENTS:
        for _ in range(4):
            bindings = {**(given or {}), **{s: int(rng.choice(extents)) for s in needed}}
            if all(_holds(d, bindings) for d in _symbolic_dims(graph)) and _slices_fit(graph, bindings):
                return bindings
    raise VerificationError(
        f"no values up to 96 for the named dims {needed} make every shape of the graph sensible; give some"
    )


def _holds(d: Dim, bindings: Mapping[str, int]) -> bool:
    try:
        return evaluate(d, bindings) > 0
    except DimError:
        return False


def _slices_fit(graph: Graph, bindings: Mapping[str, int]) -> bool:
    try:
        check_bound_shapes(graph, bindings)
    except (DimError, ShapeError):
        return False
    return True


def _symbolic_dims(graph: Graph) -> Iterator[Dim]:
    seen: set[Dim] = set()
    for node in graph.nodes:
        for t in node.type.items if isinstance(node.type, TupleType) else (node.type,):
            for d in t.shape:
                if isinstance(d, Dim) and d not in seen:
                    seen.add(d)
                    yield d


def _bindings_of(graph: Graph, arrays: Sequence[Array]) -> dict[str, int]:
    bindings: dict[str, int] = {}
    for node, array in zip(graph.inputs, arrays, strict=True):
        if array.ndim != node.type.ndim:
            raise ShapeError(f"the input {_label(node)!r} is {node.type}, got shape {array.shape}")
        for d, size in zip(node.type.shape, array.shape, strict=True):
            if isinstance(d, Dim) and d.symbols == {str(d)}:
                bindings.setdefault(str(d), size)
    for node, array in zip(graph.inputs, arrays, strict=True):
        if tuple(evaluate(d, bindings) for d in node.type.shape) != array.shape:
            raise ShapeError(f"the input {_label(node)!r} is {node.type}, got shape {array.shape} with {bindings}")
    return bindings


def _label(node: Node) -> str:
    return node.leaf.name if node.leaf is not None else node.op.name


def _outcome(result: list[Array] | type[DlcError]) -> str:
    return f"raised {result.__name__}" if isinstance(result, type) else "gave a result"


def _under(case: Case) -> str:
    known = [f"{s} = {v}" for s, v in sorted(case.bindings.items())]
    return f" (with {', '.join(known)})" if known else ""
