"""The loop: one node that runs a body graph for each slice of its operands, carrying values from step to step.

A `scan` node's operands are the initial carries, the sliced tensors and the captures: what the body uses from outside.
Work in the body that depends on neither carry nor slice is done once, before the loop. The body's inputs are carries,
slices and captures in that order; its outputs the new carries and what is stacked. Its gradient is in scan_gradient.py.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from dlc.dims import DimLike, dim, evaluate
from dlc.dtypes import numpy_dtype
from dlc.errors import GraphError, ShapeError
from dlc.ir import Graph, Node, TensorType, TupleType, Type, same_op, topological
from dlc.ops.definition import Array, Kind, Op, Sample, arrays, build, check_function, register
from dlc.ops.interpret import BoundGraph
from dlc.ops.leaves import item, placeholder
from dlc.ops.tensor import Tensor, collect_origins, handles_below, wrap
from dlc.provenance import Origin, here

Tensors: TypeAlias = "Tensor | tuple[Tensor, ...]"


# ---------------------------------------------------------------- the op


def _scan_type(*types: Type, body: Graph, carries: int, slices: int, length: DimLike, reverse: bool) -> TupleType:
    inputs = tuple(n.type for n in body.inputs)
    outputs = tuple(n.type for n in body.outputs)
    if len(types) != len(inputs) or len(outputs) < carries or body.updates:
        raise GraphError(f"scan: the body takes {len(inputs)} values, of which {carries} carries, not {len(types)}")
    for i, (given, taken) in enumerate(zip(types, inputs, strict=True)):
        if i < carries and outputs[i] != taken:
            raise ShapeError(f"scan: the carry {i} is {taken} before a step and {outputs[i]} after it; make them equal")
        sliced = carries <= i < carries + slices
        if given != (TensorType(taken.dtype, (length, *taken.shape)) if sliced else taken):
            raise ShapeError(
                f"scan: the operand {i} is {given}, but the body's {'slice' if sliced else 'value'} is {taken}"
            )
    return TupleType((*outputs[:carries], *(TensorType(t.dtype, (length, *t.shape)) for t in outputs[carries:])))


def _scan_reference(
    *operands: Array, body: BoundGraph, carries: int, slices: int, length: int, reverse: bool
) -> tuple[Array, ...]:
    state, xs, captured = operands[:carries], operands[carries : carries + slices], operands[carries + slices :]
    types = [n.type for n in body.graph.outputs[carries:]]
    stacks = [np.empty((length, *(evaluate(d, body.bindings) for d in t.shape)), numpy_dtype(t.dtype)) for t in types]
    for step in reversed(range(length)) if reverse else range(length):
        outputs = body(*state, *(x[step] for x in xs), *captured)
        state = tuple(outputs[:carries])
        for stack, y in zip(stacks, outputs[carries:], strict=True):
            stack[step] = y
    return (*state, *stacks)


def _scan_cost(y: TupleType, *types: Type, body: Graph, length: DimLike, **_: Any) -> tuple[DimLike, DimLike]:
    costs = [n.op.flops_and_bytes(n) for n in body.nodes]
    return sum((f for f, _ in costs), start=0) * length, sum((b for _, b in costs), start=0) * length


def _scan_vjp(g: Sequence[Tensor | None], y: Tensor, *operands: Tensor, **how: Any) -> Sequence[Tensor | None]:
    from dlc.ops.scan_gradient import backward_scan

    return backward_scan(g, y, *operands, **how)


def _scan_samples() -> Iterable[Sample]:
    h, x, w = arrays((2, 3), (4, 2, 3), (3, 3), low=-1.0, high=1.0)

    def recurrent(carry: Any, x: Any) -> Any:
        from dlc.ops.functions import tanh

        h = tanh(carry @ wrap(w) + x)
        return h, h * 2.0

    def two(carry: Any, x: Any) -> Any:
        total, product = carry
        return (total + x, product * (x + total)), (total, product)

    yield Sample((recurrent, h, x))
    yield Sample((recurrent, h, x), {"reverse": True})
    yield Sample((two, arrays((3,), (3,)), arrays((5, 3))[0]))
    yield Sample((lambda carry, _: (carry * 0.5, ()), h), {"length": 3})


# ---------------------------------------------------------------- the public function


def scan(
    body: Callable[[Any, Any], tuple[Any, Any]],
    init: Any,
    xs: Any = (),
    length: int | str | DimLike | None = None,
    reverse: bool = False,
) -> tuple[Any, Any]:
    """Run ``body(carry, x) -> (carry, y)`` for each slice x of `xs` along axis 0; gives the last carry and stacked y.

    `init`, `xs`, and what the body returns, are each a tensor or a tuple of tensors; `xs` may be () where `length` says
    how many steps there are, and y may be (). The carry keeps its type. With `reverse` the last slice comes first; y
    stays in the order of x. The body is called once, to build a graph; it may use any tensor from outside. Random
    draws in it are the same in each step: for others, draw for all steps before the loop, and slice. Raises
    `ShapeError` where a carry changes its type or lengths differ, `GraphError` where the body returns something else.

    >>> import dlc
    >>> total, sums = dlc.scan(lambda carry, x: (carry + x, carry + x), 0.0, dlc.constant([1.0, 2.0, 3.0]))
    >>> [v.tolist() for v in dlc.evaluate(total, sums)]
    [6.0, [1.0, 3.0, 6.0]]
    """
    check_function(body, "scan")
    carry_in, slices_in = _tensors(init, "init"), _tensors(xs, "xs")
    steps = _common_length(slices_in, length)
    carry = [placeholder(f"carry{i}", t.type) for i, t in enumerate(carry_in)]
    sliced = [placeholder(f"slice{i}", TensorType(t.dtype, t.shape[1:])) for i, t in enumerate(slices_in)]
    result = body(_like(init, carry), _like(xs, sliced))
    if not isinstance(result, tuple) or len(result) != 2:
        raise GraphError(f"the body of a scan returns a pair (carry, y), not {type(result).__name__}", where=here())
    carry_out, ys = _tensors(result[0], "the new carry"), _tensors(result[1], "y")
    if len(carry_out) != len(carry):
        raise GraphError(f"the body of a scan takes {len(carry)} carries and returns {len(carry_out)}", where=here())
    for i, (a, b) in enumerate(zip(carry_in, carry_out, strict=True)):
        if a.type != b.type:
            raise ShapeError(
                f"scan: the carry {i} is {a.type} before a step and {b.type} after it; make them equal",
                where=b.origin or here(),
            )
    found = loop(carry, sliced, [*carry_out, *ys], carry_in, slices_in, steps, reverse)
    return _like(result[0], found[: len(carry)]), _like(result[1], found[len(carry) :])


SCAN = register(
    Op(
        "scan",
        Kind.LOOP,
        _scan_type,
        reference=_scan_reference,
        vjp=_scan_vjp,
        cost=_scan_cost,
        samples=_scan_samples,
        doc=inspect.getdoc(scan) or "",
        function=scan,
    )
)


def _tensors(value: Any, what: str) -> list[Tensor]:
    if value is None:
        return []
    values = value if isinstance(value, (tuple, list)) and not _is_numbers(value) else (value,)
    if any(isinstance(v, (tuple, list)) and not _is_numbers(v) for v in values):
        raise GraphError(f"scan: {what} is a tensor or a flat tuple of tensors; tuples do not nest", where=here())
    return [wrap(v) for v in values]


def _is_numbers(value: Any) -> bool:
    """Whether a list stands for one tensor."""
    return isinstance(value, list) and bool(value) and all(isinstance(v, (bool, int, float)) for v in value)


def _like(value: Any, tensors: Sequence[Tensor]) -> Any:
    """Tensors in the form of `value`: alone, or as a tuple."""
    alone = value is not None and (not isinstance(value, (tuple, list)) or _is_numbers(value))
    return tensors[0] if alone else tuple(tensors)


def _common_length(xs: Sequence[Tensor], length: int | str | DimLike | None) -> DimLike:
    lengths: list[DimLike] = [] if length is None else [dim(length)]
    for i, t in enumerate(xs):
        if t.ndim == 0:
            raise ShapeError(f"scan: the operand {i} of xs is {t.type}, which has no axis 0 to slice", where=here())
        lengths.append(t.shape[0])
    if not lengths:
        raise GraphError("scan: without xs, length= must say how many steps there are", where=here())
    for d in lengths[1:]:
        if d != lengths[0]:
            raise ShapeError(f"scan: the lengths {lengths[0]} and {d} differ; xs and length= must agree", where=here())
    return lengths[0]


# ---------------------------------------------------------------- from traced tensors to a node


def loop(
    carry: Sequence[Tensor],
    sliced: Sequence[Tensor],
    outputs: Sequence[Tensor],
    init: Sequence[Tensor],
    xs: Sequence[Tensor],
    length: DimLike,
    reverse: bool,
) -> list[Tensor]:
    """A scan whose body computes `outputs` (new carries, then what is stacked) from placeholders for carry and slices.

    All else that the outputs depend on becomes a capture, as far from the loop as it can: hoisted as a whole.
    """
    inputs = [t.node for t in (*carry, *sliced)]
    kept = [t.node for t in outputs[: len(carry)]]
    stacked = list(dict.fromkeys(t.node for t in outputs[len(carry) :]))  # equal results are stacked once
    roots = kept + stacked
    inner = depending_on(inputs, roots)
    captured = _captures(inner, roots)
    _check_updates(outputs, inner)
    handles = {t.node: t for t in handles_below(outputs)}
    outer = [placeholder(f"capture{i}", n.type).node for i, n in enumerate(captured)]
    body = subgraph([*inputs, *outer], roots, dict(zip(captured, outer, strict=True)), collect_origins(outputs))
    operands = [*init, *xs, *(handles.get(n, Tensor(n)) for n in captured)]
    how = {"body": body, "carries": len(carry), "slices": len(sliced), "length": length, "reverse": reverse}
    node = build(SCAN, operands, how)
    place = {n: len(carry) + i for i, n in enumerate(stacked)}
    return [item(node, i if i < len(carry) else place[t.node]) for i, t in enumerate(outputs)]


def depending_on(inputs: Sequence[Node], roots: Iterable[Node]) -> set[Node]:
    """`inputs`, and the nodes below `roots` that depend on one of them."""
    found = set(inputs)
    for node in topological(roots):
        if any(x in found for x in node.inputs):
            found.add(node)
    return found


def stays_inside(node: Node) -> bool:
    """Whether a node that does not depend on the loop is best made anew in each step: it costs no memory there."""
    while node.op.kind is Kind.VIEW:
        (node,) = node.inputs
    return node.op.name in ("iota", "size_of") or (node.op.name == "constant" and node.shape == ())


def _captures(inner: set[Node], roots: Sequence[Node]) -> list[Node]:
    """The outer nodes that the body reads, each once, in order."""
    found: dict[Node, None] = {}
    for node in topological(roots, stop=lambda n: n not in inner):
        if node not in inner and not stays_inside(node):
            found[node] = None
    return list(found)


def subgraph(
    inputs: Sequence[Node],
    roots: Sequence[Node],
    values: Mapping[Node, Node],
    origins: Mapping[Node, tuple[Origin, ...]],
) -> Graph:
    """The graph from `inputs` to `roots` where some nodes are replaced by others; origins follow."""
    new = replaced(roots, values)
    kept = {new[n]: places for n, places in origins.items() if n in new}
    return Graph(tuple(inputs), tuple(new[n] for n in roots), origins=kept)


def replaced(roots: Iterable[Node], values: Mapping[Node, Node]) -> dict[Node, Node]:
    """What each node below `roots` becomes when some are replaced by others."""
    new: dict[Node, Node] = {}
    for node in topological(roots, stop=values.__contains__):
        new[node] = values[node] if node in values else same_op(node, tuple(new[x] for x in node.inputs))
    return new


def _check_updates(outputs: Sequence[Tensor], inner: set[Node]) -> None:
    for t in handles_below(outputs):
        if t.updates and t.node in inner:
            raise GraphError(
                "the body of a scan cannot update state, such as batch-norm statistics; carry the value instead",
                where=t.origin,
            )
