"""Loops, choices, fused nodes, projections and random bits as ONNX nodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dlc.dims import product
from dlc.dtypes import FLOATING
from dlc.frontend.onnx.export_arrays import ordered, unordered
from dlc.frontend.onnx.writer import Value, Writer, exports, value_info
from dlc.ir import Graph, Node, TensorType
from dlc.ops.philox import LOW, MULTIPLIER_0, MULTIPLIER_1, WEYL_0, WEYL_1


@exports("item")
def _item(w: Writer, node: Node, xs: list[Any]) -> Value:
    return xs[0][node.attrs["index"]]


@exports("fused")
def _fused(w: Writer, node: Node, xs: list[Value]) -> Any:
    """The nodes of the body: whoever runs the file fuses as it sees fit."""
    body = node.attrs["body"]
    found = w.graph(body, dict(zip(body.inputs, xs, strict=True)))
    return found if len(found) > 1 else found[0]


@exports("call")
def _call(w: Writer, node: Node, xs: list[Value]) -> list[Value]:
    """The nodes of the body; a rule for the gradient is in the graph already where it was asked for."""
    body = node.attrs["body"]
    return w.graph(body, dict(zip(body.inputs, xs, strict=True)))


@exports("after")
def _after(w: Writer, node: Node, xs: list[Value]) -> Value:
    """The value itself: whoever runs the file decides the order."""
    return w.op("Identity", xs[0])


@exports("scan")
def _scan(w: Writer, node: Node, xs: list[Value]) -> list[Value]:
    body, carries, slices = (node.attrs[k] for k in ("body", "carries", "slices"))
    if node.attrs["length"] == 0:  # which ONNX Runtime refuses to do
        nothing = [w.filled(0, t.dtype, t.shape) for t in node.type.items[carries:]]
        return [*(w.op("Identity", x) for x in xs[:carries]), *nothing]
    inner = Writer(w.root)
    names = [inner.unique(f"{w.place}{'carry' if i < carries else 'slice'}{i}") for i in range(carries + slices)]
    sliced = list(xs[carries : carries + slices])
    inputs = [value_info(n, x.type) for n, x in zip(names, body.inputs, strict=False)]
    if not slices:  # ONNX's Scan counts its steps by what it slices
        sliced = [w.positions(node.attrs["length"])]
        inputs.append(value_info(inner.unique(f"{w.place}step"), TensorType("int64")))
    results = inner.graph(body, dict(zip(body.inputs, [*names, *xs[carries + slices :]], strict=True)))
    graph = _bodied(w, inner, inputs, _own(inner, results), body, "body")
    how: dict[str, Any] = {"num_scan_inputs": len(sliced)}
    if node.attrs["reverse"]:
        how["scan_input_directions"] = [1] * len(sliced)
        if len(results) > carries:
            how["scan_output_directions"] = [1] * (len(results) - carries)
    return w.emit("Scan", [*xs[:carries], *sliced], results=len(results), body=graph, **how)


@exports("cond")
def _cond(w: Writer, node: Node, xs: list[Value]) -> list[Value]:
    """An If, whose branches see the names around them."""
    branches = {}
    for name, attribute in (("then", "then_branch"), ("otherwise", "else_branch")):
        body = node.attrs[name]
        inner = Writer(w.root)
        results = inner.graph(body, dict(zip(body.inputs, xs[1:], strict=True)))
        branches[attribute] = _bodied(w, inner, [], _own(inner, results), body, name)
    return w.emit("If", xs[:1], results=len(node.type.items), **branches)


@exports("while_loop")
def _while_loop(w: Writer, node: Node, xs: list[Value]) -> list[Value]:
    """A Loop, which decides before its first step and at the end of each whether there is another."""
    condition, body, carries, most = (node.attrs[k] for k in ("condition", "body", "carries", "max_steps"))
    first = w.graph(condition, dict(zip(condition.inputs, xs, strict=True)))[0]
    inner = Writer(w.root)
    names = [inner.unique(f"{w.place}{name}") for name in ("step", "goes_on", *(f"carry{i}" for i in range(carries)))]
    types = [TensorType("int64"), TensorType("bool"), *(n.type for n in body.inputs[:carries])]
    given = [*names[2:], *xs[carries:]]
    new = inner.graph(body, dict(zip(body.inputs, given, strict=True)))
    goes_on = inner.graph(condition, dict(zip(condition.inputs, [*new, *xs[carries:]], strict=True)))
    outputs = _own(inner, [*goes_on, *new])
    inputs = [value_info(n, t) for n, t in zip(names, types, strict=True)]
    results = [value_info(r, t) for r, t in zip(outputs, types[1:], strict=True)]
    graph = _graph(w, inner, inputs, results, "body")
    limit = "" if most is None else w.op("Squeeze", w.dim(most))
    return w.emit("Loop", [limit, first, *xs[:carries]], results=carries, body=graph)


def _own(inner: Writer, results: list[Value]) -> list[Value]:
    """Results of a body as values that its own nodes make, each once."""
    made = {output for n in inner.nodes for output in n.output}
    distinct: list[Value] = []
    for r in results:
        distinct.append(r if r in made and r not in distinct else inner.op("Identity", r))
    return distinct


def _bodied(w: Writer, inner: Writer, inputs: list[Any], results: list[Value], body: Graph, name: str) -> Any:
    outputs = [value_info(r, n.type) for r, n in zip(results, body.outputs, strict=True)]
    return _graph(w, inner, inputs, outputs, name)


def _graph(w: Writer, inner: Writer, inputs: list[Any], outputs: list[Any], name: str) -> Any:
    from onnx import helper

    return helper.make_graph(inner.nodes, inner.unique(f"{w.place}{name}"), inputs, outputs)


@exports("linear_recurrence")
def _linear_recurrence(w: Writer, node: Node, xs: list[Value]) -> Value:
    """y = a y + b as a Scan; the first a is not looked at."""
    return _walk(w, node, xs, lambda inner, carry, a, b: inner.op("Add", inner.op("Mul", a, carry), b))


@exports("cumulative_max", "cumulative_min")
def _running_extremum(w: Writer, node: Node, xs: list[Value]) -> Value:
    """The better of the carry and the next element; a NaN is never left."""
    better = {"cumulative_max": "Greater", "cumulative_min": "Less"}[node.op.name]

    def step(inner: Writer, carry: Value, x: Value) -> Value:
        taken = inner.op(better, x, carry)
        if node.dtype in FLOATING:
            taken = inner.op("Or", taken, inner.op("IsNaN", x))
        return inner.op("Where", taken, x, carry)

    x, wide = ordered(w, "ReduceMax", xs[0], node.dtype)
    return unordered(w, _walk(w, node, [x], step, wide), wide, node.dtype)


def _walk(w: Writer, node: Node, xs: list[Value], step: Callable[..., Value], dtype: str | None = None) -> Value:
    """A Scan along the node's axis: its last operand's element at the start, then ``step(writer, last, *elements)``."""
    from onnx import helper

    axis, reverse = node.attrs["axis"], int(node.attrs["reverse"])
    if node.shape[axis] == 0:
        return w.op("Identity", xs[-1])
    others = tuple(d for a, d in enumerate(node.shape) if a != axis)
    t = TensorType(dtype or node.dtype, others)
    inner = Writer(w.root)
    inner.place = w.place
    carry, first, *elements = (inner.unique(f"{w.place}{n}") for n in ("carry", "first", *"ab"[: len(xs)]))
    found = inner.op("Where", first, elements[-1], step(inner, carry, *elements))
    outputs = [inner.op("Identity", found), inner.op("Identity", w.constant(False, "bool")), found]
    graph = helper.make_graph(
        inner.nodes,
        inner.unique(f"{w.place}body"),
        [value_info(carry, t), value_info(first, TensorType("bool")), *(value_info(x, t) for x in elements)],
        [value_info(outputs[0], t), value_info(outputs[1], TensorType("bool")), value_info(outputs[2], t)],
    )
    start = [w.filled(0, t.dtype, others), w.constant(True, "bool")]
    return w.emit(
        "Scan",
        [*start, *xs],
        results=3,
        body=graph,
        num_scan_inputs=len(xs),
        scan_input_axes=[axis] * len(xs),
        scan_input_directions=[reverse] * len(xs),
        scan_output_axes=[axis],
        scan_output_directions=[reverse],
    )[2]


@exports("random_bits")
def _random_bits(w: Writer, node: Node, xs: list[Value]) -> Value:
    """Philox4x32-10, as dlc/ops/philox.py has it, in uint64."""
    low, half = w.constant(LOW, "uint64"), w.constant(32, "uint64")

    def right(x: Value) -> Value:
        return w.op("BitShift", x, half, direction="RIGHT")

    def lower(x: Value) -> Value:
        return w.op("BitwiseAnd", x, low)

    index = w.cast(w.positions(product(node.shape)), "int64", "uint64")
    seed, step = xs[0], w.cast(xs[1], "int64", "uint64")
    c0, c1, c2, c3 = lower(index), right(index), lower(step), w.constant(node.attrs["site"], "uint64")
    k0, k1 = lower(seed), right(seed)
    for _ in range(10):
        p0 = w.op("Mul", w.constant(MULTIPLIER_0, "uint64"), c0)
        p1 = w.op("Mul", w.constant(MULTIPLIER_1, "uint64"), c2)
        c0, c2 = (
            w.op("BitwiseXor", w.op("BitwiseXor", right(p), c), k) for p, c, k in ((p1, c1, k0), (p0, c3, k1))
        )
        c1, c3 = lower(p1), lower(p0)
        k0, k1 = (
            lower(w.op("Add", k, w.constant(weyl, "uint64"))) for k, weyl in ((k0, WEYL_0), (k1, WEYL_1))
        )
    word = w.op("Expand", (c0, c1, c2, c3)[node.attrs["word"]], w.dims((product(node.shape),)))
    return w.reshape(w.cast(word, "uint64", "uint32"), (product(node.shape),), node.shape)

