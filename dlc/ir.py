"""The intermediate representation: types, leaves, nodes and graphs. Typed, frozen, interned.

A `Node` is a value: an op applied to nodes under attributes, with its type. Equal nodes are one object, so common
subexpressions are shared for free and equality is identity. A `Graph` names inputs, outputs and state updates; where
the user wrote each node stands beside it in `Graph.origins`, never in the node.
"""

from __future__ import annotations

import hashlib
import struct
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import KeyedRef

import numpy as np

from dlc import dtypes
from dlc.conversions import cast
from dlc.dims import Dim, DimLike, Shape, product, symbols
from dlc.display import Pictured
from dlc.errors import GraphError
from dlc.provenance import Origin

if TYPE_CHECKING:
    import networkx

    from dlc.ops.definition import Op

# ---------------------------------------------------------------- types


@dataclass(frozen=True, slots=True)
class TensorType:
    """dtype and shape; prints as ``f32[N,6,28,28]``."""

    dtype: str
    shape: Shape = ()

    def __str__(self) -> str:
        return f"{dtypes.SHORT[self.dtype]}[{','.join(map(str, self.shape))}]"

    __repr__ = __str__

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> DimLike:
        """Number of elements."""
        return product(self.shape)

    @property
    def nbytes(self) -> DimLike:
        """Bytes of a dense array of this type."""
        return self.size * dtypes.itemsize(self.dtype)

    @property
    def symbols(self) -> frozenset[str]:
        """The named dims in the shape."""
        return symbols(self.shape)


@dataclass(frozen=True, slots=True)
class TupleType:
    """The type of a node with several results. Tuples never nest and are never graph inputs."""

    items: tuple[TensorType, ...]

    def __str__(self) -> str:
        return f"({', '.join(map(str, self.items))})"

    __repr__ = __str__

    @property
    def symbols(self) -> frozenset[str]:
        """The named dims in all items."""
        return frozenset(s for item in self.items for s in item.symbols)


Type: TypeAlias = "TensorType | TupleType"

# ---------------------------------------------------------------- attributes


class Leaf:
    """The identity of an input: two leaves are never the same, whatever their names. The name is only a label."""

    __slots__ = ("__weakref__", "name")

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"


class Literal:
    """A constant array, read-only, compared by dtype, shape and bits (0.0 is not -0.0)."""

    __slots__ = ("array", "key")

    def __init__(self, value: Any, dtype: str | None = None) -> None:
        given = np.asarray(value)
        array = np.array(given if dtype is None else cast(given, dtype), order="C", copy=True)
        array.flags.writeable = False
        data = array.tobytes()
        self.array = array
        bits = data if len(data) <= 64 else hashlib.sha256(data).digest()
        self.key = (dtypes.name_of(array.dtype), array.shape, bits)

    @property
    def type(self) -> TensorType:
        """The array's dtype and shape."""
        return TensorType(dtypes.name_of(self.array.dtype), self.array.shape)

    def __repr__(self) -> str:
        return str(self.array.item()) if self.array.ndim == 0 else str(self.type)


class Wildcard:
    """Stands for any value of an attribute, in patterns of rewrite rules only; called, one of that name."""

    __slots__ = ("name",)

    def __init__(self, name: str = "") -> None:
        self.name = name

    def __call__(self, name: str) -> Wildcard:
        return Wildcard(name)

    def __repr__(self) -> str:
        return f"anything({self.name!r})" if self.name else "anything"


def attribute_key(value: Any) -> Any:
    """A hashable that tells attribute values apart by type and bits: 1 is not True, 0.0 is not -0.0."""
    match value:
        case None | str() | Dim():
            return value
        case bool():
            return ("bool", value)
        case int():
            return ("int", value)
        case float():
            return ("float", struct.pack("<d", value))
        case tuple():
            return ("tuple", *map(attribute_key, value))
        case Literal():
            return ("literal", value.key)
        case Leaf():
            return ("leaf", id(value))  # the node that holds the leaf keeps the id from being used again
        case Graph():
            return ("graph", value.digest)
        case Wildcard():
            return ("wildcard", value.name)
    raise TypeError(f"{type(value).__name__} is not an attribute value: {value!r}")


# ---------------------------------------------------------------- nodes


class Node:
    """An op applied to nodes. Frozen and interned: build one with `make_node`; compare with ``is``."""

    __slots__ = ("__weakref__", "attrs", "inputs", "op", "type")
    op: Op
    inputs: tuple[Node, ...]
    attrs: Mapping[str, Any]
    type: Any  # TensorType nearly always; TupleType for ops with several results

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError("nodes are frozen; build another one")

    def __repr__(self) -> str:
        return f"<{self.op.name} {self.type}>"

    def __reduce__(self) -> Any:
        raise TypeError("nodes are not pickled; save a graph as JSON with dlc.graph_to_json")

    @property
    def shape(self) -> Shape:
        """The shape of a tensor-typed node."""
        return self.type.shape

    @property
    def dtype(self) -> str:
        """The dtype of a tensor-typed node."""
        return self.type.dtype

    @property
    def leaf(self) -> Leaf | None:
        """The identity of an input, state or ambient node; None for others."""
        return self.attrs.get("leaf")


_interned: dict[Any, KeyedRef[Any, Node]] = {}
_lock = threading.RLock()
_watchers: list[set[Node]] = []
_NO_ATTRS: Mapping[str, Any] = MappingProxyType({})
_set_op, _set_inputs, _set_attrs, _set_type = (getattr(Node, s).__set__ for s in ("op", "inputs", "attrs", "type"))


def make_node(op: Op, inputs: tuple[Node, ...] = (), attrs: Mapping[str, Any] | None = None) -> Node:
    """The one node of `op` on `inputs` under `attrs`. Raises what the op's type rule raises."""
    if attrs:
        names = sorted(attrs)
        key = (op.name, inputs, *names, *[attribute_key(attrs[k]) for k in names])
    else:
        key = (op.name, inputs)
    found = _interned.get(key)
    node = found() if found is not None else None
    if node is not None:
        return node
    with _lock:
        found = _interned.get(key)
        node = found() if found is not None else None
        if node is None:
            type_ = op.infer_type(inputs, attrs or _NO_ATTRS)
            node = object.__new__(Node)
            _set_op(node, op)
            _set_inputs(node, inputs)
            _set_attrs(node, MappingProxyType(dict(attrs)) if attrs else _NO_ATTRS)
            _set_type(node, type_)
            _interned[key] = KeyedRef(node, _forget, key)
            for found_new in _watchers:
                found_new.add(node)
    return node


@contextmanager
def new_nodes() -> Iterator[set[Node]]:
    """The nodes that are made while this is open, which tells what a function computes from what it was given."""
    found: set[Node] = set()
    with _lock:
        _watchers.append(found)
    try:
        yield found
    finally:
        with _lock:
            _watchers[:] = [w for w in _watchers if w is not found]


def living_nodes() -> int:
    """How many nodes there are in this process: what building something has cost is the difference."""
    return len(_interned)


def _forget(reference: KeyedRef[Any, Node]) -> None:
    """Drop a dead node's entry, unless a new node has taken its place already."""
    if _interned.get(reference.key) is reference:
        del _interned[reference.key]


def topological(roots: Iterable[Node], stop: Callable[[Node], bool] | None = None) -> list[Node]:
    """All nodes that `roots` need, operands before users, in a fixed order; does not go below nodes where `stop`."""
    order: list[Node] = []
    done: set[Node] = set()
    stack: list[Node | None] = []
    for root in roots:
        stack.append(root)
        while stack:
            node = stack.pop()
            if node is None:  # below this mark lies a node whose operands are all in `order`
                order.append(stack.pop())  # type: ignore[arg-type]
            elif node not in done:
                done.add(node)
                if not node.inputs or (stop is not None and stop(node)):
                    order.append(node)
                    continue
                stack.append(node)
                stack.append(None)
                for x in reversed(node.inputs):
                    if x not in done:
                        stack.append(x)
    return order


# ---------------------------------------------------------------- graphs


@dataclass(frozen=True, eq=False, repr=False)
class Graph(Pictured):
    """Inputs, outputs and state updates, with the places each node was written at.

    `inputs` are input nodes in calling order; `outputs` any nodes; `updates` pairs of a state node and its new value,
    which all read old values (simultaneous assignment). Raises `GraphError` when a leaf is reachable that is neither an
    input, a state, an ambient value nor a constant, when an input is repeated or two share a name, or an update's type
    differs.
    """

    inputs: tuple[Node, ...]
    outputs: tuple[Node, ...]
    updates: tuple[tuple[Node, Node], ...] = ()
    origins: Mapping[Node, tuple[Origin, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_graph(self)

    def __repr__(self) -> str:
        counts = f"{len(self.inputs)} inputs, {len(self.outputs)} outputs, {len(self.updates)} updates"
        return f"<Graph of {len(self.nodes)} nodes: {counts}>"

    def __str__(self) -> str:
        from dlc.printer import graph_text

        return graph_text(self)

    @property
    def roots(self) -> tuple[Node, ...]:
        """What the graph computes: outputs, then the updates' new values."""
        return (*self.outputs, *(value for _, value in self.updates))

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """Every node, inputs and updated states first, operands before users; the order is deterministic."""
        return tuple(topological([*self.inputs, *(state for state, _ in self.updates), *self.roots]))

    @cached_property
    def users(self) -> Mapping[Node, tuple[Node, ...]]:
        """For each node the nodes that take it as an operand, each once. Outputs and updates are not users."""
        users: dict[Node, dict[Node, None]] = {node: {} for node in self.nodes}
        for node in self.nodes:
            for x in node.inputs:
                users[x][node] = None
        return {node: tuple(found) for node, found in users.items()}

    @cached_property
    def states(self) -> tuple[Node, ...]:
        """The state leaves that the graph reads or updates, in order."""
        return tuple(n for n in self.nodes if n.op.name == "state")

    @cached_property
    def ambients(self) -> tuple[Node, ...]:
        """The ambient leaves (training, seed, step) that the graph reads; the compiler binds them."""
        return tuple(n for n in self.nodes if n.op.name == "ambient")

    @cached_property
    def symbols(self) -> tuple[str, ...]:
        """The named dims of the inputs, sorted."""
        return tuple(sorted({s for n in self.inputs for s in n.type.symbols}))

    def where(self, node: Node) -> Origin | None:
        """The first place that `node` was written at, if known."""
        origins = self.origins.get(node)
        return origins[0] if origins else None

    # ---- structure

    @cached_property
    def structure(self) -> tuple[Any, ...]:
        """What two graphs share that compute the same in the same way: names and identities of leaves left out."""
        return tuple(_structure(self))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the structure, as hexadecimal text."""
        return hashlib.sha256(repr(self.structure).encode()).hexdigest()

    def same_structure(self, other: Graph) -> bool:
        """Whether `other` is the same graph up to names, inputs and states matched by position."""
        return self.digest == other.digest

    def to_networkx(self) -> networkx.DiGraph:
        """A DiGraph of nodes (with op, type, attrs) and operand edges (with the position), for analysis."""
        import networkx as nx

        result = nx.MultiDiGraph()
        for node in self.nodes:
            result.add_node(node, op=node.op.name, type=node.type, attrs=node.attrs)
        for node in self.nodes:
            for position, x in enumerate(node.inputs):
                result.add_edge(x, node, position=position)
        return result

    # ---- transformation

    def rebuild(self, transform: Callable[[Node, tuple[Node, ...]], Node], *, keep_updates: bool = True) -> Graph:
        """The graph with every node replaced by ``transform(node, new_operands)``, bottom-up; origins follow.

        Nodes that the transformation makes on the way take the origins of the node they stand for. Inputs and updated
        states keep their place: `transform` must return them unchanged if the graph is to keep them.
        """
        new: dict[Node, Node] = {}
        origins: dict[Node, tuple[Origin, ...]] = {}
        for node in self.nodes:
            operands = tuple([new[x] for x in node.inputs])
            replacement = new[node] = transform(node, operands)
            inherit_origins(origins, replacement, self.origins.get(node, ()), known=operands)
        updates = tuple((state, new[value]) for state, value in self.updates) if keep_updates else ()
        return Graph(self.inputs, tuple(new[n] for n in self.outputs), updates, origins)

    def substitute(self, values: Mapping[Node, Node], *, inputs: tuple[Node, ...] | None = None) -> Graph:
        """The graph with some nodes replaced by others; `inputs` gives the new inputs where those change."""
        new: dict[Node, Node] = {}
        origins: dict[Node, tuple[Origin, ...]] = {}
        for node in topological(self.roots, stop=values.__contains__):
            replacement = values.get(node) or same_op(node, tuple([new[x] for x in node.inputs]))
            new[node] = replacement
            if places := self.origins.get(node):
                origins.setdefault(replacement, places)
        updates = tuple((values.get(state, state), new[value]) for state, value in self.updates)
        return Graph(self.inputs if inputs is None else inputs, tuple(new[n] for n in self.outputs), updates, origins)


def same_op(node: Node, operands: tuple[Node, ...]) -> Node:
    """`node`'s op and attributes on other operands; `node` itself where they are the same."""
    return node if operands == node.inputs else make_node(node.op, operands, node.attrs)


def inherit_origins(
    origins: dict[Node, tuple[Origin, ...]], node: Node, places: tuple[Origin, ...], known: Sequence[Node] = ()
) -> None:
    """Give `node`, and the new nodes below it, the places of the node that they stand for."""
    if not places:
        return
    if node in origins:
        origins[node] = tuple(dict.fromkeys((*origins[node], *places)))
        return
    origins[node] = places
    stack = [] if node in known else list(node.inputs)
    while stack:
        n = stack.pop()
        if n not in origins and n not in known:
            origins[n] = places
            stack.extend(n.inputs)


def _check_graph(graph: Graph) -> None:
    seen: dict[str, Node] = {}
    for node in graph.inputs:
        if node.op.name != "input" or node.leaf is None:
            raise GraphError(f"a graph's inputs are made by dlc.input, not {node!r}", where=graph.where(node))
        if seen.get(node.leaf.name) is not None:
            what = "is listed twice" if seen[node.leaf.name] is node else "is the name of two different inputs"
            raise GraphError(f"{node.leaf.name!r} {what}; give every input of a graph a name of its own")
        seen[node.leaf.name] = node
    inputs = set(graph.inputs)
    for node in graph.nodes:
        if node.op.name == "input" and node not in inputs and node.leaf is not None:
            raise GraphError(
                f"the graph depends on the input {node.leaf.name!r} ({node.type}), which is not in inputs="
                f"[{', '.join(seen)}]; add it",
                where=graph.where(node),
            )
    updated: set[Node] = set()
    for state, value in graph.updates:
        if state.op.name != "state":
            raise GraphError(f"updates assign to parameters and state, not to {state!r}")
        if state in updated:
            raise GraphError(f"the state {state.leaf.name if state.leaf else '?'!r} is updated twice in one graph")
        updated.add(state)
        if state.type != value.type:
            raise GraphError(
                f"the state {state.leaf.name if state.leaf else '?'!r} is {state.type} but its update is {value.type}",
                where=graph.where(value),
            )
    for node in graph.outputs:
        if isinstance(node.type, TupleType):
            raise GraphError(f"an output must be a tensor, not the tuple {node.type}; take its items")


def _structure(graph: Graph) -> Iterator[Any]:
    """One entry a node: op, attributes, operand numbers, type. Leaves are numbered by position instead of named."""
    numbers = {node: i for i, node in enumerate(graph.nodes)}
    yield ("inputs", *(numbers[n] for n in graph.inputs))
    for node in graph.nodes:
        attrs = tuple((k, attribute_key(v)) for k, v in sorted(node.attrs.items()) if not isinstance(v, Leaf))
        yield (node.op.name, attrs, tuple(numbers[x] for x in node.inputs), str(node.type))
    yield ("outputs", *(numbers[n] for n in graph.outputs))
    yield ("updates", *((numbers[s], numbers[v]) for s, v in graph.updates))
