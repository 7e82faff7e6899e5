"""Padding with what the tensor itself has: mirrored, repeated at the edge, or from the other end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dlc.errors import AttributeValueError, ShapeError
from dlc.ops.definition import located
from dlc.ops.index import concat
from dlc.ops.tensor import Tensor, wrap
from dlc.ops.view import broadcast_to, slice_

MODES = ("reflect", "edge", "wrap")


@located
def pad_border(x: Any, widths: Sequence[tuple[int, int]], mode: str = "reflect") -> Tensor:
    """`x` made longer by `widths` (low, high) of each axis, ints of at least 0, with elements of its own.

    `mode` is "reflect" (mirrored at the end element, which is not repeated), "edge" (the end element over and over) or
    "wrap" (from the other end), as in `numpy.pad`. Raises `ShapeError` where an axis has not as many elements; one of
    named size is checked when it is bound.

    >>> import dlc
    >>> dlc.evaluate(dlc.pad_border([1.0, 2.0, 3.0], [(1, 2)])).tolist()
    [2.0, 1.0, 2.0, 3.0, 2.0, 1.0]
    """
    t = wrap(x)
    if mode not in MODES:
        raise AttributeValueError(f"pad_border: mode={mode!r} is unknown; use one of {', '.join(map(repr, MODES))}")
    pairs = list(widths) if isinstance(widths, (tuple, list)) else []
    fits = (isinstance(p, (tuple, list)) and len(p) == 2 and all(map(_is_width, p)) for p in pairs)
    if len(pairs) != t.ndim or not all(fits):
        raise AttributeValueError(
            f"pad_border: {t.type} needs a pair (low, high) of ints of at least 0 for each axis, not {widths!r}"
        )
    for axis, (low, high) in enumerate(pairs):
        t = _bordered(t, axis, low, high, mode)
    return t


def _is_width(w: Any) -> bool:
    return isinstance(w, int) and not isinstance(w, bool) and w >= 0


def _bordered(t: Tensor, axis: int, low: int, high: int, mode: str) -> Tensor:
    d = t.shape[axis]
    least = {"reflect": max(low, high) + 1, "edge": 1, "wrap": max(low, high)}[mode]
    if not low and not high:
        return t
    if isinstance(d, int) and d < least:
        raise ShapeError(f"pad_border: axis {axis} of {t.type} has not the {least} elements that mode {mode!r} needs")

    def elements(start: Any, size: int, step: int) -> Tensor:
        starts = tuple(start if a == axis else 0 for a in range(t.ndim))
        sizes = (*t.shape[:axis], size, *t.shape[axis + 1 :])
        return slice_(t, starts, sizes, tuple(step if a == axis else 1 for a in range(t.ndim)))

    def repeated(start: Any, size: int) -> Tensor:
        return broadcast_to(elements(start, 1, 1), (*t.shape[:axis], size, *t.shape[axis + 1 :]))

    if mode == "reflect":
        before, after = elements(low, low, -1), elements(d - 2, high, -1)
    elif mode == "edge":
        before, after = repeated(0, low), repeated(d - 1, high)
    else:
        before, after = elements(d - low, low, 1), elements(0, high, 1)
    return concat([p for p, n in ((before, low), (t, 1), (after, high)) if n], axis=axis)
