"""How the states and gradients of a call reach those who watch them, whatever engine computes them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

Values = dict[str, Tensor | PackedSequence]  # of all steps: {"h": (L, N, H)}, in an LSTM with "c", or packed
Receiver = Callable[[Values], object]
Watcher = Callable[[int, int, int, dict[str, Tensor]], object]
GradientWatcher = Callable[[int, int, Values], Receiver | None]


def tell(watchers: Iterable[GradientWatcher], layer: int, direction: int, states: Values) -> Receiver | None:
    """Give the states to all who watch gradients; returns the function that gives them the gradients."""
    answers = [watcher(layer, direction, states) for watcher in watchers]
    receivers = [receiver for receiver in answers if receiver is not None]

    def receive(gradients: Values) -> None:
        for receiver in receivers:
            receiver(gradients)

    return receive if receivers else None


def tell_by_hooks(
    watchers: Iterable[GradientWatcher],
    layer: int,
    direction: int,
    names: tuple[str, ...],
    steps: Sequence[tuple[Tensor, ...]],
    arranged: Callable[[Tensor], Tensor | PackedSequence],
) -> None:
    """From a loop: the states of all steps now, and their gradients by hooks, in each backward pass."""
    if not steps[0][0].requires_grad:
        return
    states = [torch.stack([s.detach() for s in state]) for state in zip(*steps, strict=True)]  # (L, N, H)
    receive = tell(watchers, layer, direction, dict(zip(names, map(arranged, states), strict=True)))
    if receive is None:
        return
    found: dict[tuple[int, int], Tensor] = {}
    L, blanks = len(steps), [torch.zeros_like(s[0]) for s in states]

    def finish(_: Tensor) -> None:
        """A backward pass comes last to the step computed first, and there to c after h, which depends on it."""
        totals = [torch.stack([found.get((k, t), blank) for t in range(L)]) for k, blank in enumerate(blanks)]
        found.clear()
        receive(dict(zip(names, map(arranged, totals), strict=True)))

    def keep(key: tuple[int, int], gradient: Tensor) -> None:
        found[key] = gradient.detach()

    for t, state in enumerate(steps):
        for k, s in enumerate(state):
            s.register_hook(partial(keep, (k, t)))
    steps[-1 if direction else 0][-1].register_hook(finish)
