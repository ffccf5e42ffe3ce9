"""Encoder and decoder in one module, with the interface that the searches use.

Shapes: N batch, S source length, L target length, V tokens of the target.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn

from .decoder import Decoder, DecoderState
from .encoder import Encoder


class Seq2Seq(nn.Module):
    """The probability of a target given its source, token by token::

        p(y | x) = Π_t p(y_t | y_1 ... y_{t-1}, x)

    Args:
        encoder: reads the source.
        decoder: writes the target; its memory_size is the encoder's.

    Shape:
        source (N, S), target (N, L), integers; key_padding_mask (N, S), True = ignore.

    Returns:
        logits (N, L, V) of the token after each token of the target; padded targets need no mask, for a step sees
        nothing later, and the loss leaves padding out by ``ignore_index``.

    Raises:
        ValueError: the decoder expects another memory; or as :class:`Encoder` and :class:`Decoder`.

    Source:
        Sutskever, Vinyals and Le (2014), Sequence to sequence learning with neural networks.

    >>> encoder = Encoder(10, embedding_dim=3, hidden_size=4)
    >>> model = Seq2Seq(encoder, Decoder(12, 3, 4, encoder.memory_size, wiring="sutskever"))
    >>> source, target = torch.tensor([[5, 6, 7]]), torch.tensor([[1, 9, 8, 2]])  # <bos> 9 8 <eos>
    >>> logits = model(source, target[:, :-1])
    >>> loss = nn.functional.cross_entropy(logits.flatten(0, 1), target[:, 1:].flatten(), ignore_index=0)
    >>> logits.shape, loss.shape
    (torch.Size([1, 3, 12]), torch.Size([]))
    """

    def __init__(self, encoder: Encoder, decoder: Decoder) -> None:
        super().__init__()
        if encoder.memory_size != decoder.memory_size:
            raise ValueError(
                f"Seq2Seq: expected a decoder with memory_size={encoder.memory_size}, as the encoder's, got "
                f"{decoder.memory_size}; pass encoder.memory_size to Decoder"
            )
        self.encoder = encoder
        self.decoder = decoder

    def forward(
        self,
        source: Tensor,
        target: Tensor,
        key_padding_mask: Tensor | None = None,
        *,
        sampling_probability: float = 0.0,
        generator: Generator | None = None,
    ) -> Tensor:
        """The logits; for attention weights call ``model.decoder(target, model.encoder(source), need_weights=True)``.

        Args:
            source, target, key_padding_mask: as in the class; the target begins with its first token, <bos>.
            sampling_probability, generator: as in :class:`Decoder`.
        """
        encoded = self.encoder(source, key_padding_mask)
        logits, _ = self.decoder(target, encoded, sampling_probability=sampling_probability, generator=generator)
        return logits

    def start(self, source: Tensor, key_padding_mask: Tensor | None = None) -> DecoderState:
        """Read the source: the state before the first step."""
        return self.decoder.start(self.encoder(source, key_padding_mask))

    def step(self, tokens: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        """Log-probabilities (N, V) of the token after ``tokens`` (N), and the state after it."""
        logits, state = self.decoder.step(tokens, state)
        return torch.log_softmax(logits, dim=-1), state
