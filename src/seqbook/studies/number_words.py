"""Number words, English to French: one small translation for every way from source to target.

The chapters on the bottleneck and on attention train these models, and ``experiments/number_words.py`` many of them.
Everything but the model stays: 18,138 numbers of 1 to 18 digits for training, 1,746 others for the test, one GRU to
read and one to write, the batches, the optimizer.

Shapes: N batch, S English words, L French words.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from seqlab.attention import AdditiveAttention, LuongAttention, ScaledDotProductAttention
from seqlab.metrics import bleu, length_bins
from seqlab.seq2seq import Decoder, Encoder, Hypothesis, Seq2Seq, greedy_search
from seqlab.tasks import NumberPair, Vocabulary, length_batches, number_pairs, pad, split
from seqlab.training import epochs, fit, seed_everything

from .common import batch, loss

__all__ = ["LENGTHS", "MODELS", "Data", "Settings", "build", "run", "scores", "train", "translate"]

LENGTHS = (1, 7, 12, 17, 22, 27)  # least words of each bin
LONGEST = 45  # words of an answer; the longest in French has 33
HALF_WIDTH = 4  # of the windows of local attention

# What the decoder is given of the source: its wiring, and its attention for H numbers of query and key.
Models = Mapping[str, tuple[str, Callable[[int], nn.Module | None]]]
MODELS: Models = {
    "none": ("cho", lambda H: None),
    "first state only": ("sutskever", lambda H: None),
    "additive": ("bahdanau", lambda H: AdditiveAttention(H, H, H)),
    "dot": ("luong", lambda H: LuongAttention(H, score="dot")),
    "general": ("luong", lambda H: LuongAttention(H, score="general")),
    "concat": ("luong", lambda H: LuongAttention(H, score="concat")),
    "scaled": ("luong", lambda H: ScaledDotProductAttention()),
    "local-m": ("luong", lambda H: LuongAttention(H, score="general", window="local-m", half_width=HALF_WIDTH)),
    "local-p": ("luong", lambda H: LuongAttention(H, score="general", window="local-p", half_width=HALF_WIDTH)),
    "input feeding": ("input-feeding", lambda H: LuongAttention(H, score="general")),
}


@dataclass(frozen=True)
class Settings:
    """All that decides a result, but the machine.

    Args:
        model: a name in MODELS. "none" reads the encoder's last state at every step, "first state only" begins with it.
        hidden_size: H of the decoder, and of the encoder, both directions together.
        bidirectional: whether the encoder reads from the end too.
        reverse: whether the source is turned round.
        steps: updates.
        seed: of weights and order. Data and split are the same for all.
        embedding_dim: of English and French words.
        batch_size: pairs of numbers.
        rate: the highest learning rate of AdamW, reached after a twentieth of the steps; from there a cosine to 0.

    >>> Settings("dot").hidden_size
    128
    """

    model: str
    hidden_size: int = 128
    bidirectional: bool = False
    reverse: bool = False
    steps: int = 1000
    seed: int = 0
    embedding_dim: int = 64
    batch_size: int = 64
    rate: float = 2e-3


class Data:
    """The numbers in two parts, and the vocabularies. It takes six seconds to say them all.

    Attributes:
        train, test: of :class:`seqlab.tasks.NumberPair`; no number is in both, and none twice in the test.
        english, french: :class:`seqlab.tasks.Vocabulary`.

    >>> data = Data()
    >>> len(data.train), len(data.test)
    (18138, 1746)
    """

    def __init__(self) -> None:
        pairs = number_pairs(20_000, generator=torch.Generator().manual_seed(0))
        parts = split(pairs, test=0.1, validation=0.0, key=lambda pair: pair.number)
        self.train, self.test = parts.train, list(dict.fromkeys(parts.test))
        self.english, self.french = Vocabulary(p.source for p in pairs), Vocabulary(p.target for p in pairs)

    def encode(self, pairs: Sequence[NumberPair], reverse: bool = False) -> list[tuple[Tensor, Tensor]]:
        """Each pair as numbers of words; <eos> ends both, <bos> begins the target, and reverse turns the source."""
        sources = [pair.source[::-1] if reverse else pair.source for pair in pairs]
        targets = [self.french.encode(pair.target, bos=True, eos=True) for pair in pairs]
        return list(zip((self.english.encode(s, eos=True) for s in sources), targets, strict=True))


def build(settings: Settings, data: Data, models: Models = MODELS) -> Seq2Seq:
    """The model before training.

    Args:
        settings: of the run.
        data: for the sizes of its vocabularies.
        models: in which settings.model is a name: another wiring or attention needs no other code.

    >>> build(Settings("additive"), Data()).decoder.wiring
    'bahdanau'
    """
    if settings.model not in models:
        raise ValueError(f"number_words: expected model to be one of {', '.join(models)}, got {settings.model!r}")
    H, E, both = settings.hidden_size, settings.embedding_dim, settings.bidirectional
    wiring, attention = models[settings.model]
    encoder = Encoder(len(data.english), E, H // 2 if both else H, bidirectional=both)
    return Seq2Seq(encoder, Decoder(len(data.french), E, H, H, wiring, attention(H)))


def train(settings: Settings, data: Data, models: Models = MODELS, *, progress: bool | None = False) -> Seq2Seq:
    """A model trained on batches of like lengths.

    Args:
        settings: of the run.
        data: the numbers.
        models: as in :func:`build`.
        progress: as in :func:`seqlab.training.fit`.

    Returns:
        The model, in evaluation mode.
    """
    seed_everything(settings.seed)
    model = build(settings, data, models)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.rate)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.rate, total_steps=settings.steps + 1, pct_start=0.05, cycle_momentum=False
    )
    pairs = data.encode(data.train, settings.reverse)
    lengths = [len(source) for source, _ in pairs]
    order = epochs(lambda generator: length_batches(lengths, settings.batch_size, generator=generator), settings.seed)
    batches: Callable[[int], Any] = lambda n: batch([pairs[i] for i in order(n)])  # noqa: E731
    fit(model, loss, batches, optimizer, settings.steps, scheduler=scheduler, clip=1.0, progress=progress)
    return model.eval()


def translate(model: Seq2Seq, pairs: Sequence[NumberPair], data: Data, reverse: bool = False) -> list[Hypothesis]:
    """What greedy search answers to each source.

    Args:
        model: in evaluation mode.
        pairs: of which only the sources are read.
        data: for its vocabularies; ``data.french.decode(hypothesis.tokens)`` are the words.
        reverse: as in the training of the model.

    Returns:
        A :class:`seqlab.seq2seq.Hypothesis` for each pair, in their order.
    """
    sources = [source for source, _ in data.encode(pairs, reverse)]
    found: dict[int, Hypothesis] = {}
    for some in length_batches([len(source) for source in sources], 256):
        source, mask = pad([sources[i] for i in some], batch_first=True)
        found.update(zip(some, greedy_search(model, source, LONGEST, mask), strict=True))
    return [found[i] for i in range(len(pairs))]


def scores(model: Seq2Seq, data: Data, reverse: bool = False) -> dict[str, list[float]]:
    """BLEU, and the percentage of answers that are right to the word, of the test, by LENGTHS of the source."""
    answers = [data.french.decode(found.tokens) for found in translate(model, data.test, data, reverse)]
    bins = length_bins([len(pair.source) for pair in data.test], LENGTHS).values()
    exact = [sum(answers[i] == data.test[i].target for i in some) / len(some) for some in bins]
    by_bin = [bleu([answers[i] for i in some], [[data.test[i].target] for i in some]) for some in bins]
    return {"BLEU": by_bin, "exact": [100 * share for share in exact]}


def run(settings: Settings, data: Data, models: Models = MODELS) -> dict[str, Any]:
    """Train and test one model; models as in :func:`build`.

    Returns:
        Its scores, its parameters, and the seconds of the processor for the training.

    Raises:
        ModuleNotFoundError: num2words or sacrebleu is missing: ``pip install "seqlab[data]"``.
        ValueError: the model has no such name.
    """
    start = time.process_time()
    model = train(settings, data, models)
    seconds = time.process_time() - start
    found = {name: [round(score, 1) for score in some] for name, some in scores(model, data, settings.reverse).items()}
    return {**found, "parameters": sum(p.numel() for p in model.parameters()), "seconds": round(seconds, 1)}
