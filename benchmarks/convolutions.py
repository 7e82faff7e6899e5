"""The three passes of each convolution of ResNet-18 on 32x32 images, batch 32: forward and both gradients.

dlc and PyTorch may keep images in either order, channels first or last; the better one counts. dlc's tensors always
have the order [N, C, H, W]: "channels last" means that the array which comes in, and the one which goes out, is
transposed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np

import dlc
from benchmarks.cases import DLC, JAX, TORCH, Case, relative_error
from benchmarks.gemm import our_run
from benchmarks.timing import Run

BATCH = 32
PASSES = ("forward", "data gradient", "weight gradient")


class Layer(NamedTuple):
    """A convolution without bias; `size` is the height and width of its input."""

    channels: int
    filters: int
    kernel: int
    stride: int
    size: int

    @property
    def padding(self) -> int:
        """On each side, so that a stride of 1 keeps the size."""
        return self.kernel // 2

    @property
    def outputs(self) -> int:
        """Height and width of the output."""
        return (self.size + 2 * self.padding - self.kernel) // self.stride + 1

    def __str__(self) -> str:
        stride = f"/{self.stride}" if self.stride > 1 else ""
        return f"{self.kernel}x{self.kernel}{stride} {self.channels}>{self.filters} @{self.size}"


LAYERS = (
    Layer(3, 64, 3, 1, 32), Layer(64, 64, 3, 1, 32),
    Layer(64, 128, 3, 2, 32), Layer(64, 128, 1, 2, 32), Layer(128, 128, 3, 1, 16),
    Layer(128, 256, 3, 2, 16), Layer(128, 256, 1, 2, 16), Layer(256, 256, 3, 1, 8),
    Layer(256, 512, 3, 2, 8), Layer(256, 512, 1, 2, 8), Layer(512, 512, 3, 1, 4),
)  # fmt: skip


def cases(quick: bool = False) -> Iterator[Case]:
    """Each pass of each layer; a quick run keeps one layer. The first layer has no gradient of its input."""
    for layer in LAYERS[-1:] if quick else LAYERS:
        for which in PASSES:
            if not (which == "data gradient" and layer is LAYERS[0]):
                yield case_of(layer, which)


def case_of(layer: Layer, which: str, batch: int = BATCH) -> Case:
    """The case of one pass."""
    arrays = partial(_arrays, layer, which, batch)
    truth = cache(lambda: true_sample(layer, which, *arrays()))
    sides = {
        DLC: {
            "": lambda: our_pass(layer, which, *arrays()),
            "channels last": lambda: our_pass_last(layer, which, *arrays()),
        },
        TORCH: {
            form: partial(lambda last: torch_pass(layer, which, *arrays(), last), bool(form))
            for form in ("", "channels_last")
        },
        JAX: {form: partial(lambda f: jax_pass(layer, which, *arrays(), f), form) for form in ("NCHW", "NHWC")},
    }
    flops = 2 * batch * layer.outputs**2 * layer.filters * layer.channels * layer.kernel**2
    moved = sum(4 * int(np.prod(shape)) for shape in _shapes(layer, batch))
    name = f"{layer} {which}"
    family = f"convolutions, {which}"
    return Case(name, "conv", sides, lambda run: sampled_error(run(), truth()), flops, moved, family)


def _shapes(layer: Layer, batch: int) -> tuple[tuple[int, ...], ...]:
    """Of the images, the filters and the output."""
    return (
        (batch, layer.channels, layer.size, layer.size),
        (layer.filters, layer.channels, layer.kernel, layer.kernel),
        (batch, layer.filters, layer.outputs, layer.outputs),
    )


def _result_shape(layer: Layer, which: str, batch: int) -> tuple[int, ...]:
    x, w, y = _shapes(layer, batch)
    return {"forward": y, "data gradient": x, "weight gradient": w}[which]


def _arrays(layer: Layer, which: str, batch: int) -> tuple[Any, Any]:
    """The operands: images and filters, output gradients and filters, or images and output gradients."""
    rng = np.random.default_rng(0)
    x, w, y = [rng.standard_normal(shape, dtype=np.float32) for shape in _shapes(layer, batch)]
    return {"forward": (x, w), "data gradient": (y, w), "weight gradient": (x, y)}[which]


# ---------------------------------------------------------------- the truth, for some elements of the result


def true_sample(layer: Layer, which: str, a: Any, b: Any) -> list[tuple[tuple[int, ...], float]]:
    """Some elements of the result in float64, each with its place."""
    shapes = _shapes(layer, len(a))
    rng = np.random.default_rng(1)
    places = [tuple(int(rng.integers(d)) for d in _result_shape(layer, which, len(a))) for _ in range(64)]
    x, w, y = [np.zeros(shape, np.float64) for shape in shapes]
    if which == "forward":
        x, w = a.astype(np.float64), b.astype(np.float64)
    elif which == "data gradient":
        y, w = a.astype(np.float64), b.astype(np.float64)
    else:
        x, y = a.astype(np.float64), b.astype(np.float64)
    element = {"forward": _output, "data gradient": _data_gradient, "weight gradient": _weight_gradient}[which]
    return [(place, element(layer, x, w, y, *place)) for place in places]


def _output(layer: Layer, x: Any, w: Any, y: Any, n: int, o: int, h: int, v: int) -> float:
    p, s, k = layer.padding, layer.stride, layer.kernel
    padded = np.pad(x[n], ((0, 0), (p, p), (p, p)))
    return float((padded[:, h * s : h * s + k, v * s : v * s + k] * w[o]).sum())


def _data_gradient(layer: Layer, x: Any, w: Any, y: Any, n: int, c: int, h: int, v: int) -> float:
    total = 0.0
    for i in range(layer.kernel):
        for j in range(layer.kernel):
            a, b = h + layer.padding - i, v + layer.padding - j
            if a % layer.stride == b % layer.stride == 0:
                a, b = a // layer.stride, b // layer.stride
                if 0 <= a < layer.outputs and 0 <= b < layer.outputs:
                    total += float(y[n, :, a, b] @ w[:, c, i, j])
    return total


def _weight_gradient(layer: Layer, x: Any, w: Any, y: Any, o: int, c: int, i: int, j: int) -> float:
    p, s = layer.padding, layer.stride
    padded = np.pad(x[:, c], ((0, 0), (p, p), (p, p)))
    last = s * (layer.outputs - 1) + 1
    return float((padded[:, i : i + last : s, j : j + last : s] * y[:, o]).sum())


def sampled_error(result: Any, truth: list[tuple[tuple[int, ...], float]]) -> float:
    """The relative error of the sampled elements."""
    found = np.asarray(result)
    return relative_error([found[place] for place, _ in truth], np.array([v for _, v in truth]))


# ---------------------------------------------------------------- the sides


def our_function(layer: Layer, which: str) -> Callable[..., Any]:
    """The pass as a function of tensors [N, C, H, W]."""
    how = {"stride": layer.stride, "padding": layer.padding}
    if which == "forward":
        return lambda x, w: dlc.conv2d(x, w, **how)
    if which == "data gradient":
        return lambda g, w: dlc.ops.conv2d_data_gradient(g, w, shape=(layer.size, layer.size), **how)
    return lambda x, g: dlc.ops.conv2d_weight_gradient(x, g, size=layer.kernel, **how)


def our_pass(layer: Layer, which: str, a: Any, b: Any) -> Run:
    """dlc's, channels first."""
    return our_run(our_function(layer, which), a, b)


def our_pass_last(layer: Layer, which: str, a: Any, b: Any) -> Run:
    """dlc's, channels last; filters too."""
    inward, outward = (0, 3, 1, 2), (0, 2, 3, 1)
    function = our_function(layer, which)

    def transposed(a: Any, b: Any) -> Any:
        result = function(dlc.permute_dims(a, inward), dlc.permute_dims(b, inward))
        return dlc.permute_dims(result, outward)

    run = our_run(transposed, *(np.ascontiguousarray(v.transpose(outward)) for v in (a, b)))
    return lambda: run().transpose(inward)


def torch_pass(layer: Layer, which: str, a: Any, b: Any, channels_last: bool) -> Run:
    """PyTorch's, by the operators that its autograd calls."""
    import torch
    import torch.nn.functional as F

    form = torch.channels_last if channels_last else torch.contiguous_format
    first, second = [torch.from_numpy(v).contiguous(memory_format=form) for v in (a, b)]
    if which == "forward":
        return lambda: F.conv2d(first, second, None, layer.stride, layer.padding)
    x, w, _ = [torch.empty(s).contiguous(memory_format=form) for s in _shapes(layer, len(a))]
    g, x, w = (first, x, second) if which == "data gradient" else (second, first, w)
    mask = [which == "data gradient", which == "weight gradient", False]
    strides, pads = [layer.stride] * 2, [layer.padding] * 2
    backward = torch.ops.aten.convolution_backward

    def run() -> Any:
        results = backward(g, x, w, None, strides, pads, [1, 1], False, [0, 0], 1, mask)
        return results[0] if mask[0] else results[1]

    return run


def jax_pass(layer: Layer, which: str, a: Any, b: Any, layout: str) -> Run:
    """JAX's, the gradients by its own transposition."""
    import jax
    import jax.numpy as jnp

    names = (layout, "OIHW" if layout == "NCHW" else "HWIO", layout)
    arranged = map(_arranged_shape, _shapes(layer, len(a)), names)
    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in arranged]

    def forward(x: Any, w: Any) -> Any:
        pads = [(layer.padding, layer.padding)] * 2
        return jax.lax.conv_general_dilated(x, w, (layer.stride,) * 2, pads, dimension_numbers=names)

    def pass_of(a: Any, b: Any) -> Any:
        if which == "forward":
            return forward(a, b)
        if which == "data gradient":
            return jax.linear_transpose(lambda x: forward(x, b), shapes[0])(a)[0]
        return jax.linear_transpose(lambda w: forward(a, w), shapes[1])(b)[0]

    kinds = {"forward": (0, 1, 2), "data gradient": (2, 1, 0), "weight gradient": (0, 2, 1)}[which]
    first, second = [jnp.array(v.transpose(_order(names[k]))) for v, k in zip((a, b), kinds, strict=False)]
    run, back = jax.jit(pass_of), np.argsort(_order(names[kinds[2]]))

    def one() -> Any:
        return run(first, second).block_until_ready()

    return _Transposed(one, tuple(back))


class _Transposed:
    """A run whose result is looked at in another order, without cost to the run."""

    def __init__(self, run: Run, order: tuple[int, ...]) -> None:
        self.run, self.order = run, order

    def __call__(self) -> Any:
        return _View(self.run(), self.order)


class _View(NamedTuple):
    array: Any
    order: tuple[int, ...]

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.asarray(self.array).transpose(self.order)


def _order(names: str) -> tuple[int, ...]:
    """The axes of an array in the order NCHW or OIHW, as `names` arranges them."""
    standard = "OIHW" if "O" in names else "NCHW"
    return tuple(standard.index(n) for n in names)


def _arranged_shape(shape: tuple[int, ...], names: str) -> tuple[int, ...]:
    return tuple(shape[i] for i in _order(names))
