"""torch's elementwise functions in dlc."""

from __future__ import annotations

import math
from typing import Any

import dlc
from dlc.dtypes import FLOATING
from dlc.nn import functional as F
from dlc.ops.tensor import Tensor, wrap

from .registry import adapts, refuse, register

register(
    {
        name: getattr(dlc, name)
        for name in (
            "abs", "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "ceil", "copysign", "cos", "cosh", "erf",
            "exp", "exp2", "expm1", "floor", "hypot", "isfinite", "isinf", "isnan", "log", "log10", "log1p", "log2",
            "logaddexp", "logical_and", "logical_not", "logical_or", "logical_xor", "maximum", "minimum", "nextafter",
            "reciprocal", "rsqrt", "sigmoid", "sign", "signbit", "sin", "sinh", "sqrt", "square", "tan", "tanh",
            "trunc",
            "bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_left_shift", "bitwise_right_shift", "floor_divide",
            "remainder", "pow",
        )
    }
)  # fmt: skip


def exchanged(function: Any) -> Any:
    return lambda x, y: function(y, x)


register(
    {
        "positive": dlc.positive,
        "neg": dlc.negative,
        "bitwise_not": dlc.bitwise_invert,
        "true_divide": dlc.divide,
        "div/no_rounding_mode": dlc.divide,
        "div/trunc_rounding": lambda x, y, rounding_mode: dlc.trunc(x / y),
        "div/floor_rounding": lambda x, y, rounding_mode: dlc.floor_divide(x, y),
        "mul": dlc.multiply,
        "eq": dlc.equal,
        "ne": dlc.not_equal,
        "lt": dlc.less,
        "le": dlc.less_equal,
        "gt": dlc.greater,
        "ge": dlc.greater_equal,
        "max/binary": dlc.maximum,
        "min/binary": dlc.minimum,
        "__radd__": exchanged(lambda x, y: x + y),
        "__rdiv__": exchanged(lambda x, y: x / y),
        "__rmul__": exchanged(lambda x, y: x * y),
        "__rmod__": exchanged(lambda x, y: x % y),
        "__rpow__": exchanged(lambda x, y: x**y),
        "__rsub__": exchanged(lambda x, y: x - y),
        "__rand__": exchanged(lambda x, y: x & y),
        "__ror__": exchanged(lambda x, y: x | y),
        "__rxor__": exchanged(lambda x, y: x ^ y),
        "add": lambda x, y, alpha=1: x + y * alpha,
        "sub": lambda x, y, alpha=1: x - y * alpha,
        "rsub": lambda x, y, alpha=1: y - x * alpha,
        "addcmul": lambda x, a, b, value=1: x + value * a * b,
        "addcdiv": lambda x, a, b, value=1: x + value * (a / b),
        "lerp": lambda x, y, weight: x + weight * (y - x),
        "where": lambda x, condition, y: dlc.where(condition, x, y),
        "clamp": lambda x, min=None, max=None: dlc.clip(x, *(alike(v, x) for v in (min, max))),
        "clamp_max": lambda x, bound: dlc.minimum(x, bound),
        "clamp_min": lambda x, bound: dlc.maximum(x, bound),
        "deg2rad": lambda x: x * (math.pi / 180),
        "rad2deg": lambda x: x * (180 / math.pi),
        "erfc": lambda x: 1.0 - dlc.erf(x),
        "frac": lambda x: x - dlc.trunc(x),
        "float_power": lambda x, y: wrap(x).astype("float64") ** (y.astype("float64") if isinstance(y, Tensor) else y),
        "fmod": lambda x, y: x - y * dlc.trunc(x / y),
        "isneginf": lambda x: dlc.isinf(x) & (x < 0),
        "isposinf": lambda x: dlc.isinf(x) & (x > 0),
        "isreal": lambda x: dlc.ones(x.shape, "bool"),
        "logaddexp2": lambda x, y: dlc.logaddexp(x * math.log(2), y * math.log(2)) / math.log(2),
        "real": lambda x: x,
        "conj": lambda x: x,
        "conj_physical": lambda x: x,
        "resolve_conj": lambda x: x,
        "resolve_neg": lambda x: x,
        "clone": lambda x: x,
        "contiguous": lambda x: x,
        "alias_copy": lambda x: x,
        "round": lambda x: dlc.round(x),
        "sgn": dlc.sign,
        "sinc": lambda x: dlc.where(x == 0, 1.0, dlc.sin(x * math.pi) / (dlc.where(x == 0, 1.0, x) * math.pi)),
        "isclose": lambda x, y, rtol=1e-5, atol=1e-8, equal_nan=False: close(x, y, rtol, atol, equal_nan),
        "allclose": lambda x, y, rtol=1e-5, atol=1e-8, equal_nan=False: dlc.all(close(x, y, rtol, atol, equal_nan)),
        "equal": lambda x, y: dlc.all(x == y) if x.shape == y.shape else dlc.constant(False),
        "heaviside": lambda x, y: dlc.where(x == 0, y, dlc.astype(x > 0, x.dtype)),
        "masked_fill": lambda x, mask, value: dlc.where(mask, value, x),
        "special.ndtr": lambda x: 0.5 * (1.0 + dlc.erf(x * math.sqrt(0.5))),
        "special.entr": lambda x: dlc.where(
            x > 0, -x * dlc.log(dlc.where(x > 0, x, 1.0)), dlc.where(x == 0, 0.0, dlc.where(x == x, -math.inf, x))
        ),
        "xlogy": lambda x, y: product_with_log(x, y, dlc.log),
        "special.xlog1py": lambda x, y: product_with_log(x, y, dlc.log1p),
        "fill": lambda x, value: dlc.zeros_like(x) + (value if isinstance(value, Tensor) else float(value)),
        "zeros_like": lambda x, dtype=None: dlc.zeros_like(x, dtype),
        "ones_like": lambda x, dtype=None: dlc.ones_like(x, dtype),
        "full_like": lambda x, value, dtype=None: dlc.full_like(x, value, dtype),
    }
)


def alike(bound: Any, x: Tensor) -> Any:
    """A tensor of integers beside one of floats, which have no common dtype, in that of `x`."""
    return dlc.astype(bound, x.dtype) if isinstance(bound, Tensor) else bound


def product_with_log(x: Any, y: Any, log: Any) -> Tensor:
    """x log(y), and 0 where x is 0, unless y is NaN."""
    x, y = wrap(x), wrap(y)
    product = dlc.where(x == 0, 0.0, x * log(y))
    return dlc.where(dlc.isnan(y), math.nan, product)


def close(x: Tensor, y: Tensor, rtol: float, atol: float, equal_nan: bool) -> Tensor:
    """As torch and NumPy have it: y is what the relative tolerance refers to."""
    near = (x == y) | (dlc.isfinite(y) & (dlc.abs(x - y) <= atol + rtol * dlc.abs(y)))
    return near | (dlc.isnan(x) & dlc.isnan(y)) if equal_nan else near


def ignoring_nan(function: Any) -> Any:
    def adapted(x: Tensor, y: Tensor) -> Tensor:
        return dlc.where(dlc.isnan(y), x, dlc.where(dlc.isnan(x), y, function(x, y)))

    return adapted


register({"fmax": ignoring_nan(dlc.maximum), "fmin": ignoring_nan(dlc.minimum)})


@adapts("logit")
def _(x: Tensor, eps: float | None = None) -> Tensor:
    z = x if eps is None else dlc.clip(x, eps, 1 - eps)
    return dlc.log(z / (1.0 - z))


@adapts("nan_to_num")
def _(x: Tensor, nan: Any = None, posinf: Any = None, neginf: Any = None) -> Tensor:
    greatest = 1.7976931348623157e308
    x = dlc.where(dlc.isnan(x), 0.0 if nan is None else nan, x)
    x = dlc.where(dlc.isinf(x) & (x > 0), greatest if posinf is None else posinf, x)
    return dlc.where(dlc.isinf(x) & (x < 0), -greatest if neginf is None else neginf, x)


@adapts("round/decimals_0", "round/decimals_3", "round/decimals_neg_3")
def _(x: Tensor, decimals: int) -> Tensor:
    if decimals < 0:
        return dlc.round(x / 10.0**-decimals) * 10.0**-decimals
    return dlc.round(x * 10.0**decimals) / 10.0**decimals


@adapts("ldexp")
def _(x: Tensor, y: Tensor) -> Tensor:
    return x * dlc.exp2(y)


@adapts("angle")
def _(x: Tensor) -> Tensor:
    return dlc.where(x < 0, math.pi, dlc.where(dlc.isnan(x), x, 0.0))


# ---------------------------------------------------------------- conversions


def conversion(dtype: str) -> Any:
    return lambda x: dlc.astype(x, dtype)


for _name, _dtype in {"bool": "bool", "byte": "uint8", "char": "int8", "short": "int16", "int": "int32",
                      "long": "int64", "float": "float32", "double": "float64"}.items():  # fmt: skip
    register({_name: conversion(_dtype)})


@adapts("to")
def _(x: Tensor, *args: Any, dtype: Any = None, **_: Any) -> Tensor:
    for value in (*args, dtype):
        if isinstance(value, str) and value in (*FLOATING, "int64", "int32", "bool"):
            return dlc.astype(x, value)
        if isinstance(value, Tensor):
            return dlc.astype(x, value.dtype)
    return x


# ---------------------------------------------------------------- activations


register(
    {
        "nn.functional.relu": lambda x, inplace=False: F.relu(x),
        "nn.functional.relu6": lambda x, inplace=False: F.relu6(x),
        "nn.functional.elu": lambda x, alpha=1.0, inplace=False: F.elu(x, alpha),
        "nn.functional.celu": lambda x, alpha=1.0, inplace=False: F.celu(x, alpha),
        "nn.functional.selu": lambda x, inplace=False: F.selu(x),
        "nn.functional.silu": lambda x, inplace=False: F.silu(x),
        "nn.functional.mish": lambda x, inplace=False: F.mish(x),
        "nn.functional.gelu": lambda x, approximate="none": F.gelu(x, approximate),
        "nn.functional.glu": lambda x, dim=-1: F.glu(x, dim),
        "nn.functional.hardshrink": lambda x, lambd=0.5: F.hardshrink(x, lambd),
        "nn.functional.hardswish": lambda x, inplace=False: F.hardswish(x),
        "nn.functional.hardtanh": lambda x, min_val=-1.0, max_val=1.0, inplace=False: F.hardtanh(x, min_val, max_val),
        "nn.functional.leaky_relu": lambda x, negative_slope=0.01, inplace=False: F.leaky_relu(x, negative_slope),
        "nn.functional.logsigmoid": F.log_sigmoid,
        "nn.functional.prelu": lambda x, weight: F.prelu(x, weight),
        "nn.functional.softplus": lambda x, beta=1, threshold=20: softplus(x, beta, threshold),
        "nn.functional.softshrink": lambda x, lambd=0.5: F.softshrink(x, lambd),
        "nn.functional.softsign": F.softsign,
        "nn.functional.tanhshrink": F.tanhshrink,
        "nn.functional.threshold": lambda x, threshold, value, inplace=False: F.threshold(x, threshold, value),
    }
)


def softplus(x: Tensor, beta: float, threshold: float) -> Tensor:
    """torch's is the identity from x beta = threshold on, which changes the value by up to log(1 + exp(-threshold))."""
    return dlc.where(x * beta > threshold, x, F.softplus(x * beta) / beta)


@adapts("nn.functional.hardsigmoid", backward=1e-7, why="torch takes 1/6 in float32 for the slope")
def _(x: Tensor, inplace: bool = False) -> Tensor:
    return F.hardsigmoid(x)


@adapts("nn.functional.rrelu")
def _(x: Tensor, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False, inplace: bool = False) -> Tensor:
    refuse(training, "random slopes")
    return F.leaky_relu(x, (lower + upper) / 2)


@adapts("nn.functional.dropout", "nn.functional.dropout2d", "nn.functional.dropout3d", "nn.functional.alpha_dropout",
        "nn.functional.feature_alpha_dropout/with_train", "nn.functional.feature_alpha_dropout/without_train",
        )  # fmt: skip
def _(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    refuse(training and p not in (0, 1), "random numbers: torch's are others")
    if training and p == 1:
        return x * 0.0
    return F.dropout(x, p)
