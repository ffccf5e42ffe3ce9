"""The encoder: embedded source tokens through a recurrent layer, one vector for each token and one for the whole.

Shapes: N batch, S source length, E embedding_dim, H hidden_size, D directions, M = D * H memory_size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from .._tokens import embed
from ..attention.common import check_key_padding_mask, check_padding_at_end
from ..checks import check_sizes
from .parts import make_layer


class Encoded(NamedTuple):
    """What the encoder hands to the decoder.

    Args:
        memory: the top layer's state at each source token, (N, S, M), zero at padding.
        state: the final states, (h,) or in an LSTM (h, c), each (N, num_layers, M). In M lies the state after the
            last token, and behind it, of a second direction, the state after the first.
        key_padding_mask: (N, S), True = ignore, or None if nothing is padded.

    >>> import torch
    >>> Encoded(torch.zeros(2, 5, 8), (torch.zeros(2, 1, 8),)).memory.shape
    torch.Size([2, 5, 8])
    """

    memory: Tensor
    state: tuple[Tensor, ...]
    key_padding_mask: Tensor | None = None


class Encoder(nn.Module):
    """Embedding and a recurrent layer over the source::

        →h_s = f(E x_s, →h_{s-1})
        ←h_s = f(E x_s, ←h_{s+1})              bidirectional=True
        memory_s = [→h_s; ←h_s]                state = [→h_S; ←h_1]

    A sentence gives the same in a padded batch as alone: the states of both directions are those at its own ends.

    Args:
        num_tokens: of the source vocabulary, special ones included.
        embedding_dim: E.
        hidden_size: H, of each direction.
        cell: "rnn", "gru" or "lstm"; or what makes the layer when called like the class ``GRU``, as
            ``functools.partial(GRU, reset_after=False)``.
        num_layers: of the recurrent layer.
        bidirectional: whether a second direction reads from the end.
        dropout: probability, during training, for the embedding and between layers.
        device, dtype: of the weights.

    Shape:
        source (N, S), integers; key_padding_mask (N, S), True = ignore, with the padding at the end.

    Returns:
        :class:`Encoded`, with memory (N, S, M); ``encoder.memory_size`` is M = D * H.

    Raises:
        TypeError, ValueError: an argument, shape or dtype does not fit; the source has no token, or a sentence of it is
            masked as a whole; padding before a token; on the CPU, a token outside the vocabulary.

    Source:
        Cho et al. (2014) and Sutskever, Vinyals and Le (2014); with two directions Bahdanau, Cho and Bengio (2015),
        section 3.2.
    Differs:
        the source is read as it is given; Sutskever et al. turn it round, which is ``source.flip(1)`` before padding.
        torch.export takes an encoder without a mask: how a padded batch is packed depends on the mask's values.

    >>> import torch
    >>> encoder = Encoder(10, embedding_dim=3, hidden_size=4, bidirectional=True)
    >>> padding = torch.tensor([[False, False, False], [False, True, True]])
    >>> memory, (h,), mask = encoder(torch.tensor([[5, 6, 7], [8, 0, 0]]), padding)
    >>> memory.shape, h.shape
    (torch.Size([2, 3, 8]), torch.Size([2, 1, 8]))
    """

    def __init__(
        self,
        num_tokens: int,
        embedding_dim: int,
        hidden_size: int,
        cell: str | Callable[..., nn.RNNBase] = "gru",
        num_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        check_sizes("Encoder", num_tokens=num_tokens, embedding_dim=embedding_dim)
        super().__init__()
        place: dict[str, Any] = {"device": device, "dtype": dtype}
        self.memory_size = (2 if bidirectional else 1) * hidden_size
        self.embedding = nn.Embedding(num_tokens, embedding_dim, **place)
        self.layer = make_layer(
            "Encoder", cell, embedding_dim, hidden_size, num_layers, dropout, bidirectional, **place
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, source: Tensor, key_padding_mask: Tensor | None = None) -> Encoded:
        """Read the source; shapes as in the class."""
        embedded = self.dropout(
            embed("Encoder", "source (N, S)", source, self.embedding, self.embedding.num_embeddings)
        )  # (N, S, E)
        N, S = source.shape
        lengths = None if key_padding_mask is None else _lengths(key_padding_mask, N, S)
        if lengths is None or bool((lengths == S).all()):
            memory, final = self.layer(embedded)
            key_padding_mask = None
        else:
            packed = pack_padded_sequence(embedded, lengths.cpu(), batch_first=True, enforce_sorted=False)
            output, final = self.layer(packed)
            memory, _ = pad_packed_sequence(output, batch_first=True, total_length=S)
        states = final if isinstance(final, tuple) else (final,)
        # (layers * D, N, H), the directions of a layer side by side, to (N, layers, D * H)
        by_layer = (s.unflatten(0, (self.layer.num_layers, -1)).permute(2, 0, 1, 3).flatten(2) for s in states)
        return Encoded(memory, tuple(by_layer), key_padding_mask)


def _lengths(mask: Tensor, N: int, S: int) -> Tensor:
    """The number of tokens of each sentence, (N), after a check of the mask."""
    check_key_padding_mask("Encoder", mask, N, S)
    check_padding_at_end("Encoder", mask, "a recurrent layer reads on through it: move it, as seqlab.tasks.pad does")
    return (~mask).sum(1)
