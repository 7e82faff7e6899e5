"""Graphs as ONNX models: `save` and `to_model`.

Inputs and outputs keep their order, inputs and states their names; weights are initialisers. Named dims are dim_params.
States that the graph updates, and the seed and step of random draws, are inputs that have a value already (an
initialiser of the same name), so that a caller may give another; each update is one more output. The model's metadata
says which: "dlc.updates" is a JSON object from the state's name to the output's.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dlc.dims import Dim, symbol
from dlc.dtypes import numpy_dtype
from dlc.errors import DTypeError, GraphError, UnsupportedError
from dlc.frontend.checkpoint import check_folder, write_atomically
from dlc.frontend.onnx import export_arrays, export_contract, export_elementwise, export_loops  # noqa: F401
from dlc.frontend.onnx.writer import ELEMENT_TYPES, Value, Writer, element_type, value_info
from dlc.ir import Graph, Node, TensorType
from dlc.passes import constant_folding, dead_code, halves, simplify
from dlc.provenance import here

if TYPE_CHECKING:
    import onnx

PathLike = str | os.PathLike[str]

EXTERNAL_ABOVE = 1_500_000_000  # bytes of weights in one file; protobuf's limit is 2 GiB
_ALIGNMENT = 4096  # bytes, of each weight in a file of its own: a page, so that readers may map it
_KEPT_INSIDE = 1024  # bytes; shapes and scalars stay in the model


def save(
    graph: Graph, path: PathLike, *, training: bool = False, external_above: int | None = EXTERNAL_ABOVE
) -> None:
    """Write `graph` as an ONNX file; `path` is replaced all or nothing.

    What `dlc.trace` gives, gradients, updates and graphs after passes can be written. Layers that act otherwise while
    training act as `training` says. Where the weights take more than `external_above` bytes they go into a second file
    beside the first, of its name with ".data" added. Raises `UnsupportedError` naming an op or dim that ONNX has
    nothing for, and `MissingFolderError`.

    >>> import tempfile, dlc
    >>> from dlc import nn
    >>> graph = dlc.trace(nn.Linear(4, 2), dlc.input("x", ("N", 4)))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(graph, folder + "/linear.onnx")
    """
    check_folder(path)
    model, weights = _model(graph, training)
    large = sum(a.nbytes for a in weights.values()) > (EXTERNAL_ABOVE if external_above is None else external_above)
    if large:
        location = os.path.basename(os.path.realpath(path)) + ".data"
        _write_external(os.path.join(os.path.dirname(os.path.realpath(path)), location), location, model, weights)
    else:
        model.graph.initializer.extend(_tensor(name, a) for name, a in weights.items())
    write_atomically(path, model.SerializeToString())


def to_model(graph: Graph, *, training: bool = False) -> onnx.ModelProto:
    """`graph` as an ONNX model in memory; see `save`.

    >>> import dlc
    >>> x = dlc.input("x", ("N", 3))
    >>> [node.op_type for node in to_model(dlc.graph([x], [dlc.exp(x) * 2])).graph.node]
    ['Exp', 'Mul']
    """
    model, weights = _model(graph, training)
    model.graph.initializer.extend(_tensor(name, a) for name, a in weights.items())
    return model


# ---------------------------------------------------------------- the model


def _model(graph: Graph, training: bool) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """The model without its initialisers, and those."""
    try:
        from onnx import helper
    except ImportError:
        raise UnsupportedError(
            "writing ONNX needs the package onnx; install it with: pip install 'dlc[onnx]'", where=here()
        ) from None
    if not isinstance(graph, Graph):
        raise GraphError(
            f"onnx.save writes a graph, not a {type(graph).__name__}; make one with dlc.trace(model, inputs)",
            where=here(),
        )
    if any(n.attrs["leaf"].name == "training" for n in graph.ambients):
        graph = _in_mode(graph, training)
    _check_dtypes(graph)
    graph = halves(graph)  # ONNX Runtime computes little in float16 and bfloat16, but converts them
    w = Writer()
    values, inputs, defaults = _leaves(w, graph)
    results = w.graph(graph, values)
    outputs, updates = _outputs(w, graph, results)
    nodes = _reachable(w.nodes, {name for name, _ in outputs})
    read = _names_read(nodes) | defaults
    declared = [value_info(n, t) for n, t in inputs]
    made = {o for n in nodes for o in n.output} - {name for name, _ in outputs}
    proto = helper.make_graph(
        nodes,
        "dlc",
        declared,
        [value_info(n, t) for n, t in outputs],
        value_info=[value_info(n, t) for n, t in w.types.items() if n in made],
    )
    opsets = [helper.make_opsetid("", w.opset)]
    model = helper.make_model(proto, opset_imports=opsets, ir_version=helper.find_min_ir_version_for(opsets))
    model.producer_name = "dlc"
    if updates:
        model.metadata_props.add(key="dlc.updates", value=json.dumps(updates))
    return model, {n: a for n, a in w.initialisers.items() if n in read}


def _in_mode(graph: Graph, training: bool) -> Graph:
    """`graph` for training or not, without the side of each choice that is not taken; other ambients stay open."""
    from dlc.ops.leaves import TRAINING, scalar

    bound = graph.substitute({TRAINING.node: scalar(training, "bool").node})
    return dead_code(simplify(constant_folding(bound)))


def _check_dtypes(graph: Graph) -> None:
    for node in graph.nodes:
        for t in getattr(node.type, "items", (node.type,)):
            if t.dtype not in ELEMENT_TYPES:
                raise DTypeError(f"ONNX has no dtype {t.dtype}, which {node.op.name} has", where=graph.where(node))


def _leaves(w: Writer, graph: Graph) -> tuple[dict[Node, Value], list[tuple[Value, TensorType]], set[Value]]:
    """The names of inputs, states and constants; what the model declares as inputs; those that have a value."""
    values: dict[Node, Value] = {}
    inputs: list[tuple[Value, TensorType]] = []
    defaults: set[Value] = set()
    for node in graph.inputs:
        values[node] = w.unique(_label(node))
        inputs.append((values[node], node.type))
        for axis, d in enumerate(node.shape):
            if isinstance(d, Dim) and d == symbol(str(d)):
                w.symbols.setdefault(str(d), (values[node], axis))
    updated = {state for state, _ in graph.updates}
    for node in (*graph.states, *graph.ambients):
        array = node.attrs["leaf"].value if node.op.name == "state" else np.zeros((), numpy_dtype(node.dtype))
        values[node] = w.initialiser(array, _label(node))
        if node in updated or node.op.name == "ambient":
            inputs.append((values[node], node.type))
            defaults.add(values[node])
    return values, inputs, defaults


def _label(node: Node) -> str:
    assert node.leaf is not None
    return node.leaf.name or node.op.name


def _outputs(
    w: Writer, graph: Graph, results: Sequence[Value]
) -> tuple[list[tuple[Value, TensorType]], dict[str, str]]:
    """Outputs with names of their own, and which of them are updates of states."""
    single = len(graph.outputs) == 1
    names = [w.unique("output" if single else f"output_{i}") for i in range(len(graph.outputs))]
    targets = [_label(state) for state, _ in graph.updates]
    names += [w.unique(f"{name}.updated") for name in targets]
    made = {o for n in w.nodes for o in n.output}
    renamed: dict[Value, Value] = {}
    for result, name in zip(results, names, strict=True):
        if result in made and result not in renamed:
            renamed[result] = name
        else:  # an input, a weight, or an output already
            w.nodes.append(_identity(result, name))
    _rename(w.nodes, renamed)
    types = [n.type for n in graph.roots]
    return list(zip(names, types, strict=True)), dict(zip(targets, names[len(graph.outputs) :], strict=True))


def _identity(source: Value, name: Value) -> onnx.NodeProto:
    from onnx import helper

    return helper.make_node("Identity", [source], [name], name=name)


def _bodies(node: onnx.NodeProto) -> Iterable[onnx.GraphProto]:
    return (a.g for a in node.attribute if a.HasField("g"))


def _rename(nodes: Iterable[onnx.NodeProto], names: dict[Value, Value]) -> None:
    for node in nodes:
        for field in (node.input, node.output):
            for i, name in enumerate(field):
                if name in names:
                    field[i] = names[name]
        for body in _bodies(node):
            _rename(body.node, names)


def _names_read(nodes: Iterable[onnx.NodeProto]) -> set[Value]:
    found: set[Value] = set()
    for node in nodes:
        found.update(node.input)
        for body in _bodies(node):
            found |= _names_read(body.node)
            found.update(o.name for o in body.output)
    return found


def _reachable(nodes: Sequence[onnx.NodeProto], wanted: set[Value]) -> list[onnx.NodeProto]:
    """The nodes that `wanted` needs: those that became part of another are dropped."""
    needed, kept = set(wanted), []
    for node in reversed(nodes):
        if any(o in needed for o in node.output):
            needed |= _names_read([node])
            kept.append(node)
    return kept[::-1]


# ---------------------------------------------------------------- weights


def _little(array: Any) -> Any:
    return np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)


def _tensor(name: str, array: Any) -> onnx.TensorProto:
    from onnx import TensorProto

    tensor = TensorProto(name=name, data_type=element_type(array.dtype.name), dims=array.shape)
    tensor.raw_data = _little(array).tobytes()
    return tensor


def _write_external(path: str, location: str, model: onnx.ModelProto, weights: dict[str, Any]) -> None:
    """Write the large weights into a file of their own and refer to them; the small stay in the model."""
    from onnx import TensorProto

    offset, chunks = 0, []
    for name, array in weights.items():
        if array.nbytes < _KEPT_INSIDE:
            model.graph.initializer.append(_tensor(name, array))
            continue
        tensor = TensorProto(name=name, data_type=element_type(array.dtype.name), dims=array.shape)
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", offset), ("length", array.nbytes)):
            tensor.external_data.add(key=key, value=str(value))
        model.graph.initializer.append(tensor)
        gap = -array.nbytes % _ALIGNMENT
        chunks += [array, bytes(gap)]
        offset += array.nbytes + gap
    write_atomically(path, (c if isinstance(c, bytes) else _little(c).reshape(-1).view(np.uint8).data for c in chunks))
