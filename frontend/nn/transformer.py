"""The two layers of a transformer: of its encoder, and of its decoder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dlc.errors import AttributeValueError
from dlc.frontend.nn.attention import MultiheadAttention
from dlc.frontend.nn.linear import Linear
from dlc.frontend.nn.module import Module
from dlc.frontend.nn.normalisation import LayerNorm
from dlc.ops import dropout, gelu, relu
from dlc.ops.tensor import Tensor, wrap
from dlc.provenance import here

Activation = str | Callable[[Tensor], Tensor]
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": relu, "gelu": gelu}


class _TransformerLayer(Module):
    """What both share: the wide part, and sums of x and a branch that is normalised before or after."""

    norms: int

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = "relu",
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        dtype: Any = "float32",
    ) -> None:
        if not callable(activation) and activation not in ACTIVATIONS:
            raise AttributeValueError(
                f"{type(self).__name__}: activation is 'relu', 'gelu' or a function, not {activation!r}", where=here()
            )
        how: dict[str, Any] = {"bias": bias, "batch_first": batch_first, "dtype": dtype}
        self.self_attn = MultiheadAttention(d_model, nhead, dropout, **how)
        if self.norms == 3:
            self.multihead_attn = MultiheadAttention(d_model, nhead, dropout, **how)
        self.linear1 = Linear(d_model, dim_feedforward, bias=bias, dtype=dtype)
        self.linear2 = Linear(dim_feedforward, d_model, bias=bias, dtype=dtype)
        for i in range(self.norms):
            setattr(self, f"norm{i + 1}", LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype))
        self.activation = activation if callable(activation) else ACTIVATIONS[activation]
        self.dropout = dropout
        self.norm_first = norm_first

    def _added(self, x: Tensor, branch: Callable[[Tensor], Tensor], number: int) -> Tensor:
        """x + branch(norm(x)) with `norm_first`, else norm(x + branch(x))."""
        norm = getattr(self, f"norm{number}")
        if self.norm_first:
            return x + dropout(branch(norm(x)), self.dropout)
        return norm(x + dropout(branch(x), self.dropout))

    def _wide(self, x: Tensor) -> Tensor:
        return self.linear2(dropout(self.activation(self.linear1(x)), self.dropout))


class TransformerEncoderLayer(_TransformerLayer):
    """Self-attention and a wide layer, each with dropout, added to its input, and normalised.

    x [T, N, d_model], or [N, T, d_model] with `batch_first`, gives the same shape. `activation` is "relu", "gelu" or a
    function; with `norm_first` the input of a branch is normalised, not the sum. Parameters are torch's:
    self_attn.in_proj_weight, ..., linear1, linear2, norm1, norm2. A. Vaswani et al., "Attention is all you need", 2017.

    >>> import dlc
    >>> from dlc import nn
    >>> nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)(dlc.input("x", ("N", "T", 8))).shape
    (N, T, 8)
    """

    norms = 2

    def forward(
        self, src: Any, src_mask: Any = None, src_key_padding_mask: Any = None, is_causal: bool = False
    ) -> Tensor:
        """The masks are those of `MultiheadAttention`; with `is_causal` nothing later is seen."""
        masks: dict[str, Any] = {"key_padding_mask": src_key_padding_mask, "attn_mask": src_mask}

        def attend(x: Tensor) -> Tensor:
            return self.self_attn(x, x, x, need_weights=False, is_causal=is_causal, **masks)[0]

        return self._added(self._added(wrap(src), attend, 1), self._wide, 2)


class TransformerDecoderLayer(_TransformerLayer):
    """Self-attention, attention to the encoder's output, and a wide layer, as in `TransformerEncoderLayer`.

    Parameters are torch's: self_attn, multihead_attn, linear1, linear2, norm1, norm2, norm3.

    >>> import dlc
    >>> from dlc import nn
    >>> layer = nn.TransformerDecoderLayer(8, 2, 16)
    >>> layer(dlc.input("y", ("T", "N", 8)), dlc.input("x", ("S", "N", 8)), tgt_is_causal=True).shape
    (T, N, 8)
    """

    norms = 3

    def forward(
        self,
        tgt: Any,
        memory: Any,
        tgt_mask: Any = None,
        memory_mask: Any = None,
        tgt_key_padding_mask: Any = None,
        memory_key_padding_mask: Any = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """Masks that begin with tgt are of the self-attention, those with memory of the other."""
        own: dict[str, Any] = {"key_padding_mask": tgt_key_padding_mask, "attn_mask": tgt_mask}
        other: dict[str, Any] = {"key_padding_mask": memory_key_padding_mask, "attn_mask": memory_mask}

        def attend(x: Tensor) -> Tensor:
            return self.self_attn(x, x, x, need_weights=False, is_causal=tgt_is_causal, **own)[0]

        def read(x: Tensor) -> Tensor:
            return self.multihead_attn(x, memory, memory, need_weights=False, is_causal=memory_is_causal, **other)[0]

        return self._added(self._added(self._added(wrap(tgt), attend, 1), read, 2), self._wide, 3)
