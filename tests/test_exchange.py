"""Data from and to other libraries: DLPack without a copy, NumPy arrays of any layout, weights written by PyTorch."""

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runnable import BACKENDS

import dlc
from dlc import nn
from dlc.arguments import read_argument
from dlc.dtypes import ALL, numpy_dtype
from dlc.errors import ArgumentError, DTypeError, FileFormatError
from dlc.frontend.checkpoint import read_arrays, write_arrays

FIXTURE = Path(__file__).parent / "fixtures" / "torch_weights.safetensors"


class Foreign:
    """An array of another library, as DLPack shows it."""

    def __init__(self, array: Any) -> None:
        self.array = array

    def __dlpack__(self, **kwargs: Any) -> Any:
        return self.array.__dlpack__(**kwargs)

    def __dlpack_device__(self) -> Any:
        return self.array.__dlpack_device__()


# ---------------------------------------------------------------- DLPack


def test_weights_and_results_go_out_without_a_copy() -> None:
    model = nn.Linear(4, 2)
    weight = model.state_dict()["weight"]
    seen = np.from_dlpack(weight)
    assert np.shares_memory(seen, weight)
    seen[0, 0] = 7.0
    x = dlc.input("x", ("N", 4))
    (y,) = dlc.compile(dlc.trace(model, x), "reference")(np.eye(4, dtype="f"))
    assert y[0, 0] == 7.0 + model.state_dict()["bias"][0]
    assert np.shares_memory(np.from_dlpack(y), y)


@pytest.mark.parametrize("layout", ["dense", "transposed", "strided", "read-only"])
def test_inputs_come_in_on_the_memory_they_have(layout: str) -> None:
    array = np.arange(24, dtype="f").reshape(4, 6)
    given = {"dense": array, "transposed": array.T, "strided": array[::2, ::3], "read-only": array}[layout]
    given.flags.writeable = layout != "read-only"
    node = dlc.input("x", given.shape).node
    assert np.shares_memory(read_argument(node, Foreign(given)), array)


def test_a_call_copies_no_dense_input() -> None:
    x = dlc.input("x", ("N", 1024))
    program = dlc.compile(dlc.graph([x], [dlc.max(x)]), "cpu")
    array = np.ones((4096, 1024), "f")
    frozen = array.copy()
    frozen.flags.writeable = False
    for value in (array, Foreign(array), array.reshape(-1)[:-1024].reshape(4095, 1024), frozen, frozen[1:]):
        program(value)
        tracemalloc.start()
        program(value)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < array.nbytes // 20


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (BufferError("Can't export tensors that require gradient, use tensor.detach()"), r"use tensor.detach\(\)"),
        (RuntimeError("Unsupported device in DLTensor."), "Unsupported device"),
    ],
)
def test_what_numpy_cannot_read_is_refused_by_name(error: Exception, says: str) -> None:
    class Refusing:
        def __dlpack__(self, **_: Any) -> Any:
            raise error

        def __dlpack_device__(self) -> Any:
            return (1, 0)

    x = dlc.input("image", ("N", 3))
    with pytest.raises(DTypeError, match=rf"input 'image' cannot be read from a .*Refusing: .*{says}"):
        dlc.compile(dlc.graph([x], [x * 2.0]), "reference")(Refusing())
    with pytest.raises(DTypeError, match=rf"'weight' cannot be read from a .*Refusing: .*{says}"):
        nn.Linear(2, 2).load_state_dict({"weight": Refusing(), "bias": np.zeros(2, "f")})


# ---------------------------------------------------------------- NumPy arrays of any layout


@st.composite
def layouts(draw: st.DrawFn) -> tuple[Any, Any]:
    """An array in some layout, and the same values densely."""
    dtype = numpy_dtype(draw(st.sampled_from(ALL)))
    shape = tuple(draw(st.lists(st.integers(0, 4), min_size=2, max_size=2)))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    steps = [draw(st.sampled_from([1, 2, 3, -1, -2])) for _ in shape]
    stored = rng.integers(0, 2 if dtype.kind == "b" else 100, [n * abs(s) for n, s in zip(shape, steps, strict=True)])
    order = dtype.newbyteorder(draw(st.sampled_from("<>")))
    if draw(st.booleans()):  # data at an odd address
        raw = np.zeros(stored.size * dtype.itemsize + 1, np.uint8)
        base = raw[1:].view(order).reshape(stored.shape)
        base[...] = stored
    else:
        base = stored.astype(order)
    array = base[tuple(slice(None, None, s) for s in steps)]
    if draw(st.booleans()):
        array = array.T
    if draw(st.booleans()):
        array = np.broadcast_to(array[:1], array.shape)
    array.flags.writeable = False
    return array, np.array(array, dtype, order="C")


@pytest.mark.parametrize("backend", BACKENDS)
def test_arrays_of_any_layout_are_read_for_what_they_hold(backend: str) -> None:
    inputs = {name: dlc.input("x", ("N", "M"), name) for name in ALL}
    programs = {
        name: dlc.compile(dlc.graph([x], [x, x.astype("float64")]), backend, check=False) for name, x in inputs.items()
    }

    @settings(max_examples=150, deadline=None, derandomize=True)
    @given(layouts())
    def check(pair: tuple[Any, Any]) -> None:
        array, dense = pair
        same, wide = programs[dense.dtype.name](array)
        np.testing.assert_array_equal(same, dense)
        assert same.dtype == dense.dtype
        np.testing.assert_array_equal(wide, dense.astype("float64"))

    check()


def test_arrays_of_any_layout_are_stored(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    dense = rng.standard_normal((4, 6)).astype("f")
    for array in (dense, dense.T, dense[::2, ::-1], dense.astype(">f4"), np.broadcast_to(dense[:1], (3, 6))):
        array.flags.writeable = False
        write_arrays(tmp_path / "w", {"x": array})
        found = read_arrays(tmp_path / "w")[0]["x"]
        np.testing.assert_array_equal(found, array)
        model = nn.Linear(array.shape[1], array.shape[0], bias=False)
        model.load_state_dict({"weight": array})
        np.testing.assert_array_equal(model.state_dict()["weight"], array)


# ---------------------------------------------------------------- weights written by PyTorch


class Words(nn.Module):
    def __init__(self) -> None:
        self.embedding = nn.Embedding(11, 5)
        self.lstm = nn.LSTM(5, 4, batch_first=True)
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Any) -> Any:
        hidden, _ = self.lstm(self.embedding(x))
        return self.head(self.norm(hidden))


MODELS = {
    "lenet": lambda: nn.Sequential(
        *(nn.Conv2d(1, 6, 5), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(6, 8, 3, padding=1, stride=2), nn.ReLU()),
        *(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12), nn.Sigmoid(), nn.Linear(10)),
    ),
    "mlp": lambda: nn.Sequential(
        *(nn.Linear(9), nn.BatchNorm1d(), nn.ReLU(), nn.Dropout(0.5), nn.Linear(2, bias=False))
    ),
    "words": Words,
}


@pytest.mark.parametrize("name", MODELS)
def test_a_file_that_torch_wrote_gives_the_same_model(name: str, tmp_path: Path) -> None:
    stored, _ = read_arrays(FIXTURE)
    prefix = f"{name}/weights/"
    weights = {k.removeprefix(prefix): v for k, v in stored.items() if k.startswith(prefix)}
    assert weights
    write_arrays(tmp_path / "w.safetensors", weights)
    model: Any = dlc.load(MODELS[name](), tmp_path / "w.safetensors")
    x = stored[f"{name}/x"]
    symbolic = dlc.input("x", ("N", *x.shape[1:]), x.dtype.name)
    (y,) = dlc.compile(dlc.trace(model, symbolic), "reference")(x)
    np.testing.assert_allclose(y, stored[f"{name}/y"], rtol=1e-5, atol=1e-6)

    dlc.save(model, tmp_path / "back.safetensors")  # and back: the same names, shapes and bits
    found, _ = read_arrays(tmp_path / "back.safetensors")
    assert set(found) == {k for k in weights if "num_batches_tracked" not in k}
    for k, v in found.items():
        assert v.tobytes() == weights[k].tobytes(), k


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    stored, _ = read_arrays(FIXTURE)
    prefix = "mlp/weights/"
    write_arrays(tmp_path / "w", {k.removeprefix(prefix): v for k, v in stored.items() if k.startswith(prefix)})
    other = nn.Sequential(*(nn.Linear(9), nn.BatchNorm1d(), nn.ReLU(), nn.Dropout(0.5), nn.Linear(2)))
    with pytest.raises(FileFormatError, match=r"(?s)does not fit the model Sequential.*missing: 4.bias"):
        dlc.load(other, tmp_path / "w")
    with pytest.raises(ArgumentError, match=r"mis-shaped: 0.weight is \(9, .*\) in the model, \(8, 6\) in the values"):
        MODELS["mlp"]().load_state_dict({"0.weight": np.zeros((8, 6), "f")}, strict=False)
