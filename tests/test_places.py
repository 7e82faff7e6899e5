"""Sorting, running totals, scattering and arranging: values against NumPy, gradients, and refusals."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from runnable import BACKENDS

import dlc
from dlc.errors import DlcError, IndexOutOfRangeError
from dlc.testing import check_grad

RNG = np.random.default_rng(0)
A = RNG.standard_normal((2, 3, 4)).astype("f")
M = RNG.standard_normal((3, 4)).astype("f")
AT = np.array([2, 0, 2])
FREE = np.array([[False], [True], [False]])  # where no index of these points
PLACES = RNG.integers(0, 3, (2, 5, 4))
V = RNG.standard_normal((2, 5, 4)).astype("f")


def added(x: Any, places: Any, values: Any) -> Any:
    y = x.astype("d")
    np.add.at(y, places, values)
    return y


def assigned(x: Any, places: Any, values: Any) -> Any:
    y = x.copy()
    for at in np.ndindex(*places[0].shape):
        y[tuple(p[at] for p in places)] = values[at]
    return y


def folded(function: Any, x: Any, values: Any) -> Any:
    """Slices of `values` taken together with those of `x` at the places `AT` of axis 1."""
    y = x.astype("d")
    for i, place in enumerate(AT):
        y[:, place] = function(y[:, place], values[:, i])
    return y


def along(axis: int, places: Any) -> Any:
    return tuple(places if a == axis else i for a, i in enumerate(np.indices(places.shape)))


CASES: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "roll": (lambda x: dlc.roll(x, (2, -1), (2, 1)), np.roll(A, (2, -1), (2, 1))),
    "roll_flat": (lambda x: dlc.roll(x, 5), np.roll(A, 5)),
    "tile": (lambda x: dlc.tile(x, (2, 1, 2, 1)), np.tile(A, (2, 1, 2, 1))),
    "repeat": (lambda x: dlc.repeat(x, 3, 1), np.repeat(A, 3, 1)),
    "tril": (lambda x: dlc.tril(x, -1), np.tril(A, -1)),
    "triu": (lambda x: dlc.triu(x, 1), np.triu(A, 1)),
    **{f"diagonal{k}": (lambda x, k=k: dlc.diagonal(x, k), np.diagonal(A, k, 1, 2)) for k in (-5, -2, 0, 1, 3, 9)},
    "matrix_trace": (lambda x: dlc.matrix_trace(x, 1), np.trace(A, 1, 1, 2)),
    "moveaxis": (lambda x: dlc.moveaxis(x, (0, 1), (-1, 0)), np.moveaxis(A, (0, 1), (-1, 0))),
    "unstack": (lambda x: dlc.unstack(x, 1)[2], A[:, 2]),
    "split": (lambda x: dlc.split(x, [1, 0, 3], -1)[2], A[:, :, 1:]),
    "chunk": (lambda x: dlc.chunk(x, 2, 1)[1], A[:, 2:]),
    "sort": (lambda x: dlc.sort(x, 1), np.sort(A, 1)),
    "sort_down": (lambda x: dlc.sort(x, descending=True), -np.sort(-A)),
    "topk": (lambda x: dlc.topk(x, 2)[0], -np.sort(-A)[..., :2]),
    "bottomk": (lambda x: dlc.topk(x, 2, 0, largest=False)[0], np.sort(A, 0)[:2]),
    "index_add": (lambda x: dlc.index_add(x, AT, A[0, 0], 1), added(A, (slice(None), AT), A[0, 0])),
    "index_put": (lambda x: dlc.index_put(x, AT, A[:, ::-1] + 1, 1), assigned(
        A, (np.arange(2)[:, None] + 0 * AT, AT + 0 * np.arange(2)[:, None]), A[:, ::-1] + 1)),
    "put_along": (lambda x: dlc.put_along_axis(x, PLACES, V, 1), assigned(A, along(1, PLACES), V)),
    "add_along": (lambda x: dlc.put_along_axis(x, PLACES, V, 1, "add"), added(A, along(1, PLACES), V)),
    "gather_nd": (lambda x: dlc.gather_nd(x, [[[0, 1]], [[1, 2]]]), A[[[0], [1]], [[1], [2]]]),
    "scatter_nd": (lambda x: dlc.scatter_nd(x, [[0, 1], [1, 2]], M[:2]),
                   np.stack([np.stack([A[0, 0], M[0], A[0, 2]]), np.stack([A[1, 0], A[1, 1], M[1]])])),
    "update_rows": (lambda x: dlc.index_update(x, (-1, [0, 2]), M[:2]),
                    np.stack([A[0], np.stack([M[0], A[1, 1], M[1]])])),
    "add_rows": (lambda x: dlc.index_update(x, [0, 0], M[:1], "add"), np.stack([A[0] + 2 * M[:1], A[1]])),
    "update_all": (lambda x: dlc.index_update(x, ..., M), np.stack([M, M])),
    "update_between": (lambda x: dlc.index_update(x, (slice(None), [2, 0]), M[:2]), np.stack(
        [np.stack([M[1], a[1], M[0]]) for a in A])),
    "index_max": (lambda x: dlc.index_reduce(x, AT, V[:, :3], "max", 1), folded(np.maximum, A, V[:, :3])),
    "index_min_of_others": (lambda x: dlc.index_reduce(x, AT, A[:, ::-1], "min", 1, include_self=False),
                            folded(np.minimum, np.where(FREE, A, np.inf), A[:, ::-1])),
    "index_mean": (lambda x: dlc.index_reduce(x, AT, x[:, ::-1] * 2, "mean", 1),
                   folded(np.add, A, A[:, ::-1] * 2) / np.array([2, 1, 3], "f")[:, None]),
    "index_mean_of_others": (lambda x: dlc.index_reduce(x, AT, A[:, ::-1], "mean", 1, include_self=False),
                             folded(np.add, np.where(FREE, A, 0), A[:, ::-1]) / np.array([1, 1, 2], "f")[:, None]),
    **{f"diagonal_scatter{k}": (lambda x, k=k: dlc.diagonal_scatter(x, dlc.diagonal(x, k) * 3 + 1, k),
                                np.where(np.eye(3, 4, k) == 1, A * 3 + 1, A)) for k in (-2, 1, 9)},
    "diagonal_scatter_of_one": (lambda x: dlc.diagonal_scatter(x, 7.0), np.where(np.eye(3, 4) == 1, 7, A)),
    "cumulative_max": (lambda x: dlc.cumulative_max(x, 1), np.maximum.accumulate(A, 1)),
    "cumulative_min": (lambda x: dlc.cumulative_min(x, 2, reverse=True),
                       np.minimum.accumulate(A[..., ::-1], 2)[..., ::-1]),
    "cumulative_sum": (lambda x: dlc.cumulative_sum(x, 1, exclusive=True), np.cumsum(A, 1) - A),
    "cumulative_prod": (lambda x: dlc.cumulative_prod(x, 2, reverse=True), np.cumprod(A[..., ::-1], 2)[..., ::-1]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_values_and_gradients(backend: str, name: str) -> None:
    function, want = CASES[name]
    x = dlc.input("x", A.shape)
    y = function(x)
    weights = np.cos(np.arange(want.size, dtype="f")).reshape(want.shape)
    graph = dlc.graph([x], [y, *dlc.grad((y * y * weights).sum(), [x])])
    if backend == "reference":
        check_grad(graph, [A])
    found, slope = dlc.compile(graph, backend)(A)
    np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(slope, dlc.compile(graph, "reference")(A)[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_long_sorts_are_stable(backend: str) -> None:
    data = RNG.integers(0, 50, (3, 1000, 2)).astype("f")
    data[:, ::97] = np.nan
    x = dlc.input("x", (3, "N", 2))
    up, down = dlc.compile(dlc.graph([x], [dlc.argsort(x, 1), dlc.argsort(x, 1, descending=True)]), backend)(data)
    np.testing.assert_array_equal(up, np.argsort(data, 1, kind="stable"))
    np.testing.assert_array_equal(down, np.argsort(np.where(np.isnan(data), -1000, -data), 1, kind="stable"))


@pytest.mark.parametrize("side", ["left", "right"])
def test_searchsorted(side: Any) -> None:
    vector, values = np.array([-np.inf, 1, 2, 2, 5, np.nan]), np.array([[0, 2, np.nan], [np.inf, -np.inf, 5]])
    found = dlc.evaluate(dlc.searchsorted(vector, values, side))
    np.testing.assert_array_equal(found, np.searchsorted(vector, values, side))


def test_the_product_of_zeros_has_its_derivative() -> None:
    x = dlc.input("x", (4,), "float64")
    check_grad(dlc.graph([x], [dlc.cumulative_prod(x)]), [np.array([2.0, 0.0, 3.0, 0.0])])


def test_where_running_extrema_stand() -> None:
    ties = RNG.integers(0, 3, (4, 9)).astype("f")
    x = dlc.input("x", ties.shape)
    outputs = [f(x, 1, r) for f in (dlc.cumulative_argmax, dlc.cumulative_argmin) for r in (False, True)]
    found = dlc.compile(dlc.graph([x], outputs), "reference")(ties)
    for places, best, reverse in zip(found, (np.argmax, np.argmax, np.argmin, np.argmin), (0, 1, 0, 1), strict=True):
        for i in range(9):
            walked = ties[:, i:][:, ::-1] if reverse else ties[:, : i + 1]
            first = best(walked, axis=1)
            np.testing.assert_array_equal(places[:, i], 8 - first if reverse else first)
    row = dlc.evaluate(dlc.cumulative_argmax([1.0, np.nan, 2.0, np.nan]))
    np.testing.assert_array_equal(row, [0, 1, 1, 1])


def test_slices_are_multiplied() -> None:
    x = dlc.input("x", A.shape)
    y = dlc.index_reduce(x, AT, V[:, :3], "mul", 1)
    graph = dlc.graph([x], [y, *dlc.grad((y * y).sum(), [x])])
    check_grad(graph, [A])
    np.testing.assert_allclose(dlc.compile(graph, "reference")(A)[0], folded(np.multiply, A, V[:, :3]), rtol=1e-5)


def test_a_mean_of_halves_whose_sum_is_larger_than_any_half() -> None:
    found = dlc.evaluate(dlc.index_reduce(np.zeros(2, "f2"), np.zeros(5000, "i8"), np.full(5000, 20, "f2"), "mean"))
    assert found.tolist() == [20.0, 0.0]


@pytest.mark.parametrize("dtype", ["int32", "uint8"])
def test_integers_are_taken_together(dtype: str) -> None:
    x, v = np.array([7, 9, 1], dtype), np.array([4, 4, 2], dtype)
    wanted = {"mean": [3, 9, 4], "max": [4, 9, 4], "min": [2, 9, 4], "mul": [8, 9, 4], "add": [6, 9, 4]}
    for reduction, want in wanted.items():
        found = dlc.evaluate(dlc.index_reduce(x, [0, 2, 0], v, reduction, include_self=False))
        np.testing.assert_array_equal(found, np.array(want, dtype), strict=True)
    mean = dlc.evaluate(dlc.index_reduce(x, [0, 2, 0], v, "mean"))
    np.testing.assert_array_equal(mean, np.array([13 // 3, 9, 5 // 2], dtype), strict=True)


def test_named_dims() -> None:
    x = dlc.input("x", ("N", "N"))
    program = dlc.compile(
        dlc.graph([x], [dlc.diagonal(x), dlc.roll(x, 2, 0), dlc.repeat(x, 2), dlc.tril(x),
                        dlc.linspace(0.0, 1.0, x.shape[0]), dlc.sort(x, 0), dlc.logspace(0.0, 1.0, x.shape[0]),
                        dlc.diagonal_scatter(x, 5.0)]), "reference")  # fmt: skip
    for n in (2, 5):
        v = RNG.standard_normal((n, n)).astype("f")
        want = [np.diagonal(v), np.roll(v, 2, 0), np.repeat(v, 2), np.tril(v), np.linspace(0, 1, n), np.sort(v, 0)]
        want += [np.logspace(0, 1, n), np.where(np.eye(n) == 1, 5, v)]
        for a, b in zip(program(v), want, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


def test_slopes_on_a_grid_are_those_of_numpy() -> None:
    x = dlc.input("x", A.shape, "float64")
    places = np.array([0.0, 0.5, 2.0])
    for order in (1, 2):
        found = [*dlc.gradient(x, (1.0, places, 0.5), edge_order=1), dlc.gradient(x, places, 1, order),
                 *dlc.gradient(x, 0.5, (-1, 1), order)]  # fmt: skip
        graph = dlc.graph([x], found)
        want = [*np.gradient(A, 1.0, places, 0.5), np.gradient(A, places, axis=1, edge_order=order),
                *np.gradient(A, 0.5, axis=(2, 1), edge_order=order)]  # fmt: skip
        for a, b in zip(dlc.compile(graph, "reference")(A.astype("d")), want, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
        check_grad(graph, [A.astype("d")])


def test_grids() -> None:
    for ours, theirs in zip(dlc.meshgrid([1.0, 2.0], [3.0, 4.0, 5.0]), np.meshgrid([1, 2], [3, 4, 5]), strict=True):
        np.testing.assert_array_equal(dlc.evaluate(ours), theirs)
    for k in (-1, 0, 2):
        np.testing.assert_array_equal(dlc.evaluate(dlc.eye(3, 4, k)), np.eye(3, 4, k))
    for n in (0, 1, 7):
        np.testing.assert_allclose(dlc.evaluate(dlc.linspace(-1.0, 2.0, n)), np.linspace(-1, 2, n), atol=1e-6)
        found = dlc.evaluate(dlc.logspace(-1.0, 2.0, n, base=3.0, dtype="float64", endpoint=False))
        np.testing.assert_allclose(found, np.logspace(-1, 2, n, endpoint=False, base=3.0), rtol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("wrong", [-1, 3])
def test_scatters_check_their_indices(backend: str, wrong: int) -> None:
    x, i = dlc.input("x", (3, 2)), dlc.input("i", (1, 2), "int64")
    ys = [dlc.put_along_axis(x, i, 1.0, 0), dlc.put_along_axis(x, i, 1.0, 0, "add"), dlc.gather_nd(x, i),
          dlc.scatter_nd(x, i, 1.0), dlc.index_put(x, i[0], 1.0), dlc.index_add(x, i[0], 1.0)]  # fmt: skip
    for y in ys:
        program = dlc.compile(dlc.graph([x, i], [y]), backend)
        program(np.zeros((3, 2), "f"), np.array([[1, 1]]))
        with pytest.raises(IndexOutOfRangeError):
            program(np.zeros((3, 2), "f"), np.array([[1, wrong]]))


@pytest.mark.parametrize("call", [
    lambda: dlc.roll(A, True, 0), lambda: dlc.roll(A, 1, 9), lambda: dlc.tile(A, -1), lambda: dlc.split(A, 2, 1),
    lambda: dlc.split(A, [1, 1], 1), lambda: dlc.diagonal(A[0, 0]), lambda: dlc.tril([1.0]), lambda: dlc.meshgrid(A),
    lambda: dlc.linspace(0.0, 1.0, 3, "int32"), lambda: dlc.linspace("a", 1.0, 3), lambda: dlc.moveaxis(A, (0, 1), 0),
    lambda: dlc.repeat(A, [1, 2, 3], 0), lambda: dlc.chunk(A, 0), lambda: dlc.unstack(3.0), lambda: dlc.eye(-1),
    lambda: dlc.cumulative_sum(3.0), lambda: dlc.argsort(3.0), lambda: dlc.topk(A, 5), lambda: dlc.topk(A, -1),
    lambda: dlc.argsort([True]), lambda: dlc.searchsorted(A, A), lambda: dlc.gather_nd(A, [[0.0]]),
    lambda: dlc.gather_nd(A, 0), lambda: dlc.gather_nd(A, [[0, 0, 0, 0]]), lambda: dlc.index_add(A, [[0]], A),
    lambda: dlc.index_put(A, [0], np.zeros((2, 2, 3, 4))), lambda: dlc.put_along_axis(A, [0], 1.0),
    lambda: dlc.put_along_axis(A, PLACES, V, 1, "most"), lambda: dlc.linear_recurrence(A, M), lambda: dlc.nonzero(A),
    lambda: dlc.linear_recurrence([1], [1]), lambda: dlc.index_reduce(A, AT, A, "most", 1),
    lambda: dlc.index_reduce(A, AT, A, "mean", 3), lambda: dlc.diagonal_scatter(A[0, 0], 1.0),
    lambda: dlc.diagonal_scatter(A, M), lambda: dlc.diagonal_scatter(A, M, 9), lambda: dlc.gradient(AT),
    lambda: dlc.gradient(A, edge_order=3), lambda: dlc.gradient(A, (1.0, 2.0)), lambda: dlc.gradient(A, M, 1),
    lambda: dlc.gradient(A[:1], axis=0), lambda: dlc.gradient(A[:, :2], edge_order=2),
    lambda: dlc.logspace(0.0, 1.0, 3, base="e"), lambda: dlc.cumulative_argmax(3.0),
])  # fmt: skip
def test_what_does_not_fit_is_refused_with_its_place(call: Callable[[], Any]) -> None:
    with pytest.raises(DlcError, match=r"test_places\.py:\d+"):
        call()


def test_the_padding_row_of_an_embedding_does_not_learn() -> None:
    w = dlc.input("w", (4, 3))
    y = dlc.nn.functional.embedding([[1, 2], [1, 0]], w, padding_idx=1)
    found, g = dlc.compile(dlc.graph([w], [y, *dlc.grad(y.sum(), [w])]), "reference")(A[0, :, :3].repeat(2, 0)[:4])
    np.testing.assert_array_equal(g, [[1] * 3, [0] * 3, [1] * 3, [0] * 3])
    np.testing.assert_array_equal(found[0, 0], A[0, 0, :3])
    for wrong in (-1, 4, True):
        with pytest.raises(DlcError, match="padding_idx"):
            dlc.nn.functional.embedding([0], w, padding_idx=wrong)


@pytest.mark.parametrize("backend", BACKENDS)
def test_products_of_integers_wrap(backend: str) -> None:
    x = dlc.input("x", ("N",), "int64")
    data = np.full(41, 3)
    for got in dlc.compile(dlc.graph([x], [dlc.prod(x), dlc.cumulative_prod(x)[40]]), backend)(data):
        np.testing.assert_array_equal(got, np.prod(data))
    zeros = dlc.input("zeros", (2, 3), "float64")
    check_grad(dlc.graph([zeros], [dlc.prod(zeros, 1)]), [np.array([[0.0, 2, 3], [0, 0, 5]])])


def test_rows_are_put_by_one_node_with_an_index_for_each_row() -> None:
    x, at = dlc.input("x", ("N", 6)), dlc.input("at", (4,), "int64")
    graph = dlc.graph([x, at], [dlc.index_update(x, at, 1.0), dlc.index_update(x, at, 1.0, "add")])
    indices = {n.op.name: n.inputs[1].shape for n in graph.nodes if n.op.name in ("put", "take_adjoint")}
    assert indices == {"put": (4,), "take_adjoint": (4,)}


def test_ties_of_running_extrema_give_their_cotangent_to_the_first() -> None:
    x = dlc.constant([2.0, 2.0, 1.0, 1.0, 3.0])
    weights = dlc.constant([1.0, 10.0, 100.0, 1000.0, 1e4])
    forward = dlc.grad((dlc.cumulative_max(x) * weights).sum(), x)
    backward = dlc.grad((dlc.cumulative_min(x, reverse=True) * weights).sum(), x)
    assert [t.tolist() for t in dlc.evaluate(forward, backward)] == [[1111.0, 0, 0, 0, 1e4], [0, 0, 0, 1111.0, 1e4]]


def test_tiles_are_as_many_as_a_named_dim() -> None:
    x = dlc.input("x", ("N", 2))
    tiles = dlc.tile(dlc.constant([[1.0, 2.0]]), (x.shape[0], 2))
    assert tiles.shape == (x.shape[0], 4)
    (found,) = dlc.compile(dlc.graph([x], [tiles]), "reference")(np.zeros((3, 2), np.float32))
    np.testing.assert_array_equal(found, np.tile([[1.0, 2.0]], (3, 2)))
