"""Recurrent layers: a scan over time."""

from __future__ import annotations

from typing import Any

from dlc import ops
from dlc.errors import AttributeValueError, ShapeError
from dlc.frontend import initialisers
from dlc.frontend.nn.linear import known_size
from dlc.frontend.nn.module import Module, layer_name
from dlc.frontend.parameter import Parameter
from dlc.ops import broadcast_to, permute_dims, scalar, sigmoid, tanh
from dlc.ops.tensor import Tensor, wrap
from dlc.provenance import here

State = tuple[Tensor, Tensor]


class LSTM(Module):
    """Long short-term memory over a sequence: x [T, N, in] (or [N, T, in] with `batch_first`) -> (y, (h, c)).

    y holds the hidden states of all steps, [T, N, hidden] or [N, T, hidden]; h and c [N, hidden] are the last ones.
    With gates i, f, g, o = x W_ih^T + b_ih + h W_hh^T + b_hh (in this order along the first axis of the weights):
    c <- sigmoid(f) c + sigmoid(i) tanh(g);  h <- sigmoid(o) tanh(c).
    Hochreiter and Schmidhuber (1997), with the forget gate of Gers, Schmidhuber and Cummins (2000); torch's layout:
    weight_ih_l0 [4 hidden, in], weight_hh_l0 [4 hidden, hidden], bias_ih_l0 and bias_hh_l0 [4 hidden].

    All input products are one matrix product before the scan. Values start uniform in +-1/sqrt(hidden), as in torch.

    >>> import dlc
    >>> from dlc import nn
    >>> y, (h, c) = nn.LSTM(64, 256, batch_first=True)(dlc.input("x", ("N", "T", 64)))
    >>> y.shape, h.shape
    ((N, T, 256), (N, 256))
    """

    def __init__(
        self,
        input_size: int | None,
        hidden_size: int,
        bias: bool = True,
        batch_first: bool = False,
        dtype: Any = "float32",
    ) -> None:
        if hidden_size < 1:
            raise AttributeValueError(f"LSTM: hidden_size is at least 1, not {hidden_size}", where=here())
        self.hidden_size = hidden_size
        self.batch_first = batch_first
        bound = hidden_size**-0.5
        start = initialisers.uniform(-bound, bound)
        self.weight_ih_l0 = Parameter((4 * hidden_size, input_size), start, dtype)
        self.weight_hh_l0 = Parameter((4 * hidden_size, hidden_size), start, dtype)
        self.bias_ih_l0 = Parameter((4 * hidden_size,), start, dtype) if bias else None
        self.bias_hh_l0 = Parameter((4 * hidden_size,), start, dtype) if bias else None

    def forward(self, x: Any, state: State | None = None) -> tuple[Tensor, State]:
        """x [T, N, in] or [N, T, in], optionally the state (h, c) to start from, [N, hidden] each."""
        x = wrap(x)
        if x.ndim != 3:
            layout = "[N, T, in]" if self.batch_first else "[T, N, in]"
            raise ShapeError(f"{layer_name(self)} takes {layout}, not {x.type}", where=here())
        inner = known_size(self, x, 2, "features in axis 2")
        weight = self.weight_ih_l0.resolve((4 * self.hidden_size, inner), f"{layer_name(self)}, given {x.type},")
        projected = x @ permute_dims(weight, (1, 0))
        if self.bias_ih_l0 is not None and self.bias_hh_l0 is not None:
            projected = projected + (self.bias_ih_l0 + self.bias_hh_l0)
        if self.batch_first:
            projected = permute_dims(projected, (1, 0, 2))
        recurrent = permute_dims(self.weight_hh_l0.as_tensor(), (1, 0))
        h, c = self._start(state, projected)
        (h, c), y = ops.scan(lambda carry, gates: self._cell(carry, gates, recurrent), (h, c), projected)
        return permute_dims(y, (1, 0, 2)) if self.batch_first else y, (h, c)

    def _cell(self, carry: State, projected: Tensor, recurrent: Tensor) -> tuple[State, Tensor]:
        """One step: (h, c) and the projected input [N, 4 hidden] -> the next (h, c), and h as output."""
        h, c = carry
        gates = projected + h @ recurrent
        n = self.hidden_size
        i, f, g, o = (gates[:, k * n : (k + 1) * n] for k in range(4))
        c = sigmoid(f) * c + sigmoid(i) * tanh(g)
        h = sigmoid(o) * tanh(c)
        return (h, c), h

    def _start(self, state: State | None, projected: Tensor) -> State:
        shape = (projected.shape[1], self.hidden_size)
        if state is None:
            zero = broadcast_to(scalar(0, projected.dtype), shape)
            return zero, zero
        try:
            h, c = (wrap(s) for s in state)
        except (TypeError, ValueError):
            raise ShapeError(
                f"{layer_name(self)}: the state is a pair (h, c), not {state!r:.60}", where=here()
            ) from None
        for name, s in (("h", h), ("c", c)):
            if s.shape != shape:
                wanted = ", ".join(map(str, shape))
                raise ShapeError(
                    f"{layer_name(self)}: the state {name} is {s.type}, but the input needs [{wanted}]",
                    where=here(),
                )
        return h, c

    def describe(self) -> str:
        """Sizes and layout."""
        inner = self.weight_ih_l0.open_shape[1]
        return f"{'?' if inner is None else inner}, {self.hidden_size}" + (
            ", batch_first=True" if self.batch_first else ""
        )
