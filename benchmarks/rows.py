"""Softmax and layer normalisation over rows, forward and backward, in cache and out of cache.

All sides write into memory that exists already, as a model's activations do: dlc into a state, PyTorch by ``out=``, JAX
into a donated buffer. What is asked is how near they come to a copy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

import dlc
from benchmarks.cases import DLC, JAX, TORCH, Case, relative_error
from benchmarks.timing import Run

SIZES = ((1024, 1024), (32768, 1024))  # rows, columns: 4 MiB and 128 MiB an array
EPS = 1e-5

Arrays = Sequence[Any]


class Rows(NamedTuple):
    """A function of arrays with one or more results: for dlc, for PyTorch's operators with ``out=``, and for JAX.

    `operands` and `results` have a letter for each array: "x" is one of [rows, columns], "w" one of [columns].
    """

    name: str
    operands: str
    results: str
    ours: Callable[..., Arrays]
    torch: Callable[[Arrays], Callable[[], Arrays]]
    jax: Callable[..., Arrays]
    truth: Callable[..., Any]  # the first result in float64


def cases(quick: bool = False) -> Iterator[Case]:
    """Each function in each size; a quick run stays in cache."""
    for rows, columns in SIZES[:1] if quick else SIZES:
        for function in FUNCTIONS:
            yield case_of(function, rows, columns)


def case_of(function: Rows, rows: int, columns: int) -> Case:
    """The case of a function on float32[rows, columns]."""
    shapes = {"x": (rows, columns), "w": (columns,)}
    operands = partial(_arrays, [shapes[a] for a in function.operands])
    results = [shapes[a] for a in function.results]
    sides = {
        DLC: {"": lambda: our_run(function, operands(), results)},
        TORCH: {"": lambda: torch_run(function, operands())},
        JAX: {"": lambda: jax_run(function, operands(), results)},
    }
    moved = sum(4 * int(np.prod(shapes[a])) for a in function.operands + function.results)
    check = min(rows, 256)

    def error(run: Run) -> float:
        sample = [a[:check].astype(np.float64) if a.ndim == 2 else a.astype(np.float64) for a in operands()]
        return relative_error(np.asarray(run()[0])[:check], function.truth(*sample))

    return Case(f"{function.name} {rows}x{columns}", "rows", sides, error, nbytes=moved)


def _arrays(shapes: Sequence[tuple[int, ...]]) -> Arrays:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape, dtype=np.float32) for shape in shapes]


def our_run(function: Rows, operands: Arrays, results: Sequence[tuple[int, ...]]) -> Run:
    """dlc's program, which writes its results into states."""
    leaves = [dlc.input(f"x{i}", a.shape) for i, a in enumerate(operands)]
    targets = [dlc.parameter(np.zeros(shape, np.float32), f"y{i}") for i, shape in enumerate(results)]
    updates = list(zip(targets, function.ours(*leaves), strict=True))
    program = dlc.compile(dlc.graph(leaves, [], updates))

    def run() -> Arrays:
        program(*operands)
        return [t.value for t in targets]

    return run


def jax_run(function: Rows, operands: Arrays, results: Sequence[tuple[int, ...]]) -> Run:
    """JAX's, which writes its results into donated buffers."""
    import jax
    import jax.numpy as jnp

    def into(outputs: Arrays, *arrays: Any) -> Arrays:
        return function.jax(*arrays)

    jitted = jax.jit(into, donate_argnums=(0,), keep_unused=True)
    arrays, outputs = [jnp.array(a) for a in operands], [jnp.zeros(shape) for shape in results]

    def run() -> Arrays:
        nonlocal outputs
        outputs = jax.block_until_ready(jitted(outputs, *arrays))
        return outputs

    return run


def torch_run(function: Rows, operands: Arrays) -> Run:
    """PyTorch's, which writes its results into tensors that exist."""
    import torch

    return function.torch([torch.from_numpy(a) for a in operands])


# ---------------------------------------------------------------- softmax


def _torch_softmax(operands: Arrays) -> Callable[[], Arrays]:
    import torch

    (x,), y = operands, torch.empty_like(operands[0])
    return lambda: (torch.softmax(x, -1, out=y),)


def _jax_softmax(x: Any) -> Arrays:
    import jax

    return [jax.nn.softmax(x)]


def _softmax(x: Any) -> Any:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def _softmax_gradient(y: Any, g: Any) -> Any:
    return y * (g - (y * g).sum(-1, keepdims=True))


def _torch_softmax_gradient(operands: Arrays) -> Callable[[], Arrays]:
    import torch

    (y, g), result = operands, torch.empty_like(operands[0])
    function = torch.ops.aten._softmax_backward_data.out
    return lambda: (function(g, y, -1, torch.float32, grad_input=result),)


# ---------------------------------------------------------------- layer normalisation


def _torch_layer_norm(operands: Arrays) -> Callable[[], Arrays]:
    import torch

    x, w, b = operands
    outs = [torch.empty_like(x), torch.empty(len(x), 1), torch.empty(len(x), 1)]
    function = torch.ops.aten.native_layer_norm.out
    return lambda: function(x, w.shape, w, b, EPS, out0=outs[0], out1=outs[1], out2=outs[2])


def _jax_layer_norm(x: Any, w: Any, b: Any) -> Arrays:
    import jax.numpy as jnp

    centred = x - x.mean(-1, keepdims=True)
    return [centred / jnp.sqrt((centred * centred).mean(-1, keepdims=True) + EPS) * w + b]


def _layer_norm(x: Any, w: Any, b: Any) -> Any:
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + EPS) * w + b


def _our_layer_norm_gradients(x: Any, w: Any, b: Any, g: Any) -> Arrays:
    return dlc.grad(dlc.layer_norm(x, w, b, eps=EPS), [x, w, b], g)


def _torch_layer_norm_gradients(operands: Arrays) -> Callable[[], Arrays]:
    import torch

    x, w, b, g = operands
    _, mean, rstd = torch.ops.aten.native_layer_norm(x, w.shape, w, b, EPS)
    outs = [torch.empty_like(a) for a in (x, w, b)]
    function = torch.ops.aten.native_layer_norm_backward.out
    flags = [True, True, True]
    return lambda: function(g, x, w.shape, mean, rstd, w, b, flags, out0=outs[0], out1=outs[1], out2=outs[2])


def _jax_layer_norm_gradients(x: Any, w: Any, b: Any, g: Any) -> Arrays:
    import jax

    return list(jax.vjp(lambda *a: _jax_layer_norm(*a)[0], x, w, b)[1](g))


def _layer_norm_gradient(x: Any, w: Any, b: Any, g: Any) -> Any:
    s = np.sqrt(x.var(-1, keepdims=True) + EPS)
    n, h = (x - x.mean(-1, keepdims=True)) / s, g * w
    return (h - h.mean(-1, keepdims=True) - n * (h * n).mean(-1, keepdims=True)) / s


FUNCTIONS = (
    Rows("softmax", "x", "x", lambda x: [dlc.softmax(x)], _torch_softmax, _jax_softmax, _softmax),
    Rows(
        "softmax backward", "xx", "x", lambda y, g: [y * (g - dlc.sum(y * g, axis=-1, keepdims=True))],
        _torch_softmax_gradient, lambda y, g: [_softmax_gradient(y, g)], _softmax_gradient,
    ),
    Rows(
        "layer norm", "xww", "x", lambda x, w, b: [dlc.layer_norm(x, w, b, eps=EPS)], _torch_layer_norm,
        _jax_layer_norm, _layer_norm,
    ),
    Rows(
        "layer norm backward", "xwwx", "xww", _our_layer_norm_gradients, _torch_layer_norm_gradients,
        _jax_layer_norm_gradients, _layer_norm_gradient,
    ),
)  # fmt: skip
