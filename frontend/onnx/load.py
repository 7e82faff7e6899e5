"""From an ONNX model to a graph. The file is not trusted: everything is checked and counted, nothing is executed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from dlc import ops
from dlc.errors import ArgumentError, DlcError, FileFormatError, StaticOperandError, UnsupportedError, shown
from dlc.frontend.checkpoint import PathLike
from dlc.frontend.onnx.arrays import MAX_ELEMENTS, dtype_of
from dlc.frontend.onnx.call import Value
from dlc.frontend.onnx.names import Dims
from dlc.frontend.onnx.nodes import MAX_OPERANDS, Nodes
from dlc.frontend.onnx.reading import parsed, updates_of
from dlc.garbage import collection_paused
from dlc.ir import Graph, Node
from dlc.ops.definition import Array
from dlc.ops.tensor import Tensor
from dlc.provenance import here, written_at

Layout: TypeAlias = "bool | tuple[Layout, ...] | None"  # a tensor, a sequence, an empty optional


def load(source: PathLike | bytes | Any, values: Mapping[str, Any] | None = None) -> Graph:
    """The graph of an ONNX model, given by its path, its bytes or as a ModelProto, of opset 1 to the newest of onnx.

    Floating-point initialisers become states, so that the model can be trained on; other constants are constants.
    Dims without a value become named dims. `values` fixes inputs, by their names in the file: they become constants,
    which an input must be that decides a shape, is a sequence (a list) or an optional (its element, or None); `Model`
    does so by itself. A sequence among the outputs gives an output for each of its elements.

    Raises `FileFormatError` for a file that is damaged or hostile, `UnsupportedError` for what dlc does not read, or
    where onnx is not installed.

    >>> load(b"no model")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    dlc.errors.FileFormatError: not an ONNX model...
    """
    return read(source, values)[0]


def read(source: PathLike | bytes | Any, values: Mapping[str, Any] | None = None) -> tuple[Graph, list[Layout]]:
    """The graph of a model, and the form of each output of the file, in terms of the graph's (see `arranged`)."""
    model, path, newest = parsed(source)
    try:
        with collection_paused(), written_at(here()):
            importer = _Importer(model, path, newest)
            return importer.graph(model, values or {}), importer.layout
    except StaticOperandError as error:
        found = StaticOperandError(error.message, where=here())
        found.inputs = tuple(importer.sources[i] for i in error.inputs if i in importer.sources)
        raise found from error.__cause__
    except (FileFormatError, UnsupportedError) as error:
        raise type(error)(error.message, where=here()) from error.__cause__


def arranged(layout: Sequence[Layout], arrays: Iterable[Any]) -> list[Any]:
    """Outputs of a graph as the model has them: sequences as lists, empty optionals as None.

    >>> arranged([(True, (True, True)), True, None], "abcd")
    [['a', ['b', 'c']], 'd', None]
    """
    rest = iter(arrays)

    def one(form: Layout) -> Any:
        if isinstance(form, tuple):
            return [one(f) for f in form]
        return next(rest) if form else None

    return [one(form) for form in layout]


class _Importer:
    """What a model declares and what its nodes make of it."""

    def __init__(self, model: Any, path: Any, newest: int) -> None:
        self.updated = updates_of(model)
        self.nodes = Nodes(model, path, newest, self.updated)
        self.names = self.nodes.names
        self.dims = Dims()
        self.sources: dict[str, str] = {}  # the file's name of each input, by its label
        self.layout: list[Layout] = []

    def graph(self, model: Any, values: Mapping[str, Any]) -> Graph:
        record = model.graph
        if max(len(record.input) - len(record.initializer), len(record.output)) > MAX_OPERANDS:
            raise FileFormatError(f"a model of more than {MAX_OPERANDS} inputs or outputs")
        self.nodes.initialisers(record)
        self.fixed(record, values)
        inputs: list[Node] = []
        for i, value in enumerate(record.input):
            if value.name in self.names.values:  # an input that has a value already
                continue
            place = f"input[{i}]"
            label = self.names.label(value.name, "input")
            self.sources[label] = value.name
            if value.type.WhichOneof("value") in ("sequence_type", "optional_type"):
                error = StaticOperandError(f"{place}: a sequence, or an optional, must be given (load's `values`)")
                error.inputs = (label,)
                raise error
            tensor = ops.input(label, *self.dims.type_of(value, place))
            self.names.define(value.name, Value(tensor), place)
            inputs.append(tensor.node)
        self.nodes.run(record.node, "node")
        if not record.output:
            raise FileFormatError("the model has no outputs")
        found = {o.name: self.names.find(o.name, f"output[{i}]") for i, o in enumerate(record.output)}
        if len(found) != len(record.output):
            raise FileFormatError("two outputs of the model have one name")
        updates = self.updates({n: v.as_tensor().node for n, v in found.items() if v.is_tensor})
        kept: list[Tensor] = []
        for name, value in found.items():
            if name not in updates:
                self.layout.append(_flattened(value, kept))
            if len(kept) > MAX_OPERANDS:
                raise FileFormatError(f"a model of more than {MAX_OPERANDS} outputs, with the elements of sequences")
        try:
            return Graph(tuple(inputs), tuple(t.node for t in kept), tuple(updates.values()))
        except DlcError as error:
            raise FileFormatError(error.message) from error

    def fixed(self, record: Any, values: Mapping[str, Any]) -> None:
        """Define the inputs that the caller gives a value; their named dims have one as well."""
        declared = {v.name: (i, v) for i, v in enumerate(record.input)}
        for name, given in values.items():
            if name not in declared or name in self.names.values:
                raise ArgumentError(f"the model has no input {name!r} to fix", where=here())
            place = f"input[{declared[name][0]}]"
            self.names.define(name, self.fixed_value(declared[name][1].type, given, name, place), place)

    def fixed_value(self, kind: Any, given: Any, name: str, place: str, of_sequence: bool = False) -> Value:
        """A value of one of ONNX's types: an array, a list of values, or None for an empty optional."""
        if kind.HasField("sequence_type"):
            if not isinstance(given, (list, tuple)):
                raise ArgumentError(f"{name!r} is a sequence; give it as a list", where=here())
            inner = kind.sequence_type.elem_type
            return Value(items=tuple(self.fixed_value(inner, v, name, place, of_sequence=True) for v in given))
        if kind.HasField("optional_type"):
            if given is None:
                return Value(absent=True)
            return self.fixed_value(kind.optional_type.elem_type, given, name, place, of_sequence)
        return Value(static=self.fixed_array(kind.tensor_type, np.asarray(given), name, place, of_sequence))

    def fixed_array(self, kind: Any, array: Array, name: str, place: str, of_sequence: bool) -> Array:
        """An array that fits the type of an input. Its named dims have a value then, but for those of a sequence."""
        dtype, dims = dtype_of(kind.elem_type, place), kind.shape.dim
        fits = array.ndim == len(dims) or not kind.HasField("shape")
        if array.dtype != dtype or array.size > MAX_ELEMENTS or not fits:
            what = f"{array.dtype}{list(array.shape)}"
            raise ArgumentError(f"{name!r} is {what}, but the model has {dtype} of {len(dims)} axes", where=here())
        for record, d in zip(dims, array.shape, strict=False):
            known = record.dim_value if record.HasField("dim_value") else d
            if record.dim_param and not of_sequence:
                known = self.dims.known.setdefault(record.dim_param, d)
            if known != d:
                raise ArgumentError(f"{name!r} has a dim of {d} where the model has {known}", where=here())
        return array

    def updates(self, outputs: Mapping[str, Node]) -> dict[str, tuple[Node, Node]]:
        """The state updates that dlc's metadata names, by the output that holds the new value."""
        found: dict[str, tuple[Node, Node]] = {}
        for name, output in self.updated.items():
            state = self.names.find(name, "dlc.updates").as_tensor().node
            if output not in outputs or output in found:
                raise FileFormatError(f"dlc.updates: {shown(output)} is no output, or is named twice")
            found[output] = (state, outputs[output])
        return found


def _flattened(value: Value, tensors: list[Tensor]) -> Layout:
    """The form of a value, whose tensors are added to those of others."""
    if value.absent:
        return None
    if value.items is not None:
        return tuple(_flattened(v, tensors) for v in value.items)
    tensors.append(value.as_tensor())
    return True
