"""What authors of passes, rules and ops use in their tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from dlc.dtypes import FLOATING
from dlc.errors import GradientError, VerificationError
from dlc.ir import Graph, Leaf, Literal, Node, TensorType, make_node, same_op
from dlc.ops.interpret import interpret
from dlc.ops.leaves import InputLeaf, input
from dlc.ops.tensor import Tensor, wrap
from dlc.passes import gradients, verify
from dlc.passes.bind import bind_ambients
from dlc.passes.compare import Comparison, random_array, random_bindings, random_inputs
from dlc.passes.driver import check_step
from dlc.passes.pipeline import Pass, pass_name
from dlc.printer import graph_diff
from dlc.state import State

Array = np.ndarray[Any, Any]

__all__ = ["assert_same_graph", "check_grad", "check_pass", "random_inputs"]


def assert_same_graph(actual: Graph, expected: Graph) -> None:
    """Raise `AssertionError`, with a readable diff, unless two graphs compute the same in the same way.

    Structure counts: ops, attributes, types, constants, sharing and order of outputs. Names and identities of inputs
    and states do not; they are matched by position.

    >>> import dlc
    >>> x, y = dlc.input("x", (3,)), dlc.input("y", (3,))
    >>> assert_same_graph(dlc.graph([x], [dlc.exp(x)]), dlc.graph([y], [dlc.exp(y)]))
    >>> assert_same_graph(dlc.graph([x], [dlc.exp(x)]), dlc.graph([x], [dlc.log(x)]))
    Traceback (most recent call last):
    AssertionError: the graphs differ
    --- expected
    +++ actual
    @@ -1,4 +1,4 @@
     graph (x: f32[3]) {
    -  %0: f32[3] = log(x)
    +  %0: f32[3] = exp(x)
       return %0
     }
    """
    if not actual.same_structure(expected):
        diff = graph_diff(expected, actual, ("expected", "actual"))
        raise AssertionError(f"the graphs differ\n{diff or 'in the values of large constants'}")


def check_pass(
    pass_: Pass, graph: Graph, inputs: Sequence[Any] | None = None, *, runs: int = 4, rtol: float = 1e-4
) -> Graph:
    """Run a pass over `graph` and return the result, after checking that the pass is sound there.

    The graph is verified before and after, and both run on the reference backend: on `inputs` where given, otherwise on
    random ones under several bindings of the named dims, with training off and on. Results must agree within rounding
    (`rtol`; NaN equals NaN, and infinities equal themselves). Raises `VerificationError` naming the pass, with a diff.

    >>> import dlc
    >>> from dlc import passes
    >>> x = dlc.input("x", ("N", 3))
    >>> check_pass(passes.simplify, dlc.graph([x], [x * 1]))
    <Graph of 1 nodes: 1 inputs, 1 outputs, 0 updates>
    """
    verify(graph)
    comparison = Comparison(graph, runs=runs, inputs=inputs)
    failed = [case.outputs for case in comparison.cases if isinstance(case.outputs, type)]
    if len(failed) == len(comparison.cases):
        raise VerificationError(
            f"the graph itself raises {failed[0].__name__} on these inputs; give inputs= that it takes"
        )
    after = pass_(graph)
    check_step(pass_name(pass_), graph, after, comparison, rtol=rtol)
    return after


def check_grad(
    graph: Graph | Callable[..., Any],
    inputs: Sequence[Any] | None = None,
    *,
    bindings: Mapping[str, int] | None = None,
    training: bool = False,
    directions: int = 4,
    tolerance: float = 1e-5,
    step: float = 1e-5,
    own_values: bool = False,
    hold_stopped: bool = False,
    seed: int = 0,
) -> None:
    """Raise `AssertionError` unless the gradients of a graph agree with finite differences, computed in float64.

    The graph is converted to float64. With random cotangents for its floating-point outputs, the derivative in random
    directions of all floating-point inputs and states together is compared with the central difference of size `step`,
    relative to the larger of the two and 1% of the gradient's norm. `inputs` gives the place (random where left out),
    `bindings` the named dims. States take random values too; with `own_values` those that they have, so that a network
    is checked at its initial or trained weights. With `hold_stopped`, what `stop_gradient` takes keeps its value in the
    differences too, except within loops. A function is called on inputs like the arrays in `inputs`.

    >>> import dlc
    >>> x = dlc.input("x", ("N", 3))
    >>> check_grad(dlc.graph([x], [dlc.tanh(x) * x]))
    >>> check_grad(lambda x: dlc.floor(x) + x, [[0.3, 1.7]])
    >>> check_grad(lambda x: x * dlc.stop_gradient(x), [[0.3, 1.7]], hold_stopped=True)
    >>> check_grad(lambda x: x * dlc.stop_gradient(x), [[0.3, 1.7]])  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    AssertionError: in direction 0 the gradient gives ..., finite differences ...
    """
    if not isinstance(graph, Graph):
        graph = _traced(graph, inputs)
    graph = as_float64(bind_ambients(graph, training=training))
    rng = np.random.default_rng(seed)
    if inputs is not None:
        values = [np.asarray(a, n.dtype) for n, a in zip(graph.inputs, inputs, strict=True)]
        dims = dict(Comparison(graph, runs=1, inputs=values).cases[0].bindings)
    else:
        dims = {**(bindings or {}), **random_bindings(graph, rng, bindings)}
        values = random_inputs(graph, dims, rng)
    place = dict(zip(graph.inputs, values, strict=True))
    for n in graph.states:
        if own_values and isinstance(n.leaf, State):
            place[n] = n.leaf.value
        else:
            place[n] = random_array(n.type, dims, rng, positive=True)
    variables = [n for n in place if n.dtype in FLOATING]
    outputs = [n for n in graph.outputs if n.dtype in FLOATING]
    if not variables or not outputs:
        raise GradientError("the graph has no floating-point input, or no floating-point output: there is no gradient")

    seeds = [input(f"cotangent {i}", n.shape, n.dtype) for i, n in enumerate(outputs)]
    cotangents = [random_array(t.type, dims, rng) for t in seeds]
    found = gradients([Tensor(n) for n in outputs], [Tensor(n) for n in variables], seeds)
    backward = Graph((*graph.inputs, *(t.node for t in seeds)), tuple(t.node for t in found))
    forward = Graph(graph.inputs, tuple(outputs))
    stopped = [n for n in forward.nodes if n.op.name == "stop_gradient"] if hold_stopped else []
    differed = _with_inputs_for(stopped, forward)

    def run(g: Graph, at: Mapping[Node, Array], extra: Sequence[Array] = ()) -> list[Array]:
        with np.errstate(all="ignore"):
            arrays = [*(at[n] for n in graph.inputs), *extra]
            return interpret(g, arrays, dims, {n: at[n] for n in g.states})[0]

    held = run(Graph(graph.inputs, tuple(stopped)), place) if stopped else []

    def loss(at: Mapping[Node, Array]) -> float:
        return float(sum(np.vdot(c, y) for c, y in zip(cotangents, run(differed, at, held), strict=True)))

    gs = run(backward, place, cotangents)
    for node, g in zip(variables, gs, strict=True):
        if not np.isfinite(g).all():
            raise AssertionError(f"the gradient for {_label(node)} is not finite: {g[~np.isfinite(g)].flat[0]}")
    for number in range(directions):
        direction = {n: np.asarray(rng.standard_normal(place[n].shape)) for n in variables}
        analytic = float(sum(np.vdot(g, direction[n]) for n, g in zip(variables, gs, strict=True)))
        norm = float(np.sqrt(sum(np.vdot(g, g) for g in gs) * sum(np.vdot(d, d) for d in direction.values())))
        ahead = loss({n: a + step * direction[n] if n in direction else a for n, a in place.items()})
        behind = loss({n: a - step * direction[n] if n in direction else a for n, a in place.items()})
        numeric = (ahead - behind) / (2 * step)
        error = abs(analytic - numeric)
        bound = tolerance * max(abs(analytic), abs(numeric), 0.01 * norm) + 1e-10
        if not error <= bound:  # NaN is an error too
            raise AssertionError(
                f"in direction {number} the gradient gives {analytic:.9g}, finite differences {numeric:.9g}: "
                f"they differ by {error:.2g}, more than {bound:.2g}"
            )


def _with_inputs_for(nodes: Sequence[Node], graph: Graph) -> Graph:
    """`graph` with further inputs in the place of some of its nodes."""
    new = {n: input(f"held {i}", n.shape, n.dtype).node for i, n in enumerate(nodes)}
    inputs = (*graph.inputs, *new.values())
    for node in graph.nodes:
        if node not in new:
            new[node] = same_op(node, tuple(new[x] for x in node.inputs))
    return Graph(inputs, tuple(new[n] for n in graph.outputs))


def as_float64(graph: Graph) -> Graph:
    """`graph` with float64 in place of float32: inputs, states (as copies), constants, conversions, and bodies.

    >>> import dlc
    >>> x = dlc.input("x", (3,))
    >>> as_float64(dlc.graph([x], [dlc.exp(x) * 2])).outputs[0].type
    f64[3]
    """
    new: dict[Node, Node] = {}
    for node in graph.nodes:
        attrs = {name: _as_float64(value) for name, value in node.attrs.items()}
        new[node] = make_node(node.op, tuple(new[x] for x in node.inputs), attrs)
    return Graph(
        tuple(new[n] for n in graph.inputs),
        tuple(new[n] for n in graph.outputs),
        tuple((new[s], new[v]) for s, v in graph.updates),
        {new[n]: places for n, places in graph.origins.items() if n in new},
    )


def _as_float64(value: Any) -> Any:
    match value:
        case "float32":
            return "float64"
        case tuple():
            return tuple(map(_as_float64, value))
        case Literal() if value.array.dtype == np.float32:
            return Literal(value.array, "float64")
        case Graph():
            return as_float64(value)
        case Leaf():
            return _leaf_as_float64(value)
    return value


def _leaf_as_float64(leaf: Leaf) -> Leaf:
    type_ = getattr(leaf, "type", None)
    if type_ is None or type_.dtype != "float32":
        return leaf
    wide = TensorType("float64", type_.shape)
    return State(leaf.name, wide, lambda: leaf.value) if isinstance(leaf, State) else InputLeaf(leaf.name, wide)


def _traced(function: Callable[..., Any], inputs: Sequence[Any] | None) -> Graph:
    if inputs is None:
        raise GradientError("check_grad of a function needs inputs=, arrays that it is called on")
    arguments = [wrap(np.asarray(a)).type for a in inputs]
    tensors = [input(f"x{i}", t.shape, t.dtype) for i, t in enumerate(arguments)]
    results = function(*tensors)
    outputs = results if isinstance(results, (tuple, list)) else [results]
    return Graph(tuple(t.node for t in tensors), tuple(wrap(t).node for t in outputs))


def _label(node: Node) -> str:
    return repr(node.leaf.name) if node.leaf is not None else repr(node)
