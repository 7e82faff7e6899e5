"""Sequences and optionals: how long a sequence is, and whether an optional has an element, is known while reading."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlc import ops
from dlc.dims import Dim
from dlc.errors import FileFormatError
from dlc.frontend.onnx.call import Call, Importer, Value, axis_of
from dlc.ops.tensor import Tensor

MAX_LENGTH = 4096  # of a sequence


def _sequence(c: Call, items: Any) -> Value:
    found = tuple(items)
    if len(found) > MAX_LENGTH:
        raise FileFormatError(f"{c.place}: a sequence of {len(found)} elements; the limit is {MAX_LENGTH}")
    if not all(v.is_tensor for v in found):
        raise FileFormatError(f"{c.place}: the elements of a sequence are tensors")
    return Value(items=found)


def _items(c: Call, number: int = 0) -> tuple[Value, ...]:
    items = c.value(number).items
    if items is None:
        raise FileFormatError(f"{c.place}: operand {number} is no sequence")
    return items


def _position(c: Call, number: int, count: int) -> int:
    """A place below `count`, which may be counted from the end."""
    at = c.number(number)
    if isinstance(at, Dim) or at != int(at) or not -count <= at < count:
        raise FileFormatError(f"{c.place}: the sequence has no place {at}; it is of length {count}")
    return int(at) % count


def _insert(c: Call) -> Value:
    """Before a place, which may be that behind the last."""
    items = _items(c)
    at = len(items)
    if c.has(2):
        at = c.number(2)
        if isinstance(at, Dim) or not -len(items) <= at <= len(items):
            raise FileFormatError(f"{c.place}: nothing is inserted at {at} of a sequence of length {len(items)}")
        at = int(at) + (len(items) if at < 0 else 0)
    return _sequence(c, (*items[:at], c.value(1), *items[at:]))


def _erase(c: Call) -> Value:
    items = _items(c)
    if not items:
        raise FileFormatError(f"{c.place}: nothing can be taken from an empty sequence")
    at = _position(c, 1, len(items)) if c.has(1) else len(items) - 1
    return Value(items=items[:at] + items[at + 1 :])


def _concat(c: Call) -> Tensor:
    tensors = [v.as_tensor() for v in _items(c)]
    if not tensors:
        raise FileFormatError(f"{c.place}: an empty sequence has nothing to join")
    join = ops.stack if c.int("new_axis", 0) else ops.concat
    return join(tensors, axis=c.int("axis", 0))


def _split(c: Call) -> Value:
    """Parts of one length, of which the last may be shorter, of lengths that are given, or of 1."""
    x = c[0]
    axis = axis_of(c, x, 0)
    d, keep = x.shape[axis], c.int("keepdims", 1)
    if isinstance(d, Dim):
        raise c.unsupported(f"a split of {x.type} along axis {axis}, whose size is open, into a sequence")
    sizes = c.static(1) if c.has(1) else np.array(1)
    if sizes.ndim > 1 or any(isinstance(s, Dim) or s < 0 for s in sizes.flat):
        raise FileFormatError(f"{c.place}: the parts {sizes.tolist()!r:.80} are no lengths")
    if sizes.ndim == 0:
        each = int(sizes)
        if each < 1 or d > each * MAX_LENGTH:
            raise FileFormatError(f"{c.place}: {d} cannot be split into parts of {each}")
        lengths = [min(each, d - start) for start in range(0, d, each)]
    else:
        lengths = [int(s) for s in sizes]
    if sum(lengths) != d or len(lengths) > MAX_LENGTH:
        raise FileFormatError(f"{c.place}: the parts {lengths[:8]} do not add up to {d}")
    c.counted(2 * len(lengths))
    ends = np.cumsum(lengths)
    index: list[Any] = [slice(None)] * x.ndim
    found = []
    for length, end in zip(lengths, ends, strict=True):
        index[axis] = slice(int(end) - length, int(end))
        part = x[tuple(index)]
        found.append(Value(part if keep or c.has(1) else ops.squeeze(part, axis)))
    return _sequence(c, found)


def _map(c: Call) -> list[Value]:
    """The body for each element of the first sequence, and of others as long; tensors are given whole."""
    body, count = c.body("body"), len(_items(c))
    others = [c.value(i) for i in range(len(c.operands))]
    if any(v.items is not None and len(v.items) != count for v in others):
        raise FileFormatError(f"{c.place}: sequences of different lengths")
    rows = [body(*(v if v.items is None else v.items[i] for v in others)) for i in range(count)]
    if any(len(row) != c.results for row in rows):
        raise FileFormatError(f"{c.place}: the body does not give {c.results} results")
    return [_sequence(c, (row[k] for row in rows)) for k in range(c.results)]


def _optional(c: Call) -> Value:
    c.read.add("type")
    return c.value(0) if c.has(0) else Value(absent=True)


def _get_element(c: Call) -> Value:
    found = c.value(0)
    if found.absent:
        raise FileFormatError(f"{c.place}: an empty optional has no element")
    return found


def _has_element(c: Call) -> Value:
    return Value(static=np.array(c.has(0) and not c.value(0).absent))


def _empty(c: Call) -> Value:
    c.read.add("dtype")
    return Value(items=())


SEQUENCES: dict[str, Importer] = {
    "ConcatFromSequence": _concat,
    "Optional": _optional,
    "OptionalGetElement": _get_element,
    "OptionalHasElement": _has_element,
    "SequenceAt": lambda c: _items(c)[_position(c, 1, len(_items(c)))],
    "SequenceConstruct": lambda c: _sequence(c, (c.value(i) for i in range(len(c.operands)))),
    "SequenceEmpty": _empty,
    "SequenceErase": _erase,
    "SequenceInsert": _insert,
    "SequenceLength": lambda c: Value(static=np.array(len(_items(c)), np.int64)),
    "SequenceMap": _map,
    "SplitToSequence": _split,
}
