"""What stands around the loop: the progress bar, TensorBoard, Ctrl-C, and the place where a NaN first shows."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..gradients import Report


@contextmanager
def progress_bar(show: bool | None, done: int, steps: int) -> Iterator[Any]:
    """A bar of tqdm in a terminal, JupyterLab or Colab; None where it is not shown."""
    if show is None:
        show = somebody_looks_on()
    if not show:
        yield None
        return
    try:
        from tqdm.auto import tqdm
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "fit: expected the package tqdm for the progress bar, and found none; pip install tqdm, or progress=False",
            name="tqdm",
        ) from error
    with tqdm(total=steps, initial=done, unit="step") as bar:
        yield bar


def somebody_looks_on() -> bool:
    """Is this a terminal or a notebook with a reader? Not when a page is built or a notebook tested."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    kernel = getattr(shell, "kernel", None)
    if kernel is None:
        return sys.stderr.isatty()
    asks = getattr(kernel, "_allow_stdin", False)  # could input() be answered? Who builds a page says that it cannot
    return bool(asks) or "google.colab" in sys.modules


@contextmanager
def tensorboard(writer: Any, done: int) -> Iterator[Any]:
    """The writer; one of our own, closed at the end, for a folder; None for None."""
    if not isinstance(writer, (str, Path)):
        yield writer
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'fit: expected the package tensorboard for writer, and found none; pip install "seqlab[tensorboard]"',
            name="tensorboard",
        ) from error
    with SummaryWriter(str(writer), purge_step=done) as own:
        yield own


class StopRequest:
    """Ctrl-C and SIGTERM, which a cluster sends, ask to stop after the running step; the next one stops at once."""

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():  # only there may handlers be set
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._ask) or signal.SIG_DFL
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, _frame: Any) -> None:
        self.asked = True
        signal.signal(number, self._before[number])


def culprit(model: nn.Module, loss: Tensor, report: Report | None) -> str:
    """Where the first value that is not finite stands, in the order of computing; after backward, before the update."""
    for finding in report.findings if report is not None else []:
        if finding.kind == "non-finite":
            kind, where = finding.text.split(maxsplit=1)
            return f"{kind} in {finding.where}, {where}"
    for name, weight in model.named_parameters():
        if not weight.isfinite().all():
            return f"{_kind(weight)} in the weight {name}, from before this step"
    if not loss.isfinite():
        return f"{_kind(loss)} in the loss, though every weight is finite"
    for name, weight in model.named_parameters():
        if weight.grad is not None and not weight.grad.isfinite().all():
            return f"{_kind(weight.grad)} in the gradient of {name}"
    return "Inf in the norm of the gradients, though each of them is finite"


def _kind(tensor: Tensor) -> str:
    return "NaN" if tensor.isnan().any() else "Inf"
