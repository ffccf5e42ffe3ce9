"""The record of a run: losses, gradient norms, evaluations, and why it stopped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import nn

from ..checks import check_sizes


@dataclass
class History:
    """The record of a run; entry n of the lists belongs to step n, counted from 0.

    Args:
        losses: the loss at each step, on the batch of that step, before its update.
        norms: the norm of all gradients together, before clipping.
        evaluations: pairs of a number of steps and the value then.
        best: the best of these.
        stopped: "steps" when all are done, "early" when the patience ran out, "interrupted" by Ctrl-C or SIGTERM.

    >>> history = History([0.7, 0.5], [1.0, 0.8], [(2, 0.6)], (2, 0.6), "steps")
    >>> history.steps
    2
    """

    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    evaluations: list[tuple[int, float]] = field(default_factory=list)
    best: tuple[int, float] | None = None
    stopped: str | None = None

    @property
    def steps(self) -> int:
        """Updates made."""
        return len(self.losses)


@dataclass(frozen=True)
class Evaluation:
    """A measure of the weights, taken while they train, and how long to wait for a better one.

    Args:
        function: ``function(model) -> float``. The model is in evaluation mode and nothing is recorded for backward.
            Under several processes each calls it with the same weights, and the first one's value counts.
        every: steps from one to the next; there is one after the last step too.
        patience: stop after so many evaluations in a row that were no better than the best. None: never.
        higher_is_better: as with an accuracy; a loss is better when lower.

    Raises:
        TypeError: function is not one, or a number not an int.
        ValueError: a number below 1.

    >>> Evaluation(lambda model: model.bias.item(), every=10, patience=3).patience
    3
    """

    function: Callable[[nn.Module], float]
    every: int = 100
    patience: int | None = None
    higher_is_better: bool = False

    def __post_init__(self) -> None:
        """Validate the fields."""
        if not callable(self.function):
            raise TypeError(f"Evaluation: expected a function of the model, got {type(self.function).__name__}")
        check_sizes("Evaluation", every=self.every, patience=1 if self.patience is None else self.patience)

    def note(self, history: History, value: float) -> bool:
        """Record a value; True if it is the best."""
        history.evaluations.append((history.steps, value))
        best = history.best[1] if history.best else None
        if best is None or (value > best if self.higher_is_better else value < best):
            history.best = history.steps, value
            return True
        return False

    def is_out_of_patience(self, history: History) -> bool:
        """Have there been so many evaluations since the best one?"""
        since = sum(step > history.best[0] for step, _ in history.evaluations) if history.best else 0
        return self.patience is not None and since >= self.patience
