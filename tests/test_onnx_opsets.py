"""Each form of each operator, in every opset that changed it: against ONNX Runtime, or onnx's own reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_layer_forms
import pytest
from onnx import defs
from onnx_forms import Form
from onnx_nodes import by_reference, by_runtime, graph_of, one_node

from dlc.frontend.onnx import importers
from dlc.ops.interpret import interpret

# What has tests of its own, in other files; and an operator that nothing else runs in 22, which adds a dtype.
ELSEWHERE = {
    *importers.DRAWS, *importers.SEQUENCES, "BitCast", "DFT", "DeformConv", "GridSample", "MaxRoiPool",
    "MelWeightMatrix", "Resize", "RoiAlign", "STFT", "TensorScatter",
} - {"Dropout"}  # fmt: skip
UNTRIED = {("GlobalLpPool", 22)}

OLDEST, NEWEST = 7, defs.onnx_opset_version()
FORMS = onnx_layer_forms.all_forms()


def versions() -> dict[str, list[int]]:
    """From which opsets on each operator means something else, of those read: 7 for what is older."""
    found: dict[str, set[int]] = {}
    for schema in defs.get_all_schemas_with_history():
        if schema.domain == "" and not schema.deprecated:
            found.setdefault(schema.name, set()).add(max(OLDEST, schema.since_version))
    return {name: sorted(at) for name, at in found.items()}


VERSIONS = versions()


def in_force(f: Form, opset: int) -> bool:
    """Whether a form is tried in an opset: where its operator changed, and in the newest."""
    return f.since <= opset <= f.until and (opset in VERSIONS[f.operator] or opset == f.since)


def model_of(f: Form, opset: int) -> Any:
    attributes = {k.removeprefix("attribute_"): v for k, v in f.attributes.items()}
    return one_node(f.operator, f.operands, opset, f.dtypes, f.fixed, **attributes)


def expected_of(f: Form, model: Any, arrays: list[Any]) -> list[Any]:
    """What ONNX Runtime gives; where it has no such kernel, what the reference does."""
    if f.by == "reference":
        return by_reference(model, arrays)
    try:
        return by_runtime(model, arrays)
    except Exception:
        return by_reference(model, arrays)


def check(f: Form, opset: int) -> None:
    model = model_of(f, opset)
    context = onnx.checker.C.CheckerContext()
    context.ir_version, context.opset_imports = model.ir_version, {"": opset}
    if (f.operator, opset) != ("GroupNormalization", 18):  # said to be deprecated, but files have it
        onnx.checker.check_node(model.graph.node[0], context)
    arrays = [a for i, a in enumerate(f.operands) if a is not None and i not in f.fixed]
    with np.errstate(all="ignore"):
        found = interpret(graph_of(model), arrays)[0]
    for a, b in zip(found, expected_of(f, model, arrays), strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        if a.dtype.kind == "f":
            np.testing.assert_allclose(a, b, rtol=f.tolerance, atol=f.tolerance)
        else:
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("opset", range(OLDEST, NEWEST + 1))
def test_forms_of_operators(opset: int) -> None:
    wrong = []
    for f in FORMS:
        if in_force(f, opset):
            try:
                check(f, opset)
            except Exception as error:
                wrong.append(f"{f.operator} {f.attributes}: {type(error).__name__} {error}")
    assert not wrong, "\n".join(wrong)


def test_every_change_of_an_operator_is_tried() -> None:
    tried = {(f.operator, opset) for f in FORMS for opset in VERSIONS[f.operator] if in_force(f, opset)}
    read = {f.operator for f in FORMS} | importers.IMPORTERS.keys()
    changes = {(n, opset) for n in read - ELSEWHERE for opset in VERSIONS.get(n, ())}
    assert changes - tried == UNTRIED
