"""Optimisers: each turns gradients into the parameters' new values, as nodes of the step's graph.

The learning rate and the step count are 0-d state, so changing them recompiles nothing; the other settings are
constants.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Self

import numpy as np

from dlc.dtypes import numpy_dtype
from dlc.errors import ArgumentError, AttributeValueError, listed, shown
from dlc.frontend.parameter import Parameter
from dlc.ir import TensorType
from dlc.ops import expm1, maximum, minimum, scalar, sqrt
from dlc.ops import sum as sum_
from dlc.ops.elementwise import convert
from dlc.ops.tensor import Tensor, wrap
from dlc.provenance import here, phase, written_at
from dlc.state import State

Array = np.ndarray[Any, Any]
Update = tuple[State, Tensor]


class Optimizer:
    """Base of optimisers. A subclass gives `slots`, the state that it keeps per parameter, and `update_one`.

    `clip_norm` scales all gradients by one factor so that their joint L2 norm is at most that
    (Pascanu, Mikolov and Bengio, 2013, arXiv:1211.5063, algorithm 1).
    """

    slots: tuple[str, ...] = ()

    def __new__(cls, *args: Any, **settings: Any) -> Self:
        """As usual, but for the parameters that optimisers of other libraries begin with."""
        if args and isinstance(args[0], (list, tuple)) and any(isinstance(p, Parameter) for p in args[0]):
            raise ArgumentError(
                f"{cls.__name__} takes no parameters: it trains those of the model that it is given to "
                f"dlc.train_step or dlc.Trainer with; write {cls.__name__}(lr=...)",
                where=here(),
            )
        return super().__new__(cls)

    def __init__(self, lr: float, *, weight_decay: float = 0.0, clip_norm: float | None = None) -> None:
        self._lr = State("lr", TensorType("float64"), lambda: self._first_lr)
        self._first_lr = _checked(type(self).__name__, "lr", lr, least=0.0)
        self.weight_decay = _checked(type(self).__name__, "weight_decay", weight_decay, least=0.0)
        self.clip_norm = None if clip_norm is None else _checked(type(self).__name__, "clip_norm", clip_norm, above=0.0)
        self._step = State("optimizer.step", TensorType("int64"), lambda: 0)
        self._slots: dict[State, dict[str, State]] = {}
        self._names: dict[str, State] = {}
        self._loaded: dict[str, Array] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}(lr={self.lr:g})"

    @property
    def lr(self) -> float:
        """The learning rate. Assigning takes effect at the next step and recompiles nothing."""
        return float(self._lr.value)

    @lr.setter
    def lr(self, value: float) -> None:
        self._lr.assign(_checked(type(self).__name__, "lr", value, least=0.0))

    @property
    def step(self) -> int:
        """How many updates were made."""
        return int(self._step.value)

    # ---- building

    def updates(
        self, parameters: Sequence[Any], gradients: Sequence[Tensor], names: Sequence[str] | None = None
    ) -> list[Update]:
        """The assignments of one step: (state, new value) for parameters, slots and the step count.

        `parameters` are parameters or states, `gradients` tensors of the same types. `names` are what the slots are
        called after: the paths in the model that is trained (default: each parameter's own name). Calling again, for
        another program, uses the same slots.
        """
        if len(parameters) != len(gradients):
            raise ArgumentError(
                f"{len(parameters)} parameters but {len(gradients)} gradients; give one each", where=here()
            )
        states = [getattr(p, "state", p) for p in parameters]
        names = [s.name for s in states] if names is None else names
        with phase("update"), self._one_place():
            step = wrap(self._step)
            gradients = self._clipped(gradients)
            result: list[Update] = [(self._step, step + 1)]
            for state, name, g in zip(states, names, gradients, strict=True):
                p, slots = wrap(state), self._slots_of(state, name)
                new = self.update_one(
                    p, g, convert(wrap(self._lr), p.dtype), convert(step + 1, p.dtype), *map(wrap, slots.values())
                )
                result += zip((state, *slots.values()), new, strict=True)
        return result

    def _one_place(self) -> AbstractContextManager[None]:
        """An optimiser of this file writes all its nodes at the caller's line, so that is looked up but once."""
        return written_at(here()) if type(self).__module__ == __name__ else nullcontext()

    def update_one(self, p: Tensor, g: Tensor, lr: Tensor, t: Tensor, *slots: Tensor) -> tuple[Tensor, ...]:
        """The new values of a parameter and its slots, from its gradient, learning rate and step count t = 1, 2, ..."""
        raise NotImplementedError

    def _clipped(self, gradients: Sequence[Tensor]) -> Sequence[Tensor]:
        if self.clip_norm is None or not gradients:
            return gradients
        total: Tensor | None = None
        for g in gradients:
            squares = convert(sum_(g * g), "float32")
            total = squares if total is None else total + squares
        assert total is not None
        factor = minimum(self.clip_norm / (sqrt(total) + 1e-6), 1.0)  # the 1e-6 is torch's
        return [g * convert(factor, g.dtype) for g in gradients]

    def _slots_of(self, parameter: State, called: str) -> dict[str, State]:
        if parameter not in self._slots:
            self._slots[parameter] = {slot: self._new_slot(slot, parameter, called) for slot in self.slots}
        return self._slots[parameter]

    def _new_slot(self, slot: str, parameter: State, called: str) -> State:
        name = stem = f"{slot}.{called}"
        ordinal = 1
        while name in self._names:  # parameters of two models may share a name
            ordinal += 1
            name = f"{stem}#{ordinal}"
        state = State(name, parameter.type, lambda: np.zeros((), numpy_dtype(parameter.type.dtype)))
        loaded = self._loaded.pop(name, None)
        if loaded is not None:
            state.assign(loaded)
        self._names[name] = state
        return state

    # ---- saving

    def named_states(self) -> dict[str, State]:
        """Everything that goes on from step to step: "lr", "step", and the slots as "slot.parameter"."""
        return {"lr": self._lr, "step": self._step, **self._names}

    def state_dict(self) -> dict[str, Array]:
        """Name -> value of `named_states`, and of what was loaded for slots that no step has needed yet."""
        return {**self._loaded, **{name: s.value for name, s in self.named_states().items()}}

    def load_state_dict(self, values: Mapping[str, Any]) -> None:
        """Take over `values`; slots that no step has needed yet take theirs when they are made.

        Raises `ArgumentError` for a missing or unknown name, or another shape.
        """
        arrays = {name: np.asarray(value) for name, value in values.items()}
        states = self.named_states()
        problems = self.misfits(arrays)
        if problems:
            raise ArgumentError(f"these values do not fit {self!r}:{listed(problems)}", where=here())
        for name, array in arrays.items():
            if name in states:
                states[name].assign(array)
            else:
                self._loaded[name] = np.array(array)

    def misfits(self, arrays: Mapping[str, Array], parameters: Mapping[str, Array] | None = None) -> list[str]:
        """What keeps `arrays` from being loaded, one line each; slots are held against `parameters`, if given."""
        states = self.named_states()
        problems = [f"missing: {name}" for name in states if name not in arrays]
        for name, a in arrays.items():
            slot, _, parameter = name.partition(".")
            if name in states:
                wanted: tuple[Any, ...] | None = states[name].type.shape
            elif slot not in self.slots or (parameters is not None and parameter not in parameters):
                problems.append(f"unexpected: {shown(name)}")
                continue
            else:
                wanted = None if parameters is None else parameters[parameter].shape
            if wanted is not None and a.shape != wanted:
                problems.append(f"mis-shaped: {name} should be {wanted}, is {a.shape}")
            elif a.dtype.kind not in "fiu":
                problems.append(f"of another kind: {name} is {a.dtype.name}")
        return problems


class SGD(Optimizer):
    """Stochastic gradient descent, with torch's conventions for momentum.

    With gradient g (plus weight_decay * p), buffer v and learning rate lr:
    v <- momentum * v + g;  p <- p - lr * v, or p - lr * (g + momentum * v) with `nesterov`.
    Sutskever, Martens, Dahl and Hinton (2013), "On the importance of initialization and momentum", in torch's form.

    >>> from dlc import optim
    >>> optim.SGD(0.1, momentum=0.9)
    SGD(lr=0.1)
    """

    def __init__(
        self,
        lr: float,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(lr, weight_decay=weight_decay, clip_norm=clip_norm)
        self.momentum = _checked("SGD", "momentum", momentum, least=0.0)
        self.nesterov = nesterov
        if nesterov and momentum == 0:
            raise AttributeValueError(
                "SGD: nesterov=True needs a momentum above 0, for example momentum=0.9", where=here()
            )
        self.slots = ("momentum",) if momentum else ()

    def update_one(self, p: Tensor, g: Tensor, lr: Tensor, t: Tensor, *slots: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        if self.weight_decay:
            g = g + self.weight_decay * p
        if not slots:
            return (p - lr * g,)
        v = self.momentum * slots[0] + g
        return p - lr * (g + self.momentum * v if self.nesterov else v), v


class Adam(Optimizer):
    """Adam (Kingma and Ba, 2015, arXiv:1412.6980, algorithm 1).

    With gradient g (plus weight_decay * p) and step count t:
    m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2;
    p <- p - lr / (1 - b1^t) * m / (sqrt(v) / sqrt(1 - b2^t) + eps)

    >>> from dlc import optim
    >>> adam = optim.Adam(1e-3)
    >>> adam.lr = 1e-4
    >>> adam.lr
    0.0001
    """

    slots = ("m", "v")
    decoupled = False

    def __init__(
        self,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
    ) -> None:
        name = type(self).__name__
        super().__init__(lr, weight_decay=weight_decay, clip_norm=clip_norm)
        if len(betas) != 2:
            raise AttributeValueError(f"{name}: betas is a pair such as (0.9, 0.999), not {betas!r}", where=here())
        self.betas = (
            _checked(name, "betas[0]", betas[0], least=0.0, below=1.0),
            _checked(name, "betas[1]", betas[1], least=0.0, below=1.0),
        )
        self.eps = _checked(name, "eps", eps, least=0.0)

    def update_one(self, p: Tensor, g: Tensor, lr: Tensor, t: Tensor, *slots: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        m, v = slots
        b1, b2 = self.betas
        if self.weight_decay and not self.decoupled:
            g = g + self.weight_decay * p
        if self.weight_decay and self.decoupled:
            p = p - lr * self.weight_decay * p
        m = b1 * m + (1.0 - b1) * g
        v = b2 * v + (1.0 - b2) * (g * g)
        step_size, root = lr / _bias_correction(b1, t), sqrt(_bias_correction(b2, t))
        return p - step_size * (m / (sqrt(v) / root + self.eps)), m, v


class AdamW(Adam):
    """Adam with decoupled weight decay: p first shrinks by lr * weight_decay * p (Loshchilov and Hutter, 2019,
    arXiv:1711.05101, algorithm 2, without its schedule multiplier).

    >>> from dlc import optim
    >>> optim.AdamW(3e-4).weight_decay
    0.01
    """

    decoupled = True

    def __init__(
        self,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(lr, betas, eps, weight_decay, clip_norm)


class Adagrad(Optimizer):
    """Adagrad (Duchi, Hazan and Singer, 2011, JMLR 12, figure 1, diagonal).

    With gradient g (plus weight_decay * p): v <- v + g^2;  p <- p - lr / (1 + (t - 1) * lr_decay) * g / (sqrt(v) + eps)
    """

    slots = ("v",)

    def __init__(
        self,
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        eps: float = 1e-10,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(lr, weight_decay=weight_decay, clip_norm=clip_norm)
        self.lr_decay = _checked("Adagrad", "lr_decay", lr_decay, least=0.0)
        self.eps = _checked("Adagrad", "eps", eps, least=0.0)

    def update_one(self, p: Tensor, g: Tensor, lr: Tensor, t: Tensor, *slots: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        if self.weight_decay:
            g = g + self.weight_decay * p
        if self.lr_decay:
            lr = lr / (1.0 + (t - 1.0) * self.lr_decay)
        v = slots[0] + g * g
        return p - lr * (g / (sqrt(v) + self.eps)), v


class RMSprop(Optimizer):
    """RMSprop (Tieleman and Hinton, 2012, lecture 6.5), in torch's form; `centered` as Graves (2013), arXiv:1308.0850.

    With gradient g (plus weight_decay * p):
    v <- alpha v + (1 - alpha) g^2;  d = g / (sqrt(v) + eps), with `centered` g / (sqrt(v - m^2) + eps), where
    m <- alpha m + (1 - alpha) g;  p <- p - lr * d, or with `momentum` b <- momentum * b + d;  p <- p - lr * b.
    """

    def __init__(
        self,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(lr, weight_decay=weight_decay, clip_norm=clip_norm)
        self.alpha = _checked("RMSprop", "alpha", alpha, least=0.0, below=1.0)
        self.eps = _checked("RMSprop", "eps", eps, least=0.0)
        self.momentum = _checked("RMSprop", "momentum", momentum, least=0.0)
        self.centered = centered
        self.slots = ("v", *["m"] * bool(centered), *["momentum"] * bool(momentum))

    def update_one(self, p: Tensor, g: Tensor, lr: Tensor, t: Tensor, *slots: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        if self.weight_decay:
            g = g + self.weight_decay * p
        old = dict(zip(self.slots, slots, strict=True))
        new = {"v": self.alpha * old["v"] + (1.0 - self.alpha) * (g * g)}
        spread = new["v"]
        if self.centered:
            new["m"] = self.alpha * old["m"] + (1.0 - self.alpha) * g
            spread = maximum(spread - new["m"] * new["m"], 0.0)  # below 0 by rounding alone
        d = g / (sqrt(spread) + self.eps)
        if self.momentum:
            d = new["momentum"] = self.momentum * old["momentum"] + d
        return p - lr * d, *new.values()


class Adadelta(Optimizer):
    """Adadelta (Zeiler, 2012, arXiv:1212.5701, algorithm 1).

    With gradient g (plus weight_decay * p): v <- rho v + (1 - rho) g^2;  d = sqrt(u + eps) / sqrt(v + eps) * g;
    u <- rho u + (1 - rho) d^2;  p <- p - lr * d
    """

    slots = ("v", "u")

    def __init__(
        self,
        lr: float = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(lr, weight_decay=weight_decay, clip_norm=clip_norm)
        self.rho = _checked("Adadelta", "rho", rho, least=0.0, below=1.0)
        self.eps = _checked("Adadelta", "eps", eps, least=0.0)

    def update_one(self, p: Tensor, g: Tensor, lr: Tensor, t: Tensor, *slots: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        if self.weight_decay:
            g = g + self.weight_decay * p
        v, u = slots
        v = self.rho * v + (1.0 - self.rho) * (g * g)
        d = sqrt(u + self.eps) / sqrt(v + self.eps) * g
        return p - lr * d, v, self.rho * u + (1.0 - self.rho) * (d * d)


def _bias_correction(beta: float, t: Tensor) -> Tensor:
    """1 - beta^t, without the cancellation that it has in float32 for small t and beta near 1."""
    return scalar(1.0, t.dtype) if beta == 0.0 else -expm1(t * math.log(beta))


def _checked(
    optimizer: str,
    name: str,
    value: Any,
    *,
    least: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> float:
    """`value` as a finite float in range, or `AttributeValueError`."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    fine = math.isfinite(number) and not isinstance(value, bool)
    fine = fine and (least is None or number >= least) and (above is None or number > above)
    if not (fine and (below is None or number < below)):
        bounds = [f"at least {least:g}"] if least is not None else []
        bounds += [f"above {above:g}"] if above is not None else []
        bounds += [f"below {below:g}"] if below is not None else []
        raise AttributeValueError(
            f"{optimizer}: {name} is a finite number {' and '.join(bounds)}, not {value!r}", where=here()
        )
    return number
