"""Recurrent layers: scans over time, one per layer and direction."""

from __future__ import annotations

from typing import Any, ClassVar

from dlc import ops
from dlc.dtypes import INTEGER
from dlc.errors import AttributeValueError, DTypeError, ShapeError
from dlc.frontend.nn.linear import known_size
from dlc.frontend.nn.module import Module, layer_name
from dlc.frontend.nn.recurrent_cells import States, Step, elman, gru_step, lstm_step, read_state, start_values
from dlc.frontend.parameter import Parameter
from dlc.ops import concat, iota, less, permute_dims, reshape, scalar, stack, where
from dlc.ops.tensor import Tensor, wrap
from dlc.provenance import here


class _Recurrent(Module):
    """What the layers share: weights by layer and direction, the loops, lengths, and the form of the state."""

    gates: ClassVar[int]
    state_names: ClassVar[tuple[str, ...]] = ("h",)
    bias_outside: ClassVar[bool] = True  # the recurrent bias may be added to the inputs' products, before the loop
    step: Step

    def __init__(
        self,
        input_size: int | None,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        dtype: Any = "float32",
    ) -> None:
        name = type(self).__name__
        start = start_values(hidden_size, name)
        if isinstance(num_layers, bool) or not isinstance(num_layers, int) or num_layers < 1:
            raise AttributeValueError(f"{name}: num_layers is at least 1, not {num_layers!r:.40}", where=here())
        if isinstance(dropout, bool) or not isinstance(dropout, (int, float)) or not 0.0 <= dropout <= 1.0:
            raise AttributeValueError(f"{name}: dropout is a probability, not {dropout!r:.40}", where=here())
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.batch_first = batch_first
        self.dropout = float(dropout)
        self.bidirectional = bidirectional
        self.directions = 2 if bidirectional else 1
        rows = self.gates * hidden_size
        for layer in range(num_layers):
            inner = input_size if layer == 0 else self.directions * hidden_size
            for end in self._ends(layer):
                setattr(self, f"weight_ih_{end}", Parameter((rows, inner), start, dtype))
                setattr(self, f"weight_hh_{end}", Parameter((rows, hidden_size), start, dtype))
                setattr(self, f"bias_ih_{end}", Parameter((rows,), start, dtype) if bias else None)
                setattr(self, f"bias_hh_{end}", Parameter((rows,), start, dtype) if bias else None)

    def _ends(self, layer: int) -> list[str]:
        """How the names of a layer's weights end, by direction."""
        return [f"l{layer}", f"l{layer}_reverse"][: self.directions]

    def _run(self, x: Any, state: Any, lengths: Any) -> tuple[Tensor, States]:
        """y in the layout of x, and the last state."""
        y = wrap(x)
        if y.ndim != 3:
            layout = "[N, T, in]" if self.batch_first else "[T, N, in]"
            raise ShapeError(f"{layer_name(self)} takes {layout}, not {y.type}", where=here())
        steps, batch = (y.shape[1], y.shape[0]) if self.batch_first else y.shape[:2]
        valid = None if lengths is None else self._valid(lengths, steps, batch)
        starts = self._starts(state, batch, y.dtype)
        time_first = not self.batch_first
        ends: list[States] = []
        for layer in range(self.num_layers):
            if layer and self.dropout:
                y = ops.dropout(y, self.dropout)
            sides = []
            for k, end in enumerate(self._ends(layer)):
                side, last = self._loop(y, end, time_first, starts[len(ends)], valid, reverse=k == 1)
                sides.append(side)
                ends.append(last)
            y, time_first = sides[0] if len(sides) == 1 else concat(sides, axis=2), True
        last_states = ends[0] if len(ends) == 1 else tuple(stack(parts) for parts in zip(*ends, strict=True))
        return permute_dims(y, (1, 0, 2)) if self.batch_first else y, last_states

    def _loop(
        self, x: Tensor, end: str, time_first: bool, start: States, valid: Tensor | None, reverse: bool
    ) -> tuple[Tensor, States]:
        """One layer in one direction: hidden states [T, N, hidden] and the last state."""
        inner = known_size(self, x, 2, "features in axis 2")
        weights, rows = vars(self), self.gates * self.hidden_size
        weight = weights[f"weight_ih_{end}"].resolve((rows, inner), f"{layer_name(self)}, given {x.type},")
        projected = x @ permute_dims(weight, (1, 0))
        bias_ih, bias_hh = weights[f"bias_ih_{end}"], weights[f"bias_hh_{end}"]
        bias = None
        if bias_ih is not None:
            projected = projected + (bias_ih + bias_hh if self.bias_outside else bias_ih.as_tensor())
            bias = None if self.bias_outside else bias_hh.as_tensor()
        if not time_first:
            projected = permute_dims(projected, (1, 0, 2))
        recurrent = permute_dims(weights[f"weight_hh_{end}"].as_tensor(), (1, 0))

        def body(carry: States, gates: Tensor) -> tuple[States, Tensor]:
            after = self.step(carry, gates, recurrent, bias)
            return after, after[0]

        def masked(carry: States, slices: States) -> tuple[States, Tensor]:
            gates, inside = slices
            after = self.step(carry, gates, recurrent, bias)
            held = tuple(where(inside, new, old) for new, old in zip(after, carry, strict=True))
            return held, where(inside, after[0], scalar(0, after[0].dtype))

        if valid is None:
            last, y = ops.scan(body, start, projected, reverse=reverse)
        else:
            last, y = ops.scan(masked, start, (projected, valid), reverse=reverse)
        return y, last

    def _valid(self, lengths: Any, steps: Any, batch: Any) -> Tensor:
        """Which steps lie within each sequence: bool [T, N, 1]."""
        ends = wrap(lengths)
        if ends.dtype not in INTEGER:
            raise DTypeError(f"{layer_name(self)}: lengths are integers, not {ends.type}", where=here())
        if ends.shape != (batch,):
            message = f"{layer_name(self)}: lengths are [{batch}], one a sequence, not {ends.type}"
            raise ShapeError(message, where=here())
        place = reshape(iota((steps,), 0, ends.dtype), (steps, 1, 1))
        return less(place, reshape(ends, (1, batch, 1)))

    def _starts(self, state: Any, batch: Any, dtype: str) -> list[States]:
        """The state to start from, by layer and direction."""
        count = self.num_layers * self.directions
        shape = (batch, self.hidden_size)
        if count == 1:
            return [read_state(self, state, self.state_names, shape, dtype)]
        if state is None:
            return [read_state(self, None, self.state_names, shape, dtype)] * count
        whole = read_state(self, state, self.state_names, (count, *shape), dtype)
        return [tuple(s[k] for s in whole) for k in range(count)]

    def describe(self) -> str:
        """Sizes and layout."""
        inner = vars(self)["weight_ih_l0"].open_shape[1]
        text = f"{'?' if inner is None else inner}, {self.hidden_size}"
        text += f", num_layers={self.num_layers}" if self.num_layers > 1 else ""
        text += ", batch_first=True" if self.batch_first else ""
        text += f", dropout={self.dropout:g}" if self.dropout else ""
        return text + (", bidirectional=True" if self.bidirectional else "")


class RNN(_Recurrent):
    """Elman network over a sequence: x [T, N, in] (or [N, T, in] with `batch_first`) -> (y, h).

    h <- tanh(x W_ih^T + b_ih + h W_hh^T + b_hh), or relu with ``nonlinearity="relu"``. The arguments, results and
    weights are those of `LSTM`, with one gate and h alone as state. Elman (1990), Cognitive Science 14.

    >>> import dlc
    >>> from dlc import nn
    >>> y, h = nn.RNN(3, 5, num_layers=2)(dlc.input("x", ("T", "N", 3)))
    >>> y.shape, h.shape
    ((T, N, 5), (2, N, 5))
    """

    gates = 1

    def __init__(
        self,
        input_size: int | None,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        dtype: Any = "float32",
    ) -> None:
        super().__init__(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, dtype)
        self.step = elman(nonlinearity, "RNN")

    def forward(self, x: Any, state: Any = None, lengths: Any = None) -> tuple[Tensor, Tensor]:
        """x, optionally the state h to start from and each sequence's length [N] -> (y, h)."""
        y, (h,) = self._run(x, state, lengths)
        return y, h


class LSTM(_Recurrent):
    """Long short-term memory over a sequence: x [T, N, in] (or [N, T, in] with `batch_first`) -> (y, (h, c)).

    y holds the hidden states of all steps, [T, N, hidden] or [N, T, hidden]; h and c [N, hidden] are the last ones.
    With gates i, f, g, o = x W_ih^T + b_ih + h W_hh^T + b_hh (in this order along the first axis of the weights):
    c <- sigmoid(f) c + sigmoid(i) tanh(g);  h <- sigmoid(o) tanh(c).
    Hochreiter and Schmidhuber (1997), with the forget gate of Gers, Schmidhuber and Cummins (2000); torch's layout:
    weight_ih_l0 [4 hidden, in], weight_hh_l0 [4 hidden, hidden], bias_ih_l0 and bias_hh_l0 [4 hidden].

    With `num_layers`, each layer reads the hidden states of the one below, with `dropout` between them in training.
    With `bidirectional`, a second loop runs from the end (weight_ih_l0_reverse, ...) and y is [..., 2 hidden]. In both
    cases h and c, as results and as the state to start from, are [layers * directions, N, hidden], as in torch; with
    one layer and direction the leading axis is left out. `lengths` [N], integers, says how many steps each sequence
    has: beyond them y is 0 and the state stays, so that the last state is that of each sequence's own end, and the
    reverse direction starts there.

    All input products are one matrix product before the scan. Values start uniform in +-1/sqrt(hidden), as in torch.

    >>> import dlc
    >>> from dlc import nn
    >>> y, (h, c) = nn.LSTM(64, 256, batch_first=True)(dlc.input("x", ("N", "T", 64)))
    >>> y.shape, h.shape
    ((N, T, 256), (N, 256))
    """

    gates, state_names = 4, ("h", "c")
    step = staticmethod(lstm_step)

    def forward(self, x: Any, state: Any = None, lengths: Any = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """x, optionally the state (h, c) to start from and each sequence's length [N] -> (y, (h, c))."""
        y, (h, c) = self._run(x, state, lengths)
        return y, (h, c)


class GRU(_Recurrent):
    """Gated recurrent unit over a sequence: x [T, N, in] (or [N, T, in] with `batch_first`) -> (y, h).

    With gates r, z, n in this order along the first axis of the weights, r and z the sigmoids of
    x W_ih^T + b_ih + h W_hh^T + b_hh:  n = tanh(n_x + r n_h), where n_x and n_h are the parts from x and from h;
    h <- (1 - z) n + z h. Cho et al. (2014), in torch's form. The arguments, results and weights are those of `LSTM`,
    with three gates and h alone as state.

    >>> import dlc
    >>> from dlc import nn
    >>> y, h = nn.GRU(3, 5, bidirectional=True)(dlc.input("x", ("T", "N", 3)))
    >>> y.shape, h.shape
    ((T, N, 10), (2, N, 5))
    """

    gates, bias_outside = 3, False
    step = staticmethod(gru_step)

    def forward(self, x: Any, state: Any = None, lengths: Any = None) -> tuple[Tensor, Tensor]:
        """x, optionally the state h to start from and each sequence's length [N] -> (y, h)."""
        y, (h,) = self._run(x, state, lengths)
        return y, h
