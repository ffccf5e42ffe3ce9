"""What a run needs before it starts: a device and a seed."""

from __future__ import annotations

import os
import random

import numpy as np
import torch

from .distributed import rank_and_size


def choose_device(device: str | torch.device | None = None, dtype: torch.dtype = torch.float32) -> torch.device:
    """The fastest device there is: CUDA, then Apple's MPS, then the CPU. Prints one line that names it.

    MPS has no float64 and is passed over if that is wanted. Under ``torchrun`` each process takes a GPU of its own,
    and the first one prints.

    Args:
        device: "cuda", "mps" or "cpu" instead of the choice; it must be there.
        dtype: what the model will compute in.

    Returns:
        The device, for ``model.to(device, dtype)`` and for the ``device`` argument of a layer.

    Raises:
        ValueError: that device is not there, or does not have the dtype, or has fewer GPUs than there are processes.
        TypeError: the dtype is not one of floating point.

    >>> device = choose_device()  # doctest: +ELLIPSIS
    Device: ..., float32
    >>> choose_device("cpu", torch.float64)  # doctest: +ELLIPSIS
    Device: cpu (... thread(s)), float64
    device(type='cpu')
    """
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise TypeError(f"choose_device: expected dtype of floating point, such as torch.float32, got {dtype!r}")
    double = dtype == torch.float64
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device is None:
        kinds = [kind for kind, is_there in there.items() if is_there and not (kind == "mps" and double)]
        chosen = torch.device(kinds[0])
    else:
        chosen = torch.device(device)
        if not there.get(chosen.type, False):
            names = ", ".join(kind for kind, is_there in there.items() if is_there)
            raise ValueError(f"choose_device: expected a device that is there ({names}), got {chosen}; leave it out")
        if chosen.type == "mps" and double:
            raise ValueError("choose_device: expected a dtype that MPS has, got float64; take float32, or the CPU")
    name = f"{torch.get_num_threads()} thread(s)" if chosen.type == "cpu" else "Apple GPU"
    rank, size = rank_and_size()
    if chosen.type == "cuda":
        if size > 1:
            local, gpus = int(os.environ.get("LOCAL_RANK", rank)), torch.cuda.device_count()
            if local >= gpus:
                raise ValueError(
                    f"choose_device: expected a GPU for each process, got {gpus} GPU(s) and process {local} on this "
                    f"machine; start torchrun with --nproc_per_node={gpus}"
                )
            chosen = torch.device("cuda", local)
            torch.cuda.set_device(chosen)
        name = torch.cuda.get_device_name()
    if rank == 0:
        passed = ", which MPS does not have" if device is None and double and there["mps"] and not there["cuda"] else ""
        processes = f", {size} processes" if size > 1 else ""
        print(f"Device: {chosen} ({name}), {str(dtype).removeprefix('torch.')}{passed}{processes}")
    return chosen


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
