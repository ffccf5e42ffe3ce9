"""What only chapters need: measured claims, recorded runs, quizzes, key-concept cards and checks of exercises.

Nothing here knows a model or a figure. Each part shows its result as HTML in a notebook and in the built book,
and as plain text anywhere else; none needs a running kernel to be read, and none makes a request.
"""

from __future__ import annotations

from .cards import Cards, cards
from .claims import ClaimChanged, claim, registry
from .exercises import check, close_to
from .quiz import Choice, Question, Quiz, ask, predict, quiz, right, wrong
from .recorded import provenance, recorded

__all__ = [
    "Cards",
    "Choice",
    "ClaimChanged",
    "Question",
    "Quiz",
    "ask",
    "cards",
    "check",
    "claim",
    "close_to",
    "predict",
    "provenance",
    "quiz",
    "recorded",
    "registry",
    "right",
    "wrong",
]
