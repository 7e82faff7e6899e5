"""Matrix products, convolutions and pooling as ONNX nodes; a bias that is added becomes part of them."""

from __future__ import annotations

import math
from typing import Any

from dlc.dims import Dim, DimLike, Shape
from dlc.dtypes import FLOATING
from dlc.frontend.onnx.export_arrays import extremum
from dlc.frontend.onnx.export_elementwise import apply
from dlc.frontend.onnx.writer import Value, Writer, exports
from dlc.ir import Node


@exports("matmul")
def _matmul(w: Writer, node: Node, xs: list[Value]) -> Value:
    return w.op("MatMul", *xs)


def _convolution(node: Node) -> dict[str, Any]:
    """The attributes of ONNX's convolutions; `pads` has all lows before all highs."""
    padding = node.attrs["padding"]
    return {
        "strides": list(node.attrs["stride"]),
        "dilations": list(node.attrs["dilation"]),
        "pads": [low for low, _ in padding] + [high for _, high in padding],
        "group": node.attrs["groups"],
    }


@exports("conv2d")
def _conv2d(w: Writer, node: Node, xs: list[Value]) -> Value:
    return w.op("Conv", *xs, kernel_shape=list(node.inputs[1].shape[2:]), **_convolution(node))


@exports("conv2d_data_gradient")
def _data_gradient(w: Writer, node: Node, xs: list[Value]) -> Value:
    """ConvTranspose; what the strides left over at the high end is padded, and the padding cut off, where named."""
    g, kernel = node.inputs
    rows = zip(*(node.attrs[k] for k in ("shape", "stride", "padding", "dilation")), strict=True)
    over = []
    for d, size, outputs, (_, stride, (low, high), dilation) in zip(
        node.attrs["shape"], kernel.shape[2:], g.shape[2:], rows, strict=True
    ):
        over.append(d + low + high - ((outputs - 1) * stride + dilation * (size - 1) + 1))
    how = _convolution(node) | {"kernel_shape": list(kernel.shape[2:])}
    if not any(isinstance(d, Dim) for d in over):
        return w.op("ConvTranspose", *xs, output_padding=over, **how)
    whole = w.op("ConvTranspose", *xs, **(how | {"pads": [0, 0, 0, 0]}))
    padded = w.op("Pad", whole, w.dims((0, 0, 0, 0, 0, 0, *over)))
    lows = [low for low, _ in node.attrs["padding"]]
    ends = [low + d for low, d in zip(lows, node.attrs["shape"], strict=True)]
    return w.op("Slice", padded, w.ints(*lows), w.dims(ends), w.ints(2, 3))


@exports("conv2d_weight_gradient")
def _weight_gradient(w: Writer, node: Node, xs: list[Value]) -> Value:
    """A convolution of the images by the cotangents, whose strides and dilations have changed places.

    The batch is what is summed over, as the channels are in a convolution: x becomes [C/groups, groups*N, H, W], g the
    kernels [O, N, OH, OW].
    """
    x = node.inputs[0]
    groups, (batch, channels, *dims) = node.attrs["groups"], x.shape
    each: DimLike = channels // groups
    images = xs[0]
    if groups > 1:
        split: Shape = (batch, groups, each, *dims)
        images = w.transpose(w.reshape(images, x.shape, split), (2, 1, 0, 3, 4))
        images = w.reshape(images, (each, groups, batch, *dims), (each, groups * batch, *dims))
    else:
        images = w.transpose(images, (1, 0, 2, 3))
    how = _convolution(node)
    how["strides"], how["dilations"] = how["dilations"], how["strides"]
    found = w.op("Conv", images, w.transpose(xs[1], (1, 0, 2, 3)), **how)  # [C/groups, O, KH or more, KW or more]
    cut = w.op("Slice", found, w.ints(0, 0), w.ints(*node.attrs["size"]), w.ints(2, 3))
    return w.transpose(cut, (1, 0, 2, 3))


# ---------------------------------------------------------------- with a bias


def _bias_of(node: Node, channels: DimLike, ndim: int) -> Node | None:
    """The vector that `node` lays along the axis of channels, as a convolution's bias is added."""
    laid = (channels, *(1,) * (ndim - 2))
    if node.op.name == "reshape" and node.shape in (laid, (1, *laid)) and node.inputs[0].shape == (channels,):
        return node.inputs[0]
    return None


def _bias_first(node: Node) -> tuple[Node, Node] | None:
    """The product and the other operand of a sum that has a product."""
    a, b = node.inputs
    for x, other in ((a, b), (b, a)):
        if x.op.name in ("matmul", "conv2d") and x.type == node.type and x.dtype in FLOATING:
            return x, other
    return None


@exports("add")
def _add(w: Writer, node: Node, xs: list[Value]) -> Value:
    """A sum; with a product, Gemm or Conv. The product alone is dropped at the end where nothing else reads it."""
    found = _bias_first(node)
    if found is not None:
        x, other = found
        if x.op.name == "matmul" and x.type.ndim == 2 and other.type.ndim == 1:
            return _gemm(w, x, w.values[other])
        bias = _bias_of(other, node.shape[1], node.type.ndim) if x.op.name == "conv2d" else None
        if bias is not None and bias in w.values:
            operands = [w.values[x.inputs[0]], w.values[x.inputs[1]], w.values[bias]]
            return w.op("Conv", *operands, kernel_shape=list(x.inputs[1].shape[2:]), **_convolution(x))
    return apply(w, "Add", node.dtype, *xs)


def _gemm(w: Writer, product: Node, bias: Value) -> Value:
    """Gemm reads a matrix either way round, so that weights stay as they are stored."""
    operands, flags = [], {}
    for x, flag in zip(product.inputs, ("transA", "transB"), strict=True):
        turned = x.op.name == "permute_dims" and x.inputs[0] in w.values
        operands.append(w.values[x.inputs[0] if turned else x])
        if turned:
            flags[flag] = 1
    return w.op("Gemm", *operands, bias, **flags)


# ---------------------------------------------------------------- pooling


@exports("max")
def _max(w: Writer, node: Node, xs: list[Value]) -> Value:
    """MaxPool where the maximum is over all windows of the trailing axes of images."""
    seen = node.inputs[0]
    if seen.op.name != "windows" or seen.dtype not in FLOATING:
        return extremum(w, node, xs)
    images = seen.inputs[0]
    rank = images.type.ndim
    axes = seen.attrs["axes"]
    over_all = node.attrs["axes"] == tuple(range(rank, rank + len(axes)))
    if not over_all or axes != tuple(range(2, rank)) or not 3 <= rank <= 5 or images not in w.values:
        return extremum(w, node, xs)
    pads = _pads(images, seen.attrs["sizes"]) if images.inputs and images.inputs[0] in w.values else None
    source = images.inputs[0] if pads else images
    how: dict[str, Any] = {"strides": list(seen.attrs["strides"]), "dilations": list(seen.attrs["dilations"])}
    if pads:
        how["pads"] = pads
    return w.op("MaxPool", w.values[source], kernel_shape=list(seen.attrs["sizes"]), **how)


def _pads(node: Node, sizes: tuple[int, ...]) -> list[int] | None:
    """The widths of padding by -inf around the trailing axes, where MaxPool takes them."""
    if node.op.name != "pad" or node.attrs["value"] != -math.inf or any(node.attrs["interior"]):
        return None
    low, high = node.attrs["low"], node.attrs["high"]
    inner = (*low[2:], *high[2:])
    plain = all(isinstance(p, int) for p in (*low, *high)) and not any((*low[:2], *high[:2]))
    return list(inner) if plain and all(p < s for p, s in zip(inner, sizes * 2, strict=True)) else None

