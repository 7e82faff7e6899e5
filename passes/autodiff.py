"""Reverse-mode differentiation: gradients are nodes like all others, so they can be differentiated again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dlc.dtypes import FLOATING
from dlc.errors import DlcError, GradientError, ShapeError
from dlc.ir import Graph, Node, TensorType, TupleType, topological
from dlc.ops import broadcast_to, scalar
from dlc.ops.definition import Kind
from dlc.ops.elementwise import taken_as
from dlc.ops.scan_gradient import use_gradients
from dlc.ops.tensor import Tensor, collect_origins, handles_below, wrap
from dlc.provenance import Origin, here, phase, written_at

Cotangent = Tensor | list[Tensor | None] | None


def gradients(
    outputs: Sequence[Tensor], inputs: Sequence[Tensor], cotangents: Sequence[Any] | None = None
) -> list[Tensor]:
    """The gradients of `outputs` with respect to `inputs`, each of its input's type: one reverse sweep over the nodes.

    `cotangents` gives one value of an output's type per output; None stands for 1 where the output is 0-d. An input
    that no output depends on gets zeros. Inputs may be any nodes, also intermediate ones: what lies below them still
    gets its part. Raises `GradientError` for outputs or inputs that are not floating-point, for a non-scalar output
    without a cotangent, and for an op without VJP that a cotangent would have to flow through; `ShapeError` for a
    cotangent of another type than its output.

    State updates that ride on what the outputs are made from ride on the gradients too.

    Nodes of the backward pass carry the file, line and module of the forward node they come from, in phase "backward".

    >>> import dlc
    >>> x = dlc.input("x", (3,))
    >>> (g,) = gradients([(x * x).sum()], [x])
    >>> (h,) = gradients([g.sum()], [x])            # gradients of gradients
    >>> program = dlc.compile(dlc.graph([x], [g, h]), backend="reference")
    >>> [v.tolist() for v in program([1.0, 2.0, 3.0])]
    [[2.0, 4.0, 6.0], [2.0, 2.0, 2.0]]
    """
    outputs, inputs = [wrap(t) for t in outputs], [wrap(t) for t in inputs]
    for what, tensors in (("output", outputs), ("input", inputs)):
        for t in tensors:
            _check_differentiable(t, what)
    with phase("backward"):
        found = _Sweep(outputs, inputs).run(_seeds(outputs, cotangents))
    carriers = [t for t in handles_below(outputs) if t.updates]  # what updates state in the forward pass still does
    return [Tensor(t.node, t.origin, (t, *carriers)) for t in found] if carriers else found


def autodiff(graph: Graph, wrt: Sequence[Tensor | Node | str] | None = None) -> Graph:
    """`graph` with the gradients of its first output, a 0-d loss, as further outputs: the pass form of `gradients`.

    `wrt` lists nodes, or names of inputs and states; by default all floating-point inputs. Raises `GradientError` as
    `gradients` does, and for a name that the graph does not have.

    >>> import dlc
    >>> x = dlc.input("x", (3,))
    >>> print(autodiff(dlc.graph([x], [(x * x).sum()])).outputs[1].type)
    f32[3]
    """
    handles = {node: Tensor(node, graph.where(node)) for node in graph.nodes}
    if not graph.outputs:
        raise GradientError("the graph has no output to differentiate")
    if wrt is None:
        wrt = [n for n in graph.inputs if n.dtype in FLOATING]
    inputs = [_named(graph, x) if isinstance(x, str) else wrap(x).node for x in wrt]
    loss = handles[graph.outputs[0]]
    _check_differentiable(loss, "output")
    for node in inputs:
        _check_differentiable(handles.setdefault(node, Tensor(node)), "input")
    with phase("backward"):
        sweep = _Sweep([loss], [handles[n] for n in inputs], handles)
        found = sweep.run(_seeds([loss], None))
    origins = dict(graph.origins)
    for node, places in collect_origins(found).items():
        origins[node] = tuple(dict.fromkeys((*origins.get(node, ()), *places)))
    return Graph(graph.inputs, (*graph.outputs, *(t.node for t in found)), graph.updates, origins)


def _named(graph: Graph, name: str) -> Node:
    leaves = {n.leaf.name: n for n in (*graph.inputs, *graph.states) if n.leaf is not None}
    if name not in leaves:
        raise GradientError(f"the graph has no input or state {name!r}; it has {', '.join(leaves)}")
    return leaves[name]


class _Sweep:
    """One reverse sweep: cotangents gather at each node and are handed on through its op's VJP."""

    def __init__(
        self, outputs: Sequence[Tensor], inputs: Sequence[Tensor], handles: dict[Node, Tensor] | None = None
    ) -> None:
        self.outputs = outputs
        self.inputs = inputs
        self.wanted = {t.node for t in inputs}
        self.handles = handles if handles is not None else first_handles([*inputs, *outputs])
        self.order = topological(t.node for t in outputs)
        self.active = self._active_nodes()
        self.arrived: dict[Node, list[Tensor]] = {}
        self.arrived_at_items: dict[Node, dict[int, Tensor]] = {}

    def _active_nodes(self) -> set[Node]:
        """The nodes that are a wanted input or depend on one through floats: only they have gradients."""
        active: set[Node] = set()
        for node in self.order:
            if node in self.wanted or (_is_floating(node) and any(x in active for x in node.inputs)):
                active.add(node)
        return active

    def run(self, seeds: Sequence[Tensor]) -> list[Tensor]:
        for output, seed in zip(self.outputs, seeds, strict=True):
            self.arrived.setdefault(output.node, []).append(seed)
        result: dict[Node, Tensor] = {}
        for node in reversed(self.order):
            if node not in self.active:
                continue
            origin = self.handle(node).origin
            with written_at(origin._replace(phase="backward") if origin else None):
                g = self._gathered(node)
                if g is None:
                    continue
                if node in self.wanted:
                    assert isinstance(g, Tensor)
                    result[node] = g
                self._hand_on(node, g, origin)
        return [result[t.node] if t.node in result else zeros_like(t) for t in self.inputs]

    def handle(self, node: Node) -> Tensor:
        """The forward handle of `node`, so that gradients keep where their operands were written."""
        found = self.handles.get(node)
        if found is None:
            found = self.handles[node] = Tensor(node)
        return found

    def _gathered(self, node: Node) -> Cotangent:
        """The sum of the cotangents that arrived at `node`; for a tuple one per item, None where none arrived."""
        if isinstance(node.type, TupleType):
            items = self.arrived_at_items.pop(node, None)
            return None if items is None else [items.get(i) for i in range(len(node.type.items))]
        arrived = self.arrived.pop(node, None)
        if arrived is None:
            return None
        total = arrived[0]
        for g in arrived[1:]:
            total = total + g
        return total

    def _hand_on(self, node: Node, g: Cotangent, origin: Origin | None) -> None:
        if not any(x in self.active for x in node.inputs):
            return
        if node.op.kind is Kind.ITEM:
            assert isinstance(g, Tensor)
            self.arrived_at_items.setdefault(node.inputs[0], {})[node.attrs["index"]] = g
            return
        if node.op.vjp is None:
            raise GradientError(
                f"{node.op.name} has no gradient, and one has to flow through {node!r}; "
                "compute without it, or cut the gradient with dlc.stop_gradient",
                where=origin,
            )
        operands = [self.handle(x) for x in node.inputs]
        cotangents = node.op.vjp(g, self.handle(node), *operands, **node.attrs)
        if len(cotangents) != len(operands):
            raise GradientError(
                f"the VJP of {node.op.name} gave {len(cotangents)} cotangents for {len(operands)} operands"
            )
        for x, c in zip(node.inputs, cotangents, strict=True):
            if c is None or x not in self.active:
                continue
            if c.node.type != x.type:
                raise GradientError(
                    f"the VJP of {node.op.name} gave a cotangent of {c.type} for an operand of {x.type}", where=origin
                )
            self.arrived.setdefault(x, []).append(c)


def zeros_like(t: Tensor) -> Tensor:
    """Zeros of the type of `t`: the gradient of what nothing depends on."""
    return broadcast_to(scalar(0, t.dtype), t.shape)


def first_handles(tensors: Sequence[Tensor]) -> dict[Node, Tensor]:
    """For each node below `tensors` the first handle that knows where it was written."""
    handles: dict[Node, Tensor] = {}
    for t in handles_below(tensors):
        known = handles.get(t.node)
        if known is None or (known.origin is None and t.origin is not None):
            handles[t.node] = t
    return handles


def _is_floating(node: Node) -> bool:
    items = node.type.items if isinstance(node.type, TupleType) else (node.type,)
    return any(t.dtype in FLOATING for t in items)


def _check_differentiable(t: Tensor, what: str) -> None:
    if not isinstance(t.node.type, TensorType) or t.dtype not in FLOATING:
        raise GradientError(
            f"the {what} {t.node!r} is not floating-point, so it has no gradient; convert it with .astype('float32')",
            where=t.origin or here(),
        )


def _seeds(outputs: Sequence[Tensor], cotangents: Sequence[Any] | None) -> list[Tensor]:
    given: Sequence[Any] = [None] * len(outputs) if cotangents is None else list(cotangents)
    if len(given) != len(outputs):
        raise GradientError(
            f"{len(given)} cotangents were given for {len(outputs)} outputs; give one each", where=here()
        )
    return [_seed(t, c) for t, c in zip(outputs, given, strict=True)]


def _seed(output: Tensor, cotangent: Any) -> Tensor:
    if cotangent is None:
        if output.shape != ():
            raise GradientError(
                f"the gradient of {output.node!r} needs a scalar: sum it first, with .sum() or .mean(), "
                f"or give cotangents= of its type {output.type}",
                where=output.origin or here(),
            )
        return scalar(1, output.dtype)
    try:
        g = as_beside(cotangent, output)
    except DlcError as error:
        raise GradientError(f"a cotangent must be a tensor or number: {error.message}", where=here()) from error
    if g.node.type != output.node.type:
        raise ShapeError(f"the output {output.node!r} needs a cotangent of its type, got {g.node.type}", where=here())
    return g


def as_beside(value: Any, t: Tensor) -> Tensor:
    """A cotangent or tangent of `t` as a tensor; Python numbers, alone or in lists, have the dtype of `t`."""
    python = isinstance(value, (int, float, list, tuple)) and not isinstance(value, bool)
    return taken_as(value, t.dtype) if python else wrap(value)


use_gradients(gradients)  # the bodies of loops are differentiated by the same sweep
