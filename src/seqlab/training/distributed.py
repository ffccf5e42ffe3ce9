"""Several processes that train one model, as ``torchrun`` starts them: their ranks, and sums over all of them.

Each process has the whole model and a share of the batch. DistributedDataParallel averages their gradients in the
backward pass. P: number of processes.
"""

from __future__ import annotations

import atexit
import os
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


def rank_and_size() -> tuple[int, int]:
    """This process's number, from 0, and how many there are: (0, 1) outside torchrun."""
    if joined():
        return dist.get_rank(), dist.get_world_size()
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


def joined() -> bool:
    """Is this process in a group?"""
    return dist.is_available() and dist.is_initialized()


def join(device: torch.device) -> None:
    """Join the other processes, over NCCL on GPUs and gloo on CPUs; seed each one's dropout differently."""
    rank, size = rank_and_size()
    if size > 1 and not joined():
        if device.type not in ("cuda", "cpu"):
            raise ValueError(f"fit: expected cuda or cpu for {size} processes, got {device.type}; start one process")
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        atexit.register(dist.destroy_process_group)
    if joined():
        gather(None)  # all wait: the first process may still be writing the checkpoint of an earlier run
        # With one seed for all, all would drop the same units.
        torch.manual_seed(int(torch.randint(2**31, (), device="cpu")) + rank)


def wrap(model: nn.Module, device: torch.device) -> nn.Module:
    """The model as the loss function calls it: gradients are averaged over the processes as they are computed."""
    if not joined():
        return model
    return DistributedDataParallel(model, device_ids=[device] if device.type == "cuda" else None)


def average(value: Any, stop: bool) -> tuple[Tensor, Tensor, bool]:
    """What to differentiate, the mean loss over all processes, and whether any of them is to stop.

    With S_p the sum and n_p the count of process p, the loss is L = Σ S_p / Σ n_p. DistributedDataParallel takes the
    mean of P gradients, so each process differentiates P S_p / Σ n_p, and that mean is ∇L.
    """
    is_pair = isinstance(value, (tuple, list)) and len(value) == 2
    total, count = value if is_pair else (value, 1)
    if not isinstance(total, Tensor) or total.dim() != 0 or not total.requires_grad:
        got = type(total).__name__
        if isinstance(total, Tensor):
            got = f"a Tensor {tuple(total.shape)} {'with' if total.requires_grad else 'without'} a graph"
        raise TypeError(f"fit: expected loss to return a scalar Tensor with its graph, or (sum, count), got {got}")
    if not joined():
        loss = total / count if is_pair else total
        return loss, loss.detach(), stop
    if not is_pair:
        raise TypeError(
            f"fit: expected loss to return (sum, count) under {dist.get_world_size()} processes, got one Tensor: means "
            "over unequal shares do not average to the mean of the batch; return (sum of the terms, their number)"
        )
    sums = torch.stack(
        [torch.as_tensor(v, dtype=torch.float64, device=total.device) for v in (total.detach(), count, stop)]
    )
    dist.all_reduce(sums)
    loss = total * (dist.get_world_size() / sums[1]).to(total.dtype)
    return loss, sums[0] / sums[1], bool(sums[2] > 0)


def agree(value: Any) -> Any:
    """The first process's value, in every process."""
    values = [value]
    if joined():
        dist.broadcast_object_list(values)
    return values[0]


def gather(thing: Any) -> list[Any]:
    """Every process's thing, in the order of ranks; all wait for the last."""
    if not joined():
        return [thing]
    things = [None] * dist.get_world_size()
    dist.all_gather_object(things, thing)
    return things
