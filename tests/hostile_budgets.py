"""ONNX models that are small and sound in form, and ask for much: time, memory, depth, derivatives."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from hostile_models import FLOAT, INT64, ints, model
from onnx import TensorProto, helper

BOOL = TensorProto.BOOL
TRAINING = "ai.onnx.preview.training"


def greedy_models() -> Iterator[tuple[str, bytes]]:
    """(what it is, the file)."""
    parts = (_lists, _calls, _loops, _sequences, _dims, _shapes, _static_values, _derivatives, _forms)
    for part in parts:
        for name, found in part():
            yield name, found.SerializeToString()


def _node(op: str, *inputs: str, **attributes: Any) -> list[Any]:
    return [helper.make_node(op, inputs, ["y"], **attributes)]


def _lists() -> Iterator[tuple[str, Any]]:
    """Attributes of very many of numbers, and millions of attributes."""
    many = [1] * 200_000
    yield "Transpose by very many", model(_node("Transpose", "x", perm=many))
    yield "Unsqueeze by very many", model(_node("Unsqueeze", "x", axes=many), opset=11)
    yield "Slice by very many", model(_node("Slice", "x", starts=many, ends=many, axes=many), opset=9)
    yield "ReduceSum by very many", model(_node("ReduceSum", "x", axes=many), opset=11)
    yield "Pad by very many", model(_node("Pad", "x", pads=many), opset=9)
    yield "Split by very many", model(_node("Split", "x", split=many), opset=11)
    yield "Constant of very many", model(_node("Constant", value_ints=many))
    yield "Scan of very many", model(_node("Scan", "x", num_scan_inputs=1, scan_input_axes=many))
    yield "Upsample by very many", model(_node("Upsample", "x", scales=[1.0] * 200_000), opset=7)
    texts = helper.make_node("Gradient", ["x"], ["y"], domain=TRAINING, xs=["x"] * 200_000, y="x")
    yield "Gradient of many names", model([texts])
    few = model(_node("Neg", "x"))
    for i in range(20_000):
        few.graph.node[0].attribute.add(name=f"a{i}", i=1, type=2)
    yield "many attributes", few
    opsets = model(_node("Neg", "x"))
    for _ in range(200_000):
        opsets.opset_import.add(domain="", version=17)
    yield "many opsets", opsets
    yield "a long equation", model(_node("Einsum", "x", equation="ij" + "," * 500_000 + "->ij"))
    yield "an equation of many letters", model(_node("Einsum", "x", equation="".join(map(chr, range(97, 123))) * 1000))


def _function(name: str, nodes: list[Any], inputs: Any = ("a",), **more: Any) -> Any:
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    return helper.make_function("local", name, list(inputs), ["b"], nodes, imports, **more)


def _calls() -> Iterator[tuple[str, Any]]:
    """Functions and bodies that call each other."""

    def call(name: str, a: str, b: str) -> Any:
        return helper.make_node(name, [a], [b], domain="local")

    def branch(node: Any, out: str) -> Any:
        return helper.make_graph([node], "g", [], [helper.make_tensor_value_info(out, FLOAT, None)])

    ring = []
    for i in range(50):  # a branch of each calls the next one, and the last calls the first
        then = branch(call(f"f{(i + 1) % 50}", "a", "t"), "t")
        nodes = [
            helper.make_node("Constant", [], ["c"], value=helper.make_tensor("v", TensorProto.BOOL, [], [True])),
            helper.make_node("If", ["c"], ["b"], then_branch=then, else_branch=then),
        ]
        ring.append(_function(f"f{i}", nodes))
    yield "functions in a ring of branches", model([call("f0", "x", "y")], functions=ring)
    wide = [_function("f0", [helper.make_node("Neg", ["a"], ["b"])])]
    for i in range(1, 8):
        steps = [call(f"f{i - 1}", f"v{k}" if k else "a", f"v{k + 1}" if k < 19 else "b") for k in range(20)]
        wide.append(_function(f"f{i}", steps))
    yield "20^7 calls", model([call("f7", "x", "y")], functions=wide)
    names = [f"n{i}" for i in range(100_000)]
    yield "a function of many inputs", model(
        [call("f", "x", "y")], functions=[_function("f", [helper.make_node("Neg", ["n0"], ["b"])], names)]
    )
    broad = [_function("f0", [helper.make_node("Neg", ["a"], ["b"])], ["a", *names]), *wide[1:4]]
    yield "8000 calls of a function of many inputs", model([call("f3", "x", "y")], functions=broad)
    negated = [helper.make_node("Neg", ["a"], ["b"])]
    yield "many functions", model(_node("Neg", "x"), functions=[_function(f"f{i}", negated) for i in range(5_000)])
    inner = helper.make_graph(
        [helper.make_node("Add", ["h", "e"], ["g"])], "s",
        [helper.make_tensor_value_info(n, FLOAT, None) for n in "he"],
        [helper.make_tensor_value_info("g", FLOAT, None)],
    )  # fmt: skip
    for i in range(7):  # a loop of three loops of three loops
        carries = [f"h{i}", *(f"c{i}_{k}" for k in (1, 2, 3))]
        nodes = [
            helper.make_node("Scan", [before, "x"], [after], body=inner, num_scan_inputs=1)
            for before, after in pairwise(carries)
        ]
        inner = helper.make_graph(
            nodes, "s", [helper.make_tensor_value_info(n, FLOAT, None) for n in (f"h{i}", f"e{i}")],
            [helper.make_tensor_value_info(f"c{i}_3", FLOAT, None)],
        )  # fmt: skip
        if i in (2, 6):
            scan = helper.make_node("Scan", ["w", "x"], ["y"], body=inner, num_scan_inputs=1)
            start = helper.make_tensor("w", FLOAT, [3], [0.0] * 3)
            yield f"loops of three loops {i} deep", model([scan], initializer=[start])


def _loops() -> Iterator[tuple[str, Any]]:
    """Loops that are read step by step, as shapes within depend on the step."""
    known = [ints("all", 1000, dims=[]), ints("axis", 0), ints("one", 1, dims=[]), ints("s", 2**22)]
    known.append(helper.make_tensor("yes", TensorProto.BOOL, [], [True]))
    nodes = [helper.make_node("Unsqueeze", ["n0", "axis"], ["v"]), helper.make_node("ConstantOfShape", ["v"], ["s0"])]
    for depth in range(1, 5):  # as many steps as the loop around has done
        last = depth - 1
        nodes.append(helper.make_node("ReduceSum", [f"s{last}"], [f"r{last}"], keepdims=0))
        nodes.append(helper.make_node("Identity", [f"go{last}"], [f"on{last}"]))
        body = _body(nodes, {f"n{last}": INT64, f"go{last}": BOOL}, {f"on{last}": BOOL, f"r{last}": FLOAT})
        steps = "all" if depth == 4 else f"m{depth}"
        found = helper.make_node("Loop", [steps, "yes"], [f"s{depth}"], body=body)
        nodes = [helper.make_node("Add", [f"n{depth}", "one"], [f"m{depth}"]), found]
    yield "loops in loops step by step", model([found], outputs=["s4"], initializer=known)
    large = [
        helper.make_node("Cast", ["n"], ["f"], to=FLOAT), helper.make_node("Add", ["z", "f"], ["a"]),
        helper.make_node("ReduceSum", ["a"], ["r"], keepdims=0), helper.make_node("GreaterOrEqual", ["r", "f"], ["on"]),
        helper.make_node("Unsqueeze", ["n", "axis"], ["v"]), helper.make_node("ConstantOfShape", ["v"], ["d"]),
    ]  # fmt: skip
    body = _body(large, {"n": INT64, "go": BOOL, "c": FLOAT}, {"on": BOOL, "d": FLOAT})
    zeros, loop = _node("ConstantOfShape", "s")[0], helper.make_node("Loop", ["all", "yes", "x"], ["w"], body=body)
    zeros.output[0] = "z"
    yield "a condition that takes long to compute", model([zeros, loop], outputs=["w"], initializer=known)
    grows = [helper.make_node("Concat", ["c0", "c0"], ["d"], axis=0)]
    names = [f"c{i}" for i in range(4000)]
    body = _body(grows, {"n": INT64, "go": BOOL, **dict.fromkeys(names, FLOAT)},
                 {"go": BOOL, "d": FLOAT, **dict.fromkeys(names[1:], FLOAT)})  # fmt: skip
    many = helper.make_node("Loop", ["all", "yes", *["e"] * 4000], [f"y{i}" for i in range(4000)], body=body)
    empty = helper.make_tensor("e", FLOAT, [0], [])
    yield "many values carried step by step", model([many], outputs=["y0"], initializer=[*known, empty])
    body = _body(grows, {"n": INT64, "go": BOOL, "c0": FLOAT}, {"go": BOOL, "d": FLOAT})
    body.initializer.extend(ints(f"i{i}", 1, dims=[]) for i in range(20_000))
    read = helper.make_node("Loop", ["all", "yes", "e"], ["y"], body=body)
    yield "many constants of a body step by step", model([read], initializer=[*known, empty])


def _body(nodes: list[Any], inputs: dict[str, int], outputs: dict[str, int]) -> Any:
    names = ([helper.make_tensor_value_info(n, t, [] if t != FLOAT else None) for n, t in v.items()]
             for v in (inputs, outputs))  # fmt: skip
    return helper.make_graph(nodes, "b", *names)


def _sequences() -> Iterator[tuple[str, Any]]:
    """Long sequences, made and gone through again and again."""
    long = helper.make_node("SequenceConstruct", ["x"] * 4096, ["s0"])
    nothing = helper.make_graph(
        [], "b", [helper.make_tensor_value_info("e", FLOAT, None)], [helper.make_tensor_value_info("e", FLOAT, None)]
    )
    maps = [helper.make_node("SequenceMap", [f"s{i}"], [f"s{i + 1}"], body=nothing) for i in range(3000)]
    length = helper.make_node("SequenceLength", ["s3000"], ["y"])
    yield "long sequences gone through", model([long, *maps, length])
    names = [f"e{i}" for i in range(4000)]
    wide = helper.make_graph([], "b", *[[helper.make_tensor_value_info(n, FLOAT, None) for n in names]] * 2)
    row = helper.make_node("SequenceMap", ["s0"] * 4000, [f"t{i}" for i in range(4000)], body=wide)
    yield "many sequences gone through at once", model([long, row, helper.make_node("SequenceLength", ["t0"], ["y"])])
    more = [helper.make_node("SequenceErase", [f"s{i}"], [f"s{i + 1}"]) for i in range(3000)]
    yield "long sequences made shorter", model([long, *more, length])
    split = [helper.make_node("SplitToSequence", ["w"], [f"t{i}"], axis=0) for i in range(3000)]
    last = helper.make_node("SequenceLength", ["t2999"], ["y"])
    yield "splits into very many", model([*split, last], {"w": [4096, 2]})
    yield "a split into more", model([split[0], helper.make_node("SequenceLength", ["t0"], ["y"])], {"w": [2**40]})
    doubled = [helper.make_node("SequenceConstruct", [f"s{i}"] * 2, [f"s{i + 1}"]) for i in range(40)]
    yield "sequences of sequences", model([helper.make_node("SequenceConstruct", ["x"], ["s0"]), *doubled])


def _dims() -> Iterator[tuple[str, Any]]:
    """Named dims that stand for long polynomials."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    for name, text in {
        "a product of sums": "*".join(f"({a}+{b})" for a, b in pairwise(letters)),
        "a product of products": "*".join(f"({a}+1)*({a}+2)" for a in letters[:15]),
        "parentheses": "(" * 90 + "N" + ")" * 90,
        "a high power": "*".join("N" * 90),
        "powers of a sum": "*".join(["(a+b+c+d)"] * 19),
        "divisions": "N" + "//2" * 60,
        "a long number": "9" * 190,
        "stars": "N**9999999999",
    }.items():
        yield name, model(_node("Neg", "x"), {"x": [text, 3]})
        yield name + " reshaped", model(_node("Reshape", "x", "s"), {"x": [text, 3]}, initializer=[ints("s", -1)])
    many = {f"x{i}": [f"N{i}", f"M{i}"] for i in range(60)}
    flat = [helper.make_node("Reshape", [n, "s"], [f"f{n}"]) for n in many]
    joined = helper.make_node("Concat", [f"f{n}" for n in many], ["j"], axis=0)
    outer = [helper.make_node("Unsqueeze", ["j", "z"], ["u"]), helper.make_node("Mul", ["j", "u"], ["v"])]
    tail = [helper.make_node("Reshape", ["v", "s"], ["y"])]
    yield "the square of a long sum of dims", model(
        [*flat, joined, *outer, *tail], many, initializer=[ints("s", -1), ints("z", 1)]
    )


def _shapes() -> Iterator[tuple[str, Any]]:
    """Results that grow step by step."""
    grown = [helper.make_node("Tile", ["x", "r"], ["v0"])]
    grown += [helper.make_node("Tile", [f"v{i}", "r"], [f"v{i + 1}"]) for i in range(20)]
    yield "Tile by steps", model(grown, outputs=["v20"], initializer=[ints("r", 16, 16)])
    fills = [helper.make_node("ConstantOfShape", ["s"], [f"v{i}"]) for i in range(500)]
    total = helper.make_node("Sum", [f"v{i}" for i in range(500)], ["y"])
    yield "many large constants", model([*fills, total], initializer=[ints("s", 2**27)])
    yield "a window over everything", model(_node("MaxPool", "x", kernel_shape=[5000, 5000]), {"x": [1, 1, 5000, 5000]})
    yield "a window in many parts", model(
        _node("AveragePool", "x", kernel_shape=[50, 50, 50], strides=[1, 1, 1]), {"x": [1, 1, 300, 300, 300]}
    )
    yield "a wide response", model(_node("LRN", "x", size=10**6 + 1), {"x": [1, 4, 3, 3]})
    yield "a large determinant", model(_node("Det", "x"), {"x": [3000, 3000]})
    yield "a large identity", model(_node("EyeLike", "x"), {"x": [2**20, 2**20]})
    yield "a block of 2^31", model(_node("DepthToSpace", "x", blocksize=2**31), {"x": [1, 4, 2, 2]})
    weights = {"x": [2**30, 1, 2**20], "w": [1, 2**22, 2**20], "r": [1, 2**22, 2**20]}
    yield "a wide LSTM", model(_node("LSTM", "x", "w", "r", hidden_size=2**20), weights)
    pairs = [helper.make_node("Einsum", ["x", "x"], ["y"], equation="ab,cd->abcd")]
    yield "an outer product", model(pairs, {"x": [2**12, 2**12]})
    yield "NonZero of much", model(_node("NonZero", "x"), {"x": [2**30]})
    yield "Compress by much", model(_node("Compress", "x", "x"), {"x": [2**30]})


def _static_values() -> Iterator[tuple[str, Any]]:
    """Values that decide shapes and take long to compute, again and again."""
    nodes = [helper.make_node("ConstantOfShape", ["s"], ["f"])]
    for i in range(300):
        nodes += [
            helper.make_node("Add", ["f", f"n{i}"], [f"a{i}"]),
            helper.make_node("ReduceSum", [f"a{i}", "none"], [f"r{i}"], keepdims=0),
            helper.make_node("Mul", [f"r{i}", "zero"], [f"z{i}"]),
            helper.make_node("Cast", [f"z{i}"], [f"c{i}"], to=INT64),
            helper.make_node("Gather", ["x", f"c{i}"], [f"g{i}"]),
            helper.make_node("Expand", ["x", f"c{i}"], [f"e{i}"]),
            helper.make_node("TopK", ["x", f"c{i}"], [f"t{i}", f"u{i}"]),
        ]
    numbers = [helper.make_tensor(f"n{i}", FLOAT, [], [float(i)]) for i in range(300)]
    parts = [ints("s", 2**22), helper.make_tensor("zero", FLOAT, [1], [0.0]), ints("none", 0)]
    yield "long computations of shapes", model(nodes, outputs=["t299"], initializer=[*parts, *numbers])


def _derivatives() -> Iterator[tuple[str, Any]]:
    """Derivatives of derivatives."""
    for order in (8, 30, 200):
        nodes = [helper.make_node("Sin", ["x"], ["a"]), helper.make_node("Mul", ["a", "x"], ["d0"])]
        for i in range(order):
            nodes.append(helper.make_node("Gradient", ["x"], [f"d{i + 1}"], domain=TRAINING, xs=["x"], y=f"d{i}"))
        found = model(nodes, outputs=[f"d{order}"])
        found.opset_import.add(domain=TRAINING, version=1)
        yield f"a derivative of order {order}", found
    wrong = helper.make_node("Gradient", ["x"], ["y"], domain=TRAINING, xs=["nothing"], y="x")
    yield "a gradient of nothing", model([wrong])
    yield "a gradient without a name", model([helper.make_node("Gradient", ["x"], ["y"], domain=TRAINING, xs=["x"])])
    yield "a gradient of itself", model(
        [helper.make_node("Gradient", ["x"], ["y"], domain=TRAINING, xs=["x"], y="y")]
    )


def _forms() -> Iterator[tuple[str, Any]]:
    """Many inputs of one name, and bodies that nothing calls."""
    body = helper.make_graph(_node("Neg", "x"), "b", [], [helper.make_tensor_value_info("y", FLOAT, None)])
    yield "a body where none belongs", model(_node("Neg", "x", body=body))
    deep = body
    for _ in range(20):
        deep = helper.make_graph([helper.make_node("Neg", ["x"], ["y"], body=deep)], "b", [], list(body.output))
    yield "bodies in each other", model(_node("Neg", "x", body=deep))
