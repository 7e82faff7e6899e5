"""The nine whole networks of ONNX's backend suite. Their weights are constants; random ones are set in their place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnx.backend.test.runner import Runner

import dlc
from dlc.frontend.onnx.reading import inputs_of

FOLDER = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
NETWORKS = (
    "bvlc_alexnet", "densenet121", "inception_v1", "inception_v2", "resnet50", "shufflenet", "squeezenet", "vgg19",
    "zfnet512",
)  # fmt: skip
TOLERANCE = 1e-5  # sums of float32 in another order, through up to 121 layers
Array = NDArray[Any]


def network(name: str) -> ModelProto:
    """The model as it lies in onnx's package."""
    return onnx.load(FOLDER / f"light_{name}.onnx")


def as_the_suite_has_it(name: str, backend: str) -> None:
    """Run a network on the suite's input. Raises `AssertionError` unless its output comes out."""
    model = network(name)
    declared = {v.name: v for v in model.graph.input}
    inputs = [Runner.generate_dummy_data(declared[n], seed=0, name=name, random=False) for n in inputs_of(model)]
    expected = TensorProto.FromString((FOLDER / f"light_{name}_output_0.pb").read_bytes())
    found = dlc.compile(dlc.onnx.load(model), backend, check=False)(*inputs)
    Runner.assert_similar_outputs([numpy_helper.to_array(expected)], found, 1e-3, 1e-7)


def beside_onnx_runtime(name: str, backend: str) -> float:
    """The largest difference from ONNX Runtime of what enters the softmax, as a share of the largest number in it."""
    import onnxruntime

    rng = np.random.default_rng(0)
    model = with_random_weights(network(name), rng)
    declared = {v.name: v for v in model.graph.input}
    (image,) = inputs_of(model)
    x = rng.standard_normal([d.dim_value for d in declared[image].type.tensor_type.shape.dim], np.float32)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # it warns of what is left over of the constants
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    (theirs,) = session.run(None, {image: x})
    (ours,) = dlc.compile(dlc.onnx.load(model), backend, check=False)(x)
    assert np.isfinite(theirs).all() and theirs.std() > 0.1 * np.abs(theirs).max() > 0
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def with_random_weights(model: ModelProto, rng: np.random.Generator) -> ModelProto:
    """The network up to its softmax, which would hide what differs; weights keep activations from growing."""
    graph = model.graph
    shapes = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    factors = _factors(graph)
    nodes = []
    for node in graph.node:
        if node.op_type == "ConstantOfShape":
            name, shape = node.output[0], shapes[node.input[0]]
            graph.initializer.append(numpy_helper.from_array(_weights(shape, name in factors, rng), name))
        elif node.op_type != "Softmax":
            nodes.append(node)
    before = {n.output[0]: n.input[0] for n in graph.node if n.op_type == "Softmax"}
    last = before.get(graph.output[0].name, graph.output[0].name)
    output = helper.make_tensor_value_info(last, TensorProto.FLOAT, None)
    del graph.node[:], graph.output[:]
    graph.node.extend(nodes)
    graph.output.append(output)
    return model


def _factors(graph: Any) -> set[str]:
    """The names of weights that are factors or variances: those must be about one."""
    found = {n.input[i] for n in graph.node if n.op_type == "BatchNormalization" for i in (1, 4)}
    multiplied = {name for n in graph.node if n.op_type == "Mul" for name in n.input}
    return found | {n.input[0] for n in graph.node if n.op_type == "Unsqueeze" and n.output[0] in multiplied}


def _weights(shape: Array, factor: bool, rng: np.random.Generator) -> Array:
    if len(shape) == 1:
        return (rng.uniform(0.5, 1.5, shape) if factor else rng.normal(0, 0.1, shape)).astype(np.float32)
    spread = np.float32(np.sqrt(2 / np.prod(shape[1:])))  # He et al., "Delving Deep into Rectifiers", 2015
    return rng.standard_normal(shape, np.float32) * spread
