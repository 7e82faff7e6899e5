"""Sums of products over named axes, against NumPy."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import dlc
from dlc.errors import DlcError
from dlc.testing import check_grad

RNG = np.random.default_rng(0)
SIZES = dict(zip("abcdefg", (2, 3, 4, 2, 3, 5, 1), strict=True))
TEXTS = [
    "ab,bc->ac", "ab,bc->ca", "ab,bc", "ab->ba", "ab->", "ab->b", "aa->a", "aa", "aab->ba", "aaa->a", "ab,ab->ab",
    "ab,ab->a", "ab,ab->", "a,b->ab", "a,b->ba", "a,a->", "abc,abf->acf", "abc,cbf->fa", "abc,abc->b", "ab,cd->",
    "ab,bc,cd->ad", "ab,ab,ab->b", "ab,bc,ca->", "a,ab,b->", "...ab,...bc->...ac", "...ab,bc->...ac", "a...->...",
    "...a,...a->...", "a...b", "ab...,b->a...", ",ab->ab", "g,ga->a", "abf,fcd->abcd", "aab,bcc->ac",
]  # fmt: skip


def operands(text: str, dtype: str = "float64") -> list[Any]:
    shapes = []
    for term in text.partition("->")[0].split(","):
        before, dots, after = term.partition("...")
        shapes.append([SIZES[c] for c in before] + [3, 2] * bool(dots) + [SIZES[c] for c in after])
    return [RNG.integers(-5, 5, s).astype(dtype) for s in shapes]


@pytest.mark.parametrize("text", TEXTS)
def test_einsum(text: str) -> None:
    arrays = operands(text)
    inputs = [dlc.input(f"x{i}", a.shape, "float64") for i, a in enumerate(arrays)]
    y = dlc.einsum(text, *inputs)
    (found,) = dlc.compile(dlc.graph(inputs, [y]), "reference")(*arrays)
    want = np.einsum(text, *arrays)
    assert found.shape == want.shape
    np.testing.assert_allclose(found, want)
    check_grad(dlc.graph(inputs, [y, *dlc.grad((y * y).sum(), inputs)]), arrays)
    whole = [a.astype("int64") for a in arrays]
    np.testing.assert_array_equal(dlc.evaluate(dlc.einsum(text, *whole)), want)


def test_named_dims() -> None:
    x, w = dlc.input("x", ("N", "T", 4)), dlc.input("w", (4, "M"))
    assert dlc.einsum("ntd,dm->nmt", x, w).shape[2] == x.shape[1]


@pytest.mark.parametrize("axes", [0, 1, 2, ((0,), (1,)), ((1, 0), (0, 1)), (1, 0), ((-1,), (-2,))])
def test_tensordot(axes: Any) -> None:
    a, b = RNG.standard_normal((2, 3, 3, 3))
    np.testing.assert_allclose(dlc.evaluate(dlc.tensordot(a, b, axes)), np.tensordot(a, b, axes))


def test_vecdot_and_outer() -> None:
    a, b = RNG.standard_normal((2, 3, 4)), RNG.standard_normal((3, 4))
    np.testing.assert_allclose(dlc.evaluate(dlc.vecdot(a, b, axis=-2)), (a * b).sum(-2))
    np.testing.assert_allclose(dlc.evaluate(dlc.outer(a[0, 0], b[:, 0])), np.outer(a[0, 0], b[:, 0]))


A, B = np.zeros((2, 3)), np.zeros((3, 4))


@pytest.mark.parametrize("call", [
    lambda: dlc.einsum("ab,bc->ac", A), lambda: dlc.einsum("ab,ac->bc", A, B), lambda: dlc.einsum("abc->a", A),
    lambda: dlc.einsum("a->a", A), lambda: dlc.einsum("ab->aab", A), lambda: dlc.einsum("ab->c", A),
    lambda: dlc.einsum("a1->a", A), lambda: dlc.einsum("......->", A), lambda: dlc.einsum("a...->a", A),
    lambda: dlc.einsum(A, "ab"), lambda: dlc.einsum("ab->a", np.zeros((2, 2), bool)), lambda: dlc.einsum("aa", A),
    lambda: dlc.tensordot(A, B, 3), lambda: dlc.tensordot(A, B, ((0,), (0, 1))), lambda: dlc.tensordot(A, B, 2),
    lambda: dlc.tensordot(A, B, ((0, 0), (0, 0))), lambda: dlc.tensordot(A, B, "1"), lambda: dlc.vecdot(A, B),
    lambda: dlc.vecdot(A, A, 0), lambda: dlc.vecdot(1.0, A), lambda: dlc.outer(A, B), lambda: dlc.einsum("", A),
])  # fmt: skip
def test_what_does_not_fit_is_refused_with_its_place(call: Callable[[], Any]) -> None:
    with pytest.raises(DlcError, match=r"test_einsum\.py:\d+"):
        call()
