"""How far rounding may move the values of a graph: it runs several times, each operation disturbed by a few units in
the last place at its operands and its result (Monte Carlo arithmetic; Parker, 1997). What such runs spread over is
what two correct ways of computing the same may differ by; where a graph is ill-conditioned the spread is large.

Values that no rounding led to are not disturbed, so a result that depends on them alone must agree in every bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dlc.dtypes import is_floating
from dlc.ir import Graph, Node
from dlc.ops.definition import Kind
from dlc.ops.interpret import BoundGraph, bind_attributes

Array = np.ndarray[Any, Any]

_EPS = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23, "float64": 2.0**-52}
_TINY = {"float16": 2.0**-14, "bfloat16": 2.0**-126, "float32": 2.0**-126, "float64": 2.0**-1022}  # normal numbers
UNITS = 2.0  # in the last place, by which results of elementwise ops are off; the CPU's functions promise less
SAFETY = 8.0  # times the spread that was seen in a few runs
MOVING = frozenset(("where", "relu", "negative", "abs", "maximum", "minimum", "max", "min", "sign", "put", "item",
                    "masked_multiply", "floor", "ceil", "trunc", "round", "stop_gradient"))  # fmt: skip


def is_coarse(a: Array) -> bool:
    """Whether all elements are small multiples of 1/256, on which sums and products do not round."""
    with np.errstate(all="ignore"):
        scaled = a.astype("float64") * 256
        return bool((np.isfinite(scaled) & (scaled == np.rint(scaled)) & (np.abs(scaled) < 2**20)).all())


@dataclass
class Disturbed:
    """Runs a graph once, disturbed by draws of `rng`."""

    rng: np.random.Generator

    def run(
        self, graph: Graph, inputs: Sequence[Any], bindings: Mapping[str, int], states: Mapping[Node, Array],
        exact: Sequence[bool] | None = None,
    ) -> tuple[list[Array], list[bool]]:  # fmt: skip
        """The values of outputs and updates, and which of them no rounding led to."""
        given = dict(zip(graph.inputs, inputs, strict=True))
        known = dict(zip(graph.inputs, exact or [True] * len(inputs), strict=True))
        given |= states
        values: dict[Node, Any] = {}
        for node in graph.nodes:
            if node in given:
                values[node] = np.asarray(given[node])
                known.setdefault(node, True)
                continue
            values[node], known[node] = self._computed(node, values, known, bindings)
        roots = [*graph.outputs, *(v for _, v in graph.updates)]
        return [values[n] for n in roots], [known[n] for n in roots]

    def _computed(
        self, node: Node, values: Mapping[Node, Any], known: Mapping[Node, bool], bindings: Mapping[str, int]
    ) -> tuple[Any, bool]:
        operands = [values[x] for x in node.inputs]
        exact = all(known[x] for x in node.inputs)
        attrs = bind_attributes(node.attrs, bindings)
        bodies = {k: self._body(v, exact) for k, v in attrs.items() if isinstance(v, BoundGraph)}
        result = node.op.reference(*operands, **{**attrs, **bodies})
        if bodies:  # disturbed within
            return _arrays(result), exact and all(v.exact for v in bodies.values())
        result = _arrays(result)
        items = result if isinstance(result, tuple) else (result,)
        moving = node.op.kind in (Kind.VIEW, Kind.INDEX, Kind.ITEM, Kind.LEAF) and node.op.name != "fold"
        if moving or node.op.name in MOVING or all(not is_floating(x.dtype) for x in items):
            return result, exact
        if exact and all(map(is_coarse, items)) and all(is_coarse(x) for x in operands if is_floating(x.dtype)):
            return result, True
        units = UNITS
        if node.op.kind is not Kind.ELEMENTWISE:  # sums, whose terms may cancel
            units += np.log2(1 + max([np.size(x) for x in operands if not isinstance(x, tuple)], default=1))
            result = _arrays(node.op.reference(*[self._moved(x, 1.0) for x in operands], **attrs))
        return self._moved(result, units), False

    def _moved(self, a: Any, units: float) -> Any:
        if isinstance(a, tuple):
            return tuple(self._moved(x, units) for x in a)
        if not is_floating(a.dtype):
            return a
        with np.errstate(all="ignore"):
            factor = 1 + units * _EPS[a.dtype.name] * self.rng.uniform(-1, 1, a.shape)
            return np.asarray(a * factor).astype(a.dtype)

    def _body(self, body: BoundGraph, exact: bool) -> _Body:
        return _Body(self, body, exact)


def _arrays(result: Any) -> Any:
    return tuple(map(np.asarray, result)) if isinstance(result, tuple) else np.asarray(result)


class _Body:
    """A body graph that is disturbed at each of its calls."""

    def __init__(self, runner: Disturbed, body: BoundGraph, exact: bool) -> None:
        self.runner, self.body, self.exact = runner, body, exact
        self.graph, self.bindings = body.graph, body.bindings

    def __call__(self, *arrays: Any) -> list[Array]:
        values, known = self.runner.run(self.body.graph, arrays, self.body.bindings, {}, [self.exact] * len(arrays))
        self.exact = self.exact and all(known)
        return values


class Bounds:
    """Which values other ways of computing a graph may give, on given inputs."""

    def __init__(
        self, graph: Graph, inputs: Sequence[Any], bindings: Mapping[str, int], states: Mapping[Node, Array],
        base: Sequence[Array], seed: int,
    ) -> None:  # fmt: skip
        self.arguments = (graph, inputs, bindings, states)
        self.base = list(base)
        self.seed = seed
        self.runs: list[list[Array]] = []
        self.known: list[bool] = []

    def _more(self, count: int) -> None:
        with np.errstate(all="ignore"):
            for _ in range(count - len(self.runs)):
                runner = Disturbed(np.random.default_rng((self.seed, len(self.runs))))
                values, self.known = runner.run(*self.arguments)
                self.runs.append(values)

    def difference(self, place: int, got: Array) -> str:
        """Where the output numbered `place` is out of bounds; "" where it is not. Looks closer before it says so."""
        for count in (4, 24):
            self._more(count)
            text = self._difference(place, np.asarray(got))
            if not text:
                return ""
        return text

    def _difference(self, place: int, got: Array) -> str:
        base = np.asarray(self.base[place])
        others = np.stack([run[place] for run in self.runs])
        with np.errstate(all="ignore"):
            if not is_floating(base.dtype):
                settled = (others == base).all(0)
                wrong = settled & (base != got)
                bound: Any = np.zeros(base.shape)
            else:
                same = (base == got) | (np.isnan(base) & np.isnan(got))
                wide, eps = base.astype("float64"), _EPS[base.dtype.name]
                spread = np.abs(others.astype("float64") - wide).max(0)
                bound = SAFETY * (spread + (0 if self.known[place] else eps) * np.abs(wide)) + _TINY[base.dtype.name]
                settled = np.isfinite(spread) | (~np.isfinite(base) & ((others == base) | np.isnan(others)).all(0)
                                                 & (np.isnan(base) == np.isnan(others).all(0)))  # fmt: skip
                wrong = ~same & settled & ~(np.abs(wide - got) <= bound)
        if not wrong.any():
            return ""
        at = tuple(int(i) for i in np.argwhere(wrong)[0])
        return (f"{int(wrong.sum())} of {wrong.size} elements; at {list(at)} {base[at]!r} against {got[at]!r}, "
                f"where rounding may move it by {float(np.asarray(bound)[at]):.3g}")  # fmt: skip

    def loose(self) -> tuple[int, int]:
        """How many elements of all outputs are bounded by more than a hundredth of the output's scale, and of all."""
        self._more(4)
        loose = total = 0
        for place, base in enumerate(self.base):
            base = np.asarray(base)
            others = np.stack([run[place] for run in self.runs])
            total += base.size
            with np.errstate(all="ignore"):
                if not is_floating(base.dtype):
                    loose += int((others != base).any(0).sum())
                    continue
                spread = np.abs(others.astype("float64") - base).max(0)
                finite = np.abs(base[np.isfinite(base)])
                scale = np.maximum(np.abs(base), float(finite.mean()) if finite.size else 0.0)
                loose += int((np.isfinite(base) & ~(SAFETY * spread <= 0.01 * scale + 1e-300)).sum())
        return loose, total
