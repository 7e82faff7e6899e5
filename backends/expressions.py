"""The texts of scalar expressions: literals, conversions, and the arithmetic of each dtype."""

from __future__ import annotations

import math
import re

import numpy as np

from dlc import dtypes
from dlc.conversions import cast
from dlc.ir import Node

ATOM = re.compile(r"[A-Za-z_]\w*|\d+")
WRAPPING = {e: e for e in ("{0} + {1}", "{0} - {1}", "{0} * {1}")} | {"-{0}": "uint64(0) - {0}"}
COSTLY = re.compile(r"(exp|expm1|exp2|log|log1p|log2|log10|erf|sigmoid|power|a?(sin|cos|tan)h?|atan2|hypot)\(")
EXACT_WIDTH = ("bool", "int64", "uint64", "float32", "float64")  # arithmetic that stays in its own dtype


def constructor(dtype: str) -> str:
    """The prelude's name for converting to a dtype."""
    return "boolean" if dtype == "bool" else dtype


def literal(value: float | int | bool, dtype: str) -> str:
    """A literal of a dtype; -0.0, infinities and NaN survive."""
    if dtype == "bool":
        return str(bool(value))
    if dtype in dtypes.INTEGER:
        return f"{dtype}({int(value)})"
    value = float(cast(np.asarray(value, np.float64), dtype))
    text = "nan" if math.isnan(value) else repr(value) if math.isfinite(value) else "inf" if value > 0 else "-inf"
    return f"{dtype}(float32({text}))" if dtype in dtypes.HALF else f"{dtype}({text})"


def grouping(text: str) -> str:
    """`text` in parentheses unless it is an atom."""
    return text if ATOM.fullmatch(text) else f"({text})"


def elementwise(node: Node, operands: list[str]) -> str:
    """An elementwise op on the texts of its operands."""
    expression = node.op.expression
    if (
        node.dtype == "int64" and expression in WRAPPING
    ):  # signed overflow is undefined to the compiler, but wraps in NumPy
        return f"int64({WRAPPING[expression].format(*(f'uint64({x})' for x in operands))})"
    return narrowed(expression.format(*operands, T=constructor(node.dtype)), node.dtype)


def is_costly(node: Node) -> bool:
    """Whether an elementwise op is a function that takes many instructions."""
    return COSTLY.match(node.op.expression) is not None


def plus(a: str, b: str, dtype: str) -> str:
    """a + b in a dtype, in the order given; integers wrap."""
    return f"{a} + {b}" if dtype in dtypes.FLOATING else f"accumulate({a}, {b})"


def narrowed(expression: str, dtype: str) -> str:
    """An arithmetic expression back in its dtype, where the arithmetic of small integers widens."""
    plain = dtype in EXACT_WIDTH or re.fullmatch(rf"{dtype}\(\w+\)", expression)
    return expression if plain else f"{dtype}({expression})"


def is_sum(node: Node) -> bool:
    """Whether a reduction adds floating-point numbers, so that its order matters."""
    return node.op.combine == "{a} + {b}" and node.inputs[0].dtype in dtypes.FLOATING


def initial(node: Node) -> str:
    """The neutral element of a reduction."""
    return node.op.init.format(T=constructor(node.inputs[0].dtype))


def multiply_add(total: str, x: str, y: str, dtype: str) -> str:
    """total + x * y in a dtype, rounded once where floats can be."""
    if dtype in dtypes.FLOATING:
        return f"multiply_add({x}, {y}, {total})"
    return plus(total, narrowed(f"{x} * {y}", dtype), dtype)


def combined(node: Node, a: str, b: str) -> str:
    """Two partial results combined."""
    dtype = node.inputs[0].dtype
    if node.op.combine == "{a} + {b}":
        return plus(a, b, dtype)
    return narrowed(node.op.combine.format(a=a, b=b, T=constructor(dtype)), dtype)


def bare(text: str) -> str:
    """`text` without one pair of parentheses around all of it, and without terms that add or multiply nothing."""
    text = text.replace("(0 + ", "(").replace(" * 1)", ")")
    while text.startswith("(") and text.endswith(")"):
        level = 0
        for at, c in enumerate(text):
            level += (c == "(") - (c == ")")
            if level == 0 and at < len(text) - 1:
                return text
        text = text[1:-1]
    return text
