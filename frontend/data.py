"""Data to train on: a set of handwritten digits that comes with dlc, and minibatches.

>>> from dlc.frontend import data
>>> (x, y), (xv, yv) = data.digits()
>>> [(len(xb), yb.dtype.name) for xb, yb in data.batches(x, y, batch_size=512, seed=0, epoch=0)]
[(512, 'int64'), (512, 'int64'), (418, 'int64')]
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from importlib import resources
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from dlc.errors import ArgumentError

__all__ = ["batches", "digits"]

Float32Array: TypeAlias = npt.NDArray[np.float32]
Int64Array: TypeAlias = npt.NDArray[np.int64]

_SIDE = 8  # pixels along one side of a stored digit
_FULL_INK = 16.0  # the largest value of a stored pixel


def digits(
    size: int = 28, split: str = "mixed"
) -> tuple[tuple[Float32Array, Int64Array], tuple[Float32Array, Int64Array]]:
    """The 1,797 UCI handwritten digits as `((x, y), (xv, yv))`: 1,442 to train on and 355 held out.

    `size` is the height and width in pixels of the images, at least 1. They are stored as 8x8 and resized
    bilinearly with half-pixel centres and clamped edges; `size=8` gives the stored pixels, exactly. A size below 8
    samples the image and does not average over it.

    Returns fresh arrays: `x` and `xv` are float32 [N, 1, size, size], from 0 (paper) to 1 (ink); `y` and `yv` are
    int64 [N], the digit 0..9. The split never changes: of every class, the last fifth (rounded down) is held out.
    With ``split="mixed"`` that is the last fifth of one fixed shuffle, so that the writers are in both parts. With
    ``split="file"`` it is the last fifth of the published file, which runs writer by writer: the held-out digits are
    by people that training never saw, which is harder (LeNet-5 reaches about 93% instead of 99%). Both parts keep the
    file's order, in which the classes are mixed.

    Raises `ArgumentError` where `size` is not an integer of at least 1, or `split` neither of the two.

    Source: E. Alpaydin and C. Kaynak (1998), Optical Recognition of Handwritten Digits (the test set), UCI Machine
    Learning Repository, https://doi.org/10.24432/C50P49, CC BY 4.0; see `datasets/digits.txt` beside this file.

    >>> (x, y), (xv, yv) = digits(size=28)
    >>> x.shape, x.dtype.name, y.shape, y.dtype.name
    ((1442, 1, 28, 28), 'float32', (1442,), 'int64')
    >>> xv.shape, float(xv.min()), float(xv.max())
    ((355, 1, 28, 28), 0.0, 1.0)
    >>> [int((yv == digit).sum()) for digit in range(10)]
    [35, 36, 35, 36, 36, 36, 36, 35, 34, 36]
    """
    size = _integer("size", size, least=1, fix="pass the height and width in pixels, for example size=28")
    if split not in ("mixed", "file"):
        raise ArgumentError(f"split must be 'mixed' or 'file', not {split!r}")
    file = resources.files("dlc.frontend.datasets") / "digits.npz"
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
        images, labels = stored["images"] / _FULL_INK, stored["labels"].astype(np.int64)
        held_out = stored["held_out"] if split == "mixed" else _last_fifth_of_each_class(labels)
    along = _bilinear(_SIDE, size)
    x = (along @ images @ along.T).astype(np.float32)[:, np.newaxis]
    return (x[~held_out], labels[~held_out]), (x[held_out], labels[held_out])


def batches(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    batch_size: int,
    seed: int = 0,
    epoch: int = 0,
    shuffle: bool = True,
    drop_last: bool = False,
    start: int = 0,
) -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
    """Iterate over one epoch of `(x, y)` in minibatches, every sample once.

    `x` [N, ...] and `y` [N, ...] are arrays of any dtype with as many samples along their first axis, at least one. A
    batch holds `batch_size` samples, the last one the rest; `drop_last=True` leaves a smaller last one out. With
    `shuffle` the order is a function of `(seed, epoch)` and N alone (each 0 <= value < 2**64), the same on every
    machine and with every version of NumPy, and a batch is a copy; without, batches are views in order.
    `start` is the number of batches already taken: the iteration goes on behind them, so a training run resumed in
    the middle of an epoch sees what it would have seen.

    Raises `ArgumentError` at the call where the lengths differ, there is no sample, an integer is out of its range, or
    `drop_last` would leave no batch at all.

    >>> x, y = np.arange(10.0), np.arange(10)
    >>> [yb.tolist() for _, yb in batches(x, y, batch_size=4, shuffle=False)]
    [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    >>> whole = [yb.tolist() for _, yb in batches(x, y, batch_size=4, seed=0, epoch=3)]
    >>> rest = [yb.tolist() for _, yb in batches(x, y, batch_size=4, seed=0, epoch=3, start=1)]
    >>> rest == whole[1:]
    True
    """
    x, y = np.asarray(x), np.asarray(y)
    count = _sample_count(x, y)
    batch_size = _integer("batch_size", batch_size, least=1, fix="pass how many samples a step sees, such as 64")
    seed = _integer("seed", seed, least=0, most=2**64 - 1, fix="pass an integer that names the run")
    epoch = _integer("epoch", epoch, least=0, most=2**64 - 1, fix="count epochs from 0")
    total = count // batch_size if drop_last else -(-count // batch_size)
    if total == 0:
        raise ArgumentError(
            f"batches: drop_last=True leaves no batch: x holds {count} samples and batch_size is {batch_size}; "
            f"pass drop_last=False or a batch_size of at most {count}"
        )
    start = _integer("start", start, least=0, most=total, fix="pass the number of batches already taken in this epoch")
    order = _shuffled(count, seed, epoch) if shuffle else None
    return _iterate(x, y, batch_size, range(start, total), order)


def _iterate(
    x: npt.NDArray[Any], y: npt.NDArray[Any], batch_size: int, positions: range, order: npt.NDArray[np.intp] | None
) -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
    """The batches at `positions`; apart from `batches` so that bad arguments raise at the call."""
    for position in positions:
        window = slice(position * batch_size, (position + 1) * batch_size)
        chosen = window if order is None else order[window]
        yield x[chosen], y[chosen]


def _shuffled(count: int, seed: int, epoch: int) -> npt.NDArray[np.intp]:
    """A permutation of 0..count-1: the ranks of the raw Philox words keyed by (seed, epoch).

    Raw words and not `Generator.permutation`, because NumPy keeps the former's stream fixed and may change the
    latter's (NEP 19). The sort is stable, so equal words, too, give one order.
    """
    words = np.random.Philox(key=np.array([seed, epoch], dtype=np.uint64)).random_raw(count)
    return np.argsort(words, kind="stable")


def _bilinear(source: int, target: int) -> npt.NDArray[np.float64]:
    """The matrix, float64 [target, source], that resizes a row of `source` pixels to `target` pixels.

    Half-pixel centres: pixel i of the result lies at (i + 1/2) * source / target - 1/2 in the source, clamped to its
    first and last centre, and mixes the two nearest pixels by their distance.
    """
    centres = np.clip((np.arange(target) + 0.5) * source / target - 0.5, 0, source - 1)
    distance = np.abs(centres[:, np.newaxis] - np.arange(source))
    return np.maximum(0.0, 1.0 - distance)


def _last_fifth_of_each_class(labels: Int64Array) -> npt.NDArray[np.bool_]:
    """True for the samples held out: of every class, the last fifth in file order, rounded down."""
    held_out = np.zeros(len(labels), dtype=np.bool_)
    for digit in np.unique(labels):
        (members,) = np.nonzero(labels == digit)
        held_out[members[len(members) - len(members) // 5 :]] = True
    return held_out


def _sample_count(x: npt.NDArray[Any], y: npt.NDArray[Any]) -> int:
    """The number of samples that `x` and `y` agree on; `ArgumentError` where they do not."""
    for name, array in (("x", x), ("y", y)):
        if array.ndim == 0:
            raise ArgumentError(f"batches: {name} has no axis of samples (it is 0-d); pass an array [N, ...]")
    if len(x) != len(y):
        raise ArgumentError(
            f"batches: x holds {len(x)} samples and y holds {len(y)}; pass arrays with the same first dimension"
        )
    if len(x) == 0:
        raise ArgumentError("batches: x and y hold 0 samples; pass at least one")
    return len(x)


def _integer(name: str, value: object, *, least: int, most: int | None = None, fix: str) -> int:
    """`value` as an int (NumPy's integers too, bool not); `ArgumentError` where it is none or out of range."""
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = None
    if number is None or isinstance(value, bool | np.bool_) or number < least or (most is not None and number > most):
        bounds = f"at least {least}" if most is None else f"from {least} to {most}"
        raise ArgumentError(f"{name} must be an integer {bounds}, not {value!r}; {fix}") from None
    return number
