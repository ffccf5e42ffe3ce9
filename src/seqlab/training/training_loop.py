"""The training loop: batch, loss, backward, monitor, clip, update, record."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from ..gradients import GradientMonitor, Report, clip_grad_norm_
from .argument_checks import check_arguments
from .checkpoint import Checkpoint, Run, write
from .data import to_device
from .distributed import agree, average, join, rank_and_size, wrap
from .history import Evaluation, History
from .progress import progress_bar, tensorboard
from .stops import StopRequest, culprit


def fit(
    model: nn.Module,
    loss: Callable[[nn.Module, Any], Tensor | tuple[Tensor, Any]],
    batches: Callable[[int], Any],
    optimizer: torch.optim.Optimizer,
    steps: int,
    *,
    scheduler: LRScheduler | None = None,
    clip: float | None = None,
    evaluation: Evaluation | None = None,
    checkpoint: Checkpoint | None = None,
    monitor: GradientMonitor | None = None,
    writer: Any = None,
    progress: bool | None = None,
) -> History:
    """Train: at step n, θ ← optimizer(θ, clip(∇L(θ; batch n))), for n = 0 to ``steps`` - 1.

    **Going on where it was.** With a checkpoint, the same call after a kill goes on from the file and ends with the
    weights of a run that was never stopped, bit for bit on a CPU. For that, a batch depends on its step number alone
    (:func:`epochs` shuffles so; a task takes ``torch.Generator().manual_seed(n)``), and the loss function keeps
    nothing from one step to the next. Optimizer and scheduler come from the file too, their learning rate included.

    **Ctrl-C and SIGTERM** finish the running step, write the checkpoint and return; a second one stops at once.

    **NaN or Inf** in the loss or a gradient stops before the update: the error names the step and where it stood
    first, for which a monitor knows the layer and the time step. The model keeps the weights from before.

    **Several processes.** Under ``torchrun --nproc_per_node=P script.py`` each process computes :func:`share` of the
    batch, and P of them have the loss curve of one. The loss function then returns (sum, count): the mean over the
    whole batch is Σ sum / Σ count, which means of shares with unequal padding do not add up to. It calls the model
    that it is given, and nothing else of it, for DistributedDataParallel to see the call. The first process writes
    the checkpoint; all of them read it.

    Args:
        model: on its device and in its dtype; see :func:`choose_device`. It is put in training mode.
        loss: ``loss(model, batch)`` returns the mean loss of a batch, or the pair (sum, count). For bfloat16, open
            ``torch.autocast`` in it.
        batches: ``batches(n)`` returns the batch of step n, of any kind; Tensors in it are moved to the device.
        optimizer: over parameters of the model. Not one like LBFGS, whose step evaluates the loss by a closure.
        steps: updates in all, those in the checkpoint included.
        scheduler: takes its step after each update.
        clip: the gradients' norm is scaled down to it where it is larger, by :func:`seqlab.gradients.clip_grad_norm_`.
        evaluation: what is measured, how often, and the patience. With a patience the model has the best weights at
            the end, unless interrupted.
        checkpoint: the file, and how often it is written.
        monitor: watches the gradients before they are clipped.
        writer: a SummaryWriter of TensorBoard, or a folder for one.
        progress: show a bar, with the package tqdm. None: where it is installed, in a terminal and in a notebook that
            is run by hand.

    Returns:
        The history, with losses, norms, evaluations, the best of them, and why it stopped.

    Raises:
        FloatingPointError: NaN or Inf.
        TypeError: an argument of another kind; a state that a checkpoint could not be read back with.
        ValueError: a number out of range; an optimizer of another model; a checkpoint of another run, or damaged.
        OSError: the checkpoint cannot be written; the one before is whole.
        ModuleNotFoundError: progress=True without the package tqdm, or a folder as writer without tensorboard.

    Source:
        clipping: Pascanu, Mikolov and Bengio (2013), On the difficulty of training recurrent neural networks,
        algorithm 1.

    >>> model = nn.Linear(3, 1)
    >>> def loss(model, batch):
    ...     x, y = batch
    ...     return (model(x) - y).square().mean()
    >>> def batches(n):
    ...     x = torch.randn(8, 3, generator=torch.Generator().manual_seed(n))
    ...     return x, x.sum(1, keepdim=True)
    >>> optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    >>> history = fit(model, loss, batches, optimizer, steps=200, clip=1.0)
    >>> history.stopped, history.losses[-1] < 1e-2 < history.losses[0]
    ('steps', True)
    """
    check_arguments(model, loss, batches, optimizer, scheduler, clip, evaluation, checkpoint, monitor, steps)
    device, (rank, size) = next(model.parameters()).device, rank_and_size()
    join(device)
    run = Run(model, optimizer, scheduler, History())
    if checkpoint is not None:
        _open(checkpoint, run, steps, rank, size)
    history = run.history
    trained, weights = wrap(model, device), [p for group in optimizer.param_groups for p in group["params"]]
    model.train()

    with ExitStack() as around:
        stop = around.enter_context(StopRequest())
        bar = around.enter_context(progress_bar(progress if rank == 0 else False, history.steps, steps))
        log = around.enter_context(tensorboard(writer if rank == 0 else None, history.steps))
        if monitor is not None and history.stopped is None:
            around.enter_context(monitor)
        while history.stopped is None:
            n = history.steps
            optimizer.zero_grad()
            value, mean, stopping = average(loss(trained, to_device(batches(n), device)), stop.asked)
            value.backward()
            report = monitor.step(mean) if monitor is not None else None
            norm = clip_grad_norm_(weights, math.inf if clip is None else clip, error_if_nonfinite=False)
            if not (math.isfinite(mean) and math.isfinite(norm.after)):  # the same in every process
                raise FloatingPointError(_explanation(n, culprit(model, mean, report), clip, checkpoint))
            rate = optimizer.param_groups[0]["lr"]
            optimizer.step()
            if scheduler is not None:
                scheduler.step()
            history.losses.append(float(mean))
            history.norms.append(float(norm))

            last = history.steps == steps
            out_of_patience = _evaluate(run, evaluation, last)
            history.stopped = "steps" if last else "early" if out_of_patience else "interrupted" if stopping else None
            if checkpoint is not None and (history.stopped or n == 0 or history.steps % checkpoint.every == 0):
                _save(checkpoint, run, rank)
            if bar is not None:
                bar.set_postfix(loss=f"{history.losses[-1]:.4g}", refresh=False)
                bar.update()
            if log is not None:
                _log(log, history, rate, report)

    if evaluation is not None and evaluation.patience and run.best is not None and history.stopped != "interrupted":
        model.load_state_dict(run.best)
    return history


def _evaluate(run: Run, evaluation: Evaluation | None, last: bool) -> bool:
    """Evaluate if it is time, keep the weights if they are the best, and say whether patience has run out."""
    if evaluation is None or not (last or run.history.steps % evaluation.every == 0):
        return False
    run.model.eval()
    with torch.no_grad():
        value = agree(float(evaluation.function(run.model)))
    run.model.train()
    if math.isnan(value):
        raise FloatingPointError(f"fit: expected a number from the evaluation after {run.history.steps} steps, got NaN")
    if evaluation.note(run.history, value):
        run.best = copy.deepcopy(run.model.state_dict())
    return evaluation.is_out_of_patience(run.history)


def _log(writer: Any, history: History, rate: float, report: Report | None) -> None:
    """The newest step, for TensorBoard."""
    n = history.steps - 1
    writer.add_scalar("loss", history.losses[n], n)
    writer.add_scalar("gradient norm", history.norms[n], n)
    writer.add_scalar("learning rate", rate, n)
    if history.evaluations and history.evaluations[-1][0] == history.steps:
        writer.add_scalar("evaluation", history.evaluations[-1][1], n)
    if report is not None:
        report.log(writer, n)


def _open(checkpoint: Checkpoint, run: Run, steps: int, rank: int, size: int) -> None:
    """Go on from the checkpoint, or write the first one."""
    path = Path(checkpoint.path)
    if agree(checkpoint.is_there):
        run.load(path, rank, size)
        done = run.history.steps
        if done > steps:
            raise ValueError(
                f"fit: expected steps of at least {done}, which {path} has behind it, got {steps}; raise steps, or "
                "start anew with Checkpoint(..., resume=False)"
            )
        if run.history.stopped == "interrupted" or (run.history.stopped == "steps" and done < steps):
            run.history.stopped = None
        if rank == 0:
            print(f"fit: goes on from {path} at step {done} of {steps}")
    else:
        _save(checkpoint, run, rank)


def _save(checkpoint: Checkpoint, run: Run, rank: int) -> None:
    state = run.state()  # all processes give their part
    if rank == 0:
        Path(checkpoint.path).parent.mkdir(parents=True, exist_ok=True)
        write(checkpoint.path, state)


def _explanation(n: int, where: str, clip: float | None, checkpoint: Checkpoint | None) -> str:
    """The message of a NaN."""
    remedies = "or lower the learning rate" if clip is not None else "lower the learning rate, or clip"
    kept = f"; the last good checkpoint is {checkpoint.path}" if checkpoint is not None else ""
    return (
        f"fit: expected a finite loss and finite gradients at step {n}, got {where}; the update was not made: look at "
        f"batches({n}), {remedies}{kept}"
    )
