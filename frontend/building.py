"""From tensors to graphs: `graph`, `grad` and `trace`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from dlc.errors import GraphError
from dlc.frontend.parameter import parameter
from dlc.ir import Graph
from dlc.ops.random import counted_draws
from dlc.ops.tensor import Tensor, collect_origins, wrap
from dlc.provenance import here

__all__ = ["grad", "graph", "parameter", "tensors_in", "trace", "value_and_grad"]


def graph(inputs: Any, outputs: Any, updates: Mapping[Any, Any] | Iterable[tuple[Any, Any]] | None = None) -> Graph:
    """The immutable graph that computes `outputs` from `inputs`, and assigns `updates`.

    `inputs` are tensors made by `dlc.input`, in calling order; `outputs` any tensors (either may be one tensor alone).
    `updates` maps parameters or state to their new values; all of them read old values. Every place that a node was
    written at is kept in `Graph.origins`. Raises `GraphError` where an input is missing, repeated or shares its name.

    >>> import dlc
    >>> x = dlc.input("x", ("N",))
    >>> dlc.graph([x], [x * 2 + 1])
    <Graph of 5 nodes: 1 inputs, 1 outputs, 0 updates>
    """
    ins = [_input(t) for t in _listed(inputs, "inputs")]
    outs = [wrap(t) for t in _listed(outputs, "outputs")]
    pairs = updates.items() if isinstance(updates, Mapping) else updates or ()
    assignments = [(_state(s), wrap(v)) for s, v in pairs]
    return assemble(ins, outs, assignments)


def assemble(inputs: Sequence[Tensor], outputs: Sequence[Tensor], updates: Sequence[tuple[Tensor, Tensor]]) -> Graph:
    """A graph of handles, with every origin they know of; errors gain the user's line."""
    origins = collect_origins([*inputs, *outputs, *(t for pair in updates for t in pair)])
    try:
        return Graph(
            tuple(t.node for t in inputs),
            tuple(t.node for t in outputs),
            tuple((s.node, v.node) for s, v in updates),
            origins,
        )
    except GraphError as error:
        if error.where is not None:
            raise
        raise GraphError(error.message, where=here()) from error


def grad(y: Any, xs: Any, cotangents: Any = None) -> Any:
    """The gradients of `y` with respect to `xs`: nodes like all others, so they can be differentiated again.

    `y` is a 0-d floating-point tensor, or any (also a list of them) with `cotangents` of the same shapes. `xs` is a
    tensor or parameter, which gives one gradient, or a list of them, which gives a list. What `y` does not depend on
    has gradient zero. Raises `GradientError` for a non-scalar without a cotangent, and for what is not floating-point.

    >>> import dlc
    >>> x = dlc.input("x")
    >>> g = dlc.grad(x * x * x, x)
    >>> dlc.compile(dlc.graph([x], [g, dlc.grad(g, x)]), backend="reference")(2.0)
    (array(12., dtype=float32), array(12., dtype=float32))
    """
    from dlc.passes.autodiff import gradients

    one = not isinstance(xs, (list, tuple))
    several = isinstance(y, (list, tuple))
    seeds = None if cotangents is None else list(cotangents) if several else [cotangents]
    outputs = [wrap(t) for t in (y if several else [y])]
    found = gradients(outputs, [wrap(x) for x in ([xs] if one else xs)], seeds)
    return found[0] if one else found


def value_and_grad(y: Any, xs: Any) -> tuple[Tensor, Any]:
    """The 0-d `y` and its gradients with respect to `xs`, as `grad` gives them.

    >>> import dlc
    >>> x = dlc.constant(3.0)
    >>> [v.item() for v in dlc.evaluate(*value_and_grad(x * x, x))]
    [9.0, 6.0]
    """
    value = wrap(y)
    return value, grad(value, xs)


def trace(model: Callable[..., Any], *inputs: Any, **named: Any) -> Graph:
    """The graph of ``model(*inputs)``, in inference mode unless compiled with ``training=True``.

    `inputs` are tensors made by `dlc.input`, or None where the model takes an optional one. The outputs are the tensors
    that the model returns, those in tuples, lists and dicts in order. Shapes that layers left open are fixed by this.

    >>> import dlc
    >>> from dlc import nn
    >>> dlc.trace(nn.Linear(3), dlc.input("x", ("N", 4))).outputs[0].type
    f32[N,3]
    """
    with counted_draws():
        outputs = tensors_in(model(*inputs, **named))
    if not outputs:
        raise GraphError(f"{type(model).__name__} returned no tensor, so there is nothing to trace", where=here())
    return graph(tensors_in([list(inputs), named]), outputs)


def tensors_in(value: Any) -> list[Tensor]:
    """The tensors in nested tuples, lists and dicts, in order; None is skipped.

    Raises `GraphError` for anything else.
    """
    if value is None:
        return []
    if isinstance(value, Mapping):
        return [t for v in value.values() for t in tensors_in(v)]
    if isinstance(value, (list, tuple)):
        return [t for v in value for t in tensors_in(v)]
    if isinstance(value, Tensor):
        return [value]
    raise GraphError(
        f"expected tensors (also in tuples, lists, dicts), got {type(value).__name__}: {value!r:.80}", where=here()
    )


def _listed(value: Any, what: str) -> list[Any]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, (list, tuple)):
        return list(value)
    raise GraphError(f"{what}= takes a list of tensors, not {type(value).__name__}", where=here())


def _input(t: Any) -> Tensor:
    if not isinstance(t, Tensor):
        raise GraphError(
            f"a graph's inputs are tensors made by dlc.input, not {type(t).__name__}: {t!r:.80}", where=here()
        )
    return t


def _state(s: Any) -> Tensor:
    t = wrap(s)
    if t.node.op.name != "state":
        raise GraphError(f"updates= assigns to parameters and state, not to {t!r}", where=here())
    return t
