"""The CPU backend from a graph to one native call: memory, state, loops, errors, threads."""

import os
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from test_fuse import GRAPHS, parameter

import dlc
from dlc.backends.cpu.executable import CpuExecutable
from dlc.backends.plan import CommitStep, CopyStep, KernelStep
from dlc.errors import IndexOutOfRangeError
from dlc.ir import Graph
from dlc.ops.interpret import interpret
from dlc.passes import fuse
from dlc.passes.memory import allocate


def load(graph: Graph) -> CpuExecutable:
    return CpuExecutable(fuse(graph), poison=True)


def check(graph: Graph, *arrays: Any, **bindings: int) -> CpuExecutable:
    """Run fused and native, and compare outputs and states with the interpreter's; twice, on what the first left."""
    program = load(graph)
    for _ in range(2):
        before = {n: n.leaf.value.copy() for n in graph.states}
        outputs, updates = interpret(graph, arrays, bindings, before)
        actual = program(arrays, bindings)
        for a, e in zip(actual, outputs, strict=True):
            np.testing.assert_allclose(a, e, rtol=2e-5, atol=2e-5)
        expected = {**before, **{s: new for (s, _), new in zip(graph.updates, updates, strict=True)}}
        for node, value in expected.items():
            np.testing.assert_allclose(node.leaf.value, value, rtol=2e-5, atol=2e-5)
    return program


X = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)


def test_outputs_are_fresh_arrays_and_inputs_may_have_any_strides() -> None:
    x = dlc.input("x", ("N", 4))
    program = load(dlc.graph([x], [dlc.exp(x), x, dlc.reshape(x, (4, "N"))]))
    wide = np.random.default_rng(1).standard_normal((10, 9)).astype(np.float32)
    strided = wide[::2, 1:9:2]
    for a in (np.ascontiguousarray(strided), strided, np.asfortranarray(strided), strided[::-1]):
        e, same, reshaped = program([a], {"N": 5})
        np.testing.assert_allclose(e, np.exp(a), rtol=1e-6)
        np.testing.assert_array_equal(same, a)
        np.testing.assert_array_equal(reshaped, a.reshape(4, 5))
        assert not np.shares_memory(same, a)
    again = program([a], {"N": 5})[0]
    assert not np.shares_memory(e, again)


def test_unaligned_inputs_are_copied() -> None:
    x = dlc.input("x", (3,))
    raw = np.zeros(13, np.uint8)
    unaligned = raw[1:].view(np.float32)
    unaligned[:] = [1, 2, 3]
    assert load(dlc.graph([x], [x * 2]))([unaligned], {})[0].tolist() == [2, 4, 6]


def test_one_program_serves_every_size_zero_included() -> None:
    x = dlc.input("x", ("N", 4))
    graph = dlc.graph([x], [dlc.exp(x) + dlc.sum(x, axis=0), dlc.sum(x * x)])
    program = load(graph)
    for n in (5, 0, 1, 300, 0, 5):
        a = np.random.default_rng(n).standard_normal((n, 4)).astype(np.float32)
        outputs, _ = interpret(graph, [a], {"N": n})
        for got, want in zip(program([a], {"N": n}), outputs, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_a_new_state_is_written_in_place_when_nobody_reads_the_old_one_later() -> None:
    x, w = dlc.input("x", (4,)), parameter("w", 4)
    program = check(dlc.graph([x], [dlc.sum(w * x)], updates=[(w, w - 0.1 * x)]), X[0])
    assert not any(isinstance(s, CopyStep) for s in program.plan.steps)


def test_updates_are_simultaneous_in_swaps_and_cycles() -> None:
    a, b, c = parameter("a", 3), parameter("bb", 3), parameter("ccc", 3)
    check(dlc.graph([], [a], updates=[(a, b), (b, a)]))
    check(dlc.graph([], [b + c], updates=[(a, b), (b, c), (c, a)]))
    check(dlc.graph([], [], updates=[(a, b * 2.0), (b, a + 1.0), (c, c)]))
    check(dlc.graph([], [a * 1.0], updates=[(a, b + c), (b, a + c), (c, a + b)]))
    check(dlc.graph([], [], updates=[(a, b), (c, b)]))
    flipped = dlc.flip(a)
    check(dlc.graph([], [flipped], updates=[(a, flipped), (b, flipped)]))


def test_an_output_may_be_a_state_or_a_new_state() -> None:
    x, w = dlc.input("x", (4,)), parameter("w", 4)
    new = w + x
    check(dlc.graph([x], [w, new, new, x], updates=[(w, new)]), X[0])


def test_versions_count_updates() -> None:
    w, u = parameter("w", 3), parameter("uu", 3)
    program = load(dlc.graph([], [u * 1.0], updates=[(w, w + u)]))
    w_state, u_state = w.node.leaf, u.node.leaf
    before = w_state.version, u_state.version
    program([], {})
    assert (w_state.version, u_state.version) == (before[0] + 1, before[1])


def test_constants_larger_than_one_element_lie_in_memory() -> None:
    x = dlc.input("x", ("N", 4))
    table = np.arange(8, dtype=np.float32).reshape(2, 4)
    check(dlc.graph([x], [x + dlc.constant(table[0]), dlc.constant(table), dlc.constant(3.0)]), X, N=5)


@settings(deadline=None, max_examples=12, derandomize=True, suppress_health_check=list(HealthCheck))
@given(GRAPHS)
def test_random_graphs_agree_with_the_interpreter(graph: Graph) -> None:
    x, y = np.random.default_rng(3).standard_normal((2, 3, 3)).astype(np.float32)
    with np.errstate(all="ignore"):
        check(graph, x, y)


@settings(deadline=None, max_examples=40, derandomize=True, suppress_health_check=list(HealthCheck))
@given(GRAPHS)
def test_the_plan_of_a_random_graph_never_puts_live_values_in_one_place(graph: Graph) -> None:
    plan = plan_only(fuse(graph))
    arena = plan.arena({})
    assert arena.peak >= arena.lower_bound
    owner: dict[int, Any] = {}
    written = set()
    for step in plan.steps:
        if not isinstance(step, KernelStep):
            continue
        for call in step.calls:  # which may run in any order, or at once
            for node, place in zip(call.node.inputs, call.places, strict=False):
                if place.buffer >= 0:
                    assert owner[arena.offsets[place.buffer]] == value_name(node)
                others = [c.places[len(c.node.inputs) :] for c in step.calls if c is not call]
                assert all(place not in places for places in others)
        for call in step.calls:
            for i, place in enumerate(call.places[len(call.node.inputs) :]):
                written.add(place)
                if place.buffer >= 0:
                    owner[arena.offsets[place.buffer]] = (call.node, i)


def value_name(node: Any) -> Any:
    from dlc.passes.schedule import value_of

    return tuple(value_of(node))


def plan_only(graph: Graph) -> Any:
    from dlc.backends.cpu.host import cpu_target
    from dlc.backends.emission import kernel_of
    from dlc.backends.plan import make_plan

    return make_plan(graph, lambda node: kernel_of(node, cpu_target()))


# ---------------------------------------------------------------- loops


def step(carry: Any, x: Any) -> Any:
    h = dlc.tanh(carry * 0.5 + x)
    return h, h * 2.0


@pytest.mark.parametrize("length", [0, 1, 2, 3, 8])
@pytest.mark.parametrize("reverse", [False, True])
def test_a_scan_carries_slices_and_stacks(length: int, reverse: bool) -> None:
    xs, h = dlc.input("xs", ("T", 3)), dlc.input("h", (3,))
    last, ys = dlc.scan(step, h, dlc.exp(xs), reverse=reverse)
    a = np.random.default_rng(length).standard_normal((length, 3)).astype(np.float32)
    check(dlc.graph([xs, h], [last, ys, ys * 1.5 + last]), a, X[0, :3], T=length)


def test_a_scan_may_swap_keep_and_copy_its_carries() -> None:
    xs, h, g = dlc.input("xs", ("T", 3)), dlc.input("h", (3,)), dlc.input("g", (3,))

    def body(carry: Any, x: Any) -> Any:
        a, b, c = carry
        return (b, a, c + x), (a, c, x, c + x)

    (a, b, c), ys = dlc.scan(body, (h, g, h * 2.0), xs)
    for length in (0, 1, 4, 5):
        series = np.arange(length * 3, dtype=np.float32).reshape(length, 3)
        check(dlc.graph([xs, h, g], [a, b, c, *ys]), series, X[0, :3], X[1, :3], T=length)


def test_a_scan_may_use_what_lies_outside_and_hold_a_scan() -> None:
    xs, w = dlc.input("xs", ("T", "S", 3)), dlc.input("w", (3,))
    scale, big = dlc.exp(w), dlc.constant(np.arange(3, dtype=np.float32))

    def inner(carry: Any, x: Any) -> Any:
        h = dlc.tanh(carry * scale + x * big)
        return h, h

    def outer(carry: Any, x: Any) -> Any:
        h, ys = dlc.scan(inner, carry * scale, x, reverse=True)
        return h + dlc.sum(ys, axis=0), dlc.sum(ys * scale)

    last, totals = dlc.scan(outer, w, xs)
    graph = dlc.graph([xs, w], [last, totals, dlc.sum(last * scale)])
    for t, s in ((3, 2), (2, 3), (1, 0), (0, 1), (4, 1)):
        a = np.random.default_rng(t).standard_normal((t, s, 3)).astype(np.float32)
        check(graph, a, X[0, :3], T=t, S=s)


def test_a_scan_whose_last_carry_becomes_state() -> None:
    xs, w = dlc.input("xs", ("T", 3)), parameter("w", 3)
    last, _ = dlc.scan(step, w, xs)
    check(dlc.graph([xs], [last], updates=[(w, last)]), X[:, :3], T=5)


def test_a_longer_scan_needs_no_longer_table_and_no_more_kernels() -> None:
    def program(length: int) -> CpuExecutable:
        xs, h = dlc.input("xs", (length, 3)), dlc.input("h", (3,))
        return load(dlc.graph([xs, h], [dlc.scan(step, h, xs)[0]]))

    short, long = program(20), program(2000)
    assert [k.source for k in short.kernels] == [k.source for k in long.kernels]
    assert len(short.table) == len(long.table)


def test_an_index_out_of_range_inside_a_scan_stops_it() -> None:
    i, w = dlc.input("i", ("T",), "int64"), parameter("w", 3)
    last, _ = dlc.scan(lambda c, k: (c + dlc.take(w, k, axis=0), ()), dlc.constant(0.0), i)
    program = load(dlc.graph([i], [last], updates=[(w, w * 2.0)]))
    before = w.node.leaf.value.copy()
    with pytest.raises(IndexOutOfRangeError, match=r"take: index 7 .* 3 elements"):
        program([np.array([0, 7, 1])], {"T": 3})
    np.testing.assert_array_equal(w.node.leaf.value, before)
    assert program([np.array([0, 2])], {"T": 2})[0] == np.float32(before[0] + before[2])


# ---------------------------------------------------------------- failures


def gather_graph() -> tuple[Graph, Any]:
    x, i = dlc.input("x", ("N", 4)), dlc.input("i", ("M",), "int32")
    w = parameter("w", 4)
    picked = dlc.take(x * 2.0, i, axis=0)
    loss = dlc.sum(picked * w)
    return dlc.graph([x, i], [loss], updates=[(w, w - dlc.sum(picked, axis=0))]), w.node.leaf


def test_an_index_out_of_range_is_reported_at_the_users_line_and_changes_nothing() -> None:
    graph, state = gather_graph()
    line = next(o.line for n, places in graph.origins.items() if n.op.name == "take" for o in places)
    program = load(graph)
    assert any(isinstance(s, CommitStep) for s in program.plan.steps)
    before, version = state.value.copy(), state.version
    for bad in (5, -1, 2**31 - 1):
        with pytest.raises(IndexOutOfRangeError, match=rf"take: index {bad} .* 5 elements") as caught:
            program([X, np.array([0, bad, 1], np.int32)], {"N": 5, "M": 3})
        assert caught.value.where is not None and caught.value.where.endswith(f"{__file__.rpartition('/')[2]}:{line}")
        np.testing.assert_array_equal(state.value, before)
        assert state.version == version
    program([X, np.array([0, 4, 1], np.int32)], {"N": 5, "M": 3})
    assert state.version == version + 1 and not np.array_equal(state.value, before)


# ---------------------------------------------------------------- threads and processes


def test_calls_are_re_entrant() -> None:
    x = dlc.input("x", ("N", 64))
    graph = dlc.graph([x], [dlc.sum(dlc.tanh(x) * x, axis=1)])
    program = load(graph)
    failures: list[Exception] = []

    def work(seed: int) -> None:
        try:
            for k in range(30):
                n = 10 + (seed + k) % 7
                a = np.random.default_rng(seed).standard_normal((n, 64)).astype(np.float32)
                np.testing.assert_allclose(program([a], {"N": n})[0], (np.tanh(a) * a).sum(1), rtol=1e-4, atol=1e-4)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures


def test_many_sizes_do_not_fill_the_memory() -> None:
    x = dlc.input("x", ("N",))
    program = load(dlc.graph([x], [dlc.exp(x)]))
    for n in range(200):
        program([np.zeros(n, np.float32)], {"N": n})
    assert len(program._bound) <= 64


def test_equal_layers_compile_one_kernel() -> None:
    def program(layers: int) -> CpuExecutable:
        h = x = dlc.input("x", ("N", 4))
        for i in range(layers):
            h = dlc.tanh(h * parameter(f"w{i}", 4)) * (1.0 + dlc.sum(h, axis=1, keepdims=True))
        return load(dlc.graph([x], [h]))

    few, many = program(6), program(60)
    assert {k.source for k in few.kernels} == {k.source for k in many.kernels}
    assert len(many.plan.kernels) >= 30  # a sum along rows joins the kernel that makes them


def test_a_second_process_compiles_nothing_and_does_not_import_numba(tmp_path: Any) -> None:
    text = (
        "import sys, numpy as np, dlc\n"
        "from dlc.passes import fuse\n"
        "from dlc.backends.cpu.backend import CpuBackend\n"
        "x = dlc.input('x', ('N', 3))\n"
        "run = CpuBackend().load(fuse(dlc.graph([x], [dlc.exp(x) + dlc.sum(x, axis=0)])))\n"
        "print(run([np.zeros((2, 3), np.float32)], {'N': 2})[0].sum(), 'numba' in sys.modules)\n"
    )
    environment = {**os.environ, "DLC_CACHE_DIR": str(tmp_path / "cache")}
    results = [
        subprocess.run([sys.executable, "-c", text], env=environment, capture_output=True, text=True) for _ in range(2)
    ]
    assert [r.stdout.split() for r in results] == [["6.0", "True"], ["6.0", "False"]], results[1].stderr


def test_the_arena_is_near_its_lower_bound_for_a_deep_net() -> None:
    h = x = dlc.input("x", ("N", 16))
    updates = []
    for i in range(20):
        w = parameter(f"w{i}", 16)
        h = dlc.tanh(h * w) * (1.0 + dlc.sum(h, axis=1, keepdims=True))
        updates.append(w)
    loss = dlc.mean(h * h)
    gradients = dlc.grad(loss, updates)
    graph = dlc.graph([x], [loss], updates=[(w, w - 0.1 * g) for w, g in zip(updates, gradients, strict=True)])
    plan = plan_only(fuse(graph))
    arena = plan.arena({"N": 1000})
    assert arena.lower_bound <= arena.peak <= 1.1 * arena.lower_bound
    without_reuse = allocate([1000 * 64] * len(plan.buffers), [0] * len(plan.buffers), [1] * len(plan.buffers))
    assert arena.peak < without_reuse.peak / 2


@pytest.mark.parametrize(
    "how", [lambda v: v, lambda v: v[:], lambda v: np.frombuffer(memoryview(v), v.dtype).reshape(v.shape)]
)
def test_the_storage_of_an_updated_state_may_be_an_input(how: Any) -> None:
    x, w = dlc.input("x", (2, 3)), dlc.parameter(np.arange(6, dtype=np.float32).reshape(2, 3), "w")
    program = dlc.compile(dlc.graph([x], [w * 2, x], updates=[(w, dlc.flip(x, 0) + w)]))
    before = w.value.copy()
    doubled, same = program(how(w.value))
    np.testing.assert_array_equal(doubled, before * 2)
    np.testing.assert_array_equal(same, before)
    np.testing.assert_array_equal(w.value, before[::-1] + before)
