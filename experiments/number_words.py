"""How good is a translation of number words, by the length of its source, with and without attention?

The models of ``seqbook.studies.number_words``: every curve of quality against length in the chapters on the
bottleneck and on attention. Seeds change weights and order; the numbers, and those of the test, stay.

    python experiments/number_words.py    # about an hour of two cores; stop and go on as you like
"""

from __future__ import annotations

import functools
import itertools
import multiprocessing
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import torch
from record import record

from seqbook.studies.number_words import LENGTHS, Data, Settings, run

BASE, MANY, FEW = 128, tuple(range(5)), tuple(range(3))
STEPS = (500, 1000, 2000)
Runs = dict[str, tuple[Settings, tuple[int, ...]]]

# What --confirm trains again, with seed 0: the cheapest recorded row of every wiring, attention and way of reading.
# Points of BLEU or percent in a bin. On a processor of another maker, dot, scaled and first state only came out equal,
# local-m, local-p and both directions up to 2.3 points off: rounding decides a few answers.
WITHIN = 4.0
SAMPLE = (
    "dot, 32 wide, 1000 steps",
    "general, 32 wide, 1000 steps",
    "first state only, 128 wide, 1000 steps, reversed",
    "scaled, 128 wide, 1000 steps",
    "additive, 32 wide, 1000 steps",
    "none, 128 wide, 1000 steps, both directions",
    "local-m, 128 wide, 1000 steps",
    "local-p, 128 wide, 1000 steps",
    "concat, 128 wide, 1000 steps",
    "input feeding, 128 wide, 1000 steps",
)


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


def several(pool: Any, settings: Settings, seeds: tuple[int, ...]) -> dict[str, Any]:
    """One entry for each seed under every name, but for what all seeds share."""
    found = pool.map(one, [replace(settings, seed=seed) for seed in seeds], chunksize=1)
    rows = {name: [each[name] for each in found] for name in ("BLEU", "exact", "seconds")}
    return {**rows, "parameters": found[0]["parameters"]}


@functools.cache
def again(pool: Any) -> dict[str, Any]:
    """The sample with seed 0, all of it begun at once."""
    return {name: pool.apply_async(one, (runs()[name][0],)) for name in SAMPLE}


def compared(results: dict[str, Any], name: str, pool: Any) -> Iterator[tuple[float, float]]:
    """BLEU and percent right of a row, in every bin: as recorded with seed 0, and as found now."""
    found = again(pool)[name].get()
    for score in ("BLEU", "exact"):
        yield from zip(results[name][score][0], found[score], strict=True)


def main() -> None:
    """Record all runs, a process for each seed."""
    torch.set_num_threads(1)  # of each process; written into the record
    with multiprocessing.get_context("spawn").Pool(len(MANY)) as pool:
        record(
            "number_words",
            {name: functools.partial(several, pool, settings, seeds) for name, (settings, seeds) in runs().items()},
            about="Number words from English to French: BLEU and percent of answers right to the word, by source words",
            settings={
                "least source words of each bin": LENGTHS,
                "runs": {name: [asdict(settings), seeds] for name, (settings, seeds) in runs().items()},
            },
            sample={name: (WITHIN, functools.partial(compared, name=name, pool=pool)) for name in SAMPLE},
        )


if __name__ == "__main__":
    main()
