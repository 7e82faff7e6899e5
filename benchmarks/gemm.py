"""Matrix products of float32 in the three forms of a linear layer: forward, gradient of the input and of the weight."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import numpy as np

import dlc
from benchmarks.cases import DLC, JAX, TORCH, Case, relative_error
from benchmarks.timing import Run

SQUARES = (512, 768, 1024, 2048)
RECTANGLES = ((128, 784, 512), (4096, 256, 1024), (256, 4096, 256), (1024, 64, 1024))  # m, k, n
FORMS: dict[str, Callable[[Any, Any], Any]] = {
    "x@w": lambda x, w: x @ w,
    "x@w.T": lambda x, w: x @ w.T,
    "x.T@g": lambda x, w: x.T @ w,
}


def cases(quick: bool = False) -> Iterator[Case]:
    """Each size in each form; a quick run keeps two."""
    sizes = [(n, n, n) for n in SQUARES] + list(RECTANGLES)
    for m, k, n in sizes[:2] if quick else sizes:
        for form in FORMS:
            yield case_of(form, m, k, n)


def case_of(form: str, m: int, k: int, n: int) -> Case:
    """The product of [m, k] and [k, n]; the operands of a transposed form are stored transposed."""
    operands = partial(_operands, form, m, k, n)
    truth = cache(lambda: FORMS[form](*(a.astype(np.float64) for a in operands())))
    sides = {
        DLC: {"": lambda: our_run(FORMS[form], *operands())},
        TORCH: {"": lambda: torch_run(FORMS[form], *operands())},
        JAX: {"": lambda: jax_run(FORMS[form], *operands())},
    }
    work = {"flops": 2 * m * k * n, "nbytes": 4 * (m * k + k * n + m * n)}
    name, family = f"{form} {m}x{k}x{n}", f"matrix products {form}"
    group = "gemm" if m == k == n else "oblong"
    return Case(name, group, sides, lambda run: relative_error(run(), truth()), **work, family=family)


def _operands(form: str, m: int, k: int, n: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    left = (k, m) if form == "x.T@g" else (m, k)
    right = (n, k) if form == "x@w.T" else (k, n)
    return rng.standard_normal(left, dtype=np.float32), rng.standard_normal(right, dtype=np.float32)


def our_run(function: Callable[..., Any], *operands: Any) -> Run:
    """dlc's program of a function of arrays."""
    leaves = [dlc.input(f"x{i}", a.shape) for i, a in enumerate(operands)]
    program = dlc.compile(dlc.graph(leaves, [function(*leaves)]))
    return lambda: program(*operands)[0]


def torch_run(function: Callable[..., Any], *operands: Any) -> Run:
    """PyTorch's."""
    import torch

    tensors = [torch.from_numpy(a) for a in operands]
    return lambda: function(*tensors)


def jax_run(function: Callable[..., Any], *operands: Any) -> Run:
    """JAX's."""
    import jax

    run, arrays = jax.jit(function), [jax.numpy.array(a) for a in operands]
    return lambda: run(*arrays).block_until_ready()
