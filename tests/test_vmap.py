"""dlc.vmap: a function mapped over a batch is the stack of what it gives for each sample, for every op there is."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from test_catalogue import Case, flattened, named

import dlc
from dlc import nn
from dlc.errors import AttributeValueError, GraphError, IndexOutOfRangeError, ShapeError, UnsupportedError
from dlc.ir import Graph
from dlc.ops.definition import CATALOGUE, Kind, Op, Sample
from dlc.ops.interpret import interpret
from dlc.ops.tensor import Tensor
from dlc.passes.batching_rules import RULES, rule_of

Array = Any
B = 3
OPS = [op for op in CATALOGUE.values() if op.kind not in (Kind.LEAF, Kind.ITEM, Kind.FUSED)]


def run(inputs: Sequence[Tensor], outputs: Sequence[Tensor], *values: Array, backend: str = "reference") -> list[Array]:
    return list(dlc.compile(dlc.graph(list(inputs), list(outputs)), backend)(*values))


# ---------------------------------------------------------------- every op


def variants(array: Array) -> Array:
    """`B` arrays of the same elements in other orders, so that they stay within an op's domain."""
    flat = array.reshape(-1)
    return np.stack([np.roll(flat, i).reshape(array.shape) for i in range(B)])


def masks(count: int) -> Iterator[tuple[bool, ...]]:
    """Which operands are batched: all, each alone, all but one."""
    if count <= 3:
        yield from (m for m in itertools.product((True, False), repeat=count) if any(m))
        return
    for i in range(count):
        yield tuple(j == i for j in range(count))
    yield (True,) * count


class Mapped(Case):
    """A sample of an op as a function of arrays, some of which are mapped over."""

    def __init__(self, op: Op, sample: Sample, mask: tuple[bool, ...], size: Any) -> None:
        single = Case(op, sample, "float64")
        arrays = single.arrays
        self.stacks = [variants(a) if m else a for a, m in zip(arrays, mask, strict=True)]
        inputs = [
            dlc.input(f"x{i}", (size, *a.shape) if m else a.shape, a.dtype.name)
            for i, (a, m) in enumerate(zip(arrays, mask, strict=True))
        ]

        def function(*tensors: Tensor) -> Any:
            self.rest = iter(tensors)
            assert op.function is not None
            return tuple(flattened(op.function(*map(self._read, sample.args), **sample.kwargs)))

        found = dlc.vmap(function, in_axes=tuple(0 if m else None for m in mask))(*inputs)
        self.graph = Graph(tuple(t.node for t in inputs), tuple(t.node for t in found))
        self.single = Graph(tuple(t.node for t in single.inputs), tuple(t.node for t in single.outputs))
        self.mask = mask

    def _read(self, value: Any) -> Any:
        if isinstance(value, (list, tuple)) and any(isinstance(v, (np.ndarray, np.generic)) for v in value):
            return type(value)(map(self._read, value))
        return next(self.rest) if isinstance(value, (np.ndarray, np.generic)) else value

    def check(self, bindings: dict[str, int]) -> None:
        got = interpret(self.graph, self.stacks, bindings)[0]
        each = [
            interpret(self.single, [a[i] if m else a for a, m in zip(self.stacks, self.mask, strict=True)])[0]
            for i in range(B)
        ]
        for found, want in zip(got, map(np.stack, zip(*each, strict=True)), strict=True):
            assert found.dtype == want.dtype
            if want.dtype.kind == "f":
                np.testing.assert_allclose(found, want, rtol=1e-13, atol=1e-13)
            else:
                np.testing.assert_array_equal(found, want)


@pytest.mark.parametrize("op", **named(OPS))
def test_every_op_mapped_over_any_operands_is_the_stack_of_its_samples(op: Op) -> None:
    for sample in op.samples():
        count = len(Case(op, sample).arrays)
        for mask in masks(count):
            Mapped(op, sample, mask, B).check({})
            Mapped(op, sample, mask, "B").check({"B": B})


@pytest.mark.parametrize("op", **named([op for op in OPS if op.vjp is not None]))
def test_gradients_inside_of_two_batches_are_the_stack_of_those_of_each_sample(op: Op) -> None:
    for sample in op.samples():
        single = gradient(Case(op, sample, "float64"))
        if single is None:
            continue
        inputs = [dlc.input(f"x{i}", ("A", 2, *t.shape), t.dtype) for i, t in enumerate(single.inputs)]

        def function(*tensors: Tensor, sample: Sample = sample) -> Any:
            rest = iter(tensors)
            case = gradient(Case(op, Sample(replaced(sample.args, rest), sample.kwargs)), tensors)
            assert case is not None
            return tuple(case.outputs)

        outputs = dlc.vmap(dlc.vmap(function))(*inputs)
        graph = Graph(tuple(t.node for t in inputs), tuple(t.node for t in outputs))
        stacks = [np.stack([variants(a)[:2], variants(a)[1:]]) for a in single.arrays]
        got = interpret(graph, stacks, {"A": 2})[0]
        alone = Graph(tuple(t.node for t in single.inputs), tuple(t.node for t in single.outputs))
        for i, j in itertools.product(range(2), repeat=2):
            want = interpret(alone, [s[i, j] for s in stacks])[0]
            for found, one in zip(got, want, strict=True):
                np.testing.assert_allclose(found[i, j], one, rtol=1e-12, atol=1e-12)


def replaced(args: Any, tensors: Iterator[Tensor]) -> tuple[Any, ...]:
    """Arguments with tensors in place of arrays."""
    return tuple(
        type(a)(replaced(a, tensors))
        if isinstance(a, (list, tuple)) and any(isinstance(v, (np.ndarray, np.generic)) for v in a)
        else next(tensors)
        if isinstance(a, (np.ndarray, np.generic))
        else a
        for a in args
    )


def gradient(case: Case, inputs: Sequence[Tensor] | None = None) -> Case | None:
    """The case with gradients of its floating-point outputs by its floating-point inputs as its outputs."""
    wrt = [t for t in (case.inputs if inputs is None else inputs) if t.dtype.startswith("float")]
    losses = [(t * t * 0.5 + t).sum() for t in case.outputs if t.dtype.startswith("float")]
    if not wrt or not losses:
        return None
    case.outputs = dlc.grad(sum(losses[1:], start=losses[0]), wrt)
    return case


# ---------------------------------------------------------------- axes, and forms of arguments and results


def test_in_axes_and_out_axes_say_where_the_batch_is() -> None:
    x, y = np.arange(24.0).reshape(2, 3, 4), np.arange(3.0)
    got = dlc.evaluate(dlc.vmap(dlc.outer, in_axes=(-1, None), out_axes=1)(x[0], y))
    np.testing.assert_array_equal(got, np.stack([np.outer(x[0, :, i], y) for i in range(4)], axis=1))

    def function(pair: Any, options: Any) -> Any:
        return {"sum": pair[0] + pair[1]["b"], "same": options["k"] * dlc.constant(1.0, "float64")}

    found = dlc.vmap(function, in_axes=((0, {"b": 2}), None), out_axes={"sum": -1, "same": None})(
        (x[:, 0, 0], {"b": x[..., :2]}), {"k": 3}
    )
    np.testing.assert_array_equal(dlc.evaluate(found["sum"])[..., 1], x[1, 0, 0] + x[..., 1])
    assert found["same"].shape == ()
    assert dlc.evaluate(dlc.vmap(lambda v: dlc.constant([7.0]))(y)).tolist() == [[7.0]] * 3


def test_a_function_that_uses_the_sample_of_another() -> None:
    x, y = np.arange(3.0), np.arange(4.0) + 1
    got = dlc.evaluate(dlc.vmap(lambda a: dlc.vmap(lambda b: a / b)(y))(x))
    np.testing.assert_array_equal(got, x[:, None] / y)


@pytest.mark.parametrize(
    ("build", "error", "text"),
    [
        (lambda: dlc.vmap(dlc.sin, in_axes=None)([1.0]), AttributeValueError, "no argument has an axis of samples"),
        (lambda: dlc.vmap(dlc.add)(dlc.zeros(2), dlc.zeros(3)), ShapeError, "sizes 2 and 3"),
        (lambda: dlc.vmap(dlc.sin)(1.0), ShapeError, "no axis of samples"),
        (lambda: dlc.vmap(dlc.sin, in_axes=2)(dlc.zeros((2, 2))), AttributeValueError, "axis 2 does not exist"),
        (lambda: dlc.vmap(dlc.sin, in_axes=(0, 0))(dlc.zeros(2)), AttributeValueError, "2 axes for 1 arguments"),
        (lambda: dlc.vmap(dlc.sin, in_axes=((0,),))(dlc.zeros(2)), AttributeValueError, "does not have the form"),
        (lambda: dlc.vmap(dlc.sin, in_axes="0")(dlc.zeros(2)), AttributeValueError, "ints and None"),
        (lambda: dlc.vmap(dlc.sin, out_axes=None)(dlc.zeros(2)), GraphError, "differs by sample"),
        (lambda: dlc.vmap(dlc.sin, randomness="none")(dlc.zeros(2)), AttributeValueError, "'same' or 'different'"),
        (lambda: dlc.vmap(3), AttributeValueError, "takes a function"),
    ],
)
def test_what_does_not_fit_is_refused(build: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        build()


def test_an_op_without_a_rule_is_named_and_can_be_given_one() -> None:
    op = Op("unruled", Kind.OPAQUE, lambda x: x, reference=lambda x: np.sort(x))
    x = dlc.input("x", (2, 3))
    with pytest.raises(UnsupportedError, match=r"no rule for unruled.*batching_rule.*\n.*test_vmap\.py"):
        dlc.vmap(lambda row: op(row))(x)
    try:
        dlc.passes.batching_rule("unruled")(lambda batch, node, operands, batched: node.op(operands[0]))
        (got,) = run([x], [dlc.vmap(lambda row: op(row))(x)], np.array([[2, 1, 3], [6, 5, 4]], "f"))
        assert got.tolist() == [[1, 2, 3], [4, 5, 6]]
    finally:
        RULES.pop("unruled")


def test_every_op_of_the_catalogue_has_a_rule() -> None:
    assert [op.name for op in OPS if rule_of(op) is None and op.name not in ("iota", "size_of")] == []


def test_errors_name_the_line_of_the_function_that_is_mapped() -> None:
    x = dlc.input("x", (2,), "int32")
    y = dlc.vmap(lambda i: dlc.take([1.0, 2.0], i))(x)
    with pytest.raises(IndexOutOfRangeError, match=r"test_vmap\.py"):
        run([x], [y], np.array([0, 2], np.int32))


@pytest.mark.parametrize("index", [-1, 3])
def test_an_index_out_of_the_range_of_its_sample_never_reads_another(index: int) -> None:
    x, i = dlc.input("x", (2, 3)), dlc.input("i", (2,), "int64")
    picks = [
        lambda row, at: dlc.take(row, at),
        lambda row, at: dlc.ops.take_adjoint(row[:1], dlc.reshape(at, (1,)), 0, 3),
        lambda row, at: dlc.ops.put(dlc.reshape(row, (3, 1)), dlc.reshape(at, (1,)), [[5.0]]),
    ]
    for pick in picks:
        with pytest.raises(IndexOutOfRangeError):
            run([x, i], [dlc.vmap(pick)(x, i)], np.ones((2, 3), "f"), np.array([index, 0]))


# ---------------------------------------------------------------- loops, calls, draws, state


def test_a_loop_batches_only_the_carries_that_differ() -> None:
    x, start = np.arange(12.0).reshape(2, 3, 2), np.array([1.0, -1.0])

    def function(rows: Any, first: Any) -> Any:
        def body(carry: Any, row: Any) -> Any:
            count, total = carry
            return (count + 1.0, total * count + (row * first).sum()), (total, count)

        (count, last), (totals, counts) = dlc.scan(body, (dlc.constant(0.0, "float64"), first), rows)
        return count, last, totals, counts, dlc.grad(last, rows)

    mapped = dlc.vmap(function, out_axes=(None, 0, 0, None, 0))(x, start)
    assert mapped[0].shape == () and mapped[3].shape == (3,)
    for i in range(2):
        alone = function(dlc.constant(x[i]), dlc.constant(start[i : i + 1])[0])
        for got, want in zip(dlc.evaluate(*mapped), dlc.evaluate(*alone), strict=True):
            np.testing.assert_allclose(got if got.shape == want.shape else got[i], want, rtol=1e-14)


def test_what_is_the_same_for_all_may_hang_on_a_loop_beside_what_differs() -> None:
    x, rows = dlc.constant([1.0, 2.0], "float64"), np.arange(6.0).reshape(3, 2)

    def loop(s: Any) -> Any:
        (h, k), ys = dlc.scan(lambda c, z: ((c[0] * s + z, c[1] + z), c[1] * 2.0), (x, x), rows)
        return h + dlc.sin(k) + ys[1]

    def choice(s: Any) -> Any:
        a, b = dlc.cond(x[0] > 0, lambda t: (t * s, dlc.cos(x)), lambda t: (t, x), x)
        return a + dlc.exp(b)

    def recomputed(g: Any) -> Any:
        return dlc.vjp(dlc.checkpoint(lambda t: dlc.tanh(t * t), x), x, g)

    batch = np.array([[0.5, -1.0], [2.0, 3.0]])
    for function in (loop, choice, recomputed):
        found = dlc.evaluate(dlc.vmap(function)(batch))
        each = [dlc.evaluate(function(dlc.constant(row, "float64"))) for row in batch]
        np.testing.assert_allclose(found, each, rtol=1e-14)


def test_a_loop_around_a_mapped_function() -> None:
    x = np.arange(6.0).reshape(2, 3)
    last, _ = dlc.scan(lambda h, row: (dlc.vmap(lambda a, b: dlc.sin(a) + b)(h, row), ()), dlc.constant(x[0]), x)
    np.testing.assert_allclose(dlc.evaluate(last), np.sin(np.sin(x[0]) + x[0]) + x[1])


def test_backward_rules_of_the_user_hold_for_each_sample() -> None:
    @dlc.custom_vjp
    def scaled(x: Any, w: Any) -> Any:
        return x * w, dlc.round(x)

    @scaled.backward
    def rule(g: Any, y: Any, x: Any, w: Any) -> Any:
        return g[0] * 7.0 + g[1], (g[0] * x * y[0]).sum() * dlc.ones_like(w)

    x, w = np.linspace(-1, 2, 6).reshape(2, 3), np.array([1.0, 2.0, 3.0])

    def both(row: Any, weight: Any) -> Any:
        a, b = scaled(row, weight)
        return dlc.sum(a * a + b)

    def function(row: Any, weight: Any) -> Any:
        return dlc.grad(both(row, weight), [row, weight])

    want = [dlc.evaluate(*function(dlc.constant(row), dlc.constant(w))) for row in x]
    inside = dlc.evaluate(*dlc.vmap(function, in_axes=(0, None))(x, dlc.constant(w)))
    rows, weight = dlc.constant(x), dlc.constant(w)
    outside = dlc.evaluate(*dlc.grad(dlc.vmap(both, in_axes=(0, None))(rows, weight).sum(), [rows, weight]))
    for got, each in ((inside, lambda i, k: want[i][k]), (outside, lambda i, k: want[i][k])):
        np.testing.assert_allclose(got[0], [each(0, 0), each(1, 0)], rtol=1e-14)
    np.testing.assert_allclose(inside[1], [want[0][1], want[1][1]], rtol=1e-14)
    np.testing.assert_allclose(outside[1], want[0][1] + want[1][1], rtol=1e-14)


@pytest.mark.parametrize("wrapped", [lambda f: f, lambda f: lambda *a: dlc.checkpoint(f, *a)], ids=["plain", "call"])
def test_draws_are_the_same_for_each_sample_or_those_of_a_batch(wrapped: Any) -> None:
    x = dlc.constant(np.ones((4, 50)))

    def noisy(t: Any) -> Any:
        return t + dlc.normal((50,), dtype="float64", site="noise")

    outside = dlc.uniform((50,), dtype="float64", site="outside")
    alone = dlc.evaluate(noisy(x[0]) * outside)
    function = wrapped(lambda row: noisy(row) * outside)
    same = dlc.evaluate(dlc.vmap(function)(x))
    np.testing.assert_array_equal(same, np.stack([alone] * 4))
    different = dlc.evaluate(dlc.vmap(function, randomness="different")(x))
    batch = x + dlc.normal((4, 50), dtype="float64", site="noise")
    np.testing.assert_array_equal(different, dlc.evaluate(batch * outside))
    nested = dlc.evaluate(
        dlc.vmap(dlc.vmap(function, randomness="different"), randomness="different")(dlc.reshape(x, (2, 2, 50)))
    )
    np.testing.assert_array_equal(nested.reshape(4, 50), different)
    halves = dlc.evaluate(dlc.vmap(dlc.vmap(function, randomness="different"))(dlc.reshape(x, (2, 2, 50))))
    np.testing.assert_array_equal(halves[0], halves[1])


def test_state_that_would_differ_by_sample_is_refused() -> None:
    layer = nn.BatchNorm1d(3)
    x = dlc.input("x", (2, 4, 3))
    with pytest.raises(GraphError, match=r"running_.*cannot be updated.*return the value"):
        dlc.vmap(lambda t: layer(t))(x)


# ---------------------------------------------------------------- networks


class LeNet(nn.Module):
    def __init__(self) -> None:
        self.features = nn.Sequential(
            nn.Conv2d(1, 2, 3, padding=1), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(2, 3, 3), nn.Tanh(), nn.MaxPool2d(2)
        )
        self.head = nn.Sequential(nn.Linear(12, 5), nn.Tanh(), nn.Linear(5, 3))

    def forward(self, x: Any) -> Any:
        y = self.features(x)
        return self.head(dlc.reshape(y, (y.shape[0], 12)))


@pytest.mark.parametrize(
    ("backend", "size"),
    [("reference", 4), ("reference", "N"), ("cpu", "N"), pytest.param("cpu", 4, marks=pytest.mark.slow)],
)
def test_gradients_of_a_convolutional_network_for_each_sample(backend: str, size: Any) -> None:
    model = LeNet()
    x, y = dlc.input("x", (size, 1, 12, 12)), dlc.input("y", (size,), "int64")

    def loss(images: Any, labels: Any) -> Any:
        return nn.functional.cross_entropy(model(images), labels)

    loss(x, y)  # makes the parameters
    parameters = list(model.parameters())

    def gradients(image: Any, label: Any) -> Any:
        return dlc.grad(loss(image[None], label[None]), parameters)

    each = dlc.vmap(gradients)(x, y)
    assert [t.shape for t in each] == [(dlc.dims.dim(size), *p.shape) for p in parameters]
    rng = np.random.default_rng(0)
    images, labels = rng.standard_normal((4, 1, 12, 12)).astype("f"), np.array([0, 2, 1, 2])
    got = run([x, y], each, images, labels, backend=backend)
    mean = run([x, y], dlc.grad(loss(x, y), parameters), images, labels)
    one = dlc.input("image", (1, 12, 12)), dlc.input("label", (), "int64")
    alone = run(one, gradients(*one), images[3], labels[3])
    for found, all_, last in zip(got, mean, alone, strict=True):
        np.testing.assert_allclose(found.mean(axis=0), all_, rtol=2e-4, atol=2e-6)
        np.testing.assert_allclose(found[3], last, rtol=2e-4, atol=2e-6)


def test_derivatives_along_tangents_and_jacobians() -> None:
    rng = np.random.default_rng(1)
    x, v = rng.standard_normal((2, 3)), rng.standard_normal((2, 3))
    w = rng.standard_normal((3, 3))

    def f(t: Any) -> Any:
        return dlc.tanh(dlc.constant(w) @ t)

    pushed = dlc.evaluate(dlc.vmap(lambda t, u: dlc.jvp(f(t), t, u))(x, v))
    whole = dlc.evaluate(dlc.vmap(lambda t: dlc.jacobian(f(t), t))(x))
    second = dlc.evaluate(dlc.vmap(lambda t: dlc.hessian(f(t).sum(), t))(x))
    for i in range(2):
        slope = 1 - np.tanh(w @ x[i]) ** 2
        jacobian = slope[:, None] * w
        np.testing.assert_allclose(pushed[i], jacobian @ v[i], rtol=1e-12)
        np.testing.assert_allclose(whole[i], jacobian, rtol=1e-12)
        curvature = -2 * np.tanh(w @ x[i]) * slope
        np.testing.assert_allclose(second[i], w.T @ (curvature[:, None] * w), rtol=1e-12, atol=1e-14)
    rows = dlc.constant(x)
    outer = dlc.evaluate(dlc.grad(dlc.vmap(lambda t: f(t).sum())(rows).sum(), rows))
    np.testing.assert_allclose(outer, whole.sum(axis=1), rtol=1e-12)
