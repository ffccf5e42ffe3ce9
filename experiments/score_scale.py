"""By what should the scores of a translator's dot attention be multiplied? The number words, with one constant changed.

Model, data, seeds and budget are those of ``seqbook.studies.number_words`` for dot attention, 128 wide, after 500
updates; only the factor before the softmax differs. 1/√128 = 0.088 is that of scaled dot-product attention; factor 1 is
in the recording of ``number_words.py``.

    python experiments/score_scale.py    # about three minutes of one core; stop and go on as you like
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from record import record
from torch import Tensor

from seqbook.studies.number_words import LENGTHS, MODELS, Data, Settings, run
from seqlab.attention import LuongAttention

WIDTH, STEPS, SEEDS = 128, 500, tuple(range(5))
FACTORS = (128**-0.5, 128**0.5, 0.3)


class Multiplied(LuongAttention):
    """Dot attention whose scores are multiplied by a constant."""

    def __init__(self, size: int, factor: float) -> None:
        super().__init__(size, score="dot")
        self.factor = factor

    def score(self, query: Tensor, key: Tensor) -> Tensor:
        """The scores, multiplied."""
        return self.factor * super().score(query, key)


def several(results: dict, factor: float, data: Data) -> dict[str, Any]:
    """One factor with every seed."""
    name = f"dot × {factor:g}"
    MODELS[name] = ("luong", lambda H: Multiplied(H, factor))
    found = [run(Settings(name, WIDTH, steps=STEPS, seed=seed), data) for seed in SEEDS]
    return {key: [each[key] for each in found] for key in ("BLEU", "exact", "seconds")}


def main() -> None:
    """Record every factor."""
    torch.set_num_threads(1)
    data = Data()
    record(
        "score_scale",
        {f"{factor:.3g}": functools.partial(several, factor=factor, data=data) for factor in FACTORS},
        about="Number words with dot attention whose scores are multiplied by a constant: BLEU and percent right",
        settings={
            "least source words of each bin": LENGTHS,
            "factors": {f"{factor:.3g}": factor for factor in FACTORS},
            "width": WIDTH,
            "updates": STEPS,
            "seeds": SEEDS,
        },
        depends=(
            "seqbook.studies.number_words:Data",
            "seqbook.studies.number_words:build",
            "seqbook.studies.number_words:train",
            "seqbook.studies.number_words:translate",
            "seqbook.studies.number_words:scores",
            "seqbook.studies.common:loss",
            "seqlab.attention.luong:LuongAttention",
            "seqlab.seq2seq.decoder:Decoder",
            "seqlab.seq2seq.encoder:Encoder",
        ),
    )


if __name__ == "__main__":
    main()
