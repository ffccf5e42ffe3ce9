"""Attention: a score of each query with each key, a softmax over the keys, and the weighted sum of the values.

All take the same call, ``context, weights = attention(query, key, value=None, key_padding_mask=None)``, in which the
values are the keys unless they are given. Five things hold for every class:

* ``key_padding_mask`` (N, S) is boolean, True where a key is to be ignored. A sequence with no key left raises
  ValueError; no NaN and no uniform average comes back. To see this the mask's values are looked at, which on a GPU
  makes the CPU wait once per call. The look is left out where values can't be looked at: while torch.compile or
  torch.export records, and under ``torch.func.vmap`` over masks; there such a sequence gives NaN.
* ``projected = attention.project_keys(key, value, key_padding_mask)`` does once what depends on the source alone,
  the check of the mask too; ``attention(query, projected)`` then costs a decoder's step only what depends on the query.
* Weights are returned, not stored; ``need_weights=False`` returns None in their place and may be faster.
* ``attention.context_size(query_size, key_size)`` is the number of features of a context, for queries and keys of these
  sizes with the batch first, the values being the keys; it raises ValueError where they don't fit.
* ``start=``, the position of the first query in its sequence, is taken by all, though only a window that moves with the
  target uses it: a decoder tells every attention where it is.

Shapes: N batch, L target length, S source length, E and V the features of one key and one value.
"""

from __future__ import annotations

from .additive import AdditiveAttention, additive_score
from .common import ProjectedKeys, causal_mask
from .luong import LuongAttention
from .scaled import MultiheadAttention, ScaledDotProductAttention

__all__ = [
    "AdditiveAttention",
    "LuongAttention",
    "MultiheadAttention",
    "ProjectedKeys",
    "ScaledDotProductAttention",
    "additive_score",
    "causal_mask",
]
