"""Embeddings: a learned vector for each index."""

from __future__ import annotations

from typing import Any

from dlc.dtypes import INTEGER
from dlc.errors import AttributeValueError, DTypeError
from dlc.frontend import initialisers
from dlc.frontend.nn.functional import embedding, embedding_bag
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
        return embedding(self._indices(x), self.weight, self.padding_idx)

    def _indices(self, x: Any) -> Tensor:
        x = wrap(x)
        if x.dtype not in INTEGER:
            raise DTypeError(
                f"{layer_name(self)} takes integer indices, not {x.type}; convert with .astype('int32')", where=here()
            )
        return x

    def describe(self) -> str:
        """Rows and columns."""
        return ", ".join(map(str, self.weight.open_shape))


class EmbeddingBag(Embedding):
    """The mean (or sum, or maximum) of the rows that each bag of indices names: see `functional.embedding_bag`.

    >>> import dlc
    >>> from dlc import nn
    >>> nn.EmbeddingBag(96, 64)(dlc.input("words", ("N", 8), "int32")).shape
    (N, 64)
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        mode: str = "mean",
        padding_idx: int | None = None,
        include_last_offset: bool = False,
        dtype: Any = "float32",
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, padding_idx, dtype)
        self.mode, self.include_last_offset = mode, include_last_offset

    def forward(self, x: Any, offsets: Any = None, per_sample_weights: Any = None) -> Tensor:
        """x integer [bags, n], or [n] with offsets [bags] -> [bags, embedding_dim]."""
        return embedding_bag(
            self._indices(x),
            self.weight,
            offsets,
            self.mode,
            per_sample_weights,
            self.padding_idx,
            self.include_last_offset,
        )

    def describe(self) -> str:
        """Rows, columns and mode."""
        return f"{super().describe()}, {self.mode}"
