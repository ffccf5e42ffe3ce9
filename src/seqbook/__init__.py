"""seqbook: what the book needs and the library does not. It comes with seqlab, in one wheel, and may import it.

The names below are numbered figures and tables, measured claims, recorded runs, quizzes, key-concept cards and checks
of exercises. Each shows its result as HTML in a notebook and in the built book, and as plain text anywhere else; none
needs a running kernel to be read, and none makes a request. ``seqbook.plotting`` draws, ``seqbook.interactive`` makes
a drawing explorable, and ``seqbook.studies`` trains the models that several chapters share.
"""

from __future__ import annotations

import importlib.util

if importlib.util.find_spec("matplotlib") is None:
    raise ModuleNotFoundError(
        'seqbook: expected the package matplotlib, and found none; pip install "seqlab[book]"', name="matplotlib"
    )

from .cards import Cards, cards
from .claims import ClaimChanged, claim, registry
from .exercises import check, close_to
from .interactive import choice, explore, figure, slider, steps
from .numbering import chapter
from .quiz import Choice, Question, Quiz, ask, predict, quiz, right, wrong
from .recorded import provenance, recorded
from .tables import Table, table

__all__ = [
    "Cards",
    "Choice",
    "ClaimChanged",
    "Question",
    "Quiz",
    "Table",
    "ask",
    "cards",
    "chapter",
    "check",
    "choice",
    "claim",
    "close_to",
    "explore",
    "figure",
    "predict",
    "provenance",
    "quiz",
    "recorded",
    "registry",
    "right",
    "slider",
    "steps",
    "table",
    "wrong",
]
