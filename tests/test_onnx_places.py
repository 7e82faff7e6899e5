"""Gathering and scattering of ONNX, against ONNX Runtime and onnx's own reference."""

from typing import Any

import numpy as np
import pytest
from onnx import helper
from onnx_nodes import by_reference, by_runtime, graph_of, model_of, one_node

from dlc.errors import FileFormatError, UnsupportedError
from dlc.ops.interpret import interpret

RNG = np.random.default_rng(0)
X = RNG.standard_normal((4, 5, 3)).astype("f")
REDUCTIONS = ["none", "add", "mul", "min", "max"]


def agree(model: Any, arrays: Any) -> None:
    found = interpret(graph_of(model), arrays)[0]
    for other in (by_runtime, by_reference):
        for a, b in zip(found, other(model, arrays), strict=True):
            assert (a.dtype, a.shape) == (b.dtype, b.shape)
            np.testing.assert_allclose(a, b, rtol=1e-6)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("dtype", ["float32", "int64"])
@pytest.mark.parametrize("inside", [False, True])
def test_elements_that_are_scattered(reduction: str, dtype: str, inside: bool) -> None:
    """With fewer indices than elements in the other axes too; equal places, but where the last one would win."""
    x = (X * 9).astype(dtype)
    shape = (3, 7, 2) if inside else (4, 7, 3)
    places = RNG.integers(-5, 5, shape) if reduction != "none" else np.argsort(RNG.random(shape), 1)[:, :5] - 5
    values = (RNG.standard_normal(places.shape) * 9).astype(dtype)
    arrays = [x, places, values]
    agree(one_node("ScatterElements", arrays, 18, [dtype], axis=1, reduction=reduction), arrays)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_slices_that_are_scattered(reduction: str, depth: int) -> None:
    places = RNG.integers(0, 3, (6, depth)) if reduction != "none" else np.array([[0, 1, 2], [3, 2, 0]])[:, :depth]
    arrays = [X, places, RNG.standard_normal((*places.shape[:-1], *X.shape[depth:])).astype("f")]
    agree(one_node("ScatterND", arrays, 18, reduction=reduction), arrays)


@pytest.mark.parametrize("batch", [0, 1, 2])
def test_places_in_each_sample_of_a_batch(batch: int) -> None:
    for depth in range(1, 4 - batch):
        low = [-d for d in X.shape[batch : batch + depth]]
        places = RNG.integers(low, [-v for v in low], (*X.shape[:batch], 2, depth))
        arrays = [X, places]
        agree(one_node("GatherND", arrays, 13, batch_dims=batch), arrays)


def test_what_makes_no_sense_is_refused() -> None:
    places = np.zeros((4, 1), np.int64)
    for batch in (-1, 2, 9):
        with pytest.raises(FileFormatError, match=r"differ in the first|do not fit"):
            graph_of(one_node("GatherND", [X, places], 13, batch_dims=batch))
    with pytest.raises(FileFormatError, match="there is no reduction 'mean'"):
        graph_of(one_node("ScatterND", [X, places, X], 18, reduction="mean"))
    node = helper.make_node("ScatterElements", ["x", "i", "v"], ["y"], reduction="mul")
    model = model_of([node], {"x": X[0, 0], "i": places[0], "v": X[0, 0, :1]}, {"y": "float32"}, 18)
    for value in model.graph.input[1:]:
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    with pytest.raises(UnsupportedError, match=r"reduction='mul' of .*, whose size is open"):
        graph_of(model)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"ngram_counts": [0, 2]}, "does not fit a pool of 3"),
        ({"ngram_counts": [1]}, "does not fit a pool of 3"),
        ({"ngram_counts": [0, 9]}, "does not fit a pool of 3"),
        ({"ngram_indexes": [0]}, "1 ngram_indexes for 2 n-grams"),
        ({"ngram_indexes": [0, 2**40]}, "ngram_indexes for 2 n-grams"),
        ({"mode": "X"}, "'X' of 1 to 2 elements"),
        ({"max_gram_length": 3}, "'TF' of 1 to 3 elements"),
        ({"max_skip_count": -1}, "of which -1 are left out"),
        ({"weights": [1.0]}, "1 weights for 2 n-grams"),
        ({"pool_strings": ["a"]}, "n-grams of strings"),
    ],
)
def test_counts_of_n_grams_that_make_no_sense_are_refused(changed: dict[str, Any], says: str) -> None:
    sound = {
        "ngram_counts": [0, 1], "pool_int64s": [1, 2, 3], "ngram_indexes": [0, 1], "mode": "TF", "max_skip_count": 0,
        "min_gram_length": 1, "max_gram_length": 2,
    }  # fmt: skip
    words = np.array([1, 2, 3])
    graph_of(one_node("TfIdfVectorizer", [words], 9, **sound))
    with pytest.raises((FileFormatError, UnsupportedError), match=says):
        graph_of(one_node("TfIdfVectorizer", [words], 9, **{**sound, **changed}))
