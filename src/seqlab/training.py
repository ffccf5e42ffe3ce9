"""What a run needs before it starts: a device and a seed."""

from __future__ import annotations

import random

import numpy as np
import torch

__all__ = ["choose_device", "seed_everything"]


def choose_device() -> torch.device:
    """The fastest device there is: CUDA, then Apple's MPS, then the CPU. Prints one line that names it.

    Returns:
        The device, for ``model.to(device)`` and for the ``device`` argument of a layer.

    >>> device = choose_device()  # doctest: +ELLIPSIS
    Device: ...
    """
    if torch.cuda.is_available():
        device, name = torch.device("cuda"), torch.cuda.get_device_name()
    elif torch.backends.mps.is_available():
        device, name = torch.device("mps"), "Apple GPU"
    else:
        device, name = torch.device("cpu"), f"{torch.get_num_threads()} thread(s)"
    print(f"Device: {device} ({name})")
    return device


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, NumPy and torch, on every device.

    Two runs on the same machine then draw the same numbers. Sums on a GPU, or with another number of threads, may
    still differ in their last digits. Functions that take a ``generator`` don't need this.

    Args:
        seed: from 0 to 2**32 - 1, the range that all three accept.

    Raises:
        TypeError: the seed is not an int.
        ValueError: it is out of range.

    >>> seed_everything(0)
    >>> first = torch.rand(1)
    >>> seed_everything(0)
    >>> torch.equal(first, torch.rand(1))
    True
    """
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise TypeError(f"seed_everything: expected seed as an int, got {seed!r}")
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed_everything: expected seed from 0 to 2**32 - 1, got {seed}; take it modulo 2**32")
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  # what other libraries draw from is the global generator
    torch.manual_seed(seed)
