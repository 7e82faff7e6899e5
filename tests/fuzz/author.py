"""Writes random graphs: step by step, each picking tensors from a pool and adding what is computed from them.

A tensor of the pool is `exact` where no rounding led to it: ops that jump (comparisons, floor, argmax, sorts,
conversions) read only such tensors, so that a difference is a mistake and not a last bit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

import dlc
from dlc import ops
from dlc.dims import evaluate
from dlc.dtypes import FLOATING, INTEGER
from dlc.errors import DlcError
from dlc.ir import Graph, Node, TensorType
from dlc.ops.tensor import Tensor, state_node
from dlc.state import State

Array = np.ndarray[Any, Any]

MOST_NODES = 40  # of a graph before its gradients
BINDINGS = ({"N": 3, "M": 4, "H": 5}, {"N": 1, "M": 2, "H": 6}, {"N": 0, "M": 3, "H": 4}, {"N": 17, "M": 0, "H": 7})
SIZED = {f"D{n}": n for n in range(2, 10)}  # named dims that always have the size in their name


class Entry(NamedTuple):
    """A tensor of the pool; `exact`: computed without rounding."""

    tensor: Tensor
    exact: bool


@dataclass
class Case:
    """A graph with what it runs on. `fixed` holds the values of inputs that are not drawn, by name."""

    seed: int
    graph: Graph
    forward: int  # nodes before gradients
    training: bool = False
    fixed: Mapping[str, Array] = field(default_factory=dict)
    rejected: Counter[str] = field(default_factory=Counter)  # steps that the ops refused, by step and error
    only: list[tuple[dict[str, int], list[Array]]] | None = None  # what to run on, instead of what `runs` draws

    def runs(self) -> list[tuple[dict[str, int], list[Array]]]:
        """Bindings of the named dims, each with arrays for the inputs: quarters, small integers, bools."""
        if self.only is not None:
            return self.only
        rng = np.random.default_rng(self.seed)
        found = []
        symbols = set(self.graph.symbols)
        choices = BINDINGS if symbols & set(BINDINGS[0]) else BINDINGS[:1]
        for chosen in choices:
            bindings = {k: v for k, v in {**chosen, **SIZED}.items() if k in symbols}
            inputs = []
            for n in self.graph.inputs:
                shape = tuple(evaluate(d, bindings) for d in n.type.shape)
                if min(shape, default=0) < 0:  # an input whose size follows from a named dim
                    break
                inputs.append(self.fixed.get(n.leaf.name, drawn(n.dtype, shape, rng)))
            else:
                found.append((bindings, inputs))
        return found


def drawn(dtype: str, shape: Sequence[int], rng: np.random.Generator) -> Array:
    """Quarters between -2 and 2, small integers, bools: sums and products of a few are exact in float32."""
    quarters = dtype in FLOATING
    low = 0 if dtype == "bool" or dtype.startswith("u") else -8 if quarters else -4
    values = rng.integers(low, 2 if dtype == "bool" else 9 if quarters else 5, shape)
    return np.asarray(values / 4 if quarters else values).astype(dtype)


class Author:
    """What a step may use: a random generator, the pool, and inputs and states that it may add."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.rng = np.random.default_rng(seed)
        self.pool: list[Entry] = []
        self.inputs: list[Tensor] = []
        self.fixed: dict[str, Array] = {}
        self.states: list[tuple[State, Tensor]] = []
        self.rejected: Counter[str] = Counter()
        self.training = bool(self.below(2))
        self.input("float32", ("N", "M"))
        self.input(self.one_of(("float32", "float32", "float64")), ("H", 3))
        self.input(self.one_of(("float64", "int32", "uint8", "bool", "int64")), (self.one_of(("N", 2)), 3))

    # ------------------------------------------------------------ choosing

    def one_of(self, choices: Any) -> Any:
        return choices[int(self.rng.integers(len(choices)))]

    def below(self, n: int) -> int:
        return int(self.rng.integers(n))

    def chance(self, p: float) -> bool:
        return bool(self.rng.random() < p)

    def pick(self, fits: Callable[[Entry], bool]) -> Entry:
        """A tensor that fits, late ones more often. Raises `LookupError` where there is none."""
        found = [e for e in self.pool if fits(e)]
        if not found:
            raise LookupError("no tensor fits")
        return found[-1 - min(int(self.rng.geometric(0.3)) - 1, len(found) - 1)]

    def floating(self, least: int = 0, *, exact: bool = False) -> Entry:
        return self.pick(lambda e: e.tensor.dtype in FLOATING and e.tensor.ndim >= least and e.exact >= exact)

    def integer(self) -> Entry:
        return self.pick(lambda e: e.tensor.dtype in INTEGER and e.exact)

    def axis(self, t: Tensor) -> int:
        return self.below(t.ndim) - self.one_of((0, t.ndim))

    # ------------------------------------------------------------ leaves

    def input(self, dtype: str, shape: tuple[Any, ...], value: Array | None = None) -> Tensor:
        t = dlc.input(f"x{len(self.inputs)}", shape, dtype)
        self.inputs.append(t)
        if value is None:
            self.pool.append(Entry(t, True))
        else:
            self.fixed[f"x{len(self.inputs) - 1}"] = value
        return t

    def state(self, dtype: str, shape: tuple[int, ...]) -> Tensor:
        """A new state, that is updated at the end from what was computed since."""
        value = drawn(dtype, shape, self.rng)
        state = State(f"s{len(self.states)}", TensorType(dtype, shape), lambda: value.copy())
        t = Tensor(state_node(state))
        self.states.append((state, t))
        return t

    def shaped(self, shape: tuple[int, ...], dtype: str = "float32", *, exact: bool = False) -> Entry:
        """A floating-point tensor of the pool brought to a shape, or a new input."""
        if self.chance(0.3):
            return Entry(self.input(dtype, shape), True)
        t, known = self.pick(lambda e: e.tensor.dtype == dtype and e.exact >= exact)
        return Entry(brought_to(t, shape), known)

    # ------------------------------------------------------------ writing

    def write(self, size: int) -> Case:
        """A graph of about `size` nodes and its gradients. Outputs are tensors that nothing reads."""
        from .steps import STEPS

        began = len(self.pool)
        seen: set[Node] = {e.tensor.node for e in self.pool}
        attempts = 0
        while len(seen) < size and attempts < 40 * MOST_NODES:
            attempts += 1
            step = self.one_of(STEPS)
            kept = len(self.inputs), len(self.pool), len(self.states)
            try:
                made = step(self)
            except (DlcError, LookupError) as error:  # what was picked does not fit the op
                self.rejected[f"{step.__name__}: {type(error).__name__}"] += 1
                made = []
            made = made if isinstance(made, list) else [made]
            new = nodes_below([e.tensor for e in made], seen)
            fits = made and all(e.tensor.ndim <= 5 for e in made) and len(seen) + len(new) <= max(size, 14)
            if not fits:
                self._forget(*kept)
                continue
            seen |= new
            self.pool += made
        return self._finished(self.pool[began:], len(seen))

    def _forget(self, inputs: int, pool: int, states: int) -> None:
        for t in self.inputs[inputs:]:
            self.fixed.pop(t.node.leaf.name, None)
        del self.inputs[inputs:], self.pool[pool:], self.states[states:]

    def _finished(self, made: Sequence[Entry], forward: int) -> Case:
        read = {x for n in nodes_below([e.tensor for e in made], set()) for x in n.inputs}
        leaves = {t.node for t in self.inputs} | {t.node for _, t in self.states}
        sinks = [e for e in made if e.tensor.node not in read and e.tensor.node not in leaves][-8:]
        outputs = [e.tensor for e in sinks] or [self.pool[0].tensor]
        updates = {}
        for _, t in self.states:
            with_same = [e.tensor for e in self.pool if e.tensor.dtype == t.dtype and e.tensor.node is not t.node]
            source = self.one_of(with_same) if with_same else t
            updates[t] = t * 0.5 + dlc.tanh(brought_to(source, t.shape))
        sums = [ops.sum(t * 1.5).astype("float64") for t in outputs if t.dtype in FLOATING]
        wrt = [t for t in self.inputs if t.dtype in FLOATING and t.node.leaf.name not in self.fixed][:4]
        gradients = list(dlc.grad(sum(sums[1:], sums[0]), wrt)) if sums and wrt else []
        if gradients and forward <= 16 and self.chance(0.2):  # gradients of gradients
            slopes = [ops.sum(dlc.tanh(g)).astype("float64") for g in gradients]
            gradients += dlc.grad(sum(slopes[1:], slopes[0]), wrt[:1])
        graph = dlc.graph(self.inputs, [*outputs, *gradients], updates or None)
        return Case(self.seed, graph, forward, self.training, self.fixed, self.rejected)


def nodes_below(tensors: Sequence[Tensor], known: set[Node]) -> set[Node]:
    """All nodes that some tensors are computed from, but for those that are known."""
    found: set[Node] = set()
    stack = [t.node for t in tensors]
    while stack:
        node = stack.pop()
        if node not in found and node not in known:
            found.add(node)
            stack += node.inputs
    return found


def brought_to(t: Tensor, shape: Sequence[Any]) -> Tensor:
    """The first elements of `t` in a shape of known size, with zeros where `t` has fewer."""
    if tuple(t.shape) == tuple(shape):
        return t
    size = int(np.prod(shape, dtype=np.int64))
    flat = t.reshape(-1)
    if not isinstance(flat.shape[0], int) or flat.shape[0] < size:
        flat = ops.pad(flat, [(0, size)])
    return flat[:size].reshape(tuple(shape))


def write(seed: int, most: int = MOST_NODES) -> Case:
    """The graph of a seed, of at most `most` nodes before its gradients."""
    author = Author(seed)
    return author.write(min(4 + int(author.rng.geometric(0.08)), most))
