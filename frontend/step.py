"""The training step: forward, backward and update as one graph and one program."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dlc.display import Pictured
from dlc.dtypes import FLOATING
from dlc.errors import ArgumentError, GradientError, GraphError
from dlc.frontend.building import assemble, tensors_in
from dlc.frontend.nn.module import Module
from dlc.frontend.optim import Optimizer
from dlc.frontend.parameter import Parameter
from dlc.garbage import collection_paused
from dlc.ir import Node, TensorType, same_op, topological
from dlc.ops.tensor import Tensor, handles_below, state_node, wrap
from dlc.provenance import here, phase
from dlc.state import State

if TYPE_CHECKING:
    from dlc.compiler import Program

Array = np.ndarray[Any, Any]


class TrainStep(Pictured):
    """A compiled step: call it with a batch. It returns the loss before the update, 0-d, or the `outputs` asked for.

    Attributes: `program` (and through it the graph, passes and kernels), `seed` and `step` (0-d state: what random
    draws are keyed by, and how many steps were made).
    """

    __slots__ = ("_call", "_one", "program", "seed", "step")

    def __init__(self, program: Program, seed: State, step: State, one: bool) -> None:
        self.program = program
        self.seed = seed
        self.step = step
        self._call = program.__call__
        self._one = one

    def __call__(self, *args: Any, **named: Any) -> Any:
        """One step. When it fails, parameters and all other state stay as they were."""
        outputs = self._call(*args, **named)
        return outputs[0] if self._one else outputs

    def __repr__(self) -> str:
        return f"<TrainStep {int(self.step.value)} of {self.program!r}>"

    @property
    def _drawn(self) -> Program:
        return self.program


def train_step(
    model: Module,
    inputs: Any,
    loss: Tensor,
    optimizer: Optimizer,
    outputs: Any = None,
    *,
    backend: str = "cpu",
    seed: int = 0,
    pipeline: Any = None,
    check_finite: bool = False,
) -> TrainStep:
    """Compile forward, backward and update of `loss` into one program.

    `inputs` are tensors made by `dlc.input`; `loss` is a 0-d floating-point tensor computed from them by `model`. All
    trainable parameters of the model that the loss depends on are trained. State updates that ride on what the loss or
    the `outputs` depend on, such as running statistics, are part of the step. Layers run in training mode. `seed` keys
    the initial values that are still open, and all random draws. `outputs` (default: the loss) says what a call
    returns: one tensor, or a list for a tuple.

    Raises `GradientError` for a loss that is not a 0-d float, or that depends on no parameter of the model, and
    `ArgumentError` for what is no model or optimiser.

    >>> import dlc
    >>> from dlc import nn, optim
    >>> x, y = dlc.input("x", ("N", 4)), dlc.input("y", ("N",), "int64")
    >>> model = nn.Linear(3)
    >>> loss = nn.functional.cross_entropy(model(x), y)
    >>> step = dlc.train_step(model, [x, y], loss, optim.SGD(0.1), backend="reference")
    >>> step([[0.0, 0.0, 0.0, 1.0]], [2]).shape
    ()
    """
    from dlc.compiler import check_seed, compile

    check_parts(model, optimizer)
    check_seed(seed)
    _check_loss(loss)
    model.initialise(seed)
    given = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    returned = [loss] if outputs is None else tensors_in(outputs)
    named = trained_parameters(model, loss)
    parameters = list(named.values())
    seed_state = State("seed", TensorType("uint64"), lambda: np.uint64(seed))
    step_state = State("step", TensorType("int64"), lambda: 0)
    with collection_paused():
        updates = gathered_updates([loss, *returned])
        assigned = optimizer.updates(parameters, _gradients(loss, parameters), names=list(named))
        updates += [(wrap(s), v) for s, v in assigned]
        with phase("update"):
            updates.append((wrap(step_state), wrap(step_state) + 1))
        graph = assemble(given, returned, updates)
    program = compile(
        graph, backend, pipeline=pipeline, training=True, seed=seed_state, step=step_state, check_finite=check_finite
    )
    return TrainStep(program, seed_state, step_state, outputs is None or isinstance(outputs, Tensor))


def trained_parameters(model: Module, loss: Tensor) -> dict[str, Parameter]:
    """The model's trainable parameters that `loss` depends on, by path. Raises `GradientError` if there is none."""
    reached = set(topological([loss.node]))
    found = {path: p for path, p in model.named_parameters() if p.is_resolved and state_node(p.state) in reached}
    if not found:
        raise GradientError(
            f"the loss depends on no trainable parameter of {type(model).__name__}; compute it from the model's output",
            where=here(),
        )
    return found


def gathered_updates(tensors: Iterable[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """The state updates that ride on the handles that `tensors` were made from.

    A state that is updated at several places, as the statistics of a layer that is called twice are, takes one update
    after the other: the later reads what the earlier wrote.
    """
    found: dict[Node, Tensor] = {}
    for handle in handles_below(tensors):
        for state, value in handle.updates:
            before = found.get(state)
            if before is None:
                found[state] = value
            elif before.node is not value.node:
                found[state] = _after(before, state, value)
    return [(Tensor(state), value) for state, value in found.items()]


def _after(before: Tensor, state: Node, value: Tensor) -> Tensor:
    """`value` with `state` read as `before`."""
    new: dict[Node, Node] = {state: before.node}
    for node in topological([value.node], stop=new.__contains__):
        if node not in new:
            new[node] = same_op(node, tuple(new[x] for x in node.inputs))
    return Tensor(new[value.node], value.origin, (before, value))


def _gradients(loss: Tensor, parameters: Sequence[Parameter]) -> list[Tensor]:
    from dlc.passes.autodiff import gradients

    return gradients([loss], [p.as_tensor() for p in parameters])


def check_parts(model: Any, optimizer: Any) -> None:
    """Raise `ArgumentError` unless these are a module and an optimiser, and not their classes or names."""
    for name, value, kind, example in (
        ("model", model, Module, "a dlc.nn.Module such as nn.Linear(10)"),
        ("optimizer", optimizer, Optimizer, "a dlc.optim.Optimizer such as optim.Adam(1e-3)"),
    ):
        if isinstance(value, type):
            raise ArgumentError(f"{name}= takes {example}, not the class {value.__name__}; call it", where=here())
        if not isinstance(value, kind):
            found = repr(value) if isinstance(value, str) else f"{type(value).__module__}.{type(value).__qualname__}"
            raise ArgumentError(f"{name}= takes {example}, not {found}", where=here())


def _check_loss(loss: Any) -> None:
    if not isinstance(loss, Tensor):
        raise GraphError(f"loss= takes the tensor of the loss, not {type(loss).__name__}", where=here())
    if loss.shape != () or loss.dtype not in FLOATING:
        raise GradientError(
            f"the loss is {loss.type}; a 0-d floating-point tensor is needed: take its mean() or sum()", where=here()
        )
