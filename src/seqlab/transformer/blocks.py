"""The two blocks of the Transformer; each sublayer adds its part to a residual path.

Shapes: N batch, L target length, S source length, E = d_model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..attention import MultiheadAttention, ProjectedKeys, causal_mask
from ..attention.common import check_sequence
from ..checks import check_dropout, check_like, check_sizes

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "gelu": F.gelu}


class _Block(nn.Module):
    """What both blocks share: their parts, and the two steps around and after attention."""

    cross = False  # whether there is a source to attend to

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str = "relu",
        *,
        norm_first: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        who = type(self).__name__
        check_sizes(who, d_model=d_model, nhead=nhead, dim_feedforward=dim_feedforward)
        check_dropout(who, dropout)
        if activation not in ACTIVATIONS:
            raise ValueError(f"{who}: expected activation 'relu' or 'gelu', got {activation!r}")
        super().__init__()
        place: dict[str, Any] = {"device": device, "dtype": dtype}
        self.norm_first, self.activation = norm_first, activation
        self.self_attn = MultiheadAttention(d_model, nhead, dropout, batch_first=True, **place)
        if self.cross:
            self.multihead_attn = MultiheadAttention(d_model, nhead, dropout, batch_first=True, **place)
        self.linear1 = nn.Linear(d_model, dim_feedforward, **place)
        self.linear2 = nn.Linear(dim_feedforward, d_model, **place)
        self.norm1 = nn.LayerNorm(d_model, **place)
        self.norm2 = nn.LayerNorm(d_model, **place)
        if self.cross:
            self.norm3 = nn.LayerNorm(d_model, **place)
        self.dropout = nn.Dropout(dropout)

    def _input(self, norm: nn.LayerNorm, x: Tensor) -> Tensor:
        """What a sublayer sees of the residual path."""
        return norm(x) if self.norm_first else x

    def _add(self, norm: nn.LayerNorm, x: Tensor, output: Tensor) -> Tensor:
        """The residual path after a sublayer."""
        x = x + self.dropout(output)
        return x if self.norm_first else norm(x)

    def _feed_forward(self, norm: nn.LayerNorm, x: Tensor) -> Tensor:
        """The last sublayer: two layers, the same at each position."""
        hidden = ACTIVATIONS[self.activation](self.linear1(self._input(norm, x)))  # (N, L, dim_feedforward)
        return self._add(norm, x, self.linear2(self.dropout(hidden)))

    def _attend(self, x: Tensor, mask: Tensor | None, key_padding_mask: Tensor | None, is_causal: bool) -> Tensor:
        """The first sublayer: self-attention, all positions at once."""
        a = self._input(self.norm1, x)
        options: dict[str, Any] = {"need_weights": False, "attn_mask": mask, "is_causal": is_causal}
        return self._add(self.norm1, x, self.self_attn(a, a, None, key_padding_mask, **options)[0])

    def _attend_causally(self, x: Tensor, cache: ProjectedKeys | None) -> tuple[Tensor, ProjectedKeys]:
        """Self-attention of positions that come after those of the cache; returns the longer cache too."""
        keys = self.self_attn.project_keys(x)
        if cache is not None:
            padding = cache.key_padding_mask
            if padding is not None:
                padding = torch.cat([padding, padding.new_zeros(x.shape[:2])], 1)
            key, value = torch.cat([cache.key, keys.key], 2), torch.cat([cache.value, keys.value], 2)
            keys = ProjectedKeys(key, value, padding)
        L, S = x.shape[1], keys.key.shape[2]
        mask = None if L == 1 else causal_mask(S, x.device)[S - L :]  # (L, S); the only query sees every key
        return self.self_attn(x, keys, need_weights=False, attn_mask=mask)[0], keys

    def _check(self, name: str, x: Any) -> None:
        check_sequence(type(self).__name__, name, x, self.self_attn.embed_dim, "(N, L, E)")
        check_like(type(self).__name__, name, x, self.linear1.weight)

    def extra_repr(self) -> str:
        """Where the norm stands."""
        return f"activation={self.activation!r}, norm_first={self.norm_first}"


class EncoderBlock(_Block):
    """Self-attention, then a feed-forward network, each with a residual path and a layer norm::

        x = norm1(x + attention(x))           x = x + attention(norm1(x))             norm_first=True
        x = norm2(x + ffn(x))                 x = x + ffn(norm2(x))
        ffn(x) = W_2 activation(W_1 x + b_1) + b_2

    With ``is_causal=True`` it is the block of a decoder-only language model.

    Args:
        d_model: E.
        nhead: attention heads, each of E / nhead numbers.
        dim_feedforward: width of the feed-forward network.
        dropout: probability, during training, for the output of each sublayer, and as in torch also for the attention
            weights and inside the feed-forward network.
        activation: "relu" or "gelu".
        norm_first: whether the norm stands before each sublayer instead of after the sum.
        device, dtype: of the weights.

    Shape:
        src (N, L, E); src_mask (L, L) or (N * nhead, L, L) and src_key_padding_mask (N, L), True = ignore.

    Returns:
        (N, L, E).

    Raises:
        TypeError, ValueError: a size, shape or mask does not fit, or a sequence is masked as a whole.

    Source:
        Vaswani et al. (2017), Attention is all you need, sections 3.1 to 3.3 and 5.4.
    Differs:
        dropout also inside, as in torch.nn.TransformerEncoderLayer, whose parameters these are, by name, shape and
        initial distribution: Glorot's uniform for the stacked W_q, W_k, W_v, uniform within 1 / sqrt(fan-in) for the
        other matrices and for the biases of the feed-forward network, attention's biases 0. From that layer: the batch
        always comes first; a causal mask needs no tensor, ``is_causal=True`` makes it; no layer_norm_eps and no bias
        among the arguments; masks of padding are boolean.

    >>> block = EncoderBlock(8, nhead=2, dim_feedforward=16)
    >>> block(torch.zeros(2, 5, 8)).shape
    torch.Size([2, 5, 8])
    """

    def forward(
        self,
        src: Tensor,
        src_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """All positions at once; shapes as in the class."""
        self._check("src", src)
        x = self._attend(src, src_mask, src_key_padding_mask, is_causal)
        return self._feed_forward(self.norm2, x)

    def step(self, x: Tensor, cache: ProjectedKeys | None = None) -> tuple[Tensor, ProjectedKeys]:
        """The next position or positions, causally: ``(output, cache)``, the cache longer by those of x."""
        self._check("x", x)
        attended, cache = self._attend_causally(self._input(self.norm1, x), cache)
        x = self._add(self.norm1, x, attended)
        return self._feed_forward(self.norm2, x), cache


class DecoderBlock(_Block):
    """Causal self-attention, attention to the source, then a feed-forward network::

        x = norm1(x + attention(x))           x = x + attention(norm1(x))             norm_first=True
        x = norm2(x + attention(x, memory))   x = x + attention(norm2(x), memory)
        x = norm3(x + ffn(x))                 x = x + ffn(norm3(x))

    Args:
        d_model, nhead, dim_feedforward, dropout, activation, norm_first, device, dtype: as in :class:`EncoderBlock`.

    Shape:
        tgt (N, L, E); memory (N, S, E), the encoder's output, or what ``project_memory`` made of it; tgt_mask (L, L)
        and memory_mask (L, S), or (N * nhead, ·, ·), tgt_key_padding_mask (N, L) and memory_key_padding_mask (N, S),
        True = ignore.

    Returns:
        (N, L, E).

    Raises:
        TypeError, ValueError: a size, shape or mask does not fit, or a query is left without a key.

    Source:
        Vaswani et al. (2017), Attention is all you need, sections 3.1 to 3.3 and 5.4.
    Differs:
        dropout and initial values as in :class:`EncoderBlock`, and so do the arguments from those of
        torch.nn.TransformerDecoderLayer, whose parameters these are. That layer attends causally only if it is given
        the mask; here ``tgt_is_causal`` makes it, and is True by default. No memory_is_causal.

    >>> block = DecoderBlock(8, nhead=2, dim_feedforward=16)
    >>> block(torch.zeros(2, 3, 8), memory=torch.zeros(2, 5, 8)).shape
    torch.Size([2, 3, 8])
    """

    cross = True

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor | ProjectedKeys,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        tgt_is_causal: bool = True,
    ) -> Tensor:
        """All positions at once; shapes as in the class."""
        self._check("tgt", tgt)
        x = self._attend(tgt, tgt_mask, tgt_key_padding_mask, tgt_is_causal)
        return self._rest(x, memory, memory_mask, memory_key_padding_mask)

    def step(
        self, x: Tensor, memory: Tensor | ProjectedKeys, cache: ProjectedKeys | None = None
    ) -> tuple[Tensor, ProjectedKeys]:
        """The next position or positions: ``(output, cache)``, the cache longer by those of x."""
        self._check("x", x)
        attended, cache = self._attend_causally(self._input(self.norm1, x), cache)
        x = self._add(self.norm1, x, attended)
        return self._rest(x, memory), cache

    def project_memory(self, memory: Tensor, key_padding_mask: Tensor | None = None) -> ProjectedKeys:
        """The source's keys and values, once for any number of steps."""
        return self.multihead_attn.project_keys(memory, key_padding_mask=key_padding_mask)

    def _rest(
        self,
        x: Tensor,
        memory: Tensor | ProjectedKeys,
        mask: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
    ) -> Tensor:
        """Attention to the source, and the feed-forward network."""
        a = self._input(self.norm2, x)
        attended, _ = self.multihead_attn(a, memory, None, key_padding_mask, need_weights=False, attn_mask=mask)
        x = self._add(self.norm2, x, attended)
        return self._feed_forward(self.norm3, x)
