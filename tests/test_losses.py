"""Losses and activations: values against NumPy, gradients against finite differences, extremes and refusals."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from runnable import BACKENDS

import dlc
from dlc.errors import AttributeValueError, DTypeError, IndexOutOfRangeError, ShapeError
from dlc.frontend import losses, margin_losses, metric_losses
from dlc.nn import functional as F
from dlc.testing import check_grad

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((2, 4, 5)) * 2
SIGNS = np.where(Y > 0, 1.0, -1.0)
P, T = RNG.uniform(0.1, 0.9, (2, 4, 5))
LABELS = np.array([0, 4, 2, 2])
WEIGHT = np.array([0.5, 1.0, 2.0, 1.0, 3.0])
LOG_P = X - np.log(np.exp(X).sum(1, keepdims=True))


def gelu(x: Any) -> Any:
    from math import erf

    return x * 0.5 * (1 + np.vectorize(erf)(x / np.sqrt(2)))


ACTIVATIONS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "elu": (lambda x: dlc.elu(x, 0.7), lambda x: np.where(x > 0, x, 0.7 * np.expm1(x))),
    "celu": (lambda x: dlc.celu(x, 0.7), lambda x: np.where(x > 0, x, 0.7 * np.expm1(x / 0.7))),
    "selu": (dlc.selu, lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x))),
    "leaky_relu": (lambda x: dlc.leaky_relu(x, 0.1), lambda x: np.where(x > 0, x, 0.1 * x)),
    "prelu": (lambda x: dlc.prelu(x, WEIGHT), lambda x: np.where(x > 0, x, WEIGHT * x)),
    "relu6": (dlc.relu6, lambda x: np.clip(x, 0, 6)),
    "hardtanh": (dlc.hardtanh, lambda x: np.clip(x, -1, 1)),
    "hardsigmoid": (dlc.hardsigmoid, lambda x: np.clip(x + 3, 0, 6) / 6),
    "hardswish": (dlc.hardswish, lambda x: x * np.clip(x + 3, 0, 6) / 6),
    "softsign": (dlc.softsign, lambda x: x / (1 + np.abs(x))),
    "mish": (dlc.mish, lambda x: x * np.tanh(np.log1p(np.exp(x)))),
    "tanhshrink": (dlc.tanhshrink, lambda x: x - np.tanh(x)),
    "softshrink": (dlc.softshrink, lambda x: np.sign(x) * np.maximum(np.abs(x) - 0.5, 0)),
    "hardshrink": (dlc.hardshrink, lambda x: np.where(np.abs(x) > 0.5, x, 0)),
    "threshold": (lambda x: dlc.threshold(x, 0.5, -7.0), lambda x: np.where(x > 0.5, x, -7)),
    "glu": (lambda x: dlc.glu(x, 0), lambda x: x[:2] / (1 + np.exp(-x[2:]))),
    "log_sigmoid": (dlc.log_sigmoid, lambda x: -np.log1p(np.exp(-x))),
    "binary_step": (dlc.binary_step, lambda x: np.where(x >= 0, 1.0, 0.0)),
    "gelu": (dlc.gelu, gelu),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_activations(backend: str, name: str) -> None:
    ours, numpys = ACTIVATIONS[name]
    x = dlc.input("x", X.shape, "float64")
    graph = dlc.graph([x], [ours(x)])
    np.testing.assert_allclose(dlc.compile(graph, backend)(X)[0], numpys(X), rtol=1e-12, atol=1e-14)
    if backend == "reference":
        check_grad(graph, [X])
        check_grad(dlc.graph([x], [dlc.grad((ours(x) * X[: ours(x).shape[0]]).sum(), [x])[0]]), [X])


@pytest.mark.parametrize("name", ["elu", "celu", "selu", "mish", "hardswish", "log_sigmoid"])
def test_gradients_of_activations_do_not_overflow(name: str) -> None:
    x = dlc.input("x", (4,))
    g = dlc.grad(ACTIVATIONS[name][0](x).sum(), [x])
    (found,) = dlc.compile(dlc.graph([x], g), "reference")(np.array([-1e30, -1e3, 1e3, 1e30], "f"))
    assert np.isfinite(found).all()


def test_the_binary_step_has_gradient_zero() -> None:
    x = dlc.input("x", (3,))
    y = dlc.binary_step(x)
    (g,) = dlc.compile(dlc.graph([x], dlc.grad(y.sum(), [x])), "reference")(np.array([-1, 0, 1], "f"))
    np.testing.assert_array_equal(g, 0)


def smoothed(e: float, others: bool) -> Any:
    hot = np.eye(5)[LABELS]
    return hot * (1 - e) + (1 - hot) * e / 4 if others else hot * (1 - e) + e / 5


SETS = np.array([[3, 0, -1, 2], [-1, 1, 1, 1], [4, 3, 2, 1], [2, 2, -1, -1]])  # class numbers up to the first -1


def margins(p: int, margin: float) -> Any:
    slack = np.maximum(0, margin - X[range(4), LABELS][:, None] + X) ** p
    return np.where(np.arange(5) == LABELS[:, None], 0, slack).sum(1) / 5


def margins_of_sets() -> Any:
    found = np.zeros(4)
    for i, row in enumerate(SETS.tolist()):
        own = row[: row.index(-1)] if -1 in row else row
        found[i] = sum(max(0, 1 - (X[i, j] - X[i, k])) for j in own for k in range(5) if k not in own) / 5
    return found


def norm(x: Any) -> Any:
    return np.sqrt((x * x).sum(1))


LOSSES: dict[str, tuple[Callable[..., Any], list[Any], Any]] = {
    "mse": (losses.mse, [X, Y], (X - Y) ** 2),
    "half_mse": (losses.half_mse, [X, Y], (X - Y) ** 2 / 2),
    "l1": (losses.l1, [X, Y], np.abs(X - Y)),
    "huber": (losses.huber, [X, Y], np.where(np.abs(X - Y) <= 1, (X - Y) ** 2 / 2, np.abs(X - Y) - 0.5)),
    "smooth_l1": (lambda a, b, **k: losses.smooth_l1(a, b, 2.0, **k), [X, Y],
                  np.where(np.abs(X - Y) < 2, (X - Y) ** 2 / 4, np.abs(X - Y) - 1)),
    "logistic": (losses.logistic, [X, SIGNS], np.log1p(np.exp(-SIGNS * X))),
    "hinge": (losses.hinge, [X, SIGNS], np.maximum(0, 1 - SIGNS * X)),
    "squared_hinge": (losses.squared_hinge, [X, SIGNS], np.maximum(0, 1 - SIGNS * X) ** 2),
    "perceptron": (losses.perceptron, [X, SIGNS], np.maximum(0, -SIGNS * X)),
    "binary_cross_entropy": (losses.binary_cross_entropy, [P, T], -T * np.log(P) - (1 - T) * np.log(1 - P)),
    "with_logits": (lambda a, b, **k: losses.binary_cross_entropy_with_logits(a, b, pos_weight=WEIGHT, **k), [X, T],
                    T * WEIGHT * np.log1p(np.exp(-X)) + (1 - T) * np.log1p(np.exp(X))),
    "kl_div": (losses.kl_div, [X, T], T * (np.log(T) - X)),
    "kl_div_of_logarithms": (lambda a, b, **k: losses.kl_div(a, b, log_target=True, **k), [X, Y], np.exp(Y) * (Y - X)),
    "cross_entropy": (lambda x, **k: dlc.cross_entropy(x, LABELS, **k), [X], -LOG_P[range(4), LABELS]),
    "cross_entropy_of_probabilities": (dlc.cross_entropy, [X, T], -(T * LOG_P).sum(1)),
    "smoothed": (lambda x, **k: dlc.cross_entropy(x, LABELS, label_smoothing=0.2, **k), [X],
                 -(smoothed(0.2, False) * LOG_P).sum(1)),
    "smoothed_over_others": (
        lambda x, **k: dlc.cross_entropy(x, LABELS, label_smoothing=0.2, smooth_over="others", **k), [X],
        -(smoothed(0.2, True) * LOG_P).sum(1)),
    "nll": (lambda x, **k: dlc.nll_loss(x, LABELS, **k), [X], -X[range(4), LABELS]),
    "cosine": (lambda a, b, **k: metric_losses.cosine_embedding(a, b, [1, -1, 1, -1], 0.1, **k), [X, Y],
               np.where([1, 0, 1, 0], 1 - (X * Y).sum(1) / norm(X) / norm(Y),
                        np.maximum(0, (X * Y).sum(1) / norm(X) / norm(Y) - 0.1))),
    "contrastive": (lambda a, b, **k: metric_losses.contrastive(a, b, [1, 0, 1, 0], 5.0, **k), [X, Y],
                    np.where([1, 0, 1, 0], norm(X - Y) ** 2, np.maximum(0, 5 - norm(X - Y)) ** 2) / 2),
    "triplet": (metric_losses.triplet_margin, [X, Y, P],
                np.maximum(0, norm(X - Y + 1e-6) - norm(X - P + 1e-6) + 1)),
    "hinge_embedding": (lambda x, **k: margin_losses.hinge_embedding(x, SIGNS, **k), [X],
                        np.where(SIGNS > 0, X, np.maximum(0, 1 - X))),
    "multi_margin": (lambda x, **k: margin_losses.multi_margin(x, LABELS, margin=0.7, **k), [X], margins(1, 0.7)),
    "squared_margins": (lambda x, **k: margin_losses.multi_margin(x, LABELS, 2, weight=WEIGHT, **k), [X],
                        margins(2, 1.0) * WEIGHT[LABELS]),
    "multilabel_margin": (lambda x, **k: margin_losses.multilabel_margin(x, SETS, **k), [X], margins_of_sets()),
    "multilabel_soft_margin": (lambda x, **k: margin_losses.multilabel_soft_margin(x, T, WEIGHT, **k), [X],
                               (WEIGHT * (np.log1p(np.exp(-X)) + (1 - T) * X)).mean(1)),
    "ranking": (lambda a, b, **k: metric_losses.margin_ranking(a, b, SIGNS, 0.3, **k), [X, Y],
                np.maximum(0, 0.3 - SIGNS * (X - Y))),
}  # fmt: skip


@pytest.mark.parametrize("name", LOSSES)
def test_losses_and_their_gradients(name: str) -> None:
    loss, arrays, want = LOSSES[name]
    inputs = [dlc.input(f"x{i}", a.shape, "float64") for i, a in enumerate(arrays)]
    graph = dlc.graph(inputs, [loss(*inputs), loss(*inputs, reduction="sum"), loss(*inputs, reduction="none")])
    mean, total, each = dlc.compile(graph, "reference")(*arrays)
    np.testing.assert_allclose(each, want, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose([mean, total], [want.mean(), want.sum()], rtol=1e-9)
    first = inputs[:1] if name in ("logistic", "hinge", "squared_hinge", "perceptron") else inputs
    check_grad(dlc.graph(inputs, [*dlc.grad(loss(*inputs), first), loss(*inputs)]), arrays)
    with pytest.raises(AttributeValueError, match="reduction 'most'"):
        loss(*inputs, reduction="most")


@pytest.mark.parametrize("backend", [b for b in BACKENDS if b != "reference"])
def test_backends_agree_on_losses(backend: str) -> None:
    def graph(dtype: str) -> Any:
        inputs = [dlc.input(f"x{i}", X.shape, dtype) for i in range(3)]
        found = [loss(*inputs[: len(arrays)]) for loss, arrays, _ in LOSSES.values() if arrays[0] is X]
        return dlc.graph(inputs, [*found, *dlc.grad(sum(found[1:], start=found[0]), inputs)])

    want = dlc.compile(graph("float64"), "reference")(X, T, P)
    got = dlc.compile(graph("float32"), backend)(*(a.astype("f") for a in (X, T, P)))
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)


def test_classes_are_weighted_and_ignored() -> None:
    x, t = dlc.input("x", ("N", 5), "float64"), dlc.input("t", ("N",), "int64")
    loss = dlc.cross_entropy(x, t, weight=WEIGHT, ignore_index=-100)
    program = dlc.compile(dlc.graph([x, t], [loss, *dlc.grad(loss, [x])]), "reference")
    labels = np.array([0, -100, 2, 2])
    kept = labels >= 0
    w = WEIGHT[labels[kept]]
    value, g = program(X, labels)
    np.testing.assert_allclose(value, -(w * LOG_P[kept, labels[kept]]).sum() / w.sum())
    np.testing.assert_array_equal(g[1], 0)
    assert np.isnan(program(X, np.full(4, -100))[0])  # nothing to take the mean of
    with pytest.raises(IndexOutOfRangeError, match="-1"):
        program(X, np.array([0, 1, 2, -1]))


def test_a_label_to_ignore_may_fit_no_other_use() -> None:
    x = dlc.input("x", (4, 5))
    with pytest.raises(DTypeError, match="-100"):
        dlc.cross_entropy(x, np.zeros(4, np.uint8), ignore_index=-100)


def test_losses_at_extremes() -> None:
    far = np.array([-1e30, 1e30], "f")
    x, t = dlc.input("x", (2,)), dlc.input("t", (2,))
    for loss in (losses.logistic, losses.binary_cross_entropy_with_logits, losses.huber):
        graph = dlc.graph([x, t], [loss(x, t), *dlc.grad(loss(x, t), [x])])
        value, g = dlc.compile(graph, "reference")(far, far * 0 + 1)
        assert np.isfinite(value) and np.isfinite(g).all()
    found = dlc.evaluate(losses.binary_cross_entropy([0.0, 1.0], [0.0, 1.0], reduction="none"))
    np.testing.assert_array_equal(found, 0)
    np.testing.assert_array_equal(dlc.evaluate(losses.binary_cross_entropy([0.0], [1.0])), 100)
    same = dlc.input("same", (2, 3))
    triplets = metric_losses.triplet_margin(same, same, same, eps=0.0)
    for pair in (metric_losses.contrastive(same, same, [0, 0]), triplets):
        (g,) = dlc.compile(dlc.graph([same], dlc.grad(pair, [same])), "reference")(np.ones((2, 3), "f"))
        assert np.isfinite(g).all()


def test_what_does_not_fit_is_refused() -> None:
    x, y = dlc.input("x", (4, 5)), dlc.input("y", (5, 4))
    for name, loss in losses.LOSSES.items():
        with pytest.raises(ShapeError):
            loss(x, y.astype("int64") if name in ("cross_entropy", "nll") else y)
        with pytest.raises(DTypeError):
            loss(x.astype("int32"), y)
    with pytest.raises(DTypeError, match="targets"):
        dlc.nll_loss(x, y)
    with pytest.raises(ShapeError, match="weight"):
        dlc.cross_entropy(x, LABELS, weight=[1.0, 2.0])
    for wrong in (-0.1, 1.5, float("nan"), True, "much"):
        with pytest.raises(AttributeValueError, match="label_smoothing"):
            dlc.cross_entropy(x, LABELS, label_smoothing=wrong)
    with pytest.raises(AttributeValueError, match="smooth_over"):
        dlc.cross_entropy(x, LABELS, smooth_over="some")
    with pytest.raises(ShapeError, match="class number for each row"):
        margin_losses.multi_margin(x, SETS)
    with pytest.raises(ShapeError, match="class numbers for each row"):
        margin_losses.multilabel_margin(x, LABELS)
    with pytest.raises(AttributeValueError, match="p is 1 or 2"):
        margin_losses.multi_margin(x, LABELS, 3)
    with pytest.raises(DTypeError, match="integer"):
        margin_losses.multi_margin(x, WEIGHT[:4])
    with pytest.raises(ShapeError, match="target for each pair"):
        metric_losses.contrastive(x, x, SIGNS)
    for wrong in ({"alpha": "big"}, {"alpha": True}):
        with pytest.raises(AttributeValueError, match="alpha"):
            dlc.elu(x, **wrong)
    with pytest.raises(AttributeValueError, match="alpha"):
        dlc.celu(x, 0.0)
    with pytest.raises(ShapeError, match="even"):
        dlc.glu(x)
    with pytest.raises(ShapeError, match="slopes"):
        dlc.prelu(x, WEIGHT[:3])
    with pytest.raises(DTypeError, match="mish"):
        dlc.mish(LABELS)


@pytest.mark.parametrize("name", ["hinge", "half_mse", "smooth_l1", "kl_div"])
def test_a_network_is_trained_by_a_loss_called_by_name(name: str) -> None:
    from dlc import nn

    trainer = dlc.Trainer(nn.Linear(5), name, dlc.optim.SGD(0.05), backend="reference")
    targets = (T if name == "kl_div" else SIGNS).astype("f")
    history = trainer.fit(X.astype("f"), targets, epochs=5, batch_size=4, verbose=False)
    found = history["loss"]
    assert found[-1] < found[0]


def test_similarities() -> None:
    a, b = dlc.input("a", X.shape, "float64"), dlc.input("b", X.shape, "float64")
    graph = dlc.graph([a, b], [F.cosine_similarity(a, b), F.normalize(a, 3.0, 0), F.pairwise_distance(a, b, 1.0)])
    cosine, unit, distance = dlc.compile(graph, "reference")(X, Y)
    np.testing.assert_allclose(cosine, (X * Y).sum(1) / norm(X) / norm(Y))
    np.testing.assert_allclose(unit, X / (np.abs(X) ** 3).sum(0) ** (1 / 3))
    np.testing.assert_allclose(distance, np.abs(X - Y + 1e-6).sum(1))
    check_grad(graph, [X, Y])
    nothing = dlc.constant(np.zeros((2, 3), "f"))
    slope = dlc.grad(F.cosine_similarity(nothing, nothing).sum(), [nothing])[0]
    assert not np.any(dlc.evaluate(slope)) and not np.any(dlc.evaluate(F.normalize(nothing)))


@pytest.mark.parametrize("name", LOSSES)
def test_losses_of_halves_are_rounded_once(name: str) -> None:
    loss, arrays, _ = LOSSES[name]
    for dtype in ("float16", "bfloat16"):
        halves = [dlc.evaluate(dlc.astype(dlc.constant(a), dtype)) for a in arrays]
        wide = [h.astype("f") for h in halves]
        for reduction in ("mean", "none"):
            found, want = dlc.evaluate(loss(*halves, reduction=reduction), loss(*wide, reduction=reduction))
            np.testing.assert_array_equal(found, want.astype(found.dtype), strict=True)


ENDS = np.array([1e4, -1e4, 0.0, 1e4, -1e4, 0.0, 1e30, -1e30], "f")
HITS = np.array([1, 1, 1, 0, 0, 0, 1, 0], "f")
VECTORS = np.array([[0, 0], [1, 2], [1, 2], [0, 0], [1e-20, 0], [1e4, 1e4]], "f")
OTHERS = np.array([[1, 2], [0, 0], [1, 2], [0, 0], [1e-20, 0], [-1e4, 1e4]], "f")
ALIKE = np.array([1, -1, 1, -1, 1, -1], "f")


def each_extreme() -> dict[str, tuple[Callable[..., Any], list[Any]]]:
    """Losses at far logits, at probabilities 0 and 1, at zero vectors and at equal ones."""
    named = {name: getattr(losses, name) for name in ("l1", "huber", "smooth_l1", "binary_cross_entropy_with_logits")}
    signed = {name: getattr(losses, name) for name in ("logistic", "hinge", "perceptron")}
    signs, rows, at = HITS * 2 - 1, ENDS[:6].reshape(2, 3), np.array([1, 0])
    return {
        **{name: (f, [ENDS, HITS]) for name, f in named.items()},
        **{name: (f, [ENDS, signs]) for name, f in signed.items()},
        "mse": (losses.mse, [ENDS[:6], HITS[:6]]),
        "squared_hinge": (losses.squared_hinge, [ENDS[:6], signs[:6]]),
        "binary_cross_entropy": (losses.binary_cross_entropy, [np.array([0, 1, 0, 1, 0.5, 1e-38], "f"), HITS[:6]]),
        "kl_div": (losses.kl_div, [np.array([-1e4, 0, -700, -1e4], "f"), np.array([0, 0, 1e-38, 1], "f")]),
        "cross_entropy": (lambda x, **k: dlc.cross_entropy(x, at, **k), [rows]),
        "smoothed": (lambda x, **k: dlc.cross_entropy(x, at, label_smoothing=0.1, **k), [rows]),
        "of_probabilities": (dlc.cross_entropy, [rows, np.eye(3, dtype="f")[:2]]),
        "cosine": (lambda a, b, **k: metric_losses.cosine_embedding(a, b, ALIKE, **k), [VECTORS, OTHERS]),
        "contrastive": (lambda a, b, **k: metric_losses.contrastive(a, b, ALIKE > 0, **k), [VECTORS, OTHERS]),
        "triplet": (metric_losses.triplet_margin, [VECTORS, OTHERS, VECTORS[::-1].copy()]),
        "triplet_of_equals": (lambda a, **k: metric_losses.triplet_margin(a, a, a, eps=0.0, **k), [VECTORS]),
    }


@pytest.mark.parametrize("name", each_extreme())
def test_values_and_gradients_are_finite_and_right_at_extremes(name: str) -> None:
    loss, arrays = each_extreme()[name]

    def at(dtype: str) -> Any:
        inputs = [dlc.input(f"x{i}", a.shape, dtype) for i, a in enumerate(arrays)]
        each = loss(*inputs, reduction="none")
        learnt = inputs if each.ndim < arrays[0].ndim and arrays[-1].ndim > 1 else inputs[:1]
        graph = dlc.graph(inputs, [each, *dlc.grad(each.sum(), learnt)])
        return dlc.compile(graph, "reference")(*(a.astype(dtype) for a in arrays))

    for found, want in zip(at("float32"), at("float64"), strict=True):
        assert np.isfinite(found).all()
        np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-6 * max(1.0, np.abs(want).max()))
