"""Layers whose parameters have torch's names and shapes, each against the function that it stands for."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import dlc
from dlc import nn, ops
from dlc.errors import ShapeError

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


POOLS: dict[str, tuple[tuple[Any, ...], Callable[[Any], Any]]] = {
    "MaxPool": ((3, 2, 1, 1, False, True), lambda x: ops.max_pool(x, 3, 2, 1, ceil_mode=True)),
    "AvgPool": ((3, 2, 1, True, False), lambda x: ops.avg_pool(x, 3, 2, 1, count_include_pad=False, ceil_mode=True)),
    "LPPool": ((2.0, 2), lambda x: ops.lp_pool(x, 2.0, 2)),
    "AdaptiveAvgPool": ((3,), lambda x: ops.adaptive_avg_pool(x, 3)),
    "AdaptiveMaxPool": ((2,), lambda x: ops.adaptive_max_pool(x, 2)),
}


@pytest.mark.parametrize("rank", LENGTHS)
@pytest.mark.parametrize("name", POOLS)
def test_pools(name: str, rank: int) -> None:
    arguments, function = POOLS[name]
    layer = getattr(nn, f"{name}{rank}d")(*arguments)
    compare(layer, function, {}, sample(2, 3, *LENGTHS[rank]))
    with pytest.raises(ShapeError, match=f"{name}{rank}d"):
        layer(sample(2, *LENGTHS[rank]))


@pytest.mark.parametrize("rank", LENGTHS)
def test_unpooling_layers(rank: int) -> None:
    pool, back = getattr(nn, f"MaxPool{rank}d")(2, return_indices=True), getattr(nn, f"MaxUnpool{rank}d")(2)
    x = sample(2, 3, *LENGTHS[rank])
    y, at = pool(x)
    wide, all_of_it = dlc.evaluate(back(y, at, LENGTHS[rank]), back(y, at, x.shape))
    np.testing.assert_array_equal(wide, all_of_it)
    assert wide.shape == x.shape and set(wide[wide != 0].tolist()) == set(dlc.evaluate(y).ravel().tolist())
