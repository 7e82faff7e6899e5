"""From tensors to graphs: `graph`, `grad`, `trace`, `parameter`."""

from typing import Any

import numpy as np
import pytest

import dlc
from dlc.errors import ArgumentError, DTypeError, GradientError, GraphError, ShapeError
from dlc.frontend import initialisers
from dlc.frontend.building import tensors_in


def values(graph: Any, *args: Any) -> list[Any]:
    return [v.tolist() for v in dlc.compile(graph, "reference")(*args)]


def test_graph_takes_one_tensor_or_a_list() -> None:
    x = dlc.input("x", (2,))
    assert dlc.graph(x, x * 2).same_structure(dlc.graph([x], [x * 2]))


def test_graph_keeps_the_place_of_every_handle_of_a_node() -> None:
    x = dlc.input("x")
    first = dlc.exp(x)
    second = dlc.exp(x)
    places = dlc.graph([x], [first + second]).origins[first.node]
    assert [p.file for p in places] == [__file__, __file__]
    assert places[1].line == places[0].line + 1


def test_graph_assigns_updates_simultaneously() -> None:
    a, b = dlc.parameter([1.0], "a"), dlc.parameter([2.0], "b")
    program = dlc.compile(dlc.graph([], [a + b], updates={a: b * 1.0, b: a * 1.0}), "reference")
    assert program()[0].tolist() == [3.0]
    assert (a.value.tolist(), b.value.tolist()) == ([2.0], [1.0])


def test_updates_that_ride_on_a_handle_are_not_taken_by_graph() -> None:
    x, s = dlc.input("x", (1,)), dlc.parameter([0.0], "s")
    assert dlc.graph([x], [x.with_updates((s.state, x)) * 2]).updates == ()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda x, y: dlc.graph([x], [x + y]), "depends on the input 'y'"),
        (lambda x, y: dlc.graph([x, x], [x]), "listed twice"),
        (lambda x, y: dlc.graph(["x"], [x]), "made by dlc.input, not str"),
        (lambda x, y: dlc.graph(5, [x]), "inputs= takes a list of tensors, not int"),
        (lambda x, y: dlc.graph([x], [x], updates=[(x, y)]), "updates= assigns to parameters"),
        (lambda x, y: dlc.trace(lambda a: None, x), "returned no tensor"),
        (lambda x, y: dlc.trace(lambda a: "text", x), "expected tensors .* got str"),
    ],
)
def test_mistakes_name_the_line_and_the_fix(make: Any, words: str) -> None:
    with pytest.raises(GraphError, match=words) as caught:
        make(dlc.input("x"), dlc.input("y"))
    if "listed twice" not in words:
        assert caught.value.where is not None and __file__ in caught.value.where


def test_grad_of_one_tensor_is_one_tensor_and_of_a_list_a_list() -> None:
    x, y = dlc.input("x"), dlc.input("y")
    one, several = dlc.grad(x * y, x), dlc.grad(x * y, [x, y])
    assert values(dlc.graph([x, y], [one, *several]), 2.0, 3.0) == [3.0, 3.0, 2.0]


def test_grad_takes_cotangents_and_gives_zeros_to_the_unconnected() -> None:
    x, y = dlc.input("x", (2,)), dlc.input("y", (3,))
    dx, dy = dlc.grad(x * x, [x, y], dlc.constant([1.0, 10.0]))
    both = dlc.grad([x * 2, x * 3], x, [dlc.constant([1.0, 0.0]), dlc.constant([0.0, 1.0])])
    found = values(dlc.graph([x, y], [dx, dy, both]), [1.0, 2.0], [0.0] * 3)
    assert found == [[2.0, 40.0], [0.0, 0.0, 0.0], [2.0, 3.0]]


def test_grad_with_respect_to_a_parameter() -> None:
    w, x = dlc.parameter([3.0], "w"), dlc.input("x", (1,))
    assert values(dlc.graph([x], dlc.grad((w * x * x).sum(), [w])), [4.0]) == [[16.0]]


def test_grad_of_a_non_scalar_says_what_to_do() -> None:
    x = dlc.input("x", (2,))
    with pytest.raises(GradientError, match="cotangent"):
        dlc.grad(x * 2, x)


def test_gradients_are_marked_as_backward() -> None:
    x = dlc.input("x")
    graph = dlc.graph([x], dlc.grad(dlc.exp(x) * x, [x]))
    phases = {origin.phase for places in graph.origins.values() for origin in places}
    assert phases == {"forward", "backward"}


def test_trace_flattens_what_a_model_takes_and_returns() -> None:
    x, y = dlc.input("x"), dlc.input("y")
    graph = dlc.trace(lambda pair, flag=None: {"sum": pair[0] + pair[1], "parts": [pair[0], None]}, (x, y), flag=None)
    assert [n.leaf.name for n in graph.inputs] == ["x", "y"]
    assert values(graph, 1.0, 2.0) == [3.0, 1.0]
    assert [id(t) for t in tensors_in([x, (None, {"a": y})])] == [id(x), id(y)]


# ---------------------------------------------------------------- parameters


def test_parameter_from_a_value_or_a_shape() -> None:
    assert dlc.parameter(2.5, "a").value.item() == 2.5
    assert dlc.parameter(np.float64([1, 2]), "b").value.dtype == np.float64
    assert dlc.parameter([1, 2], "c").value.dtype == np.float32
    drawn = dlc.parameter((4, 5), "d", initialiser=initialisers.ones)
    assert drawn.value.tolist() == [[1.0] * 5] * 4


def test_parameter_works_wherever_a_tensor_does() -> None:
    p, x = dlc.parameter([[1.0, 2.0]], "p"), dlc.input("x", (1, 2))
    results = [
        p + x,
        x - p,
        2 * p,
        -p,
        p / x,
        p**2.0,
        abs(p),
        p[0, 1],
        p.T,
        p.sum(axis=1),
        dlc.exp(p),
        p > 1.5,
        np.float32(2) * p,
    ]
    program = dlc.compile(dlc.graph([x], results), "reference")
    got, v, w = program([[4.0, 8.0]]), np.float32([[1, 2]]), np.float32([[4, 8]])
    expected = [v + w, w - v, 2 * v, -v, v / w, v**2, v, v[0, 1], v.T, v.sum(1), np.exp(v), v > 1.5, 2 * v]
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_parameter_owns_its_storage() -> None:
    p = dlc.parameter([1.0], "p")
    program = dlc.compile(dlc.graph([], [p * 2]), "reference")
    storage = p.value
    p.value[0] = 4.0
    assert program()[0].item() == 8.0
    p.value = [5.0]
    assert storage.item() == 5.0


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: dlc.parameter("text", "p"), ArgumentError, "not a number"),
        (lambda: dlc.parameter((-1,), "p"), ShapeError, "ints >= 0"),
        (lambda: dlc.parameter([1.0], "p", initialiser=initialisers.ones), ArgumentError, "pass a shape"),
        (lambda: dlc.parameter((2,), "p").assign(np.ones(3, "f")), ArgumentError, r"\(2,\)"),
        (lambda: dlc.parameter((2,), "p", dtype="complex64"), DTypeError, "complex64"),
    ],
)
def test_bad_parameters_are_refused(make: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        make()


# ---------------------------------------------------------------- initial values


def test_initial_values_depend_on_seed_and_path_alone() -> None:
    words = initialisers.words_for(0, "0.weight")(2)
    assert words.tolist() == initialisers.words_for(0, "0.weight")(2).tolist()
    assert len({int(initialisers.words_for(s, p)(1)[0]) for s in (0, 1) for p in ("a", "b", "a.b")}) == 6


def test_stream_of_words_is_philox_keyed_by_sha_256() -> None:
    import hashlib

    key = np.frombuffer(hashlib.sha256(b"7:x").digest()[:16], "<u8")
    assert initialisers.words_for(7, "x")(3).tolist() == np.random.Philox(key=key).random_raw(3).tolist()


@pytest.mark.parametrize(
    ("make", "variance"),
    [
        (initialisers.he_normal, 2 / 300),
        (initialisers.he_uniform, 2 / 300),
        (initialisers.glorot_normal, 2 / 500),
        (initialisers.glorot_uniform, 2 / 500),
        (initialisers.fan_in_uniform(), 1 / (3 * 300)),
        (initialisers.normal(0.5), 0.25),
        (initialisers.uniform(-1, 1), 1 / 3),
    ],
)
def test_initialisers_have_their_variance(make: Any, variance: float) -> None:
    drawn = make((200, 300), initialisers.words_for(0, "w"))
    assert drawn.shape == (200, 300)
    assert abs(drawn.mean()) < 5 * np.sqrt(variance / drawn.size)
    assert drawn.var() == pytest.approx(variance, rel=0.03)


def test_fans_of_convolutions_count_the_window() -> None:
    assert initialisers.fans((16, 6, 5, 5)) == (150, 400)
    assert initialisers.fans(()) == (1, 1)


def test_odd_counts_of_normal_values() -> None:
    assert np.isfinite(initialisers.normal()((7,), initialisers.words_for(0, "w"))).all()


@pytest.mark.parametrize(
    "dtype, value, what",
    [
        ("float32", np.ma.masked_array([1.0, 2.0], [True, False], dtype=np.float32), "masked"),
        ("float32", np.zeros(2, [("a", "f4")]), "cannot take"),
        ("float32", np.zeros(2, complex), "cannot take"),
        ("float32", [1e300, 0.0], "cannot hold"),
        ("float64", np.array([2**53 + 1, 0]), "would lose values"),
    ],
)
def test_arguments_that_would_lose_something_are_refused(dtype: str, value: object, what: str) -> None:
    x = dlc.input("x", (2,), dtype)
    with pytest.raises(DTypeError, match=what):
        dlc.compile(dlc.graph([x], [x]), "reference")(value)


def test_a_conversion_that_loses_integers_is_kept() -> None:
    x = dlc.input("x", (1,), "int64")
    (y,) = dlc.compile(dlc.graph([x], [x.astype("float64").astype("int64")]))([2**53 + 1])
    assert y.tolist() == [2**53]


@pytest.mark.parametrize(
    "read, fits",
    [
        (lambda x: x[5], 6),
        (lambda x: x[-4], 4),
        (lambda x: x[2:7], 7),
        (lambda x: x[-5:-2], 5),
        (lambda x: x[5::-1], 6),
        (lambda x: dlc.scan(lambda c, _: (c + x[3], c), dlc.zeros((3,)), (), length=2)[0], 4),
        (lambda x: dlc.scan(lambda c, v: (dlc.sum(x * c)[None][-1] + v[0] + (x * c)[3, 0], c), 0.0, x)[0], 4),
    ],
)
@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_a_bound_beyond_a_named_dim_is_an_error_of_the_call(read: Any, fits: int, backend: str) -> None:
    x = dlc.input("x", ("N", 3))
    program = dlc.compile(dlc.graph([x], [read(x)]), backend)
    program(np.ones((fits, 3), np.float32))
    for n in {0, 1, fits - 1}:
        with pytest.raises(ShapeError, match=r"do not lie within axis 0 of .* elements with N = "):
            program(np.ones((n, 3), np.float32))
