"""The Transformer: positions, encoder and decoder blocks, stacks of them, and two models that generate.

All is built from :class:`seqlab.attention.MultiheadAttention`. The batch comes first everywhere, (N, L, E), as in the
modules of attention. Parameters have the names, shapes and initial values of ``torch.nn.TransformerEncoderLayer`` and
``torch.nn.TransformerDecoderLayer``, and a state_dict of blocks and stacks goes both ways. Where the norm stands is
``norm_first``: after the sum of each sublayer and its input as in the paper (False), or before the sublayer (True).

Whatever attends to itself causally takes a whole sequence at once, or a few positions at a time with a cache of the
keys and values of those before; both give the same. ``key_padding_mask`` (N, L) is True where a position is padding.
Outputs at padding are not zero and mean nothing.

Shapes: N batch, L target length, S source length, E = d_model, V vocabulary.
"""

from __future__ import annotations

from .blocks import DecoderBlock, EncoderBlock
from .models import LanguageModel, TokenEmbedding, Transformer, TransformerState
from .positions import LearnedPositions, SinusoidalPositions
from .stacks import TransformerDecoder, TransformerEncoder

__all__ = [
    "DecoderBlock",
    "EncoderBlock",
    "LanguageModel",
    "LearnedPositions",
    "SinusoidalPositions",
    "TokenEmbedding",
    "Transformer",
    "TransformerDecoder",
    "TransformerEncoder",
    "TransformerState",
]
