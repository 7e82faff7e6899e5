"""Operators that draw random numbers: by dlc's generator, so other numbers than those of other runtimes.

What is drawn depends on the program's seed and step, as everywhere in dlc, on the place of the node in the file and on
the steps of the loops around it. A node that has a seed of its own draws by that in place of the program's.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dlc import ops
from dlc.dims import Dim
from dlc.dtypes import FLOATING
from dlc.errors import FileFormatError
from dlc.frontend.onnx.arrays import dtype_of
from dlc.frontend.onnx.call import Call, Importer
from dlc.ops.leaves import SEED
from dlc.ops.tensor import Tensor

GOLDEN = 0x9E3779B97F4A7C15  # 2^64 over the golden ratio: seeds of the steps of a loop lie far apart


def _key(c: Call) -> dict[str, Any]:
    """The site, and the seed where it is not the program's."""
    given = c.attributes.get("seed")
    c.read.add("seed")
    seed = SEED if given is None else ops.scalar(_seed(c, given), "uint64")
    for number in c.turns:
        seed = (seed + ops.astype(number, "uint64") + 1) * ops.scalar(GOLDEN, "uint64")
    return {"site": f"onnx/{c.place}#{c.ordinal}", "seed": seed}


def _seed(c: Call, given: Any) -> int:
    """Whole numbers as they are, others by their bits."""
    if not isinstance(given, (int, float)):
        raise FileFormatError(f"{c.place}: the seed is a number")
    if isinstance(given, float):
        given = int(given) if given.is_integer() else int(np.float64(given).view(np.uint64))
    return given % 2**64


def _floating(c: Call, default: str) -> str:
    number = c.int("dtype")
    dtype = default if number is None else dtype_of(number, c.place)
    if dtype not in FLOATING:
        raise FileFormatError(f"{c.place}: it draws floating-point numbers, not {dtype}")
    return dtype


def _spread(c: Call, shape: Any, dtype: str) -> Tensor:
    """Uniform or normal numbers, as the operator's name says."""
    if "Uniform" in c.operator:
        return ops.uniform(shape, c.float("low", 0.0), c.float("high", 1.0), dtype, **_key(c))
    return ops.normal(shape, c.float("mean", 0.0), c.float("scale", 1.0), dtype, **_key(c))


def _random(c: Call) -> Tensor:
    shape = c.ints("shape")
    if shape is None or any(d < 0 for d in shape):
        raise FileFormatError(f"{c.place}: the shape is {shape}")
    return _spread(c, shape, _floating(c, "float32"))


def _random_like(c: Call) -> Tensor:
    return _spread(c, c[0].shape, _floating(c, c[0].dtype))


def _bernoulli(c: Call) -> Tensor:
    p, number = c[0], c.int("dtype")
    if p.dtype not in FLOATING:
        raise FileFormatError(f"{c.place}: the probabilities are {p.type}")
    return ops.astype(ops.bernoulli(p, **_key(c)), p.dtype if number is None else dtype_of(number, c.place))


def _multinomial(c: Call) -> Tensor:
    """Classes [N, samples] of unnormalised logarithms [N, C]: the first at which the sums of shares pass a draw."""
    x, count, dtype = c[0], c.int("sample_size", 1), dtype_of(c.int("dtype", 6), c.place)
    if x.ndim != 2 or x.dtype not in FLOATING or count < 1 or dtype not in ("int32", "int64"):
        raise FileFormatError(f"{c.place}: {count} classes as {dtype} cannot be drawn from {x.type}")
    if isinstance(x.shape[1], Dim) or x.shape[1] == 0:
        raise c.unsupported(f"draws from {x.type}, of classes whose number is open or 0")
    wide = ops.astype(x, "float64")
    sums = ops.cumulative_sum(ops.exp(wide - ops.max(wide, axis=1, keepdims=True)), 1)
    drawn = ops.uniform((x.shape[0], count), dtype="float64", **_key(c)) * sums[:, -1:]
    passed = ops.less_equal(ops.expand_dims(sums, 1), ops.expand_dims(drawn, 2))
    found = ops.sum(ops.astype(passed, "int64"), axis=2)
    last = ops.argmax(sums, axis=1, keepdims=True)  # that has a share: rounding may pass all sums
    return ops.astype(ops.minimum(found, last), dtype)


def _dropout(c: Call) -> list[Tensor]:
    """Outside of training the identity, with a mask that is true."""
    x = c[0]
    c.read.update(("seed", "is_test"))
    mask_dtype = "bool" if c.opset >= 10 else x.dtype
    known = c.known(2) if c.has(2) else np.array(False)
    if known is not None and known.size != 1:
        raise FileFormatError(f"{c.place}: training_mode is one bool")
    if c.opset < 12:
        c.float("ratio", 0.5)
    elif c.has(1) and c[1].type.shape not in ((), (1,)):
        raise FileFormatError(f"{c.place}: the ratio is {c[1].type}")
    if known is not None and not known.item():
        return [x, ops.ones_like(x, dtype=mask_dtype)]
    if x.dtype not in FLOATING:
        raise FileFormatError(f"{c.place}: {x.type} cannot be scaled")
    kept = 1.0 - ops.astype(ops.reshape(c[1], ()), x.dtype) if c.has(1) else ops.scalar(0.5, x.dtype)
    mask = ops.bernoulli(kept, x.shape, **_key(c))
    y = ops.where(mask, x / kept, ops.zeros_like(x))
    if known is None:
        training = ops.reshape(c[2], ())
        y, mask = ops.where(training, y, x), ops.logical_or(ops.logical_not(training), mask)
    return [y, ops.astype(mask, mask_dtype)]


DRAWS: dict[str, Importer] = {
    "Bernoulli": _bernoulli,
    "Dropout": _dropout,
    "Multinomial": _multinomial,
    "RandomNormal": _random,
    "RandomNormalLike": _random_like,
    "RandomUniform": _random,
    "RandomUniformLike": _random_like,
}
