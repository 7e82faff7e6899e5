"""ONNX models to damage, and hand-made hostile ones: what onnx's own checker lets through, and worse."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from mutations import NASTY_TEXT, messages
from onnx import ModelProto, TensorProto, helper, numpy_helper

import dlc
from dlc import nn
from dlc.frontend.onnx import to_model

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def model(nodes: Any, inputs: Any = None, outputs: Any = ("y",), opset: int = 17, **parts: Any) -> ModelProto:
    """A model of float32 inputs, given by their shapes, and outputs of an unknown shape."""
    functions = parts.pop("functions", [])
    shapes = {"x": [2, 3]} if inputs is None else inputs
    declared = [helper.make_tensor_value_info(n, FLOAT, s) for n, s in shapes.items()]
    results = [helper.make_tensor_value_info(n, FLOAT, None) for n in outputs]
    graph = helper.make_graph(nodes, "g", declared, results, **parts)
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("local", 1)]
    return helper.make_model(graph, opset_imports=imports, functions=functions)


def ints(name: str, *values: int, dims: Any = None) -> TensorProto:
    """An int64 initialiser."""
    return helper.make_tensor(name, INT64, [len(values)] if dims is None else dims, values)


def sound_models() -> dict[str, ModelProto]:
    """Models of many operators, with bodies, functions and open dims."""
    convolutional = nn.Sequential(
        *(nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(18, 3))
    )
    words = nn.Sequential(nn.Embedding(7, 3), nn.LayerNorm(3), nn.Linear(3, 2), nn.Softmax())
    x, i = dlc.input("x", ("N", 1, 6, 6)), dlc.input("i", ("N", "T"), "int64")
    y = dlc.input("y", ("N", "M"))
    shapes = dlc.graph([y], [dlc.sort(y), dlc.cumulative_sum(y[:, ::-1]), dlc.pad(y, [(1, y.shape[0]), (0, 2)])])
    twice = helper.make_function(
        "local", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", 17)]
    )
    calls = [helper.make_node("Twice", [a], [b], domain="local") for a, b in ("xm", "my")]
    return {
        "convolutional": to_model(dlc.trace(convolutional, x)),
        "words": to_model(dlc.trace(words, i)),
        "recurrent": to_model(dlc.trace(nn.LSTM(3, 2), dlc.input("x", ("T", "N", 3)))),
        "shapes": to_model(shapes),
        "function": model(calls, functions=[twice]),
        "branch": _branch(2),
    }


def _branch(depth: int) -> ModelProto:
    """An If within an If ... whose conditions the file decides."""
    out = helper.make_tensor_value_info("z", FLOAT, None)
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["z0"])], "b", [], [out])
    graph.output[0].name = "z0"
    for i in range(1, depth + 1):
        node = helper.make_node("If", ["c"], [f"z{i}"], then_branch=graph, else_branch=graph if depth < 4 else None)
        graph = helper.make_graph([node], "b", [], [helper.make_tensor_value_info(f"z{i}", FLOAT, None)])
    condition = helper.make_tensor("c", TensorProto.BOOL, [], [True])
    return model([*graph.node], outputs=[f"z{depth}"], initializer=[condition])


def _chain(op: str, count: int, **attributes: Any) -> list[Any]:
    """x combined with itself, again and again: 2^count in the end."""
    names = ["x", *(f"t{i}" for i in range(count - 1)), "y"]
    return [helper.make_node(op, [a, a], [b], **attributes) for a, b in pairwise(names)]


def _doubling_functions(depth: int, first: str | None = None) -> list[Any]:
    """f0 is one node, f1 calls f0 twice, f2 calls f1 twice: 2^depth nodes in all; or a call of itself."""
    functions = []
    for i in range(depth):
        inner = f"f{i - 1}" if i else first
        op, domain = ("Neg", "") if inner is None else (inner, "local")
        nodes = [helper.make_node(op, ["a"], ["m"], domain=domain), helper.make_node(op, ["m"], ["b"], domain=domain)]
        imports = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
        functions.append(helper.make_function("local", f"f{i}", ["a"], ["b"], nodes, imports))
    return functions


def _call(name: str) -> list[Any]:
    return [helper.make_node(name, ["x"], ["y"], domain="local")]


def _node(op: str, *inputs: str, **attributes: Any) -> list[Any]:
    return [helper.make_node(op, list(inputs), ["y"], **attributes)]


def hand_made_models() -> Iterator[tuple[str, bytes]]:
    """(what it is, the file)."""
    for name, found in _models():
        yield name, found if isinstance(found, bytes) else found.SerializeToString()


def _models() -> Iterator[tuple[str, Any]]:
    yield "empty", b""
    yield "zeros", bytes(1000)
    yield "text", b"not a model\n" * 100
    yield "groups without end", b"\x0b" * 100_000
    yield "deep protobuf", _deep_bytes(5000)
    yield "no graph", ModelProto()
    yield "no outputs", model([], outputs=())
    yield from _names()
    yield from _not_utf8()
    yield from _sizes()
    yield from _structure()
    yield from _attributes()
    for opset in (0, -1, 29, 10**9, 2**63 - 1):
        yield f"opset {opset}", model(_node("Neg", "x"), opset=opset)


def _deep_bytes(depth: int) -> bytes:
    """Graph in attribute in node in graph ..., each one field that holds the next."""
    data = b""
    for _ in range(depth):
        for tag in (0x32, 0x2A, 0x0A):  # attribute.g, node.attribute, graph.node
            data = bytes([tag]) + _varint(len(data)) + data
    return b"\x3a" + _varint(len(data)) + data  # model.graph


def _varint(n: int) -> bytes:
    found = bytearray()
    while n > 127:
        found.append(n & 127 | 128)
        n >>= 7
    return bytes([*found, n])


def _names() -> Iterator[tuple[str, Any]]:
    for i, text in enumerate(NASTY_TEXT):
        found = model([helper.make_node("Add", [text, "w" + text], ["y" + text])], {text: [2, text]}, ["y" + text])
        found.graph.initializer.append(numpy_helper.from_array(np.ones(2, "f"), "w" + text))
        found.graph.name = found.producer_name = found.graph.node[0].name = text
        yield f"name {i}", found
        yield f"operator {i}", model(_node(text or " ", "x"))
        yield f"domain {i}", model(_node("Neg", "x", domain=text))


def _not_utf8() -> Iterator[tuple[str, Any]]:
    """Each text of a model in turn, in bytes that are no text."""
    for kind, sound in sound_models().items():
        data = sound.SerializeToString()
        fields = [(f, v) for m in messages(sound) for f, v in m.ListFields()]
        texts = {v for f, v in fields if f.type == f.TYPE_STRING and isinstance(v, str)}
        texts |= {n for node in sound.graph.node for n in (*node.input, *node.output)}
        for i, text in enumerate(sorted(t.encode() for t in texts if t)):
            yield f"{kind} text {i}", data.replace(text, b"\xff" * len(text))


def _sizes() -> Iterator[tuple[str, Any]]:
    big = [ints("s", 2**40)]
    edges = [ints("w", 0, 0, 0, 2**40)]
    yield "4 TiB of edges", model(_node("Pad", "x", "w", mode="edge"), initializer=edges)
    for size in (2**40, -1, 0):
        wanted = [ints("n", 2, size)]
        yield f"resized to {size}", model([helper.make_node("Resize", ["x", "", "", "n"], ["y"])], initializer=wanted)
    small = [numpy_helper.from_array(np.array([1.0, 1.0, 1.0, 2e-9], "f"), "n")]
    image, clip = {"x": [1, 1, 2, 2**30]}, helper.make_node("Resize", ["x", "", "n"], ["y"], antialias=1, mode="cubic")
    yield "a filter over 2^30 elements", model([clip], image, opset=18, initializer=small)
    regions = {"x": [1, 1, 4, 4], "b": [3, 4], "r": [3, 5]}
    which = [ints("i", 0, 2**62, -1)]
    for size in (2**40, 0, -1):
        for how in ({"output_height": size}, {"sampling_ratio": size}):
            yield f"RoiAlign with {how}", model(_node("RoiAlign", "x", "b", "i", **how), regions, initializer=which)
        yield f"MaxRoiPool {size}", model(_node("MaxRoiPool", "x", "r", pooled_shape=[size, 1]), regions)
        spectrum = [ints("n", size, dims=[]), ints("m", 7, dims=[]), numpy_helper.from_array(np.float32(3000), "f")]
        yield f"DFT of {size}", model(_node("DFT", "x", "n", axis=1), initializer=spectrum)
        yield f"STFT of {size}", model(_node("STFT", "x", "m", "", "n"), {"x": [1, 9, 1]}, initializer=spectrum)
        bands = _node("MelWeightMatrix", "m", "n", "n", "f", "f"), _node("MelWeightMatrix", "n", "m", "m", "f", "f")
        for i, nodes in enumerate(bands):
            yield f"MelWeightMatrix {i} of {size}", model(nodes, initializer=spectrum)
    yield "DFT of a large prime", model(_node("DFT", "x", axis=1), {"x": [1, 65521, 1]})
    yield "4 TiB of ConstantOfShape", model(_node("ConstantOfShape", "s"), initializer=big)
    yield "Expand", model(_node("Expand", "x", "s"), initializer=[ints("s", 2**30, 2, 3)])
    yield "Expand by steps", model(
        [helper.make_node("Expand", ["x", f"s{i}"], [f"t{i}" if i < 9 else "y"]) for i in range(10)],
        initializer=[ints(f"s{i}", *[1000] * (i + 1), 2, 3) for i in range(10)],
    )
    yield "Reshape", model(_node("Reshape", "x", "s"), initializer=[ints("s", 2**62, -1)])
    yield "Reshape to a negative shape", model(_node("Reshape", "x", "s"), initializer=[ints("s", -7, 3)])
    yield "Range", model(_node("Range", "a", "b", "d"), initializer=[
        ints("a", 0, dims=[]), ints("b", 2**62, dims=[]), ints("d", 1, dims=[])])  # fmt: skip
    yield "Range without a step", model(_node("Range", "a", "a", "a"), initializer=[ints("a", 0, dims=[])])
    yield "Pad", model(_node("Pad", "x", "p"), initializer=[ints("p", 2**40, 0, 0, 2**40)])
    yield "negative Pad", model(_node("Pad", "x", "p"), initializer=[ints("p", -(2**40), 0, 0, -1)])
    yield "OneHot", model(
        [helper.make_node("Cast", ["x"], ["i"], to=INT64), *_node("OneHot", "i", "d", "v")],
        initializer=[ints("d", 2**62, dims=[]), ints("v", 0, 1)],
    )
    yield "TopK", model([helper.make_node("TopK", ["x", "k"], ["y", "z"])], initializer=[ints("k", 2**62)])
    yield "Concat doubling", model(_chain("Concat", 60, axis=0))
    yield "many axes", model(_node("Neg", "x"), {"x": [1] * 3000})
    yield "huge input", model(_node("Neg", "x"), {"x": [2**62, 2**62]})
    yield "huge initialiser", model(
        _node("Add", "x", "w"), initializer=[TensorProto(name="w", data_type=FLOAT, dims=[2**40])]
    )
    yield "initialiser whose size overflows", model(
        _node("Add", "x", "w"), initializer=[TensorProto(name="w", data_type=FLOAT, dims=[2**32, 2**32])]
    )
    yield "negative initialiser", model(
        _node("Add", "x", "w"), initializer=[TensorProto(name="w", data_type=FLOAT, dims=[-1, -4], raw_data=bytes(16))]
    )
    for size in ("N", "N*M"):
        open_dims = {"x": [size.partition("*")[0], "M"]}
        yield f"shapes squared {size}", model(
            [helper.make_node("Shape", ["x"], ["s0"]),
             *(helper.make_node("Mul", [f"s{i}", f"s{i}"], [f"s{i + 1}"]) for i in range(60)),
             *_node("Expand", "x", "s60")], open_dims)  # fmt: skip
        yield f"shapes divided {size}", model(
            [helper.make_node("Shape", ["x"], ["s0"]), helper.make_node("Constant", [], ["one"], value_ints=[1]),
             *(n for i in range(40) for n in (
                 helper.make_node("Add", [f"s{i}", "one"], [f"p{i}"]),
                 helper.make_node("Div", [f"s{i}", f"p{i}"], [f"s{i + 1}"]))),
             *_node("Expand", "x", "s40")], open_dims)  # fmt: skip
    yield "static shapes squared", model(
        [helper.make_node("Shape", ["x"], ["s0"]),
         *(helper.make_node("Mul", [f"s{i}", f"s{i}"], [f"s{i + 1}"]) for i in range(60)),
         *_node("ConstantOfShape", "s60")])  # fmt: skip


def _structure() -> Iterator[tuple[str, Any]]:
    ring = [helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Neg", ["a"], ["b"])]
    yield "cycle", model(ring, None, ["b"])
    yield "own operand", model(_node("Add", "x", "y"))
    yield "backwards", model([helper.make_node("Neg", ["a"], ["y"]), helper.make_node("Neg", ["x"], ["a"])])
    yield "twice defined", model([*_node("Neg", "x"), *_node("Abs", "x")])
    yield "redefines an input", model([helper.make_node("Neg", ["x"], ["x"])], outputs=["x"])
    yield "unknown output", model(_node("Neg", "x"), outputs=["nothing"])
    yield "one output twice", model(_node("Neg", "x"), outputs=["y", "y"])
    yield "no operands", model(_node("Add"))
    yield "left out operands", model(_node("Add", "", ""))
    yield "many operands", model(_node("Concat", *["x"] * 100_000, axis=0))
    yield "many results", model([helper.make_node("Split", ["x"], [f"y{i}" for i in range(100_000)])], outputs=["y0"])
    yield "a million nodes", _million()
    yield "long chain", model(_chain("Add", 18_000))
    yield "too long a chain", model(_chain("Add", 40_000))
    scale = [numpy_helper.from_array(np.ones(3, "f"), "w")]
    heavy = [
        helper.make_node("LayerNormalization", ["x", "w"], [f"y{i}" if i else "y"], epsilon=(i + 1) / 1e6)
        for i in range(30_000)
    ]
    yield "many heavy nodes", model(heavy, initializer=scale)
    yield "functions that expand to 2^29 nodes", model(_call("f28"), functions=_doubling_functions(29))
    yield "functions within the depth", model(_call("f11"), functions=_doubling_functions(12))
    yield "a function that calls itself", model(_call("f0"), functions=_doubling_functions(1, first="f0"))
    yield "functions in a ring", model(_call("f1"), functions=_doubling_functions(2, first="f1"))
    yield "branches 20 deep", _branch(20)
    yield "a million dims", model(_node("Neg", "x"), {f"x{i}" if i else "x": [f"D{i}"] for i in range(50_000)})
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["d"]), helper.make_node("Add", ["v", "v"], ["u"])], "body",
        [helper.make_tensor_value_info("i", INT64, []), helper.make_tensor_value_info("c", TensorProto.BOOL, []),
         helper.make_tensor_value_info("v", FLOAT, [2, 3])],
        [helper.make_tensor_value_info("d", TensorProto.BOOL, []), helper.make_tensor_value_info("u", FLOAT, [2, 3])],
    )  # fmt: skip
    yield "Loop of 2^62 steps", model(
        [helper.make_node("Loop", ["m", "", "x"], ["y"], body=body)], initializer=[ints("m", 2**62, dims=[])]
    )
    step = helper.make_graph(
        [helper.make_node("Add", ["h", "e"], ["g"])], "step",
        [helper.make_tensor_value_info(n, FLOAT, None) for n in "he"],
        [helper.make_tensor_value_info("g", FLOAT, None)],
    )  # fmt: skip
    for count in (0, -1, 2, 2**62):
        yield f"Scan of {count} slices", model(
            [helper.make_node("Scan", ["x", "x"], ["y"], body=step, num_scan_inputs=count)]
        )
    yield "Scan whose carry changes its shape", model(
        [helper.make_node("Scan", ["w", "x"], ["y"], body=step, num_scan_inputs=1)], initializer=[ints("w", 1, dims=[])]
    )
    sparse = model(_node("Neg", "x"))
    sparse.graph.sparse_initializer.add().dims.extend([2**62])
    yield "sparse initialiser", sparse


def _million() -> bytes:
    """A million nodes in 7 MB: the bytes of one, again and again."""
    node = helper.make_node("Neg", [], []).SerializeToString()
    record = b"\x0a" + _varint(len(node)) + node
    body = record * 1_000_000
    opset = model([]).opset_import[0].SerializeToString()
    return b"\x42" + _varint(len(opset)) + opset + b"\x3a" + _varint(len(body)) + body


def _attributes() -> Iterator[tuple[str, Any]]:
    image, kernel = {"x": [1, 4, 8, 8]}, [numpy_helper.from_array(np.ones((4, 4, 3, 3), "f"), "w")]
    for value in (0, -1, 3, 2**31, 2**62, -(2**63)):
        pair = [value, value]
        for name in ("strides", "dilations", "kernel_shape"):
            yield f"Conv {name} {value}", model(_node("Conv", "x", "w", **{name: pair}), image, initializer=kernel)
            how = {"kernel_shape": [2, 2], name: pair}
            yield f"MaxPool {name} {value}", model(_node("MaxPool", "x", **how), image)
            yield f"AveragePool {name} {value}", model(_node("AveragePool", "x", **how), image)
        yield f"Conv pads {value}", model(_node("Conv", "x", "w", pads=pair * 2), image, initializer=kernel)
        yield f"Conv group {value}", model(_node("Conv", "x", "w", group=value), image, initializer=kernel)
        transposed = {"strides": pair, "output_padding": pair}
        yield f"ConvTranspose {value}", model(_node("ConvTranspose", "x", "w", **transposed), image, initializer=kernel)
        for op in ("Softmax", "Concat", "Flatten", "Split", "ArgMax", "LayerNormalization", "CumSum"):
            yield f"{op} axis {value}", model(_node(op, "x", axis=value))
        for op in ("Squeeze", "Unsqueeze", "ReduceSum", "ReduceMean"):
            yield f"{op} axes {value}", model(_node(op, "x", "a"), initializer=[ints("a", value)], opset=18)
        yield f"Transpose {value}", model(_node("Transpose", "x", perm=pair))
        indices = [helper.make_tensor("i", INT64, [1], [value])]
        yield f"Gather {value}", model(_node("Gather", "x", "i"), initializer=indices)
        yield f"Slice {value}", model(_node("Slice", "x", "i", "i", "i", "i"), initializer=indices)
        yield f"Cast {value}", model(_node("Cast", "x", to=value))
    for name, attribute in {
        "text for a number": {"strides": "2"}, "a tensor for a number": {"strides": ints("t", 1)},
        "a float for a number": {"group": 1.5}, "a graph for a number": {"group": model([]).graph},
        "strange padding": {"auto_pad": "\x1b[2J" * 1000}, "unknown attribute": {"rm": "-rf"},
    }.items():  # fmt: skip
        yield name, model(_node("Conv", "x", "w", **attribute), image, initializer=kernel)
    twice = model(_node("Softmax", "x", axis=0))
    twice.graph.node[0].attribute.append(twice.graph.node[0].attribute[0])
    yield "one attribute twice", twice


# ---------------------------------------------------------------- data in other files


def external_models(folder: Path, secret: Path) -> Iterator[tuple[str, bytes]]:
    """Models whose weights are said to lie in places where they must not be looked for."""
    (folder / "data.bin").write_bytes(np.arange(6, dtype="f").tobytes())
    (folder / "link.bin").symlink_to(secret)
    (folder / "inside.bin").symlink_to(folder / "data.bin")
    (folder / "outside").symlink_to(secret.parent)
    os.link(secret, folder / "hard.bin")
    os.mkfifo(folder / "pipe.bin")
    (folder / "folder.bin").mkdir()
    places = [
        *("link.bin", "inside.bin", "outside/" + secret.name, "hard.bin", "pipe.bin", "folder.bin", "missing.bin"),
        *(str(secret), "../" + secret.name, "x/../../" + secret.name, "./data.bin", "data.bin/", "//etc/passwd"),
        *("/dev/zero", "/proc/self/environ", "~/.ssh/id_rsa", "file:///etc/passwd", "data.bin\x00.txt", ""),
        *("data.bin\n", "a" * 5000, "C:\\windows", "..\\" + secret.name, "\\\\host\\share"),
    ]
    for i, place in enumerate(places):
        yield f"place {i}", external_model({"location": place})
    extents = [
        *(("-1", "24"), ("0", "-24"), ("9223372036854775807", "24"), ("1", "24"), ("0", "23"), ("0", str(2**62))),
        *(("1e3", "24"), ("٣", "24"), ("0x0", "24"), ("0", "24 "), ("9" * 5000, "24"), ("", "")),
    ]
    for i, (offset, length) in enumerate(extents):
        yield f"extent {i}", external_model({"location": "data.bin", "offset": offset, "length": length})


def external_model(entries: dict[str, str]) -> bytes:
    """A model whose weights [2, 3] lie in another file."""
    tensor = TensorProto(name="w", data_type=FLOAT, dims=[2, 3], data_location=TensorProto.EXTERNAL)
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    return model(_node("Add", "x", "w"), initializer=[tensor]).SerializeToString()
