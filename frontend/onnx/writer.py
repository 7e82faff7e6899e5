"""Writing ONNX graphs: nodes, initialisers, names that are unique, and named dims as run-time values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from dlc.dims import Dim, DimLike, Quotient, Shape, is_nonnegative
from dlc.dtypes import numpy_dtype
from dlc.errors import UnsupportedError
from dlc.ir import Graph, Node, TensorType

if TYPE_CHECKING:
    import onnx

Array = np.ndarray[Any, Any]
Value = str  # the name of a tensor in the ONNX graph
Exporter = Callable[["Writer", Node, list[Any]], "Value | list[Value]"]
E = TypeVar("E", bound=Exporter)

OPSET = 23  # the least that a model declares; a node that needs a newer one raises it

ELEMENT_TYPES = {
    "float32": 1, "uint8": 2, "int8": 3, "uint16": 4, "int16": 5, "int32": 6, "int64": 7, "bool": 9, "float16": 10,
    "float64": 11, "uint32": 12, "uint64": 13, "bfloat16": 16,
}  # fmt: skip

EXPORTERS: dict[str, Exporter] = {}


def exports(*names: str) -> Callable[[E], E]:
    """Enter a function that writes the nodes of some ops. It is given the operands' names and returns the result's."""

    def decorate(function: E) -> E:
        for name in names:
            if name in EXPORTERS:
                raise ValueError(f"the export of {name!r} is already defined")
            EXPORTERS[name] = function
        return function

    return decorate


def element_type(dtype: str) -> int:
    """ONNX's number for a dtype."""
    return ELEMENT_TYPES[dtype]


def value_info(name: Value, t: TensorType) -> onnx.ValueInfoProto:
    """The declaration of a tensor; named dims are given as their text."""
    from onnx import helper

    shape = [d if isinstance(d, int) else str(d) for d in t.shape]
    return helper.make_tensor_value_info(name, element_type(t.dtype), shape)


class Writer:
    """One ONNX graph under construction. Those of loop bodies share names, initialisers and dims with the outermost."""

    def __init__(self, root: Writer | None = None) -> None:
        self.root = self if root is None else root
        self.nodes: list[onnx.NodeProto] = []
        self.types: dict[Value, TensorType] = {}
        self.values: dict[Node, Value] = {}  # of the dlc graph that is being written
        self.place = ""  # what names of new nodes begin with
        if root is None:
            self.opset = OPSET
            self.initialisers: dict[Value, Array] = {}
            self.names: dict[str, int] = {}
            self._constants: dict[Any, Value] = {}
            self._dims: dict[DimLike, Value] = {}
            self.symbols: dict[str, tuple[Value, int]] = {}  # where a named dim is found: a tensor and its axis

    # ---- names

    def unique(self, name: str) -> str:
        """`name`, or the first of name_1, name_2, ... that is free; taken from now on."""
        names = self.root.names
        candidate = name
        while candidate in names:
            names[name] += 1
            candidate = f"{name}_{names[name]}"
        names[candidate] = 0
        return candidate

    # ---- nodes

    def emit(self, op: str, inputs: Sequence[Value], results: int = 1, since: int = OPSET, **attrs: Any) -> list[Value]:
        """Add a node; the names of its results."""
        from onnx import helper

        self.root.opset = max(self.root.opset, since)
        name = self.unique(f"{self.place}{op}")
        outputs = [name, *(self.unique(f"{name}.{i}") for i in range(1, results))]
        self.nodes.append(helper.make_node(op, list(inputs), outputs, name=name, **attrs))
        return outputs

    def op(self, op: str, *inputs: Value, since: int = OPSET, **attrs: Any) -> Value:
        """Add a node of one result; the name of that."""
        return self.emit(op, inputs, since=since, **attrs)[0]

    def cast(self, x: Value, source: str, target: str) -> Value:
        """`x` of dtype `source` in another dtype."""
        return x if source == target else self.op("Cast", x, to=element_type(target))

    def constant(self, value: Any, dtype: str, name: str = "constant") -> Value:
        """The name of an initialiser of this value; equal ones are shared."""
        array = np.array(value, numpy_dtype(dtype), order="C")
        key = (dtype, array.shape, array.tobytes())
        found = self.root._constants.get(key)
        if found is None:
            found = self.root._constants[key] = self.initialiser(array, name)
        return found

    def initialiser(self, array: Array, name: str) -> Value:
        """The name, `name` if that is free, of a new initialiser."""
        chosen = self.unique(name)
        self.root.initialisers[chosen] = array
        return chosen

    def ints(self, *values: int) -> Value:
        """A vector of int64 constants."""
        return self.constant(np.array(values, np.int64), "int64", "ints")

    # ---- dims

    def dim(self, d: DimLike) -> Value:
        """The value of a dim as int64[1]."""
        if not isinstance(d, Dim):
            return self.ints(d)
        root = self.root
        if d not in root._dims:
            place, root.place = root.place, "dims/"
            root._dims[d] = root._polynomial(d)
            root.place = place
        return root._dims[d]

    def dims(self, shape: Iterable[DimLike]) -> Value:
        """The values of dims as an int64 vector."""
        found = list(shape)
        if not any(isinstance(d, Dim) for d in found):
            return self.ints(*(int(d) for d in found))  # type: ignore[arg-type]
        parts = [self.dim(d) for d in found]
        return parts[0] if len(parts) == 1 else self.root_op("Concat", *parts, axis=0)

    def root_op(self, op: str, *inputs: Value, **attrs: Any) -> Value:
        """A node of the outermost graph, whose names loop bodies see too."""
        root = self.root
        place, root.place = root.place, "dims/"
        result = root.op(op, *inputs, **attrs)
        root.place = place
        return result

    def _polynomial(self, d: Dim) -> Value:
        total: Value | None = None
        for monomial, coefficient in d.terms:
            term: Value | None = None if abs(coefficient) == 1 and monomial else self.ints(abs(coefficient))
            for atom in monomial:
                value = self._symbol(atom) if isinstance(atom, str) else self._quotient(atom)
                term = value if term is None else self.op("Mul", term, value)
            assert term is not None
            if total is None:
                total = term if coefficient > 0 else self.op("Neg", term)
            else:
                total = self.op("Add" if coefficient > 0 else "Sub", total, term)
        assert total is not None
        return total

    def _symbol(self, name: str) -> Value:
        if name not in self.symbols:
            raise UnsupportedError(
                f"the dim {name!r} is no axis of an input by itself, so ONNX nodes cannot compute it; "
                f"give some input an axis that is just {name!r}"
            )
        source, axis = self.symbols[name]
        return self.op("Shape", source, start=axis, end=axis + 1)

    def _quotient(self, q: Quotient) -> Value:
        a, b = self.dim(q.numerator), self.dim(q.denominator)
        if q.remainder:
            return self.op("Mod", a, b)
        if is_nonnegative(q.numerator) and is_nonnegative(q.denominator):
            return self.op("Div", a, b)
        return self.op("Div", self.op("Sub", a, self.op("Mod", a, b)), b)  # Div truncates; Mod has the divisor's sign

    # ---- what several exporters need

    def reshape(self, x: Value, source: Shape, shape: Shape) -> Value:
        """`x`, of shape `source`, in another shape, which ONNX is told as plainly as it can be."""
        if source == shape:
            return x
        named = [i for i, d in enumerate(shape) if isinstance(d, Dim)]
        if len(named) == 1 and all(d != 0 for d in shape):
            return self.op("Reshape", x, self.ints(*(-1 if isinstance(d, Dim) else d for d in shape)))
        return self.op("Reshape", x, self.dims(shape), allowzero=int(0 in shape or len(named) > 1))

    def transpose(self, x: Value, axes: Sequence[int]) -> Value:
        """The axes of `x` in another order."""
        return x if list(axes) == list(range(len(axes))) else self.op("Transpose", x, perm=list(axes))

    def filled(self, value: Any, dtype: str, shape: Shape) -> Value:
        """A tensor of one value."""
        return self.op("Expand", self.constant(value, dtype), self.dims(shape))

    def positions(self, d: DimLike) -> Value:
        """0, 1, ... below a dim, as an int64 vector."""
        if not isinstance(d, Dim):
            return self.constant(np.arange(d), "int64", "positions")
        stop = self.op("Squeeze", self.dim(d))
        return self.op("Range", self.constant(0, "int64"), stop, self.constant(1, "int64"))

    # ---- dlc graphs

    def graph(self, graph: Graph, values: dict[Node, Value]) -> list[Value]:
        """Write all nodes of `graph`, given the names of its leaves; the names of its outputs."""
        around, self.values = self.values, dict(values)
        results: dict[Node, Any] = self.values
        for node in graph.nodes:
            if node not in results:
                results[node] = self._node(graph, node, [results[x] for x in node.inputs])
                if isinstance(node.type, TensorType):
                    self.types[results[node]] = node.type
        self.values = around
        return [results[n] for n in graph.roots]

    def _node(self, graph: Graph, node: Node, operands: list[Any]) -> Any:
        exporter = EXPORTERS.get(node.op.name)
        where = graph.where(node)
        if exporter is None:
            raise UnsupportedError(f"{node.op.name} {node.type} has no counterpart in ONNX", where=where)
        place = self.place
        if where is not None:
            self.place = f"{where.module.replace('.', '/')}/" if where.module else ""
        try:
            return exporter(self, node, operands)
        except UnsupportedError as error:
            raise error if error.where is not None else UnsupportedError(error.message, where=where) from error
        finally:
            self.place = place
