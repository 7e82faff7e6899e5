"""Layers whose parameters have torch's names and shapes, each against the function that it stands for."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import dlc
from dlc import nn, ops

RNG = np.random.default_rng(0)


def output(layer: Any, *arrays: Any) -> Any:
    inputs = [dlc.input(f"x{i}", a.shape, a.dtype.name) for i, a in enumerate(arrays)]
    return dlc.compile(dlc.trace(layer, *inputs), "reference")(*arrays)[0]


def states(layer: Any) -> dict[str, tuple[int, ...]]:
    return {name: p.shape for name, p in layer.named_states()}


def sample(*shape: int) -> Any:
    return RNG.standard_normal(shape).astype("float32")


def compare(layer: Any, function: Callable[..., Any], shapes: dict[str, tuple[int, ...]], *arrays: Any) -> None:
    """The layer's output is the function's of the arrays and of the layer's parameters, given random values."""
    output(layer, *arrays)
    assert states(layer) == shapes
    values = {name: sample(*shape) for name, shape in shapes.items()}
    for name, p in layer.named_states():
        p.assign(values[name])
    want = dlc.evaluate(function(*arrays, **values))
    np.testing.assert_allclose(output(layer, *arrays), want, rtol=1e-5, atol=1e-5)


LENGTHS = {1: (6,), 2: (6, 5), 3: (4, 6, 5)}


@pytest.mark.parametrize("rank", LENGTHS)
@pytest.mark.parametrize("channels", [None, 4])
def test_convolutions(rank: int, channels: int | None) -> None:
    def function(x: Any, weight: Any, bias: Any) -> Any:
        y = getattr(ops, f"conv{rank}d")(x, weight, 2, 1, 1, 2)
        return y + bias.reshape(-1, *(1,) * rank)

    layer = getattr(nn, f"Conv{rank}d")(channels, 6, 3, stride=2, padding=1, groups=2)
    compare(layer, function, {"weight": (6, 2, *(3,) * rank), "bias": (6,)}, sample(2, 4, *LENGTHS[rank]))
    assert "kernel_size" in repr(layer) and "groups=2" in repr(layer)


@pytest.mark.parametrize("rank", LENGTHS)
@pytest.mark.parametrize("channels", [None, 4])
def test_transposed_convolutions(rank: int, channels: int | None) -> None:
    def function(x: Any, weight: Any, bias: Any) -> Any:
        y = getattr(ops, f"conv_transpose{rank}d")(x, weight, 2, 1, 1, 2)
        return y + bias.reshape(-1, *(1,) * rank)

    layer = getattr(nn, f"ConvTranspose{rank}d")(channels, 6, 3, 2, 1, 1, groups=2)
    compare(layer, function, {"weight": (4, 3, *(3,) * rank), "bias": (6,)}, sample(2, 4, *LENGTHS[rank]))
    assert "output_padding=1" in repr(layer)
