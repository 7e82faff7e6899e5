"""Forms of ONNX's operators, each with the opsets that have it: what was an attribute became an operand, and so on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import helper

RNG = np.random.default_rng(7)
X = RNG.standard_normal((2, 3, 4)).astype("f")
IMAGE = RNG.standard_normal((2, 3, 7, 6)).astype("f")
FOUR = RNG.standard_normal((2, 4, 5, 5)).astype("f")
POSITIVE = (np.abs(X) + 0.5).astype("f")
UNIT = np.tanh(X).astype("f")
INTS = RNG.integers(-9, 9, (3, 4))
FAR = np.iinfo(np.int64).max


@dataclass
class Form:
    """A node, with its operands (None for those left out; those in `fixed` are constants) and attributes."""

    operator: str
    operands: tuple[Any, ...]
    since: int
    until: int
    dtypes: tuple[str, ...]
    fixed: tuple[int, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    tolerance: float = 1e-5
    by: str = "either"  # who says what is right: ONNX Runtime, onnx's reference, or who of them can


def form(
    operator: str, *operands: Any, since: int = 7, until: int = 99, to: Any = None, fixed: Any = (),
    tolerance: float = 1e-5, by: str = "either", **attributes: Any,
) -> Form:  # fmt: skip
    """`to` are the dtypes of the results, that of the first operand unless said."""
    dtypes = (to,) if isinstance(to, str) else to or (operands[0].dtype.name,)
    arrays = tuple(np.array(a, np.int64) if isinstance(a, (list, int)) else a for a in operands)
    constants = tuple(i for i, a in enumerate(operands) if isinstance(a, (list, int))) + tuple(fixed)
    return Form(operator, arrays, since, until, dtypes, constants, attributes, tolerance, by)


def elementwise() -> Iterator[Form]:
    for name in ("Abs", "Ceil", "Cos", "Exp", "Floor", "Neg", "Reciprocal", "Relu", "Sigmoid", "Sin", "Softplus",
                 "Softsign", "Tan", "Tanh", "Identity", "Selu", "Elu", "HardSigmoid", "LeakyRelu", "Flatten",
                 "Asin", "Acos", "Atan"):  # fmt: skip
        yield form(name, UNIT)
    for name in ("Sinh", "Cosh", "Asinh", "Atanh", "Erf", "Sign", "Shrink"):
        yield form(name, UNIT, since=9)
    for name in ("Log", "Sqrt"):
        yield form(name, POSITIVE)
    yield form("Acosh", POSITIVE + 1, since=9)
    yield form("Round", X * 3, since=11)
    yield form("Celu", X, since=12, alpha=0.7)
    yield form("ThresholdedRelu", X, since=10, alpha=0.3)
    yield form("HardSwish", X * 4, since=14)
    yield form("Mish", X, since=18)
    yield form("Gelu", X, since=20)
    yield form("Gelu", X, since=20, approximate="tanh")
    yield form("Swish", X, since=24, alpha=1.5)
    for name in ("Elu", "LeakyRelu", "Selu", "HardSigmoid"):
        yield form(name, X, alpha=0.3)
    yield form("PRelu", X, RNG.random((3, 1)).astype("f"))
    odd = np.array([np.nan, np.inf, -np.inf, 0.0], "f")
    yield form("IsNaN", odd, since=9, to="bool")
    for how in ({}, {"detect_negative": 0}, {"detect_positive": 0}):
        yield form("IsInf", odd, since=10, to="bool", **how)
    yield from pairs()
    yield from casts()
    low, high = np.array(-0.5, "f"), np.array(0.7, "f")
    yield form("Clip", X, until=10, min=-0.5, max=0.7)
    yield form("Clip", X, until=10, max=0.2)
    for bounds in ((low, high), (low,), (None, high), (high, low), ()):
        yield form("Clip", X, *bounds, since=11)
    yield form("Clip", INTS, np.array(-2), np.array(3), since=12)


def pairs() -> Iterator[Form]:
    row = POSITIVE[0, 0]
    for name in ("Add", "Sub", "Mul", "Div"):
        yield form(name, X, row)
        yield form(name, INTS, INTS[0] * 0 + 4)
    for name in ("Max", "Min", "Sum", "Mean"):
        yield form(name, X, X[::-1].copy(), until=7)
        yield form(name, X, row, X[:1] * 2, since=8)
    for name in ("Max", "Min"):
        yield form(name, INTS.astype("i2"), INTS[0].astype("i2"), since=12)
    yield form("Pow", POSITIVE, row)
    yield form("Pow", POSITIVE, np.array([2, 3, 1, 0]), since=12)
    yield form("Pow", np.abs(INTS), np.array(2.0, "f"), since=12)
    for name in ("Equal", "Greater", "Less"):
        yield form(name, X, row, since=11 if name == "Equal" else 7, to="bool")
        yield form(name, INTS, INTS[::-1].copy(), since=7 if name == "Equal" else 9, to="bool")
    for name in ("GreaterOrEqual", "LessOrEqual"):
        yield form(name, INTS, INTS[::-1].copy(), since=12, to="bool")
    for name in ("And", "Or", "Xor"):
        yield form(name, X > 0, row > 1)
    yield form("Not", X > 0)
    yield form("Where", X > 0, X, row, since=9, to="float32")
    negative = np.array([[-7, 7, -7, 7]])
    yield form("Mod", negative, np.array([3, -3, -3, 3]), since=10)
    yield form("Mod", negative, np.array([3, -3, -3, 3]), since=10, fmod=1)
    yield form("Mod", negative.astype("f") / 2, np.array([3, -3, -3, 3], "f"), since=10, fmod=1)
    for name in ("BitwiseAnd", "BitwiseOr", "BitwiseXor"):
        yield form(name, INTS, INTS[0], since=18)
    yield form("BitwiseNot", INTS, since=18)
    for direction in ("LEFT", "RIGHT"):
        yield form("BitShift", np.array([1, 200, 7], "u1"), np.array([1, 3, 2], "u1"), since=11, direction=direction)


def casts() -> Iterator[Form]:
    whole = np.array([0.0, 1.9, -1.9, 100.2], "f")
    for dtype in ("int32", "float64", "bool", "float16"):
        yield form("Cast", whole, to=dtype, attribute_to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
        yield form("CastLike", whole, np.zeros(1, dtype), since=15, to=dtype)
    yield form("BitCast", INTS, since=26, to="uint64", attribute_to=13)


def shapes() -> Iterator[Form]:
    yield form("Concat", X, X[:, :, :1], axis=2)
    yield form("Concat", X, X[:, :, :1], since=11, axis=-1)
    for axis in (0, 2):
        yield form("Flatten", X, axis=axis)
    yield form("Flatten", X, since=11, axis=-1)
    yield form("Transpose", X)
    yield form("Transpose", X, perm=[1, 2, 0])
    yield form("Shape", X, to="int64")
    yield form("Shape", X, since=15, to="int64", start=1)
    yield form("Shape", X, since=15, to="int64", start=-3, end=-1)
    yield form("Size", X, to="int64")
    yield form("Reshape", X, [0, -1])
    yield form("Reshape", X[:0], [3, 0, 4], since=14, allowzero=1)
    yield form("Expand", X[:, :1], [3, 1], since=8)
    yield form("Tile", X, [1, 2, 3])
    yield form("Squeeze", X[:1, :, :1], until=12)
    yield form("Squeeze", X[:1, :, :1], until=12, axes=[2])
    yield form("Squeeze", X[:1, :, :1], since=11, until=12, axes=[-1])
    yield form("Squeeze", X[:1, :, :1], since=13)
    yield form("Squeeze", X[:1, :, :1], [0, -1], since=13)
    yield form("Unsqueeze", X, until=12, axes=[0, 2])
    yield form("Unsqueeze", X, since=11, until=12, axes=[-1, 1])
    yield form("Unsqueeze", X, [-1, 1], since=13)
    yield form("Slice", X, until=9, starts=[1, -3], ends=[9, -1])
    yield form("Slice", X, until=9, starts=[0], ends=[2], axes=[2])
    yield form("Slice", X, [1, -3], [9, -1], since=10)
    yield form("Slice", X, [3], [-FAR], [2], [-2], since=10)
    yield form("Slice", X, [0, 1], [FAR, 3], [-2, -1], since=10)
    for axis in (0, 2):
        yield form("Split", X, until=12, axis=axis, to=("float32", "float32"))
    yield form("Split", X, until=12, axis=1, split=[1, 2], to=("float32", "float32"))
    yield form("Split", X, since=11, until=12, axis=-1, to=("float32", "float32"))
    yield form("Split", X, [1, 2], since=13, axis=1, to=("float32", "float32"))
    yield form("Split", X, since=13, until=17, axis=2, to=("float32", "float32"))
    yield form("Split", X, since=18, axis=2, num_outputs=3, to=("float32", "float32", "float32"))
    yield from pads()
    for value in (None, np.array([7], np.int32)):
        how = {} if value is None else {"value": helper.make_tensor("v", 6, [1], [7])}
        yield form("ConstantOfShape", [2, 3], since=9, to="float32" if value is None else "int32", **how)
    yield form("Constant", to="float32", value=helper.make_tensor("v", 1, [2], [1.0, 2.0]))
    for name, value, dtype in (("value_float", 1.5, "float32"), ("value_ints", [1, 2], "int64")):
        yield form("Constant", since=12, to=dtype, **{name: value})
    yield form("Range", np.array(1.0, "f"), np.array(4.0, "f"), np.array(0.5, "f"), since=11, fixed=(0, 1, 2))
    yield form("EyeLike", X[0], since=9, k=1)
    for upper in (0, 1):
        yield form("Trilu", X, 1, since=14, upper=upper)
    yield form("DepthToSpace", FOUR, blocksize=2)
    yield form("DepthToSpace", FOUR, since=11, blocksize=2, mode="CRD")
    yield form("SpaceToDepth", FOUR[:, :, :4, :4], blocksize=2)
    yield form("CenterCropPad", X, [5, 2], since=18, axes=[1, 2])
    yield form("Col2Im", RNG.random((1, 8, 9)).astype("f"), [4, 4], [2, 2], since=18)
    yield form("Det", RNG.random((2, 3, 3)).astype("f"), since=11)
    yield form("Einsum", X, X, since=12, equation="bij,bkj->bik")
    yield form("ReverseSequence", X[0], [2, 3, 1, 0], since=10, time_axis=0, batch_axis=1)
    yield form("NonZero", INTS * (INTS > 0), since=9, fixed=(0,))
    yield form("Compress", X, X[0, :, 0] > 0, since=9, axis=1, fixed=(1,))
    yield form("Compress", X, X.reshape(-1) > 0, since=9, fixed=(1,))
    yield form("Unique", INTS, since=11, fixed=(0,), to=("int64",) * 4)
    yield form("Unique", INTS, since=11, until=27, fixed=(0,), to=("int64",) * 4, sorted=0)  # the reference cannot
    yield form("Unique", INTS, since=11, fixed=(0,), to=("int64",) * 4, axis=1)
    yield form("AffineGrid", RNG.random((2, 2, 3)).astype("f"), [2, 3, 4, 5], since=20, align_corners=1)
    for name in ("HannWindow", "HammingWindow", "BlackmanWindow"):
        for periodic in (0, 1):
            yield form(name, 8, since=17, to="float32", periodic=periodic, tolerance=1e-4)


def pads() -> Iterator[Form]:
    widths = [0, 1, 2, 0, 1, 1]
    for mode in ("constant", "edge", "reflect"):
        yield form("Pad", X, until=10, pads=widths, mode=mode, value=1.5)
        yield form("Pad", X, widths, np.array(1.5, "f"), since=11, mode=mode, fixed=(2,))
    yield form("Pad", X, [0, -1, 1, 0, 0, 0], since=11)
    yield form("Pad", INTS, [1, 0, 0, 2], np.array(7), since=11, fixed=(2,))
    yield form("Pad", X, [1, 2, 0, 1], None, [-1, 1], since=18)
    yield form("Pad", X, widths, since=19, mode="wrap")


def reductions() -> Iterator[Form]:
    for name in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare"):
        operator, operand = f"Reduce{name}", 13 if name == "Sum" else 18
        yield form(operator, POSITIVE)
        yield form(operator, POSITIVE, keepdims=0)
        yield form(operator, POSITIVE, until=operand - 1, axes=[0, 2])
        yield form(operator, POSITIVE, since=11, until=operand - 1, axes=[-2], keepdims=0)
        yield form(operator, POSITIVE, [0, -1], since=operand)
        yield form(operator, POSITIVE, [1], since=operand, keepdims=0)
        if name in ("Max", "Mean", "Min", "Prod", "Sum", "LogSumExp"):  # of the others it is no identity
            yield form(operator, POSITIVE, since=operand, noop_with_empty_axes=1)
        yield form(operator, POSITIVE, [], since=operand, noop_with_empty_axes=0)
    for name in ("ReduceMax", "ReduceMin"):
        yield form(name, INTS.astype("i1"), since=12, until=17, axes=[1])
        yield form(name, X > 0, [1], since=20)
    for name in ("ArgMax", "ArgMin"):
        tied = np.array([[1, 3, 3, 1], [2, 2, 2, 2]], "f")
        yield form(name, tied, to="int64")
        yield form(name, tied, to="int64", axis=1, keepdims=0)
        yield form(name, tied, since=11, to="int64", axis=-1)
        yield form(name, tied, since=12, to="int64", axis=1, select_last_index=1)
    for name in ("Softmax", "LogSoftmax", "Hardmax"):
        yield form(name, X)
        yield form(name, X, axis=0)
        yield form(name, X, since=11, axis=-2)
    yield form("LpNormalization", X, p=1, axis=1)
    yield form("LpNormalization", X)
    yield form("MeanVarianceNormalization", FOUR, since=9)


def places() -> Iterator[Form]:
    indices = np.array([[0, 2], [1, 1]])
    yield form("Gather", X, indices, axis=1)
    yield form("Gather", X, -indices, since=11, axis=-1)
    yield form("GatherElements", X, np.array([[[0, -1, 2, 1]]]), since=11, axis=1)
    yield form("GatherND", X, np.array([[0, -1], [1, 2]]), since=11)
    yield form("GatherND", X, np.array([[0], [-1]]), since=12, batch_dims=1)
    rows = np.array([[0, 1, -1, 0]])
    yield form("Scatter", X[0], np.abs(rows), X[1, :1], since=9, until=10)
    yield form("ScatterElements", X[0], rows, X[1, :1], since=11)
    for since, reduction in ((16, "add"), (16, "mul"), (18, "max"), (18, "min")):
        yield form("ScatterElements", X[0], rows, X[1, :1], since=since, reduction=reduction)
        yield form("ScatterND", X, np.array([[0, 1], [-1, 0]]), X[:, 1], since=since, reduction=reduction)
    yield form("ScatterND", X, np.array([[0, 1], [-1, 0]]), X[:, 1], since=11)
    for how in ({}, {"reverse": 1}, {"exclusive": 1}, {"reverse": 1, "exclusive": 1}):
        yield form("CumSum", X, 1, since=11, **how)
        yield form("CumProd", X, 1, since=26, **how)
    tied = np.array([[1, 3, 3, 1], [2, 2, 2, 2]], "f")
    yield form("TopK", tied, until=9, k=2, to=("float32", "int64"))
    yield form("TopK", tied, [2], since=10, to=("float32", "int64"))
    yield form("TopK", INTS, [2], since=11, axis=0, largest=0, to=("int64", "int64"))
    yield form("OneHot", indices, 4, np.array([0.5, 2.0], "f"), since=9, to="float32")
    yield form("OneHot", indices - 2, 4, np.array([0.5, 2.0], "f"), since=11, to="float32", axis=0)


def grams() -> Iterator[Form]:
    """Counts of 1, 2 and 3 numbers side by side, or with up to two left out between."""
    words = np.array([[1, 2, 1, 3, 2], [2, 2, 2, 1, 2]])
    pool = {"ngram_counts": [0, 2, 6], "pool_int64s": [1, 3, 1, 2, 2, 2, 1, 3, 2], "ngram_indexes": [0, 2, 3, 1, 4]}
    how: dict[str, Any] = {**pool, "min_gram_length": 1, "max_gram_length": 3, "to": "float32", "since": 9}
    weights = [0.5, 2.0, 3.0, 4.0, 5.0]
    in_order = {**how, "ngram_indexes": list(range(5))}  # ONNX Runtime takes the weights by the place in the result
    for mode in ("TF", "IDF", "TFIDF"):
        for skip in (0, 2, 9):
            yield form("TfIdfVectorizer", words, mode=mode, max_skip_count=skip, **how)
            yield form("TfIdfVectorizer", words[0], mode=mode, max_skip_count=skip, weights=weights, **in_order)
    yield form("TfIdfVectorizer", words.astype("i4"), mode="TF", max_skip_count=1, **{**how, "min_gram_length": 2})
