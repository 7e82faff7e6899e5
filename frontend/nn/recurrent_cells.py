"""One step of the recurrent networks, as functions of the state and as cells that own the weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeAlias

from dlc.errors import AttributeValueError, ShapeError
from dlc.frontend import initialisers
from dlc.frontend.nn.linear import known_size
from dlc.frontend.nn.module import Module, layer_name
from dlc.frontend.parameter import Parameter
from dlc.ops import broadcast_to, permute_dims, relu, scalar, sigmoid, tanh
from dlc.ops.tensor import Tensor, wrap
from dlc.provenance import here

States: TypeAlias = tuple[Tensor, ...]
Step: TypeAlias = Callable[[States, Tensor, Tensor, Tensor | None], States]


# ---------------------------------------------------------------- the formulas


def elman_step(state: States, projected: Tensor, recurrent: Tensor, bias: Tensor | None) -> States:
    """h <- tanh(x W_ih^T + h W_hh^T + b). Elman (1990)."""
    return (tanh(_biased(projected + state[0] @ recurrent, bias)),)


def rectified_step(state: States, projected: Tensor, recurrent: Tensor, bias: Tensor | None) -> States:
    """h <- relu(x W_ih^T + h W_hh^T + b)."""
    return (relu(_biased(projected + state[0] @ recurrent, bias)),)


def lstm_step(state: States, projected: Tensor, recurrent: Tensor, bias: Tensor | None) -> States:
    """Gates i, f, g, o; c <- sigmoid(f) c + sigmoid(i) tanh(g); h <- sigmoid(o) tanh(c)."""
    h, c = state
    i, f, g, o = _split(_biased(projected + h @ recurrent, bias), 4)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(c), c


def gru_step(state: States, projected: Tensor, recurrent: Tensor, bias: Tensor | None) -> States:
    """Gates r, z, n; n <- tanh(n_x + sigmoid(r) n_h); h <- n + sigmoid(z) (h - n). Cho et al. (2014), torch's form."""
    (h,) = state
    from_x, from_h = _split(projected, 3), _split(_biased(h @ recurrent, bias), 3)
    r, z = sigmoid(from_x[0] + from_h[0]), sigmoid(from_x[1] + from_h[1])
    n = tanh(from_x[2] + r * from_h[2])
    return (n + z * (h - n),)


def _biased(t: Tensor, bias: Tensor | None) -> Tensor:
    return t if bias is None else t + bias


def _split(gates: Tensor, count: int) -> list[Tensor]:
    n = gates.shape[1] // count
    return [gates[:, k * n : (k + 1) * n] for k in range(count)]


def elman(nonlinearity: str, name: str) -> Step:
    """The step of an Elman network with "tanh" or "relu". Raises `AttributeValueError` for anything else."""
    if nonlinearity not in ("tanh", "relu"):
        raise AttributeValueError(
            f"{name}: nonlinearity is 'tanh' or 'relu', not {nonlinearity!r:.40}", where=here()
        )
    return elman_step if nonlinearity == "tanh" else rectified_step


# ---------------------------------------------------------------- what cells and layers share


def start_values(hidden_size: Any, name: str) -> Any:
    """torch's start: uniform in +-1/sqrt(hidden). Raises `AttributeValueError` for a size below 1."""
    if not isinstance(hidden_size, int) or hidden_size < 1:
        raise AttributeValueError(f"{name}: hidden_size is at least 1, not {hidden_size!r:.40}", where=here())
    bound = hidden_size**-0.5
    return initialisers.uniform(-bound, bound)


def read_state(layer: Module, given: Any, names: tuple[str, ...], shape: tuple[Any, ...], dtype: str) -> States:
    """The state to start from, each part of `shape`; zeros where `given` is None. Raises `ShapeError`."""
    if given is None:
        return tuple(broadcast_to(scalar(0, dtype), shape) for _ in names)
    if len(names) > 1 and not (isinstance(given, (tuple, list)) and len(given) == len(names)):
        raise ShapeError(
            f"{layer_name(layer)}: the state is a pair ({', '.join(names)}), not {given!r:.60}", where=here()
        )
    state = tuple(wrap(s) for s in (given if len(names) > 1 else (given,)))
    for name, s in zip(names, state, strict=True):
        if s.shape != shape:
            wanted = ", ".join(map(str, shape))
            raise ShapeError(
                f"{layer_name(layer)}: the state {name} is {s.type}, but the input needs [{wanted}]", where=here()
            )
    return state


# ---------------------------------------------------------------- cells


class _Cell(Module):
    gates: ClassVar[int]
    state_names: ClassVar[tuple[str, ...]] = ("h",)
    step: Step

    def __init__(self, input_size: int | None, hidden_size: int, bias: bool = True, dtype: Any = "float32") -> None:
        start = start_values(hidden_size, type(self).__name__)
        rows = self.gates * hidden_size
        self.hidden_size = hidden_size
        self.weight_ih = Parameter((rows, input_size), start, dtype)
        self.weight_hh = Parameter((rows, hidden_size), start, dtype)
        self.bias_ih = Parameter((rows,), start, dtype) if bias else None
        self.bias_hh = Parameter((rows,), start, dtype) if bias else None

    def _next(self, x: Any, state: Any) -> States:
        x = wrap(x)
        if x.ndim != 2:
            raise ShapeError(f"{layer_name(self)} takes [N, in], not {x.type}", where=here())
        inner = known_size(self, x, 1, "features in axis 1")
        weight = self.weight_ih.resolve((self.gates * self.hidden_size, inner), f"{layer_name(self)}, given {x.type},")
        projected = x @ permute_dims(weight, (1, 0))
        if self.bias_ih is not None:
            projected = projected + self.bias_ih
        before = read_state(self, state, self.state_names, (x.shape[0], self.hidden_size), projected.dtype)
        bias = None if self.bias_hh is None else self.bias_hh.as_tensor()
        return self.step(before, projected, permute_dims(self.weight_hh.as_tensor(), (1, 0)), bias)

    def describe(self) -> str:
        """Sizes."""
        inner = self.weight_ih.open_shape[1]
        return f"{'?' if inner is None else inner}, {self.hidden_size}"


class RNNCell(_Cell):
    """One step of an Elman network: x [N, in], h [N, hidden] (zeros if None) -> the next h.

    h <- tanh(x W_ih^T + b_ih + h W_hh^T + b_hh), or relu. Weights as in torch: weight_ih [hidden, in], weight_hh
    [hidden, hidden], bias_ih and bias_hh [hidden]. Elman (1990), Cognitive Science 14.

    >>> import dlc
    >>> from dlc import nn
    >>> nn.RNNCell(3, 5)(dlc.input("x", ("N", 3))).shape
    (N, 5)
    """

    gates = 1

    def __init__(
        self,
        input_size: int | None,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        dtype: Any = "float32",
    ) -> None:
        super().__init__(input_size, hidden_size, bias, dtype)
        self.step = elman(nonlinearity, "RNNCell")

    def forward(self, x: Any, state: Any = None) -> Tensor:
        """x [N, in], h [N, hidden] or None -> h [N, hidden]."""
        return self._next(x, state)[0]


class LSTMCell(_Cell):
    """One step of long short-term memory: x [N, in], (h, c) [N, hidden] each (zeros if None) -> the next (h, c).

    Gates i, f, g, o in this order along the first axis of weight_ih [4 hidden, in], weight_hh [4 hidden, hidden],
    bias_ih and bias_hh [4 hidden], as in torch; the formulas are those of `LSTM`.

    >>> import dlc
    >>> from dlc import nn
    >>> h, c = nn.LSTMCell(3, 5)(dlc.input("x", ("N", 3)))
    >>> h.shape, c.shape
    ((N, 5), (N, 5))
    """

    gates, state_names = 4, ("h", "c")
    step = staticmethod(lstm_step)

    def forward(self, x: Any, state: Any = None) -> tuple[Tensor, Tensor]:
        """x [N, in], (h, c) or None -> (h, c), [N, hidden] each."""
        h, c = self._next(x, state)
        return h, c


class GRUCell(_Cell):
    """One step of a gated recurrent unit: x [N, in], h [N, hidden] (zeros if None) -> the next h.

    Gates r, z, n in this order along the first axis of weight_ih [3 hidden, in], weight_hh [3 hidden, hidden], bias_ih
    and bias_hh [3 hidden], as in torch; the formulas are those of `GRU`.

    >>> import dlc
    >>> from dlc import nn
    >>> nn.GRUCell(3, 5)(dlc.input("x", ("N", 3))).shape
    (N, 5)
    """

    gates = 3
    step = staticmethod(gru_step)

    def forward(self, x: Any, state: Any = None) -> Tensor:
        """x [N, in], h [N, hidden] or None -> h [N, hidden]."""
        return self._next(x, state)[0]
