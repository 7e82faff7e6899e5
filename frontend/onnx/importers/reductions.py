"""Reductions and softmax."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dlc import ops
from dlc.dims import product
from dlc.frontend.onnx.call import Call, Importer
from dlc.ops.tensor import Tensor


def _reduction(function: Callable[..., Any], since: int = 18) -> Importer:
    """The axes became an operand in opset `since`; none given means all, or none with noop_with_empty_axes."""

    def imported(c: Call) -> Tensor:
        axes, keep = c.axes(since), bool(c.int("keepdims", 1))
        if not axes:
            if c.int("noop_with_empty_axes", 0):
                raise c.unsupported("a reduction over no axes")
            axes = None
        return function(c[0], axis=None if axes is None else tuple(axes), keepdims=keep)

    return imported


def _position(function: Callable[..., Any]) -> Importer:
    def imported(c: Call) -> Tensor:
        if c.int("select_last_index", 0):
            raise c.unsupported("the last of equal positions (select_last_index)")
        return function(c[0], axis=c.int("axis", 0), keepdims=bool(c.int("keepdims", 1)))

    return imported


def _softmax(function: Callable[..., Any]) -> Importer:
    """Before opset 13 all axes from `axis` on were normalised together."""

    def imported(c: Call) -> Tensor:
        x = c[0]
        if c.opset >= 13:
            return function(x, axis=c.int("axis", -1))
        axis = c.int("axis", 1)
        axis = axis + x.ndim if axis < 0 else axis
        rows = ops.reshape(x, (product(x.shape[:axis]), product(x.shape[axis:])))
        return ops.reshape(function(rows, axis=1), x.shape)

    return imported


REDUCTIONS: dict[str, Importer] = {
    "ArgMax": _position(ops.argmax),
    "ArgMin": _position(ops.argmin),
    "LogSoftmax": _softmax(ops.log_softmax),
    "ReduceL1": _reduction(lambda x, **k: ops.sum(ops.abs(x), **k)),
    "ReduceL2": _reduction(lambda x, **k: ops.sqrt(ops.sum(ops.square(x), **k))),
    "ReduceLogSum": _reduction(lambda x, **k: ops.log(ops.sum(x, **k))),
    "ReduceLogSumExp": _reduction(ops.logsumexp),
    "ReduceMax": _reduction(ops.max),
    "ReduceMean": _reduction(ops.mean),
    "ReduceMin": _reduction(ops.min),
    "ReduceProd": _reduction(ops.prod),
    "ReduceSum": _reduction(ops.sum, since=13),
    "ReduceSumSquare": _reduction(lambda x, **k: ops.sum(ops.square(x), **k)),
    "Softmax": _softmax(ops.softmax),
}
