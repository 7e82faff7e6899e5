"""The operators that the ONNX standard defines by functions of others: their bodies come from the installed onnx."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dlc.frontend.onnx.arrays import NUMBERS
from dlc.ops.tensor import Tensor


def schema_of(call: Any, opset: int) -> Any:
    """What the installed onnx says of the operator of a node, or None."""
    from onnx import defs

    return defs.get_schema(call.op_type, opset, call.domain) if defs.has(call.op_type, opset, call.domain) else None


def body_of(schema: Any, call: Any, opset: int, parameters: Mapping[str, Any], operands: Sequence[Any]) -> Any:
    """The FunctionProto that an operator stands for, or None. Some depend on the node: its attributes and operands.

    `parameters` are the attributes of the function that the node is in; an operand is a Tensor, or None if left out.
    """
    from onnx import FunctionProto

    if schema.has_function:
        return schema.function_body
    if not schema.has_context_dependent_function:
        return None
    types = [b"" if t is None else _type_record(t).SerializeToString() for t in operands]
    versions = [v for v in schema.context_dependent_function_opset_versions if v <= opset]
    node = _without_references(call, parameters).SerializeToString()
    found = schema.get_context_dependent_function_with_opset_version(max(versions, default=opset), node, types)
    record = FunctionProto.FromString(found)
    return record if record.node else None


def _without_references(call: Any, parameters: Mapping[str, Any]) -> Any:
    """A node of a function's body with the attributes that its caller gives in place of references to them."""
    from onnx import NodeProto, helper

    kept = NodeProto()
    kept.CopyFrom(call)
    del kept.attribute[:]
    for a in call.attribute:
        if not a.ref_attr_name:
            kept.attribute.append(a)
        elif isinstance(value := parameters.get(a.ref_attr_name), (int, float, str, list)) and value != []:
            kept.attribute.append(helper.make_attribute(a.name, value))
    return kept


def _type_record(tensor: Tensor) -> Any:
    from onnx import helper

    shape = [d if isinstance(d, int) else str(d) for d in tensor.shape]
    return helper.make_tensor_type_proto(NUMBERS[tensor.dtype], shape)
