"""Bags of embeddings: against a loop in NumPy, gradients against finite differences, and refusals."""

from typing import Any

import numpy as np
import pytest
from runnable import BACKENDS

import dlc
from dlc import nn
from dlc.errors import AttributeValueError, DTypeError, IndexOutOfRangeError, ShapeError
from dlc.nn.functional import embedding_bag
from dlc.testing import check_grad

RNG = np.random.default_rng(0)
TABLE = RNG.standard_normal((6, 3))
ROWS = np.array([[1, 5, 1], [2, 2, 2], [0, 4, 2]])
FLAT, OFFSETS = np.array([3, 1, 2, 2, 5, 0, 2]), np.array([0, 2, 2, 6])
SCALE = RNG.standard_normal(7)


def looped(bags: list[Any], mode: str, padding: int | None = None, scale: list[Any] | None = None) -> Any:
    result = np.zeros((len(bags), 3))
    for i, bag in enumerate(bags):
        weights = np.ones(len(bag)) if scale is None else scale[i]
        rows = np.array([TABLE[j] * w for j, w in zip(bag, weights, strict=True) if j != padding])
        if len(rows):
            result[i] = getattr(rows, mode)(axis=0)
    return result


@pytest.mark.parametrize("backend", BACKENDS)
def test_bags_are_those_of_a_loop(backend: str) -> None:
    w, rows = dlc.input("w", TABLE.shape, "float64"), dlc.input("rows", ("B", 3), "int64")
    flat, offsets = dlc.input("flat", ("N",), "int64"), dlc.input("offsets", ("K",), "int64")
    s = dlc.input("s", ("N",), "float64")
    bags, some = np.split(FLAT, OFFSETS[1:]), np.split(FLAT, OFFSETS[1:])[:3]
    made, want = [], []
    for mode in ("sum", "mean", "max"):
        for padding in (None, 2) if backend == "reference" else (2,):
            how = {"mode": mode, "padding_idx": padding}
            made += [embedding_bag(rows, w, **how), embedding_bag(flat, w, offsets, **how)]
            made.append(embedding_bag(flat, w, offsets, include_last_offset=True, **how))
            want += [looped(b, mode, padding) for b in (list(ROWS), bags, some)]
    made.append(embedding_bag(flat, w, offsets, "sum", s, 2))
    want.append(looped(bags, "sum", 2, np.split(SCALE, OFFSETS[1:])))
    slopes = dlc.grad(sum((dlc.sum(dlc.cos(m)) for m in made[1:]), start=dlc.sum(made[0] * made[0])), [w, s])
    graph = dlc.graph([w, rows, flat, offsets, s], [*made, *slopes])
    found = dlc.compile(graph, backend)(TABLE, ROWS, FLAT, OFFSETS, SCALE)
    for a, b in zip(found, want, strict=False):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)
    oracle = dlc.compile(graph, "reference")(TABLE, ROWS, FLAT, OFFSETS, SCALE)
    for a, b in zip(found[-2:], oracle[-2:], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)
    if backend == "reference":
        check_grad(graph, [TABLE, ROWS, FLAT, OFFSETS, SCALE])


def test_the_layer_learns_rows_but_not_the_padding() -> None:
    model = nn.EmbeddingBag(6, 3, "sum", padding_idx=-4)
    x = dlc.input("x", ("N", 3), "int64")
    loss = dlc.sum(model(x) ** 2)
    dlc.train_step(model, [x], loss, dlc.optim.SGD(0.1), backend="reference")(ROWS)
    assert not np.asarray(model.weight.value)[2].any()
    assert np.asarray(model.weight.value)[[0, 1, 4, 5]].any(axis=1).all()
    assert "sum" in model.describe()


def test_half_precision_is_summed_in_float32() -> None:
    ones = np.ones((1, 4096), "int64")
    table = np.full((2, 1), 1.0 + 2**-10, "float16")
    assert dlc.evaluate(embedding_bag(ones, table, mode="mean")).item() == 1.0 + 2**-10


def test_the_largest_of_rows_of_infinities_is_one_and_not_nothing() -> None:
    table = np.array([[-np.inf, 1.0], [np.inf, -np.inf]])
    bags = np.array([0, 0, 1]), np.array([0, 0, 2])
    found = dlc.evaluate(
        embedding_bag(np.array([[0, 0], [0, 1]]), table, mode="max"),
        embedding_bag(*bags[:1], table, bags[1], "max"),
        embedding_bag(np.array([[0, 0], [1, 1]]), table, mode="max", padding_idx=1),
    )
    assert [a.tolist() for a in found] == [
        [[-np.inf, 1.0], [np.inf, 1.0]], [[0.0, 0.0], [-np.inf, 1.0], [np.inf, -np.inf]], [[-np.inf, 1.0], [0.0, 0.0]]
    ]  # fmt: skip


def test_what_does_not_fit_is_refused() -> None:
    w = dlc.input("w", (6, 3))
    with pytest.raises(AttributeValueError, match="mode='most'"):
        embedding_bag(ROWS, w, mode="most")
    with pytest.raises(ShapeError, match="offsets"):
        embedding_bag(FLAT, w)
    with pytest.raises(ShapeError, match="offsets"):
        embedding_bag(ROWS, w, OFFSETS)
    with pytest.raises(AttributeValueError, match="per_sample_weights"):
        embedding_bag(FLAT, w, OFFSETS, per_sample_weights=SCALE)
    with pytest.raises(DTypeError, match="scales floating-point weights"):
        embedding_bag(FLAT, np.ones((6, 3), "int64"), OFFSETS, "sum", per_sample_weights=SCALE)
    with pytest.raises(AttributeValueError, match="padding_idx 6"):
        embedding_bag(ROWS, w, padding_idx=6)
    with pytest.raises(AttributeValueError, match="include_last_offset"):
        embedding_bag(ROWS, w, include_last_offset=True)
    with pytest.raises(DTypeError, match="EmbeddingBag"):
        nn.EmbeddingBag(6, 3)(w)
    for flat, offsets in (([1, 6], [0]), ([1, 2], [1])):  # beyond the table; before the first bag
        with pytest.raises(IndexOutOfRangeError):
            dlc.evaluate(embedding_bag(np.array(flat), TABLE, np.array(offsets)))
