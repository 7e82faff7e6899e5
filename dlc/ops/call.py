"""Functions of the user's as one node: those with a backward rule of their own, and those that are computed again.

A `call` node holds its body graph, as a scan does, and perhaps a second one for its backward rule. Its VJP is the rule,
or else the body's own gradient, of values that are made anew from the operands when the cotangent is there. The pass
`inline_calls` puts the body in the node's place before anything is compiled.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from functools import update_wrapper
from typing import Any

from dlc.dims import DimLike
from dlc.dtypes import FLOATING
from dlc.errors import DlcError, GradientError, GraphError, ShapeError
from dlc.ir import Graph, Node, TupleType, Type, topological
from dlc.ops.definition import Array, Emitter, Kind, Op, Sample, arrays, build, check_function, define, register
from dlc.ops.fill import zeros
from dlc.ops.interpret import BoundGraph
from dlc.ops.leaves import AmbientLeaf, item, placeholder
from dlc.ops.scan import replaced, stays_inside, subgraph
from dlc.ops.scan_gradient import cotangents_through
from dlc.ops.tensor import Tensor, collect_origins, handles_below, wrap
from dlc.provenance import here

# ---------------------------------------------------------------- after


def _after_element(k: Emitter, index: Sequence[str]) -> str:
    return k.load(0, index)


def _after_samples() -> Iterable[Sample]:
    yield Sample(arrays((2, 3), (4,)))


@define(
    kind=Kind.INDEX,
    infer=lambda x, first: x,
    reference=lambda x, first: x,
    vjp=lambda g, y, x, first: (g, None),
    element=_after_element,
    samples=_after_samples,
)
def after(x: Any, first: Any) -> Tensor:
    """x itself, but computed after `first`; what is made from it is never merged with what is made from x.

    >>> import dlc
    >>> dlc.evaluate(dlc.ops.after([1.0, 2.0], 0.0)).tolist()
    [1.0, 2.0]
    """
    return after.op(wrap(x), wrap(first))


# ---------------------------------------------------------------- the op


def _call_type(*types: Type, body: Graph, name: str, explicit: int, backward: Graph | None) -> TupleType:
    if types != tuple(n.type for n in body.inputs) or body.updates:
        raise GraphError(f"{name}: the body takes other operands than {', '.join(map(str, types)) or 'none'}")
    return TupleType(tuple(n.type for n in body.outputs))


def _call_reference(*operands: Array, body: BoundGraph, **_: Any) -> tuple[Array, ...]:
    return tuple(body(*operands))


def _call_cost(y: TupleType, *types: Type, body: Graph, **_: Any) -> tuple[DimLike, DimLike]:
    costs = [n.op.flops_and_bytes(n) for n in body.nodes]
    return sum((f for f, _ in costs), start=0), sum((b for _, b in costs), start=0)


def _call_vjp(
    g: Sequence[Tensor | None],
    y: Tensor,
    *operands: Tensor,
    body: Graph,
    name: str,
    explicit: int,
    backward: Graph | None,
) -> list[Tensor | None]:
    if backward is not None:
        return _by_rule(g, y, operands, body, backward)
    first = next(c for c in g if c is not None)
    held = [after(x, first) if i < explicit else x for i, x in enumerate(operands)]

    def results(*inner: Tensor) -> list[Tensor]:
        new = replaced(body.outputs, dict(zip(body.inputs, (t.node for t in inner), strict=True)))
        return [Tensor(new[n]) for n in body.outputs]

    return cotangents_through(results, held, g)


def _by_rule(
    g: Sequence[Tensor | None], y: Tensor, operands: Sequence[Tensor], body: Graph, backward: Graph
) -> list[Tensor | None]:
    """The user's rule, put in place: a cotangent per floating-point operand."""
    cotangents = [
        zeros(n.shape, n.dtype) if c is None else c
        for n, c in zip(body.outputs, g, strict=True)
        if n.dtype in FLOATING
    ]
    results = [item(y, i) for i in range(len(body.outputs))]
    values = dict(zip(backward.inputs, (t.node for t in (*operands, *results, *cotangents)), strict=True))
    new = replaced(backward.outputs, values)
    found = iter(Tensor(new[n]) for n in backward.outputs)
    return [next(found) if x.dtype in FLOATING else None for x in operands]


def _call_samples() -> Iterable[Sample]:
    x, w = arrays((2, 3), (3, 3), low=-1.0, high=1.0)

    def body(x: Any, w: Any) -> Any:
        from dlc.ops.functions import tanh

        return tanh(x @ w), x * 2.0

    yield Sample((body, x, w))


# ---------------------------------------------------------------- tracing


def flat_results(value: Any, name: str) -> list[Tensor]:
    """What the function `name` returned, as tensors. Raises `GraphError` where that is nothing, or nests."""
    values = list(value) if isinstance(value, (tuple, list)) else [value]
    if not values or any(v is None or isinstance(v, (tuple, list)) for v in values):
        raise GraphError(f"{name} returns a tensor or a flat tuple of tensors, not {value!r:.60}", where=here())
    return [wrap(v) for v in values]


def refuse_updates(outputs: Sequence[Tensor], inner: set[Node], name: str) -> None:
    """Raise `GraphError` where what is inside the body of `name` updates state."""
    for t in handles_below(outputs):
        if t.updates and t.node in inner:
            raise GraphError(
                f"{name} cannot update state, such as batch-norm statistics; return the value instead", where=t.origin
            )


def _captured(inputs: Sequence[Node], roots: Sequence[Node]) -> tuple[list[Node], set[Node]]:
    """What a body reads from outside, and what is inside: all that depends on its inputs or on random draws alone."""
    inside, outside = set(inputs), set[Node]()
    for node in topological(roots, stop=inside.__contains__):
        ambient = isinstance(node.leaf, AmbientLeaf)
        if node in inside or any(x in inside for x in node.inputs):
            inside.add(node)
        elif (not node.inputs and node.leaf is not None and not ambient) or any(x in outside for x in node.inputs):
            outside.add(node)
    found: dict[Node, None] = {}
    for node in topological(roots, stop=lambda n: n in outside):
        leaf = not node.inputs and node not in inside and not stays_inside(node)
        if node in outside or leaf:
            found[node] = None
    return list(found), inside


def formed(value: Any, tensors: Sequence[Tensor]) -> Any:
    """Tensors in the form of `value`: alone, or as a tuple."""
    return tuple(tensors) if isinstance(value, (tuple, list)) else tensors[0]


def function_name(function: Any) -> str:
    """What messages call a function of the user's."""
    return str(getattr(function, "__name__", type(function).__name__))


def checkpoint(function: Callable[..., Any], *operands: Any) -> Any:
    """``function(*operands)``, whose inner values are not kept for the backward pass but computed again there.

    `function` takes tensors and returns one or a flat tuple; it may be a module, and use parameters and other tensors
    from outside, which are kept. Its value and gradients are those of the plain call; memory falls by what is computed
    inside, time grows by one more forward pass of it. Chen et al. (2016), arXiv 1604.06174. Raises `GraphError` where
    the function updates state, as batch-norm statistics are, or returns something else.

    >>> import dlc
    >>> x = dlc.constant([0.0, 1.0])
    >>> y = dlc.checkpoint(lambda t: dlc.exp(t) * t, x)
    >>> dlc.evaluate(dlc.grad(y.sum(), x)).tolist() == dlc.evaluate(dlc.grad((dlc.exp(x) * x).sum(), x)).tolist()
    True
    """
    check_function(function, "checkpoint")
    name, given = function_name(function), [wrap(x) for x in operands]
    inner = [placeholder(f"operand{i}", t.node.type) for i, t in enumerate(given)]
    result = function(*inner)
    outputs = flat_results(result, name)
    inputs, roots = [t.node for t in inner], [t.node for t in outputs]
    captured, inside = _captured(inputs, roots)
    refuse_updates(outputs, inside, name)
    handles = {t.node: t for t in handles_below(outputs)}
    outer = [placeholder(f"capture{i}", n.type).node for i, n in enumerate(captured)]
    body = subgraph([*inputs, *outer], roots, dict(zip(captured, outer, strict=True)), collect_origins(outputs))
    how = {"body": body, "name": name, "explicit": len(given), "backward": None}
    node = build(CALL, [*given, *(handles.get(n, Tensor(n)) for n in captured)], how)
    return formed(result, [item(node, i) for i in range(len(outputs))])


CALL = register(
    Op(
        "call",
        Kind.OPAQUE,
        _call_type,
        reference=_call_reference,
        vjp=_call_vjp,
        cost=_call_cost,
        samples=_call_samples,
        doc=inspect.getdoc(checkpoint) or "",
        function=checkpoint,
    )
)


class custom_vjp:
    """A function of tensors with a backward rule of its own, as a decorator.

    ``rule(g, y, *operands)`` gets the cotangent and the value of the result (tuples where the function returns one) and
    the operands, and returns a cotangent of the operand's type, or None for zero, per operand; for one operand it may
    be the tensor alone. It is traced where the function is called, and is an ordinary part of the graph: gradients of
    gradients go through it. Neither function nor rule may use inputs or parameters that are not operands: they would
    get no gradient. Errors are `GradientError` and `ShapeError` and name the function.

    >>> import dlc
    >>> @dlc.custom_vjp
    ... def rounded(x):
    ...     return dlc.round(x)
    >>> @rounded.backward
    ... def straight_through(g, y, x):
    ...     return g
    >>> x = dlc.constant([0.4, 1.6])
    >>> [v.tolist() for v in dlc.evaluate(rounded(x), dlc.grad(rounded(x).sum(), x))]
    [[0.0, 2.0], [1.0, 1.0]]
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        check_function(function, "custom_vjp")
        update_wrapper(self, function)
        self.function = function
        self.rule: Callable[..., Any] | None = None

    def backward(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """State the backward rule; usable as a decorator."""
        check_function(rule, f"{function_name(self.function)}.backward")
        self.rule = rule
        return rule

    def __call__(self, *operands: Any) -> Any:
        name, given = function_name(self.function), [wrap(x) for x in operands]
        if self.rule is None:
            raise GradientError(f"{name} has no backward rule; give one with @{name}.backward", where=here())
        inner = [placeholder(f"operand{i}", t.node.type) for i, t in enumerate(given)]
        result = self.function(*inner)
        outputs = flat_results(result, name)
        body = self._closed(inner, outputs, f"{name}")
        ys = [placeholder(f"result{i}", t.node.type) for i, t in enumerate(outputs)]
        gs = [placeholder(f"cotangent{i}", t.node.type) for i, t in enumerate(outputs)]
        found = self.rule(formed(result, gs), formed(result, ys), *inner)
        floating = [g for g in gs if g.dtype in FLOATING]
        backward = self._closed([*inner, *ys, *floating], self._cotangents(found, inner, name), f"{name}.backward")
        how = {"body": body, "name": name, "explicit": len(given), "backward": backward}
        node = build(CALL, given, how)
        return formed(result, [item(node, i) for i in range(len(outputs))])

    def _cotangents(self, found: Any, operands: Sequence[Tensor], name: str) -> list[Tensor]:
        """The rule's results, one per floating-point operand. Raises `GradientError` and `ShapeError`."""
        given = list(found) if isinstance(found, (tuple, list)) else [found]
        if len(given) != len(operands):
            raise GradientError(
                f"the backward rule of {name} gave {len(given)} cotangents for {len(operands)} operands; "
                "give one each, None where there is none",
                where=here(),
            )
        cotangents = []
        for i, (c, x) in enumerate(zip(given, operands, strict=True)):
            if x.dtype not in FLOATING:
                continue
            try:
                t = zeros(x.shape, x.dtype) if c is None else wrap(c)
            except DlcError as error:
                raise GradientError(f"the backward rule of {name}: {error.message}", where=here()) from error
            if t.node.type != x.node.type:
                raise ShapeError(
                    f"the backward rule of {name} gave a cotangent of {t.node.type} for operand {i}, which is "
                    f"{x.node.type}; make them equal",
                    where=t.origin or here(),
                )
            cotangents.append(t)
        return cotangents

    def _closed(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], name: str) -> Graph:
        """The graph from inputs to outputs, which may read nothing else."""
        nodes, roots = [t.node for t in inputs], [t.node for t in outputs]
        given = set(nodes)
        for node in topological(roots):
            if node.leaf is not None and node not in given:
                raise GradientError(
                    f"{name} uses {node.leaf.name!r}, which is not one of its operands; pass it as an operand",
                    where=here(),
                )
        refuse_updates(outputs, set(topological(roots)), name)
        return Graph(tuple(nodes), tuple(roots), origins=collect_origins(outputs))
