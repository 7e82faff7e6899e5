"""One node of an ONNX file, as the table of operators sees it: operands, attributes and the opset in force."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from dlc import ops
from dlc.dims import Dim, product
from dlc.errors import DTypeError, FileFormatError, StaticOperandError, UnsupportedError
from dlc.ir import Graph, TensorType, topological
from dlc.ops.definition import Array
from dlc.ops.interpret import interpret
from dlc.ops.tensor import Tensor

NODE = 300  # elements that computing a node counts as, however few it has
MAX_EVALUATED = 2**24  # elements that may be computed to learn the value of an operand that decides shapes


@dataclass
class Value:
    """A value while importing: a tensor, an array that the file fixes, or both; a sequence; or an empty optional.

    `static` may be an array of objects: dims of the inputs, some of them named, which shapes are computed from. An
    optional that has an element is that element.
    """

    tensor: Tensor | None = None
    static: Array | None = None
    items: tuple[Value, ...] | None = None  # of a sequence
    absent: bool = False  # an optional without an element

    @property
    def given(self) -> bool:
        """Whether it is anything at all: not what a caller of a function left out."""
        return self.is_tensor or self.items is not None or self.absent

    @property
    def is_tensor(self) -> bool:
        """Whether it is a tensor, or will be one where one is taken."""
        return self.tensor is not None or self.static is not None

    def as_tensor(self) -> Tensor:
        """The tensor; one that is only known as an array or as dims becomes one now."""
        if self.tensor is None:
            if self.static is None:
                raise DTypeError("a sequence, or an empty optional, where a tensor is taken")
            self.tensor = _tensor_of(self.static)
        return self.tensor


def _tensor_of(array: Array) -> Tensor:
    if array.dtype != object:
        return ops.constant(array)
    if not any(isinstance(d, Dim) for d in array.flat):
        return ops.constant(array.astype(np.int64))
    parts = [ops.size_of(d, "int64") if isinstance(d, Dim) else ops.scalar(int(d), "int64") for d in array.flat]
    return ops.reshape(ops.stack(parts), array.shape)


@dataclass(frozen=True)
class Body:
    """A graph that is an attribute of a node: called with its inputs, it gives its outputs."""

    importer: Any
    record: Any
    place: str

    def __call__(self, *inputs: Tensor | Value, turn: Tensor | None = None) -> list[Value]:
        """`turn` is the number of the step, for the body of a loop."""
        values = [v if isinstance(v, Value) else Value(v) for v in inputs]
        return self.importer.body(self.record, values, self.place, turn)

    @property
    def draws(self) -> bool:
        """Whether random numbers may be drawn in it: somewhere in the model they are."""
        return self.importer.draws

    @property
    def inputs(self) -> int:
        """How many inputs it declares."""
        return len(self.record.input)


@dataclass
class Call:
    """A node: `operands` has None for those left out, `attributes` are read already (ints, floats, text, arrays)."""

    operator: str
    operands: Sequence[Value | None]
    attributes: Mapping[str, Any]
    opset: builtins.int
    results: builtins.int
    place: str
    named: Callable[[str], Value]  # the value of a name of the file
    spend: Callable[[builtins.int], None]  # counts elements that are computed while reading
    counted: Callable[[builtins.int], None]  # counts what takes as long as so many nodes
    turns: Sequence[Tensor] = ()  # the numbers of the steps of the loops that the node is in
    ordinal: builtins.int = 0  # of the node among those that are like it: those with draws
    read: set[str] = field(default_factory=set)

    def __getitem__(self, number: builtins.int) -> Tensor:
        return self.value(number).as_tensor()

    def has(self, number: builtins.int) -> bool:
        """Whether an optional operand is given."""
        return self._operand(number) is not None

    def static(self, number: builtins.int) -> Array:
        """The value of an operand that must not depend on the inputs' elements."""
        return self.known_value(self.value(number), f"operand {number}")

    def known(self, number: builtins.int) -> Array | None:
        """The value of an operand where the file fixes it; None where it is computed from the inputs' elements."""
        try:
            return self.static(number)
        except StaticOperandError:
            return None

    def value(self, number: builtins.int) -> Value:
        """An operand as it is."""
        found = self._operand(number)
        if found is None:
            raise FileFormatError(f"{self.place}: operand {number} is missing")
        return found

    def known_value(self, value: Value, what: str) -> Array:
        """The value of something that must not depend on the inputs' elements."""
        if value.static is None:
            value.static = self._evaluated(value.as_tensor(), what)
        return value.static

    def _evaluated(self, tensor: Tensor, what: str) -> Array:
        """The value of what depends on constants alone, by the reference backend."""
        graph = Graph(tuple(n for n in topological((tensor.node,)) if n.op.name == "input"), (tensor.node,))
        if graph.inputs or graph.states or graph.ambients:
            error = StaticOperandError(
                f"{self.place}: {what} decides shapes, but it is computed from the inputs' elements; "
                "make it a constant of the model, or fix the inputs that it is computed from (load's `values`)"
            )
            error.inputs = tuple(n.leaf.name for n in graph.inputs if n.leaf)
            raise error
        types = [n.type for n in graph.nodes if isinstance(n.type, TensorType)]
        size = sum(product(t.shape) for t in types)
        if isinstance(size, Dim) or size > MAX_EVALUATED:
            raise self.unsupported(f"it where {what} decides shapes and takes long to compute")
        self.spend(int(size) + NODE * len(types))
        return interpret(graph, [])[0][0]

    def ints(self, name: str, default: Sequence[builtins.int] | None = None) -> list[builtins.int] | None:
        """An attribute that is a list of ints."""
        return self._attribute(name, list, None if default is None else list(default))

    def int(self, name: str, default: builtins.int | None = None) -> Any:
        """An attribute that is an int."""
        return self._attribute(name, int, default)

    def float(self, name: str, default: builtins.float | None = None) -> Any:
        """An attribute that is a float."""
        return self._attribute(name, float, default)

    def text(self, name: str, default: str = "") -> str:
        """An attribute that is a string."""
        return self._attribute(name, str, default)

    def int_list(self, number: builtins.int) -> list[Any]:
        """A static operand of one axis or none, as a list of ints and dims."""
        array = self.static(number)
        if array.ndim == 0:
            array = array.reshape(1)
        if array.ndim != 1 or (array.dtype != object and array.dtype.kind not in "iu"):
            raise FileFormatError(f"{self.place}: operand {number} must be a vector of integers")
        return array.tolist()

    def number(self, number: builtins.int) -> Any:
        """A static operand of one element, as a number or dim."""
        array = self.static(number)
        if array.size != 1:
            raise FileFormatError(f"{self.place}: operand {number} must be one number")
        return array.item()

    def texts(self, name: str) -> list[str] | None:
        """An attribute that is a list of strings."""
        return self._attribute(name, list, None)

    def floats(self, name: str) -> list[builtins.float] | None:
        """An attribute that is a list of floats."""
        return self._attribute(name, list, None)

    def array(self, name: str) -> Array | None:
        """An attribute that is a tensor."""
        return self._attribute(name, np.ndarray, None)

    def body(self, name: str) -> Body:
        """An attribute that is a graph."""
        found = self._attribute(name, Body, None)
        if found is None:
            raise FileFormatError(f"{self.place}: the body {name} is missing")
        return found

    def axes(self, since: builtins.int) -> list[builtins.int] | None:
        """The axes: an attribute before opset `since`, operand 1 from then on; None where not given."""
        if self.opset < since:
            return self.ints("axes")
        return self.int_list(1) if self.has(1) else None

    def unsupported(self, what: str) -> UnsupportedError:
        """An error saying that dlc has no form of this."""
        return UnsupportedError(f"{self.place}: dlc does not read {what}")

    def _operand(self, number: builtins.int) -> Value | None:
        return self.operands[number] if number < len(self.operands) else None

    def _attribute(self, name: str, kind: type, default: Any) -> Any:
        self.read.add(name)
        value = self.attributes.get(name, default)
        if value is not default and (not isinstance(value, kind) or isinstance(value, bool)):
            raise FileFormatError(f"{self.place}: the attribute {name} is of the wrong type")
        return value


def axis_of(c: Call, x: Tensor, default: int) -> int:
    """The attribute `axis`, counted from the front."""
    axis = c.int("axis", default)
    if not -x.ndim <= axis < x.ndim:
        raise FileFormatError(f"{c.place}: {x.type} has no axis {axis}")
    return axis % x.ndim


Importer: TypeAlias = Callable[[Call], "Tensor | Value | Sequence[Tensor | Value]"]
