"""The CTC loss: against all alignments counted one by one, its gradient against finite differences, and refusals."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from runnable import BACKENDS

import dlc
from dlc.errors import AttributeValueError, DlcError, DTypeError, IndexOutOfRangeError, ShapeError
from dlc.nn.functional import ctc_loss
from dlc.testing import check_grad

RNG = np.random.default_rng(0)
TIMES, CLASSES = 5, 3
X = RNG.standard_normal((TIMES, 4, CLASSES))
LOG_P = X - np.log(np.exp(X).sum(-1, keepdims=True))
TARGETS = np.array([[1, 2, 1], [2, 2, -7], [1, 99, 99], [1, 1, 1]])  # what lies beyond the lengths is never read
FRAMES, COUNTS = np.array([5, 4, 2, 4]), np.array([3, 2, 0, 3])  # the last has too few frames: 1-1-1 takes 5


def spelled(path: tuple[int, ...], blank: int) -> list[int]:
    return [c for i, c in enumerate(path) if c != blank and (i == 0 or c != path[i - 1])]


def by_counting(log_p: Any, target: Any, blank: int = 0) -> float:
    """-log of the sum over all alignments."""
    total = 0.0
    for path in itertools.product(range(log_p.shape[-1]), repeat=len(log_p)):
        if spelled(path, blank) == list(target):
            total += np.exp(log_p[range(len(path)), path].sum())
    return -np.log(total) if total else np.inf


WANT = np.array([by_counting(LOG_P[: FRAMES[i], i], TARGETS[i, : COUNTS[i]]) for i in range(4)])


def test_the_loss_is_that_of_all_alignments() -> None:
    x = dlc.input("x", X.shape, "float64")
    t, f, n = (dlc.input(name, a.shape, "int64") for name, a in (("t", TARGETS), ("f", FRAMES), ("n", COUNTS)))
    row = dlc.input("row", (8,), "int64")
    each = ctc_loss(x, t, f, n, reduction="none")
    total = ctc_loss(x, t, f, n, reduction="sum", zero_infinity=True)
    outputs = [
        each,
        ctc_loss(x, row, FRAMES, COUNTS, reduction="none"),
        ctc_loss(x, row, f, n, reduction="none"),
        total,
        ctc_loss(x, t, f, n, zero_infinity=True),
        *dlc.grad(total, [x]),
        *dlc.grad(each.sum(), [x]),
    ]
    program = dlc.compile(dlc.graph([x, t, f, n, row], outputs), "reference")
    packed = np.concatenate([r[:k] for r, k in zip(TARGETS, COUNTS, strict=True)])
    found = program(LOG_P, TARGETS, FRAMES, COUNTS, packed)
    for losses in found[:3]:
        np.testing.assert_allclose(losses, WANT, rtol=1e-12)
    np.testing.assert_allclose(found[3], WANT[:3].sum(), rtol=1e-12)
    np.testing.assert_allclose(found[4], (WANT[:3] / np.maximum(COUNTS[:3], 1)).sum() / 4, rtol=1e-12)
    for slope in found[5:]:  # minus how likely each class is at each time, given that the targets are spelled
        within = np.arange(TIMES)[:, None] < FRAMES
        np.testing.assert_allclose(slope.sum(-1), np.where(within & np.isfinite(WANT), -1.0, 0.0), atol=1e-12)


@pytest.mark.parametrize("backend", [b for b in BACKENDS if b != "reference"])
def test_backends_agree(backend: str) -> None:
    x, t = dlc.input("x", X.shape, "float64"), dlc.input("t", TARGETS.shape, "int64")
    each = ctc_loss(x, t, FRAMES, COUNTS, reduction="none")
    graph = dlc.graph([x, t], [each, *dlc.grad(each.sum(), [x])])
    losses, slope = dlc.compile(graph, backend)(LOG_P, TARGETS)
    np.testing.assert_allclose(losses, WANT, rtol=1e-12)
    np.testing.assert_allclose(slope, dlc.compile(graph, "reference")(LOG_P, TARGETS)[1], atol=1e-12)


def test_another_blank_and_no_batch() -> None:
    for target in ([], [0], [0, 1], [1, 1]):
        found = dlc.evaluate(ctc_loss(LOG_P[:, 0], np.array(target, "int64"), TIMES, len(target), 2, "sum"))
        np.testing.assert_allclose(found, by_counting(LOG_P[:, 0], target, 2), rtol=1e-12)


def test_gradients() -> None:
    x = dlc.input("x", (TIMES, 3, CLASSES), "float64")
    loss = ctc_loss(dlc.log_softmax(x), TARGETS[:3], FRAMES[:3], COUNTS[:3])
    check_grad(dlc.graph([x], [loss, *dlc.grad(loss, [x])]), [X[:, :3]])


def test_extremes_and_named_dims() -> None:
    x, t = dlc.input("x", ("T", "N", 3)), dlc.input("t", ("N", "S"), "int64")
    n, s = dlc.input("n", ("N",), "int64"), dlc.input("s", ("N",), "int64")
    each = ctc_loss(dlc.log_softmax(x), t, n, s, reduction="none")
    program = dlc.compile(dlc.graph([x, t, n, s], [each, *dlc.grad(each.sum(), [x])]), "reference")
    far = np.zeros((6, 2, 3), "f")
    far[:, 0, 1] = far[:, 1, 2] = 1e4  # sure of the label of the first sequence, and of a wrong one in the second
    losses, slope = program(far, np.array([[1, 1], [1, 1]]), np.array([6, 6]), np.array([1, 1]))
    np.testing.assert_allclose(losses, [0.0, 6e4 - np.log(21)], rtol=1e-5, atol=1e-6)
    assert np.isfinite(slope).all()
    losses, slope = program(far[:2], np.zeros((2, 0), "int64"), np.array([0, 2]), np.array([0, 0]))
    np.testing.assert_allclose(losses, [0.0, 2e4])
    with pytest.raises(IndexOutOfRangeError, match="7"):
        program(far, np.array([[1, 1], [1, 1]]), np.array([6, 7]), np.array([1, 1]))
    with pytest.raises(IndexOutOfRangeError, match="3"):
        program(far, np.array([[1, 1], [1, 1]]), np.array([6, 6]), np.array([1, 3]))
    with pytest.raises(IndexOutOfRangeError, match="-1"):
        program(far, np.array([[1, 3], [1, 1]]), np.array([6, 6]), np.array([2, 1]))


def test_half_precision_is_rounded_once() -> None:
    half = LOG_P.astype("float16")
    found = dlc.evaluate(ctc_loss(half, TARGETS, FRAMES, COUNTS, reduction="none"))
    want = dlc.evaluate(ctc_loss(half.astype("float32"), TARGETS, FRAMES, COUNTS, reduction="none"))
    np.testing.assert_array_equal(found, want.astype("float16"))


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda x: ctc_loss(x.astype("int32"), TARGETS, FRAMES, COUNTS), DTypeError),
        (lambda x: ctc_loss(x, TARGETS.astype("f"), FRAMES, COUNTS), DTypeError),
        (lambda x: ctc_loss(x, TARGETS, FRAMES, None), DTypeError),
        (lambda x: ctc_loss(x, TARGETS, FRAMES, [[1], [2, 3]]), DTypeError),
        (lambda x: ctc_loss(x, TARGETS[:2], FRAMES, COUNTS), ShapeError),
        (lambda x: ctc_loss(x, TARGETS, FRAMES[:2], COUNTS), ShapeError),
        (lambda x: ctc_loss(x[0], TARGETS, FRAMES, COUNTS), ShapeError),
        (lambda x: ctc_loss(x, TARGETS, FRAMES, COUNTS, blank=3), AttributeValueError),
        (lambda x: ctc_loss(x, TARGETS, FRAMES, COUNTS, reduction="most"), AttributeValueError),
    ],
)
def test_what_does_not_fit_is_refused(call: Callable[[Any], Any], error: type[DlcError]) -> None:
    with pytest.raises(error) as raised:
        call(dlc.input("x", X.shape, "float64"))
    assert raised.value.where is not None
