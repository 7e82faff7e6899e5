"""Products, convolution, pooling and normalisation."""

from __future__ import annotations

import math
from typing import Any

from dlc import ops
from dlc.dims import Dim
from dlc.dtypes import FLOATING
from dlc.errors import FileFormatError
from dlc.frontend.onnx.call import Call, Importer
from dlc.ops.tensor import Tensor

Pads = list[tuple[int, int]]


def _gemm(c: Call) -> Tensor:
    a, b = c[0], c[1]
    c.read.add("broadcast")  # before opset 7
    y = ops.matmul(
        ops.matrix_transpose(a) if c.int("transA", 0) else a, ops.matrix_transpose(b) if c.int("transB", 0) else b
    )
    alpha, beta = c.float("alpha", 1.0), c.float("beta", 1.0)
    y = y if alpha == 1.0 else y * alpha
    return y + (c[2] if beta == 1.0 else c[2] * beta) if c.has(2) else y


def _spatial(c: Call, name: str, rank: int, default: int = 1) -> list[int]:
    values = c.ints(name, [default] * rank)
    assert values is not None
    if len(values) != rank or any(v < 1 for v in values):
        raise FileFormatError(f"{c.place}: {name} must be {rank} ints of at least 1, not {values[:8]}")
    return values


def _padding(c: Call, dims: Any, sizes: list[int], strides: list[int], gaps: list[int]) -> Pads:
    rank, mode = len(sizes), c.text("auto_pad", "NOTSET")
    given = c.ints("pads", [0] * (2 * rank))
    assert given is not None
    if mode in ("NOTSET", "VALID"):
        given = given if mode == "NOTSET" else [0] * (2 * rank)
        if len(given) != 2 * rank or any(p < 0 for p in given):
            raise FileFormatError(f"{c.place}: pads must be {2 * rank} ints of at least 0, not {given[:8]}")
        return list(zip(given[:rank], given[rank:], strict=True))
    if mode not in ("SAME_UPPER", "SAME_LOWER"):
        raise FileFormatError(f"{c.place}: there is no auto_pad {mode!r:.40}")
    pads = []
    for d, size, stride, gap in zip(dims, sizes, strides, gaps, strict=True):
        reach = gap * (size - 1)
        if isinstance(d, Dim) and stride != 1:
            raise c.unsupported(f"auto_pad with a stride of {stride} over the named dim {d}")
        total = reach if stride == 1 else max((-(-d // stride) - 1) * stride + reach + 1 - d, 0)
        less = total // 2
        pads.append((less, total - less) if mode == "SAME_UPPER" else (total - less, less))
    return pads


def _convolution(c: Call) -> Tensor:
    """One axis is computed as two, the first of length 1."""
    x, w = c[0], c[1]
    rank = x.ndim - 2
    if rank not in (1, 2):
        raise c.unsupported(f"a convolution of {x.type}")
    sizes = [d for d in w.shape[2:] if isinstance(d, int)]
    if len(sizes) != rank:
        raise FileFormatError(f"{c.place}: the kernel {w.type} does not fit {x.type}")
    strides, gaps = _spatial(c, "strides", rank), _spatial(c, "dilations", rank)
    pads = _padding(c, x.shape[2:], sizes, strides, gaps)
    if c.ints("kernel_shape", sizes) != sizes:
        raise FileFormatError(f"{c.place}: kernel_shape differs from the kernel {w.type}")
    groups = c.int("group", 1)
    if groups < 1:
        raise FileFormatError(f"{c.place}: group is {groups}, but must be at least 1")
    if rank == 1:
        x, w, pads = ops.expand_dims(x, 2), ops.expand_dims(w, 2), [(0, 0), *pads]
        strides, gaps = [1, *strides], [1, *gaps]
    y = ops.conv2d(x, w, tuple(strides), tuple(pads), tuple(gaps), groups)
    y = ops.squeeze(y, 2) if rank == 1 else y
    return y + ops.reshape(c[2], (1, -1, *[1] * rank)) if c.has(2) else y


def _transposed(c: Call) -> Tensor:
    """The adjoint of a convolution; what output_padding adds beyond the stride no element reaches."""
    x, w = c[0], c[1]
    rank = x.ndim - 2
    sizes = [d for d in w.shape[2:] if isinstance(d, int)]
    if rank not in (1, 2) or len(sizes) != rank or c.ints("output_shape") or c.text("auto_pad", "NOTSET") != "NOTSET":
        raise c.unsupported(f"a transposed convolution of {x.type} by {w.type} with these attributes")
    strides, gaps = _spatial(c, "strides", rank), _spatial(c, "dilations", rank)
    pads = _padding(c, x.shape[2:], sizes, strides, gaps)
    over, groups = c.ints("output_padding", [0] * rank), c.int("group", 1)
    assert over is not None
    if c.ints("kernel_shape", sizes) != sizes or groups < 1 or len(over) != rank or any(o < 0 for o in over):
        raise FileFormatError(f"{c.place}: the attributes do not fit the kernel {w.type}")
    extra = [o if o >= s else 0 for o, s in zip(over, strides, strict=True)]
    how = zip(x.shape[2:], sizes, strides, gaps, pads, over, extra, strict=True)
    shape = [(d - 1) * s + gap * (n - 1) + 1 - low - high + o - e for d, n, s, gap, (low, high), o, e in how]
    if rank == 1:
        x, w, pads = ops.expand_dims(x, 2), ops.expand_dims(w, 2), [(0, 0), *pads]
        strides, gaps, shape, extra = [1, *strides], [1, *gaps], [1, *shape], [0, *extra]
    y = ops.conv2d_data_gradient(x, w, tuple(shape), tuple(strides), tuple(pads), tuple(gaps), groups)
    y = ops.pad(y, [(0, 0), (0, 0), *((0, e) for e in extra)])
    y = ops.squeeze(y, 2) if rank == 1 else y
    return y + ops.reshape(c[2], (1, -1, *[1] * rank)) if c.has(2) else y


def _windows(c: Call, fill: float) -> tuple[Tensor, Tensor, tuple[int, ...]]:
    """The windows of an operand, those of ones in its place (0 where padded), and the windows' axes."""
    x = c[0]
    rank = x.ndim - 2
    if rank < 1 or x.dtype not in FLOATING:
        raise c.unsupported(f"pooling of {x.type}")
    if c.int("ceil_mode", 0):
        raise c.unsupported("pooling with ceil_mode=1")
    sizes, strides = _spatial(c, "kernel_shape", rank), _spatial(c, "strides", rank)
    gaps = _spatial(c, "dilations", rank)
    pads = [(0, 0), (0, 0), *_padding(c, x.shape[2:], sizes, strides, gaps)]
    axes = tuple(range(2, x.ndim))
    padded = (ops.pad(x, pads, value=fill), ops.pad(ops.ones_like(x), pads))
    seen, ones = (ops.windows(t, axes, sizes, strides, gaps) for t in padded)
    return seen, ones, tuple(range(x.ndim, x.ndim + rank))


def _max_pool(c: Call) -> Tensor:
    if c.results > 1:
        raise c.unsupported("the positions of a max-pooling (its second result)")
    c.read.add("storage_order")  # of those positions only
    seen, _, axes = _windows(c, -math.inf)
    return ops.max(seen, axis=axes)


def _average_pool(c: Call) -> Tensor:
    seen, ones, axes = _windows(c, 0.0)
    if c.int("count_include_pad", 0):
        return ops.mean(seen, axis=axes)
    return ops.sum(seen, axis=axes) / ops.sum(ones, axis=axes)


def _batch_norm(c: Call) -> list[Tensor]:
    """In training mode also the running mean and variance after this batch, whose variance is the biased one."""
    c.read.update(("is_test", "spatial"))  # before opset 7 and 9
    x, momentum = c[0], c.float("momentum", 0.9)
    column = (1, -1, *[1] * (x.ndim - 2))
    scale, bias, mean, var = (ops.reshape(c[i], column) for i in range(1, 5))
    running: list[Tensor] = []
    if c.int("training_mode", 0):
        axes = (0, *range(2, x.ndim))
        seen = ops.mean(x, axis=axes, keepdims=True), ops.var(x, axis=axes, keepdims=True)
        blends = zip((mean, var), seen, strict=True)
        running = [ops.reshape(old * momentum + new * (1.0 - momentum), (-1,)) for old, new in blends]
        mean, var = seen
    elif c.results > 1:
        raise c.unsupported("the statistics of batch normalisation in inference mode")
    return [(x - mean) / ops.sqrt(var + c.float("epsilon", 1e-5)) * scale + bias, *running]


def _dropout(c: Call) -> list[Tensor]:
    """Inference only, where it is the identity and its mask is true; or in training mode with a ratio of 0."""
    c.read.update(("seed", "is_test"))
    training = c.has(2) and bool(c.static(2).any())
    ratio = (float(c.static(1).item()) if c.has(1) else 0.5) if c.opset >= 12 else c.float("ratio", 0.5)
    if training and ratio != 0.0:
        raise c.unsupported("dropout in training mode")
    return [c[0], ops.ones_like(c[0], dtype="bool" if c.opset >= 10 else c[0].dtype)]


def _layer_norm(c: Call) -> list[Tensor]:
    x, axis = c[0], c.int("axis", -1)
    if not -x.ndim <= axis < x.ndim:
        raise FileFormatError(f"{c.place}: {x.type} has no axis {axis}")
    c.read.add("stash_type")
    axes = tuple(range(axis % x.ndim, x.ndim))
    mean = ops.mean(x, axis=axes, keepdims=True)
    centred = x - mean
    deviation = ops.sqrt(ops.mean(ops.square(centred), axis=axes, keepdims=True) + c.float("epsilon", 1e-5))
    y = centred / deviation * c[1]
    return [y + c[2] if c.has(2) else y, mean, 1.0 / deviation]


LAYERS: dict[str, Importer] = {
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Conv": _convolution,
    "ConvTranspose": _transposed,
    "Dropout": _dropout,
    "Gemm": _gemm,
    "GlobalAveragePool": lambda c: ops.global_avg_pool(c[0]),
    "GlobalMaxPool": lambda c: ops.global_max_pool(c[0]),
    "LayerNormalization": _layer_norm,
    "MatMul": lambda c: ops.matmul(c[0], c[1]),
    "MaxPool": _max_pool,
}
