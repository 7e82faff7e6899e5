"""Reductions and softmax."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dlc import ops
from dlc.dims import product
from dlc.dtypes import FLOATING
from dlc.errors import FileFormatError
from dlc.frontend.onnx.call import Call, Importer, axis_of
from dlc.ops.tensor import Tensor


def _reduction(function: Callable[..., Any], since: int = 18) -> Importer:
    """The axes became an operand in opset `since`; none given means all, or none with noop_with_empty_axes."""

    def imported(c: Call) -> Tensor:
        axes, keep = c.axes(since), bool(c.int("keepdims", 1))
        if c.int("noop_with_empty_axes", 0) and not axes:
            axes = []
        elif not axes:
            axes = None
        return function(c[0], axis=None if axes is None else tuple(axes), keepdims=keep)

    return imported


def _position(function: Callable[..., Any]) -> Importer:
    def imported(c: Call) -> Tensor:
        """Of equal elements the first one is found; the last one is the first from the other end."""
        x, axis, keep = c[0], axis_of(c, c[0], 0), bool(c.int("keepdims", 1))
        if not c.int("select_last_index", 0):
            return function(x, axis=axis, keepdims=keep)
        size = x.shape[axis]
        last = (size if isinstance(size, int) else ops.size_of(size, "int64")) - 1
        return last - function(ops.flip(x, axis), axis=axis, keepdims=keep)

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


def _hardmax(c: Call) -> Tensor:
    """1 at the first of the largest elements, 0 elsewhere. Before opset 13 axes from `axis` on counted as one."""
    x = c[0]
    axis = axis_of(c, x, -1 if c.opset >= 13 else 1)
    flat = x if c.opset >= 13 else ops.reshape(x, (product(x.shape[:axis]), product(x.shape[axis:])))
    axis = axis if c.opset >= 13 else 1
    hot = ops.equal(ops.iota(flat.shape, axis), ops.argmax(flat, axis=axis, keepdims=True))
    return ops.reshape(ops.astype(hot, x.dtype), x.shape)


def _extreme(function: Callable[..., Any], least: bool) -> Callable[..., Any]:
    """max or min of bools too; over no elements it is the dtype's end."""

    def reduced(x: Tensor, axis: Any, keepdims: bool) -> Tensor:
        if x.dtype == "bool":
            return (ops.any if least else ops.all)(x, axis=axis, keepdims=keepdims)
        axes = range(x.ndim) if axis is None else axis
        if all(x.shape[a] != 0 for a in axes):
            return function(x, axis=axis, keepdims=keepdims)
        end = -np.inf if least else np.inf
        if x.dtype not in FLOATING:
            end = np.iinfo(x.dtype).min if least else np.iinfo(x.dtype).max
        return ops.full(ops.sum(x, axis=axis, keepdims=keepdims).shape, end, x.dtype)

    return reduced


def _log_sum_exp(x: Tensor, axis: Any, keepdims: bool) -> Tensor:
    axes = range(x.ndim) if axis is None else axis
    if any(x.shape[a] == 0 for a in axes):
        return ops.full(ops.sum(x, axis=axis, keepdims=keepdims).shape, -np.inf, x.dtype)
    return ops.logsumexp(x, axis=axis, keepdims=keepdims)


def _lp_normal(c: Call) -> Tensor:
    """Divided by the L1 or L2 norm along an axis; a norm of 0 gives 0."""
    x, axis, p = c[0], axis_of(c, c[0], -1), c.int("p", 2)
    if p not in (1, 2):
        raise FileFormatError(f"{c.place}: p is 1 or 2, not {p}")
    powers = ops.sum(ops.abs(x) if p == 1 else ops.square(x), axis=axis, keepdims=True)
    norm = powers if p == 1 else ops.sqrt(powers)
    nothing = ops.equal(norm, 0.0)
    return ops.where(nothing, 0.0, x / ops.where(nothing, 1.0, norm))


REDUCTIONS: dict[str, Importer] = {
    "ArgMax": _position(ops.argmax),
    "ArgMin": _position(ops.argmin),
    "Hardmax": _hardmax,
    "LpNormalization": _lp_normal,
    "LogSoftmax": _softmax(ops.log_softmax),
    "ReduceL1": _reduction(lambda x, **k: ops.sum(ops.abs(x), **k)),
    "ReduceL2": _reduction(lambda x, **k: ops.sqrt(ops.sum(ops.square(x), **k))),
    "ReduceLogSum": _reduction(lambda x, **k: ops.log(ops.sum(x, **k))),
    "ReduceLogSumExp": _reduction(_log_sum_exp),
    "ReduceMax": _reduction(_extreme(ops.max, True)),
    "ReduceMean": _reduction(ops.mean),
    "ReduceMin": _reduction(_extreme(ops.min, False)),
    "ReduceProd": _reduction(ops.prod),
    "ReduceSum": _reduction(ops.sum, since=13),
    "ReduceSumSquare": _reduction(lambda x, **k: ops.sum(ops.square(x), **k)),
    "Softmax": _softmax(ops.softmax),
}
