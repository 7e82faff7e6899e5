"""Graphs as ONNX files: checked by onnx's own checker, and run by ONNX Runtime against the reference.

Every op of the catalogue is written, or refused by name and listed here, so that the list cannot grow unseen.
"""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from fuzz import author as fuzz_author
from onnx import reference
from test_catalogue import DIFFERENTIABLE, SAMPLED, Case, cases, evaluated, gradient_case, named

import dlc
from dlc import nn, optim
from dlc.dims import evaluate
from dlc.errors import GraphError, MissingFolderError, UnsupportedError
from dlc.frontend.onnx import save, to_model
from dlc.frontend.onnx.writer import EXPORTERS
from dlc.ir import Graph, TupleType
from dlc.ops.definition import CATALOGUE, Kind, Op
from dlc.ops.tensor import wrap
from dlc.passes import PIPELINE, Pipeline

onnxruntime.set_default_logger_severity(4)

REFUSED: set[str] = set()  # ops that ONNX has nothing for
LEAVES = {"input", "state", "ambient"}  # written with the graph, not as nodes
TOLERANCE = {"float32": 3e-5, "float64": 1e-12}
# ONNX Runtime has no kernels for these in float64, so onnx's own reference runs them.
NO_FLOAT64 = {
    *("acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "cosh", "erf", "sinh", "tan"),
    *("conv2d", "conv2d_data_gradient", "conv2d_weight_gradient"),
}
ROUGH = {"erf": 1e-6}  # the reference's erf is of float32
UNSUPPORTED = {"conv2d_data_gradient"}  # the reference's ConvTranspose does not know groups


def graph_of(case: Case) -> Graph:
    return Graph(tuple(t.node for t in case.inputs), tuple(t.node for t in case.outputs))


def checked(graph: Graph, **how: Any) -> Any:
    model = to_model(graph, **how)
    onnx.checker.check_model(model, full_check=True)
    return model


def run(model: Any, arrays: Any, names: Any = None) -> list[Any]:
    data = model if isinstance(model, str) else model.SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    names = names or [i.name for i in session.get_inputs()]
    given = {name: np.asarray(a) for name, a in zip(names, arrays, strict=False)}
    return list(session.run(None, given))


def agree(found: Any, expected: Any, tolerance: dict[str, float] = TOLERANCE) -> None:
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    if found.dtype.kind == "f":
        np.testing.assert_allclose(found, expected, rtol=tolerance[found.dtype.name], atol=tolerance[found.dtype.name])
    else:
        np.testing.assert_array_equal(found, expected)


# ---------------------------------------------------------------- the catalogue


def test_every_op_is_written_or_refused_by_name() -> None:
    assert set(CATALOGUE) - set(EXPORTERS) - LEAVES == REFUSED
    assert set(EXPORTERS) <= set(CATALOGUE)
    for name in REFUSED:
        for case in cases(CATALOGUE[name]):
            with pytest.raises(UnsupportedError, match=rf"^{name} .*no counterpart in ONNX"):
                to_model(graph_of(case))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("op", **named([op for op in SAMPLED if op.name not in REFUSED]))
def test_onnx_runtime_agrees_with_the_reference(op: Op, dtype: str) -> None:
    for case in cases(op, dtype):
        if dtype == "float64" and not case.floating:
            continue
        model = checked(graph_of(case))
        expected = evaluated(case.inputs, case.outputs, case.arrays)
        tolerance = TOLERANCE
        if dtype == "float64" and op.name in NO_FLOAT64:
            with pytest.raises(Exception, match="NOT_IMPLEMENTED"):
                run(model, case.arrays)
            if op.name in UNSUPPORTED:
                continue
            inputs = dict(zip([i.name for i in model.graph.input], case.arrays, strict=True))
            found = reference.ReferenceEvaluator(model).run(None, inputs)
            tolerance = {"float64": ROUGH.get(op.name, TOLERANCE["float64"])}
        else:
            found = run(model, case.arrays)
        for a, b in zip(found, expected, strict=True):
            agree(a, b, tolerance)


@pytest.mark.parametrize("op", **named([op for op in DIFFERENTIABLE if op.name not in REFUSED]))
def test_onnx_runtime_agrees_on_gradients(op: Op) -> None:
    for i, sample in enumerate(op.samples()):
        if not sample.gradient or not Case(op, sample).floating:
            continue
        case = gradient_case(Case(op, sample, "float32", f"s{i}_"))
        expected = evaluated(case.inputs, case.outputs, case.arrays)
        for a, b in zip(run(checked(graph_of(case)), case.arrays), expected, strict=True):
            agree(a, b, {"float32": 1e-4})


INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]


def of_dtype(op: Op, dtype: str) -> list[Case]:
    """The op's samples with every array of numbers made one of another dtype; those that the op takes."""
    found = []
    for i, sample in enumerate(op.samples()):
        numbers = [isinstance(a, np.ndarray) and a.dtype.kind in "fb" for a in sample.args]
        pairs = zip(sample.args, numbers, strict=True)
        args = [np.abs(np.nan_to_num(a, posinf=9, neginf=-9)).astype(dtype) if n else a for a, n in pairs]
        try:
            found.append(Case(op, type(sample)(tuple(args), sample.kwargs), prefix=f"s{i}_"))
        except dlc.errors.DlcError:
            continue
    return found


@pytest.mark.parametrize("op", **named([op for op in SAMPLED if op.kind is not Kind.LOOP and op.name not in REFUSED]))
def test_onnx_runtime_agrees_on_every_integer_dtype_and_bool(op: Op) -> None:
    for dtype in (*INTEGERS, "bool"):
        for case in of_dtype(op, dtype):
            expected = evaluated(case.inputs, case.outputs, case.arrays)
            for a, b in zip(run(to_model(graph_of(case)), case.arrays), expected, strict=True):
                agree(a, b)


EXTREMES = [0.0, -0.0, np.nan, np.inf, -np.inf, 1.0, -1.0, 0.5, -3.0, 1e-3, -1e-3, 100.0, -100.0, 1e-38]


@pytest.mark.parametrize(
    "op", **named([op for op in SAMPLED if op.kind is Kind.ELEMENTWISE and op.name not in {*REFUSED, "astype"}])
)
def test_onnx_runtime_agrees_on_special_values(op: Op) -> None:
    sample = next(iter(op.samples()))
    if not all(a.dtype == np.float32 for a in sample.args):
        return
    values = np.array(EXTREMES, np.float32)
    grid = np.array(list(itertools.product(values, repeat=len(sample.args))), np.float32).T
    case = Case(op, type(sample)(tuple(np.ascontiguousarray(r) for r in grid), sample.kwargs))
    (expected,) = evaluated(case.inputs, case.outputs, case.arrays)
    (found,) = run(checked(graph_of(case)), case.arrays)
    agree(found, expected)


# ---------------------------------------------------------------- models


def of_model(model: Any, *shapes: tuple[Any, ...], dtypes: Any = None) -> Graph:
    kinds = dtypes or ["float32"] * len(shapes)
    inputs = [dlc.input(f"x{i}", s, d) for i, (s, d) in enumerate(zip(shapes, kinds, strict=True))]
    return dlc.trace(model, *inputs)


def lenet() -> Any:
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.Conv2d(6, 16, 5), nn.Tanh()),
        *(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(32), nn.BatchNorm1d(), nn.Dropout(0.5), nn.Linear(10)),
    )


def test_a_convolutional_network_keeps_names_and_uses_the_nodes_that_readers_expect() -> None:
    graph = of_model(lenet(), ("N", 1, 16, 16))
    model = checked(graph)
    kinds = [n.op_type for n in model.graph.node]
    for kind, count in {"Conv": 2, "Gemm": 2, "MaxPool": 1, "Relu": 1, "Tanh": 1}.items():
        assert kinds.count(kind) == count, kind
    assert not {"Where", "Pad", "RandomUniform", "BitShift", "MatMul"} & set(kinds)  # no trace of training
    weights = {i.name for i in model.graph.initializer}
    assert {"0.weight", "0.bias", "7.weight", "8.running_mean", "8.weight", "10.bias"} <= weights
    assert [i.name for i in model.graph.input] == ["x0"]
    assert [o.name for o in model.graph.output] == ["output"]
    assert [d.dim_param or d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim] == ["N", 1, 16, 16]
    assert [d.dim_param or d.dim_value for d in model.graph.output[0].type.tensor_type.shape.dim] == ["N", 10]
    program = dlc.compile(graph, "reference")
    for n in (1, 3):
        x = np.random.default_rng(n).standard_normal((n, 1, 16, 16), np.float32)
        agree(run(model, [x])[0], program(x)[0])


def test_shapes_that_stay_open_are_computed() -> None:
    x = dlc.input("x", ("N", "H", "2*W"))
    y = dlc.input("w", ("W",))
    flat = dlc.reshape(x, (x.shape[0] * x.shape[1], x.shape[2]))
    outputs = [
        flat[1:, ::-1],
        dlc.broadcast_to(dlc.sum(x, axis=(0, 2))[:, None], (x.shape[1], x.shape[2] + 1)),
        dlc.ops.size_of(x.shape[1] * x.shape[0] - 1) + dlc.iota((x.shape[2] // 3,), 0, "float32"),
        dlc.ops.windows(x, (1, 2), (2, 2), (2, 1)),
        dlc.pad(x, [(0, 0), (x.shape[0], 0), (1, 1)], interior=(0, 1, 0)),
        dlc.concat([x, x * 2.0], axis=1) + y[0],
        dlc.reshape(x, (-1, x.shape[0])),
    ]
    graph = dlc.graph([x, y], outputs)
    rng = np.random.default_rng(0)
    for n, h, width in ((2, 3, 4), (1, 5, 2)):
        arrays = [rng.standard_normal((n, h, 2 * width), np.float32), np.ones(width, np.float32)]
        for a, b in zip(run(checked(graph), arrays), dlc.compile(graph, "reference")(*arrays), strict=True):
            agree(a, b)


def test_a_transposed_convolution_of_open_size() -> None:
    g, w = dlc.input("g", ("N", 4, "H", "W")), dlc.input("w", (4, 3, 3, 2))
    y = dlc.ops.conv2d(dlc.input("x", ("N", 3, "P", "Q")), w, stride=(2, 3), padding=((1, 0), (0, 2)))
    x = dlc.input("x", ("N", 3, "P", "Q"))
    graph = dlc.graph([x, w], dlc.grad(dlc.sum(dlc.conv2d(x, w, stride=(2, 3), padding=((1, 0), (0, 2)))), [x, w]))
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(s, np.float32) for s in ((2, 3, 8, 9), (4, 3, 3, 2))]
    for a, b in zip(run(checked(graph), arrays), dlc.compile(graph, "reference")(*arrays), strict=True):
        agree(a, b)
    assert g.shape[0] == y.shape[0]


def test_a_recurrent_network_and_its_gradient() -> None:
    model = nn.LSTM(3, 4)
    x = dlc.input("x", ("T", "N", 3))
    outputs = dlc.trace(model, x)
    arrays = [np.random.default_rng(0).standard_normal((5, 2, 3), np.float32)]
    for a, b in zip(run(checked(outputs), arrays), dlc.compile(outputs, "reference")(*arrays), strict=True):
        agree(a, b)
    y, _ = model(x)
    gradient = dlc.graph([x], dlc.grad(dlc.sum(y * y), [x, *model.parameters()]))
    assert "Scan" in {n.op_type for n in checked(gradient).graph.node}
    for a, b in zip(run(to_model(gradient), arrays), dlc.compile(gradient, "reference")(*arrays), strict=True):
        agree(a, b)


def test_graphs_after_passes_and_fusion_are_written() -> None:
    graph = of_model(lenet(), ("N", 1, 16, 16))
    for name, transformed in stages(graph):
        x = np.random.default_rng(0).standard_normal((2, 1, 16, 16), np.float32)
        agree(run(checked(transformed), [x])[0], dlc.compile(graph, "reference")(x)[0]), name


def stages(graph: Graph) -> Any:
    for name, step in PIPELINE:
        graph = step(dlc.passes.bind_ambients(graph))
        yield name, graph


def runs_in_onnx_runtime(graph: Graph, bindings: dict[str, int]) -> bool:
    """Whether no dim is 0, with which ONNX Runtime fails, or never ends, in many operators, and it has the kernels."""
    for n in graph.nodes:
        for t in n.type.items if isinstance(n.type, TupleType) else (n.type,):
            if any(evaluate(d, bindings) <= 0 for d in t.shape) or (t.dtype == "float64" and n.op.name in NO_FLOAT64):
                return False
    return not graph.updates


def test_random_graphs_with_gradients_are_written() -> None:
    ran = 0
    for seed in range(60):
        case = fuzz_author.write(seed, 14)
        for bindings, given in case.runs()[:2]:
            if runs_in_onnx_runtime(case.graph, bindings):
                model = checked(case.graph)
                names = [n.leaf.name for n in case.graph.inputs if n.leaf is not None]
                program = dlc.compile(case.graph, "reference", pipeline=Pipeline(()), check=False)  # at its first step
                for a, b in zip(run(model, given, names), program(*given), strict=True):
                    agree(a, b, {"float32": 1e-3, "float64": 1e-3})
                ran += 1
    assert ran > 30


def test_a_training_step_is_written_with_its_updates_as_outputs() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))
    x, y = dlc.input("x", ("N", 3)), dlc.input("y", ("N",), "int64")
    loss = nn.functional.cross_entropy(model(x), y)
    step = dlc.train_step(model, inputs=[x, y], loss=loss, optimizer=optim.SGD(0.1, momentum=0.9), backend="reference")
    onnx_model = checked(step.program.graph, training=True)
    updates = json.loads({p.key: p.value for p in onnx_model.metadata_props}["dlc.updates"])
    assert {"0.weight", "1.running_mean"} <= set(updates)
    rng = np.random.default_rng(0)
    arrays = {"x": rng.standard_normal((6, 3), np.float32), "y": rng.integers(0, 2, 6)}
    session = onnxruntime.InferenceSession(onnx_model.SerializeToString())
    states: dict[str, Any] = {}
    for _ in range(3):  # the states go round: what a step returns is what the next is given
        names = [o.name for o in session.get_outputs()]
        found = dict(zip(names, session.run(None, {**arrays, **states}), strict=True))
        states = {state: found[output] for state, output in updates.items()}
        expected = step(**arrays)
        agree(found["output"], np.asarray(expected))
    for name, value in model.state_dict().items():
        agree(states.get(name, value), value, {"float32": 1e-5})


def test_states_of_one_name_and_odd_names_stay_apart() -> None:
    a, b = dlc.parameter([1.0, 2.0], name="w"), dlc.parameter([3.0, 4.0], name="w")
    x = dlc.input("output", (2,))
    odd = dlc.input("im\"port os\n;", (2,))
    graph = dlc.graph([x, odd], [x * a + b, odd, x, wrap(a)])
    model = checked(graph)
    for name in ("w", "w_1"):
        assert name in {i.name for i in model.graph.initializer}
    arrays = [np.array([1.0, 1.0], np.float32), np.array([5.0, 6.0], np.float32)]
    found = run(model, arrays)
    for got, want in zip(found, ([4.0, 6.0], [5.0, 6.0], [1.0, 1.0], [1.0, 2.0]), strict=True):
        assert got.tolist() == want


# ---------------------------------------------------------------- files


def test_a_file_is_read_by_onnx_runtime_from_the_disk(tmp_path: Path) -> None:
    graph = of_model(nn.Linear(4, 2), ("N", 4))
    save(graph, tmp_path / "linear.onnx")
    x = np.ones((3, 4), np.float32)
    agree(run(str(tmp_path / "linear.onnx"), [x])[0], dlc.compile(graph, "reference")(x)[0])
    assert [f.name for f in tmp_path.iterdir()] == ["linear.onnx"]


def test_large_weights_lie_in_a_file_beside_the_model(tmp_path: Path) -> None:
    graph = of_model(nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 3)), ("N", 64))
    save(graph, tmp_path / "m.onnx", external_above=10_000)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["m.onnx", "m.onnx.data"]
    assert (tmp_path / "m.onnx").stat().st_size < 4000
    onnx.checker.check_model(str(tmp_path / "m.onnx"), full_check=True)
    x = np.random.default_rng(0).standard_normal((2, 64), np.float32)
    agree(run(str(tmp_path / "m.onnx"), [x])[0], dlc.compile(graph, "reference")(x)[0])


def test_saving_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    graph = of_model(lenet(), ("N", 1, 16, 16))
    for name in ("a", "b"):
        save(graph, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_errors_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(GraphError, match=r"a graph, not a Linear; make one with dlc.trace"):
        save(nn.Linear(2, 2), tmp_path / "m.onnx")  # type: ignore[arg-type]
    with pytest.raises(MissingFolderError, match="does not exist"):
        save(of_model(nn.Linear(4, 2), ("N", 4)), tmp_path / "none" / "m.onnx")
    x = dlc.input("x", ("2*N",))
    with pytest.raises(UnsupportedError, match=r"'N' is no axis of an input by itself.*\n.*test_onnx_save\.py:\d+"):
        to_model(dlc.graph([x], [dlc.reshape(x, (2, "N")) * 1.0, dlc.zeros(("N", "N"))]))
