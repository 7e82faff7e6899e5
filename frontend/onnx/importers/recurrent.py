"""Recurrent layers as scans: RNN, GRU and LSTM, in one direction or both."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from dlc import ops
from dlc.errors import FileFormatError
from dlc.frontend.onnx.call import Call, Importer
from dlc.ops.tensor import Tensor

# Each with its numbers alpha and beta, where it has them, and what they are unless a node says otherwise.
ACTIVATIONS: dict[str, tuple[Callable[..., Tensor], tuple[float, ...]]] = {
    "Affine": (lambda x, a, b: x * a + b, (1.0, 0.0)),
    "Elu": (ops.elu, (1.0,)),
    "HardSigmoid": (lambda x, a, b: ops.clip(x * a + b, 0.0, 1.0), (0.2, 0.5)),
    "LeakyRelu": (ops.leaky_relu, (0.01,)),
    "Relu": (ops.relu, ()),
    "ScaledTanh": (lambda x, a, b: ops.tanh(x * b) * a, (1.0, 1.0)),
    "Sigmoid": (ops.sigmoid, ()),
    "Softplus": (ops.softplus, ()),
    "Softsign": (ops.softsign, ()),
    "Tanh": (ops.tanh, ()),
    "ThresholdedRelu": (lambda x, a: ops.where(ops.greater_equal(x, a), x, ops.zeros_like(x)), (1.0,)),
}
Functions = list[Callable[[Tensor], Tensor]]
Cell = Callable[[Tensor, tuple[Tensor, ...]], tuple[Tensor, ...]]


def _functions(c: Call, each: list[str], directions: int) -> list[Functions]:
    names = c.texts("activations") or each * directions
    if len(names) != len(each) * directions:
        raise FileFormatError(f"{c.place}: {len(names)} activations, but it needs {len(each) * directions}")
    known = {n.lower(): f for n, f in ACTIVATIONS.items()}
    alphas, betas = (iter(c.floats(name) or []) for name in ("activation_alpha", "activation_beta"))
    found: Functions = []
    for i, name in enumerate(names):  # each takes the next number, if it has a use for one
        if name.lower() not in known:
            raise c.unsupported(f"the activation {name!r:.40}")
        function, usual = known[name.lower()]
        given = (next(values, default) for values, default in zip((alphas, betas), usual, strict=False))
        of_state = i % len(each) == 2  # of an LSTM's cell, which ONNX Runtime does not clip
        found.append(_clipped(partial(_called, function, tuple(given)), None if of_state else c.float("clip")))
    return [found[i : i + len(each)] for i in range(0, len(found), len(each))]


def _called(function: Callable[..., Tensor], numbers: tuple[float, ...], x: Tensor) -> Tensor:
    return function(x, *numbers)


def _clipped(function: Callable[[Tensor], Tensor], limit: float | None) -> Callable[[Tensor], Tensor]:
    """With what comes in kept between -limit and limit."""
    return function if limit is None else lambda x: function(ops.clip(x, -limit, limit))


def _parts(t: Tensor, count: int, size: Any) -> list[Tensor]:
    """The gates, which lie one after the other along the last axis."""
    return [t[..., i * size : (i + 1) * size] for i in range(count)]


def _recurrent(c: Call, gates: int, carries: int, each: list[str], cell_of: Any) -> list[Tensor]:
    """Y [T, D, N, H] and the last states [D, N, H], from X [T, N, I], W [D, G H, I], R [D, G H, H] and B [D, 2 G H].

    With layout 1 the batch comes first.
    """
    ways = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}.get(c.text("direction", "forward"))
    if ways is None:
        raise FileFormatError(f"{c.place}: there is no direction {c.text('direction')!r:.40}")
    batch_first, hidden = bool(c.int("layout", 0)), c.int("hidden_size", 0)
    x, w, r = c[0], c[1], c[2]
    x = ops.permute_dims(x, (1, 0, 2)) if batch_first else x
    if x.ndim != 3 or w.ndim != 3 or r.ndim != 3 or r.shape != (len(ways), gates * r.shape[2], r.shape[2]):
        raise FileFormatError(f"{c.place}: {x.type}, {w.type} and {r.type} do not fit")
    size = r.shape[2]
    if hidden not in (0, size):
        raise FileFormatError(f"{c.place}: hidden_size is {hidden}, but the weights have {size}")
    functions = _functions(c, each, len(ways))
    lengths = ops.astype(c[4], "int64") if c.has(4) else None
    finished = []
    for d, reverse in enumerate(ways):
        bias = c[3][d] if c.has(3) else ops.zeros((2 * gates * size,), x.dtype)
        start = []
        for i in range(carries):
            given = c[5 + i] if c.has(5 + i) else None
            given = ops.permute_dims(given, (1, 0, 2)) if given is not None and batch_first else given
            start.append(ops.zeros((x.shape[1], size), x.dtype) if given is None else given[d])
        cell = cell_of(c, d, size, r[d], bias[: gates * size], bias[gates * size :], functions[d])
        inputs = ops.matmul(x, ops.matrix_transpose(w[d]))
        finished.append(_scanned(cell, inputs, tuple(start), reverse, lengths))
    ys = ops.stack([y for _, y in finished], axis=1)
    lasts = [ops.stack([last[i] for last, _ in finished]) for i in range(carries)]
    if not batch_first:
        return [ys, *lasts]
    return [ops.permute_dims(ys, (2, 0, 1, 3)), *(ops.permute_dims(t, (1, 0, 2)) for t in lasts)]


def _scanned(cell: Cell, inputs: Tensor, start: tuple[Tensor, ...], reverse: bool, lengths: Tensor | None) -> Any:
    """The last states and all outputs. Beyond a sequence's length its state stays and its outputs are 0."""
    if lengths is None:

        def step(state: tuple[Tensor, ...], x: tuple[Tensor]) -> Any:
            new = cell(x[0], state)
            return new, (new[0],)

        last, ys = ops.scan(step, start, (inputs,), reverse=reverse)
        return last, ys[0]

    column = ops.expand_dims(lengths, 1)

    def masked(state: tuple[Tensor, ...], x: tuple[Tensor, Tensor]) -> Any:
        inside = ops.less(x[1], column)
        new = cell(x[0], state)
        kept = tuple(ops.where(inside, a, b) for a, b in zip(new, state, strict=True))
        return kept, (ops.where(inside, new[0], ops.zeros_like(new[0])),)

    last, ys = ops.scan(masked, start, (inputs, ops.iota((inputs.shape[0],), 0)), reverse=reverse)
    return last, ys[0]


def _rnn_cell(c: Call, d: int, size: Any, r: Tensor, wb: Tensor, rb: Tensor, f: Functions) -> Cell:
    turned = ops.matrix_transpose(r)
    return lambda x, state: (f[0](x + wb + rb + ops.matmul(state[0], turned)),)


def _gru_cell(c: Call, d: int, size: Any, r: Tensor, wb: Tensor, rb: Tensor, f: Functions) -> Cell:
    turned, before = ops.matrix_transpose(r), c.int("linear_before_reset", 0)

    def cell(x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        h = state[0]
        xz, xr, xh = _parts(x + wb, 3, size)
        hz, hr, hh = _parts(ops.matmul(h, turned) + rb, 3, size)
        z, reset = f[0](xz + hz), f[0](xr + hr)
        if not before:
            hh = ops.matmul(reset * h, turned[:, 2 * size :]) + rb[2 * size :]
        new = f[1](xh + (reset * hh if before else hh))
        return ((1.0 - z) * new + z * h,)

    return cell


def _lstm_cell(c: Call, d: int, size: Any, r: Tensor, wb: Tensor, rb: Tensor, f: Functions) -> Cell:
    """Gates in the order i, o, f, c. Peepholes [D, 3 H] look at the cell's state."""
    turned = ops.matrix_transpose(r)
    peepholes: list[Any] = _parts(c[7][d], 3, size) if c.has(7) else [0.0] * 3
    if c.int("input_forget", 0):
        raise c.unsupported("input and forget gates that are coupled")

    def cell(x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        h, memory = state
        i, o, forget, new = _parts(x + wb + rb + ops.matmul(h, turned), 4, size)
        i, forget = f[0](i + peepholes[0] * memory), f[0](forget + peepholes[2] * memory)
        kept = forget * memory + i * f[1](new)
        return f[0](o + peepholes[1] * kept) * f[2](kept), kept

    return cell


RECURRENT: dict[str, Importer] = {
    "GRU": lambda c: _recurrent(c, 3, 1, ["Sigmoid", "Tanh"], _gru_cell),
    "LSTM": lambda c: _recurrent(c, 4, 2, ["Sigmoid", "Tanh", "Tanh"], _lstm_cell),
    "RNN": lambda c: _recurrent(c, 1, 1, ["Tanh"], _rnn_cell),
}
