"""Gradients: their values, their types, what they refuse, and where they say they come from."""

import numpy as np
import pytest

import dlc
from dlc.errors import GradientError, ShapeError
from dlc.ir import Graph
from dlc.ops.tensor import collect_origins
from dlc.passes.autodiff import autodiff, gradients


def run(outputs, inputs, values):
    graph = Graph(tuple(t.node for t in inputs), tuple(t.node for t in outputs))
    return dlc.compile(graph, backend="reference")(*values)


def test_product_rule():
    a, b, c = (dlc.input(n) for n in "abc")
    gs = gradients([3 * (a + b * c)], [a, b, c])
    assert [v.item() for v in run(gs, [a, b, c], (5.0, 3.0, 2.0))] == [3.0, 6.0, 9.0]


def test_broadcast_operand_gets_the_sum():
    x, w = dlc.input("x", ("N", 3)), dlc.input("w", (3,))
    gx, gw = gradients([(x * w).sum()], [x, w])
    assert (gx.type, gw.type) == (x.type, w.type)
    xv = np.arange(6, dtype=np.float32).reshape(2, 3)
    wv = np.array([1, 2, 3], np.float32)
    got_x, got_w = run([gx, gw], [x, w], (xv, wv))
    np.testing.assert_array_equal(got_x, np.broadcast_to(wv, (2, 3)))
    np.testing.assert_array_equal(got_w, xv.sum(0))


def test_third_derivative():
    x = dlc.input("x")
    y = dlc.exp(2 * x)
    for _ in range(3):
        (y,) = gradients([y], [x])
    np.testing.assert_allclose(run([y], [x], (0.5,))[0], 8 * np.exp(1.0), rtol=1e-6)


def test_intermediate_input_and_what_lies_below_it():
    x = dlc.input("x")
    h = x * x
    gh, gx = gradients([h * 3.0], [h, x])
    assert [v.item() for v in run([gh, gx], [x], (2.0,))] == [3.0, 12.0]


def test_several_outputs_add_up():
    x = dlc.input("x", (2,))
    (g,) = gradients([x * 2.0, x.sum()], [x], [[1.0, 10.0], None])
    assert run([g], [x], ([0.0, 0.0],))[0].tolist() == [3.0, 21.0]


def test_unconnected_input_gets_zeros_of_its_type():
    x, y, z = dlc.input("x"), dlc.input("y", ("N", 2), "float64"), dlc.input("z", (2,))
    gy, gz = gradients([x * dlc.floor(dlc.stop_gradient(z)).sum()], [y, z])
    assert gy.type == y.type
    got = run([gy, gz], [x, y, z], (1.0, np.ones((3, 2)), [1.0, 2.0]))
    assert not got[0].any() and got[0].shape == (3, 2) and not got[1].any()


def test_gradient_stops_at_integers():
    x = dlc.input("x", (3,))
    rounded = x.astype("int32").astype("float32")
    (g,) = gradients([(x * rounded).sum()], [x])
    assert run([g], [x], ([1.5, 2.5, 3.5],))[0].tolist() == [1.0, 2.0, 3.0]


def test_masked_branch_gives_no_nan():
    x = dlc.input("x", (3,))
    (g,) = gradients([dlc.where(x > 0, dlc.log(x) + dlc.sqrt(x), 0.0).sum()], [x])
    np.testing.assert_allclose(run([g], [x], ([-1.0, 0.0, 4.0],))[0], [0.0, 0.0, 0.5])


@pytest.mark.parametrize(
    "wrong, message",
    [
        (lambda x, i: gradients([x], [x]), "needs a scalar: sum it first"),
        (lambda x, i: gradients([x.sum()], [i]), "input .* is not floating-point"),
        (lambda x, i: gradients([i.sum()], [x]), "output .* is not floating-point"),
        (lambda x, i: gradients([x.sum()], [x], [None, None]), "2 cotangents were given for 1 outputs"),
        (lambda x, i: gradients([x.sum()], [x], ["one"]), "a cotangent must be a tensor"),
    ],
)
def test_refusals_name_the_fix_and_the_line(wrong, message):
    with pytest.raises(GradientError, match=message) as caught:
        wrong(dlc.input("x", (3,)), dlc.input("i", (3,), "int32"))
    assert __file__ in caught.value.where


def test_cotangent_of_another_type():
    x = dlc.input("x", (3,))
    with pytest.raises(ShapeError, match=r"cotangent of its type, got f32\[2\]"):
        gradients([x * 2.0], [x], [np.zeros(2, np.float32)])


def test_op_without_vjp_matters_only_where_a_cotangent_flows():
    from dlc.ops.definition import Kind, Op, build

    opaque = Op("opaque_for_test", Kind.OPAQUE, infer=lambda x: x)
    x = dlc.input("x", (3,))
    y = build(opaque, [x])
    (g,) = gradients([(x * dlc.stop_gradient(y)).sum()], [x])
    assert g.type == x.type
    z = dlc.input("z", (3,))
    assert gradients([(y * z).sum()], [z])[0].node is not None
    with pytest.raises(GradientError, match="opaque_for_test has no gradient") as caught:
        gradients([(y * z).sum()], [x])
    assert __file__ in caught.value.where


def test_tuple_node_gets_one_cotangent_per_item():
    from dlc.ir import TupleType
    from dlc.ops.definition import Kind, Op, build
    from dlc.ops.leaves import item

    seen = []

    def vjp(g, y, x):
        seen.append(g)
        return (g[0] * 5.0,)

    pair = Op("pair_for_test", Kind.OPAQUE, infer=lambda x: TupleType((x, x)), vjp=vjp)
    x = dlc.input("x", (2,))
    first = item(build(pair, [x]), 0)
    (g,) = gradients([(first * 2.0 + first).sum()], [x])
    assert len(seen) == 1 and seen[0][1] is None
    assert run([g], [x], ([1.0, 1.0],))[0].tolist() == [15.0, 15.0]


def test_backward_nodes_carry_the_forward_line():
    x = dlc.input("x", (3,))
    with dlc.provenance.module_scope("block"):
        y = dlc.tanh(x)
    gs = gradients([y.sum()], [x])
    backward = [(n, o) for n, places in collect_origins(gs).items() for o in places if o.phase == "backward"]
    tanh_line = y.origin.line
    assert any(n.op.name == "subtract" and o.line == tanh_line and o.module == "block" for n, o in backward)
    assert all(o.file == __file__ for _, o in backward)


def test_pass_form_adds_gradients_as_outputs():
    x, w = dlc.input("x", ("N", 3)), dlc.input("w", (3,))
    graph = Graph((x.node, w.node), ((x * w).sum().node,))
    both, only_w = autodiff(graph), autodiff(graph, wrt=["w"])
    assert [o.type for o in both.outputs[1:]] == [x.type, w.type]
    assert [o.type for o in only_w.outputs[1:]] == [w.type]
    with pytest.raises(GradientError, match="no input or state 'v'; it has x, w"):
        autodiff(graph, wrt=["v"])


def test_a_power_that_is_nan_has_no_derivative_by_the_exponent():
    a, b = dlc.input("a", (3,), "float64"), dlc.input("b", (3,), "float64")
    y = a**b
    program = dlc.compile(dlc.graph([a, b], [dlc.grad(y.sum(), b)]), "reference")
    np.testing.assert_array_equal(program([-2.0, -2.0, 0.0], [0.5, 2.0, 3.0])[0], [np.nan, 0.0, 0.0])


def test_a_chain_far_deeper_than_the_stack():
    x = dlc.input("x")
    y = x
    for _ in range(30_000):
        y = -y
    (g,) = gradients([y], [x])
    assert g.type == x.type
