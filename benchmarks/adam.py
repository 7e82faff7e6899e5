"""Adam's update of many tensors, about 16 million parameters in all: out of cache, so a matter of bandwidth."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

import dlc
from benchmarks.cases import DLC, JAX, TORCH, Case, relative_error
from benchmarks.timing import Run
from dlc import optim

SHAPES = ((1024, 1024),) * 14 + ((1024,),) * 14 + ((256, 256),) * 16 + ((256,),) * 16
RATE = 1e-3
MOVED = 4 * 7  # bytes for a parameter: itself, its gradient and two moments are read, all but the gradient written

Arrays = list[Any]


def cases(quick: bool = False) -> Iterator[Case]:
    """One case; a quick run takes tensors that fit in the cache."""
    yield case_of(SHAPES[12:] if quick else SHAPES)


def case_of(shapes: tuple[tuple[int, ...], ...]) -> Case:
    """The case of tensors of these shapes."""
    count = sum(int(np.prod(s)) for s in shapes)
    start = partial(_start, shapes)
    sides = {
        DLC: {"": lambda: our_run(*start())},
        TORCH: {adam: partial(lambda adam: torch_run(*start(), adam), adam) for adam in ("fused", "foreach")},
        JAX: {"": lambda: jax_run(*start())},
    }
    name = f"Adam, {len(shapes)} tensors, {count / 1e6:.1f} million parameters"
    return Case(name, "adam", sides, lambda run: error_of(run, *start()), nbytes=count * MOVED)


def _start(shapes: tuple[tuple[int, ...], ...]) -> tuple[Arrays, Arrays]:
    rng = np.random.default_rng(0)
    return tuple([rng.standard_normal(s, dtype=np.float32) for s in shapes] for _ in range(2))  # type: ignore[return-value]


def error_of(run: Run, values: Arrays, gradients: Arrays) -> float:
    """How far the first update is from moving each parameter by the rate against its gradient's sign."""
    before, g = values[0].astype(np.float64), gradients[0].astype(np.float64)
    return relative_error(run()[0], before - RATE * g / (np.abs(g) + 1e-8))


def our_run(values: Arrays, gradients: Arrays) -> Run:
    """dlc's: a program whose inputs are the gradients."""
    parameters = [dlc.parameter(v, f"p{i}") for i, v in enumerate(values)]
    leaves = [dlc.input(f"g{i}", g.shape) for i, g in enumerate(gradients)]
    program = dlc.compile(dlc.graph(leaves, [], optim.Adam(RATE).updates(parameters, leaves)))

    def run() -> Arrays:
        program(*gradients)
        return [p.value for p in parameters]

    return run


def torch_run(values: Arrays, gradients: Arrays, adam: str) -> Run:
    """PyTorch's."""
    import torch

    parameters = [torch.nn.Parameter(torch.from_numpy(v.copy())) for v in values]
    for p, g in zip(parameters, gradients, strict=True):
        p.grad = torch.from_numpy(g)
    optimizer = torch.optim.Adam(parameters, RATE, **{adam: True})

    def run() -> Arrays:
        optimizer.step()
        return [parameters[0].detach()]

    return run


def jax_run(values: Arrays, gradients: Arrays) -> Run:
    """JAX's: jitted, all but the gradients donated."""
    import jax
    import jax.numpy as jnp

    from benchmarks import jax_steps

    def update(p: Arrays, m: Arrays, v: Arrays, t: Any, g: Arrays) -> Any:
        return *jax_steps.adam(p, g, m, v, t + 1, RATE), t + 1

    jitted = jax.jit(update, donate_argnums=(0, 1, 2, 3))
    p, g = [jnp.array(a) for a in values], [jnp.array(a) for a in gradients]
    state: Any = (p, [jnp.zeros_like(a) for a in p], [jnp.zeros_like(a) for a in p], jnp.zeros((), jnp.int32))

    def run() -> Arrays:
        nonlocal state
        state = jax.block_until_ready(jitted(*state, g))
        return state[0]

    return run
