"""Layers whose parameters have torch's names and shapes, each against the function that it stands for."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import dlc
from dlc import nn, ops
from dlc.errors import AttributeValueError, ShapeError
from dlc.ir import Graph

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


NORMS: dict[str, tuple[Any, Callable[..., Any], tuple[int, ...]]] = {
    "GroupNorm": (lambda: nn.GroupNorm(2), lambda x, weight, bias: ops.group_norm(x, 2, weight, bias), (4,)),
    "InstanceNorm2d": (
        lambda: nn.InstanceNorm2d(4, affine=True), lambda x, weight, bias: ops.instance_norm(x, weight, bias), (4,)),
    "LocalResponseNorm": (
        lambda: nn.LocalResponseNorm(3, 0.1), lambda x: ops.local_response_norm(x, 3, 0.1), ()),
    "RMSNorm": (lambda: nn.RMSNorm((6, 5), 1e-5), lambda x, weight: ops.rms_norm(x, weight, (-2, -1)), (6, 5)),
    "InstanceNorm2d plain": (nn.InstanceNorm2d, ops.instance_norm, ()),
}  # fmt: skip


@pytest.mark.parametrize("name", NORMS)
def test_norms(name: str) -> None:
    layer, function, shape = NORMS[name]
    names = ("weight", "bias")[: 1 if name == "RMSNorm" else 2] if shape else ()
    compare(layer(), function, dict.fromkeys(names, shape), sample(2, 4, 6, 5))


def test_batch_norm_of_volumes() -> None:
    x = sample(2, 3, 2, 4, 5)
    inputs = dlc.input("x", x.shape)
    (got,) = dlc.compile(dlc.trace(nn.BatchNorm3d(), inputs), "reference", training=True)(x)
    axes = (0, 2, 3, 4)
    want = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-5)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_shapes_are_undone() -> None:
    x = sample(2, 12, 3)
    both = nn.Sequential(nn.Unflatten(1, (2, -1)), nn.Identity(), nn.Flatten(1, 2))
    np.testing.assert_array_equal(output(both, x), x)
    assert nn.Unflatten(-1, (3, 1))(dlc.constant(x)).shape == (2, 12, 3, 1)
    for axis, sizes in ((1, (5, 2)), (3, (2, 2)), (1, (-1, -1)), (1, (5, -1))):
        with pytest.raises(ShapeError, match="Unflatten"):
            nn.Unflatten(axis, sizes)(x)


def test_the_padding_row_is_zero_and_does_not_learn() -> None:
    layer = nn.Embedding(5, 3, padding_idx=-4)
    i = np.array([[1, 0], [4, 1]])
    compare(layer, lambda i, weight: weight[i], {"weight": (5, 3)}, i)
    fresh = nn.Embedding(5, 3, padding_idx=1)
    x = dlc.input("i", i.shape, "int64")
    y = fresh(x)
    value, slope = dlc.compile(dlc.graph([x], [y, *dlc.grad(y.sum(), [fresh.weight])]), "reference")(i)
    assert (value[0, 0] == 0).all() and (value[0, 1] != 0).any()
    np.testing.assert_array_equal(slope[:, 0], [1, 0, 0, 0, 1])
    with pytest.raises(AttributeValueError, match="padding_idx"):
        nn.Embedding(5, 3, padding_idx=5)


def heads_by_hand(x: Any, y: Any, w: dict[str, Any], heads: int, hidden: Any) -> tuple[Any, Any]:
    """Attention of queries x [N, T, E] to keys and values y [N, S, E], head by head, in float64."""
    size = x.shape[-1]
    rows = [slice(i * size, (i + 1) * size) for i in range(3)]
    q, k, v = (a @ w["in_proj_weight"][r].T + w["in_proj_bias"][r] for a, r in zip((x, y, y), rows, strict=True))
    d = size // heads
    parts, all_weights = [], []
    for h in range(heads):
        own = slice(h * d, (h + 1) * d)
        scores = q[..., own] @ np.swapaxes(k[..., own], 1, 2) / np.sqrt(d)
        scores = np.where(hidden, -np.inf, scores)
        e = np.exp(scores - scores.max(-1, keepdims=True))
        all_weights.append(e / e.sum(-1, keepdims=True))
        parts.append(all_weights[-1] @ v[..., own])
    return np.concatenate(parts, -1) @ w["out_proj.weight"].T + w["out_proj.bias"], np.stack(all_weights, 1)


@pytest.mark.parametrize("batch_first", [False, True])
def test_attention_of_heads(batch_first: bool) -> None:
    x, y = sample(2, 4, 6), sample(2, 4, 6)
    layer = nn.MultiheadAttention(6, 3, batch_first=batch_first)
    padding = np.array([[False, False, False, True], [False] * 4])
    later = np.triu(np.ones((4, 4), bool), 1)
    a, b = (t if batch_first else t.swapaxes(0, 1) for t in (x, y))

    def run(**masks: Any) -> Any:
        return dlc.evaluate(*(t for t in layer(a, b, b, **masks) if t is not None))

    run()
    shapes = {"in_proj_weight": (18, 6), "in_proj_bias": (18,), "out_proj.weight": (6, 6), "out_proj.bias": (6,)}
    assert states(layer) == shapes
    values = {name: sample(*shape) for name, shape in shapes.items()}
    for name, p in layer.named_states():
        p.assign(values[name])
    float_mask = np.where(later, -np.inf, 0.0).astype("float32")
    repeated = np.repeat(padding, 3, 0)[:, None] | np.zeros((4, 1), bool)
    for masks, hidden in (
        ({}, np.array(False)), ({"is_causal": True}, later), ({"attn_mask": later}, later),
        ({"attn_mask": float_mask}, later), ({"key_padding_mask": padding}, padding[:, None]),
        ({"attn_mask": repeated}, padding[:, None]),
    ):  # fmt: skip
        want, weights = heads_by_hand(x, y, values, 3, hidden)
        got, mean = run(**masks)
        np.testing.assert_allclose(got if batch_first else got.swapaxes(0, 1), want, rtol=2e-4, atol=2e-5)
        np.testing.assert_allclose(mean, weights.mean(1), rtol=2e-4, atol=2e-5)
    np.testing.assert_allclose(run(average_attn_weights=False)[1], heads_by_hand(x, y, values, 3, False)[1], rtol=2e-4)
    assert layer(a, b, b, need_weights=False)[1] is None
    with pytest.raises(ShapeError, match="MultiheadAttention"):
        layer(a[..., :3], b, b)
    with pytest.raises(AttributeValueError, match="num_heads"):
        nn.MultiheadAttention(6, 4)


@pytest.mark.parametrize("sizes", [(5, 4), (None, 4), (5, None)])
def test_attention_to_keys_and_values_of_other_sizes(sizes: Any) -> None:
    kdim, vdim = (6 if s is None else s for s in sizes)
    q, k, v = sample(2, 3, 6), sample(2, 4, kdim), sample(2, 4, vdim)
    layer = nn.MultiheadAttention(6, 3, batch_first=True, kdim=sizes[0], vdim=sizes[1])
    layer(q, k, v)
    shapes = {"q_proj_weight": (6, 6), "k_proj_weight": (6, kdim), "v_proj_weight": (6, vdim)}
    assert {n: s for n, s in states(layer).items() if n in shapes} == shapes
    assert "in_proj_weight" not in states(layer)
    values = {name: sample(*shape) for name, shape in states(layer).items()}
    for name, p in layer.named_states():
        p.assign(values[name])
    # zeros make keys and values as wide as queries, and a common weight of them all
    wide = [np.pad(t, [(0, 0), (0, 0), (0, 6 - t.shape[-1])]) for t in (q, k, v)]
    weights = [np.pad(values[n], [(0, 0), (0, 6 - values[n].shape[1])]) for n in shapes]
    same = nn.MultiheadAttention(6, 3, batch_first=True)
    same(*(wide[0],) * 3)
    rest = {n: a for n, a in values.items() if n not in shapes}
    for name, p in same.named_states():
        p.assign(np.concatenate(weights) if name == "in_proj_weight" else rest[name])
    np.testing.assert_allclose(dlc.evaluate(layer(q, k, v)[0]), dlc.evaluate(same(*wide)[0]), rtol=2e-4, atol=2e-5)
    with pytest.raises(ShapeError, match=f"key of 3 axes, the last of {kdim}"):
        layer(q, sample(2, 4, 7), v)


@pytest.mark.parametrize("affine", [False, True])
def test_running_statistics_of_instances(affine: bool) -> None:
    layer = nn.InstanceNorm1d(3, momentum=0.25, affine=affine, track_running_stats=True)
    data = sample(4, 3, 5)
    x = dlc.input("x", ("N", 3, 5))
    y = layer(x)
    if affine:
        dict(layer.named_states())["weight"].assign(np.array([1, 2, 3], "f"))
    graph = Graph((x.node,), (y.node,), tuple((state, value.node) for state, value in y.updates))
    mean, var = data.mean(2, keepdims=True), data.var(2, keepdims=True)
    scale = np.array([1, 2, 3], "f")[:, None] if affine else 1.0
    (got,) = dlc.compile(graph, "reference", training=True)(data)
    np.testing.assert_allclose(got, (data - mean) / np.sqrt(var + 1e-5) * scale, rtol=1e-4, atol=1e-5)
    kept = [0.25 * mean.mean((0, 2)), 0.75 + 0.25 * data.var(2, ddof=1).mean(0)]
    for name, want in zip(("running_mean", "running_var"), kept, strict=True):
        np.testing.assert_allclose(dict(layer.named_states())[name].value, want, rtol=1e-5, atol=1e-6)
    (after,) = dlc.compile(dlc.graph([x], [y]), "reference")(data)
    want = (data - kept[0][:, None]) / np.sqrt(kept[1][:, None] + 1e-5) * scale
    np.testing.assert_allclose(after, want, rtol=1e-4, atol=1e-5)


FUNCTIONS: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "CELU": (lambda: nn.CELU(0.7), lambda x: ops.celu(x, 0.7)),
    "GELU": (lambda: nn.GELU("tanh"), lambda x: ops.gelu(x, "tanh")),
    "Hardtanh": (lambda: nn.Hardtanh(-0.3, 0.7), lambda x: ops.clip(x, -0.3, 0.7)),
    "Hardshrink": (lambda: nn.Hardshrink(0.3), lambda x: ops.hardshrink(x, 0.3)),
    "Softshrink": (lambda: nn.Softshrink(0.3), lambda x: ops.softshrink(x, 0.3)),
    "Tanhshrink": (nn.Tanhshrink, ops.tanhshrink),
    "GLU": (lambda: nn.GLU(1), lambda x: ops.glu(x, 1)),
    "PixelShuffle": (lambda: nn.PixelShuffle(2), lambda x: ops.pixel_shuffle(x, 2)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_as_layers(name: str) -> None:
    layer, function = FUNCTIONS[name]
    compare(layer(), function, {}, sample(2, 8, 3, 2))


def test_channels_become_pixels() -> None:
    x = sample(2, 8, 3, 5)
    want = np.empty((2, 2, 6, 10), np.float32)
    for c, i, j in np.ndindex(2, 2, 2):
        want[:, c, i::2, j::2] = x[:, c * 4 + i * 2 + j]
    np.testing.assert_array_equal(dlc.evaluate(ops.pixel_shuffle(x, 2)), want)
    for wrong in (3, 0):
        with pytest.raises((ShapeError, AttributeValueError), match="pixel_shuffle"):
            ops.pixel_shuffle(x, wrong)


def test_differences_and_fills() -> None:
    x = sample(3, 5)
    for n, axis in ((0, 0), (1, 0), (2, 1), (3, 0), (9, 1)):
        np.testing.assert_array_equal(dlc.evaluate(ops.diff(x, n, axis)), np.diff(x, n, axis))
    with pytest.raises(AttributeValueError, match="diff"):
        ops.diff(x, -1)
    filled = dlc.evaluate(ops.full_like(x, 2))
    assert filled.dtype == np.float32 and filled.shape == x.shape and (filled == 2).all()


@pytest.mark.parametrize("norm_first", [False, True])
def test_transformer_layers_are_sums_of_branches_normalised_before_or_after(norm_first: bool) -> None:
    layer = nn.TransformerDecoderLayer(4, 2, 6, activation="gelu", batch_first=True, norm_first=norm_first)
    y, x = dlc.input("y", (2, 3, 4)), dlc.input("x", (2, 5, 4))
    layer(y, x)
    weights = {"in_proj_weight": (12, 4), "in_proj_bias": (12,), "out_proj.weight": (4, 4), "out_proj.bias": (4,)}
    names = {f"{a}.{name}": shape for a in ("self_attn", "multihead_attn") for name, shape in weights.items()}
    names |= {"linear1.weight": (6, 4), "linear1.bias": (6,), "linear2.weight": (4, 6), "linear2.bias": (4,)}
    names |= {f"norm{i}.{name}": (4,) for i in (1, 2, 3) for name in ("weight", "bias")}
    assert sorted(states(layer).items()) == sorted(names.items())  # torch's
    for _, p in layer.named_states():
        p.assign(sample(*p.shape))

    branches = (
        lambda t: layer.self_attn(t, t, t, is_causal=True)[0],
        lambda t: layer.multihead_attn(t, x, x)[0],
        lambda t: layer.linear2(ops.gelu(layer.linear1(t))),
    )
    want = y
    for branch, norm in zip(branches, (layer.norm1, layer.norm2, layer.norm3), strict=True):
        want = want + branch(norm(want)) if norm_first else norm(want + branch(want))
    arrays = sample(2, 3, 4), sample(2, 5, 4)
    program = dlc.compile(dlc.graph([y, x], [layer(y, x, tgt_is_causal=True), want]), "reference")
    found, wanted = program(*arrays)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
    later = arrays[0].copy()
    later[:, 2] += 1
    np.testing.assert_array_equal(program(later, arrays[1])[0][:, :2], found[:, :2])


def test_an_encoder_layer_sees_no_padding() -> None:
    layer = nn.TransformerEncoderLayer(4, 2, 6, dropout=0.5)
    data, padding = sample(5, 2, 4), np.arange(5) >= np.array([[3], [5]])
    found = output(lambda x: layer(x, src_key_padding_mask=padding), data)
    data[3:, 0] = 7.0
    np.testing.assert_array_equal(output(lambda x: layer(x, src_key_padding_mask=padding), data)[:3, 0], found[:3, 0])
    with pytest.raises(AttributeValueError, match="activation is 'relu', 'gelu' or a function, not 'tanh'"):
        nn.TransformerEncoderLayer(4, 2, activation="tanh")
