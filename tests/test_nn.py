"""Modules and layers, against NumPy written out by hand."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import dlc
from dlc import nn, optim
from dlc.errors import ArgumentError, AttributeValueError, DTypeError, GraphError, IndexOutOfRangeError, ShapeError

Array = Any


def run(module: Any, *arrays: Array, shapes: Any = None, training: bool = False, backend: str = "reference") -> Any:
    """The module's output for arrays, with a named batch axis."""
    inputs = [dlc.input(f"x{i}", ("N", *a.shape[1:]), a.dtype) for i, a in enumerate(arrays)]
    outputs = dlc.compile(dlc.trace(module, *inputs), backend, training=training)(*arrays)
    return outputs[0] if len(outputs) == 1 else outputs


def sample(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


def close(got: Array, want: Array, tolerance: float = 2e-5) -> None:
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)


# ---------------------------------------------------------------- modules


class Block(nn.Module):
    def __init__(self) -> None:
        self.first = nn.Linear(3)
        self.rest = [nn.Linear(3), {"end": nn.Linear(3)}]
        self.scale = nn.Parameter((1,), dlc.frontend.initialisers.ones)

    def forward(self, x: Any) -> Any:
        return self.rest[1]["end"](self.rest[0](self.first(x))) * self.scale  # type: ignore[index]


def traced(module: Any, *shape: int) -> Any:
    dlc.trace(module, dlc.input("x", ("N", *shape)))
    return module


def test_parameters_are_found_in_attributes_lists_and_dicts() -> None:
    names = [name for name, _ in Block().named_parameters()]
    assert names == [
        "scale", "first.weight", "first.bias", "rest.0.weight", "rest.0.bias", "rest.1.end.weight", "rest.1.end.bias",
    ]  # fmt: skip


def test_module_shared_by_two_attributes_is_listed_once_and_shares_values() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            self.a = nn.Linear(3)
            self.b = self.a

        def forward(self, x: Any) -> Any:
            return self.b(self.a(x))

    model, x = Twice(), sample(2, 3)
    y = run(model, x)
    assert [name for name, _ in model.named_parameters()] == ["a.weight", "a.bias"]
    w = model.a.weight.value
    close(y, x @ w.T @ w.T)


def test_parameter_shared_by_two_layers_is_listed_once() -> None:
    a, b = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
    b.weight = a.weight
    model = traced(nn.Sequential(a, b), 3)
    assert list(model.state_dict()) == ["0.weight"]
    assert model.num_parameters() == 9


def test_nodes_carry_the_path_of_their_module() -> None:
    graph = dlc.trace(nn.Sequential(nn.Linear(3), nn.Sequential(nn.ReLU())), dlc.input("x", ("N", 3)))
    paths = {o.module for n in graph.nodes for o in graph.origins.get(n, ()) if n.op.name in ("matmul", "relu")}
    assert paths == {"0", "1.0"}


def test_names_grow_when_a_part_is_called_before_the_whole() -> None:
    part = nn.Linear(2, 2)
    part(dlc.input("x", ("N", 2)))
    assert part.weight.name == "weight"
    traced(nn.Sequential(part), 2)
    assert part.weight.name == "0.weight"


def test_a_module_names_the_parameters_that_its_author_made() -> None:
    class Mix(nn.Module):
        def __init__(self) -> None:
            self.first, self.second = dlc.parameter((3, 3)), dlc.parameter((3, 3), "w")

        def forward(self, x: Any) -> Any:
            return x @ self.first @ self.second

    model = nn.Sequential(Mix(), Mix())
    traced(model, 3)
    names = ["0.first", "0.second", "1.first", "1.second"]
    assert [p.name for p in model.parameters()] == [path for path, _ in model.named_parameters()] == names
    assert len({p.value.tobytes() for p in model.parameters()}) == 4  # each drawn from its own path


def test_forward_is_needed() -> None:
    with pytest.raises(GraphError, match="Empty has no forward"):
        type("Empty", (nn.Module,), {})()(dlc.input("x"))


def test_assigning_a_value_over_a_parameter_is_refused() -> None:
    layer = nn.Linear(2, 2)
    with pytest.raises(AttributeValueError, match=r"\.weight\.assign"):
        layer.weight = np.zeros((2, 2))


def test_repr_shows_the_tree() -> None:
    text = repr(nn.Sequential(nn.Conv2d(1, 6, 5, padding=2), nn.Sequential(nn.Linear(4)), nn.Dropout(0.3)))
    assert text == (
        "Sequential(\n"
        "  (0): Conv2d(1, 6, kernel_size=(5, 5), stride=1, padding=2)\n"
        "  (1): Sequential(\n"
        "    (0): Linear(?, 4)\n"
        "  )\n"
        "  (2): Dropout(p=0.3)\n"
        ")"
    )


# ---------------------------------------------------------------- lazy shapes and values


def test_open_shapes_are_errors_until_the_first_trace() -> None:
    layer = nn.Linear(3)
    with pytest.raises(GraphError, match=r"trace the model first"):
        layer.weight.value  # noqa: B018
    assert traced(layer, 5).weight.shape == (3, 5)


def test_second_trace_with_other_features_names_layer_shapes_and_fix() -> None:
    model = traced(nn.Sequential(nn.ReLU(), nn.Linear(3)), 5)
    with pytest.raises(ShapeError) as caught:
        model(dlc.input("x", ("N", 7)))
    message = str(caught.value)
    for words in ("Linear at '1'", "f32[N,7]", "(3, 7)", "(3, 5)", "another layer", __file__):
        assert words in message


def test_named_dim_cannot_size_a_weight() -> None:
    with pytest.raises(ShapeError, match="named dim F"):
        nn.Linear(3)(dlc.input("x", ("N", "F")))


def test_seed_replaces_drawn_values_but_never_set_or_trained_ones() -> None:
    layer = traced(nn.Linear(4), 3)
    zero = layer.weight.value.copy()
    layer.initialise(1)
    one = layer.weight.value.copy()
    assert not np.array_equal(zero, one)
    layer.initialise(0)
    np.testing.assert_array_equal(layer.weight.value, zero)
    layer.weight.value[0, 0] += 1.0  # trained
    layer.initialise(1)
    assert layer.weight.value[0, 0] == zero[0, 0] + 1.0
    layer.weight.assign(zero)  # set, though to what seed 0 gives
    layer.initialise(1)
    np.testing.assert_array_equal(layer.weight.value, zero)


def test_layers_of_one_model_start_differently() -> None:
    model = traced(nn.Sequential(nn.Linear(4), nn.Linear(4)), 4)
    assert not np.array_equal(model[0].weight.value, model[1].weight.value)


def test_state_dict_goes_out_and_in_without_a_copy() -> None:
    one, two = traced(Block(), 3), Block()
    two.load_state_dict(one.state_dict())  # two has never seen an input: shapes come from the values
    x = sample(2, 3)
    np.testing.assert_array_equal(run(one, x), run(two, x))
    assert one.state_dict()["first.weight"] is one.first.weight.value
    assert two.first.weight.value is not one.first.weight.value


def test_state_dict_that_does_not_fit_is_listed_and_changes_nothing() -> None:
    model = traced(nn.Sequential(nn.Linear(2), nn.BatchNorm1d()), 3)
    values = {name: v + 1 for name, v in model.state_dict().items()}
    bad = {**values, "extra": np.zeros(1), "0.weight": np.zeros((3, 2)), "1.bias": np.zeros(2, complex)}
    del bad["0.bias"]
    before = {name: v.copy() for name, v in model.state_dict().items()}
    with pytest.raises(ArgumentError) as caught:
        model.load_state_dict(bad)
    for line in ("missing: 0.bias", "unexpected: extra", "mis-shaped: 0.weight is (2, 3)", "of another kind: 1.bias"):
        assert line in str(caught.value)
    for name, v in model.state_dict().items():
        np.testing.assert_array_equal(v, before[name])
    model.load_state_dict({"0.bias": values["0.bias"], "extra": np.zeros(1)}, strict=False)
    np.testing.assert_array_equal(model[0].bias.value, values["0.bias"])
    model.load_state_dict({**values, "1.num_batches_tracked": np.int64(3)})  # torch's


# ---------------------------------------------------------------- layers


def test_linear_works_on_the_last_axis() -> None:
    layer, x = nn.Linear(5, 4), sample(2, 3, 5)
    layer.bias.assign(sample(4, seed=2))  # type: ignore[union-attr]
    close(run(layer, x), x @ layer.weight.value.T + layer.bias.value)  # type: ignore[union-attr]
    assert list(nn.Linear(5, 4, bias=False).state_dict()) == ["weight"]
    with pytest.raises(ShapeError, match=r"\(out\) or \(in, out\)"):
        nn.Linear(1, 2, 3)


def convolved(x: Array, w: Array, stride: int, padding: int, dilation: int, groups: int) -> Array:
    """The definition of a convolution, one output element at a time."""
    x = np.pad(x.astype("float64"), ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    out, per, kh, kw = w.shape
    height = (x.shape[2] - dilation * (kh - 1) - 1) // stride + 1
    width = (x.shape[3] - dilation * (kw - 1) - 1) // stride + 1
    y = np.zeros((len(x), out, height, width))
    for o in range(out):
        first = o // (out // groups) * per
        for i in range(height):
            for j in range(width):
                rows = slice(i * stride, i * stride + dilation * (kh - 1) + 1, dilation)
                columns = slice(j * stride, j * stride + dilation * (kw - 1) + 1, dilation)
                y[:, o, i, j] = (x[:, first : first + per, rows, columns] * w[o]).sum((1, 2, 3))
    return y


@pytest.mark.parametrize(("stride", "padding", "dilation", "groups"), [(1, 0, 1, 1), (2, 1, 1, 1), (1, 2, 2, 2)])
def test_conv2d_follows_the_definition(stride: int, padding: int, dilation: int, groups: int) -> None:
    layer = nn.Conv2d(None, 4, 3, stride=stride, padding=padding, dilation=dilation, groups=groups)
    x = sample(2, 6, 8, 7)
    y = run(layer, x)
    assert layer.weight.shape == (4, 6 // groups, 3, 3)
    close(y, convolved(x, layer.weight.value, stride, padding, dilation, groups))
    layer.bias.assign([1, 2, 3, 4])  # type: ignore[union-attr]
    close(run(layer, x), y + np.float32([1, 2, 3, 4]).reshape(1, 4, 1, 1))


def test_conv2d_same_and_valid_padding() -> None:
    assert nn.Conv2d(1, 2, (3, 4), padding="same")(dlc.input("x", ("N", 1, 9, 8))).shape[2:] == (9, 8)
    assert nn.Conv2d(1, 2, 3, padding="valid")(dlc.input("x", ("N", 1, 9, 8))).shape[2:] == (7, 6)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: nn.Conv2d(4, 6, 3, groups=4), "out_channels=6 is not a multiple of groups=4"),
        (lambda: nn.Conv2d(1, 1, 0), "kernel_size"),
        (lambda: nn.MaxPool2d((2, 2, 2)), "kernel_size"),
        (lambda: nn.Dropout(1.5), "probability"),
        (lambda: nn.LSTM(3, 0), "hidden_size"),
    ],
)
def test_settings_out_of_range_are_refused(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(AttributeValueError, match=words):
        make()


def test_conv2d_refuses_other_ranks_and_channels() -> None:
    with pytest.raises(ShapeError, match=r"\[N, channels, H, W\], not f32\[N,5\]"):
        nn.Conv2d(1, 1, 3)(dlc.input("x", ("N", 5)))
    with pytest.raises(ShapeError, match=r"(?s)f32\[N,2,8,8\].*\(1, 2, 3, 3\).*\(1, 1, 3, 3\)"):
        nn.Conv2d(1, 1, 3)(dlc.input("x", ("N", 2, 8, 8)))


def windows_of(x: Array, k: int, stride: int) -> Array:
    return np.lib.stride_tricks.sliding_window_view(x, (k, k), (2, 3))[:, :, ::stride, ::stride]


def test_pooling_follows_the_definition() -> None:
    x = sample(2, 3, 7, 8)
    close(run(nn.MaxPool2d(2), x), windows_of(x, 2, 2).max((-1, -2)))
    close(run(nn.AvgPool2d(3, stride=1), x), windows_of(x, 3, 1).mean((-1, -2)))
    close(run(nn.MaxPool2d(3, 2, padding=1), x), windows_of(np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-np.inf), 3, 2).max((-1, -2)))  # fmt: skip  # noqa: E501
    close(run(nn.AvgPool2d(2, padding=1), x), windows_of(np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1))), 2, 2).mean((-1, -2)))  # fmt: skip  # noqa: E501
    close(run(nn.GlobalAvgPool2d(), x), x.mean((2, 3)))


def test_flatten_keeps_the_named_dim() -> None:
    x = dlc.input("x", ("N", 2, 3, "W"))
    assert str(nn.Flatten()(x).shape) == "(N, 6*W)"
    assert nn.Flatten(1, 2)(x).shape[1] == 6
    with pytest.raises(ShapeError, match="cannot join axes 1 to -1"):
        nn.Flatten()(dlc.input("y", ("N",)))


def test_activations() -> None:
    x = sample(3, 5)
    phi = np.vectorize(lambda v: 0.5 * (1 + math.erf(v / math.sqrt(2))))
    e = np.exp(x - x.max(1, keepdims=True))
    for module, want in (
        (nn.ReLU(), np.maximum(x, 0)),
        (nn.LeakyReLU(0.1), np.where(x > 0, x, 0.1 * x)),
        (nn.Tanh(), np.tanh(x)),
        (nn.Sigmoid(), 1 / (1 + np.exp(-x))),
        (nn.SiLU(), x / (1 + np.exp(-x))),
        (nn.GELU(), x * phi(x)),
        (nn.Softmax(), e / e.sum(1, keepdims=True)),
        (nn.LogSoftmax(), np.log(e / e.sum(1, keepdims=True))),
    ):
        close(run(module, x), want)


def test_layer_norm_follows_its_formula() -> None:
    layer, x = nn.LayerNorm((3, 4)), sample(2, 3, 4) * 5
    layer.weight.assign(sample(3, 4, seed=1))  # type: ignore[union-attr]
    layer.bias.assign(sample(3, 4, seed=2))  # type: ignore[union-attr]
    mean, var = x.mean((1, 2), keepdims=True), x.var((1, 2), keepdims=True)
    want = (x - mean) / np.sqrt(var + 1e-5) * layer.weight.value + layer.bias.value  # type: ignore[union-attr]
    close(run(layer, x), want)
    with pytest.raises(ShapeError, match=r"\[3, 4\]"):
        layer(dlc.input("x", ("N", 4, 3)))


def test_a_module_is_called_with_other_values_than_its_own() -> None:
    model, x = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)), dlc.input("x", ("N", 3))
    values = {name: dlc.input(name, p.open_shape) for name, p in model.named_states() if name != "2.bias"}
    y = nn.functional_call(model, values, x)
    program = dlc.compile(dlc.graph([x, *values.values()], [y]), "reference")
    arrays = {name: sample(*t.shape, seed=i) ** 2 + 0.5 for i, (name, t) in enumerate(values.items())}
    data = sample(5, 3)
    (found,) = program(data, *arrays.values())
    model.load_state_dict({**arrays, "2.bias": model[2].bias.value})
    close(found, run(model, data))
    assert [n.leaf.name for n in program.graph.states] == ["2.bias"]  # type: ignore[union-attr]
    with pytest.raises(ArgumentError, match=r"unexpected: 3\.weight") as raised:
        nn.functional_call(model, {"3.weight": 0.0, "0.weight": x, "2.bias": dlc.zeros(2, "float64")}, x)
    assert "mis-shaped: 0.weight is (4, 3)" in str(raised.value) and "2.bias is float32" in str(raised.value)
    assert model[0].weight.as_tensor().node.op.name == "state"  # the values stand in the call alone


@pytest.mark.parametrize("norm", [nn.LayerNorm, nn.RMSNorm])
def test_norms_of_the_last_axis_learn_its_size_from_the_first_input(norm: Any) -> None:
    layer, x = norm(), dlc.input("x", ("N", 4, 3))
    assert layer(x).shape == x.shape and layer.weight.shape == (3,)
    with pytest.raises(ShapeError, match=r"needs the parameter 'weight' of shape \(5,\), but it has \(3,\)"):
        layer(dlc.input("x", ("N", 5)))
    assert norm(elementwise_affine=False)(dlc.input("x", (2, "D"))).ndim == 2
    with pytest.raises(ShapeError, match="named dim"):
        norm()(dlc.input("x", (2, "D")))
    with pytest.raises(AttributeValueError, match=r"normalized_shape is an int or a tuple of ints, not 2\.5"):
        norm(2.5)


@pytest.mark.parametrize(
    ("make", "shape"), [(nn.BatchNorm1d, (6, 3)), (nn.BatchNorm1d, (6, 3, 4)), (nn.BatchNorm2d, (5, 3, 4, 2))]
)
def test_batch_norm_uses_the_batch_in_training_and_running_statistics_after(make: Any, shape: tuple[int, ...]) -> None:
    norm, x = make(), sample(*shape) * 3 + 1
    axes = (0, *range(2, len(shape)))
    beside = (1, 3) + (1,) * (len(shape) - 2)
    mean, var = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    close(run(norm, x, training=True), (x - mean) / np.sqrt(var + 1e-5), 1e-4)
    close(run(norm, x), x / np.sqrt(1 + 1e-5))
    norm.load_state_dict(
        {"weight": [1, 2, 3], "bias": [4, 5, 6], "running_mean": [0.5, 1, 2], "running_var": [4, 9, 16]}
    )
    scale, shift = np.float32([1, 2, 3]).reshape(beside), np.float32([4, 5, 6]).reshape(beside)
    centre, spread = np.float32([0.5, 1, 2]).reshape(beside), np.float32([4, 9, 16]).reshape(beside)
    close(run(norm, x), (x - centre) / np.sqrt(spread + 1e-5) * scale + shift)


def test_batch_norm_called_twice_moves_its_statistics_twice() -> None:
    norm = nn.BatchNorm1d(2)
    a, b = dlc.input("a", ("N", 2)), dlc.input("b", ("N", 2))
    step = dlc.train_step(norm, [a, b], dlc.sum(norm(a)) + dlc.sum(norm(b)), optim.SGD(0.0), backend="reference")
    x, y = sample(4, 2), sample(4, 2, seed=1) + 3
    step(x, y)
    close(norm.running_mean.value, 0.9 * (0.1 * x.mean(0)) + 0.1 * y.mean(0))


def test_batch_norm_of_one_sample_keeps_its_statistics_finite() -> None:
    norm = nn.BatchNorm1d(2)
    x = dlc.input("x", ("N", 2))
    step = dlc.train_step(norm, [x], dlc.sum(norm(x)), optim.SGD(0.0), backend="reference")
    step(sample(1, 2))
    assert np.isfinite(norm.running_var.value).all()


def test_dropout_scales_and_differs_by_layer_and_step() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            self.drop = nn.Dropout(0.25)
            self.weight = nn.Parameter((1,), dlc.frontend.initialisers.ones)

        def forward(self, x: Any) -> Any:
            return self.drop(x), self.drop(x) * self.weight

    x = np.ones((8, 500), "float32")
    graph = dlc.trace(Two(), dlc.input("x", ("N", 500)))
    assert all((y == x).all() for y in dlc.compile(graph, "reference")(x))
    program = dlc.compile(graph, "reference", training=True, seed=3)
    first, second = program(x)
    assert set(np.unique(first)) == {0.0, np.float32(1 / 0.75)}
    assert abs((first == 0).mean() - 0.25) < 0.03
    assert not np.array_equal(first, second)
    assert not np.array_equal(program(x)[0], first)
    again = dlc.compile(dlc.trace(Two(), dlc.input("x", ("N", 500))), "reference", training=True, seed=3)
    np.testing.assert_array_equal(again(x)[0], first)


def test_embedding_looks_rows_up() -> None:
    layer, index = nn.Embedding(7, 3), np.array([[0, 6], [3, 3]], "int32")
    np.testing.assert_array_equal(run(layer, index), layer.weight.value[index])
    with pytest.raises(IndexOutOfRangeError):
        run(layer, np.array([7], "int32"))
    with pytest.raises(DTypeError, match="integer indices"):
        layer(dlc.input("x", ("N",)))


def lstm_oracle(x: Array, values: dict[str, Array], h: Array, c: Array) -> tuple[Array, Array, Array]:
    """torch's equations, step by step in float64; x [N, T, in]."""

    def s(v: Array) -> Array:
        return 1 / (1 + np.exp(-v))

    w = {name: v.astype("float64") for name, v in values.items()}
    outputs = []
    for t in range(x.shape[1]):
        gates = x[:, t] @ w["weight_ih_l0"].T + w["bias_ih_l0"] + h @ w["weight_hh_l0"].T + w["bias_hh_l0"]
        i, f, g, o = np.split(gates, 4, axis=1)
        c = s(f) * c + s(i) * np.tanh(g)
        h = s(o) * np.tanh(c)
        outputs.append(h)
    return np.stack(outputs, 1), h, c


@pytest.mark.parametrize("batch_first", [True, False])
def test_lstm_follows_torch(batch_first: bool) -> None:
    layer, x = nn.LSTM(None, 4, batch_first=batch_first), sample(3, 5, 2)
    axes = ("N", "T") if batch_first else ("T", "N")
    inputs = [dlc.input("x", (*axes, 2)), dlc.input("h", ("N", 4)), dlc.input("c", ("N", 4))]
    h, c = sample(3, 4, seed=1), sample(3, 4, seed=2)
    turned = x if batch_first else x.swapaxes(0, 1)
    y, (hn, cn) = layer(inputs[0], (inputs[1], inputs[2]))
    got = dlc.compile(dlc.graph(inputs, [y, hn, cn]), "reference")(turned, h, c)
    want = lstm_oracle(x, layer.state_dict(), h, c)
    close(got[0] if batch_first else got[0].swapaxes(0, 1), want[0])
    close(got[1], want[1])
    close(got[2], want[2])
    y, _ = layer(inputs[0])
    zeros = np.zeros((3, 4))
    (got,) = dlc.compile(dlc.graph(inputs[:1], [y]), "reference")(turned)
    close(got if batch_first else got.swapaxes(0, 1), lstm_oracle(x, layer.state_dict(), zeros, zeros)[0])


def test_lstm_projects_all_steps_at_once_and_scans() -> None:
    graph = dlc.trace(nn.LSTM(3, 4, batch_first=True), dlc.input("x", ("N", "T", 3)))
    names = [n.op.name for n in graph.nodes]
    assert names.count("scan") == 1
    assert names.count("matmul") == 1


def test_lstm_checks_its_state() -> None:
    layer, x = nn.LSTM(3, 4), dlc.input("x", ("T", "N", 3))
    with pytest.raises(ShapeError, match=r"the state c is f32\[N,5\], but the input needs \[N, 4\]"):
        layer(x, (dlc.input("h", ("N", 4)), dlc.input("c", ("N", 5))))
    with pytest.raises(ShapeError, match="a pair"):
        layer(x, 5)


def test_lstm_gradients_agree_with_finite_differences() -> None:
    layer, x = nn.LSTM(2, 3, dtype="float64"), dlc.input("x", ("T", "N", 2), "float64")
    y, (h, c) = layer(x)
    loss = (y * y).sum() + (h * c).sum()
    parameters = layer.parameters()
    program = dlc.compile(dlc.graph([x], [loss, *dlc.grad(loss, parameters)]), "reference")
    data = np.random.default_rng(0).standard_normal((4, 2, 2))
    for p, g in zip(parameters, program(data)[1:], strict=True):
        direction = np.random.default_rng(1).standard_normal(p.shape)
        start = p.value.copy()
        p.assign(start + 1e-6 * direction)
        up = program(data)[0]
        p.assign(start - 1e-6 * direction)
        down = program(data)[0]
        p.assign(start)
        np.testing.assert_allclose((up - down) / 2e-6, (g * direction).sum(), rtol=1e-6)


# ---------------------------------------------------------------- losses


def test_losses_follow_their_formulas() -> None:
    from dlc.frontend import losses

    x, t = sample(4, 3) * 2, sample(4, 3, seed=1)
    d = np.abs(x - t)
    p = 1 / (1 + np.exp(-x))
    hot = np.float32(t > 0)
    log = x - np.log(np.exp(x).sum(1, keepdims=True))
    labels = np.array([0, 2, 1, 1])
    cases = [
        (losses.mse, t, (d**2).mean()),
        (losses.l1, t, d.mean()),
        (losses.huber, t, np.where(d <= 1, d**2 / 2, d - 0.5).mean()),
        (losses.binary_cross_entropy_with_logits, hot, -(hot * np.log(p) + (1 - hot) * np.log(1 - p)).mean()),
        (losses.cross_entropy, labels, -log[np.arange(4), labels].mean()),
    ]
    for loss, target, want in cases:
        close(dlc.evaluate(loss(x, target)), want)


def test_binary_cross_entropy_has_its_gradient_at_zero_and_no_overflow() -> None:
    x, t = dlc.input("x", (3,)), dlc.input("t", (3,))
    loss = nn.functional.binary_cross_entropy_with_logits(x, t) * 3.0
    value, g = dlc.compile(dlc.graph([x, t], [loss, dlc.grad(loss, x)]), "reference")(
        [0.0, 200.0, -200.0], [1.0, 0.0, 1.0]
    )
    close(value, math.log(2) + 400)
    close(g, [-0.5, 1.0, -1.0])


def test_losses_refuse_shapes_that_would_broadcast() -> None:
    with pytest.raises(ShapeError, match=r"mse: the outputs are f32\[N,1\] and the targets f32\[N\]"):
        nn.functional.mse_loss(dlc.input("x", ("N", 1)), dlc.input("t", ("N",)))


def test_functional_linear_and_dropout_sites() -> None:
    x, w, b = sample(2, 3), sample(4, 3, seed=1), sample(4, seed=2)
    close(dlc.evaluate(nn.functional.linear(x, w, b)), x @ w.T + b)
    ones = dlc.constant(np.ones(200, "float32"))
    same = [nn.functional.dropout(ones, site=site) for site in ("a", "a", "b")]
    a, again, b = dlc.evaluate(*same, training=True)
    np.testing.assert_array_equal(a, again)
    assert not np.array_equal(a, b)


# ---------------------------------------------------------------- summary


def lenet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(120), nn.ReLU(), nn.Linear(84), nn.ReLU(), nn.Linear(10),
    )  # fmt: skip


def test_summary_counts_lenet() -> None:
    table = dlc.summary(dlc.trace(lenet(), dlc.input("image", ("N", 1, 28, 28))))
    rows = {row.layer: row for row in table.rows}
    assert [row.layer for row in table.rows] == [str(i) for i in range(12)]
    assert [rows[i].parameters for i in ("0", "3", "7", "9", "11")] == [156, 2416, 48120, 10164, 850]
    assert table.parameters == 61706
    n = dlc.input("x", ("N",)).shape[0]
    assert rows["0"].multiply_adds == n * (28 * 28 * 6 * 25)
    assert rows["3"].multiply_adds == n * (10 * 10 * 16 * 150)
    assert rows["7"].multiply_adds == n * (400 * 120)
    assert rows["2"].output == "[N, 6, 14, 14]"
    assert rows["6"].output == "[N, 400]"
    assert rows["0"].op == "conv2d"
    text = str(table)
    assert "61,706" in text and "N = 1" in text


def test_summary_of_alexnets_first_layer() -> None:
    table = dlc.summary(dlc.trace(nn.Conv2d(3, 96, 11, stride=4), dlc.input("x", ("N", 3, 227, 227))))
    assert table.parameters == 34944
    assert str(table.multiply_adds) == f"{96 * 55 * 55 * 363}*N"


def test_summary_counts_the_turns_of_a_scan() -> None:
    table = dlc.summary(dlc.trace(nn.LSTM(3, 4), dlc.input("x", ("T", "N", 3))))
    assert table.parameters == 4 * 4 * (3 + 4 + 2)
    assert str(table.multiply_adds) == f"{16 * 3 + 16 * 4}*N*T"


def test_nodes_know_the_classes_along_their_path() -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            self.parts = [nn.Linear(3, 3), nn.Sequential(nn.Tanh())]

        def forward(self, x: Any) -> Any:
            return self.parts[1](self.parts[0](x))

    graph = dlc.trace(nn.Sequential(Pair()), dlc.input("x", ("N", 3)))
    (tanh,) = [n for n in graph.nodes if n.op.name == "tanh"]
    (origin,) = graph.origins[tanh]
    assert (origin.module, origin.classes) == ("0.parts.1.0", "Pair..Sequential.Tanh")
    with dlc.provenance.module_scope("outer"):
        inside = dlc.trace(Pair(), dlc.input("x", ("N", 3)))
    (tanh,) = [n for n in inside.nodes if n.op.name == "tanh"]
    assert inside.origins[tanh][0][2:] == ("outer.parts.1.0", "forward", "..Sequential.Tanh")
