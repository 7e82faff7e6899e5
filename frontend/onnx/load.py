"""From an ONNX model to a graph. The file is not trusted: everything is checked and counted, nothing is executed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
from dlc.provenance import here, written_at


def load(source: PathLike | bytes | Any, values: Mapping[str, Any] | None = None) -> Graph:
    """The graph of an ONNX model, given by its path, its bytes or as a ModelProto, of opset 1 to the newest of onnx.

    Floating-point initialisers become states, so that the model can be trained on; other constants are constants.
    Dims without a value become named dims. `values` fixes inputs, by their names in the file: they become constants,
    which an input must be that decides a shape (`Model` does so by itself). Raises `FileFormatError` for a file that is
    damaged or hostile, `UnsupportedError` for what dlc does not read, or where onnx is not installed.

    >>> load(b"no model")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    dlc.errors.FileFormatError: not an ONNX model...
    """
    model, path, newest = parsed(source)
    try:
        with collection_paused(), written_at(here()):
            importer = _Importer(model, path, newest)
            return importer.graph(model, values or {})
    except StaticOperandError as error:
        found = StaticOperandError(error.message, where=here())
        found.inputs = tuple(importer.sources[i] for i in error.inputs if i in importer.sources)
        raise found from error.__cause__
    except (FileFormatError, UnsupportedError) as error:
        raise type(error)(error.message, where=here()) from error.__cause__


class _Importer:
    """What a model declares and what its nodes make of it."""

    def __init__(self, model: Any, path: Any, newest: int) -> None:
        self.updated = updates_of(model)
        self.nodes = Nodes(model, path, newest, self.updated)
        self.names = self.nodes.names
        self.dims = Dims()
        self.sources: dict[str, str] = {}  # the file's name of each input, by its label

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
            tensor = ops.input(label, *self.dims.type_of(value, place))
            self.names.define(value.name, Value(tensor), place)
            inputs.append(tensor.node)
        self.nodes.run(record.node, "node")
        if not record.output:
            raise FileFormatError("the model has no outputs")
        found = [self.names.find(o.name, f"output[{i}]").as_tensor().node for i, o in enumerate(record.output)]
        outputs = dict(zip((o.name for o in record.output), found, strict=True))
        updates = self.updates(outputs)
        kept = [o.name for o in record.output if o.name not in updates]
        try:
            return Graph(tuple(inputs), tuple(outputs[n] for n in kept), tuple(updates.values()))
        except DlcError as error:
            raise FileFormatError(error.message) from error

    def fixed(self, record: Any, values: Mapping[str, Any]) -> None:
        """Define the inputs that the caller gives a value; their named dims have one as well."""
        declared = {v.name: (i, v) for i, v in enumerate(record.input)}
        for name, given in values.items():
            if name not in declared or name in self.names.values:
                raise ArgumentError(f"the model has no input {name!r} to fix", where=here())
            place, array = f"input[{declared[name][0]}]", np.asarray(given)
            kind = declared[name][1].type.tensor_type
            dtype, dims = dtype_of(kind.elem_type, place), kind.shape.dim
            fits = array.ndim == len(dims) or not kind.HasField("shape")
            if array.dtype != dtype or array.size > MAX_ELEMENTS or not fits:
                what = f"{array.dtype}{list(array.shape)}"
                raise ArgumentError(f"{name!r} is {what}, but the model has {dtype} of {len(dims)} axes", where=here())
            for record_, d in zip(dims, array.shape, strict=False):
                known = record_.dim_value if record_.HasField("dim_value") else d
                if record_.dim_param:
                    known = self.dims.known.setdefault(record_.dim_param, d)
                if known != d:
                    raise ArgumentError(f"{name!r} has a dim of {d} where the model has {known}", where=here())
            self.names.define(name, Value(static=array), place)

    def updates(self, outputs: Mapping[str, Node]) -> dict[str, tuple[Node, Node]]:
        """The state updates that dlc's metadata names, by the output that holds the new value."""
        found: dict[str, tuple[Node, Node]] = {}
        for name, output in self.updated.items():
            state = self.names.find(name, "dlc.updates").as_tensor().node
            if output not in outputs or output in found:
                raise FileFormatError(f"dlc.updates: {shown(output)} is no output, or is named twice")
            found[output] = (state, outputs[output])
        return found
