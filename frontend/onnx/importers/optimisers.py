"""The operators of ai.onnx.preview.training: gradients, and new values of weights and slots from them."""

from __future__ import annotations

from collections.abc import Callable

from dlc import ops
from dlc.errors import FileFormatError
from dlc.frontend.onnx.call import Call, Importer
from dlc.ir import Graph, topological
from dlc.ops.tensor import Tensor
from dlc.passes.autodiff import gradients

Step = Callable[[Call, Tensor, Tensor, Tensor, list[Tensor]], list[Tensor]]


def _optimiser(slots: int, step: Step) -> Importer:
    """Operands are rate, count of steps, then all weights, all gradients and all slots; results weights and slots."""

    def imported(c: Call) -> list[Tensor]:
        count, rest = divmod(len(c.operands) - 2, 2 + slots)
        if rest or count < 1:
            raise FileFormatError(f"{c.place}: {len(c.operands)} operands")
        found = []
        for i in range(count):
            x, g, *kept = (c[2 + i + k * count] for k in range(2 + slots))
            g = g + x * c.float("norm_coefficient", 0.0)
            found.append(step(c, x, g, ops.astype(c[1], x.dtype), kept))
        return [results[k] for k in range(1 + slots) for results in found]

    return imported


def _adagrad(c: Call, x: Tensor, g: Tensor, t: Tensor, kept: list[Tensor]) -> list[Tensor]:
    rate = c[0] / (1.0 + t * c.float("decay_factor", 0.0))
    total = kept[0] + g * g
    return [x - rate * g / (ops.sqrt(total) + c.float("epsilon", 1e-6)), total]


def _adam(c: Call, x: Tensor, g: Tensor, t: Tensor, kept: list[Tensor]) -> list[Tensor]:
    alpha, beta = c.float("alpha", 0.9), c.float("beta", 0.999)
    v, h = alpha * kept[0] + (1.0 - alpha) * g, beta * kept[1] + (1.0 - beta) * g * g
    later = c[0] * ops.sqrt(1.0 - ops.pow(beta, t)) / (1.0 - ops.pow(alpha, t))
    rate = ops.where(ops.greater(t, 0.0), later, c[0])
    new = x - rate * v / (ops.sqrt(h) + c.float("epsilon", 1e-6))
    return [(1.0 - c.float("norm_coefficient_post", 0.0)) * new, v, h]


def _momentum(c: Call, x: Tensor, g: Tensor, t: Tensor, kept: list[Tensor]) -> list[Tensor]:
    alpha, mode = c.float("alpha", 0.9), c.text("mode", "standard")
    if mode not in ("standard", "nesterov"):
        raise FileFormatError(f"{c.place}: there is no mode {mode!r:.40}")
    beta = ops.where(ops.greater(t, 0.0), c.float("beta", 1.0), 1.0)
    v = alpha * kept[0] + beta * g
    return [x - c[0] * (v if mode == "standard" else g + alpha * v), v]


def _gradient(c: Call) -> list[Tensor]:
    """Of the sum of `y` with respect to `xs`, at the operands: values in place of `xs` and then of `zs`."""
    xs, zs = c.texts("xs") or [], c.texts("zs") or []
    if len(c.operands) != len(xs) + len(zs) or not xs:
        raise FileFormatError(f"{c.place}: {len(c.operands)} operands for {len(xs) + len(zs)} names")
    named = [c.named(name).as_tensor() for name in (*xs, *zs)]
    y = c.named(c.text("y")).as_tensor()
    found = gradients([y], named[: len(xs)], [ops.ones_like(y)])
    values = {t.node: c[i].node for i, t in enumerate(named) if c[i].node is not t.node}
    for i, t in enumerate(named):
        if c[i].type != t.type:
            raise FileFormatError(f"{c.place}: operand {i} is {c[i].type}, but the value it is for is {t.type}")
    if not values:
        return found
    outputs = tuple(g.node for g in found)
    inputs = tuple(n for n in topological((*outputs, *values.values())) if n.op.name == "input")
    return [Tensor(n) for n in Graph(inputs, outputs).substitute(values).outputs]


OPTIMISERS: dict[str, Importer] = {
    "Gradient": _gradient,
    "Adagrad": _optimiser(1, _adagrad),
    "Adam": _optimiser(2, _adam),
    "Momentum": _optimiser(1, _momentum),
}
