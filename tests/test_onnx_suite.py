"""ONNX's own backend tests, run by dlc. `onnx_exclusions.txt` names those that it does not pass, and why."""

import glob
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.backend.test import loader
from onnx.backend.test.runner import Runner

from dlc.errors import DlcError
from dlc.frontend.onnx import Model

EXCLUSIONS = Path(__file__).with_name("onnx_exclusions.txt")
READERS = {
    "tensor_type": (onnx.TensorProto, numpy_helper.to_array),
    "sequence_type": (onnx.SequenceProto, numpy_helper.to_list),
    "optional_type": (onnx.OptionalProto, numpy_helper.to_optional),
}


def excluded() -> dict[str, str]:
    """The reason for each test that is not passed: names follow the line that gives it."""
    found, reason = {}, ""
    for line in EXCLUSIONS.read_text().splitlines():
        if line.startswith("#"):
            reason = line[1:].strip()
        elif line:
            assert line not in found, f"{line} is excluded twice"
            found[line] = reason
    return found


def stored(folder: str, kind: str, declared: Any) -> list[Any]:
    """The values of input_0.pb, input_1.pb, ... or of output_0.pb, ..."""
    values = []
    for i, info in zip(range(len(glob.glob(os.path.join(folder, f"{kind}_*.pb")))), declared, strict=False):
        record, read = READERS[info.type.WhichOneof("value")]
        values.append(read(record.FromString(Path(folder, f"{kind}_{i}.pb").read_bytes())))
    return values


def value_of(item: Any) -> Any:
    return numpy_helper.to_array(item) if isinstance(item, onnx.TensorProto) else item


def exchanges(case: Any) -> tuple[onnx.ModelProto, Iterator[tuple[list[Any], list[Any]]]]:
    """The model of a test, and its pairs of inputs and outputs."""
    if case.model is not None:
        return case.model, iter([([*map(value_of, i)], [*map(value_of, o)]) for i, o in case.data_sets])
    model = onnx.load(os.path.join(case.model_dir, "model.onnx"))
    folders = sorted(glob.glob(os.path.join(case.model_dir, "test_data_set_*")))
    graph = model.graph
    return model, ((stored(f, "input", graph.input), stored(f, "output", graph.output)) for f in folders)


def failure(case: Any, backend: str) -> Exception | None:
    """Why a test is not passed. That must be an error of ours, or a value that differs; anything else is raised."""
    try:
        proto, pairs = exchanges(case)
        model = Model(proto, backend)
        for inputs, expected in pairs:
            Runner.assert_similar_outputs(expected, model(*inputs), case.rtol, case.atol)
    except (DlcError, AssertionError) as error:
        return error
    return None


def check(kind: str, backend: str, every: int = 1) -> None:
    """Exactly the tests of a kind that are excluded fail."""
    reasons = excluded()
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        cases = loader.load_model_tests(kind=kind)[::every]
        failed = {c.name: error for c in cases if (error := failure(c, backend)) is not None}
    new = {name: str(error) for name, error in failed.items() if name not in reasons}
    assert not new, f"{len(new)} tests are not passed: {new}"
    passed = sorted({c.name for c in cases} & set(reasons) - set(failed))
    assert not passed, f"excluded, but passed: {passed}"


@pytest.mark.parametrize("kind", ["node", "simple", "pytorch-converted", "pytorch-operator"])
def test_by_the_reference(kind: str) -> None:
    check(kind, "reference")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["simple", "pytorch-converted", "pytorch-operator"])
def test_natively(kind: str) -> None:
    check(kind, "cpu")


def test_most_are_passed() -> None:
    """Of 2,024, which leaves out the nine whole networks."""
    assert len(excluded()) <= 427
