"""Sequence to sequence: an encoder reads the source, a decoder writes the target, a search finds what it writes.

The batch comes first everywhere, (N, S) and (N, L): attention, masks and beams are counted by sequence, and the
recurrent layers inside are made with batch_first. Tokens are numbered as by ``seqlab.tasks.Vocabulary``: 0 is padding,
1 begins a sequence, 2 ends it.

Training takes the target without its last token as input, and without its first as labels::

    target, _ = pad([words.encode(sentence, bos=True, eos=True) for sentence in sentences], batch_first=True)
    logits = model(source, target[:, :-1], key_padding_mask)
    loss = cross_entropy(logits.flatten(0, 1), target[:, 1:].flatten(), ignore_index=Vocabulary.pad)

Shapes: N batch, S source length, L target length, E embedding_dim, H hidden_size, M memory_size, V tokens.
"""

from __future__ import annotations

from .decoder import Decoder, DecoderState
from .encoder import Encoded, Encoder
from .model import Seq2Seq
from .sampling import sample
from .search import beam_search, greedy_search
from .steps import BeamStep, Hypothesis, StepModel

__all__ = [
    "BeamStep",
    "Decoder",
    "DecoderState",
    "Encoded",
    "Encoder",
    "Hypothesis",
    "Seq2Seq",
    "StepModel",
    "beam_search",
    "greedy_search",
    "sample",
]
