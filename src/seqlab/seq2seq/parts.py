"""What encoder and decoder are made of: the recurrent layer, and the size of an attention's context."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from ..checks import check_dropout
from ..recurrent import GRU, LSTM, RNN

LAYERS: dict[str, Callable[..., nn.RNNBase]] = {"rnn": RNN, "gru": GRU, "lstm": LSTM}


def make_layer(
    who: str,
    cell: Any,
    input_size: int,
    hidden_size: int,
    num_layers: int,
    dropout: float,
    bidirectional: bool = False,
    **place: Any,
) -> nn.RNNBase:
    """The recurrent layer that ``cell`` names or makes, batch first."""
    if isinstance(cell, str):
        if cell not in LAYERS:
            raise ValueError(f"{who}: expected cell 'rnn', 'gru' or 'lstm', or a layer's class, got {cell!r}")
        cell = LAYERS[cell]
    check_dropout(who, dropout)
    between = dropout if num_layers > 1 else 0.0
    options = {"batch_first": True, "dropout": between, "bidirectional": bidirectional, **place}
    return cell(input_size, hidden_size, num_layers, **options)


def context_size(attention: Any, H: int, M: int) -> int:
    """C, as the attention says; H and M are those of its queries and keys."""
    if not callable(getattr(attention, "context_size", None)):
        raise TypeError(
            "Decoder: expected an attention with a method context_size(query_size, key_size), as those of "
            f"seqlab.attention, got {type(attention).__name__}; give it one that returns the features of a context"
        )
    try:
        return attention.context_size(H, M)
    except ValueError as error:
        raise ValueError(
            f"Decoder: expected an attention for queries of hidden_size={H} and keys of memory_size={M}, batch first, "
            f"got one that refuses them: {error}"
        ) from error
