"""What encoder and decoder share: the embedding, the recurrent layer, and a look at whether attention fits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

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
