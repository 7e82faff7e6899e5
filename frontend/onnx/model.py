"""An ONNX model as a callable: compiled for the values of those inputs that decide shapes."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np

from dlc.compiler import Program, compile
from dlc.errors import CallError, StaticOperandError, shown
from dlc.frontend.checkpoint import PathLike
from dlc.frontend.onnx.load import Layout, arranged, read
from dlc.frontend.onnx.reading import inputs_of, parsed
from dlc.provenance import here

MAX_PROGRAMS = 16  # kept, one for each set of values that decided shapes


class Model:
    """An ONNX model that runs: called with its inputs in the file's order, it returns a tuple of arrays.

    A model may take shapes, axes or numbers of repetitions as inputs, or sequences (lists) and optionals (None, where
    they are empty). Programs are compiled for their values, when a
    call brings new ones; the 16 used last are kept. A model without such inputs is compiled once. Raises what `load`
    raises, and `CallError` for a wrong number of inputs.

    >>> from onnx import TensorProto, helper
    >>> types = (("x", TensorProto.FLOAT, [4]), ("shape", TensorProto.INT64, [2]), ("y", TensorProto.FLOAT, None))
    >>> x, shape, y = (helper.make_tensor_value_info(*t) for t in types)
    >>> graph = helper.make_graph([helper.make_node("Reshape", ["x", "shape"], ["y"])], "g", [x, shape], [y])
    >>> model = Model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), "reference")
    >>> model(np.arange(4, dtype=np.float32), np.array([2, 2]))[0].tolist()
    [[0.0, 1.0], [2.0, 3.0]]
    """

    def __init__(self, source: PathLike | bytes | Any, backend: str = "cpu") -> None:
        self.backend = backend
        self._source = source
        self._inputs = inputs_of(parsed(source)[0])
        self._static: set[str] = set()
        self._programs: OrderedDict[tuple[Any, ...], tuple[Program, list[Layout]]] = OrderedDict()
        try:
            self._program({})
        except StaticOperandError as error:
            self._learn(error)

    def __call__(self, *inputs: Any) -> tuple[Any, ...]:
        """Run once: arrays come out, lists of them for sequences, and None for an empty optional."""
        if len(inputs) != len(self._inputs):
            names = ", ".join(shown(n, 40) for n in self._inputs)
            raise CallError(f"the model takes {len(self._inputs)} inputs ({names}), not {len(inputs)}", where=here())
        given = dict(zip(self._inputs, inputs, strict=True))
        while True:
            values = {n: _arrays(given[n]) for n in self._inputs if n in self._static}
            try:
                program, layout = self._program(values)
            except StaticOperandError as error:
                self._learn(error)
                continue
            return tuple(arranged(layout, program(*(v for n, v in given.items() if n not in values))))

    def _learn(self, error: StaticOperandError) -> None:
        new = set(error.inputs) - self._static
        if not new:
            raise error
        self._static |= new

    def _program(self, values: dict[str, Any]) -> tuple[Program, list[Layout]]:
        key = tuple((n, _key(v)) for n, v in values.items())
        if key not in self._programs:
            graph, layout = read(self._source, values)
            self._programs[key] = compile(graph, self.backend), layout
            if len(self._programs) > MAX_PROGRAMS:
                self._programs.popitem(last=False)
        self._programs.move_to_end(key)
        return self._programs[key]


def _arrays(value: Any) -> Any:
    """A value that decides shapes: an array, a list of such values, or None."""
    if isinstance(value, (list, tuple)):
        return [_arrays(v) for v in value]
    return None if value is None else np.asarray(value)


def _key(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_key(v) for v in value)
    return None if value is None else (value.dtype.str, value.shape, value.tobytes())
