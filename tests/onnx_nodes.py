"""Models of a few nodes, and what dlc, ONNX Runtime and onnx's own reference make of them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper, reference

import dlc
from dlc.frontend.onnx import Model
from dlc.ir import Graph

onnxruntime.set_default_logger_severity(4)


def declared(name: str, value: Any) -> Any:
    """A value of the dtype and shape of an array, or of a dtype whose shape is not said."""
    if isinstance(value, str):
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(value)), None)
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)


def body_of(nodes: Sequence[Any], inputs: dict[str, Any], outputs: dict[str, Any], name: str = "body") -> Any:
    """A graph that is an attribute."""
    pairs = ([declared(*v) for v in values.items()] for values in (inputs, outputs))
    return helper.make_graph(list(nodes), name, *pairs)


def model_of(
    nodes: Sequence[Any],
    inputs: dict[str, Any],
    outputs: dict[str, Any],
    opset: int,
    constants: dict[str, Any] | None = None,
    domain: str = "",
) -> onnx.ModelProto:
    """A model of nodes; inputs are arrays, of whose types the model's inputs are, and outputs dtypes or arrays."""
    graph = body_of(nodes, inputs, outputs, "g")
    for name, array in (constants or {}).items():
        graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    imports = [helper.make_opsetid(domain, opset)]
    return helper.make_model(graph, opset_imports=imports, ir_version=min(10, helper.find_min_ir_version_for(imports)))


def one_node(
    op: str, arrays: Sequence[Any], opset: int, dtypes: Sequence[str] = ("float32",), fixed: Sequence[int] = (),
    **attributes: Any,
) -> onnx.ModelProto:  # fmt: skip
    """A model of one node. Operands that are None are left out, those numbered in `fixed` are constants."""
    names = ["" if a is None else f"x{i}" for i, a in enumerate(arrays)]
    found = {n: a for n, a in zip(names, arrays, strict=True) if n}
    constants = {f"x{i}": arrays[i] for i in fixed}
    results = {f"y{i}": d for i, d in enumerate(dtypes) if d}
    node = helper.make_node(op, names, [f"y{i}" if d else "" for i, d in enumerate(dtypes)], **attributes)
    inputs = {n: a for n, a in found.items() if n not in constants}
    return model_of([node], inputs, results, opset, constants)


def graph_of(model: onnx.ModelProto) -> Graph:
    """What dlc reads."""
    return dlc.onnx.load(model.SerializeToString())


def by_dlc(model: onnx.ModelProto, arrays: Sequence[Any], backend: str = "reference") -> list[Any]:
    """Its results by dlc; inputs that decide shapes may be among them."""
    return list(Model(model, backend)(*(a for a in arrays if a is not None)))


def by_runtime(model: onnx.ModelProto, arrays: Sequence[Any]) -> list[Any]:
    """Its results by ONNX Runtime."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    given = {i.name: a for i, a in zip(session.get_inputs(), (a for a in arrays if a is not None), strict=True)}
    return list(session.run(None, given))


def by_reference(model: onnx.ModelProto, arrays: Sequence[Any]) -> list[Any]:
    """Its results by onnx's own reference."""
    evaluator = reference.ReferenceEvaluator(model)
    given = dict(zip(evaluator.input_names, (a for a in arrays if a is not None), strict=True))
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return list(evaluator.run(None, given))
