"""`verify` finds what a faulty pass breaks, and names the node and its line."""

import numpy as np
import pytest

import dlc
from dlc import ops, passes
from dlc.dims import dim
from dlc.errors import VerificationError
from dlc.ir import Graph, Literal, Node, TensorType, TupleType, Wildcard, make_node
from dlc.ops.definition import Kind, Op


def forged(op, inputs, attrs, type_):
    """A node made past the type rule and the interning, as only a broken pass could."""
    node = object.__new__(Node)
    for name, value in (("op", op), ("inputs", inputs), ("attrs", attrs), ("type", type_)):
        object.__setattr__(node, name, value)
    return node


def fails(graph, message):
    with pytest.raises(VerificationError, match=message) as caught:
        passes.verify(graph)
    return caught.value


def test_a_sound_graph_is_returned():
    x = dlc.input("x", ("N", 3))
    graph = dlc.graph([x], [dlc.exp(x).sum(axis=0)])
    assert passes.verify(graph) is graph


@pytest.mark.parametrize(
    "type_", [TensorType("float64", (3,)), TensorType("float32", (4,)), TensorType("float32", (3, 1))]
)
def test_a_wrong_type_names_node_and_line(type_):
    x = dlc.input("x", (3,))
    node = forged(ops.exp.op, (x.node,), {}, type_)
    origin = dlc.exp(x).origin
    error = fails(
        Graph((x.node,), (node,), (), {node: (origin,)}), r"exp is stored as .*, but its op's rule gives f32\[3\]"
    )
    assert error.where == str(origin)


def test_operands_that_the_op_refuses():
    x, i = dlc.input("x", (3,)), dlc.input("i", (3,), "int32")
    node = forged(ops.add.op, (x.node, i.node), {}, x.type)
    fails(Graph((x.node, i.node), (node,)), "add: its op refuses it: add takes operands of one dtype")


@pytest.mark.parametrize(
    "attrs, message",
    [
        ({}, "refuses it"),
        ({"axes": (1, 0), "shape": (2,)}, "refuses it"),
        ({"axes": [1, 0]}, "not an attribute value"),
        ({"axes": (0, 0)}, "refuses it"),
        ({"axes": Wildcard()}, "wildcard"),
    ],
)
def test_attributes(attrs, message):
    x = dlc.input("x", (2, 2))
    fails(Graph((x.node,), (forged(ops.permute_dims.op, (x.node,), attrs, x.type),)), message)


def test_a_named_dim_that_no_input_has():
    x = dlc.input("x", ("N",))
    stray = dlc.broadcast_to(x.sum(), ("M", 3))
    fails(dlc.graph([x], [stray]), r"broadcast_to f32\[M,3\] uses the named dim M, which no input has")
    attribute = ops.slice_.op(x, starts=(dim("K"),), sizes=(2,), steps=(1,))
    fails(dlc.graph([x], [attribute]), "uses the named dim K")


def test_tuples():
    pair = Op("pair_for_verify", Kind.OPAQUE, infer=lambda x: TupleType((x, x)))
    x = dlc.input("x", (3,))
    both = make_node(pair, (x.node,))
    good = make_node(ops.leaves.ITEM, (both,), {"index": 1})
    assert passes.verify(Graph((x.node,), (good,)))
    for index in (2, -1):
        stray = forged(ops.leaves.ITEM, (both,), {"index": index}, x.type)
        fails(Graph((x.node,), (stray,)), f"item {index} of .* does not exist")
    fails(Graph((x.node,), (forged(ops.leaves.ITEM, (x.node,), {"index": 0}, x.type),)), "is one alone")
    keeper = Op("keeper_for_verify", Kind.OPAQUE, infer=lambda t: x.type)
    fails(Graph((x.node,), (make_node(keeper, (both,)),)), "takes a whole tuple")
    nested = Op("nested_for_verify", Kind.OPAQUE, infer=lambda x: TupleType((TupleType((x,)),)))
    reader = Op("reader_for_verify", Kind.ITEM, infer=lambda t: x.type)
    fails(Graph((x.node,), (make_node(reader, (make_node(nested, (x.node,)),)),)), "nests")


def test_bodies_are_verified_too():
    y = dlc.input("y", (3,))
    broken = Graph((y.node,), (forged(ops.exp.op, (y.node,), {}, TensorType("float64", (3,))),))
    holder = Op("holder_for_verify", Kind.OPAQUE, infer=lambda x, *, body: x)
    x = dlc.input("x", (3,))
    fails(
        Graph((x.node,), (make_node(holder, (x.node,), {"body": broken}),)),
        "exp is stored .* in the body of <holder_for_verify",
    )
    z = dlc.input("z", ("M",))
    other = Graph((z.node,), (dlc.exp(z).node,))
    fails(Graph((x.node,), (make_node(holder, (x.node,), {"body": other}),)), "named dim M")


def test_a_leaf_of_another_type():
    x = dlc.input("x", (3,))
    liar = forged(x.node.op, (), x.node.attrs, TensorType("float32", (4,)))
    fails(Graph((liar,), (liar,)), "but its leaf is f32")


def test_a_constant_of_another_type():
    node = forged(ops.leaves.CONSTANT, (), {"value": Literal(np.zeros(3, np.float32))}, TensorType("float32", (4,)))
    fails(Graph((), (node,)), r"rule gives f32\[3\]")
