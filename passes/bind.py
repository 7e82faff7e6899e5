"""Binding what a graph leaves open: ambient values, and named dims."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dlc.dims import Dim, DimLike, substitute
from dlc.errors import DimError, DlcError
from dlc.ir import Graph, Node, TensorType, TupleType, inherit_origins, make_node
from dlc.ops.leaves import INPUT, SEED, STEP, TRAINING, InputLeaf, scalar
from dlc.provenance import Origin


def bind_ambients(graph: Graph, *, training: bool = False, seed: int = 0, step: int = 0) -> Graph:
    """`graph` with its ambient leaves replaced by constants; the compiler instead binds seed and step to state.

    >>> import dlc
    >>> x = dlc.input("x")
    >>> graph = dlc.graph([x], [dlc.where(dlc.ops.TRAINING, x, 0.0)])
    >>> bind_ambients(graph, training=True).ambients
    ()
    """
    if not graph.ambients:
        return graph
    values = {
        TRAINING.node: scalar(training, "bool"),
        SEED.node: scalar(seed, "uint64"),
        STEP.node: scalar(step, "int64"),
    }
    return graph.substitute({node: t.node for node, t in values.items()})


def specialise(graph: Graph, bindings: Mapping[str, int | DimLike]) -> Graph:
    """`graph` with named dims replaced by ints (or other dims); every type is inferred anew, in bodies too.

    Inputs whose type changes are new inputs of the same name and position. Raises `DimError` for a dim that the graph
    does not have, and what the ops' type rules raise, at the user's line, where the values do not fit.

    >>> import dlc
    >>> x = dlc.input("x", ("N", 3))
    >>> specialise(dlc.graph([x], [dlc.sum(x, axis=1)]), {"N": 5}).outputs[0].type
    f32[5]
    """
    if unknown := sorted(set(bindings) - set(graph.symbols)):
        raise DimError(f"the graph has no named dim {', '.join(unknown)}; it has {', '.join(graph.symbols) or 'none'}")
    for name, value in bindings.items():
        if isinstance(value, bool) or not isinstance(value, (int, Dim)) or (isinstance(value, int) and value < 0):
            raise DimError(f"the dim {name} must be an int >= 0, not {value!r}")
    return _specialise(graph, bindings)


def _specialise(graph: Graph, bindings: Mapping[str, int | DimLike]) -> Graph:
    new: dict[Node, Node] = {}
    origins: dict[Node, tuple[Origin, ...]] = {}
    for node in graph.nodes:
        operands = tuple(new[x] for x in node.inputs)
        new[node] = _specialised(node, operands, bindings, graph.where(node))
        inherit_origins(origins, new[node], graph.origins.get(node, ()), known=operands)
    return Graph(
        tuple(new[n] for n in graph.inputs),
        tuple(new[n] for n in graph.outputs),
        tuple((new[s], new[v]) for s, v in graph.updates),
        origins,
    )


def _specialised(node: Node, operands: tuple[Node, ...], bindings: Mapping[str, Any], where: Origin | None) -> Node:
    if node.op is INPUT:
        bound = _bind_type(node.type, bindings)
        return node if bound == node.type else make_node(INPUT, (), {"leaf": InputLeaf(node.attrs["leaf"].name, bound)})
    attrs = {name: _bind_attribute(value, bindings) for name, value in node.attrs.items()}
    try:
        return make_node(node.op, operands, attrs)
    except DlcError as error:
        if error.where is None and where is not None:
            raise type(error)(error.message, where=where) from error
        raise


def _bind_type(t: TensorType, bindings: Mapping[str, Any]) -> TensorType:
    return TensorType(t.dtype, tuple(substitute(d, bindings) for d in t.shape))


def _bind_attribute(value: Any, bindings: Mapping[str, Any]) -> Any:
    match value:
        case Dim():
            return substitute(value, bindings)
        case tuple():
            return tuple(_bind_attribute(v, bindings) for v in value)
        case TensorType():
            return _bind_type(value, bindings)
        case TupleType(items=items):
            return TupleType(tuple(_bind_type(t, bindings) for t in items))
        case Graph():
            return _specialise(value, bindings)
    return value
