"""How well do no attention, additive, dot and general attention spell out words, with equal updates?

Four models of ``seqbook.studies.pronunciation``, one after the other. One seed each: a difference that another seed
could make means nothing, and the record does not say how large that is.

    python experiments/pronunciation.py    # about 20 minutes of one core; stop and go on as you like
"""

from __future__ import annotations

import functools
import tempfile
from dataclasses import asdict
from pathlib import Path

import torch
from record import record

from seqbook.studies.pronunciation import Settings, run

MODELS = [Settings(model=model, steps=3000) for model in ("none", "additive", "dot", "general")]
FOLDER = Path(tempfile.gettempdir()) / "seqlab-pronunciation"  # checkpoints, of no use when all is recorded

if __name__ == "__main__":
    torch.set_num_threads(1)
    record(
        "pronunciation",
        {each.model: functools.partial(lambda each, _: run(each, FOLDER / each.model), each) for each in MODELS},
        about="CMUdict letters to phonemes: percent of phonemes (PER) and of words (WER) wrong, on words not seen",
        settings=[asdict(each) for each in MODELS],
        depends=(
            "seqbook.studies.pronunciation:run",
            "seqbook.studies.pronunciation:build",
            "seqbook.studies.common:loss",
            "seqbook.studies.pronunciation:scores",
            "seqlab.seq2seq.decoder:Decoder",
            "seqlab.seq2seq.encoder:Encoder",
        ),
    )
