"""ONNX's own backend tests as graphs, many of which make one program: each alone would take a second to compile.

`python tests/onnx_campaign.py` runs all of them on the cpu backend and writes docs/onnx-support.md.
"""

from __future__ import annotations

import glob
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test import loader
from onnx.backend.test.runner import Runner

import dlc
from dlc.errors import DlcError, StaticOperandError
from dlc.frontend.onnx.load import Layout, arranged, read
from dlc.frontend.onnx.reading import inputs_of
from dlc.ir import Graph

EXCLUSIONS = Path(__file__).with_name("onnx_exclusions.txt")
BATCH = 100  # exchanges in a program
KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator")
READERS = {
    "tensor_type": (onnx.TensorProto, numpy_helper.to_array),
    "sequence_type": (onnx.SequenceProto, numpy_helper.to_list),
    "optional_type": (onnx.OptionalProto, numpy_helper.to_optional),
}


@dataclass
class Exchange:
    """What a test feeds to its model and what must come out; `graph` is that of the inputs that decide no shapes.

    `layout` says which outputs of the graph make up a sequence.
    """

    name: str
    graph: Graph
    layout: list[Layout]
    inputs: list[Any]
    expected: list[Any]
    rtol: float
    atol: float

    def changed(self, **fields: Any) -> Exchange:
        """The same with other values."""
        return replace(self, **fields)

    def compare(self, found: Sequence[Any]) -> None:
        """Raises `AssertionError`, by the suite's own comparison."""
        compare(self.expected, arranged(self.layout, found), self.rtol, self.atol)


def compare(expected: Sequence[Any], found: Sequence[Any], rtol: float, atol: float) -> None:
    """The suite's comparison of tensors; it has none for the elements of sequences, nor for empty optionals."""
    assert len(found) == len(expected)
    for a, b in zip(expected, found, strict=True):
        if isinstance(b, list):
            assert isinstance(a, (list, tuple))
            compare(a, b, rtol, atol)
        elif b is None:
            assert a is None
        else:
            Runner.assert_similar_outputs([np.asarray(a)], [b], rtol, atol)


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


class Suite:
    """The tests by name: those that dlc reads have exchanges, of the others it is known why not."""

    def __init__(self, cases: Iterable[Any]) -> None:
        self.kinds: dict[str, str] = {}
        self.exchanges: dict[str, list[Exchange]] = {}
        self.unread: dict[str, DlcError] = {}
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            for case in cases:
                self.kinds[case.name] = case.kind
                try:
                    self.exchanges[case.name] = exchanges(case)
                except DlcError as error:
                    self.unread[case.name] = error
        self.names = list(self.kinds)

    @classmethod
    def of_onnx(cls) -> Suite:
        """All tests but the nine whole networks."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return cls(case for kind in KINDS for case in loader.load_model_tests(kind=kind))

    def failures(
        self, backend: str, names: Sequence[str] | None = None, checked: bool | None = None
    ) -> dict[str, Exception]:
        """Which tests are not passed, and why. It must be an error of ours, or a value that differs.

        Tests that are known to fail are apart from those that must pass, which then make few programs.
        """
        chosen, reasons = self.names if names is None else names, excluded()
        failed: dict[str, Exception] = {n: self.unread[n] for n in chosen if n in self.unread}
        for known in (False, True):
            found = [e for n in chosen if (n in reasons) is known for e in self.exchanges.get(n, ())]
            for at in range(0, len(found), BATCH):
                failed |= failures(found[at : at + BATCH], backend, checked)
        return failed


def exchanges(case: Any) -> list[Exchange]:
    """The exchanges of a test. Raises a `DlcError` where dlc does not read its model or inputs."""
    model, pairs = stored_case(case)
    for i, value in enumerate(model.graph.input):  # dims that differ between tests get names that differ
        for k, dim in enumerate(value.type.tensor_type.shape.dim):
            if not dim.HasField("dim_value"):
                dim.dim_param = f"{case.name}.{dim.dim_param or f'{i}.{k}'}"
    return [_exchange(case, model, inputs, expected) for inputs, expected in pairs]


def failures(found: Sequence[Exchange], backend: str, checked: bool | None = None) -> dict[str, Exception]:
    """Which exchanges are not passed, and why: all in one program, or in two of half of them where that fails.

    `checked` says whether the graph is checked after each pass (`dlc.compile`).
    """
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            results = _run(found, backend, checked)
    except DlcError as error:
        if len(found) == 1:
            return {found[0].name: error}
        half = len(found) // 2
        return failures(found[:half], backend, checked) | failures(found[half:], backend, checked)
    wrong: dict[str, Exception] = {}
    for exchange, outputs in zip(found, results, strict=True):
        try:
            exchange.compare(outputs)
        except AssertionError as error:
            wrong[exchange.name] = error
    return wrong


def _run(found: Sequence[Exchange], backend: str, checked: bool | None) -> list[list[Any]]:
    """The outputs of each, by one program of all."""
    inputs, outputs, updates = [], [], []
    for i, exchange in enumerate(found):
        graph = exchange.graph
        own = [dlc.input(f"x{i}_{k}", n.type.shape, n.type.dtype).node for k, n in enumerate(graph.inputs)]
        graph = graph.substitute(dict(zip(graph.inputs, own, strict=True)), inputs=tuple(own))
        inputs += own
        outputs += graph.outputs
        updates += graph.updates
    program = dlc.compile(Graph(tuple(inputs), tuple(outputs), tuple(updates)), backend, check=checked)
    results = iter(program(*(a for e in found for a in e.inputs)))
    return [[next(results) for _ in e.graph.outputs] for e in found]


def _exchange(case: Any, model: Any, inputs: list[Any], expected: list[Any]) -> Exchange:
    given = dict(zip(inputs_of(model), inputs, strict=True))
    fixed: dict[str, Any] = {}
    while True:
        try:
            graph, layout = read(model, fixed)
        except StaticOperandError as error:
            if not set(error.inputs) - set(fixed):
                raise
            fixed |= {n: given[n] for n in error.inputs}
            continue
        rest = [np.asarray(v) for n, v in given.items() if n not in fixed]
        return Exchange(case.name, graph, layout, rest, expected, case.rtol, case.atol)


def stored_case(case: Any) -> tuple[onnx.ModelProto, Iterator[tuple[list[Any], list[Any]]]]:
    """The model of a test, and its pairs of inputs and outputs."""
    if case.model is not None:
        model = onnx.ModelProto()
        model.CopyFrom(case.model)
        return model, iter([([*map(_value, i)], [*map(_value, o)]) for i, o in case.data_sets])
    model = onnx.load(os.path.join(case.model_dir, "model.onnx"))
    folders = sorted(glob.glob(os.path.join(case.model_dir, "test_data_set_*")))
    graph = model.graph
    return model, ((_stored(f, "input", graph.input), _stored(f, "output", graph.output)) for f in folders)


def _stored(folder: str, kind: str, declared: Any) -> list[Any]:
    """The values of input_0.pb, input_1.pb, ... or of output_0.pb, ..."""
    values = []
    for i, info in zip(range(len(glob.glob(os.path.join(folder, f"{kind}_*.pb")))), declared, strict=False):
        record, read = READERS[info.type.WhichOneof("value")]
        values.append(read(record.FromString(Path(folder, f"{kind}_{i}.pb").read_bytes())))
    return values


def _value(item: Any) -> Any:
    return numpy_helper.to_array(item) if isinstance(item, onnx.TensorProto) else item
