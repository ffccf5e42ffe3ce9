"""How well do no attention, additive, dot and general attention spell out words, with equal updates?

Four models of ``seqbook.studies.pronunciation``, one after the other. One seed each: a difference that another seed
could make means nothing, and the record does not say how large that is.

    python experiments/pronunciation.py    # about 20 minutes of one core; stop and go on as you like
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from record import record

from seqbook.studies.pronunciation import Settings, run

MODELS = [Settings(model=model, steps=3000) for model in ("none", "additive", "dot", "general")]
FOLDER = Path(tempfile.gettempdir()) / "seqlab-pronunciation"  # checkpoints, of no use when all is recorded

FIRST = 300  # updates up to the first validation
# What --confirm trains again: every model up to there, and the quickest, dot, to the end with both searches. Of the
# losses after 300 updates another processor's were up to 0.034 apart (additive; others 0.001 to 0.01), so that a fault
# which changes them by less than the bound is seen in dot's run to the end alone, whose bound, a point, is set.
LOSS_WITHIN, PERCENT_WITHIN, WHOLE = 0.06, 1.0, MODELS[2]


def first(results: dict[str, Any], settings: Settings) -> Iterator[tuple[float, float]]:
    """The loss on the validation words after the first 300 updates: as recorded, and as found now."""
    with tempfile.TemporaryDirectory() as folder:
        found = run(settings, folder, until=FIRST)
    yield results[settings.model]["validation"][0][1], found["validation"][0][1]


def whole(results: dict[str, Any], settings: Settings) -> Iterator[tuple[float, float]]:
    """PER and WER of both searches: as recorded, and as found now."""
    with tempfile.TemporaryDirectory() as folder:
        found = run(settings, folder)
    for search in ("greedy", "beam"):
        for score in ("PER", "WER"):
            yield results[settings.model][search][score], found[search][score]


def main() -> None:
    """Record the four models."""
    torch.set_num_threads(1)
    record(
        "pronunciation",
        {each.model: functools.partial(run, each, FOLDER / each.model) for each in MODELS},
        about="CMUdict letters to phonemes: percent of phonemes (PER) and of words (WER) wrong, on words not seen",
        settings=[asdict(each) for each in MODELS],
        sample={
            **{
                f"{each.model}, {FIRST} updates": (LOSS_WITHIN, functools.partial(first, settings=each))
                for each in MODELS
            },
            WHOLE.model: (PERCENT_WITHIN, functools.partial(whole, settings=WHOLE)),
        },
    )


if __name__ == "__main__":
    main()
