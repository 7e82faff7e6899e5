"""Sums of products over named axes, composed of matrix products: einsum, tensordot, vecdot, outer, cross, powers."""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Any

from dlc.dims import DimLike, product
from dlc.dtypes import FLOATING, NUMERIC
from dlc.errors import AttributeValueError, DTypeError, ShapeError
from dlc.ops.arranging import moveaxis, roll
from dlc.ops.contract import matmul
from dlc.ops.definition import located
from dlc.ops.diagonals import diagonal, eye
from dlc.ops.elementwise import convert, promoted, rounded_once
from dlc.ops.reduce import one_axis
from dlc.ops.reduce import sum as sum_
from dlc.ops.tensor import Tensor, wrap
from dlc.ops.view import broadcast_to, permute_dims, reshape

Labels = tuple[str, ...]


def _operands(values: Sequence[Any], name: str) -> list[Tensor]:
    ts = promoted([wrap(v) for v in values])
    if ts and ts[0].dtype not in NUMERIC:
        raise DTypeError(f"{name} multiplies numbers, not {ts[0].type}; convert with .astype('float32')")
    return ts


@located
def einsum(subscripts: str, *operands: Any) -> Tensor:
    """Sums of products of operands, whose axes are named by letters: "ij,jk->ik" is the matrix product.

    Letters that the part after "->" lacks are summed over; without that part it has, in alphabetical order, the
    letters that come once. A letter twice in one operand is its diagonal. "..." stands for further axes, aligned at
    the last one, which come first in the result unless it says where. Operands promote; they are multiplied from left
    to right; integers wrap in the dtype of the operands, as in NumPy. Axes of one letter have equal dims. A. Einstein,
    1916.

    Raises `AttributeValueError` for what is no such text, `ShapeError` where axes or dims do not fit.

    >>> import dlc
    >>> dlc.evaluate(dlc.einsum("ij,j->i", [[1.0, 2.0], [3.0, 4.0]], [1.0, 1.0])).tolist()
    [3.0, 7.0]
    """
    ts = _operands(operands, "einsum")
    terms, wanted = _parsed(subscripts, ts)
    sizes: dict[str, DimLike] = {}
    for labels, t in zip(terms, ts, strict=True):
        for label, d in zip(labels, t.shape, strict=True):
            if sizes.setdefault(label, d) != d:
                raise ShapeError(f"einsum {subscripts!r}: an axis is {sizes[label]} in one place and {d} in {t.type}")
    result, labels = _without_repeats(ts[0], terms[0])
    for i, (t, term) in enumerate(zip(ts[1:], terms[1:], strict=True), start=1):
        later = {*wanted, *(label for rest in terms[i + 1 :] for label in rest)}
        result, labels = _multiplied(result, labels, *_without_repeats(t, term), later)
    summed = tuple(a for a, label in enumerate(labels) if label not in wanted)
    result = _total(result, summed)
    kept = [label for label in labels if label in wanted]
    return permute_dims(result, tuple(kept.index(label) for label in wanted))


def _parsed(subscripts: str, ts: Sequence[Tensor]) -> tuple[list[Labels], Labels]:
    """The labels of each operand's axes and of the result's; the axes of "..." have labels that are no letters."""
    if not isinstance(subscripts, str):
        raise AttributeValueError(f"einsum begins with a text such as 'ij,jk->ik', not {subscripts!r:.80}")
    left, arrow, right = subscripts.replace(" ", "").partition("->")
    texts = left.split(",")
    if len(texts) != len(ts):
        raise AttributeValueError(f"einsum {subscripts!r} names {len(texts)} operands, not {len(ts)}")
    hidden = 0
    terms: list[Labels] = []
    for text, t in zip(texts, ts, strict=True):
        before, dots, after = _letters(text, subscripts)
        extra = t.ndim - len(before) - len(after)
        if extra < 0 or (extra and not dots):
            raise ShapeError(f"einsum {subscripts!r}: {text!r} does not name the {t.ndim} axes of {t.type}")
        hidden = max(hidden, extra if dots else 0)
        terms.append((*before, *(f"...{i}" for i in range(extra, 0, -1)), *after))
    rest = tuple(f"...{i}" for i in range(hidden, 0, -1))
    named = [label for term in terms for label in term if not label.startswith("...")]
    if not arrow:
        return terms, (*rest, *sorted(label for label in set(named) if named.count(label) == 1))
    before, dots, after = _letters(right, subscripts)
    wanted = (*before, *(rest if dots else ()), *after)
    if len(set(wanted)) != len(wanted) or not {*before, *after} <= set(named) or (rest and not dots):
        raise AttributeValueError(f"einsum {subscripts!r}: the result has each of its letters once, from the operands")
    return terms, wanted


def _letters(text: str, subscripts: str) -> tuple[Labels, bool, Labels]:
    before, dots, after = text.partition("...")
    if not set(before + after) <= set(string.ascii_letters):
        raise AttributeValueError(f"einsum {subscripts!r}: {text!r} is not made of letters and at most one '...'")
    return tuple(before), bool(dots), tuple(after)


def _without_repeats(t: Tensor, labels: Labels) -> tuple[Tensor, Labels]:
    """A tensor whose axes all differ in their labels: of those that do not, the diagonal."""
    for label in labels:
        while labels.count(label) > 1:
            first = labels.index(label)
            second = labels.index(label, first + 1)
            t = diagonal(moveaxis(t, (first, second), (-2, -1)))
            labels = (*(other for a, other in enumerate(labels) if a not in (first, second)), label)
    return t, labels


def _multiplied(a: Tensor, x: Labels, b: Tensor, y: Labels, later: set[str]) -> tuple[Tensor, Labels]:
    """The product of two operands, summed over the labels of both that nobody needs later."""
    a, x = _summed(a, x, {*y, *later})
    b, y = _summed(b, y, {*x, *later})
    batch = [label for label in x if label in y and label in later]
    inner = [label for label in x if label in y and label not in later]
    rows, columns = [label for label in x if label not in y], [label for label in y if label not in x]
    a = permute_dims(a, tuple(x.index(label) for label in (*batch, *rows, *inner)))
    b = permute_dims(b, tuple(y.index(label) for label in (*batch, *inner, *columns)))
    n, r, k = len(batch), len(rows), len(inner)
    shape = (*a.shape[: n + r], *b.shape[n + k :])
    labels = (*batch, *rows, *columns)
    if not inner or a.dtype not in FLOATING:
        beside = reshape(b, (*b.shape[:n], *(1,) * r, *b.shape[n:]))
        wide = reshape(a, (*a.shape, *(1,) * len(columns))) * beside
        return _total(wide, tuple(range(n + r, n + r + k))), labels
    left = reshape(a, (*a.shape[:n], product(a.shape[n : n + r]), product(a.shape[n + r :])))
    right = reshape(b, (*b.shape[:n], product(b.shape[n : n + k]), product(b.shape[n + k :])))
    return reshape(matmul(left, right), shape), labels


def _summed(t: Tensor, labels: Labels, needed: set[str]) -> tuple[Tensor, Labels]:
    axes = tuple(a for a, label in enumerate(labels) if label not in needed)
    return _total(t, axes), tuple(label for label in labels if label in needed)


def _total(t: Tensor, axes: Sequence[int]) -> Tensor:
    """The sum over axes in the dtype of the terms: unlike `sum`, sums of products do not widen integers."""
    return convert(sum_(t, axis=tuple(axes)), t.dtype) if axes else t


@located
def tensordot(a: Any, b: Any, axes: int | Sequence[Any] = 2) -> Tensor:
    """Sums of products over axes of a and of b, in pairs: the last `axes` of a with the first of b, or two sequences.

    >>> import dlc
    >>> dlc.evaluate(dlc.tensordot([[1.0, 2.0]], [[3.0], [4.0]], axes=1)).tolist()
    [[11.0]]
    """
    x, y = _operands([a, b], "tensordot")
    if isinstance(axes, int) and not isinstance(axes, bool):
        if not 0 <= axes <= min(x.ndim, y.ndim):
            raise AttributeValueError(f"tensordot: {x.type} and {y.type} do not both have {axes} axes")
        pairs = list(zip(range(x.ndim - axes, x.ndim), range(axes), strict=True))
    elif isinstance(axes, (tuple, list)) and len(axes) == 2:
        first, second = ((p,) if isinstance(p, int) else tuple(p) for p in axes)
        if len(first) != len(second):
            raise AttributeValueError(f"tensordot: axes={axes} has not as many axes of a as of b")
        pairs = [(one_axis(i, x.ndim, "tensordot"), one_axis(j, y.ndim, "tensordot"))
                 for i, j in zip(first, second, strict=True)]  # fmt: skip
        if len({i for i, _ in pairs}) != len(pairs) or len({j for _, j in pairs}) != len(pairs):
            raise AttributeValueError(f"tensordot: axes={axes} names an axis twice")
    else:
        raise AttributeValueError(f"tensordot: axes is an int, or two sequences of axes, not {axes!r}")
    if x.ndim + y.ndim > len(string.ascii_letters):
        raise ShapeError(f"tensordot: {x.type} and {y.type} have too many axes")
    left, right = list(string.ascii_letters[: x.ndim]), list(string.ascii_letters[x.ndim : x.ndim + y.ndim])
    for i, j in pairs:
        right[j] = left[i]
    result = [c for c in left if c not in right] + [c for c in right if c not in left]
    return einsum(f"{''.join(left)},{''.join(right)}->{''.join(result)}", x, y)


@located
def vecdot(a: Any, b: Any, axis: int = -1) -> Tensor:
    """The sums of products along `axis`, counted from the end; the other axes broadcast.

    >>> import dlc
    >>> dlc.evaluate(dlc.vecdot([[1.0, 2.0], [3.0, 4.0]], [1.0, 1.0])).tolist()
    [3.0, 7.0]
    """
    x, y = _operands([a, b], "vecdot")
    if not isinstance(axis, int) or not -min(x.ndim, y.ndim) <= axis <= -1:
        raise AttributeValueError(f"vecdot: axis {axis!r} is negative and in both of {x.type} and {y.type}")
    if x.shape[axis] != y.shape[axis]:
        raise ShapeError(f"vecdot: axis {axis} is {x.shape[axis]} in {x.type} and {y.shape[axis]} in {y.type}")
    products = x * y
    return _total(products, (products.ndim + axis,))


@located
def outer(a: Any, b: Any) -> Tensor:
    """All products of an element of the vector a [M] and one of b [N]: [M, N].

    >>> import dlc
    >>> dlc.evaluate(dlc.outer([1.0, 2.0], [3.0, 4.0])).tolist()
    [[3.0, 4.0], [6.0, 8.0]]
    """
    x, y = _operands([a, b], "outer")
    if x.ndim != 1 or y.ndim != 1:
        raise ShapeError(f"outer takes two vectors, not {x.type} and {y.type}")
    return reshape(x, (x.shape[0], 1)) * y


@located
@rounded_once("a", "b")
def cross(a: Any, b: Any, axis: int = -1) -> Tensor:
    """The cross products of vectors of three numbers along `axis`, counted from the end; the other axes broadcast.

    >>> import dlc
    >>> dlc.evaluate(dlc.cross([1.0, 0.0, 0.0], [0.0, 1.0, 0.0])).tolist()
    [0.0, 0.0, 1.0]
    """
    x, y = promoted([a, b])
    if not isinstance(axis, int) or not -min(x.ndim, y.ndim) <= axis <= -1:
        raise AttributeValueError(f"cross: axis {axis!r} is negative and in both of {x.type} and {y.type}")
    if x.shape[axis] != 3 or y.shape[axis] != 3:
        raise ShapeError(f"cross takes vectors of three numbers along axis {axis}, not {x.type} and {y.type}")
    ahead = [roll(t, -1, axis) for t in (x, y)]
    return roll(x * ahead[1] - ahead[0] * y, -1, axis)


@located
def matrix_power(x: Any, n: int) -> Tensor:
    """The product of `n` times the square matrix x[..., M, M], by squaring; the identity for 0.

    Negative powers would need an inverse: `AttributeValueError`.

    >>> import dlc
    >>> dlc.evaluate(dlc.matrix_power([[1.0, 1.0], [0.0, 1.0]], 5)).tolist()
    [[1.0, 5.0], [0.0, 1.0]]
    """
    (t,) = _operands([x], "matrix_power")
    if t.ndim < 2 or t.shape[-1] != t.shape[-2]:
        raise ShapeError(f"matrix_power takes square matrices and stacks of them, not {t.type}")
    if isinstance(n, bool) or not isinstance(n, int) or n < 0:
        raise AttributeValueError(f"matrix_power: n is an int of at least 0, not {n!r}")
    if n == 0:
        return broadcast_to(eye(t.shape[-1], dtype=t.dtype), t.shape)
    found: Tensor | None = None
    while n:
        if n & 1:
            found = t if found is None else matmul(found, t)
        n >>= 1
        t = matmul(t, t) if n else t
    assert found is not None
    return found
