"""Running passes: one after the other, recorded, and checked on request so that a miscompile names its pass."""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from dlc.errors import AttributeValueError, DlcError, VerificationError
from dlc.ir import Graph
from dlc.passes.compare import Comparison
from dlc.passes.pipeline import PIPELINE, Pass, Pipeline
from dlc.passes.rewrite import counting_hits
from dlc.passes.verify import verify
from dlc.printer import graph_diff
from dlc.provenance import here


@dataclass(frozen=True, eq=False)
class Record:
    """What one pass did: its name, how long it took, the graph before and after, and how often each rule hit."""

    name: str
    seconds: float
    before: Graph = field(repr=False)
    after: Graph = field(repr=False)
    rules: Counter[str]

    @property
    def nodes_before(self) -> int:
        """Nodes of the graph that the pass got."""
        return len(self.before.nodes)

    @property
    def nodes_after(self) -> int:
        """Nodes of the graph that the pass gave."""
        return len(self.after.nodes)

    @property
    def diff(self) -> str:
        """The change as a unified diff of the graphs' texts."""
        return graph_diff(self.before, self.after)

    def __str__(self) -> str:
        hits = "".join(f", {rule} x{count}" for rule, count in self.rules.most_common())
        return (
            f"{self.name:<18} {self.seconds * 1e3:8.2f} ms  {self.nodes_before:>6} -> {self.nodes_after:<6} nodes{hits}"
        )

    __repr__ = __str__


def run_pipeline(
    pipeline: Pipeline | None, graph: Graph, *, check: bool | None = None
) -> tuple[Graph, tuple[Record, ...]]:
    """Run the passes of `pipeline` (None: `dlc.passes.PIPELINE`) over `graph`; the result, and a record per pass.

    With `check` (None: whether the environment sets DLC_CHECK=1) the graph is verified before the first pass and after
    each, and the reference interpreter runs it on small random inputs before and after; a difference raises
    `VerificationError` naming the pass, with a diff of the graphs.

    >>> import dlc
    >>> x = dlc.input("x", ("N",))
    >>> graph, records = run_pipeline(None, dlc.graph([x], [-(-x) * 1]), check=True)
    >>> print(graph)
    graph (x: f32[N]) {
      return x
    }
    >>> [(r.name, sorted(r.rules)) for r in records if r.rules]
    [('simplify', ['double_negation', 'times_one'])]
    """
    checking = os.environ.get("DLC_CHECK", "") not in ("", "0") if check is None else check
    if not isinstance(pipeline, Pipeline | None):
        raise AttributeValueError(
            f"a pipeline is made by dlc.passes.Pipeline.of(*passes), or changed from dlc.passes.PIPELINE; "
            f"this is {pipeline!r:.60}",
            where=here(),
        )
    comparison = Comparison(verify(graph)) if checking else None
    records = []
    for name, pass_ in PIPELINE if pipeline is None else pipeline:
        started = time.perf_counter()
        with counting_hits() as hits:
            after = returned_graph(name, pass_(graph))
        record = Record(name, time.perf_counter() - started, graph, after, hits)
        if comparison is not None:
            check_step(name, graph, after, comparison)
        records.append(record)
        graph = after
    return graph, tuple(records)


def returned_graph(name: str, after: Any) -> Graph:
    """What the pass `name` returned. Raises `VerificationError` unless it is a graph."""
    if not isinstance(after, Graph):
        raise VerificationError(
            f"the pass {name} returned {type(after).__name__}, not a Graph; "
            "return the graph itself where nothing changes"
        )
    return after


def check_step(name: str, before: Graph, after: Graph, comparison: Comparison, *, rtol: float = 1e-4) -> None:
    """Raise `VerificationError` naming the pass `name` if `after` is not a sound rewriting of `before`."""
    if returned_graph(name, after) is before:
        return
    try:
        _check_signature(before, after)
        verify(after)
        comparison.check(after, rtol=rtol)
    except DlcError as error:
        diff = graph_diff(before, after)
        raise VerificationError(
            f"the pass {name} broke the graph: {error.message}\n{_shortened(diff)}", where=error.where
        ) from error


def _check_signature(before: Graph, after: Graph) -> None:
    for what in ("inputs", "outputs"):
        old, new = [n.type for n in getattr(before, what)], [n.type for n in getattr(after, what)]
        if old != new:
            raise VerificationError(f"its {what} were {old} and are {new}")
    if not {s for s, _ in after.updates} <= {s for s, _ in before.updates}:
        raise VerificationError("it updates states that the graph did not update")


def _shortened(text: str, lines: int = 60) -> str:
    listed = text.splitlines()
    return text if len(listed) <= lines else "\n".join([*listed[:lines], f"... {len(listed) - lines} more lines"])


__all__ = ["Pass", "Record", "check_step", "run_pipeline"]
