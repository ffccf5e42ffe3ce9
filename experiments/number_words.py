"""How good is a translation of number words, by the length of its source, with and without attention?

The models of ``seqbook.studies.number_words``: every curve of quality against length in the chapters on the
bottleneck and on attention. Seeds change weights and order; the numbers, and those of the test, stay.

    python experiments/number_words.py    # about an hour of two cores; stop and go on as you like
"""

from __future__ import annotations

import functools
import itertools
import multiprocessing
from dataclasses import asdict, replace
from typing import Any

import torch
from record import record

from seqbook.studies.number_words import LENGTHS, Data, Settings, run

BASE, MANY, FEW = 128, tuple(range(5)), tuple(range(3))
STEPS = (500, 1000, 2000)
Runs = dict[str, tuple[Settings, tuple[int, ...]]]


def label(settings: Settings) -> str:
    """A name for all that is not as usual: "none, 128 wide, 1000 steps"."""
    turned = (", both directions" if settings.bidirectional else "") + (", reversed" if settings.reverse else "")
    return f"{settings.model}, {settings.hidden_size} wide, {settings.steps} steps{turned}"


def runs() -> Runs:
    """What is trained, and with which seeds."""
    four, at_1000 = ("none", "additive", "dot", "general"), Settings("none", steps=1000)
    every: list[Settings] = []
    for model, width, steps in itertools.product(four, (BASE, 64, 32), STEPS):
        every.append(Settings(model, width, steps=steps))
    every += [Settings("none", 256, steps=steps) for steps in STEPS]
    every.append(Settings("none", steps=4000))
    for model in ("concat", "scaled", "local-m", "local-p", "input feeding"):
        every.append(replace(at_1000, model=model))
    for steps in (1000, 2000):
        every.append(Settings("none", reverse=True, steps=steps))
        every += [Settings("first state only", reverse=reverse, steps=steps) for reverse in (False, True)]
    every += [Settings(model, bidirectional=True, steps=1000) for model in ("none", "additive")]
    every.sort(key=lambda settings: settings.hidden_size != BASE)  # what most figures need first
    return {label(each): (each, MANY if each.hidden_size == BASE else FEW) for each in every}


def one(settings: Settings) -> dict[str, Any]:
    """One run, in a process of its own."""
    torch.set_num_threads(1)
    return run(settings, data())


@functools.cache
def data() -> Data:
    """The numbers, said once in each process."""
    return Data()


def several(results: dict, pool: Any, settings: Settings, seeds: tuple[int, ...]) -> dict[str, Any]:
    """One entry for each seed under every name, but for what all seeds share."""
    found = pool.map(one, [replace(settings, seed=seed) for seed in seeds], chunksize=1)
    rows = {name: [each[name] for each in found] for name in ("BLEU", "exact", "seconds")}
    return {**rows, "parameters": found[0]["parameters"]}


def main() -> None:
    """Record all runs, a process for each seed."""
    torch.set_num_threads(1)  # of each process; written into the record
    with multiprocessing.get_context("spawn").Pool(len(MANY)) as pool:
        record(
            "number_words",
            {
                name: functools.partial(several, pool=pool, settings=settings, seeds=seeds)
                for name, (settings, seeds) in runs().items()
            },
            about="Number words from English to French: BLEU and percent of answers right to the word, by source words",
            settings={
                "least source words of each bin": LENGTHS,
                "runs": {name: [asdict(settings), seeds] for name, (settings, seeds) in runs().items()},
            },
            depends=(
                "seqbook.studies.number_words:Data",
                "seqbook.studies.number_words:build",
                "seqbook.studies.number_words:train",
                "seqbook.studies.number_words:translate",
                "seqbook.studies.number_words:scores",
                "seqbook.studies.common:loss",
                "seqlab.seq2seq.decoder:Decoder",
                "seqlab.seq2seq.encoder:Encoder",
            ),
        )


if __name__ == "__main__":
    main()
