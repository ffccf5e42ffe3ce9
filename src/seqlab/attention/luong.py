"""Multiplicative attention, over the whole source or over a window of it that alone is computed.

With a window every query gets its own 2D + 1 keys, gathered into a batch of N·L short sources of W keys; from there on
the call is the global one, with L = 1 and S = W, so that its cost depends on the window and not on the source.
Shapes: N batch, L target length, S source length, W = 2D + 1 width of the window, E and V the features.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..checks import check_sizes
from .additive import additive_score
from .common import ProjectedKeys, SourceAttention, check_padding_at_end, masked_softmax, uniform

SCORES = ("dot", "general", "concat")
WINDOWS = (None, "local-m", "local-p")


class LuongAttention(SourceAttention):
    """Luong's attention: three scores, over all keys or over those near a position p::

        e[l, s] = query_l · key_s                                   score="dot"
        e[l, s] = query_l · W key_s                                 score="general"
        e[l, s] = v · tanh(W_q query_l + W_k key_s)                 score="concat"

        a[l, ·] = softmax(e[l, ·]) over all keys                    window=None
        a[l, ·] = softmax(e[l, ·]) over s with |s - p_l| ≤ D        window="local-m"
        a[l, s] = that softmax · exp(-(s - p_l)² / (2 (D/2)²))      window="local-p"

        p_l = min(start + l, S_n - 1)                               window="local-m"
        p_l = S_n σ(v_p · tanh(W_p query_l))                        window="local-p"

        context_l = Σ_s a[l, s] value_s

    S_n is the number of keys of sequence n without its padding. Positions l and s count from 0.

    Args:
        query_size: E of the queries.
        key_size: E of the keys, by default query_size; score="dot" needs the two to be equal.
        score: "dot", "general" or "concat".
        window: None, "local-m" (monotonic) or "local-p" (predicted).
        half_width: D of the window; 10 in the paper.
        hidden_size: H of score="concat", by default query_size.
        device, dtype: of the weights.

    Shape:
        query (N, L, E), key (N, S, E), value (N, S, V), by default the keys; key_padding_mask (N, S), True = ignore.

    Returns:
        The pair (context, weights), (N, L, V) and (N, L, S), or None for need_weights=False. With a window the weights
        are zero outside it; they are laid out over the source only if they are asked for.

    Raises:
        TypeError, ValueError: an argument, shape, dtype or device does not fit; a sequence has every key masked; or
            the padding is not at the end, where a window's positions would not be those of the source.

    Source:
        Luong, Pham and Manning (2015), Effective approaches to attention-based neural machine translation: the scores
        and the windows are those of sections 3.1 and 3.2; p_l of local-p is equation 9, the Gaussian equation 10.
    Differs:
        of the published readings of local-p this takes the paper's letter: p is a real number, S σ(·) and not
        (S - 1) σ(·) + 1; it is not rounded, neither for the Gaussian nor for the window, which holds the 2D or 2D + 1
        positions within D of it; the product with the Gaussian is not renormalised, so that weights sum to less
        than 1. Positions are counted from 0, not from 1. In local-m the paper's p_l = l leaves a target that is longer
        than its source without keys; here p stays at the last one. concat's W is kept as two blocks. Input feeding is
        the decoder's.

    >>> attention = LuongAttention(2, score="dot", window="local-m", half_width=1)
    >>> context, weights = attention(torch.zeros(1, 3, 2), torch.ones(1, 4, 2))
    >>> weights
    tensor([[[0.5000, 0.5000, 0.0000, 0.0000],
             [0.3333, 0.3333, 0.3333, 0.0000],
             [0.0000, 0.3333, 0.3333, 0.3333]]])
    """

    def __init__(
        self,
        query_size: int,
        key_size: int | None = None,
        score: str = "general",
        window: str | None = None,
        half_width: int = 10,
        hidden_size: int | None = None,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        key_size = query_size if key_size is None else key_size
        hidden_size = query_size if hidden_size is None else hidden_size
        check_sizes(
            "LuongAttention", query_size=query_size, key_size=key_size, half_width=half_width, hidden_size=hidden_size
        )
        if score not in SCORES:
            raise ValueError(f"LuongAttention: expected score 'dot', 'general' or 'concat', got {score!r}")
        if window not in WINDOWS:
            raise ValueError(f"LuongAttention: expected window None, 'local-m' or 'local-p', got {window!r}")
        if score == "dot" and query_size != key_size:
            raise ValueError(
                "LuongAttention: expected query_size = key_size for score='dot', "
                f"got {query_size} and {key_size}; use score='general'"
            )
        super().__init__()
        self.query_size, self.key_size, self.hidden_size = query_size, key_size, hidden_size
        self.score_name, self.window, self.half_width = score, window, half_width
        where = {"device": device, "dtype": dtype}
        if score == "general":
            self.weight_key = uniform(query_size, key_size, **where)
        if score == "concat":
            self.weight_query = uniform(hidden_size, query_size, **where)
            self.weight_key = uniform(hidden_size, key_size, **where)
            self.weight_score = uniform(hidden_size, **where)
        if window == "local-p":
            self.weight_position = uniform(query_size, query_size, **where)  # W_p
            self.weight_position_score = uniform(query_size, **where)  # v_p

    def forward(
        self,
        query: Tensor,
        key: Tensor | ProjectedKeys,
        value: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
        *,
        start: int = 0,
        need_weights: bool = True,
    ) -> tuple[Tensor, Tensor | None]:
        """``(context, weights)``; ``start`` is the position of the first query, which local-m alone needs."""
        source = self._source(query, key, value, key_padding_mask)
        if self.window is None:
            return super().forward(query, source, need_weights=need_weights)
        keys, values = source.key, source.value
        N, L, S = *query.shape[:2], keys.shape[1]
        centre = self.position(query, source, start=start)  # (N, L)
        index, outside = self._window(centre, _lengths(source))  # (N, L, W)
        near_key = _gather(keys, index)  # (N * L, W, E)
        near_value = near_key if values is keys else _gather(values, index)
        scores = self.score(query.flatten(0, 1).unsqueeze(1), near_key)
        near = masked_softmax(scores, outside.flatten(0, 1))  # (N * L, 1, W)
        if self.window == "local-p":
            distance = (index - centre.unsqueeze(2)).flatten(0, 1).unsqueeze(1)
            near = near * torch.exp(-2 * (distance / self.half_width) ** 2).to(near.dtype)  # sigma = D / 2
        context = (near @ near_value).view(N, L, near_value.shape[2])
        if not need_weights:
            return context, None
        return context, near.new_zeros(N, L, S).scatter_add(2, index, near.view_as(index))

    def project_keys(self, key: Tensor, value: Tensor | None = None, key_padding_mask: Any = None) -> ProjectedKeys:
        """As in every attention; with a window the padding must be at the end, which is a second look at the mask."""
        source = super().project_keys(key, value, key_padding_mask)
        if self.window and source.key_padding_mask is not None:
            check_padding_at_end("LuongAttention", source.key_padding_mask, "move it, or use window=None")
        return source

    def score(self, query: Tensor, key: Tensor) -> Tensor:
        """The scores (N, L, S) of queries (N, L, E) with keys that ``project_keys`` has projected, before the mask."""
        if self.score_name == "concat":
            return additive_score(F.linear(query, self.weight_query), key, self.weight_score)
        return query @ key.mT

    def position(self, query: Tensor, source: ProjectedKeys, start: int = 0) -> Tensor:
        """p (N, L), the position in the source around which the window of each query lies."""
        length = _lengths(source).unsqueeze(1)  # (N, 1)
        if self.window == "local-m":
            t = torch.arange(start, start + query.shape[1], device=query.device)
            return torch.minimum(t, length - 1)
        hidden = torch.tanh(F.linear(query, self.weight_position))
        a = hidden @ self.weight_position_score
        return length * torch.sigmoid(a.to(torch.promote_types(a.dtype, torch.float32)))  # half can't count to 2049

    def _project(self, key: Tensor) -> Tensor:
        return key if self.score_name == "dot" else F.linear(key, self.weight_key)

    def _window(self, centre: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Which keys are near each centre, (N, L, W), and which of these are to be ignored."""
        D, last = self.half_width, length.view(-1, 1, 1) - 1
        offsets = torch.arange(2 * D + 1, device=centre.device)
        index = torch.ceil(centre.detach() - D).long().unsqueeze(2) + offsets
        outside = (index < 0) | (index > last) | (index > centre.detach().unsqueeze(2) + D)
        return torch.minimum(index.clamp(min=0), last), outside

    def extra_repr(self) -> str:
        """The sizes, the score and the window."""
        text = f"{self.query_size}, {self.key_size}, score={self.score_name!r}"
        return text + (f", window={self.window!r}, half_width={self.half_width}" if self.window else "")


def _lengths(source: ProjectedKeys) -> Tensor:
    """The number of keys of each sequence that are not padding, (N)."""
    keys, _, mask = source
    if mask is None:
        return torch.full((keys.shape[0],), keys.shape[1], device=keys.device)
    return (~mask).sum(dim=1)


def _gather(rows: Tensor, index: Tensor) -> Tensor:
    """The rows (N, S, E) of each window, index (N, L, W), as (N * L, W, E)."""
    N, S, E = rows.shape
    first = S * torch.arange(N, device=rows.device).view(N, 1, 1)
    return rows.reshape(N * S, E).index_select(0, (first + index).flatten()).view(N * index.shape[1], index.shape[2], E)
