"""From an ONNX model to a graph. The file is not trusted: everything is checked and counted, nothing is executed."""

from __future__ import annotations

import json
import re
from collections import ChainMap
from collections.abc import Iterable, Mapping, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from typing import Any

import numpy as np

from dlc import ops
from dlc.dims import Dim, DimLike, dim, product, symbol
from dlc.errors import ArgumentError, DimError, DlcError, FileFormatError, StaticOperandError, UnsupportedError, shown
from dlc.frontend.checkpoint import PathLike, read_file
from dlc.frontend.onnx.arrays import MAX_AXES, MAX_ELEMENTS, array_of, dtype_of
from dlc.frontend.onnx.call import Body, Call, Value
from dlc.frontend.onnx.importers import FOLDED, HEAVY, IMPORTERS
from dlc.frontend.onnx.standard import body_of, schema_of
from dlc.garbage import collection_paused
from dlc.ir import Graph, Node, TensorType, living_nodes
from dlc.ops.definition import Array
from dlc.ops.tensor import Tensor, state_node
from dlc.provenance import here, written_at
from dlc.state import State

OLDEST_OPSET = 1
DOMAINS = ("", "ai.onnx", "ai.onnx.preview.training")  # no two have operators of the same name
MAX_BYTES = 2**31  # what protobuf itself can hold
MAX_NODES = 40_000  # with those of bodies and functions at every call, and all that they become
MAX_OPERANDS = 4096  # of a node, and inputs and outputs of a model
MAX_DEPTH = 16  # of bodies within bodies, and functions within functions
MAX_FOLDED = 4096  # elements: shapes are short
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./: -]{0,127}")
_DIM = re.compile(r"[A-Za-z0-9_+*/%() -]{1,200}")


def load(source: PathLike | bytes | Any, values: Mapping[str, Any] | None = None) -> Graph:
    """The graph of an ONNX model, given by its path, its bytes or as a ModelProto, of opset 7 to the newest of onnx.

    Floating-point initialisers become states, so that the model can be trained on; other constants are constants.
    Dims without a value become named dims. `values` fixes inputs, by their names in the file: they become constants,
    which an input must be that decides a shape (`Model` does so by itself). Raises `FileFormatError` for a file that is
    damaged or hostile,
    `UnsupportedError` for operators and dtypes that dlc does not read, or where onnx is not installed.

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


def parsed(source: PathLike | bytes | Any) -> tuple[Any, Any, int]:
    """The ModelProto, the path it lies at (None in memory) and the newest opset that the installed onnx knows."""
    try:
        import onnx
        import onnx.defs
    except ImportError:
        raise UnsupportedError(
            "reading ONNX needs the package onnx; install it with: pip install 'dlc[onnx]'", where=here()
        ) from None
    in_memory = isinstance(source, (bytes, bytearray, onnx.ModelProto))
    if isinstance(source, onnx.ModelProto):
        source = source.SerializeToString()
    data = bytes(source) if isinstance(source, (bytes, bytearray)) else read_file(source, MAX_BYTES)
    try:
        model = onnx.ModelProto.FromString(data)
    except Exception as error:  # protobuf has a class of its own for this, which depends on its version
        raise FileFormatError(f"not an ONNX model: {shown(str(error))}", where=here()) from None
    if not model.HasField("graph"):
        raise FileFormatError("not an ONNX model: it holds no graph", where=here())
    return model, None if in_memory else source, onnx.defs.onnx_opset_version()


def inputs_of(model: Any) -> list[str]:
    """The names of the inputs that have no value in the file."""
    known = {t.name for t in model.graph.initializer}
    return [v.name for v in model.graph.input if v.name not in known]


def _opset(records: Iterable[Any], newest: int) -> int:
    versions = [o.version for o in records if o.domain in ("", "ai.onnx")]
    if not versions:  # of other domains only
        return newest
    if len(versions) != 1 or not OLDEST_OPSET <= versions[0] <= newest:
        raise UnsupportedError(f"a model of the opsets {versions[:4]}; dlc reads one from {OLDEST_OPSET} to {newest}")
    return versions[0]


def _updated(model: Any) -> dict[str, str]:
    """Which output holds the new value of a state: what `save` writes into the metadata."""
    texts = [p.value for p in model.metadata_props if p.key == "dlc.updates"]
    try:
        pairs = json.loads(texts[0]) if texts else {}
    except (ValueError, RecursionError):
        raise FileFormatError("the metadata dlc.updates is not JSON") from None
    if not isinstance(pairs, dict) or not all(isinstance(v, str) for v in pairs.values()):
        raise FileFormatError("the metadata dlc.updates is not an object of names")
    return pairs


class _Importer:
    """What one file has defined, and counts of what it has asked for."""

    def __init__(self, model: Any, path: Any, newest: int) -> None:
        self.path = path
        self.opset, self.newest = _opset(model.opset_import, newest), newest
        self.functions = {(f.domain, f.name): f for f in model.functions}
        self.updated = _updated(model)
        self.values: ChainMap[str, Value | None] = ChainMap()  # None for what a caller of a function left out
        self.parameters: Mapping[str, Any] = {}  # the attributes of the function that is being imported
        self.labels: set[str] = set()
        self.dims: dict[str, DimLike] = {}
        self.sources: dict[str, str] = {}  # the file's name of each input, by its label
        self.elements = self.count = self.depth = 0
        self.before = living_nodes()

    def graph(self, model: Any, values: Mapping[str, Any]) -> Graph:
        record = model.graph
        if max(len(record.input) - len(record.initializer), len(record.output)) > MAX_OPERANDS:
            raise FileFormatError(f"a model of more than {MAX_OPERANDS} inputs or outputs")
        self.initialisers(record)
        self.fixed(record, values)
        inputs: list[Node] = []
        for i, value in enumerate(record.input):
            if value.name in self.values:  # an input that has a value already
                continue
            place = f"input[{i}]"
            label = self.label(value.name, "input")
            self.sources[label] = value.name
            tensor = ops.input(label, *self.input_type(value, place))
            self.define(value.name, Value(tensor), place)
            inputs.append(tensor.node)
        self.run(record.node, "node")
        if not record.output:
            raise FileFormatError("the model has no outputs")
        outputs = {o.name: self.find(o.name, f"output[{i}]").as_tensor().node for i, o in enumerate(record.output)}
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
            if name not in declared or name in self.values:
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
                    known = self.dims.setdefault(record_.dim_param, d)
                if known != d:
                    raise ArgumentError(f"{name!r} has a dim of {d} where the model has {known}", where=here())
            self.define(name, Value(static=array), place)

    def updates(self, outputs: Mapping[str, Node]) -> dict[str, tuple[Node, Node]]:
        """The state updates that dlc's metadata names, by the output that holds the new value."""
        found: dict[str, tuple[Node, Node]] = {}
        for name, output in self.updated.items():
            state = self.find(name, "dlc.updates").as_tensor().node
            if output not in outputs or output in found:
                raise FileFormatError(f"dlc.updates: {shown(output)} is no output, or is named twice")
            found[output] = (state, outputs[output])
        return found

    # ---- values

    def define(self, name: str, value: Value, place: str) -> None:
        _check_text(place, name)
        if not name or name in self.values:
            raise FileFormatError(f"{place}: the name {shown(name)} is empty or defined twice")
        self.values[name] = value

    def find(self, name: str, place: str) -> Value:
        found = self.found(name, place)
        if found is None or (found.tensor is None and found.static is None):
            raise FileFormatError(f"{place}: {shown(name)} was left out")
        return found

    def found(self, name: str, place: str) -> Value | None:
        """The value of a name; None for one that a caller of a function left out."""
        found = self.values.get(name)
        if found is None and name not in self.values:
            _check_text(place, name)
            raise FileFormatError(f"{place}: {shown(name)} is not defined before it is used")
        return found

    def label(self, name: str, kind: str) -> str:
        """The name as a label, if it is a plain one and new; else a counted one."""
        _check_text(kind, name)
        label = name if _NAME.fullmatch(name) and name not in self.labels else f"{kind}_{len(self.labels)}"
        while label in self.labels:
            label += "_"
        self.labels.add(label)
        return label

    def initialisers(self, record: Any) -> None:
        if record.sparse_initializer:
            raise UnsupportedError("dlc does not read sparse initialisers")
        if len(record.initializer) > MAX_NODES:
            raise FileFormatError(f"more than {MAX_NODES} initialisers")
        for i, tensor in enumerate(record.initializer):
            self.define(tensor.name, self.initialiser(tensor, f"initializer[{i}]"), f"initializer[{i}]")

    def initialiser(self, tensor: Any, place: str) -> Value:
        array = self.constant(tensor, place)
        if tensor.name not in self.updated and (array.dtype.kind != "f" or array.ndim == 0):
            return Value(static=array)
        state = State(self.label(tensor.name, "weight"), TensorType(array.dtype.name, array.shape), lambda: array)
        known = None if tensor.name in self.updated else array
        return Value(Tensor(state_node(state)), known)

    def constant(self, tensor: Any, place: str) -> Array:
        array = array_of(tensor, self.path, place)
        self.elements += array.size
        if self.elements > MAX_ELEMENTS:
            raise FileFormatError(f"{place}: more than {MAX_ELEMENTS} elements in all constants")
        return array

    def input_type(self, value: Any, place: str) -> tuple[tuple[DimLike, ...], str]:
        if not value.type.HasField("tensor_type") or not value.type.tensor_type.HasField("shape"):
            raise UnsupportedError(f"{place}: dlc reads inputs that are tensors with a known number of axes")
        record = value.type.tensor_type
        if len(record.shape.dim) > MAX_AXES:
            raise FileFormatError(f"{place}: {len(record.shape.dim)} axes; the limit is {MAX_AXES}")
        return tuple(self.dim(d, place) for d in record.shape.dim), dtype_of(record.elem_type, place)

    def dim(self, record: Any, place: str) -> DimLike:
        """A dim without a name differs from all others; one with a strange name is the same wherever it occurs."""
        if record.HasField("dim_value"):
            if record.dim_value < 0:
                raise FileFormatError(f"{place}: the dim {record.dim_value} is negative")
            return record.dim_value
        name = record.dim_param or f"\n{len(self.dims)}"
        _check_text(place, name)
        if name not in self.dims:
            try:
                self.dims[name] = dim(name) if _DIM.fullmatch(name) else self._new_dim()
            except DimError:
                self.dims[name] = self._new_dim()
        return self.dims[name]

    def _new_dim(self) -> DimLike:
        number = len(self.dims)
        while (name := f"dim_{number}") in self.dims:
            number += 1
        self.dims.setdefault(name, symbol(name))
        return symbol(name)

    # ---- nodes

    def run(self, records: Sequence[Any], kind: str) -> None:
        """Import nodes, each after those that it reads: a cycle shows as a name that is not defined yet."""
        for i, record in enumerate(records):
            _check_text(f"{kind}[{i}]", record.op_type, record.domain)
            self.count += 10 if record.op_type in HEAVY else 1
            if self.count + living_nodes() - self.before > MAX_NODES:
                raise FileFormatError(f"{kind}[{i}]: more than {MAX_NODES} nodes, with those of bodies and functions")
            self.node(record, f"{kind}[{i}] {shown(record.op_type, 80)}")

    def node(self, record: Any, place: str) -> None:
        if max(len(record.input), len(record.output)) > MAX_OPERANDS:
            raise FileFormatError(f"{place}: more than {MAX_OPERANDS} operands or results")
        operands = [self.found(n, place) if n else None for n in record.input]
        function = self.functions.get((record.domain, record.op_type))
        if function is not None:
            results: Sequence[Any] = self.of_model(function, record, operands, place)
        else:
            results = self.operator(record, operands, place)
        if len(results) < len([n for n in record.output if n]):
            raise FileFormatError(f"{place}: {len(record.output)} results are named, but it has {len(results)}")
        for name, result in zip(record.output, results, strict=False):
            value = result if isinstance(result, Value) else Value(result)
            if value.tensor is not None:
                _check_size(value.tensor, place)
            if name:
                self.define(name, value, place)

    def operator(self, record: Any, operands: Sequence[Value | None], place: str) -> Sequence[Any]:
        if record.domain not in DOMAINS or record.op_type not in IMPORTERS:
            results = self.of_standard(record, operands, place)
            if results is not None:
                return results
            domain = f"{shown(record.domain, 80)}: " if record.domain else ""
            raise UnsupportedError(f"{place}: dlc does not read the operator {domain}{shown(record.op_type, 80)}")
        attributes = self.attributes(record, place)
        call = Call(record.op_type, operands, attributes, self.opset, len(record.output), place)
        if self.opset < 6:
            call.read.add("consumed_inputs")  # a hint to runtimes of then
        try:
            found = self.folded(call) or IMPORTERS[record.op_type](call)
        except (FileFormatError, UnsupportedError):
            raise
        except DlcError as error:
            message = error.message if len(error.message) <= 1000 else error.message[:1000] + "..."
            raise FileFormatError(f"{place}: {message}") from error
        except Exception as error:  # an operand or attribute of a kind that the operator does not take
            raise FileFormatError(f"{place}: it does not take these operands: {shown(str(error))}") from error
        if unknown := set(attributes) - call.read:
            raise UnsupportedError(f"{place}: dlc does not read its attribute {shown(min(unknown), 80)}")
        return list(found) if isinstance(found, (tuple, list)) else [found]

    def folded(self, call: Call) -> Value | None:
        """The result on shapes, where every operand is known and short."""
        fold = FOLDED.get(call.operator)
        statics = [v.static for v in call.operands if v is not None]
        if fold is None or not statics or any(a is None or a.size > MAX_FOLDED for a in statics):
            return None
        if any(a is not None and (a.ndim > 1 or a.dtype not in (object, np.int64)) for a in statics):
            return None
        if call.operator == "Cast" and dtype_of(call.int("to", 0), call.place) != "int64":
            return None
        array = np.asarray(fold(call))
        if array.size > MAX_FOLDED or array.ndim > 2:
            raise FileFormatError(f"{call.place}: a shape of {array.size} elements")
        if array.dtype == object and any(isinstance(d, int) and not -(2**63) <= d < 2**63 for d in array.flat):
            raise FileFormatError(f"{call.place}: a dim beyond int64")
        return Value(static=array)

    # ---- attributes, bodies and functions

    def attributes(self, record: Any, place: str) -> Mapping[str, Any]:
        found: dict[str, Any] = {}
        for a in record.attribute:
            _check_text(place, a.name)
            if a.name in found:
                raise FileFormatError(f"{place}: the attribute {shown(a.name)} is given twice")
            if a.ref_attr_name:
                if a.ref_attr_name in self.parameters:
                    found[a.name] = self.parameters[a.ref_attr_name]
                continue
            found[a.name] = self.attribute(a, f"{place}.{shown(a.name, 80)}")
        return found

    def attribute(self, a: Any, place: str) -> Any:
        match a.type:
            case 1:
                return float(a.f)
            case 2:
                return int(a.i)
            case 3:
                return _texts([a.s], place)[0]
            case 4:
                return self.constant(a.t, place)
            case 5:
                return Body(self, a.g, place)
            case 6:
                return list(a.floats)
            case 7:
                return list(a.ints)
            case 8:
                return _texts(a.strings, place)
        raise UnsupportedError(f"{place}: dlc does not read attributes of ONNX's type {a.type}")

    @contextmanager
    def scope(self, values: ChainMap[str, Value | None], place: str) -> Any:
        """Names defined inside are forgotten at the end; those of `values` are seen."""
        if self.depth >= MAX_DEPTH:
            raise FileFormatError(f"{place}: bodies or functions are nested more than {MAX_DEPTH} deep")
        around, self.values, self.depth = self.values, values, self.depth + 1
        try:
            yield
        finally:
            self.values, self.depth = around, self.depth - 1

    def body(self, record: Any, inputs: Sequence[Value], place: str) -> list[Value]:
        """The outputs of a body graph, given its inputs."""
        with self.scope(self.values.new_child(), place):
            if len(record.input) != len(inputs):
                raise FileFormatError(f"{place}: the body takes {len(record.input)} values, not {len(inputs)}")
            for i, (declared, value) in enumerate(zip(record.input, inputs, strict=True)):
                self.define(declared.name, value, f"{place}.input[{i}]")
            self.initialisers(record)
            self.run(record.node, f"{place}.node")
            return [self.find(o.name, f"{place}.output[{i}]") for i, o in enumerate(record.output)]

    def function(
        self, record: Any, given: Mapping[str, Any], operands: Sequence[Value | None], wanted: Sequence[str], place: str
    ) -> list[Value]:
        """The results of a function; its nodes are imported at every call, and counted. `given` are its attributes.

        `wanted` are the call's names of the results; those without a name are not looked at.
        """
        if len(operands) > len(record.input):
            raise FileFormatError(f"{place}: the function takes {len(record.input)} values, not {len(operands)}")
        around = self.opset, self.parameters
        self.opset, self.parameters = _opset(record.opset_import, self.newest), given
        try:
            with self.scope(ChainMap(), place):
                for name, value in zip_longest(record.input, operands):
                    if value is None:
                        self.values[name] = None  # left out: so it is for the nodes that take it
                    else:
                        self.define(name, value, place)
                self.run(record.node, f"{place}.node")
                named = [bool(n) for n in wanted[: len(record.output)]]
                return [self.find(o, place) if w else _NOTHING for o, w in zip(record.output, named, strict=False)]
        finally:
            self.opset, self.parameters = around

    def of_model(self, record: Any, call: Any, operands: Sequence[Value | None], place: str) -> list[Value]:
        """The results of a function of the model."""
        given = self.attributes(call, place)
        if unknown := set(given) - {*record.attribute, *(a.name for a in record.attribute_proto)}:
            raise UnsupportedError(f"{place}: the function has no attribute {shown(min(unknown), 80)}")
        defaults = {a.name: self.attribute(a, place) for a in record.attribute_proto}
        return self.function(record, defaults | dict(given), operands, call.output, place)

    def of_standard(self, call: Any, operands: Sequence[Value | None], place: str) -> list[Value] | None:
        """The results of an operator that the ONNX standard defines by a function of others; None for another one."""
        schema = schema_of(call, self.opset)
        if schema is None:
            return None
        given = {
            **{n: self.attribute(a.default_value, place) for n, a in schema.attributes.items() if a.default_value.type},
            **self.attributes(call, place),
        }
        if unknown := set(given) - set(schema.attributes):
            raise UnsupportedError(f"{place}: dlc does not read its attribute {shown(min(unknown), 80)}")
        tensors = [None if v is None else v.as_tensor() for v in operands]
        try:
            record = body_of(schema, call, self.opset, self.parameters, tensors)
        except Exception as error:  # onnx's own checks of a node that makes no sense
            raise FileFormatError(f"{place}: {shown(str(error))}") from error
        return None if record is None else self.function(record, given, operands, call.output, place)


_NOTHING = Value()


def _texts(found: Iterable[bytes], place: str) -> list[str]:
    try:
        return [t.decode() for t in found]
    except UnicodeDecodeError:
        raise FileFormatError(f"{place}: text that is not UTF-8") from None


def _check_text(place: str, *texts: object) -> None:
    """Protobuf gives bytes where a text is not UTF-8."""
    for text in texts:
        if type(text) is not str:
            raise FileFormatError(f"{place}: a name that is not UTF-8")


def _check_size(tensor: Tensor, place: str) -> None:
    """What a file fixes must fit a machine; a named dim is the caller's to choose."""
    size = product([d for d in tensor.shape if not isinstance(d, Dim)])
    if tensor.ndim > MAX_AXES or (not isinstance(size, Dim) and size > MAX_ELEMENTS):
        raise FileFormatError(
            f"{place}: its result {tensor.type} has more than {MAX_ELEMENTS} elements or {MAX_AXES} axes"
        )
