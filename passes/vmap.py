"""Functions of one sample made functions of a batch: each node of the graph is replaced by its batched form."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from typing import Any

from dlc.dims import DimLike
from dlc.errors import AttributeValueError, GraphError, ShapeError, UnsupportedError
from dlc.ir import Graph, Node, TensorType, make_node, same_op, topological
from dlc.ops import moveaxis
from dlc.ops import sum as sum_
from dlc.ops.definition import Kind, check_function, located
from dlc.ops.leaves import INPUT, InputLeaf
from dlc.ops.random import observed_sites
from dlc.ops.reduce import one_axis
from dlc.ops.tensor import Tensor, collect_origins, handles_below, wrap
from dlc.passes.autodiff import first_handles
from dlc.passes.batching_rules import Value, rule_of, spread
from dlc.provenance import here, written_at


def vmap(function: Callable[..., Any], in_axes: Any = 0, out_axes: Any = 0, randomness: str = "same") -> Any:
    """A function that does for every sample of a batch what `function` does for one, all at once.

    `function` takes tensors, or tuples, lists and dicts of them, and returns such. `in_axes` says which axis of the
    arguments counts the samples: an int for all arguments, or a tuple of one for each, which for a tuple, list or dict
    of tensors may be of that form itself; None is for what is the same for all samples, which may be anything.
    `out_axes` says, in the same way, where the batch goes in the results; None is for a result that is the same for all
    samples. What the function uses besides, such as parameters, is the same for all. The batch's size may be named.

    The result is that of calling `function` on each sample and stacking: so draws of random numbers are the same for
    each. With ``randomness="different"`` each sample has draws of its own, the numbers of one draw of shape (batch,
    ...). It composes with itself, with gradients inside and outside, and with `dlc.scan`, `dlc.checkpoint` and
    `dlc.custom_vjp`. Each op has a rule (passes/batching_rules.py); nothing runs sample by sample, but for draws whose
    seed or step differ by sample, and for convolutions of a batch of named size where both operands, or the filters
    alone, differ.

    Raises `ShapeError` where batches differ in size or an argument has no such axis, `AttributeValueError` for axes
    that do not fit the arguments, `GraphError` where the function updates state or a result that `out_axes` has as the
    same for all is not, `UnsupportedError` for an op without a rule.

    >>> import dlc
    >>> x, w = dlc.constant([[1.0, 2.0], [3.0, 4.0]]), dlc.constant([10.0, 1.0])
    >>> dlc.evaluate(dlc.vmap(dlc.vecdot, in_axes=(0, None))(x, w)).tolist()
    [12.0, 34.0]
    >>> dlc.evaluate(dlc.vmap(lambda row: dlc.grad((row * w).sum(), w))(x)).tolist()  # a gradient for each sample
    [[1.0, 2.0], [3.0, 4.0]]
    """
    check_function(function, "vmap")
    if randomness not in ("same", "different"):
        message = f"vmap: randomness={randomness!r} is unknown; use 'same' or 'different'"
        raise AttributeValueError(message, where=here())

    def mapped(*args: Any, **named: Any) -> Any:
        if named:
            message = f"vmap: arguments go by position, not by name as {', '.join(named)}; bind others with a lambda"
            raise AttributeValueError(message)
        return _mapped(function, args, in_axes, out_axes, randomness == "different")

    return located(wraps(function)(mapped))


def _mapped(function: Callable[..., Any], args: tuple[Any, ...], in_axes: Any, out_axes: Any, own_draws: bool) -> Any:
    samples: dict[Node, Tensor] = {}  # batched tensors, by what stands for one sample

    def sample(value: Any, axis: int | None) -> Any:
        if axis is None:
            return value
        t = _batch_first(wrap(value), axis)
        leaf = InputLeaf(f"sample{len(samples)}", TensorType(t.dtype, t.shape[1:]))
        one = Tensor(make_node(INPUT, (), {"leaf": leaf}), t.origin)
        samples[one.node] = t
        return one

    inner = [_each(v, a, sample, "in_axes") for v, a in zip(args, _per_argument(in_axes, args), strict=True)]
    size = _common_size(list(samples.values()))
    with observed_sites() as sites:
        result = function(*inner)
    outputs: list[Tensor] = []
    _each(result, out_axes, lambda value, _: outputs.append(wrap(value)), "out_axes", whole=False)
    found = iter(_Batching(size, frozenset(sites) if own_draws else frozenset()).results(outputs, samples))
    return _each(result, out_axes, lambda _, axis: _placed(*next(found), axis, size), "out_axes", whole=False)


# ---------------------------------------------------------------- arguments and results


def _per_argument(in_axes: Any, args: tuple[Any, ...]) -> list[Any]:
    if not isinstance(in_axes, (tuple, list)):
        return [in_axes] * len(args)
    if len(in_axes) != len(args):
        raise AttributeValueError(f"vmap: in_axes={in_axes} has {len(in_axes)} axes for {len(args)} arguments")
    return list(in_axes)


def _each(value: Any, axes: Any, visit: Callable[[Any, Any], Any], what: str, whole: bool = True) -> Any:
    """`value` with each tensor in it replaced by ``visit(tensor, axis)``; what has no axis is one where `whole`."""
    if isinstance(axes, (tuple, list, dict)):
        if not isinstance(value, (tuple, list, dict)) or isinstance(value, dict) != isinstance(axes, dict):
            raise AttributeValueError(f"vmap: {what}={axes!r} does not have the form of what it is for: {value!r:.60}")
        keys: Any = axes.keys() if isinstance(axes, dict) else range(len(axes))
        if len(axes) != len(value) or (isinstance(value, dict) and keys != value.keys()):
            raise AttributeValueError(f"vmap: {what}={axes!r} does not go with {len(value)} values: {value!r:.60}")
        return _like(value, [_each(value[k], axes[k], visit, what, whole) for k in keys], keys)
    if axes is not None and (isinstance(axes, bool) or not isinstance(axes, int)):
        raise AttributeValueError(f"vmap: {what} holds ints and None, not {axes!r}")
    if _is_container(value) and not (whole and axes is None):
        keys = value.keys() if isinstance(value, dict) else range(len(value))
        return _like(value, [_each(value[k], axes, visit, what, whole) for k in keys], keys)
    return visit(value, axes)


def _like(value: Any, found: list[Any], keys: Iterable[Any]) -> Any:
    if isinstance(value, dict):
        return dict(zip(keys, found, strict=True))
    if hasattr(value, "_fields"):  # a named tuple
        return type(value)(*found)
    return type(value)(found)


def _is_container(value: Any) -> bool:
    """Whether tuples and lists hold tensors, and are not an array written out."""
    if isinstance(value, dict):
        return True
    return isinstance(value, (tuple, list)) and not _is_written_out(value)


def _is_written_out(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return bool(value) and all(map(_is_written_out, value))
    return isinstance(value, (bool, int, float))


def _batch_first(t: Tensor, axis: int) -> Tensor:
    if t.ndim == 0:
        raise ShapeError(f"vmap: {t.type} has no axis of samples; say in_axes=None of what is the same for all")
    return moveaxis(t, one_axis(axis, t.ndim, "vmap"), 0)


def _common_size(tensors: Sequence[Tensor]) -> DimLike:
    if not tensors:
        raise AttributeValueError("vmap: no argument has an axis of samples; give one of in_axes as an int")
    sizes = [t.shape[0] for t in tensors]
    for t in tensors:
        if t.shape[0] != sizes[0]:
            raise ShapeError(f"vmap: the batches have the sizes {sizes[0]} and {t.shape[0]}; make them equal")
    return sizes[0]


def _placed(t: Tensor, batched: bool, axis: int | None, size: DimLike) -> Tensor:
    if axis is not None:
        t = spread(t, batched, size)
        return moveaxis(t, 0, one_axis(axis, t.ndim, "vmap"))
    if batched:
        raise GraphError(
            f"vmap: out_axes has None for a result that differs by sample, {t.type}; give it an int", where=t.origin
        )
    return t


# ---------------------------------------------------------------- the graph of a batch


def _rebuilt(t: Tensor, operands: Sequence[Tensor]) -> Tensor:
    """`t` on what its operands are for the batch: the same for all samples, and yet of new nodes, such as the loop's
    that makes values that differ beside them."""
    nodes = tuple([x.node for x in operands])
    return t if nodes == t.node.inputs else Tensor(same_op(t.node, nodes), t.origin, (*operands, t))


class _Batching:
    """Replaces nodes by what they are for a whole batch; `sites` are those of draws that each sample makes itself."""

    def __init__(self, size: DimLike, sites: frozenset[int]) -> None:
        self.size = size
        self.sites = sites

    def results(self, outputs: Sequence[Tensor], samples: Mapping[Node, Tensor]) -> list[Value]:
        """The outputs of a function of samples on the batches that those come from, and which are batched."""
        below = handles_below(outputs)
        carriers = [t for t in below if t.updates]
        handles = first_handles(outputs)
        roots = [t.node for t in outputs]
        found = self._values([*roots, *(v.node for t in carriers for _, v in t.updates)], dict(samples), handles)
        for t in carriers:
            for state, value in t.updates:
                if found[value.node][1]:
                    name = state.leaf.name if state.leaf else "?"
                    raise GraphError(
                        f"vmap: the state {name!r} cannot be updated by a value that differs by sample; "
                        "return the value instead",
                        where=t.origin,
                    )
        values = [found[n] for n in roots]
        return [(Tensor(t.node, o.origin, (t, *carriers)), m) for o, (t, m) in zip(outputs, values, strict=True)]

    def draws(self, node: Node) -> bool:
        """Whether `node`, or a node in a body of it, is a draw that each sample makes itself."""
        if not self.sites:
            return False
        if node.op.name == "random_bits":
            return node.attrs["site"] in self.sites
        return any(self.draws(n) for body in node.attrs.values() if isinstance(body, Graph) for n in body.nodes)

    def body(self, graph: Graph, batched: Sequence[bool], wanted: Sequence[bool | None]) -> tuple[Graph, list[bool]]:
        """A body on batched inputs, and which of its outputs are batched; see `batching_rules.Batch`."""
        handles = {n: Tensor(n, graph.where(n)) for n in graph.nodes}
        inputs, samples = [], {}
        for n, m in zip(graph.inputs, batched, strict=True):
            node = n
            if m:
                leaf = InputLeaf(n.leaf.name if n.leaf else "", TensorType(n.dtype, (self.size, *n.shape)))
                node = make_node(INPUT, (), {"leaf": leaf})
                samples[n] = Tensor(node)
            inputs.append(node)
        found = self._values(graph.outputs, samples, handles)
        outputs, masks = [], []
        for n, want in zip(graph.outputs, wanted, strict=True):
            t, m = found[n]
            if want is True:
                t = spread(t, m, self.size)
            elif want is False and m:
                t = sum_(t, axis=0)
            outputs.append(t)
            masks.append(m if want is None else want)
        return Graph(tuple(inputs), tuple(t.node for t in outputs), origins=collect_origins(outputs)), masks

    def _values(
        self, roots: Sequence[Node], samples: Mapping[Node, Tensor], handles: Mapping[Node, Tensor]
    ) -> dict[Node, Value]:
        """Every node below `roots` and what it is for the batch."""
        found: dict[Node, Value] = {n: (t, True) for n, t in samples.items()}
        items: dict[Node, list[Value]] = {}
        for node in topological(roots, stop=samples.__contains__):
            if node in found:
                continue
            handle = handles.get(node, Tensor(node))
            if node.op.kind is Kind.ITEM and node.inputs[0] in items:
                found[node] = items[node.inputs[0]][node.attrs["index"]]
                continue
            operands = [found[x] for x in node.inputs]
            if not any(m for _, m in operands) and not self.draws(node):
                found[node] = _rebuilt(handle, [t for t, _ in operands]), False
                continue
            result = self._batched(node, operands, handle)
            if isinstance(result, list) and not isinstance(node.type, TensorType):
                items[node] = result
                found[node] = handle, True
            else:
                found[node] = result[0] if isinstance(result, list) else (result, True)
        return found

    def _batched(self, node: Node, operands: Sequence[Value], handle: Tensor) -> Tensor | list[Value]:
        rule = rule_of(node.op)
        if rule is None:
            raise UnsupportedError(
                f"vmap has no rule for {node.op.name}, through which {node!r} differs by sample; give it one with "
                f"dlc.passes.batching_rule({node.op.name!r})",
                where=handle.origin,
            )
        with written_at(handle.origin):
            return rule(self, node, [t for t, _ in operands], [m for _, m in operands])

