"""By what should the scores of a translator's dot attention be multiplied? The number words, with one constant changed.

Model, data, seeds and budget are those of ``seqbook.studies.number_words`` for dot attention, 128 wide, after 500
updates; only the factor before the softmax differs. 1/√128 = 0.088 is that of scaled dot-product attention; factor 1 is
in the recording of ``number_words.py``.

    python experiments/score_scale.py    # stop and go on as you like

Fifteen runs of 14 to 17 seconds of processor time each, tests not counted; recorded in 44 minutes of a busy machine.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import torch
from record import record
from torch import Tensor

from seqbook.studies.number_words import LENGTHS, Data, Settings, run
from seqlab.attention import LuongAttention

WIDTH, STEPS, SEEDS = 128, 500, tuple(range(5))
FACTORS = (128**-0.5, 128**0.5, 0.3)

WITHIN = 4.0  # points in a bin outside of what the recorded seeds span


class Multiplied(LuongAttention):
    """Dot attention whose scores are multiplied by a constant."""

    def __init__(self, size: int, factor: float) -> None:
        super().__init__(size, score="dot")
        self.factor = factor

    def score(self, query: Tensor, key: Tensor) -> Tensor:
        """The scores, multiplied."""
        return self.factor * super().score(query, key)


def one(factor: float, seed: int, data: Data) -> dict[str, Any]:
    """One factor with one seed."""
    models = {"multiplied": ("luong", lambda H: Multiplied(H, factor))}
    return run(Settings("multiplied", WIDTH, steps=STEPS, seed=seed), data, models)


def several(factor: float, data: Data) -> dict[str, Any]:
    """One factor with every seed."""
    found = [one(factor, seed, data) for seed in SEEDS]
    return {key: [each[key] for each in found] for key in ("BLEU", "exact", "seconds")}


def compared(results: dict[str, Any], factor: float, data: Data) -> Iterator[tuple[float, float]]:
    """BLEU and percent right in every bin: the nearest between two recorded seeds, and as found now with seed 0.

    Under factor √128 the softmax is saturated from the start, and training falls out differently on another processor
    as it does with another seed: by up to 77 points in a bin. So what is found must lie among the recorded seeds.
    """
    found = one(factor, SEEDS[0], data)
    for score in ("BLEU", "exact"):
        for recorded, now in zip(zip(*results[f"{factor:.3g}"][score], strict=True), found[score], strict=True):
            yield min(max(now, min(recorded)), max(recorded)), now


def main() -> None:
    """Record every factor."""
    torch.set_num_threads(1)
    data = Data()
    record(
        "score_scale",
        {f"{factor:.3g}": functools.partial(several, factor, data) for factor in FACTORS},
        about="Number words with dot attention whose scores are multiplied by a constant: BLEU and percent right",
        settings={
            "least source words of each bin": LENGTHS,
            "factors": {f"{factor:.3g}": factor for factor in FACTORS},
            "width": WIDTH,
            "updates": STEPS,
            "seeds": SEEDS,
        },
        sample={f"{factor:.3g}": (WITHIN, functools.partial(compared, factor=factor, data=data)) for factor in FACTORS},
    )


if __name__ == "__main__":
    main()
