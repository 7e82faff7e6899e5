"""Products, convolution and normalisation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dlc import ops
from dlc.dims import Dim
from dlc.dtypes import FLOATING
from dlc.errors import FileFormatError
from dlc.frontend.onnx.call import Call, Importer
from dlc.frontend.onnx.importers.quantised import quantised_convolutions
from dlc.ops.tensor import Tensor

Pads = list[tuple[int, int]]


def _product(a: Tensor, b: Tensor) -> Tensor:
    """The product of matrices, whose numbers may be integers: those wrap."""
    if a.dtype in FLOATING or a.dtype != b.dtype:
        return ops.matmul(a, b)
    rows, columns = (a if a.ndim > 1 else ops.expand_dims(a, 0)), (b if b.ndim > 1 else ops.expand_dims(b, 1))
    terms = ops.expand_dims(rows, -1) * ops.expand_dims(columns, -3)
    y = ops.astype(ops.sum(terms, axis=-2), a.dtype)
    return ops.squeeze(y, tuple(axis for axis, t in ((-2, a), (-1, b)) if t.ndim == 1))


def _gemm(c: Call) -> Tensor:
    a, b = c[0], c[1]
    c.read.add("broadcast")  # before opset 7
    y = _product(
        ops.matrix_transpose(a) if c.int("transA", 0) else a, ops.matrix_transpose(b) if c.int("transB", 0) else b
    )
    alpha, beta = c.float("alpha", 1.0), c.float("beta", 1.0)
    y = y if alpha == 1.0 else y * alpha
    return y + (c[2] if beta == 1.0 else c[2] * beta) if c.has(2) else y


def spatial(c: Call, name: str, rank: int, default: int = 1) -> list[int]:
    values = c.ints(name, [default] * rank)
    assert values is not None
    if len(values) != rank or any(v < 1 for v in values):
        raise FileFormatError(f"{c.place}: {name} must be {rank} ints of at least 1, not {values[:8]}")
    return values


def padding(c: Call, dims: Any, sizes: list[int], strides: list[int], gaps: list[int]) -> Pads:
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


CONVOLUTIONS: dict[int, Callable[..., Tensor]] = {1: ops.conv1d, 2: ops.conv2d, 3: ops.conv3d}
TRANSPOSED: dict[int, Callable[..., Tensor]] = {
    1: ops.conv_transpose1d,
    2: ops.conv_transpose2d,
    3: ops.conv_transpose3d,
}


def _kernel(c: Call, x: Tensor, w: Tensor) -> tuple[list[int], list[int], list[int], int]:
    """Sizes, strides, dilations and groups of a convolution over 1 to 3 axes."""
    rank = x.ndim - 2
    if rank not in CONVOLUTIONS:
        raise c.unsupported(f"a convolution of {x.type}")
    sizes = [d for d in w.shape[2:] if isinstance(d, int)]
    if len(sizes) != rank:
        raise FileFormatError(f"{c.place}: the kernel {w.type} does not fit {x.type}")
    if c.ints("kernel_shape", sizes) != sizes:
        raise FileFormatError(f"{c.place}: kernel_shape differs from the kernel {w.type}")
    groups = c.int("group", 1)
    if groups < 1:
        raise FileFormatError(f"{c.place}: group is {groups}, but must be at least 1")
    return sizes, spatial(c, "strides", rank), spatial(c, "dilations", rank), groups


def _convolved(c: Call, x: Tensor, w: Tensor, bias: Tensor | None) -> Tensor:
    sizes, strides, gaps, groups = _kernel(c, x, w)
    pads = padding(c, x.shape[2:], sizes, strides, gaps)
    y = CONVOLUTIONS[len(sizes)](x, w, tuple(strides), tuple(pads), tuple(gaps), groups)
    return y if bias is None else y + ops.reshape(bias, (1, -1, *[1] * len(sizes)))


def _transposed(c: Call) -> Tensor:
    x, w = c[0], c[1]
    sizes, strides, gaps, groups = _kernel(c, x, w)
    rank, mode = len(sizes), c.text("auto_pad", "NOTSET")
    over, wanted = c.ints("output_padding", [0] * rank), c.ints("output_shape")
    assert over is not None
    if len(over) != rank or any(o < 0 for o in over):
        raise FileFormatError(f"{c.place}: output_padding must be {rank} ints of at least 0, not {over[:8]}")
    if wanted is None and mode in ("NOTSET", "VALID"):
        pads = padding(c, x.shape[2:], sizes, strides, gaps)
    else:
        c.read.add("pads")
        shape = [d * s for d, s in zip(x.shape[2:], strides, strict=True)] if wanted is None else wanted[-rank:]
        how = zip(x.shape[2:], sizes, strides, gaps, over, shape, strict=True)
        totals: list[Any] = [(d - 1) * s + gap * (n - 1) + 1 + o - want for d, n, s, gap, o, want in how]
        if any(isinstance(t, Dim) for t in totals):
            raise c.unsupported(f"a given shape of a result whose operand is {x.type}")
        over = [o + max(0, -t) for o, t in zip(over, totals, strict=True)]
        totals = [max(0, t) for t in totals]
        pads = [(t // 2, t - t // 2) if mode == "SAME_UPPER" else (t - t // 2, t // 2) for t in totals]
    y = TRANSPOSED[rank](x, w, tuple(strides), tuple(pads), tuple(over), groups, tuple(gaps))
    return y + ops.reshape(c[2], (1, -1, *[1] * rank)) if c.has(2) else y


def _batch_norm(c: Call) -> list[Tensor]:
    """In training mode also the running mean and variance after this batch, whose variance is the biased one."""
    c.read.add("is_test")  # before opset 7
    x, momentum = c[0], c.float("momentum", 0.9)
    each = c.opset < 9 and not c.int("spatial", 1)  # statistics of each element of a sample, not of each channel
    column = (1, *x.shape[1:]) if each else (1, -1, *[1] * (x.ndim - 2))
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


def _local_response(c: Call) -> Tensor:
    """Over an odd number of channels; an even one reaches further to the other side than that of ops."""
    x, size = c[0], c.int("size", 1)
    alpha, beta, bias = c.float("alpha", 1e-4), c.float("beta", 0.75), c.float("bias", 1.0)
    if size < 1 or size % 2 == 0:
        raise c.unsupported(f"a local response over {size} channels")
    return ops.local_response_norm(x, size, alpha=alpha, beta=beta, k=bias)


LAYERS: dict[str, Importer] = {
    "BatchNormalization": _batch_norm,
    "Conv": lambda c: _convolved(c, c[0], c[1], c[2] if c.has(2) else None),
    "ConvTranspose": _transposed,
    "Gemm": _gemm,
    "InstanceNormalization": lambda c: ops.instance_norm(c[0], c[1], c[2], eps=c.float("epsilon", 1e-5)),
    "LRN": _local_response,
    "LayerNormalization": _layer_norm,
    **quantised_convolutions(_convolved),
    "MatMul": lambda c: _product(c[0], c[1]),
}
