"""Batches as a function of the step number: what makes a run repeatable from any step on.

The batch of step 700 is the same whether the run has come there in one go or was resumed at step 650, with no state of
a loader to keep.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, TypeVar

import torch
from torch import Generator, Tensor
from torch.nn.utils.rnn import PackedSequence

from .._tree import map_leaves
from .distributed import rank_and_size

Item = TypeVar("Item")


def epochs(batches: Callable[[Generator], Sequence[Item]], seed: int = 0) -> Callable[[int], Item]:
    """Epoch after epoch, each shuffled anew, as a function of the step number.

    Args:
        batches: ``batches(generator) -> list`` of one epoch's batches, as many in each epoch. It is called once an
            epoch, with a generator that has a seed of its own there.
        seed: of the first epoch's generator; the next have the numbers that follow. Runs to be compared as
            independent take seeds further apart than a run has epochs.

    Returns:
        A function of the step number n, from 0, that returns batch n mod B of epoch n div B, with B batches an epoch.

    Raises:
        TypeError: not a function, or the seed not an int.
        ValueError: no batches, or another number of them than in the first epoch.

    >>> from seqlab.tasks import length_batches
    >>> indices = epochs(lambda generator: length_batches([3, 1, 2, 1, 9], 2, generator=generator))
    >>> [indices(step) for step in range(6)]
    [[2, 0], [4], [1, 3], [2, 0], [4], [3, 1]]
    >>> indices(1)  # any step, in any order
    [4]
    """
    if not callable(batches):
        raise TypeError(
            f"epochs: expected a function of a generator, got {type(batches).__name__}; "
            "wrap it: lambda generator: length_batches(lengths, 32, generator=generator)"
        )
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise TypeError(f"epochs: expected seed as an int, got {seed!r}")

    @lru_cache(maxsize=1)
    def epoch(number: int) -> Sequence[Item]:
        return batches(Generator().manual_seed(seed + number))

    B = len(epoch(0))
    if B == 0:
        raise ValueError("epochs: expected at least one batch in an epoch, got none")

    def batch(step: int) -> Item:
        found = epoch(step // B)
        if len(found) != B:
            raise ValueError(
                f"epochs: expected {B} batches in epoch {step // B}, as in the first, got {len(found)}; a step number "
                "tells the epoch only if all have the same number"
            )
        return found[step % B]

    return batch


def share(items: Any) -> Any:
    """This process's share of a global batch, every P-th item of P processes; all of it where there is one process.

    Neighbours go to different processes, so that in a batch sorted by length all shares are about as long.

    Args:
        items: indices, a range, or a Tensor whose first axis is the batch.

    Returns:
        The share, of the same type.

    Raises:
        ValueError: fewer items than processes.

    >>> share([7, 1, 5])  # outside torchrun
    [7, 1, 5]
    >>> x = torch.zeros(20, 64, 3)
    >>> x[:, share(range(64))].shape  # a batch on axis 1
    torch.Size([20, 64, 3])
    """
    rank, size = rank_and_size()
    if len(items) < size:
        raise ValueError(
            f"share: expected an item for each of {size} processes at least, got {len(items)}; leave short batches out"
        )
    return items[rank::size]


def to_device(batch: Any, device: torch.device) -> Any:
    """The batch with every Tensor and PackedSequence in it moved, through tuples, lists and dicts."""

    def move(leaf: Any) -> Any:
        part: Any = leaf  # the annotation of PackedSequence.to leaves devices out
        return part.to(device) if isinstance(leaf, (Tensor, PackedSequence)) else leaf

    return map_leaves(move, batch)
