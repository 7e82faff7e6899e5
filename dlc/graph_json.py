"""Graphs as JSON text, and back. Nothing in a file is executed or imported; damage gives `FileFormatError`.

The text holds one record a node: op, operands by number, attributes. Types are left out: they follow from the ops, so
a file cannot state a wrong one. Arrays are stored as base64 of their little-endian bytes. States come back as new
states: with their stored value if `values=True`, else with zeros until one is assigned.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np

from dlc.dims import Dim, DimLike, dim
from dlc.dtypes import ALL, name_of, numpy_dtype
from dlc.errors import DimError, DlcError, FileFormatError
from dlc.ir import Graph, Leaf, Literal, Node, TensorType, TupleType, make_node
from dlc.ops import fused as _fused  # noqa: F401 - it enters its op, for graphs after fusion
from dlc.ops.definition import CATALOGUE, Op
from dlc.ops.leaves import SEED, STEP, TRAINING, InputLeaf
from dlc.provenance import Origin
from dlc.state import State

FORMAT = "dlc-graph"
VERSION = 1
MAX_DEPTH = 16  # of bodies within bodies, and of tuples within tuples
MAX_AXES = 64
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_PHASES = ("forward", "backward", "update")
_AMBIENTS = {t.node.attrs["leaf"].name: t.node for t in (TRAINING, SEED, STEP)}


def graph_to_json(graph: Graph, *, values: bool = False, origins: bool = True, indent: int | None = None) -> str:
    """`graph` as JSON text, the same text for the same graph.

    `values` stores the values of states too (they materialise); `origins` where each node was written.

    >>> import dlc
    >>> x = dlc.input("x", ("N", 3))
    >>> graph = dlc.graph([x], [dlc.exp(x) * 2])
    >>> graph_from_json(graph_to_json(graph)).same_structure(graph)
    True
    """
    record = {"format": FORMAT, "version": VERSION, **_Writer(values, origins).graph(graph)}
    return json.dumps(record, indent=indent, ensure_ascii=True, allow_nan=False)


def graph_from_json(text: str | bytes) -> Graph:
    """The graph that `graph_to_json` wrote. Inputs and states are new ones of the same names.

    Raises `FileFormatError`, saying what is wrong and where, for anything but such a text.

    >>> graph_from_json('{"format": "something else"}')
    Traceback (most recent call last):
    dlc.errors.FileFormatError: not a dlc graph: its format is 'something else'
    """
    try:
        record = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"not JSON: {str(error)[:200]}") from None
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        found = record.get("format") if isinstance(record, dict) else type(record).__name__
        raise FileFormatError(f"not a dlc graph: its format is {found!r:.100}")
    if record.get("version") != VERSION:
        raise FileFormatError(f"a dlc graph of version {record.get('version')!r:.50}; this dlc reads version {VERSION}")
    return _read_graph(record, "graph", depth=0)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


# ---------------------------------------------------------------- writing


class _Writer:
    def __init__(self, values: bool, origins: bool) -> None:
        self.values = values
        self.origins = origins

    def graph(self, graph: Graph) -> dict[str, Any]:
        numbers = {node: i for i, node in enumerate(graph.nodes)}
        record: dict[str, Any] = {
            "inputs": [numbers[n] for n in graph.inputs],
            "outputs": [numbers[n] for n in graph.outputs],
            "updates": [[numbers[s], numbers[v]] for s, v in graph.updates],
            "nodes": [self.node(n, numbers) for n in graph.nodes],
        }
        if self.origins:
            places = graph.origins  # by number, whatever the order in which they were found
            record["origins"] = {str(i): [list(o) for o in places[n]] for n, i in numbers.items() if n in places}
        return record

    def node(self, node: Node, numbers: dict[Node, int]) -> dict[str, Any]:
        record: dict[str, Any] = {"op": node.op.name}
        if node.inputs:
            record["inputs"] = [numbers[x] for x in node.inputs]
        if node.attrs:
            record["attrs"] = {k: self.attribute(node.attrs[k]) for k in sorted(node.attrs)}
        return record

    def attribute(self, value: Any) -> Any:
        match value:
            case None | bool() | int() | str():
                return value
            case float():
                return {"float": value.hex()}
            case tuple():
                return [self.attribute(v) for v in value]
            case Dim():
                return {"dim": str(value)}
            case Literal(array=array):
                return {"array": _array_record(array)}
            case Graph():
                return {"graph": self.graph(value)}
            case Leaf():
                record = {"name": value.name, **_type_record(value.type)}  # type: ignore[attr-defined]
                if isinstance(value, State) and self.values:
                    record["value"] = _array_record(value.value)
                return {"leaf": record}
        raise FileFormatError(f"an attribute of type {type(value).__name__} has no form in JSON")


def _type_record(t: TensorType) -> dict[str, Any]:
    return {"dtype": t.dtype, "shape": [str(d) if isinstance(d, Dim) else d for d in t.shape]}


def _array_record(array: np.ndarray[Any, Any]) -> dict[str, Any]:
    little = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
    data = base64.b64encode(little.tobytes()).decode("ascii")
    return {"dtype": name_of(array.dtype), "shape": list(array.shape), "data": data}


# ---------------------------------------------------------------- reading


def _read_graph(record: Any, place: str, depth: int) -> Graph:
    """Nodes are built in the order of the file, and operands come before their users, so there are no cycles."""
    if depth > MAX_DEPTH:
        raise FileFormatError(f"{place}: bodies are nested more than {MAX_DEPTH} deep")
    optional = ("updates", "origins", *(("format", "version") if depth == 0 else ()))
    fields = _fields(record, place, ("inputs", "outputs", "nodes"), optional)
    nodes: list[Node] = []
    for i, entry in enumerate(_list(fields["nodes"], f"{place}.nodes")):
        nodes.append(_read_node(entry, nodes, f"{place}.nodes[{i}]", depth))
    updates = []
    for i, pair in enumerate(_list(fields.get("updates", []), f"{place}.updates")):
        at = f"{place}.updates[{i}]"
        if len(_list(pair, at)) != 2:
            raise FileFormatError(f"{at}: an update is a pair of node numbers")
        updates.append((_pick(nodes, pair[0], at), _pick(nodes, pair[1], at)))
    inputs = tuple(_pick(nodes, n, f"{place}.inputs") for n in _list(fields["inputs"], f"{place}.inputs"))
    outputs = tuple(_pick(nodes, n, f"{place}.outputs") for n in _list(fields["outputs"], f"{place}.outputs"))
    origins = _origins(fields.get("origins", {}), nodes, f"{place}.origins")
    try:
        return Graph(inputs, outputs, tuple(updates), origins)
    except DlcError as error:
        raise FileFormatError(f"{place}: {error.message}") from error


def _read_node(record: Any, nodes: Sequence[Node], place: str, depth: int) -> Node:
    fields = _fields(record, place, ("op",), ("inputs", "attrs"))
    op = CATALOGUE.get(fields["op"]) if isinstance(fields["op"], str) else None
    if op is None:
        raise FileFormatError(f"{place}: there is no op {fields['op']!r:.100}")
    operands = tuple(_pick(nodes, n, f"{place}.inputs") for n in _list(fields.get("inputs", []), f"{place}.inputs"))
    attrs = fields.get("attrs", {})
    if not isinstance(attrs, dict):
        raise FileFormatError(f"{place}.attrs: expected an object, found {type(attrs).__name__}")
    if op.name in ("input", "state", "ambient"):
        return _leaf_node(op, operands, attrs, place)
    values = {name: _attribute(v, f"{place}.attrs.{name:.50}", depth) for name, v in attrs.items()}
    try:
        return _check_type(make_node(op, operands, values), place)
    except FileFormatError:
        raise
    except DlcError as error:
        raise FileFormatError(f"{place}: {error.message}") from error
    except Exception as error:  # a type rule met an attribute or operand of a kind that it does not expect
        raise FileFormatError(f"{place}: {op.name} does not take these attributes: {str(error)[:200]}") from error


def _attribute(value: Any, place: str, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise FileFormatError(f"{place}: nested more than {MAX_DEPTH} deep")
    match value:
        case None | bool():
            return value
        case str():
            return _text(value, place)
        case int():
            return _int64(value, place)
        case list():
            return tuple(_attribute(v, place, depth + 1) for v in value)
        case {"float": str() as text} if len(value) == 1:
            return _float(text, place)
        case {"dim": str() as text} if len(value) == 1:
            return _dim(text, place)
        case {"array": record} if len(value) == 1:
            return Literal(_array(record, place))
        case {"graph": record} if len(value) == 1:
            return _read_graph(record, place, depth + 1)
    raise FileFormatError(f"{place}: {value!r:.100} is not an attribute value")


def _leaf_node(op: Op, operands: tuple[Node, ...], attrs: dict[str, Any], place: str) -> Node:
    """An input, state or ambient value: inputs and states are new, ambient values the ones that there are."""
    if operands:
        raise FileFormatError(f"{place}: {op.name} takes no operands")
    outer = _fields(_fields(attrs, f"{place}.attrs", ("leaf",))["leaf"], f"{place}.attrs.leaf", ("leaf",))
    place = f"{place}.attrs.leaf"
    fields = _fields(outer["leaf"], place, ("name", "dtype", "shape"), ("value",))
    name, type_ = fields["name"], _type({k: fields[k] for k in ("dtype", "shape")}, place)
    if not isinstance(name, str) or not name:
        raise FileFormatError(f"{place}: a name must be a non-empty string, not {name!r:.100}")
    if op.name == "input":
        return make_node(op, (), {"leaf": InputLeaf(name, type_)})
    if op.name == "ambient":
        if name not in _AMBIENTS or _AMBIENTS[name].type != type_:
            raise FileFormatError(f"{place}: there is no ambient value {name!r:.100} of type {type_}")
        return _AMBIENTS[name]
    if type_.symbols:
        raise FileFormatError(f"{place}: the state {name!r:.100} is {type_}, but states have shapes of plain ints")
    value = _array(fields["value"], f"{place}.value") if "value" in fields else None
    if value is not None and (value.dtype.name, value.shape) != (type_.dtype, type_.shape):
        raise FileFormatError(
            f"{place}: the state {name!r:.100} is {type_}, its value {value.dtype.name}{list(value.shape)}"
        )
    state = State(name, type_, lambda: 0)
    if value is not None:
        state.assign(value)
    return make_node(op, (), {"leaf": state})


def _check_type(node: Node, place: str) -> Node:
    """A type rule may let through what is no shape at all, when an attribute is of the wrong kind."""
    for t in node.type.items if isinstance(node.type, TupleType) else (node.type,):
        for d in t.shape:
            if not isinstance(d, Dim) and (not isinstance(d, int) or isinstance(d, bool) or d < 0):
                raise FileFormatError(f"{place}: {node.op.name} would have the dimension {d!r:.100}")
    return node


def _fields(record: Any, place: str, required: Sequence[str], optional: Sequence[str] = ()) -> dict[str, Any]:
    if not isinstance(record, dict):
        raise FileFormatError(f"{place}: expected an object, found {type(record).__name__}")
    if missing := [k for k in required if k not in record]:
        raise FileFormatError(f"{place}: {', '.join(missing)} is missing")
    if unknown := [k for k in record if k not in required and k not in optional]:
        raise FileFormatError(f"{place}: unknown field {unknown[0]!r:.100}")
    return record


def _list(value: Any, place: str) -> list[Any]:
    if not isinstance(value, list):
        raise FileFormatError(f"{place}: expected a list, found {type(value).__name__}")
    return value


def _pick(nodes: Sequence[Node], number: Any, place: str) -> Node:
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < len(nodes):
        raise FileFormatError(f"{place}: {number!r:.100} is not the number of one of the {len(nodes)} nodes before")
    return nodes[number]


def _int64(value: int, place: str) -> int:
    if not -(2**63) <= value < 2**64:
        raise FileFormatError(f"{place}: the integer {value!r:.100} does not fit 64 bits")
    return value


def _text(value: str, place: str) -> str:
    """Attribute strings name things (dtypes, modes); anything else has no business in generated code."""
    if not _NAME.fullmatch(value):
        raise FileFormatError(f"{place}: {value!r:.100} is not a name")
    return value


def _float(text: str, place: str) -> float:
    try:
        return float.fromhex(text)
    except (ValueError, OverflowError):
        raise FileFormatError(f"{place}: {text!r:.100} is not a hexadecimal float") from None


def _dim(text: str, place: str) -> DimLike:
    try:
        return dim(text)
    except DimError as error:
        raise FileFormatError(f"{place}: {error.message[:300]}") from None


def _type(record: Any, place: str) -> TensorType:
    fields = _fields(record, place, ("dtype", "shape"))
    if fields["dtype"] not in ALL:
        raise FileFormatError(f"{place}: there is no dtype {fields['dtype']!r:.100}")
    shape = _list(fields["shape"], f"{place}.shape")
    if len(shape) > MAX_AXES:
        raise FileFormatError(f"{place}: a shape of {len(shape)} axes; the limit is {MAX_AXES}")
    dims: list[DimLike] = []
    for d in shape:
        if isinstance(d, str):
            dims.append(_dim(d, place))
        elif isinstance(d, int) and not isinstance(d, bool) and 0 <= d < 2**63:
            dims.append(d)
        else:
            raise FileFormatError(f"{place}: {d!r:.100} is not a dimension")
    return TensorType(fields["dtype"], tuple(dims))


def _array(record: Any, place: str) -> np.ndarray[Any, Any]:
    fields = _fields(record, place, ("dtype", "shape", "data"))
    t = _type({k: fields[k] for k in ("dtype", "shape")}, place)
    if t.symbols or not isinstance(fields["data"], str):
        raise FileFormatError(f"{place}: an array has a shape of plain ints, and base64 data")
    size = math.prod(t.shape) * numpy_dtype(t.dtype).itemsize
    if len(fields["data"]) != 4 * -(-size // 3):
        raise FileFormatError(f"{place}: {t} needs {size} bytes, the data has about {3 * len(fields['data']) // 4}")
    try:
        data = base64.b64decode(fields["data"], validate=True)
        if len(data) != size or (t.dtype == "bool" and data.strip(b"\0\1")):
            raise ValueError
        little = np.frombuffer(data, numpy_dtype(t.dtype).newbyteorder("<"))
    except (ValueError, binascii.Error):
        raise FileFormatError(f"{place}: the data is not base64 of {t}") from None
    return little.astype(t.dtype).reshape(t.shape)


def _origins(record: Any, nodes: Sequence[Node], place: str) -> dict[Node, tuple[Origin, ...]]:
    if not isinstance(record, dict):
        raise FileFormatError(f"{place}: expected an object, found {type(record).__name__}")
    origins: dict[Node, tuple[Origin, ...]] = {}
    for number, places in record.items():
        node = _pick(
            nodes, int(number) if number.isascii() and number.isdigit() and len(number) < 19 else number, place
        )
        for entry in _list(places, place):
            match entry:
                case [str(), int(), str(), str() as phase, *classes] if (
                    phase in _PHASES and len(classes) <= 1 and all(isinstance(c, str) for c in classes)
                ):
                    origins[node] = (*origins.get(node, ()), Origin(*entry))
                case _:
                    form = "[file, line, module, phase, classes]"
                    raise FileFormatError(f"{place}: {entry!r:.100} is not a place {form}")
    return origins
