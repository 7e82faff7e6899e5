"""Training steps: forward, cross-entropy, backward and Adam, all sides from the same weights on the same batch."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, partial
from importlib.util import find_spec

from benchmarks.cases import COMPILED, DLC, JAX, TORCH, Case, Maker
from benchmarks.networks import NETWORKS, Array, Network, initial_weights, training_step
from benchmarks.timing import Run

CHECKED_STEPS = 5


def cases(quick: bool = False) -> Iterator[Case]:
    """One for each network; a quick run leaves the large one out."""
    for network in NETWORKS:
        if not (quick and network.kind == "resnet"):
            yield case_of(network)


def case_of(network: Network) -> Case:
    """The case of a network."""
    pictures = len(network.sample) == 3
    weights = cache(partial(initial_weights, network))
    loss = cache(lambda: true_loss(network, weights()))
    sides: dict[str, dict[str, Maker]] = {
        DLC: {"": partial(our_step, network)},
        TORCH: {
            f"{layout}{adam}": partial(torch_step, network, weights, channels_last=bool(layout), adam=adam)
            for layout in (("", "channels_last ") if pictures else ("",))
            for adam in ("fused", "foreach")
        },
        COMPILED: {
            layout: partial(torch_step, network, weights, channels_last=bool(layout), compiled=True)
            for layout in {"resnet": ("channels_last",), "lenet": ("", "channels_last")}.get(network.kind, ("",))
        },
        JAX: {layout: partial(jax_step, network, weights, layout) for layout in ("NCHW", "NHWC")[: 1 + pictures]},
    }
    return Case(network.name, "steps", sides, lambda run: abs(loss_after(run) - loss()) / loss())


def loss_after(run: Run) -> float:
    """The loss after some steps."""
    return [run() for _ in range(CHECKED_STEPS)][-1]


def our_step(network: Network) -> Run:
    """dlc's step."""
    x, y = network.data()
    step, _ = training_step(network)
    return lambda: float(step(x, y))


def torch_step(network: Network, weights, **how) -> Run:
    """PyTorch's."""
    from benchmarks import torch_steps

    return torch_steps.training_step(network, weights(), **how)


def jax_step(network: Network, weights, layout: str) -> Run:
    """JAX's."""
    from benchmarks import jax_steps

    return jax_steps.training_step(network, weights(), layout)


def true_loss(network: Network, weights: dict[str, Array]) -> float:
    """The loss after the same steps in float64, by PyTorch; without it, that of dlc's own reference backend."""
    if find_spec("torch") is None:
        step, _ = training_step(network, backend="reference")
        x, y = network.data()
        return loss_after(lambda: float(step(x, y)))
    import torch

    from benchmarks import torch_steps

    return loss_after(torch_steps.training_step(network, weights, dtype=torch.float64))
