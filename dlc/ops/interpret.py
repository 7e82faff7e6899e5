"""Running a graph op by op with NumPy, from each op's own reference: what graphs, and bodies in them, mean."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dlc.dims import Dim, evaluate
from dlc.dtypes import numpy_dtype
from dlc.errors import DlcError, GraphError, VerificationError
from dlc.ir import Graph, Node, TensorType, TupleType, Type

Array = np.ndarray[Any, Any]
Value = Any  # an array, or a tuple of arrays for a tuple-typed node


def interpret(
    graph: Graph,
    inputs: Sequence[Any],
    bindings: Mapping[str, int] | None = None,
    states: Mapping[Node, Array] | None = None,
    observe: Callable[[Node, Value], None] | None = None,
) -> tuple[list[Array], list[Array]]:
    """The values of the graph's outputs and of its updates; no state is changed.

    `inputs` are arrays by position, `bindings` gives the named dims, `states` the arrays of state leaves. A value is
    dropped as soon as no later node needs it; `observe` sees each as it is computed, and may keep it. Values may share
    memory with inputs, states and each other. Raises `GraphError` for a leaf without a value, `VerificationError` where
    a reference gives another dtype or shape than its node's type says, and what references raise, at the user's line.

    >>> import dlc
    >>> x = dlc.input("x", ("N",))
    >>> outputs, _ = interpret(dlc.graph([x], [x * 2]), [np.array([1, 2], np.float32)], {"N": 2})
    >>> outputs[0].tolist()
    [2.0, 4.0]
    """
    dims = bindings or {}
    values: dict[Node, Value] = {}
    remaining = _uses(graph)
    given = dict(states or {}) | dict(zip(graph.inputs, inputs, strict=True))
    for node in graph.nodes:
        if node in given:
            value = _checked(np.asarray(given[node]), node, dims)
        else:
            value = _computed(graph, node, [values[x] for x in node.inputs], dims)
        if observe is not None:
            observe(node, value)
        values[node] = value
        for x in dict.fromkeys(node.inputs):
            remaining[x] -= 1
            if not remaining[x]:
                del values[x]
    return [values[n] for n in graph.outputs], [values[n] for _, n in graph.updates]


def bind_attributes(attrs: Mapping[str, Any], bindings: Mapping[str, int]) -> dict[str, Any]:
    """Attributes with every dim evaluated; a body graph becomes a `BoundGraph`.

    >>> from dlc.dims import dim
    >>> bind_attributes({"shape": (dim("N"), 3), "axis": 0}, {"N": 5})
    {'shape': (5, 3), 'axis': 0}
    """
    return {name: _bound(value, bindings) for name, value in attrs.items()}


@dataclass(frozen=True)
class BoundGraph:
    """A body graph under the bindings of the graph around it: what references are given for it. Call it on arrays."""

    graph: Graph
    bindings: Mapping[str, int]

    def __call__(self, *arrays: Any) -> list[Array]:
        """The outputs of the body."""
        return interpret(self.graph, arrays, self.bindings)[0]


def _bound(value: Any, bindings: Mapping[str, int]) -> Any:
    match value:
        case Dim():
            return evaluate(value, bindings)
        case tuple():
            return tuple(_bound(v, bindings) for v in value)
        case Graph():
            return BoundGraph(value, bindings)
    return value


def _uses(graph: Graph) -> dict[Node, int]:
    """How many nodes read each node; what the graph returns is read once more, at the end."""
    counts = {node: len(users) for node, users in graph.users.items()}
    for node in dict.fromkeys(graph.roots):
        counts[node] += 1
    return counts


def _computed(graph: Graph, node: Node, operands: list[Value], bindings: Mapping[str, int]) -> Value:
    if node.op.reference is None:
        name = f" {node.leaf.name!r}" if node.leaf is not None else ""
        raise GraphError(f"the {node.op.name}{name} {node.type} has no value; bind it first", where=graph.where(node))
    try:
        result = node.op.reference(*operands, **bind_attributes(node.attrs, bindings))
    except DlcError as error:
        if error.where is None and (where := graph.where(node)) is not None:
            raise type(error)(error.message, where=where) from error
        raise
    return _checked(tuple(map(np.asarray, result)) if isinstance(result, tuple) else np.asarray(result), node, bindings)


def _checked(value: Value, node: Node, bindings: Mapping[str, int]) -> Value:
    """`value`, which must have exactly the type that its node says."""
    for array, t in zip(_items(value), _types(node.type), strict=True):
        shape = tuple(evaluate(d, bindings) for d in t.shape)
        if array.shape != shape or array.dtype != numpy_dtype(t.dtype):
            raise VerificationError(
                f"{node.op.name} is {node.type}, which is {t.dtype}{list(shape)} here, but its value is "
                f"{array.dtype}{list(array.shape)}"
            )
    return value


def _items(value: Value) -> Iterable[Array]:
    return value if isinstance(value, tuple) else (value,)


def _types(t: Type) -> tuple[TensorType, ...]:
    return t.items if isinstance(t, TupleType) else (t,)
