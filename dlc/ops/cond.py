"""The choice: one node with two body graphs, of which one runs.

A `cond` node's operands are the condition, what the branches are given, and what either reads from outside; both bodies
take all of them but the condition, in that order. Its gradient is another choice, between the gradients of the bodies.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from dlc.dims import DimLike
from dlc.dtypes import FLOATING
from dlc.errors import GraphError, ShapeError
from dlc.ir import Graph, Node, TensorType, TupleType, Type, new_nodes, topological
from dlc.ops.call import flat_results, formed, function_name, refuse_updates
from dlc.ops.definition import Array, Kind, Op, Sample, arrays, build, check_function, located, register
from dlc.ops.elementwise import convert
from dlc.ops.interpret import BoundGraph
from dlc.ops.leaves import item, placeholder, scalar
from dlc.ops.scan import stays_inside, subgraph
from dlc.ops.scan_gradient import gradients_of
from dlc.ops.tensor import Tensor, collect_origins, handles_below, wrap
from dlc.provenance import here

# ---------------------------------------------------------------- the op


def _cond_type(condition: Type, *types: Type, then: Graph, otherwise: Graph) -> TupleType:
    if condition != TensorType("bool"):
        raise ShapeError(f"cond: the condition is {condition}; it must be one bool")
    for name, body in (("then", then), ("otherwise", otherwise)):
        if types != tuple(n.type for n in body.inputs) or body.updates:
            raise GraphError(f"cond: the body {name} takes other operands than {', '.join(map(str, types)) or 'none'}")
    found, other = (tuple(n.type for n in body.outputs) for body in (then, otherwise))
    if found != other:
        raise ShapeError(f"cond: the branches give ({_listed(found)}) and ({_listed(other)}); make them equal")
    return TupleType(found)


def _listed(types: Sequence[Type]) -> str:
    return ", ".join(map(str, types))


def _cond_reference(condition: Array, *operands: Array, then: BoundGraph, otherwise: BoundGraph) -> tuple[Array, ...]:
    return tuple((then if condition else otherwise)(*operands))


def _cond_cost(y: TupleType, *types: Type, then: Graph, otherwise: Graph) -> tuple[DimLike, DimLike]:
    """At most what both branches cost; which one runs is not known."""
    costs = [n.op.flops_and_bytes(n) for body in (then, otherwise) for n in body.nodes]
    return sum((f for f, _ in costs), start=0), sum((b for _, b in costs), start=0)


def _cond_vjp(
    g: Sequence[Tensor | None], y: Tensor, *operands: Tensor, then: Graph, otherwise: Graph
) -> list[Tensor | None]:
    """The choice between the gradients of the branches, whose inner values are made anew there: one branch runs, so
    what is infinite in the other one does not matter."""
    given = [i for i, c in enumerate(g) if c is not None]
    floating = [i for i, n in enumerate(then.inputs) if n.dtype in FLOATING]
    bodies = [_gradient_body(body, given, floating) for body in (then, otherwise)]
    cotangents = [c for c in g if c is not None]
    node = build(COND, [*operands, *cotangents], dict(zip(("then", "otherwise"), bodies, strict=True)))
    result: list[Tensor | None] = [None] * len(operands)
    for k, i in enumerate(floating):
        result[i + 1] = item(node, k)
    return result


def _gradient_body(body: Graph, given: Sequence[int], floating: Sequence[int]) -> Graph:
    """From the operands of a body and the cotangents of some of its results to those of some operands."""
    outputs = [Tensor(body.outputs[i], body.where(body.outputs[i])) for i in given]
    taken = len(body.inputs)  # so that names stay different in gradients of gradients
    seeds = [placeholder(f"cotangent{taken + i}", t.node.type) for i, t in enumerate(outputs)]
    found = gradients_of(outputs, [Tensor(body.inputs[i]) for i in floating], seeds)
    origins = {**body.origins, **collect_origins(found)}
    return Graph((*body.inputs, *(t.node for t in seeds)), tuple(t.node for t in found), origins=origins)


def _cond_samples() -> Iterable[Sample]:
    x, y = arrays((2, 3), (2, 3), low=0.5, high=2.0)

    def product(x: Any, y: Any) -> Any:
        return x * y, x + y

    def quotient(x: Any, y: Any) -> Any:
        return x / y, y

    for chosen in (True, False):
        yield Sample((np.array(chosen), product, quotient, x, y))


# ---------------------------------------------------------------- the public function


@located
def cond(pred: Any, then_fn: Callable[..., Any], else_fn: Callable[..., Any], *operands: Any) -> Any:
    """``then_fn(*operands)`` where `pred` is true, else ``else_fn(*operands)``: at run time, and only one of them runs.

    `pred` is one bool, or a number, which is true where it is not 0. Each function is called once, to build a graph; it
    takes tensors and returns one or a flat tuple, of the same types as the other; a Python number that it returns takes
    the dtype of the other's result. What a function computes itself, from operands or from tensors outside, runs in its
    branch alone, and so does its part of the gradient. To choose element by element use `where`.

    Raises `ShapeError` where pred has axes or the branches give different types, `GraphError` where they give a
    different number of tensors or update state, as batch-norm statistics are.

    >>> import dlc
    >>> x = dlc.constant(-4.0)
    >>> y = dlc.cond(x > 0, dlc.sqrt, lambda t: -t, x)
    >>> [v.item() for v in dlc.evaluate(y, dlc.grad(y, x))]
    [4.0, -1.0]
    """
    for function in (then_fn, else_fn):
        check_function(function, "cond")
    given = [wrap(x) for x in operands]
    condition = one_bool(pred, "cond: the condition")
    inner = [placeholder(f"operand{i}", t.node.type) for i, t in enumerate(given)]
    names = [function_name(then_fn), function_name(else_fn)]
    with new_nodes() as made:
        returned = [then_fn(*inner), else_fn(*inner)]
        _same_form(returned, names)
        sides = [flat_results(v, n) for v, n in zip(_with_equal_dtypes(returned), names, strict=True)]
    for i, (a, b) in enumerate(zip(*sides, strict=True)):
        if a.node.type != b.node.type:
            raise ShapeError(
                f"cond: result {i} is {a.type} of {names[0]} and {b.type} of {names[1]}; make them equal",
                where=b.origin or here(),
            )
    inputs = [t.node for t in inner]
    inside = _inside(inputs, made, [t.node for side in sides for t in side])
    captured: dict[Node, None] = {}
    for side, name in zip(sides, names, strict=True):
        refuse_updates(side, inside, name)
        captured |= outside_of(inside, [t.node for t in side])
    handles = {t.node: t for side in sides for t in handles_below(side)}
    bodies = [body_of(inputs, captured, side) for side in sides]
    node = build(
        COND,
        [condition, *given, *(handles.get(n, Tensor(n)) for n in captured)],
        dict(zip(("then", "otherwise"), bodies, strict=True)),
    )
    return formed(returned[0], [item(node, i) for i in range(len(sides[0]))])


COND = register(
    Op(
        "cond",
        Kind.LOOP,
        _cond_type,
        reference=_cond_reference,
        vjp=_cond_vjp,
        cost=_cond_cost,
        samples=_cond_samples,
        doc=inspect.getdoc(cond) or "",
        function=cond,
    )
)


def one_bool(value: Any, what: str) -> Tensor:
    """A condition as one bool. Raises `ShapeError` where it has axes."""
    t = wrap(value)
    if t.shape != ():
        raise ShapeError(
            f"{what} is {t.type}; it must have no axes: reduce it with dlc.all or dlc.any, or choose element by "
            "element with dlc.where",
            where=t.origin or here(),
        )
    return convert(t, "bool")


def _same_form(returned: Sequence[Any], names: Sequence[str]) -> None:
    counts = [len(v) if isinstance(v, (tuple, list)) else None for v in returned]
    if counts[0] != counts[1]:
        said = ["one tensor" if n is None else f"a tuple of {n}" for n in counts]
        raise GraphError(
            f"cond: {names[0]} returns {said[0]} and {names[1]} {said[1]}; make them return the same", where=here()
        )


def _with_equal_dtypes(returned: Sequence[Any]) -> list[Any]:
    """What both functions returned, where Python's numbers have the dtype of what stands in their place."""

    def pair(a: Any, b: Any) -> tuple[Any, Any]:
        weak = [isinstance(v, (bool, int, float)) for v in (a, b)]
        if weak == [True, False] and (isinstance(a, float) <= (wrap(b).dtype in FLOATING)):
            return scalar(a, wrap(b).dtype), b
        if weak == [False, True] and (isinstance(b, float) <= (wrap(a).dtype in FLOATING)):
            return a, scalar(b, wrap(a).dtype)
        return a, b

    if not isinstance(returned[0], (tuple, list)):
        return list(pair(*returned))
    pairs = [pair(a, b) for a, b in zip(*returned, strict=True)]
    return [tuple(a for a, _ in pairs), tuple(b for _, b in pairs)]


# ---------------------------------------------------------------- bodies


def _inside(inputs: Sequence[Node], made: set[Node], roots: Sequence[Node]) -> set[Node]:
    """What the functions compute: all that they made, but for leaves, and what depends on their operands."""
    inside = set(inputs)
    for node in topological(roots):
        new = node in made and node.op.kind is not Kind.LEAF
        if new or any(x in inside for x in node.inputs):
            inside.add(node)
    return inside


def outside_of(inside: set[Node], roots: Iterable[Node]) -> dict[Node, None]:
    """The nodes outside that `roots` are made from, each once, in order."""
    found: dict[Node, None] = {}
    for node in topological(roots, stop=lambda n: n not in inside):
        if node not in inside and not stays_inside(node):
            found[node] = None
    return found


def body_of(inputs: Sequence[Node], captured: Iterable[Node], outputs: Sequence[Tensor]) -> Graph:
    """The graph from `inputs` and what is captured, which is given as more inputs, to `outputs`."""
    values: Mapping[Node, Node] = {n: placeholder(f"capture{i}", n.type).node for i, n in enumerate(captured)}
    return subgraph([*inputs, *values.values()], [t.node for t in outputs], values, collect_origins(outputs))
