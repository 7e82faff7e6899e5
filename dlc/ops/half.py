"""float16 and bfloat16 are dtypes of storage: an op on them computes in float32, and each result is rounded once.

Here that rule is stated, for the ops' references; the pass `halves` writes it into graphs as conversions. Ops that only
move elements, and loops, whose bodies hold ops of their own, are left as they are. What an op does within itself stays
in float32: a sum of float16 is rounded at its end alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

import numpy as np

from dlc.conversions import cast
from dlc.dtypes import HALF, name_of
from dlc.ir import TensorType, TupleType, Type

# Kinds by name, for this file lies below that of the kinds.
_MOVING_KINDS = ("leaf", "view", "item", "loop", "fused")
_MOVING = ("astype", "where", "take", "take_along_axis", "pad", "concat", "call", "after")


def computes(kind: str, name: str) -> bool:
    """Whether an op computes new values, and so in float32 where its operands or results are halves."""
    return kind not in _MOVING_KINDS and name not in _MOVING


def has_half(*types: Type) -> bool:
    """Whether a half is among some types."""
    items = [i for t in types for i in (t.items if isinstance(t, TupleType) else (t,))]
    return any([t.dtype in HALF for t in items])


def widened(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes with float32 in the place of a half."""
    return {k: "float32" if isinstance(v, str) and v in HALF else v for k, v in attrs.items()}


def in_float32(reference: Callable[..., Any], infer: Callable[..., Type]) -> Callable[..., Any]:
    """An op's NumPy reference, for halves too: it sees float32, and its results are rounded to what `infer` says."""

    @wraps(reference)
    def rounded(*operands: Any, **attrs: Any) -> Any:
        arrays = [np.asarray(x) for x in operands]
        half = any(name_of(a.dtype) in HALF for a in arrays)
        if not half and not any(isinstance(v, str) and v in HALF for v in attrs.values()):
            return reference(*operands, **attrs)
        wanted = infer(*[TensorType(name_of(a.dtype), a.shape) for a in arrays], **attrs)
        wide = [cast(a, "float32") if name_of(a.dtype) in HALF else a for a in arrays]
        found = reference(*wide, **widened(attrs))
        if isinstance(wanted, TupleType):
            return tuple(cast(np.asarray(f), t.dtype) for f, t in zip(found, wanted.items, strict=True))
        return cast(np.asarray(found), wanted.dtype)

    return rounded
