"""How the states and gradients of a call reach those who watch them, from the loop and from the hand-written pass."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

if TYPE_CHECKING:
    from .base import Recurrent, State

Values = dict[str, Tensor | PackedSequence]  # of all steps: {"h": (L, N, H)}, in an LSTM with "c", or packed
Receiver = Callable[[Values], object]
Watcher = Callable[[int, int, int, dict[str, Tensor]], object]
GradientWatcher = Callable[[int, int, Values], Receiver | None]


def tell(network: Recurrent, layer: int, direction: int, states: Values) -> Receiver | None:
    """Give the states to all who watch gradients; returns the function that gives them the gradients."""
    answers = [watcher(layer, direction, states) for watcher in list(network._gradient_watchers.values())]
    receivers = [receiver for receiver in answers if receiver is not None]

    def receive(gradients: Values) -> None:
        for receiver in receivers:
            receiver(gradients)

    return receive if receivers else None


def hand_out(
    network: Recurrent,
    layer: int,
    direction: int,
    steps: list[State],
    arranged: Callable[[Tensor], Tensor | PackedSequence],
) -> None:
    """From the loop: the states now, and their gradients by hooks, in each backward pass."""
    if not steps[0][0].requires_grad:
        return
    names = network.state_names
    states = [torch.stack([s.detach() for s in state]) for state in zip(*steps, strict=True)]  # (L, N, H)
    receive = tell(network, layer, direction, dict(zip(names, map(arranged, states), strict=True)))
    if receive is None:
        return
    found: dict[tuple[int, int], Tensor] = {}
    L, blank = len(steps), torch.zeros_like(states[0][0])

    def finish(_: Tensor) -> None:
        """The step computed first is met last in a backward pass, and in it c after h, which depends on it."""
        totals = [torch.stack([found.get((k, t), blank) for t in range(L)]) for k in range(len(names))]
        found.clear()
        receive(dict(zip(names, map(arranged, totals), strict=True)))

    def keep(key: tuple[int, int], gradient: Tensor) -> None:
        found[key] = gradient.detach()

    for t, state in enumerate(steps):
        for k, s in enumerate(state):
            s.register_hook(partial(keep, (k, t)))
    steps[-1 if direction else 0][-1].register_hook(finish)
