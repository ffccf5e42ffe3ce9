"""Additive attention, and its score with a backward pass that keeps no tensor of size L × S × H.

Written with autograd, v · tanh(q + k) stores tanh of all N·L·S·H sums for the way back: 50 queries of 100 keys of 256
numbers in a batch of 32 are 160 MB, several times over while it runs. Here only q and k are stored. The way back
computes tanh again, some queries at a time, in one buffer. With many pairs that is faster too, since memory is the
bottleneck; with few, tanh is, and computing it twice takes up to twice the time. Up to KEEP numbers are therefore kept.
A GPU, which has no cache to stay in and where every kernel has its price, takes half of the queries at a time.

    e[l, s]  = Σ_h v[h] t[l, s, h]                     t[l, s, h] = tanh(q[l, h] + k[s, h])
    dv[h]    = Σ_l Σ_s de[l, s] t[l, s, h]
    dq[l, h] = v[h] Σ_s de[l, s] (1 - t[l, s, h]²)
    dk[s, h] = v[h] Σ_l de[l, s] (1 - t[l, s, h]²)

Shapes: N batch, L target length, S source length, H hidden_size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function

from .._torch import tanh_backward_
from ..checks import check_sizes
from .common import SourceAttention, transformed, uniform

KEEP = {"cpu": 2**19}  # numbers, 2 MB in float32; a decoder that asks step by step keeps as much at every step
KEEP_ELSEWHERE = 2**22  # where a launch costs more than the work, less is worth computing twice
BLOCK = 2**18  # numbers in the buffer on a CPU, whose cache holds as many, if one query needs no more
SHARE = 8  # elsewhere the buffer is half of all sums, or this part of a GPU's memory, whichever is less


def additive_score(query: Tensor, key: Tensor, v: Tensor) -> Tensor:
    """e[n, l, s] = v · tanh(query[n, l] + key[n, s]), without keeping a large tanh for the backward pass.

    Args:
        query, key: already projected into one space.
        v: the weight of each of its coordinates.

    Shape:
        query (N, L, H), key (N, S, H), v (H).

    Returns:
        scores (N, L, S).

    Raises:
        ValueError: the shapes don't fit each other.

    Source:
        Bahdanau, Cho and Bengio (2015), appendix A.1.2. The gradients are at the head of the module.

    With at most 2¹⁹ sums (2²² on a GPU), for second derivatives and forward-mode differentiation, under ``torch.func``
    and while torch.compile or torch.export records, the plain form is computed, which keeps N·L·S·H numbers.

    >>> q, k, v = torch.zeros(1, 2, 4), torch.ones(1, 3, 4), torch.full((4,), 0.25)
    >>> additive_score(q, k, v)  # tanh(1) everywhere
    tensor([[[0.7616, 0.7616, 0.7616],
             [0.7616, 0.7616, 0.7616]]])
    """
    batch_and_size = key.shape[::2]  # (N, H)
    if key.dim() != 3 or query.dim() != 3 or query.shape[::2] != batch_and_size or v.shape != batch_and_size[1:]:
        raise ValueError(
            "additive_score: expected query (N, L, H), key (N, S, H) and v (H), "
            f"got {tuple(query.shape)}, {tuple(key.shape)} and {tuple(v.shape)}; project both to one size first"
        )
    v = v.to(key.dtype)  # autocast makes query and key half, and leaves v
    if transformed() or query.shape[1] * key.numel() <= KEEP.get(key.device.type, KEEP_ELSEWHERE):
        return torch.tanh(query.unsqueeze(2) + key.unsqueeze(1)) @ v  # (N, L, S, H) @ (H)
    return _LeanScore.apply(query, key, v)


class _LeanScore(Function):
    """The node in autograd's graph."""

    @staticmethod
    def forward(query: Tensor, key: Tensor, v: Tensor) -> Tensor:
        scores = query.new_empty(*query.shape[:2], key.shape[1])
        for some, t in _blocks(query, key):
            scores[:, some] = t @ v
        return scores

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, d_scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key, v = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph: the gradient itself is to be differentiated
            t = torch.tanh(query.unsqueeze(2) + key.unsqueeze(1))  # (N, L, S, H)
            d_sum = d_scores.unsqueeze(3) * (1 - t * t) * v
            return d_sum.sum(2), d_sum.sum(1), torch.einsum("nls, nlsh -> h", d_scores, t)
        d_query, d_key, d_v = torch.empty_like(query), torch.zeros_like(key), torch.zeros_like(v)
        for some, t in _blocks(query, key):
            d = d_scores[:, some]
            d_v.addmv_(t.flatten(0, 2).t(), d.reshape(-1))
            tanh_backward_(d.unsqueeze(3), t)  # d (1 - t²), over t itself
            d_key += t.sum(1)
            d_query[:, some] = t.sum(2)
        return d_query.mul_(v), d_key.mul_(v), d_v


def _blocks(query: Tensor, key: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Some queries at a time, and tanh(q + k) of them with all keys, (N, some, S, H), in a buffer used again."""
    L = query.shape[1]
    size = max(1, min(L, _queries_at_once(L, key)))
    buffer = key.new_empty(key.shape[0], size, *key.shape[1:])
    for start in range(0, L, size):
        some = slice(start, min(start + size, L))
        t = buffer if some.stop - start == size else key.new_empty(key.shape[0], some.stop - start, *key.shape[1:])
        yield some, torch.add(query[:, some].unsqueeze(2), key.unsqueeze(1), out=t).tanh_()


def _queries_at_once(L: int, key: Tensor) -> int:
    one = max(1, key.numel())  # numbers that a query needs with all keys
    if key.device.type == "cpu":
        return BLOCK // one
    half = -(-L // 2)
    if key.device.type != "cuda":
        return half
    memory = torch.cuda.get_device_properties(key.device).total_memory
    return min(half, memory // SHARE // key.element_size() // one)


class AdditiveAttention(SourceAttention):
    """Bahdanau's attention, between a query (the decoder's state) and keys (the encoder's states)::

        e[l, s] = v · tanh(W_q query_l + W_k key_s)                      score
        e[l, s] = g v/|v| · tanh(W_q query_l + W_k key_s + b)            score, normed=True
        a[l, ·] = softmax(e[l, ·])                                       weights
        context_l = Σ_s a[l, s] value_s

    Args:
        query_size, key_size: E of the queries and of the keys.
        hidden_size: H, the size of the space in which the two are added.
        normed: whether v has a length g of its own, which starts at 1 / sqrt(H), and the sum a bias b.
        device, dtype: of the weights.

    Shape:
        query (N, L, E), key (N, S, E), value (N, S, V), by default the keys; key_padding_mask (N, S), True = ignore.

    Returns:
        The pair (context, weights), (N, L, V) and (N, L, S), or None for need_weights=False.

    Raises:
        TypeError, ValueError: a size, shape, dtype or device does not fit, or a sequence has every key masked.

    Source:
        Bahdanau, Cho and Bengio (2015), Neural machine translation by jointly learning to align and translate,
        appendix A.1.2, where W_q, W_k, v are W_a, U_a, v_a; the normed form is weight normalisation of v, after
        Salimans and Kingma (2016).
    Differs:
        the paper's query is the decoder's state before its step; that wiring belongs to the decoder. Weights are
        drawn as torch.nn.Linear's. The score keeps no large tanh for the backward pass: see :func:`additive_score`.

    >>> attention = AdditiveAttention(query_size=3, key_size=4, hidden_size=8)
    >>> padding = torch.tensor([[False, False, True], [False, False, False]])
    >>> context, weights = attention(torch.zeros(2, 1, 3), torch.ones(2, 3, 4), key_padding_mask=padding)
    >>> weights  # keys that are all alike share the weight
    tensor([[[0.5000, 0.5000, 0.0000]],
    <BLANKLINE>
            [[0.3333, 0.3333, 0.3333]]], grad_fn=<SoftmaxBackward0>)

    Three source states whose scores are 2.1, 0.2 and 0.1, as for "bank" beside "river", give

    >>> torch.softmax(torch.tensor([2.1, 0.2, 0.1]), dim=0)
    tensor([0.7783, 0.1164, 0.1053])
    """

    def __init__(
        self,
        query_size: int,
        key_size: int,
        hidden_size: int,
        normed: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        check_sizes("AdditiveAttention", query_size=query_size, key_size=key_size, hidden_size=hidden_size)
        super().__init__()
        self.query_size, self.key_size, self.hidden_size, self.normed = query_size, key_size, hidden_size, normed
        self.weight_query = uniform(hidden_size, query_size, device=device, dtype=dtype)
        self.weight_key = uniform(hidden_size, key_size, device=device, dtype=dtype)
        self.weight_score = uniform(hidden_size, device=device, dtype=dtype)
        gain = torch.tensor(1 / math.sqrt(hidden_size), device=device, dtype=dtype)
        self.gain = nn.Parameter(gain) if normed else None
        self.bias = nn.Parameter(torch.zeros(hidden_size, device=device, dtype=dtype)) if normed else None

    def score(self, query: Tensor, key: Tensor) -> Tensor:
        """The scores (N, L, S) of queries (N, L, E) with keys that ``project_keys`` has projected, before the mask."""
        v = self.weight_score if self.gain is None else self.gain * F.normalize(self.weight_score, dim=0, eps=0.0)
        return additive_score(F.linear(query, self.weight_query, self.bias), key, v)

    def _project(self, key: Tensor) -> Tensor:
        return F.linear(key, self.weight_key)

    def extra_repr(self) -> str:
        """The sizes, and normed where it is asked for."""
        sizes = f"{self.query_size}, {self.key_size}, {self.hidden_size}"
        return sizes + (", normed=True" if self.normed else "")
