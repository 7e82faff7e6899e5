"""How each op works on a whole batch of samples at once: the rules of `dlc.vmap`, all in one place.

A batched tensor has the batch as its axis 0, before the axes of a sample. A rule gets the node of one sample, its
operands, and which of them are batched (at least one, or the rule is of an op that draws), and returns the batched
result. Elementwise ops and reductions have the rule of their kind; other ops have one by name, given with
`batching_rule`. Compare JAX's batching rules (R. Frostig, M. Johnson, C. Leary, "Compiling machine learning programs
via high-level tracing", 2018).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from dlc.dims import DimLike, Shape, product
from dlc.ir import Graph, Node, TensorType
from dlc.ops import any as any_
from dlc.ops import broadcast_to, moveaxis, permute_dims, random_bits, reshape, scan, size_of, where
from dlc.ops.call import CALL
from dlc.ops.definition import Kind, Op, build
from dlc.ops.elementwise import convert
from dlc.ops.fill import along, iota
from dlc.ops.leaves import item
from dlc.ops.scan import replaced
from dlc.ops.tensor import Tensor

Value = tuple[Tensor, bool]  # and whether it is batched


class Batch(Protocol):
    """What rules know of the batch."""

    @property
    def size(self) -> DimLike:
        """The number of samples: an int, or a dim known at the call."""

    def draws(self, node: Node) -> bool:
        """Whether `node` draws random numbers that each sample has of its own."""

    def body(self, graph: Graph, batched: Sequence[bool], wanted: Sequence[bool | None]) -> tuple[Graph, list[bool]]:
        """The body of a node on batched inputs, and which outputs are batched.

        `wanted` says of each output whether it has to be: False sums a batched one over the batch.
        """


Rule = Callable[[Batch, Node, Sequence[Tensor], Sequence[bool]], "Tensor | list[Value]"]
RULES: dict[str, Rule] = {}


def batching_rule(*names: str) -> Callable[[Rule], Rule]:
    """Give the ops of these names a rule, as a decorator."""

    def decorate(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, rule))
        return rule

    return decorate


def rule_of(op: Op) -> Rule | None:
    """The rule of an op: its own, or that of its kind."""
    by_kind = {Kind.ELEMENTWISE: _elementwise, Kind.REDUCE: _shifted}
    return RULES.get(op.name, by_kind.get(op.kind))


def spread(t: Tensor, batched: bool, size: DimLike) -> Tensor:
    """`t` as a batched tensor: the same for each sample where it is not one."""
    return t if batched else broadcast_to(t, (size, *t.shape))


def _sample_shape(t: Tensor, batched: bool) -> Shape:
    return t.shape[1:] if batched else t.shape


# ---------------------------------------------------------------- elementwise: broadcasting


def _elementwise(batch: Batch, node: Node, operands: Sequence[Tensor], batched: Sequence[bool]) -> Tensor:
    """Samples of fewer axes than the result get axes of 1 after the batch."""
    rank = len(node.shape)
    return node.op(*(_led(t, rank) if b else t for t, b in zip(operands, batched, strict=True)), **node.attrs)


def _led(t: Tensor, rank: int) -> Tensor:
    """A batched tensor whose samples have `rank` axes, the first of them new and 1."""
    return reshape(t, (t.shape[0], *(1,) * (rank - t.ndim + 1), *t.shape[1:]))


# ---------------------------------------------------------------- ops of axes: each counts one more


def _next(axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(a + 1 for a in axes)


# For each op on an equal number of axes of all operands: its attributes, given the batch's size and those of a sample.
ATTRIBUTES: dict[str, Callable[..., dict[str, Any]]] = {
    "reshape": lambda n, shape: {"shape": (n, *shape)},
    "permute_dims": lambda n, axes: {"axes": (0, *_next(axes))},
    "slice": lambda n, starts, sizes, steps: {"starts": (0, *starts), "sizes": (n, *sizes), "steps": (1, *steps)},
    "windows": lambda n, axes, **how: {"axes": _next(axes), **how},
    "fold": lambda n, axes, **how: {"axes": _next(axes), **how},
    "pad": lambda n, low, high, interior, value: {
        "low": (0, *low),
        "high": (0, *high),
        "interior": (0, *interior),
        "value": value,
    },
    "stop_gradient": lambda n: {},
    **dict.fromkeys(
        (
            *("concat", "take_along_axis", "argsort", "linear_recurrence"),
            *("cumulative_sum", "cumulative_prod", "cumulative_max", "cumulative_min"),
        ),
        lambda n, axis, **how: {"axis": axis + 1, **how},
    ),
}


@batching_rule(*ATTRIBUTES)
def _shifted(batch: Batch, node: Node, operands: Sequence[Tensor], batched: Sequence[bool]) -> Tensor:
    shift = ATTRIBUTES.get(node.op.name, lambda n, axes: {"axes": _next(axes)})
    spread_out = (spread(t, b, batch.size) for t, b in zip(operands, batched, strict=True))
    return node.op(*spread_out, **shift(batch.size, **node.attrs))


@batching_rule("broadcast_to")
def _broadcast_to(batch: Batch, node: Node, operands: Sequence[Tensor], batched: Sequence[bool]) -> Tensor:
    shape = node.attrs["shape"]
    return broadcast_to(_led(operands[0], len(shape)), (batch.size, *shape))


@batching_rule("after")
def _after(batch: Batch, node: Node, operands: Sequence[Tensor], batched: Sequence[bool]) -> list[Value]:
    return [(node.op(*operands), batched[0])]


# ---------------------------------------------------------------- random bits


@batching_rule("random_bits")
def _random_bits(batch: Batch, node: Node, operands: Sequence[Tensor], batched: Sequence[bool]) -> Tensor:
    """The batch as the first axis of one draw; one draw after the other where seed or step differ by sample."""
    own = {**node.attrs, "shape": (batch.size, *node.shape)} if batch.draws(node) else dict(node.attrs)
    if not any(batched):
        return random_bits(operands[0], operands[1], **own)
    return _one_by_one(batch, node, operands, batched)


def _one_by_one(batch: Batch, node: Node, operands: Sequence[Tensor], batched: Sequence[bool]) -> Tensor:
    """A loop over the samples."""
    mapped = tuple(t for t, b in zip(operands, batched, strict=True) if b)

    def body(carry: Any, slices: tuple[Tensor, ...]) -> Any:
        rest = iter(slices)
        return carry, node.op(*(next(rest) if b else t for t, b in zip(operands, batched, strict=True)), **node.attrs)

    _, found = scan(body, (), mapped)
    stacked: Tensor = found
    return stacked


# ---------------------------------------------------------------- gather and scatter


def _offset(indices: Tensor, size: DimLike) -> Tensor:
    """Indices [B, ...] into an axis of `size` as places in B such axes, one behind the other.

    What is out of range in its own axis is -1, which no check lets through.
    """
    at, length = convert(indices, "int64"), size_of(size, "int64")
    first = along(iota((indices.shape[0],)), 0, indices.ndim) * length
    return where((at >= 0) & (at < length), at + first, -1)


def _flat(indices: Tensor, size: DimLike) -> Tensor:
    """The same in a row."""
    return reshape(_offset(indices, size), (product(indices.shape),))


@batching_rule("take")
def _take(batch: Batch, node: Node, operands: Sequence[Tensor], batched: Sequence[bool]) -> Tensor:
    (x, indices), axis = operands, node.attrs["axis"]
    if not batched[1]:
        return node.op(x, indices, axis=axis + 1)
    if not batched[0]:
        return moveaxis(node.op(x, indices, axis=axis), axis, 0)
    sample = x.shape[1:]
    rows = reshape(moveaxis(x, axis + 1, 1), (batch.size * sample[axis], *sample[:axis], *sample[axis + 1 :]))
    found = node.op(rows, _offset(indices, sample[axis]), axis=0)  # [B, *indices, *rest]
    lead = tuple(range(1, indices.ndim))
    return moveaxis(found, lead, tuple(a + axis for a in lead))


@batching_rule("take_adjoint")
def _take_adjoint(batch: Batch, node: Node, operands: Sequence[Tensor], batched: Sequence[bool]) -> Tensor:
    (g, indices), (axis, size) = operands, (node.attrs["axis"], node.attrs["size"])
    if not batched[1]:
        return node.op(g, indices, axis=axis + 1, size=size)
    spans = tuple(range(1, indices.ndim))
    rows = moveaxis(spread(g, batched[0], batch.size), tuple(a + axis for a in spans), spans)
    rest = rows.shape[indices.ndim :]
    added = node.op(
        reshape(rows, (product(indices.shape), *rest)), _flat(indices, size), axis=0, size=batch.size * size
    )
    return moveaxis(reshape(added, (batch.size, size, *rest)), 1, axis + 1)


@batching_rule("put")
def _put(batch: Batch, node: Node, operands: Sequence[Tensor], batched: Sequence[bool]) -> Tensor:
    """Rows of all samples side by side under common indices, one below the other under indices of their own."""
    n, (rows, columns) = batch.size, node.shape
    x, values = (spread(operands[i], batched[i], n) for i in (0, 2))
    indices, count = operands[1], values.shape[1]
    if not batched[1]:
        x, values = (reshape(moveaxis(t, 0, 1), (t.shape[1], n * columns)) for t in (x, values))
        return moveaxis(reshape(node.op(x, indices, values), (rows, n, columns)), 1, 0)
    flat = node.op(reshape(x, (n * rows, columns)), _flat(indices, rows), reshape(values, (n * count, columns)))
    return reshape(flat, (n, rows, columns))


# ---------------------------------------------------------------- matrix products


@batching_rule("matmul")
def _matmul(batch: Batch, node: Node, operands: Sequence[Tensor], batched: Sequence[bool]) -> Tensor:
    """One more batch dim; where one operand is one matrix for all samples, one product of many rows."""
    a, b = operands
    n, (rows, columns) = batch.size, node.shape[-2:]
    if all(batched) or len(node.shape) > 2:
        return node.op(*(spread(t, m, n) for t, m in zip(operands, batched, strict=True)))
    if batched[0]:
        return reshape(node.op(reshape(a, (n * rows, a.shape[-1])), b), (n, rows, columns))
    turned = reshape(permute_dims(b, (0, 2, 1)), (n * columns, b.shape[1]))
    return permute_dims(reshape(node.op(turned, permute_dims(a, (1, 0))), (n, columns, rows)), (0, 2, 1))


# ---------------------------------------------------------------- convolutions

# Of each of the three ops: the axis of the first operand, of the second and of the result that the batch can be folded
# into where it is in that operand alone. Axis 0 of images is their number; the others are channels, by group.
FOLDED = {
    "conv2d": ((0, 0), (0, 1)),
    "conv2d_data_gradient": ((0, 0), (1, 1)),
    "conv2d_weight_gradient": ((1, 1), (1, 0)),
}


@batching_rule(*FOLDED)
def _convolution(batch: Batch, node: Node, operands: Sequence[Tensor], batched: Sequence[bool]) -> Tensor:
    """The batch folded into the number of images, into channels, or, in both operands, into groups.

    The number of channels and groups is an int; a batch of named size that cannot go elsewhere is looped over.
    """
    n = batch.size
    if batched[0] and not batched[1] and node.op.name != "conv2d_weight_gradient":
        folded = reshape(operands[0], (n * operands[0].shape[1], *operands[0].shape[2:]))
        found = node.op(folded, operands[1], **node.attrs)
        return reshape(found, (n, *node.shape))
    if not isinstance(n, int) or not all(isinstance(d, int) for t in operands for d in t.shape[-3:]) or n == 0:
        return _one_by_one(batch, node, operands, batched)
    if all(batched):
        return _in_groups(n, node, operands)
    return _in_channels(n, node, operands, 0 if batched[0] else 1)


def _in_groups(n: int, node: Node, operands: Sequence[Tensor]) -> Tensor:
    """Each sample has groups of its own."""
    filters = {"conv2d_weight_gradient": ()}.get(node.op.name, (1,))  # the operand whose channels are axis 0
    folded = [_merged(t, 0 if i in filters else 1) for i, t in enumerate(operands)]
    found = node.op(*folded, **{**node.attrs, "groups": node.attrs["groups"] * n})
    return _parted(found, 1 if filters else 0, n)


def _merged(t: Tensor, axis: int) -> Tensor:
    """[B, ...] with the batch as the outer part of a sample's `axis`."""
    moved = moveaxis(t, 0, axis)
    return reshape(moved, (*moved.shape[:axis], moved.shape[axis] * moved.shape[axis + 1], *moved.shape[axis + 2 :]))


def _parted(t: Tensor, axis: int, n: int) -> Tensor:
    """The reverse."""
    return moveaxis(reshape(t, (*t.shape[:axis], n, t.shape[axis] // n, *t.shape[axis + 1 :])), axis, 0)


def _in_channels(n: int, node: Node, operands: Sequence[Tensor], which: int) -> Tensor:
    """The samples of one operand as more channels of each group."""
    axis, result = FOLDED[node.op.name][which]
    # A kernel's axis 1 counts the channels of one group; all other axes of channels hold the groups, one by one.
    groups = node.attrs["groups"]
    whole = which == 1 and node.op.name == "conv2d_data_gradient"
    t = operands[which]
    outer = 1 if whole else groups
    split = reshape(t, (n, *t.shape[1 : axis + 1], outer, t.shape[axis + 1] // outer, *t.shape[axis + 2 :]))
    moved = moveaxis(split, 0, axis + 1)
    merged = (*moved.shape[:axis], n * t.shape[axis + 1], *moved.shape[axis + 3 :])
    folded = [reshape(moved, merged) if i == which else x for i, x in enumerate(operands)]
    found = node.op(*folded, **node.attrs)
    single = node.op.name == "conv2d_weight_gradient" and which == 0  # the result is a kernel, and its axis 1 counts
    parts = 1 if single else groups
    sample = node.shape[result]
    wide = (*found.shape[:result], parts, n, sample // parts, *found.shape[result + 1 :])
    return reshape(moveaxis(reshape(found, wide), result + 1, 0), (n, *node.shape))


# ---------------------------------------------------------------- bodies


@batching_rule("scan")
def _scan(batch: Batch, node: Node, operands: Sequence[Tensor], batched: Sequence[bool]) -> list[Value]:
    """A loop over batched values. A carry is batched where it is at the start or becomes so in a step."""
    body, carries, slices = (node.attrs[name] for name in ("body", "carries", "slices"))
    masks = list(batched)
    while True:
        wanted: list[bool | None] = [True if m else None for m in masks[:carries]]
        new, found = batch.body(body, masks, [*wanted, *(None,) * (len(body.outputs) - carries)])
        if found[:carries] == masks[:carries]:
            break
        masks[:carries] = found[:carries]
    given = []
    for i, (t, before, after) in enumerate(zip(operands, batched, masks, strict=True)):
        sliced = carries <= i < carries + slices
        given.append(moveaxis(t, 0, 1) if sliced and after else spread(t, before, batch.size) if after else t)
    looped = build(node.op, given, {**node.attrs, "body": new})
    results = [item(looped, i) for i in range(len(found))]
    stacked = [m and i >= carries for i, m in enumerate(found)]
    return [(moveaxis(t, 1, 0) if s else t, m) for t, s, m in zip(results, stacked, found, strict=True)]


@batching_rule("cond")
def _cond(batch: Batch, node: Node, operands: Sequence[Tensor], batched: Sequence[bool]) -> list[Value]:
    """The same choice on batched values; where each sample chooses for itself, both branches, and `where`."""
    bodies = node.attrs["then"], node.attrs["otherwise"]
    found = [batch.body(body, batched[1:], [None] * len(body.outputs))[1] for body in bodies]
    masks = [any(pair) for pair in zip(*found, strict=True)]
    if not batched[0]:
        new = [batch.body(body, batched[1:], [m or None for m in masks])[0] for body in bodies]
        chosen = build(node.op, operands, dict(zip(("then", "otherwise"), new, strict=True)))
        return [(item(chosen, i), m) for i, m in enumerate(masks)]
    sides = []
    for body in bodies:
        whole, _ = batch.body(body, batched[1:], [True] * len(body.outputs))
        called = build(CALL, operands[1:], {"body": whole, "name": "branch", "explicit": 0, "backward": None})
        sides.append([item(called, i) for i in range(len(masks))])
    return [(_chosen(operands[0], a, b), True) for a, b in zip(*sides, strict=True)]


def _chosen(condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """For each sample what its condition says."""
    return where(reshape(condition, (condition.shape[0], *(1,) * (a.ndim - 1))), a, b)


@batching_rule("while_loop")
def _while_loop(batch: Batch, node: Node, operands: Sequence[Tensor], batched: Sequence[bool]) -> list[Value]:
    """A loop over batched values, which goes on as long as one sample does; the others then keep their carries."""
    condition, body, carries = (node.attrs[name] for name in ("condition", "body", "carries"))
    masks = list(batched)
    while True:
        _, (own,) = batch.body(condition, masks, [None])
        wanted: list[bool | None] = [True if m or own else None for m in masks[:carries]]
        new, found = batch.body(body, masks, wanted)
        if found == masks[:carries]:
            break
        masks[:carries] = found
    test, _ = batch.body(condition, masks, [None])
    given = [spread(t, b, batch.size) if a else t for t, b, a in zip(operands, batched, masks, strict=True)]
    if own:
        own_test = replaced(test.outputs, dict(zip(test.inputs, new.inputs, strict=True)))[test.outputs[0]]
        pairs = zip(new.outputs, new.inputs, strict=False)
        kept = tuple(_chosen(Tensor(own_test), Tensor(n), Tensor(x)).node for n, x in pairs)
        new = Graph(new.inputs, kept, origins=new.origins)
        test = Graph(test.inputs, (any_(Tensor(test.outputs[0])).node,), origins=test.origins)
    looped = build(node.op, given, {**node.attrs, "condition": test, "body": new})
    return [(item(looped, i), m) for i, m in enumerate(masks[:carries])]


@batching_rule("call")
def _call(batch: Batch, node: Node, operands: Sequence[Tensor], batched: Sequence[bool]) -> list[Value]:
    """The same call on batched values; a backward rule of its own is batched too, and summed where operands are not."""
    body, backward = node.attrs["body"], node.attrs["backward"]
    new, found = batch.body(body, batched, [None if backward is None else True] * len(body.outputs))
    how = {**node.attrs, "body": new}
    if backward is not None:
        masks = [*batched, *(True,) * (len(backward.inputs) - len(operands))]
        wanted = [m for x, m in zip(node.inputs, batched, strict=True) if _has_cotangent(x.type)]
        how["backward"], _ = batch.body(backward, masks, wanted)
    called = build(node.op, operands, how)
    return [(item(called, i), m) for i, m in enumerate(found)]


def _has_cotangent(t: TensorType) -> bool:
    return t.dtype.startswith(("float", "bfloat"))
