"""What the kinds of attention share: the source made ready, masks, and the call itself.

Shapes: N batch, L target length, S source length, E and V the features of one key and one value.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .._torch import forward_mode, is_batched, transforming
from ..checks import check_like


class ProjectedKeys(NamedTuple):
    """What attention needs of a source, made once by ``project_keys`` and used for every query.

    Args:
        key: the keys in the space in which they are scored, (N, S, ·); (N, heads, S, ·) in multi-head attention.
        value: the values, (N, S, V); in multi-head attention projected too, (N, heads, S, ·).
        key_padding_mask: (N, S), True = ignore, already checked; or None.

    >>> from seqlab.attention import ScaledDotProductAttention
    >>> attention = ScaledDotProductAttention()
    >>> projected = attention.project_keys(torch.zeros(2, 5, 3))
    >>> context, weights = attention(torch.zeros(2, 1, 3), projected)
    >>> weights.shape
    torch.Size([2, 1, 5])
    """

    key: Tensor
    value: Tensor
    key_padding_mask: Tensor | None = None


def causal_mask(length: int, device: Any = None) -> Tensor:
    """The mask of a sequence that attends to itself and must not see what comes later; True = ignore.

    Args:
        length: L, of queries and of keys.
        device: where the mask is made.

    Returns:
        boolean (L, L), True where the key comes after the query.

    >>> causal_mask(3).int()
    tensor([[0, 1, 1],
            [0, 0, 1],
            [0, 0, 0]], dtype=torch.int32)
    """
    return torch.ones(length, length, dtype=torch.bool, device=device).triu(1)


def can_look(tensor: Tensor) -> bool:
    """Whether Python may branch on the values of a tensor: not while they are recorded or batched by vmap."""
    return not torch.compiler.is_compiling() and not is_batched(tensor)


def transformed() -> bool:
    """Whether the call is recorded, or differentiated by other means than autograd's backward pass."""
    return transforming() or forward_mode() or torch.compiler.is_compiling()


def check_key_padding_mask(who: str, mask: Any, N: int, S: int) -> None:
    """The mask is boolean, fits the keys, and leaves every sequence a key."""
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        got = f"a tensor of {mask.dtype}" if isinstance(mask, Tensor) else type(mask).__name__
        raise TypeError(f"{who}: expected key_padding_mask as a boolean Tensor, True = ignore, got {got}")
    if mask.shape != (N, S):
        raise ValueError(
            f"{who}: expected key_padding_mask (N, S) = {(N, S)}, to fit the keys, got {tuple(mask.shape)}; "
            "it has one value per key, True where the key is padding"
        )
    if can_look(mask) and (empty := mask.all(dim=1)).any():
        raise ValueError(
            f"{who}: expected at least one key to attend to in every sequence, got key_padding_mask all True "
            f"for sequence(s) {empty.nonzero().flatten().tolist()}; True = ignore: invert the mask if it marks "
            "what is to be kept, or leave empty sequences out"
        )


def check_padding_at_end(who: str, mask: Tensor, remedy: str) -> None:
    """No sequence goes on after its padding."""
    if can_look(mask) and (mask[:, :-1] & ~mask[:, 1:]).any():
        raise ValueError(
            f"{who}: expected key_padding_mask with the padding at the end, got padding before a token; {remedy}"
        )


def check_sequence(who: str, name: str, tensor: Any, size: int | None, axes: str = "(N, S, E)") -> None:
    """The tensor is a batch of sequences of vectors of the given size."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{who}: expected {name} as a Tensor, got {type(tensor).__name__}")
    letter, shape = axes[-2], tuple(tensor.shape)
    wanted = f"{name} {axes}" + ("" if size is None else f" with {letter}={size}")
    if len(shape) != 3:
        remedy = f"use {name}.unsqueeze(1) for a sequence of one" if len(shape) == 2 else "add or drop axes"
        raise ValueError(f"{who}: expected {wanted}, got {shape}; {remedy}")
    if size is not None and shape[-1] != size:
        raise ValueError(f"{who}: expected {wanted}, got {shape}; put the features last, or project them to {size}")


def check_source(who: str, key: Tensor, value: Tensor) -> None:
    """Every key has its value, and there is at least one."""
    if value.shape[:-1] != key.shape[:-1]:
        raise ValueError(
            f"{who}: expected one value for each key {tuple(key.shape)}, got value {tuple(value.shape)}; "
            "all axes but the last must agree"
        )
    if key.shape[-2] == 0:
        raise ValueError(f"{who}: expected at least one key, got length 0 in {tuple(key.shape)}")


def check_batch(who: str, query: Tensor, key: Tensor) -> None:
    """Queries and keys belong to one batch."""
    if query.shape[0] != key.shape[0]:
        raise ValueError(
            f"{who}: expected query and key of one batch, got N={query.shape[0]} and N={key.shape[0]}; "
            "the batch comes first"
        )


def check_fit(attention: nn.Module, query_size: int, key_size: int, E: int, E_key: int) -> None:
    """Queries and keys of these sizes are those that the attention takes, of E and E_key features."""
    if (query_size, key_size) != (E, E_key):
        raise ValueError(
            f"{type(attention).__name__}: expected queries of {E} and keys of {E_key} features, got {query_size} and "
            f"{key_size}; make it for these sizes"
        )


def refuse_second_source(who: str, value: Any, key_padding_mask: Any) -> None:
    """Projected keys hold values and mask already."""
    if value is not None or key_padding_mask is not None:
        raise ValueError(
            f"{who}: expected no value and no key_padding_mask beside projected keys, which hold both; "
            "pass them to project_keys"
        )


def masked_softmax(scores: Tensor, mask: Tensor | None) -> Tensor:
    """softmax over the last axis, scores (N, L, S); the weight of an ignored key, mask (N, S), is exactly 0."""
    if mask is not None:
        scores = scores.masked_fill(mask.unsqueeze(1), -math.inf)
    return torch.softmax(scores, dim=-1)


class SourceAttention(nn.Module):
    """The call that additive and Luong's attention share; a class adds its score and its weights."""

    query_size: int
    key_size: int

    def project_keys(self, key: Tensor, value: Tensor | None = None, key_padding_mask: Any = None) -> ProjectedKeys:
        """Do what depends on the source alone: pass the result as ``key``, once per source, to any number of calls.

        Args:
            key, value, key_padding_mask: as in ``forward``.

        The result belongs to the weights as they are now: project again after a step of the optimizer.
        """
        who = type(self).__name__
        check_sequence(who, "key", key, self.key_size)
        for weight in self.parameters():
            check_like(who, "key", key, weight)
        if value is None:
            value = key
        check_sequence(who, "value", value, None, "(N, S, V)")
        check_source(who, key, value)
        if key_padding_mask is not None:
            check_key_padding_mask(who, key_padding_mask, *key.shape[:2])
        return ProjectedKeys(self._project(key), value, key_padding_mask)

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
        """``(context, weights)``; shapes as in the class, ``start`` as in every attention."""
        source = self._source(query, key, value, key_padding_mask)
        weights = masked_softmax(self.score(query, source.key), source.key_padding_mask)
        return weights @ source.value, weights if need_weights else None

    def context_size(self, query_size: int, key_size: int) -> int:
        """Features of a context, as in every attention."""
        check_fit(self, query_size, key_size, self.query_size, self.key_size)
        return key_size

    def score(self, query: Tensor, key: Tensor) -> Tensor:
        """The scores (N, L, S) of queries (N, L, E) with keys that ``project_keys`` has projected, before the mask."""
        raise NotImplementedError

    def _project(self, key: Tensor) -> Tensor:
        raise NotImplementedError

    def _source(self, query: Any, key: Any, value: Any, key_padding_mask: Any) -> ProjectedKeys:
        """The keys made ready, now or before, and the query checked against them."""
        who = type(self).__name__
        check_sequence(who, "query", query, self.query_size, "(N, L, E)")
        for weight in self.parameters():
            check_like(who, "query", query, weight)
        if isinstance(key, ProjectedKeys):
            refuse_second_source(who, value, key_padding_mask)
            source = key
        else:
            source = self.project_keys(key, value, key_padding_mask)
        check_batch(who, query, source.key)
        return source


def uniform(*shape: int, device: Any, dtype: Any) -> nn.Parameter:
    """A weight as ``torch.nn.Linear`` draws it: uniform within 1 / sqrt(fan-in), the size of the last axis."""
    bound = 1 / math.sqrt(shape[-1])
    return nn.Parameter(torch.empty(shape, device=device, dtype=dtype).uniform_(-bound, bound))
