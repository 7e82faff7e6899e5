"""Embeddings: a learned vector for each index."""

from __future__ import annotations

from typing import Any

from dlc.dtypes import INTEGER
from dlc.errors import AttributeValueError, DTypeError
from dlc.frontend import initialisers
from dlc.frontend.nn.functional import embedding
from dlc.frontend.nn.module import Module, layer_name
from dlc.frontend.parameter import Parameter
from dlc.ops.tensor import Tensor, wrap
from dlc.provenance import here


class Embedding(Module):
    """Row i of the weight [num_embeddings, embedding_dim] for each index i: integer [...] -> [..., embedding_dim].

    The weight starts normal with variance 1. The row `padding_idx`, if one is named, starts at 0 and does not learn.
    An index out of range raises `IndexOutOfRangeError` when the program runs.

    >>> import dlc
    >>> from dlc import nn
    >>> nn.Embedding(96, 64)(dlc.input("tokens", ("N", "T"), "int32")).shape
    (N, T, 64)
    """

    def __init__(
        self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None, dtype: Any = "float32"
    ) -> None:
        if padding_idx is not None:
            if not isinstance(padding_idx, int) or not -num_embeddings <= padding_idx < num_embeddings:
                raise AttributeValueError(
                    f"Embedding: padding_idx={padding_idx!r} is none of {num_embeddings} rows", where=here()
                )
            padding_idx %= num_embeddings
        self.padding_idx = padding_idx
        self.weight = Parameter((num_embeddings, embedding_dim), self._initial, dtype)

    def _initial(self, shape: tuple[int, ...], words: Any) -> Any:
        values = initialisers.normal()(shape, words)
        if self.padding_idx is not None:
            values[self.padding_idx] = 0
        return values

    def forward(self, x: Any) -> Tensor:
        """x integer [...] -> [..., embedding_dim]."""
        x = wrap(x)
        if x.dtype not in INTEGER:
            raise DTypeError(
                f"{layer_name(self)} takes integer indices, not {x.type}; convert with .astype('int32')", where=here()
            )
        return embedding(x, self.weight, self.padding_idx)

    def describe(self) -> str:
        """Rows and columns."""
        return ", ".join(map(str, self.weight.open_shape))
