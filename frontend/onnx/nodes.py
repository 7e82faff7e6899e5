"""The nodes of a model, one after the other: of its graph, of the bodies in it and of the functions it calls."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import zip_longest
from typing import Any

import numpy as np

from dlc.dims import Dim, product
from dlc.dtypes import is_floating
from dlc.errors import DlcError, FileFormatError, UnsupportedError, shown
from dlc.frontend.onnx.arrays import MAX_AXES, MAX_ELEMENTS, array_of, dtype_of
from dlc.frontend.onnx.call import Body, Call, Value
from dlc.frontend.onnx.importers import DRAWS, FOLDED, HEAVY, IMPORTERS
from dlc.frontend.onnx.names import Names
from dlc.frontend.onnx.reading import check_text, opset_of, texts_of
from dlc.frontend.onnx.standard import body_of, schema_of
from dlc.ir import TensorType, living_nodes
from dlc.ops.definition import Array
from dlc.ops.tensor import Tensor, state_node
from dlc.state import State

DOMAINS = ("", "ai.onnx", "ai.onnx.preview.training", "ai.onnx.ml")  # no two have operators of the same name
MAX_NODES = 40_000  # with those of bodies and functions at every call, and all that they become
MAX_SPENT = 2**26  # elements that are computed to learn what decides shapes, with 300 for each node
SWEEP = 4000  # nodes that a Gradient counts as: it goes through all that it depends on
MAX_OPERANDS = 4096  # of a node, and inputs and outputs of a model
MAX_ITEMS = 2**16  # of a list that is an attribute: sixteen count as a node
MAX_FOLDED = 4096  # elements: shapes are short
_NOTHING = Value()


class Nodes:
    """What the nodes read so far have defined, and counts of what they have asked for.

    `stateful` are the initialisers that become states whatever their dtype.
    """

    def __init__(self, model: Any, path: Any, newest: int, stateful: Collection[str]) -> None:
        self.path, self.stateful = path, stateful
        self.opset, self.newest = opset_of(model.opset_import, newest), newest
        self.functions = {(f.domain, f.name): f for f in model.functions}
        self.outermost = [model.graph.node, *(f.node for f in model.functions)]
        self.names = Names()
        self.parameters: Mapping[str, Any] = {}  # the attributes of the function that is being imported
        self.elements = self.count = self.drawn = self.spent = 0
        self.turns: tuple[Tensor, ...] = ()  # the numbers of the steps of the loops around
        self.kept: dict[str, dict[str, Value | None]] = {}  # the initialisers of each body, by its place
        self.before = living_nodes()

    @cached_property
    def draws(self) -> bool:
        """Whether random numbers are drawn somewhere in the model."""
        return _draws([*self.outermost])

    # ---- constants

    def initialisers(self, record: Any) -> None:
        if record.sparse_initializer:
            raise UnsupportedError("dlc does not read sparse initialisers")
        if len(record.initializer) > MAX_NODES:
            raise FileFormatError(f"more than {MAX_NODES} initialisers")
        for i, tensor in enumerate(record.initializer):
            self.names.define(tensor.name, self.initialiser(tensor, f"initializer[{i}]"), f"initializer[{i}]")

    def initialiser(self, tensor: Any, place: str) -> Value:
        array = self.constant(tensor, place)
        if tensor.name not in self.stateful and (not is_floating(array.dtype) or array.ndim == 0):
            return Value(static=array)
        state = State(self.names.label(tensor.name, "weight"), TensorType(array.dtype.name, array.shape), lambda: array)
        known = None if tensor.name in self.stateful else array
        return Value(Tensor(state_node(state)), known)

    def constant(self, tensor: Any, place: str) -> Array:
        array = array_of(tensor, self.path, place)
        self.elements += array.size
        if self.elements > MAX_ELEMENTS:
            raise FileFormatError(f"{place}: more than {MAX_ELEMENTS} elements in all constants")
        return array

    def spend(self, size: int, place: str) -> None:
        """Count elements that are computed to learn what decides shapes."""
        self.spent += size
        if self.spent > MAX_SPENT:
            raise FileFormatError(f"{place}: more than {MAX_SPENT} elements to compute while reading the model")

    # ---- nodes

    def counted(self, nodes: int, place: str) -> None:
        """Count nodes of the file, beside those that they have become."""
        self.count += nodes
        if self.count + living_nodes() - self.before > MAX_NODES:
            raise FileFormatError(f"{place}: more than {MAX_NODES} nodes, with those of bodies and functions")

    def run(self, records: Sequence[Any], kind: str) -> None:
        """Import nodes, each after those that it reads: a cycle shows as a name that is not defined yet."""
        if len(records) > MAX_NODES:
            raise FileFormatError(f"{kind}: {len(records)} nodes; at most {MAX_NODES} are read")
        for i, record in enumerate(records):
            check_text(f"{kind}[{i}]", record.op_type, record.domain)
            weight = SWEEP if record.op_type == "Gradient" else 10 if record.op_type in HEAVY else 1
            self.counted(weight, f"{kind}[{i}]")
            self.node(record, f"{kind}[{i}] {shown(record.op_type, 80)}")

    def node(self, record: Any, place: str) -> None:
        if max(len(record.input), len(record.output)) > MAX_OPERANDS:
            raise FileFormatError(f"{place}: more than {MAX_OPERANDS} operands or results")
        operands = [self.names.found(n, place) if n else None for n in record.input]
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
                check_size(value.tensor, place)
            if name:
                self.names.define(name, value, place)

    def operator(self, record: Any, operands: Sequence[Value | None], place: str) -> Sequence[Any]:
        if record.domain not in DOMAINS or record.op_type not in IMPORTERS:
            results = self.of_standard(record, operands, place)
            if results is not None:
                return results
            domain = f"{shown(record.domain, 80)}: " if record.domain else ""
            raise UnsupportedError(f"{place}: dlc does not read the operator {domain}{shown(record.op_type, 80)}")
        attributes = self.attributes(record, place)
        call = Call(
            record.op_type, operands, attributes, self.opset, len(record.output), place,
            named=lambda name: self.names.find(name, place), spend=lambda size: self.spend(size, place),
            counted=lambda nodes: self.counted(nodes, place),
            turns=self.turns, ordinal=self.drawn,
        )  # fmt: skip
        self.drawn += record.op_type in DRAWS
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
        self.counted(len(record.attribute) // 8, place)
        for a in record.attribute:
            check_text(place, a.name)
            if a.name in found:
                raise FileFormatError(f"{place}: the attribute {shown(a.name)} is given twice")
            if a.ref_attr_name:
                if a.ref_attr_name in self.parameters:
                    found[a.name] = self.parameters[a.ref_attr_name]
                continue
            found[a.name] = self.attribute(a, f"{place}.{shown(a.name, 80)}")
        return found

    def attribute(self, a: Any, place: str) -> Any:
        items = len(a.ints) + len(a.floats) + len(a.strings)
        self.count += items // 16
        if items > MAX_ITEMS:
            raise FileFormatError(f"{place}: a list of {items} items; the limit is {MAX_ITEMS}")
        match a.type:
            case 1:
                return float(a.f)
            case 2:
                return int(a.i)
            case 3:
                return texts_of([a.s], place)[0]
            case 4:
                return self.constant(a.t, place)
            case 5:
                return Body(self, a.g, place)
            case 6:
                return list(a.floats)
            case 7:
                return list(a.ints)
            case 8:
                return texts_of(a.strings, place)
            case 13:  # a type: what an empty optional would have
                return a.tp
        raise UnsupportedError(f"{place}: dlc does not read attributes of ONNX's type {a.type}")

    def body(self, record: Any, inputs: Sequence[Value], place: str, turn: Tensor | None) -> list[Value]:
        """The outputs of a body graph, given its inputs; `turn` is the number of a loop's step.

        Its initialisers are the same whenever it is run: a weight is one state, however many steps read it. It counts
        as a node, and more where it hands on many values.
        """
        self.counted(1 + (len(record.input) + len(record.output)) // 8, place)
        if place not in self.kept:
            with self.names.scope(self.names.values.new_child(), place):
                self.initialisers(record)
                self.kept[place] = dict(self.names.values.maps[0])
        own = self.names.values.new_child(self.kept[place]).new_child()
        with self.names.scope(own, place), self.turned(turn):
            if len(record.input) != len(inputs):
                raise FileFormatError(f"{place}: the body takes {len(record.input)} values, not {len(inputs)}")
            for i, (declared, value) in enumerate(zip(record.input, inputs, strict=True)):
                self.names.define(declared.name, value, f"{place}.input[{i}]")
            self.run(record.node, f"{place}.node")
            return [self.names.find(o.name, f"{place}.output[{i}]") for i, o in enumerate(record.output)]

    @contextmanager
    def turned(self, turn: Tensor | None) -> Iterator[None]:
        """Within a step of a loop."""
        around = self.turns
        self.turns = around if turn is None else (*around, turn)
        try:
            yield
        finally:
            self.turns = around

    def function(
        self, record: Any, given: Mapping[str, Any], operands: Sequence[Value | None], wanted: Sequence[str], place: str
    ) -> list[Value]:
        """The results of a function; its nodes are imported at every call, and counted. `given` are its attributes.

        `wanted` are the call's names of the results; those without a name are not looked at.
        """
        if len(operands) > len(record.input):
            raise FileFormatError(f"{place}: the function takes {len(record.input)} values, not {len(operands)}")
        around = self.opset, self.parameters
        self.opset, self.parameters = opset_of(record.opset_import, self.newest), given
        try:
            with self.names.scope(ChainMap(), place):
                for name, value in zip_longest(record.input, operands):
                    if value is None:
                        self.names.values[name] = None  # left out: so it is for the nodes that take it
                    else:
                        self.names.define(name, value, place)
                self.run(record.node, f"{place}.node")
                results = zip(record.output, wanted, strict=False)
                return [self.names.find(name, place) if given_to else _NOTHING for name, given_to in results]
        finally:
            self.opset, self.parameters = around

    def of_model(self, record: Any, call: Any, operands: Sequence[Value | None], place: str) -> list[Value]:
        """The results of a function of the model, which counts as more nodes where it declares very much."""
        self.counted((len(record.input) + len(record.attribute) + len(record.attribute_proto)) // 8, place)
        given = self.attributes(call, place)
        if unknown := set(given) - {*record.attribute, *(a.name for a in record.attribute_proto)}:
            raise UnsupportedError(f"{place}: the function has no attribute {shown(min(unknown), 80)}")
        defaults = {a.name: self.attribute(a, f"{place}.{shown(a.name, 80)}") for a in record.attribute_proto}
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
        if any(v is not None and not v.is_tensor for v in operands):
            raise FileFormatError(f"{place}: a sequence, or an empty optional, where a tensor is taken")
        tensors = [None if v is None else v.as_tensor() for v in operands]
        try:
            record = body_of(schema, call, self.opset, self.parameters, tensors)
        except Exception as error:  # onnx's own checks of a node that makes no sense
            raise FileFormatError(f"{place}: {shown(str(error))}") from error
        return None if record is None else self.function(record, given, operands, call.output, place)


def _draws(bodies: list[Any]) -> bool:
    """Whether random numbers are drawn by nodes of some graphs, or of the bodies within; of too many, they may be."""
    count = 0
    while bodies:
        records = bodies.pop()
        count += len(records)
        if count > MAX_NODES:
            return True
        for record in records:
            if record.op_type in DRAWS:
                return True
            bodies += [a.g.node for a in record.attribute if a.HasField("g")]
    return False


def check_size(tensor: Tensor, place: str) -> None:
    """What a file fixes must fit a machine; a named dim is the caller's to choose."""
    size = product([d for d in tensor.shape if not isinstance(d, Dim)])
    if tensor.ndim > MAX_AXES or (not isinstance(size, Dim) and size > MAX_ELEMENTS):
        raise FileFormatError(
            f"{place}: its result {tensor.type} has more than {MAX_ELEMENTS} elements or {MAX_AXES} axes"
        )
