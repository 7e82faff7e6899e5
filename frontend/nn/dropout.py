"""Dropout."""

from __future__ import annotations

from typing import Any

from dlc.errors import AttributeValueError
from dlc.frontend.nn.module import Module
from dlc.ops import dropout
from dlc.ops.tensor import Tensor
from dlc.provenance import here


class Dropout(Module):
    """In training each element is 0 with probability p, else x / (1 - p); otherwise x itself.

    Which elements, is a function of (seed, module path and ordinal of the call, step), the same on every backend.
    Srivastava et al. (2014), JMLR 15, in its inverted form.

    >>> import dlc
    >>> from dlc import nn
    >>> nn.Dropout(0.5)(dlc.input("x", ("N", 8))).shape
    (N, 8)
    """

    def __init__(self, p: float = 0.5) -> None:
        if not (isinstance(p, (int, float)) and 0.0 <= p <= 1.0):
            raise AttributeValueError(f"Dropout: p is a probability from 0 to 1, not {p!r}", where=here())
        self.p = float(p)

    def forward(self, x: Any) -> Tensor:
        """x -> the same shape."""
        return dropout(x, self.p)

    def describe(self) -> str:
        """The probability."""
        return f"p={self.p:g}"
