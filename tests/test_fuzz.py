"""Random typed graphs with gradients: under every choice and order of passes, and as native code on poisoned memory.

``python -m tests.fuzz --show reference 17`` prints the graph of a seed and what fails; docs/fuzzing.md says the rest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fuzz import checks
from fuzz.author import MOST_NODES, write
from fuzz.campaign import Campaign, Progress, cpu_case, reference_case, report
from fuzz.checks import guarded, on_reference
from fuzz.poison import poison
from fuzz.shrink import as_program, shrunk

import dlc
from dlc import ops
from dlc.errors import ShapeError
from dlc.ir import Graph, make_node, same_op
from dlc.ops.definition import CATALOGUE, Kind
from dlc.ops.tensor import Tensor
from dlc.passes import PIPELINE

REFERENCE, CPU = 500, 100  # graphs
FIRST = 5_000_000  # seeds that no campaign begins with


def failures(kind: str, seed: int) -> str:
    """What is wrong with the graph of a seed, with a program that shows it; "" where nothing is."""
    case, check = {"reference": reference_case, "cpu": cpu_case}[kind](seed)
    found = guarded(check, case)
    if not found.failures:
        return ""
    small = shrunk(case, lambda c: bool(guarded(check, c).failures))
    return "\n".join([f"{kind} seed {seed}", *found.failures, as_program(small, f"on_{kind}")])


@pytest.mark.parametrize("first", range(0, REFERENCE, 50))
def test_passes_in_any_choice_and_order_keep_what_graphs_compute(first: int) -> None:
    assert not [text for seed in range(first, first + 50) if (text := failures("reference", FIRST + seed))]


@pytest.mark.parametrize("first", range(0, CPU, 10))
def test_native_code_on_poisoned_memory_gives_what_the_reference_gives(first: int) -> None:
    assert not [text for seed in range(first, first + 10) if (text := failures("cpu", FIRST + seed))]


# ---------------------------------------------------------------- what fuzzing found


@pytest.mark.parametrize(("kind", "seed"), [("reference", 1802), ("reference", 6297), ("reference", 8702)])
def test_what_failed_once(kind: str, seed: int) -> None:
    assert not failures(kind, seed)


def test_choices_and_loops_of_unknown_length_run_on_poison() -> None:
    """Cpu seed 5000084: the harness left the steps where it found them that such loops go on at."""
    x = dlc.input("x", (3,))
    (grown,) = [dlc.while_loop(lambda c: dlc.sum(c) < 100.0, lambda c: dlc.sort(c * 2.0), x, max_steps=9)]
    chosen = dlc.cond(dlc.sum(grown) > 150.0, lambda a: dlc.sort(a) + 1.0, lambda a: dlc.cumulative_sum(a), grown)
    graph = dlc.graph([x], [grown, chosen])
    for value in (np.float32([1, 2, 3]), np.float32([200, 1, 2]), np.float32([0.001, 0, 0])):
        expected = dlc.compile(graph, "reference")(value)
        program: Any = dlc.compile(graph)
        poison(program._executable)
        for found, wanted in zip(program(value), expected, strict=True):
            np.testing.assert_array_equal(found, wanted)


def test_space_between_the_elements_of_an_empty_axis_is_refused() -> None:
    """Reference seed 1802: the type had an axis of -1 elements."""
    with pytest.raises(ShapeError, match="axis 0 of"):
        ops.pad(dlc.input("x", (0, 3)), [(0, 0), (0, 0)], [1, 0])


def test_a_kernel_does_not_wait_for_its_own_result_under_another_name() -> None:
    """Reference seed 8702: `fuse` never ended, where a kernel stored `m` and read a reshape of it."""
    x = dlc.input("x", (2, 2, 5, 2))
    m = ops.max(x, axis=3)
    one = m.reshape(-1)[1]
    graph = dlc.graph([x], [dlc.tanh(ops.sin(one) * m + one)])
    value = np.random.default_rng(0).standard_normal((2, 2, 5, 2)).astype("float32")
    expected = dlc.compile(graph, "reference", pipeline=PIPELINE.without("fuse"))(value)
    for backend in ("reference", "cpu"):
        np.testing.assert_allclose(dlc.compile(graph, backend)(value)[0], expected[0], rtol=1e-6)


# ---------------------------------------------------------------- the generator and the checks themselves


def test_graphs_are_of_every_kind_and_the_same_for_a_seed() -> None:
    cases = [write(seed) for seed in range(FIRST, FIRST + 60)]
    counts = Counter(n.op.name for c in cases for n in c.graph.nodes)
    assert {n.op.kind for c in cases for n in c.graph.nodes} >= set(Kind) - {Kind.FUSED}
    assert len(counts) > 0.6 * len(CATALOGUE) and {"scan", "call", "state"} <= set(counts)
    assert max(c.forward for c in cases) <= MOST_NODES and max(c.forward for c in cases) > 25
    assert any(c.graph.updates for c in cases) and any(0 in a.shape for c in cases for _, xs in c.runs() for a in xs)
    assert write(FIRST).graph.same_structure(cases[0].graph)


def mutant(change: Callable[[Any, tuple[Any, ...]], Any]) -> Callable[[Graph], Graph]:
    """A pass that makes a mistake: `change` gives the wrong node, or None to leave one as it is."""
    return lambda graph: graph.rebuild(lambda node, xs: change(node, xs) or same_op(node, xs))


MISTAKES = {
    "rounding": lambda node, xs: (Tensor(make_node(node.op, xs)) * (1 + 3e-5)).node if node.op.name == "tanh" else None,
    "ties": lambda node, xs: make_node(CATALOGUE["less_equal"], xs) if node.op.name == "less" else None,
    "indices": lambda node, xs: make_node(node.op, xs[::-1]) if node.op.name == "subtract" else None,
}


@pytest.mark.parametrize("mistake", ["rounding", "ties", "indices"])
def test_a_wrong_pass_is_found_and_the_graph_shrunk(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(checks.PASSES, "dead_code", mutant(MISTAKES[mistake]))
    for seed in range(FIRST, FIRST + 200):
        case = write(seed)
        if on_reference(case).failures:
            break
    small = shrunk(case, lambda c: bool(on_reference(c).failures))
    assert on_reference(small).failures and len(small.graph.nodes) <= max(16, len(case.graph.nodes) // 2)
    text = as_program(small, "on_reference").replace("from tests.fuzz", "from fuzz")
    printed: list[Any] = []
    exec(text, {"print": lambda *a, **_: printed.extend(a)})
    assert printed, text


def test_a_buffer_that_dies_too_early_shows() -> None:
    x = dlc.input("x", ("N", 4))
    y = ops.cumulative_sum(x, 0)
    graph = dlc.graph([x], [ops.sort(y, 0) + ops.cumulative_prod(y, 1), ops.argsort(ops.sort(y, 1), 0)])
    value = np.random.default_rng(0).standard_normal((5, 4)).astype("float32")
    expected = dlc.compile(graph, "reference")(value)
    for shortened in (False, True):
        program: Any = dlc.compile(graph, pipeline=PIPELINE.without("fuse"), check=False)
        executable = program._executable
        if shortened:  # the first buffer is said to end where it is written
            first = executable.plan.buffers[0]
            others = executable.plan.buffers[1:]
            executable.plan = replace(executable.plan, buffers=(first._replace(end=first.start), *others))
        poison(executable)
        same = [np.allclose(a, b) for a, b in zip(program(value), expected, strict=True)]
        assert all(same) is not shortened


def test_inexact_values_have_bounds_and_exact_ones_none() -> None:
    x = dlc.input("x", (4,))
    value = np.float32([1.25, -0.5, 0.25, 2.0])
    graph = dlc.graph([x], [x * 0.5 + x, dlc.tanh(x) - dlc.tanh(x + 1e-6) * 0.999])
    base = checks.values(graph, [value], {}, {}, ())
    assert not isinstance(base, type)
    bounds = checks.Bounds(graph, [value], {}, {}, base, 0)
    assert bounds.difference(0, np.nextafter(base[0], np.float32(9)))  # not a bit may change
    assert not bounds.difference(1, base[1] + 4 * np.float32(2**-23))  # nearly equal numbers are subtracted
    assert bounds.difference(1, base[1] + np.float32(1e-4))


def test_what_never_ends_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def forever(graph: Graph) -> Graph:
        while True:
            pass

    monkeypatch.setattr(checks, "LONGEST", 0.2)
    monkeypatch.setitem(checks.PASSES, "dead_code", forever)
    assert "_TookTooLong" in guarded(on_reference, write(FIRST)).failures[0]


def test_campaigns_go_on_where_they_stopped(tmp_path: Any) -> None:
    Campaign("reference", FIRST, 2, tmp_path).run(float("inf"))
    again = Campaign("reference", FIRST, 4, tmp_path)
    assert again.progress.done == 2
    again.run(float("inf"))
    whole = Campaign("reference", FIRST, 4, tmp_path / "other")
    whole.run(float("inf"))
    assert replace(again.progress, seconds=0.0) == replace(whole.progress, seconds=0.0)
    assert isinstance(whole.progress, Progress) and "4 graphs of 4" in report([again])


def test_a_campaign_keeps_what_fails(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(checks.PASSES, "dead_code", mutant(MISTAKES["indices"]))
    said: list[str] = []
    campaign = Campaign("reference", FIRST, 50, tmp_path)
    while not campaign.progress.failures:
        campaign.one(FIRST + campaign.progress.done, said.append)
    assert campaign.progress.failures and said
    seed = next(iter(campaign.progress.failures))
    assert "graph_from_json" in (tmp_path / f"reference-{seed}.py").read_text()
    monkeypatch.undo()
    campaign.again(said.append)
    assert not campaign.progress.failures and "mended" in said[-1]

