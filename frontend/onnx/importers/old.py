"""What opsets before 7 said otherwise: operands that broadcast from an axis on, dtypes by name."""

from __future__ import annotations

from dlc import ops
from dlc.frontend.onnx.call import Call
from dlc.ops.tensor import Tensor


def pair(c: Call) -> tuple[Tensor, Tensor]:
    """Two operands. Before opset 7 the second was aligned with an axis of the first, where `broadcast` said so."""
    a, b = c[0], c[1]
    if c.opset >= 7:
        return a, b
    axis = c.int("axis") if c.int("broadcast", 0) else None
    if axis is None or b.ndim == 0:
        return a, b
    axis = axis + a.ndim if axis < 0 else axis
    trailing = a.ndim - axis - b.ndim
    if trailing < 0 or axis < 0:
        raise c.unsupported(f"{b.type} along axis {axis} of {a.type}")
    return a, ops.reshape(b, (*b.shape, *[1] * trailing))
