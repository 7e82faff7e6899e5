"""The gradient of a scan: another scan, in the opposite order, whose carries are the cotangents of the carries.

What the backward body needs of the forward one is stacked by a forward scan that returns more (`merge_scans` makes one
of it and the original). What a capture gathers over the steps leaves the loop where it can: products with a weight
matrix are stacked factors and one large product after the loop; the rest adds up in a carry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from dlc.dims import DimLike
from dlc.dtypes import FLOATING
from dlc.ir import Graph, Node, topological
from dlc.ops.arithmetic import add
from dlc.ops.contract import matmul
from dlc.ops.definition import Kind, build
from dlc.ops.fill import zeros
from dlc.ops.leaves import item, placeholder
from dlc.ops.reduce import sum as sum_
from dlc.ops.scan import SCAN, depending_on, loop, replaced
from dlc.ops.tensor import Tensor
from dlc.ops.view import permute_dims, reshape

Gradients = Callable[..., list[Tensor]]
_gradients: list[Gradients] = []


def use_gradients(gradients: Gradients) -> None:
    """Say how bodies are differentiated: reverse mode itself is a pass, which stands above the ops."""
    _gradients[:] = [gradients]


def gradients_of(*args: Any) -> list[Tensor]:
    """The gradients of outputs by inputs under cotangents, for VJPs that differentiate a body."""
    return _gradients[0](*args)


def cotangents_through(
    function: Callable[..., Sequence[Tensor]], operands: Sequence[Tensor], cotangents: Sequence[Tensor | None]
) -> list[Tensor | None]:
    """The operands' cotangents, from those that there are of a function's results; None for operands of no floats.

    The function is differentiated on placeholders, since one tensor may be two of its operands.
    """
    inner = [placeholder(f"operand{i}", t.node.type) for i, t in enumerate(operands)]
    seeds = [None if c is None else placeholder(f"cotangent{i}", c.node.type) for i, c in enumerate(cotangents)]
    pairs = [(t, c) for t, c in zip(function(*inner), seeds, strict=True) if c is not None]
    floating = [i for i, t in enumerate(inner) if t.dtype in FLOATING]
    found = gradients_of([t for t, _ in pairs], [inner[i] for i in floating], [c for _, c in pairs])
    given = zip([*inner, *seeds], [*operands, *cotangents], strict=True)
    values = {p.node: t.node for p, t in given if p is not None and t is not None}
    new = replaced([t.node for t in found], values)
    result: list[Tensor | None] = [None] * len(operands)
    for i, c in zip(floating, found, strict=True):
        result[i] = Tensor(new[c.node])
    return result


def backward_scan(
    g: Sequence[Tensor | None],
    y: Tensor,
    *operands: Tensor,
    body: Graph,
    carries: int,
    slices: int,
    length: DimLike,
    reverse: bool,
) -> list[Tensor | None]:
    """The VJP of `scan`: a cotangent per operand, None for those that are not floating-point."""
    how = {"carries": carries, "slices": slices, "length": length, "reverse": reverse}
    return _Backward(g, operands, body, how).cotangents()


@dataclass
class _Parts:
    """What the cotangent of a capture is a sum of: products, sums of what is stacked, and other contributions."""

    products: list[tuple[Node, Node, bool]] = field(default_factory=list)
    sums: list[Node] = field(default_factory=list)
    others: list[Node] = field(default_factory=list)

    def move_sums(self, stacked: set[Node]) -> None:
        """Take sums of what is stacked anyway out of the loop."""
        self.sums = [n for n in self.others if n.op.name == "sum" and n.inputs[0] in stacked]
        self.others = [n for n in self.others if n not in self.sums]


class _Backward:
    """One backward scan under construction. Forward nodes stand for themselves until `_build` replaces them."""

    def __init__(
        self, g: Sequence[Tensor | None], operands: Sequence[Tensor], body: Graph, how: dict[str, Any]
    ) -> None:
        self.g, self.operands, self.body, self.how = g, operands, body, how
        self.carries, self.slices, self.length = how["carries"], how["slices"], how["length"]
        self.forward = depending_on(body.inputs[: self.carries + self.slices], body.roots)
        self.floating = [i for i, n in enumerate(body.inputs) if n.dtype in FLOATING]
        self.seeds: dict[int, Tensor] = {}  # by output of the body
        for i, n in enumerate(body.outputs):
            if n.dtype in FLOATING and (i < self.carries or g[i] is not None):
                self.seeds[i] = placeholder(f"cotangent{i}", n.type)

    def cotangents(self) -> list[Tensor | None]:
        """Differentiate one step, find what must be stacked, build both scans, and gather what left the loop."""
        outputs = [Tensor(self.body.outputs[i]) for i in self.seeds]
        inputs = [Tensor(self.body.inputs[i]) for i in self.floating]
        step = dict(zip(self.floating, gradients_of(outputs, inputs, list(self.seeds.values())), strict=True))
        captures = [i for i in self.floating if i >= self.carries + self.slices]
        parts = {i: self._parts(step[i].node) for i in captures}
        carried = [i for i in self.seeds if i < self.carries]
        sliced = [i for i in self.floating if self.carries <= i < self.carries + self.slices]
        factors = list(dict.fromkeys(n for p in parts.values() for a, b, _ in p.products for n in (a, b)))
        arrived = {self.seeds[i].node: self.g[i] for i in self.seeds if i >= self.carries}
        made = [n for n in factors if n not in self.forward and n not in arrived]
        for p in parts.values():
            p.move_sums({*made, *arrived})
        sums = {i: _total(p.others) for i, p in parts.items() if p.others}
        roots = [*(step[i].node for i in carried), *sums.values(), *(step[i].node for i in sliced), *made]
        stacks = self._stacks(roots, [n for n in factors if n in self.forward])
        found = self._build(roots, carried, list(sums), stacks)

        result: list[Tensor | None] = [None] * len(self.operands)
        for i in (*carried, *sums, *sliced):
            result[i] = next(found)
        stacks |= {n: next(found) for n in made} | {n: t for n, t in arrived.items() if t is not None}
        for i, p in parts.items():
            left = [self._product(stacks[a], stacks[b], first) for a, b, first in p.products]
            left += [sum_(stacks[n.inputs[0]], axis=(0, *(a + 1 for a in n.attrs["axes"]))) for n in p.sums]
            for t in left:
                known = result[i]
                result[i] = t if known is None else known + t
        return [t if t is not None or i not in self.floating else zeros(o.shape, o.dtype)
                for i, (t, o) in enumerate(zip(result, self.operands, strict=True))]  # fmt: skip

    # ---- the cotangents of captures

    def _parts(self, cotangent: Node) -> _Parts:
        """Split a sum into the products that can leave the loop, and the rest."""
        parts = _Parts()
        pending = [cotangent]
        while pending:
            node = pending.pop()
            if node.op.name == "add" and all(x.type == node.type for x in node.inputs):
                pending.extend(reversed(node.inputs))
            elif (product := self._factors(node)) is not None:
                parts.products.append(product)
            elif not _is_zero(node):
                parts.others.append(node)
        return parts

    def _factors(self, node: Node) -> tuple[Node, Node, bool] | None:
        """The factors of a matrix product of a step, and which is transposed: the first (True) or the second."""
        if node.op.name != "matmul" or len(node.shape) != 2:
            return None
        a, b = node.inputs
        if a.op.name == "permute_dims" and self._varies(a.inputs[0]) and self._varies(b):
            return a.inputs[0], b, True
        if b.op.name == "permute_dims" and self._varies(a) and self._varies(b.inputs[0]):
            return a, b.inputs[0], False
        return None

    def _varies(self, node: Node) -> bool:
        """Whether a node changes from step to step."""
        changing = self.forward | {t.node for t in self.seeds.values()}
        return any(n in changing for n in topological([node], stop=changing.__contains__))

    def _product(self, a: Tensor, b: Tensor, first: bool) -> Tensor:
        """The sum over steps of a^T b (or a b^T) from the stacks of a and b: one product of long matrices."""
        if first:
            rows, columns = (reshape(t, (self.length * t.shape[1], t.shape[2])) for t in (a, b))
            return matmul(permute_dims(rows, (1, 0)), columns)
        left = reshape(permute_dims(a, (1, 0, 2)), (a.shape[1], self.length * a.shape[2]))
        right = reshape(permute_dims(b, (0, 2, 1)), (self.length * b.shape[2], b.shape[1]))
        return matmul(left, right)

    # ---- the two scans

    def _stacks(self, roots: Sequence[Node], wanted: Iterable[Node]) -> dict[Node, Tensor]:
        """The values of the forward body that `roots` read, and those `wanted`, each stacked over the steps.

        Views are taken again in the backward body, rather than stacked beside what they are views of.
        """
        sliced = self.body.inputs[self.carries : self.carries + self.slices]
        needed = dict.fromkeys(wanted)
        for node in topological(roots, stop=lambda n: n in self.forward and n.op.kind is not Kind.VIEW):
            if node in self.forward and node.op.kind is not Kind.VIEW:
                needed[node] = None
        stacks = {n: x for n, x in zip(sliced, self.operands[self.carries :], strict=False) if n in needed}
        residuals = [n for n in needed if n not in stacks]
        if residuals:
            more = Graph(self.body.inputs, (*self.body.outputs, *residuals), origins=self.body.origins)
            forward = build(SCAN, self.operands, {**self.how, "body": more})
            stacks |= {n: item(forward, len(self.body.outputs) + k) for k, n in enumerate(residuals)}
        return stacks

    def _build(
        self, roots: Sequence[Node], carried: Sequence[int], summed: Sequence[int], stacks: dict[Node, Tensor]
    ) -> Any:
        """The items of the backward scan, in the order of `roots`."""
        values = {n: t.node for n, t in zip(self.body.inputs, self.operands, strict=True) if n not in self.forward}
        slices = {n: placeholder(f"saved{k}", n.type) for k, n in enumerate(stacks)}
        values |= {n: t.node for n, t in slices.items()}
        new = replaced(roots, values)
        stacked = [i for i in self.seeds if i >= self.carries]

        totals = [placeholder(f"total{k}", self.body.inputs[i].type) for k, i in enumerate(summed)]
        after = [new[n] for n in roots]
        for k, total in enumerate(totals):
            at = len(carried) + k
            after[at] = add(total, Tensor(after[at])).node
        init = [self._arrived(i) for i in carried]
        init += [zeros(self.body.inputs[i].shape, self.body.inputs[i].dtype) for i in summed]
        xs = [*stacks.values(), *(t for i in stacked if (t := self.g[i]) is not None)]
        found = loop(
            [*(self.seeds[i] for i in carried), *totals],
            [*slices.values(), *(self.seeds[i] for i in stacked)],
            [Tensor(n) for n in after],
            init,
            xs,
            self.length,
            not self.how["reverse"],
        )
        return iter(found)

    def _arrived(self, i: int) -> Tensor:
        """The cotangent that arrives at the last carry."""
        g, n = self.g[i], self.body.outputs[i]
        return zeros(n.shape, n.dtype) if g is None else g


def _total(nodes: Sequence[Node]) -> Node:
    total = Tensor(nodes[0])
    for node in nodes[1:]:
        total = total + Tensor(node)
    return total.node


def _is_zero(node: Node) -> bool:
    while node.op.kind is Kind.VIEW:
        (node,) = node.inputs
    return node.op.name == "constant" and not node.attrs["value"].array.any()
