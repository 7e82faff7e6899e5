"""Embeddings: a learned vector for each index."""

from __future__ import annotations

from typing import Any

from dlc.dtypes import INTEGER
from dlc.errors import DTypeError
from dlc.frontend import initialisers
from dlc.frontend.nn.module import Module, layer_name
from dlc.frontend.parameter import Parameter
from dlc.ops import take
from dlc.ops.tensor import Tensor, wrap
from dlc.provenance import here


class Embedding(Module):
    """Row i of the weight [num_embeddings, embedding_dim] for each index i: integer [...] -> [..., embedding_dim].

    The weight starts normal with variance 1. An index out of range raises `IndexOutOfRangeError` when the program runs.

    >>> import dlc
    >>> from dlc import nn
    >>> nn.Embedding(96, 64)(dlc.input("tokens", ("N", "T"), "int32")).shape
    (N, T, 64)
    """

    def __init__(self, num_embeddings: int, embedding_dim: int, dtype: Any = "float32") -> None:
        self.weight = Parameter((num_embeddings, embedding_dim), initialisers.normal(), dtype)

    def forward(self, x: Any) -> Tensor:
        """x integer [...] -> [..., embedding_dim]."""
        x = wrap(x)
        if x.dtype not in INTEGER:
            raise DTypeError(
                f"{layer_name(self)} takes integer indices, not {x.type}; convert with .astype('int32')", where=here()
            )
        return take(self.weight, x, axis=0)

    def describe(self) -> str:
        """Rows and columns."""
        return ", ".join(map(str, self.weight.open_shape))
