"""What encoder and decoder share: the embedding, the recurrent layer, and a look at whether attention fits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..checks import check_dropout
from ..recurrent import GRU, LSTM, RNN

LAYERS: dict[str, Callable[..., nn.RNNBase]] = {"rnn": RNN, "gru": GRU, "lstm": LSTM}


def make_layer(
    who: str, cell: Any, input_size: int, hidden_size: int, num_layers: int, dropout: float, bidirectional: bool = False
) -> nn.RNNBase:
    """The recurrent layer that ``cell`` names or makes, batch first."""
    if isinstance(cell, str):
        if cell not in LAYERS:
            raise ValueError(f"{who}: expected cell 'rnn', 'gru' or 'lstm', or a layer's class, got {cell!r}")
        cell = LAYERS[cell]
    check_dropout(who, dropout)
    between = dropout if num_layers > 1 else 0.0
    return cell(input_size, hidden_size, num_layers, batch_first=True, dropout=between, bidirectional=bidirectional)


def embed(who: str, name: str, embedding: nn.Embedding, tokens: Any) -> Tensor:
    """The embedding of tokens (N, ·), after a look at their shape and dtype."""
    if not isinstance(tokens, Tensor) or tokens.dtype not in (torch.int64, torch.int32):
        got = f"a tensor of {tokens.dtype}" if isinstance(tokens, Tensor) else type(tokens).__name__
        raise TypeError(f"{who}: expected {name} as a tensor of integers, got {got}; use Vocabulary.encode and pad")
    if tokens.dim() != 2 or 0 in tokens.shape:
        raise ValueError(
            f"{who}: expected {name} with at least one sequence of at least one token, got {tuple(tokens.shape)}; "
            "use tokens.unsqueeze(0) for a single sequence, and leave empty ones out"
        )
    try:
        return embedding(tokens)
    except IndexError as error:
        raise ValueError(
            f"{who}: expected {name} of tokens from 0 to {embedding.num_embeddings - 1}, got {int(tokens.min())} to "
            f"{int(tokens.max())}; make num_tokens the length of the vocabulary they were encoded with"
        ) from error


def context_size(attention: nn.Module, H: int, M: int) -> int:
    """C, found out with zeros, of two sequences of three keys: whatever the module, its sizes fit or it says why."""
    like = next(attention.parameters(), torch.empty(0))
    try:
        with torch.no_grad():
            context, _ = attention(like.new_zeros(2, 1, H), like.new_zeros(2, 3, M))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"Decoder: expected an attention for queries of hidden_size={H} and keys of memory_size={M}, batch first, "
            f"got one that refuses them: {error}"
        ) from error
    return context.shape[-1]
