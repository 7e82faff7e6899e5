"""The optimisers of ai.onnx.preview.training: new values of weights and slots, from gradients."""

from __future__ import annotations

from collections.abc import Callable

from dlc import ops
from dlc.errors import FileFormatError
from dlc.frontend.onnx.call import Call, Importer
from dlc.ops.tensor import Tensor

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


OPTIMISERS: dict[str, Importer] = {
    "Adagrad": _optimiser(1, _adagrad),
    "Adam": _optimiser(2, _adam),
    "Momentum": _optimiser(1, _momentum),
}
