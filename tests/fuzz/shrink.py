"""Smaller graphs that still fail, as programs to run."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np

from dlc.errors import DlcError
from dlc.graph_json import graph_to_json
from dlc.ir import Graph, Node, TensorType, make_node
from dlc.ops.bounds import check_bound_shapes
from dlc.ops.interpret import interpret
from dlc.ops.leaves import INPUT, InputLeaf
from dlc.ops.scan import replaced
from dlc.passes.bind import bind_ambients

from .author import Case
from .checks import initial

Fails = Callable[[Case], bool]


def shrunk(case: Case, fails: Fails, *, seconds: float = 60.0) -> Case:
    """A case with as few outputs and nodes as still fail, or as few as were found in so many seconds."""
    until = time.monotonic() + seconds

    def holds(candidate: Case) -> bool:
        try:
            return time.monotonic() < until and fails(candidate)
        except Exception:  # not the failure that is looked for
            return False

    for run in case.runs():
        one = replace(case, only=[run])
        if holds(one):
            case = one
            break
    else:
        return case
    graph = bind_ambients(case.graph, training=case.training)
    if graph is not case.graph and holds(bound := replace(case, graph=graph)):
        case = bound
    case = _fewer_roots(case, holds)
    while (smaller := _cut(case, holds)) is not None:
        case = smaller
    return case


def _fewer_roots(case: Case, holds: Fails) -> Case:
    graph = case.graph
    for node in graph.outputs:
        if holds(one := replace(case, graph=_pruned(graph, (node,), ()))):
            return _without_inputs(one, holds)
    for update in graph.updates:
        if holds(one := replace(case, graph=_pruned(graph, (), (update,)))):
            return _without_inputs(one, holds)
    return case


def _pruned(graph: Graph, outputs: tuple[Node, ...], updates: Any) -> Graph:
    return Graph(graph.inputs, outputs, updates, graph.origins)


def _without_inputs(case: Case, holds: Fails) -> Case:
    """The case without the inputs that nothing reads."""
    graph, ((bindings, arrays),) = case.graph, case.only or []
    read = {x for n in graph.nodes for x in n.inputs} | set(graph.roots)
    kept = [i for i, n in enumerate(graph.inputs) if n in read]
    inputs = tuple(graph.inputs[i] for i in kept)
    new = Graph(inputs, graph.outputs, graph.updates, graph.origins)
    smaller = replace(case, graph=new, only=[({k: v for k, v in bindings.items() if k in new.symbols},
                                              [arrays[i] for i in kept])])  # fmt: skip
    return smaller if len(kept) < len(graph.inputs) and holds(smaller) else case


def _cut(case: Case, holds: Fails) -> Case | None:
    """The case with a node made an input of the value that it has, as late a node as will do."""
    graph, ((bindings, arrays),) = case.graph, case.only or []
    values: dict[Node, Any] = {}
    try:
        check_bound_shapes(graph, bindings)
        with np.errstate(all="ignore"):
            interpret(graph, arrays, bindings, initial(graph), observe=values.__setitem__)
    except DlcError:
        pass  # what was computed before may be cut
    taken = {n.leaf.name for n in graph.inputs if n.leaf is not None}
    for node in reversed(graph.nodes):
        simple = isinstance(node.type, TensorType) and node.leaf is None and node not in graph.roots and node.inputs
        if not simple or node not in values:
            continue
        name = next(name for i in count() if (name := f"cut{i}") not in taken)
        leaf = make_node(INPUT, (), {"leaf": InputLeaf(name, node.type)})
        now = replaced(graph.roots, {node: leaf})
        updates = tuple((state, now[value]) for state, value in graph.updates)
        new = Graph((*graph.inputs, leaf), tuple(now[n] for n in graph.outputs), updates)
        if len(new.nodes) >= len(graph.nodes):
            continue
        candidate = replace(case, graph=new, only=[(bindings, [*arrays, np.array(values[node])])])
        if holds(candidate):
            return _without_inputs(candidate, holds)
    return None


def as_program(case: Case, check: str) -> str:
    """A case as Python text that builds it and checks it again (`check`: on_reference or on_cpu)."""
    lines = [
        f"# seed {case.seed}",
        *(f"# {line}" for line in str(case.graph).splitlines()),
        "import numpy as np",
        "import dlc",
        "from tests.fuzz.author import Case",
        f"from tests.fuzz.checks import {check}",
        "",
        f"graph = dlc.graph_from_json({json.dumps(graph_to_json(case.graph, values=True, origins=False))})",
        "inputs = [",
        *(f"    {_array(a)}," for _, arrays in (case.only or case.runs()[:1]) for a in arrays),
        "]",
        f"case = Case({case.seed}, graph, 0, {case.training}, only=[({(case.only or case.runs())[0][0]!r}, inputs)])",
        f"print(*{check}(case).failures, sep='\\n')",
    ]  # fmt: skip
    return "\n".join(lines)


def _array(a: Any) -> str:
    text = re.sub(r"\b(nan|inf)\b", r"np.\1", repr(a.tolist()))
    return f"np.array({text}, {a.dtype.name!r}).reshape({a.shape})"
