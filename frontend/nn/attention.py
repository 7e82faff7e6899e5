"""Attention of several heads."""

from __future__ import annotations

import math
from typing import Any

from dlc.errors import AttributeValueError, ShapeError
from dlc.frontend import initialisers
from dlc.frontend.nn.linear import Linear
from dlc.frontend.nn.module import Module, layer_name
from dlc.frontend.parameter import Parameter
from dlc.ops import dropout, expand_dims, iota, matmul, matrix_transpose, permute_dims, reshape, softmax, where
from dlc.ops.leaves import scalar
from dlc.ops.tensor import Tensor, wrap
from dlc.provenance import here


class MultiheadAttention(Module):
    """softmax(Q K^T / sqrt(d)) V for each of `num_heads` heads of size d = embed_dim / num_heads, joined and projected.

    query [T, N, E], key [S, N, kdim] and value [S, N, vdim] (with `batch_first` N comes first) give the output, shaped
    like the query, and the weights [N, T, S], the mean over heads. `kdim` and `vdim` are E unless given. Parameters are
    torch's: in_proj_weight [3 E, E], or q_proj_weight [E, E], k_proj_weight [E, kdim] and v_proj_weight [E, vdim] where
    one of these is not E; in_proj_bias [3 E], out_proj.weight [E, E], out_proj.bias [E]. `dropout` drops weights in
    training. Where a query may see no key its weights are 0 (in torch NaN). A. Vaswani et al., "Attention is all you
    need", 2017.

    >>> import dlc
    >>> from dlc import nn
    >>> x = dlc.input("x", ("N", "T", 8))
    >>> y, weights = nn.MultiheadAttention(8, 2, batch_first=True)(x, x, x)
    >>> y.shape, weights.shape
    ((N, T, 8), (N, T, T))
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        batch_first: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        dtype: Any = "float32",
    ) -> None:
        if num_heads < 1 or embed_dim % num_heads:
            raise AttributeValueError(
                f"MultiheadAttention: embed_dim={embed_dim} is not a multiple of num_heads={num_heads}", where=here()
            )
        self.embed_dim = embed_dim
        self.num_heads = num_heads
        self.dropout = dropout
        self.batch_first = batch_first
        self.sizes = (embed_dim, embed_dim if kdim is None else kdim, embed_dim if vdim is None else vdim)
        self.in_proj_weight = self.q_proj_weight = self.k_proj_weight = self.v_proj_weight = None
        if self.sizes == (embed_dim,) * 3:
            self.in_proj_weight = Parameter((3 * embed_dim, embed_dim), initialisers.glorot_uniform, dtype)
        else:
            self.q_proj_weight, self.k_proj_weight, self.v_proj_weight = (
                Parameter((embed_dim, size), initialisers.glorot_uniform, dtype) for size in self.sizes
            )
        self.in_proj_bias = Parameter((3 * embed_dim,), initialisers.zeros, dtype) if bias else None
        self.out_proj = Linear(embed_dim, embed_dim, bias=bias, dtype=dtype)

    def forward(
        self,
        query: Any,
        key: Any,
        value: Any,
        key_padding_mask: Any = None,
        need_weights: bool = True,
        attn_mask: Any = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """(output, weights), the weights None unless `need_weights`, and [N, heads, T, S] if they are not averaged.

        As in torch, `key_padding_mask` [N, S] and `attn_mask` [T, S] or [N * heads, T, S] are true where a key is *not*
        seen; floats are added to the scores. With `is_causal` a query sees no later key.
        """
        given = zip((query, key, value), ("query", "key", "value"), self.sizes, strict=True)
        inputs = [self._batch_first(t, name, size) for t, name, size in given]
        q, k, v = (self._heads(t, i) for i, t in enumerate(inputs))
        scores = matmul(q * (1.0 / math.sqrt(self.embed_dim // self.num_heads)), matrix_transpose(k))
        n, heads, t, s = scores.shape
        if is_causal:
            scores = _hidden(scores, iota((t, s), 1) > iota((t, s), 0))
        if attn_mask is not None:
            mask = wrap(attn_mask)
            scores = _hidden(scores, mask if mask.ndim != 3 else reshape(mask, (n, heads, t, s)))
        if key_padding_mask is not None:
            scores = _hidden(scores, expand_dims(expand_dims(wrap(key_padding_mask), 1), 2))
        weights = dropout(softmax(scores), self.dropout)
        joined = reshape(permute_dims(matmul(weights, v), (0, 2, 1, 3)), (n, t, self.embed_dim))
        y = self.out_proj(joined)
        y = y if self.batch_first else permute_dims(y, (1, 0, 2))
        if not need_weights:
            return y, None
        return y, weights.mean(axis=1) if average_attn_weights else weights

    def _batch_first(self, x: Any, name: str, size: int) -> Tensor:
        t = wrap(x)
        if t.ndim != 3 or t.shape[-1] != size:
            raise ShapeError(
                f"{layer_name(self)} takes a {name} of 3 axes, the last of {size}, not {t.type}", where=here()
            )
        return t if self.batch_first else permute_dims(t, (1, 0, 2))

    def _heads(self, t: Tensor, which: int) -> Tensor:
        """[N, T, E] projected by third `which` of the parameters, as [N, heads, T, d]."""
        size = self.embed_dim
        own = slice(which * size, (which + 1) * size)
        separate = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)[which]
        weight = wrap(self.in_proj_weight)[own] if separate is None else wrap(separate)
        y = matmul(t, permute_dims(weight, (1, 0)))
        if self.in_proj_bias is not None:
            y = y + wrap(self.in_proj_bias)[own]
        return permute_dims(reshape(y, (*t.shape[:2], self.num_heads, size // self.num_heads)), (0, 2, 1, 3))

    def describe(self) -> str:
        """Sizes."""
        sizes = "" if self.q_proj_weight is None else f", kdim={self.sizes[1]}, vdim={self.sizes[2]}"
        return f"{self.embed_dim}, {self.num_heads}{sizes}" + (", batch_first=True" if self.batch_first else "")


def _hidden(scores: Tensor, mask: Tensor) -> Tensor:
    """Scores with -inf where a mask of bools is true, or with a mask of floats added."""
    return where(mask, scalar(-math.inf, scores.dtype), scores) if mask.dtype == "bool" else scores + mask
