"""Tokens as models take them: integers (N, L), from 0 to the size of the vocabulary."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def check_tokens(who: str, name: str, tokens: Any) -> None:
    """The tokens are integers (N, L) of at least one sequence of at least one token."""
    if not isinstance(tokens, Tensor) or tokens.dtype not in (torch.int64, torch.int32):
        got = f"a tensor of {tokens.dtype}" if isinstance(tokens, Tensor) else type(tokens).__name__
        raise TypeError(f"{who}: expected {name} as a tensor of integers, got {got}; use Vocabulary.encode and pad")
    if tokens.dim() != 2 or 0 in tokens.shape:
        raise ValueError(
            f"{who}: expected {name} with at least one sequence of at least one token, got {tuple(tokens.shape)}; "
            "use tokens.unsqueeze(0) for a single sequence, and leave empty ones out"
        )


def embed(who: str, name: str, tokens: Any, embedding: Callable[[Tensor], Tensor], num_tokens: int) -> Tensor:
    """The embedding of tokens (N, L), after a look at their shape and dtype; on the CPU at their range too."""
    check_tokens(who, name, tokens)
    try:
        return embedding(tokens)
    except IndexError as error:
        raise ValueError(
            f"{who}: expected {name} of tokens from 0 to {num_tokens - 1}, got {int(tokens.min())} to "
            f"{int(tokens.max())}; make num_tokens the length of the vocabulary they were encoded with"
        ) from error
