"""Connectionist temporal classification: the likelihood of labels whose times are not known."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dlc.dims import DimLike
from dlc.dtypes import FLOATING
from dlc.errors import AttributeValueError, DTypeError, ShapeError
from dlc.ops import (
    broadcast_to,
    concat,
    cumulative_sum,
    expand_dims,
    full,
    iota,
    logaddexp,
    logsumexp,
    maximum,
    pad,
    reshape,
    scalar,
    scan,
    size_of,
    squeeze,
    stack,
    take,
    take_along_axis,
    where,
)
from dlc.ops.cross_entropy import reduced
from dlc.ops.definition import located
from dlc.ops.elementwise import convert, rounded_once
from dlc.ops.fill import check_indices
from dlc.ops.tensor import Tensor, wrap

NEVER = -math.inf  # the logarithm of probability 0


@located
@rounded_once("log_probs")
def ctc(
    log_probs: Any,
    targets: Any,
    input_lengths: Any,
    target_lengths: Any,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Tensor:
    """-log of the probability that frames spell the targets, repeats being merged and then blanks dropped.

    `log_probs` [T, N, C] are the logarithms of the classes' probabilities at each time, as `log_softmax` gives them;
    `targets` are integers, [N, S] padded to one length, or the [sum of the lengths] of all one after the other; the
    lengths are integers [N]. Without N (log_probs [T, C], targets [S], two lengths) the loss is that of one sequence.
    `reduction` "none" gives a loss for each sequence, "sum" their sum, "mean" the mean of each divided by the length of
    its targets (at least 1), as in torch. The loss is infinite, with gradient 0, where the frames are too few; with
    `zero_infinity` it is 0 there. What stands in frames and targets beyond their lengths does not matter.

    The derivative is that by `log_probs` itself; torch gives the one by the logits, which is the same after
    `log_softmax`. A length or label out of range fails the run with `IndexOutOfRangeError`; `DTypeError`, `ShapeError`
    and `AttributeValueError` say what does not fit. A. Graves et al., Connectionist temporal classification, 2006:
    the forward recursion of section 4.1, with logarithms, as a `scan` over time.

    >>> import dlc
    >>> frames = dlc.log_softmax([[[0.0, 0.0]], [[0.0, 0.0]]])   # two frames, of a blank and one label
    >>> f"{dlc.evaluate(ctc(frames, [[1]], [2], [1])):.4f}"      # 3 of the 4 ways spell the label
    '0.2877'
    """
    x, labels = wrap(log_probs), wrap(targets)
    lengths = [wrap(input_lengths), wrap(target_lengths)]
    if x.dtype not in FLOATING:
        raise DTypeError(f"ctc takes floating-point log-probabilities, not {x.type}; convert with .astype('float32')")
    for t in (labels, *lengths):
        check_indices(t.type, "ctc")
    alone = x.ndim == 2
    if alone:
        x, labels = expand_dims(x, 1), expand_dims(labels, 0) if labels.ndim == 1 else labels
        lengths = [expand_dims(t, 0) if t.ndim == 0 else t for t in lengths]
    if x.ndim != 3 or labels.ndim not in (1, 2) or any(t.shape != (x.shape[1],) for t in lengths):
        raise ShapeError(
            f"ctc takes log-probabilities [T, N, C], targets [N, S] or all in a row, and lengths [N], not "
            f"{x.type}, {labels.type}, {lengths[0].type} and {lengths[1].type}"
        )
    if isinstance(blank, bool) or not isinstance(blank, int) or not blank >= 0 or (
        isinstance(x.shape[2], int) and blank >= x.shape[2]
    ):  # fmt: skip
        raise AttributeValueError(f"ctc: the blank {blank!r} is none of the {x.shape[2]} classes of {x.type}")
    frames = _checked(lengths[0], x.shape[0])
    if labels.ndim == 1:
        labels = _rows(labels, lengths[1])
    elif labels.shape[0] != x.shape[1]:
        raise ShapeError(f"ctc: {labels.type} does not have a row for each of the {x.shape[1]} sequences of {x.type}")
    counts = _checked(lengths[1], labels.shape[1])
    losses = _losses(x, _spaced(labels, counts, blank), frames, counts, blank)
    if zero_infinity:
        losses = where(losses == math.inf, 0.0, losses)
    if reduction == "mean":
        losses = losses / convert(maximum(counts, 1), x.dtype)
    return reduced(squeeze(losses, 0) if alone else losses, reduction, "ctc")


def _checked(lengths: Tensor, most: DimLike) -> Tensor:
    """The lengths, each of which must be from 0 to `most`."""
    return take(iota((most + 1,), 0), lengths)


def _rows(labels: Tensor, lengths: Tensor) -> Tensor:
    """Targets that follow one another as rows of the longest if that is known, filled up with the first of all."""
    known = lengths.node.attrs["value"].array if lengths.node.op.name == "constant" else None
    longest = labels.shape[0] if known is None else int(np.max(known, initial=0))
    ends = expand_dims(cumulative_sum(convert(lengths, "int64"), exclusive=True), 1)
    place = iota((lengths.shape[0], longest), 1)
    return take(labels, where(place < expand_dims(convert(lengths, "int64"), 1), ends + place, 0))


def _spaced(labels: Tensor, counts: Tensor, blank: int) -> Tensor:
    """blank, label, blank, label, ... blank: [N, 2 S + 1]; padding becomes blanks."""
    known = iota(labels.shape, 1) < expand_dims(counts, 1)
    own = where(known, convert(labels, "int64"), blank)
    blanks = full(labels.shape, blank, "int64")
    rows, size = labels.shape
    pairs = reshape(stack([blanks, own], axis=2), (rows, 2 * size))
    return concat([pairs, full((rows, 1), blank, "int64")], axis=1)


def _losses(x: Tensor, spaced: Tensor, frames: Tensor, counts: Tensor, blank: int) -> Tensor:
    """-log of the probability of each row of `spaced`, [N]."""
    times, rows, classes = x.shape
    width = spaced.shape[1]
    size = size_of(classes, "int64")
    places = where((spaced >= 0) & (spaced < size), iota((rows, 1), 0) * size + spaced, -1)
    emitted = take(reshape(x, (times, rows * classes)), places, axis=1)  # [T, N, 2 S + 1]
    live = iota((times, rows), 0) < expand_dims(frames, 0)
    # a label may follow the one before it without a blank, unless they are equal
    skips = (spaced != blank) & (spaced != _later(spaced, 2, blank))
    start = where(iota((rows, width), 1) == 0, scalar(0, x.dtype), scalar(NEVER, x.dtype))

    def step(alpha: Tensor, frame: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[()]]:
        logs, running = frame
        ways = [alpha, _later(alpha, 1, NEVER), where(skips, _later(alpha, 2, NEVER), scalar(NEVER, x.dtype))]
        return where(expand_dims(running, 1), logsumexp(stack(ways, axis=0), axis=0) + logs, alpha), ()

    alpha, _ = scan(step, broadcast_to(start, (rows, width)), (emitted, live))
    last = expand_dims(2 * counts, 1)  # the row ends in a blank or, if it has any, a label
    in_blank = take_along_axis(alpha, last, axis=1)
    in_label = where(last > 0, take_along_axis(alpha, maximum(last - 1, 0), axis=1), scalar(NEVER, x.dtype))
    total = squeeze(logaddexp(in_blank, in_label), 1)
    return where(total == NEVER, math.inf, -total)  # so that no cotangent goes on from there


def _later(t: Tensor, by: int, value: float) -> Tensor:
    """`t` [N, L] moved on by some places of its rows, with `value` in front."""
    width = t.shape[1]
    if isinstance(width, int) and width <= by:
        return broadcast_to(scalar(value, t.dtype), t.shape)
    return pad(t, [(0, 0), (by, 0)], value=value)[:, :width]
