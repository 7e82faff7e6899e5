"""The loop of unknown length: a condition and a body, which runs as long as the condition holds.

A `while_loop` node's operands are the initial carries, and what condition or body read from outside; both graphs take
all of them, in that order. What depends on no carry is computed once, before the loop.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from dlc.dims import Dim, DimLike, dim
from dlc.errors import AttributeValueError, GradientError, GraphError, ShapeError
from dlc.ir import Graph, TensorType, TupleType, Type
from dlc.ops.call import flat_results, formed, function_name, refuse_updates
from dlc.ops.cond import body_of, cond, one_bool, outside_of
from dlc.ops.definition import Array, Kind, Op, Sample, arrays, build, check_function, located, register
from dlc.ops.interpret import BoundGraph
from dlc.ops.leaves import item, placeholder
from dlc.ops.scan import depending_on, replaced, scan
from dlc.ops.scan_gradient import cotangents_through
from dlc.ops.tensor import Tensor, handles_below, wrap
from dlc.provenance import here

# ---------------------------------------------------------------- the op


def _while_type(*types: Type, condition: Graph, body: Graph, carries: int, max_steps: DimLike | None) -> TupleType:
    if not isinstance(max_steps, (int, Dim, type(None))):
        raise AttributeValueError(f"while_loop: max_steps={max_steps!r:.60} is no number of steps")
    for name, graph in (("condition", condition), ("body", body)):
        if types != tuple(n.type for n in graph.inputs) or graph.updates:
            raise GraphError(f"while_loop: the {name} takes other operands than {', '.join(map(str, types)) or 'none'}")
    if tuple(n.type for n in condition.outputs) != (TensorType("bool"),):
        raise ShapeError("while_loop: the condition must give one bool")
    found = tuple(n.type for n in body.outputs)
    if len(found) != carries or found != types[:carries]:
        raise ShapeError(
            f"while_loop: the carries are ({', '.join(map(str, types[:carries]))}) before a step and "
            f"({', '.join(map(str, found))}) after it; make them equal"
        )
    return TupleType(found)


def _while_reference(
    *operands: Array, condition: BoundGraph, body: BoundGraph, carries: int, max_steps: int | None
) -> tuple[Array, ...]:
    state, captured = operands[:carries], operands[carries:]
    steps = 0
    while (max_steps is None or steps < max_steps) and condition(*state, *captured)[0]:
        state = tuple(body(*state, *captured))
        steps += 1
    return state


def _while_cost(
    y: TupleType, *types: Type, condition: Graph, body: Graph, carries: int, max_steps: DimLike | None
) -> tuple[DimLike, DimLike]:
    """That of as many steps as there may be; of one where nobody knows."""
    costs = [n.op.flops_and_bytes(n) for graph in (condition, body) for n in graph.nodes]
    steps = 1 if max_steps is None else max_steps
    return sum((f for f, _ in costs), start=0) * steps, sum((b for _, b in costs), start=0) * steps


def _while_vjp(
    g: Sequence[Tensor | None],
    y: Tensor,
    *operands: Tensor,
    condition: Graph,
    body: Graph,
    carries: int,
    max_steps: DimLike | None,
) -> list[Tensor | None]:
    """The gradient of a scan of `max_steps` steps that do nothing once the condition has failed."""
    if max_steps is None:
        raise GradientError(
            "a while_loop of any number of steps has no gradient, since every step's values would have to be kept; "
            "give it max_steps=, or use dlc.scan",
            where=here(),
        )

    def as_scan(*inner: Tensor) -> Sequence[Tensor]:
        captured = inner[carries:]

        def step(carry: tuple[Tensor, ...], _: Any) -> Any:
            goes_on = _inlined(condition, [*carry, *captured])[0]
            new = cond(goes_on, lambda *c: tuple(_inlined(body, [*c, *captured])), lambda *c: c, *carry)
            return new, ()

        return scan(step, inner[:carries], length=max_steps)[0]

    return cotangents_through(as_scan, operands, g)


def _inlined(graph: Graph, operands: Sequence[Tensor]) -> list[Tensor]:
    """The outputs of a body on operands."""
    new = replaced(graph.outputs, dict(zip(graph.inputs, (t.node for t in operands), strict=True)))
    return [Tensor(new[n], graph.where(n)) for n in graph.outputs]


def _while_samples() -> Iterable[Sample]:
    x, y = arrays((3,), (3,), low=0.5, high=1.5)

    def below(x: Any, y: Any) -> Any:
        return x.sum() < 40.0

    def step(x: Any, y: Any) -> Any:
        return x * 1.5 + y, y * 0.9

    yield Sample((below, step, x, y), {"max_steps": 20})
    yield Sample((below, step, x, y), {"max_steps": 2})
    yield Sample((lambda x: x.sum() > 1e6, lambda x: x * 2.0, x), {"max_steps": 5})


# ---------------------------------------------------------------- the public function


@located
def while_loop(
    cond_fn: Callable[..., Any],
    body_fn: Callable[..., Any],
    *carries: Any,
    max_steps: int | str | DimLike | None = None,
) -> Any:
    """``carries = body_fn(*carries)`` as long as ``cond_fn(*carries)`` holds, and for at most `max_steps` steps.

    Both functions are called once, to build graphs, and may use any tensor from outside. `cond_fn` returns one bool;
    `body_fn` returns the new carries, a tensor or a flat tuple, of the same types. The result has the same form: one
    tensor for one carry, else a tuple. `max_steps` may be a named dim.

    The gradient of a loop with `max_steps` is that of a `scan` of so many steps, of which those after the last one do
    nothing: it keeps the carries of `max_steps` steps. Without it there is none, and asking for it is a
    `GradientError`. Raises `ShapeError` where the condition has axes or a carry changes its type, `GraphError` where
    body_fn returns another number of carries, or a function updates state.

    >>> import dlc
    >>> n, power = dlc.while_loop(lambda n, p: p < 100.0, lambda n, p: (n + 1, p * 3.0), 0, 1.0)
    >>> [v.item() for v in dlc.evaluate(n, power)]
    [5, 243.0]
    """
    for function in (cond_fn, body_fn):
        check_function(function, "while_loop")
    name = function_name(body_fn)
    if not carries:
        raise GraphError("while_loop needs a carry: a value that changes from step to step", where=here())
    start = [wrap(x) for x in carries]
    inner = [placeholder(f"carry{i}", t.node.type) for i, t in enumerate(start)]
    goes_on = one_bool(cond_fn(*inner), f"while_loop: the result of {function_name(cond_fn)}")
    returned = body_fn(*inner)
    new = flat_results(returned, name)
    if len(new) != len(inner):
        raise GraphError(f"while_loop: {name} takes {len(inner)} carries and returns {len(new)}", where=here())
    for i, (a, b) in enumerate(zip(start, new, strict=True)):
        if a.node.type != b.node.type:
            raise ShapeError(
                f"while_loop: the carry {i} is {a.type} before a step and {b.type} after it; make them equal",
                where=b.origin or here(),
            )
    inputs, roots = [t.node for t in inner], [t.node for t in (goes_on, *new)]
    inside = depending_on(inputs, roots)
    refuse_updates([goes_on, *new], inside, name)
    captured = outside_of(inside, roots)
    handles = {t.node: t for t in handles_below([goes_on, *new])}
    how = {
        "condition": body_of(inputs, captured, [goes_on]),
        "body": body_of(inputs, captured, new),
        "carries": len(start),
        "max_steps": None if max_steps is None else dim(max_steps),
    }
    node = build(WHILE, [*start, *(handles.get(n, Tensor(n)) for n in captured)], how)
    found = [item(node, i) for i in range(len(start))]
    return formed(returned, found)


WHILE = register(
    Op(
        "while_loop",
        Kind.LOOP,
        _while_type,
        reference=_while_reference,
        vjp=_while_vjp,
        cost=_while_cost,
        samples=_while_samples,
        doc=inspect.getdoc(while_loop) or "",
        function=while_loop,
    )
)
