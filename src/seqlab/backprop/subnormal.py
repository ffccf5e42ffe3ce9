"""Subnormal numbers, below 1e-38 in float32: which processors stall on them, and which losses lead to them.

On its way back a gradient may shrink at each step. Where every step adds an error of its own it stays large; where many
steps only wait for what later ones send, as under a loss on the last step, it may end as subnormal numbers, with which
some processors calculate up to a hundred times slower. N batch, L length, R rows, H hidden_size.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor


def to_be_flushed(grads: Sequence[Tensor | None]) -> bool:
    """Whether subnormal numbers on the way back from these gradients are to be set to zero.

    Not on a processor that doesn't stall on them; and not where the loss's own gradient is below 1e-20 (in float64
    1e-290), since a small number may then be all there is.
    """
    if not stalls():
        return False
    given = [d for d in grads if d is not None and d.numel()]
    return any(float(d.abs().max()) > 1e18 * torch.finfo(d.dtype).tiny for d in given)


def many_wait(sizes: list[int], grads: Sequence[Tensor | None]) -> bool:
    """Whether many steps get no error directly, only from later ones.

    Args:
        sizes: sequences at each step, as in a PackedSequence.
        grads: what comes in from outside: dL/d(output) (R, H), and of the final states.
    """
    direct, *final = grads
    if direct is None:
        return True
    if bool(direct[::7, 0].all()):  # a dense loss, most often
        return False
    waiting = (direct == 0).all(1)
    if sizes[-1] == sizes[0] and all(d is None for d in final):  # what lies behind the loss waits for nothing
        errors = waiting.logical_not().view(len(sizes), -1)
        waiting &= errors.flip(0).cumsum(0).flip(0).flatten() > 0
    return 8 * int(waiting.sum()) > len(waiting)


@cache
def stalls() -> bool:
    """Whether this CPU is many times slower with subnormal numbers; measured once, in about a millisecond."""

    def seconds(size: float) -> float:
        x, W, best = torch.full((64, 64), size, device="cpu"), torch.full((64, 64), 0.1, device="cpu"), float("inf")
        for _ in range(9):
            started = time.perf_counter()
            x @ W
            best = min(best, time.perf_counter() - started)
        return best

    with torch.inference_mode():
        return seconds(1e-39) > 4 * seconds(1.0)
