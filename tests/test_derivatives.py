"""Products with Jacobians, Jacobians and Hessians, against closed forms and finite differences in float64."""

from typing import Any

import numpy as np
import pytest
from runnable import BACKENDS

import dlc
from dlc.errors import GradientError, ShapeError

RNG = np.random.default_rng(3)


def run(outputs: Any, inputs: Any, *values: Any, backend: str = "reference") -> Any:
    return dlc.compile(dlc.graph(inputs, outputs), backend)(*values)


def network(steps: int = 4) -> Any:
    """A matrix product, a softmax and a loop: x [steps, 2, 3], w [3, 3] -> [2, 3]."""
    x, w = dlc.input("x", (steps, 2, 3), "float64"), dlc.input("w", (3, 3), "float64")

    def body(h: Any, row: Any) -> Any:
        h = dlc.tanh(h @ w + row)
        return h, ()

    last, _ = dlc.scan(body, x[0] * 0.1, x)
    return x, w, dlc.softmax(last @ w, axis=-1) * dlc.exp(last)


@pytest.mark.parametrize("backend", BACKENDS)
def test_jvp_is_the_derivative_along_the_tangents(backend: str) -> None:
    x, w, y = network()
    tx, tw = dlc.input("tx", x.shape, "float64"), dlc.input("tw", w.shape, "float64")
    values = [RNG.standard_normal(s) for s in (x.shape, w.shape)]
    along = [RNG.standard_normal(s) for s in (x.shape, w.shape)]
    (got,) = run([dlc.jvp(y, [x, w], [tx, tw])], [x, w, tx, tw], *values, *along, backend=backend)
    step = 1e-6
    up, down = (run([y], [x, w], *(v + s * t for v, t in zip(values, along, strict=True)))[0] for s in (step, -step))
    np.testing.assert_allclose(got, (up - down) / (2 * step), rtol=1e-7, atol=1e-8)


def test_jvp_and_vjp_are_adjoint() -> None:
    x, w, y = network()
    tw, g = RNG.standard_normal(w.shape), RNG.standard_normal(y.shape)
    values = [RNG.standard_normal(s) for s in (x.shape, w.shape)]
    pushed, pulled = run([dlc.jvp(y, w, tw), dlc.vjp(y, w, g)], [x, w], *values)
    np.testing.assert_allclose((pushed * g).sum(), (pulled * tw).sum(), rtol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_jacobian_of_a_linear_map_is_its_matrix(backend: str) -> None:
    x, a = dlc.input("x", (4,), "float64"), RNG.standard_normal((3, 4))
    (got,) = run([dlc.jacobian(dlc.constant(a) @ x, x)], [x], np.ones(4), backend=backend)
    np.testing.assert_allclose(got, a, rtol=1e-15)


def test_jacobian_rows_are_vjps_and_of_any_rank() -> None:
    x, w, y = network()
    values = [RNG.standard_normal(s) for s in (x.shape, w.shape)]
    jx, jw = run(dlc.jacobian(y, [x, w]), [x, w], *values)
    assert jx.shape == (*y.shape, *x.shape)
    for place in np.ndindex(*y.shape):
        unit = np.zeros(y.shape)
        unit[place] = 1
        gx, gw = run(dlc.vjp(y, [x, w], unit), [x, w], *values)
        np.testing.assert_allclose(jx[place], gx, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(jw[place], gw, rtol=1e-12, atol=1e-14)


def test_a_jacobian_is_of_one_size_whatever_the_function_gives() -> None:
    def nodes(size: int) -> int:
        x, w = dlc.input("x", (size,)), dlc.input("w", (size, size))
        return len(dlc.graph([x, w], [dlc.jacobian(dlc.tanh(w @ x), x), dlc.hessian(dlc.tanh(w @ x).sum(), x)]).nodes)

    assert nodes(3) == nodes(500)


def test_jacobians_and_hessians_of_several() -> None:
    x, y = dlc.constant([1.0, 2.0], "float64"), dlc.constant([3.0, 4.0, 5.0], "float64")
    product = x[:, None] * y
    (by_x, by_y), (total_by_x, total_by_y) = dlc.jacobian([product, (x * x).sum()], [x, y])
    found = dlc.evaluate(by_x, by_y, total_by_x, total_by_y)
    np.testing.assert_array_equal(found[0], np.einsum("ik,j->ijk", np.eye(2), [3.0, 4.0, 5.0]))
    np.testing.assert_array_equal(found[1], np.einsum("jk,i->ijk", np.eye(3), [1.0, 2.0]))
    np.testing.assert_array_equal(found[2], [2.0, 4.0])
    np.testing.assert_array_equal(found[3], [0.0, 0.0, 0.0])
    ((xx, xy), (yx, yy)) = dlc.hessian((product * x[:, None]).sum(), [x, y])
    found = dlc.evaluate(xx, xy, yx, yy)
    np.testing.assert_array_equal(found[0], 24.0 * np.eye(2))
    np.testing.assert_array_equal(found[1], [[2.0] * 3, [4.0] * 3])
    np.testing.assert_array_equal(found[2], found[1].T)
    np.testing.assert_array_equal(found[3], np.zeros((3, 3)))


def test_state_updates_of_the_forward_pass_ride_on_gradients() -> None:
    data = RNG.standard_normal((4, 3)).astype("f")
    x = dlc.input("x", (4, 3))
    for derivative in (
        lambda y: dlc.grad(y.sum(), x),
        lambda y: dlc.jvp(y, x, x),
        lambda y: dlc.hvp(y.sum(), x, x),
        lambda y: dlc.jacobian(y.sum(), x),
    ):
        layer = dlc.nn.BatchNorm1d(3)
        loss = (derivative(layer(x) ** 3) ** 2).mean()
        step = dlc.train_step(layer, inputs=[x], loss=loss, optimizer=dlc.optim.SGD(0.1), backend="reference")
        step(data)
        np.testing.assert_allclose(layer.state_dict()["running_mean"], 0.1 * data.mean(axis=0), rtol=1e-5)


def test_python_numbers_and_lists_are_cotangents_and_tangents_of_any_dtype() -> None:
    x = dlc.constant([1.0, 2.0], "float64")
    found = dlc.evaluate(
        dlc.vjp(x * x, x, [0.1, 0.2]), dlc.jvp(x * x, x, [0.1, 0.2]), dlc.hvp((x * x).sum(), x, [0.1, 0.2]),
        dlc.grad((x * x).sum(), x, np.float64(0.1)),
    )  # fmt: skip
    for got, want in zip(found, ([0.2, 0.8], [0.2, 0.8], [0.2, 0.4], [0.2, 0.4]), strict=True):
        assert got.dtype == np.float64
        np.testing.assert_allclose(got, want, rtol=1e-15)


def test_jacobian_with_a_named_dim() -> None:
    x = dlc.input("x", ("N",), "float64")
    (got,) = run([dlc.jacobian(x * x, x)], [x], [1.0, 2.0, 3.0])
    np.testing.assert_array_equal(got, np.diag([2.0, 4.0, 6.0]))


@pytest.mark.parametrize("backend", BACKENDS)
def test_hessian_and_its_products(backend: str) -> None:
    x, v = dlc.input("x", (3,), "float64"), dlc.input("v", (3,), "float64")
    a = RNG.standard_normal((3, 3))
    y = dlc.exp(x.sum()) + (x * (dlc.constant(a) @ x)).sum()
    at, along = RNG.standard_normal(3), RNG.standard_normal(3)
    full, times = run([dlc.hessian(y, x), dlc.hvp(y, x, v)], [x, v], at, along, backend=backend)
    want = np.exp(at.sum()) * np.ones((3, 3)) + a + a.T
    np.testing.assert_allclose(full, want, rtol=1e-12)
    np.testing.assert_allclose(times, want @ along, rtol=1e-12)


def test_value_and_grad() -> None:
    x = dlc.input("x")
    assert [float(v) for v in run(dlc.value_and_grad(x * x, x), [x], 3.0)] == [9.0, 6.0]


def test_what_is_refused() -> None:
    x = dlc.input("x", (3,))
    with pytest.raises(ShapeError, match="needs a tangent of its type"):
        dlc.jvp(x * x, x, dlc.input("t", (4,)))
    with pytest.raises(GradientError, match="1 tangents were given for 2"):
        dlc.jvp(x * x, [x, x], [x])
    with pytest.raises(GradientError, match="needs a scalar"):
        dlc.hessian(x * x, x)
    with pytest.raises(GradientError, match="not floating-point"):
        dlc.jacobian(x, dlc.input("i", (3,), "int64"))
