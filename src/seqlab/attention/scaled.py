"""Scaled dot-product attention, alone and with several heads.

Where no weights are asked for, both go through ``torch.nn.functional.scaled_dot_product_attention``, whose kernels
never hold the L × S weights in memory; the equation is computed step by step where weights are asked for.
Shapes: N batch, L target length, S source length, E and V the features of one key and one value.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checks import check_dropout, check_like, check_sizes
from .common import (
    ProjectedKeys,
    can_look,
    causal_mask,
    check_batch,
    check_fit,
    check_key_padding_mask,
    check_sequence,
    check_source,
    refuse_second_source,
    transformed,
)

Result = tuple[Tensor, Tensor | None]


def _attend(
    who: str,
    query: Tensor,
    source: ProjectedKeys,
    attn_mask: Tensor | None,
    is_causal: bool,
    dropout: float,
    need_weights: bool,
) -> Result:
    """softmax(q kᵀ / sqrt(E) + mask) v over (N, heads, L, E); mask is -inf where any of the masks says to ignore."""
    key, value, padding = source
    L, S = query.shape[2], key.shape[2]
    if is_causal and L != S:
        raise ValueError(
            f"{who}: expected as many queries as keys for is_causal=True, got L={L}, S={S}; say which key each query "
            "may see by attn_mask, or leave is_causal out for a single query after all its keys"
        )
    fused = not need_weights and not transformed()
    built_in = fused and is_causal and padding is None and attn_mask is None  # the kernels have this mask themselves
    masks = [causal_mask(L, query.device)] if is_causal and not built_in else []
    masks += [] if padding is None else [padding[:, None, None, :]]
    masks += [] if attn_mask is None else [attn_mask]
    mask = None
    for each in masks:
        added = query.new_zeros(()).masked_fill(each, -math.inf) if each.dtype == torch.bool else each.to(query.dtype)
        mask = added if mask is None else mask + added
    # Padding alone was looked at with the source, and is_causal needs no look.
    new = attn_mask is not None or len(masks) > 1
    if new and mask is not None and can_look(mask) and mask.isneginf().all(dim=-1).any():
        raise ValueError(
            f"{who}: expected at least one key to attend to for every query, got masks that together leave some "
            "query none; True = ignore, and with is_causal or attn_mask the padding belongs at the end"
        )
    if fused:
        return F.scaled_dot_product_attention(query, key, value, mask, dropout, is_causal=built_in), None
    scores = (query / math.sqrt(query.shape[-1])) @ key.mT  # (N, heads, L, S); divided first, half does not overflow
    weights = torch.softmax(scores if mask is None else scores + mask, dim=-1)
    weights = F.dropout(weights, dropout)
    return weights @ value, weights if need_weights else None


def _check_attn_mask(who: str, mask: Any, shapes: list[tuple[int, ...]]) -> None:
    if mask is None:
        return
    if not isinstance(mask, Tensor) or not (mask.dtype == torch.bool or mask.is_floating_point()):
        got = f"a tensor of {mask.dtype}" if isinstance(mask, Tensor) else type(mask).__name__
        raise TypeError(
            f"{who}: expected attn_mask boolean, True = ignore, or floating, added to the scores, got {got}"
        )
    if tuple(mask.shape) not in shapes:
        wanted = " or ".join(str(shape) for shape in dict.fromkeys(shapes))
        raise ValueError(f"{who}: expected attn_mask of shape {wanted}, got {tuple(mask.shape)}")


class ScaledDotProductAttention(nn.Module):
    """Scaled dot-product attention, which has no weights to learn::

        a = softmax(Q Kᵀ / sqrt(E))        over the keys that are not ignored
        context = a V

    Args:
        dropout: probability, during training, that a weight is set to zero (and the others scaled up).

    Shape:
        query (N, L, E), key (N, S, E), value (N, S, V), by default the keys; key_padding_mask (N, S) and attn_mask
        (L, S) or (N, L, S), True = ignore; is_causal needs L = S.

    Returns:
        The pair (context, weights), (N, L, V) and (N, L, S), or None for need_weights=False, which takes
        ``torch.nn.functional.scaled_dot_product_attention``; its kernels have no second derivative.

    Raises:
        TypeError, ValueError: a shape or mask does not fit, or the masks leave a query no key.

    Source:
        Vaswani et al. (2017), Attention is all you need, section 3.2.1, equation 1.
    Differs:
        from torch.nn.functional.scaled_dot_product_attention: after the values comes key_padding_mask, as in every
        attention here; attn_mask and is_causal are passed by name. In torch's function a boolean mask says which keys
        take part, here and in torch.nn.MultiheadAttention which are ignored. A floating attn_mask is added to the
        scores, in both.

    >>> attention = ScaledDotProductAttention()
    >>> x = torch.eye(3).unsqueeze(0)
    >>> context, weights = attention(x, x, is_causal=True)
    >>> weights
    tensor([[[1.0000, 0.0000, 0.0000],
             [0.3595, 0.6405, 0.0000],
             [0.2645, 0.2645, 0.4711]]])
    """

    def __init__(self, dropout: float = 0.0) -> None:
        check_dropout("ScaledDotProductAttention", dropout)
        super().__init__()
        self.dropout = dropout

    def project_keys(self, key: Tensor, value: Tensor | None = None, key_padding_mask: Any = None) -> ProjectedKeys:
        """Check the source once; there is nothing to project."""
        who = type(self).__name__
        value = key if value is None else value
        check_sequence(who, "key", key, None)
        check_sequence(who, "value", value, None, "(N, S, V)")
        check_source(who, key, value)
        if key_padding_mask is not None:
            check_key_padding_mask(who, key_padding_mask, *key.shape[:2])
        return ProjectedKeys(key, value, key_padding_mask)

    def forward(
        self,
        query: Tensor,
        key: Tensor | ProjectedKeys,
        value: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
        *,
        attn_mask: Tensor | None = None,
        is_causal: bool = False,
        start: int = 0,
        need_weights: bool = True,
    ) -> Result:
        """``(context, weights)``; shapes as in the class, ``start`` as in every attention."""
        who = type(self).__name__
        if isinstance(key, ProjectedKeys):
            refuse_second_source(who, value, key_padding_mask)
        else:
            key = self.project_keys(key, value, key_padding_mask)
        N, S, E = key.key.shape
        check_sequence(who, "query", query, E, "(N, L, E)")
        check_batch(who, query, key.key)
        L = query.shape[1]
        _check_attn_mask(who, attn_mask, [(L, S), (N, L, S)])
        dropout = self.dropout if self.training else 0.0
        if attn_mask is not None and attn_mask.dim() == 3:
            attn_mask = attn_mask.unsqueeze(1)
        one_head = ProjectedKeys(key.key.unsqueeze(1), key.value.unsqueeze(1), key.key_padding_mask)
        context, weights = _attend(who, query.unsqueeze(1), one_head, attn_mask, is_causal, dropout, need_weights)
        return context.squeeze(1), None if weights is None else weights.squeeze(1)

    def context_size(self, query_size: int, key_size: int) -> int:
        """Features of a context, as in every attention."""
        check_fit(self, query_size, key_size, query_size, query_size)
        return key_size


class MultiheadAttention(nn.MultiheadAttention):
    """Scaled dot-product attention in several heads, a drop-in for ``torch.nn.MultiheadAttention``::

        head_i  = softmax(Q W_iᵠ (K W_iᵏ)ᵀ / sqrt(E / num_heads)) V W_iᵛ
        context = W_o [head_1; ...; head_h]

    Args:
        embed_dim: E of query and context.
        num_heads: number of heads, each of E / num_heads numbers.
        dropout: probability, during training, that a weight is set to zero.
        bias: whether the projections have biases.
        add_bias_kv, add_zero_attn: not offered; here so that arguments by position mean what they do in torch.
        kdim, vdim: features of key and value, by default embed_dim.
        batch_first: whether the batch comes first; by default, as in torch, the length does.
        device, dtype: of the weights.

    Shape:
        query (L, N, E), key (S, N, kdim), value (S, N, vdim), or (N, L, E) and so on with batch_first, or without N;
        key_padding_mask (N, S) and attn_mask (L, S) or (N * num_heads, L, S), True = ignore.

    Returns:
        The pair (context, weights), context as query, weights (N, L, S), the mean over the heads, or
        (N, num_heads, L, S) for average_attn_weights=False, or None for need_weights=False.

    Raises:
        TypeError, ValueError: a size, shape or mask does not fit, or the masks leave a query no key.

    Source:
        Vaswani et al. (2017), Attention is all you need, section 3.2.2.
    Differs:
        from torch's: value is the key unless it is given; is_causal=True makes the mask itself, where torch's wants it
        as attn_mask beside; key_padding_mask must be boolean (torch.nn.TransformerEncoderLayer makes its own floating,
        and can hold this module without padding only); a query without any key raises, where torch's gives NaN; no
        add_bias_kv and no add_zero_attn, which are refused; keys can be projected beforehand. Parameters, their
        initialisation and their names are torch's, and a state_dict goes both ways.

    >>> attention = MultiheadAttention(8, num_heads=2, batch_first=True)
    >>> x = torch.zeros(2, 5, 8)
    >>> context, weights = attention(x, x, is_causal=True)
    >>> context.shape, weights[0, 1]
    (torch.Size([2, 5, 8]), tensor([0.5000, 0.5000, 0.0000, 0.0000, 0.0000], grad_fn=<SelectBackward0>))
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        who = "MultiheadAttention"
        for name, asked in (("add_bias_kv", add_bias_kv), ("add_zero_attn", add_zero_attn)):
            if asked is not False:
                raise ValueError(
                    f"{who}: expected {name}=False, got {asked!r}; keys that no source has are not offered: append "
                    "them to key and value, or use torch.nn.MultiheadAttention"
                )
        check_sizes(who, embed_dim=embed_dim, num_heads=num_heads, kdim=kdim or embed_dim, vdim=vdim or embed_dim)
        check_dropout(who, dropout)
        if embed_dim % num_heads:
            raise ValueError(f"{who}: expected embed_dim as a multiple of num_heads, got {embed_dim} and {num_heads}")
        options = {"kdim": kdim, "vdim": vdim, "batch_first": batch_first, "device": device, "dtype": dtype}
        super().__init__(embed_dim, num_heads, dropout, bias, **options)

    def project_keys(self, key: Tensor, value: Tensor | None = None, key_padding_mask: Any = None) -> ProjectedKeys:
        """Project keys and values once, for any number of queries.

        The result's key and value are (N, num_heads, S, E / num_heads), whatever batch_first is. Those of later
        positions can be appended along S, which makes it the cache of a decoder that generates step by step. A source
        without N gives N = 1, and its mask is (1, S).
        """
        who = type(self).__name__
        value = key if value is None else value
        key, value = self._batched("key", key, self.kdim), self._batched("value", value, self.vdim)
        check_source(who, key, value)
        if key_padding_mask is not None:
            if isinstance(key_padding_mask, Tensor) and key_padding_mask.dim() == 1:
                key_padding_mask = key_padding_mask.unsqueeze(0)
            check_key_padding_mask(who, key_padding_mask, *key.shape[:2])
        _, W_k, W_v = self._weights()
        _, b_k, b_v = (None, None, None) if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        return ProjectedKeys(
            self._heads(F.linear(key, W_k, b_k)), self._heads(F.linear(value, W_v, b_v)), key_padding_mask
        )

    def forward(
        self,
        query: Tensor,
        key: Tensor | ProjectedKeys,
        value: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
        *,
        start: int = 0,
    ) -> Result:
        """``(context, weights)``; shapes as in the class, ``start`` as in every attention."""
        who = type(self).__name__
        unbatched = isinstance(query, Tensor) and query.dim() == 2
        if isinstance(key, ProjectedKeys):
            refuse_second_source(who, value, key_padding_mask)
        else:
            key = self.project_keys(key, value, key_padding_mask)
        query = self._batched("query", query, self.embed_dim)  # (N, L, E)
        check_batch(who, query, key.key)
        (N, L), S = query.shape[:2], key.key.shape[2]
        _check_attn_mask(who, attn_mask, [(L, S), (N * self.num_heads, L, S)])
        if attn_mask is not None and attn_mask.dim() == 3:
            attn_mask = attn_mask.view(N, self.num_heads, L, S)
        b_q = None if self.in_proj_bias is None else self.in_proj_bias.chunk(3)[0]
        q = self._heads(F.linear(query, self._weights()[0], b_q))  # (N, heads, L, E / heads)
        dropout = self.dropout if self.training else 0.0
        heads, weights = _attend(who, q, key, attn_mask, is_causal, dropout, need_weights)
        context = self.out_proj(heads.transpose(1, 2).flatten(2))  # (N, L, E)
        if weights is not None and average_attn_weights:
            weights = weights.mean(dim=1)
        if unbatched:
            return context.squeeze(0), None if weights is None else weights.squeeze(0)
        return context if self.batch_first else context.transpose(0, 1), weights

    def context_size(self, query_size: int, key_size: int) -> int:
        """Features of a context, as in every attention."""
        if not self.batch_first:
            raise ValueError("MultiheadAttention: expected batch_first=True beside other attentions, got False")
        check_fit(self, query_size, key_size, self.embed_dim, self.kdim)
        if self.vdim != key_size:
            raise ValueError(
                f"MultiheadAttention: expected vdim={key_size}, the keys being the values, got {self.vdim}"
            )
        return self.embed_dim

    def _weights(self) -> tuple[Tensor, Tensor, Tensor]:
        """W_q, W_k, W_v, which torch keeps as one matrix where their shapes agree."""
        if self.in_proj_weight is not None:
            W_q, W_k, W_v = self.in_proj_weight.chunk(3)
            return W_q, W_k, W_v
        return self.q_proj_weight, self.k_proj_weight, self.v_proj_weight

    def _heads(self, x: Tensor) -> Tensor:
        """(N, S, E) cut into heads: (N, heads, S, E / heads)."""
        return x.unflatten(2, (self.num_heads, self.head_dim)).transpose(1, 2)

    def _batched(self, name: str, x: Any, size: int) -> Tensor:
        """Any layout as (N, S, E)."""
        who = type(self).__name__
        if isinstance(x, Tensor) and x.dim() == 2:
            x = x.unsqueeze(0)
        elif isinstance(x, Tensor) and x.dim() == 3 and not self.batch_first:
            x = x.transpose(0, 1)
        letters = "L" if name == "query" else "S"
        check_sequence(who, name, x, size, f"({'N, ' + letters if self.batch_first else letters + ', N'}, E)")
        check_like(who, name, x, self.out_proj.weight)
        return x
