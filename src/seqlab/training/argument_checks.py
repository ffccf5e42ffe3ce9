"""The checks that fit makes before it starts: arguments of the wrong kind, or that do not belong together."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from ..checks import check_sizes
from ..gradients import GradientMonitor
from .checkpoint import Checkpoint
from .history import Evaluation


def check_arguments(
    model: Any,
    loss: Any,
    batches: Any,
    optimizer: Any,
    scheduler: Any,
    clip: Any,
    evaluation: Any,
    checkpoint: Any,
    monitor: Any,
    steps: Any,
) -> None:
    """The arguments are of the kinds that they should be, and belong together."""
    who = "fit"
    if not isinstance(model, nn.Module) or not any(p.requires_grad for p in model.parameters()):
        raise TypeError(f"{who}: expected model as a module with something to train, got {type(model).__name__}")
    if not callable(loss):
        raise TypeError(f"{who}: expected loss as a function of (model, batch), got {type(loss).__name__}")
    if isinstance(loss, nn.Module):
        raise TypeError(
            f"{who}: expected loss as a function of (model, batch), got the module {type(loss).__name__}; write "
            "lambda model, batch: criterion(model(batch[0]), batch[1])"
        )
    if not callable(batches):
        raise TypeError(
            f"{who}: expected batches as a function of the step number, got {type(batches).__name__}; a list's is "
            "lambda n: batches[n % len(batches)], and epochs() shuffles"
        )
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(f"{who}: expected optimizer of torch.optim, got {type(optimizer).__name__}")
    if needs_closure(optimizer):
        raise TypeError(
            f"{who}: expected optimizer whose step() needs no closure, got {type(optimizer).__name__}, which evaluates "
            "the loss several times a step; take SGD, Adam or AdamW, or call its step(closure) in a loop of your own"
        )
    if isinstance(scheduler, ReduceLROnPlateau) or not isinstance(scheduler, (LRScheduler, type(None))):
        raise TypeError(
            f"{who}: expected scheduler that goes by the step, such as LambdaLR, got {type(scheduler).__name__}"
        )
    if clip is not None and (isinstance(clip, bool) or not isinstance(clip, (int, float))):
        raise TypeError(f"{who}: expected clip as a number, got {clip!r}; None does not clip")
    if clip is not None and not clip > 0:
        raise ValueError(f"{who}: expected clip as a norm above 0, got {clip}; None does not clip")
    for name, thing, kind in (
        ("evaluation", evaluation, Evaluation),
        ("checkpoint", checkpoint, Checkpoint),
        ("monitor", monitor, GradientMonitor),
    ):
        if not isinstance(thing, (kind, type(None))):
            raise TypeError(f"{who}: expected {name} as {kind.__name__}(...), got {type(thing).__name__}")
    own = {id(p) for p in model.parameters()}
    if strange := sum(id(p) not in own for group in optimizer.param_groups for p in group["params"]):
        raise ValueError(
            f"{who}: expected optimizer over parameters of the model, got {strange} that are not; make it from "
            "model.parameters(), after the model is built"
        )
    check_sizes(who, steps=steps)


def needs_closure(optimizer: torch.optim.Optimizer) -> bool:
    """Does step() of its class have an argument without a default? A scheduler replaces step of the instance."""
    _, *rest = inspect.signature(type(optimizer).step).parameters.values()
    return any(p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in rest)
