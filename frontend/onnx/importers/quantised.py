"""Numbers of 8 to 32 bits that stand for others by a scale and a zero point."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlc import ops
from dlc.dims import Dim
from dlc.dtypes import INTEGER
from dlc.errors import FileFormatError
from dlc.frontend.onnx.arrays import dtype_of
from dlc.frontend.onnx.call import Call, Importer
from dlc.ops.tensor import Tensor


def _spread(c: Call, p: Tensor, x: Tensor) -> Tensor:
    """A scale or zero point in the shape of `x`: one of all, one for each place of an axis, or one for each block."""
    axis, block = c.int("axis", 1), c.int("block_size", 0)
    if p.ndim == 0 or x.ndim == 0:
        return p
    if not -x.ndim <= axis < x.ndim:
        if p.shape == (1,):
            return ops.reshape(p, ())
        raise FileFormatError(f"{c.place}: {x.type} has no axis {axis}")
    axis %= x.ndim
    if block:
        size = x.shape[axis]
        if isinstance(size, Dim) or p.ndim != x.ndim or block < 0:
            raise c.unsupported(f"blocks of {block} along axis {axis} of {x.type}")
        return ops.repeat(p, block, axis=axis)[(*[slice(None)] * axis, slice(0, size))]
    return ops.reshape(p, [-1 if a == axis else 1 for a in range(x.ndim)]) if p.ndim == 1 else p


def quantised(c: Call, y: Tensor, dtype: str) -> Tensor:
    """Rounded to the nearest even number and clamped to what the dtype holds."""
    if dtype not in INTEGER:
        raise c.unsupported(f"quantisation to {dtype}")
    ends = np.iinfo(dtype)
    return ops.astype(ops.minimum(ops.maximum(y, float(ends.min)), float(ends.max)), dtype)


def _quantise(c: Call) -> Tensor:
    c.read.update(("saturate", "precision"))
    x = c[0] if c[0].dtype in ("float32", "float64") else ops.astype(c[0], "float32")
    number = c.int("output_dtype", 0)
    dtype = c[2].dtype if c.has(2) else dtype_of(number, c.place) if number else "uint8"
    y = ops.round(x / _spread(c, c[1], x))
    return quantised(c, y + ops.astype(_spread(c, c[2], x), x.dtype) if c.has(2) else y, dtype)


def _dequantise(c: Call) -> Tensor:
    c.read.add("output_dtype")
    x, scale = c[0], _spread(c, c[1], c[0])
    wide = ops.astype(x, "int32" if x.dtype not in ("uint32", "int64") else "int64")
    if c.has(2):
        wide = wide - ops.astype(_spread(c, c[2], x), wide.dtype)
    return ops.astype(wide, scale.dtype) * scale


def _centred(c: Call, number: int, zero: int, column: bool = False) -> Tensor:
    """An operand as float64, in which products of 8-bit numbers are exact, less its zero point."""
    x = ops.astype(c[number], "float64")
    if not c.has(zero):
        return x
    z = ops.astype(c[zero], "float64")
    return x - (ops.reshape(z, (-1, *[1] * (x.ndim - 1))) if column and z.ndim == 1 else z)


def _product_of_integers(c: Call) -> Tensor:
    rows = _centred(c, 0, 2, column=c[0].ndim == 2)
    return ops.astype(ops.matmul(rows, _centred(c, 1, 3)), "int32")


def _scaled(c: Call, y: Tensor, scales: Tensor, scale: int) -> Tensor:
    """A sum of products, of these scales, in the scale and about the zero point of the result."""
    zero = c[scale + 1]
    real = ops.round(y * (scales / ops.astype(c[scale], "float64")))
    return quantised(c, real + ops.astype(zero, "float64"), zero.dtype)


def _quantised_product(c: Call) -> Tensor:
    a, b = (ops.astype(c[i], "float64") - ops.astype(c[i + 2], "float64") for i in (0, 3))
    scales = ops.astype(c[1], "float64") * ops.astype(c[4], "float64")
    return _scaled(c, ops.matmul(a, b), scales, 6)


def quantised_convolutions(convolve: Any) -> dict[str, Importer]:
    """ConvInteger and QLinearConv, by the convolution of floats."""

    def integers(c: Call) -> Tensor:
        return ops.astype(convolve(c, _centred(c, 0, 2), _centred(c, 1, 3, column=True), None), "int32")

    def scaled(c: Call) -> Tensor:
        x, w = _centred(c, 0, 2), _centred(c, 3, 5, column=True)
        column = (-1, *[1] * (x.ndim - 2))
        scales = ops.astype(c[1], "float64") * ops.astype(c[4], "float64")
        bias = ops.astype(c[8], "float64") if c.has(8) else None
        return _scaled(c, convolve(c, x, w, bias), ops.reshape(scales, column) if scales.ndim else scales, 6)

    return {"ConvInteger": integers, "QLinearConv": scaled}


QUANTISED: dict[str, Importer] = {
    "DequantizeLinear": _dequantise,
    "MatMulInteger": _product_of_integers,
    "QLinearMatMul": _quantised_product,
    "QuantizeLinear": _quantise,
}
