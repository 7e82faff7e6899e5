"""Launches: kernels of equal code that are independent of each other run as one, and stay apart where they are not."""

import numpy as np
import pytest
from test_fuse import parameter

import dlc
from dlc import nn, optim
from dlc.backends.plan import KernelStep
from dlc.errors import IndexOutOfRangeError
from dlc.ir import Node, TupleType


def is_update(node: Node) -> bool:
    """Whether a kernel gives a parameter, m and v."""
    return isinstance(node.type, TupleType) and len(node.type.items) == 3 and len(set(node.type.items)) == 1


def test_the_updates_of_all_parameters_are_one_launch() -> None:
    x, y = dlc.input("x", ("N", 6)), dlc.input("y", ("N",), "int64")
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))
    loss = nn.functional.cross_entropy(model(x), y)
    step = dlc.train_step(model, inputs=[x, y], loss=loss, optimizer=optim.Adam(1e-2))
    launches = [s.calls for s in step.program.plan.steps if isinstance(s, KernelStep)]
    (updates,) = [calls for calls in launches if is_update(calls[0].node)]
    assert len(updates) == 6
    assert "one kernel, 6 times:" in step.program.explain()


def test_launches_keep_apart_what_writes_a_state_and_what_reads_it() -> None:
    a, b = (parameter(name, 3) for name in ("a", "b"))
    graph = dlc.graph([], [], updates=[(a, a + b * 2.0), (b, b + a * 2.0)])
    program = dlc.compile(graph)
    before = [s.leaf.value.copy() for s in program.graph.states]
    program()
    values = dict(zip([s.leaf.name for s in program.graph.states], before, strict=True))
    np.testing.assert_array_equal(a.node.leaf.value, values["a"] + values["b"] * 2.0)
    np.testing.assert_array_equal(b.node.leaf.value, values["b"] + values["a"] * 2.0)


def test_an_error_in_a_shared_launch_names_the_node_that_failed() -> None:
    x, first, second = dlc.input("x", (4,)), dlc.input("i", (2,), "int64"), dlc.input("j", (2,), "int64")
    u = dlc.take(x, first, axis=0)
    v = dlc.take(x, second, axis=0)
    graph = dlc.graph([x, first, second], [u, v])
    program = dlc.compile(graph)
    (step,) = [s for s in program.plan.steps if isinstance(s, KernelStep)]
    assert len(step.calls) == 2
    good, bad = np.array([0, 1]), np.array([0, 9])
    data = np.arange(4, dtype=np.float32)
    for node, indices in ((u, (bad, good)), (v, (good, bad))):
        with pytest.raises(IndexOutOfRangeError, match="index 9") as info:
            program(data, *indices)
        assert info.value.where == str(graph.where(node.node))
