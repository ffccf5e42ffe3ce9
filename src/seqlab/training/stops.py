"""What stops a run before its last step: a signal, or a value that is not finite."""

from __future__ import annotations

import signal
import threading
from typing import Any

from torch import Tensor, nn

from ..gradients import Report


class StopRequest:
    """The first Ctrl-C or SIGTERM, which a cluster sends, stops after the running step, the second at once."""

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
    """Where the first non-finite value is, in the order of computing; after backward, before the update."""
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
        grad = weight.grad
        if grad is not None and grad.is_sparse:
            grad = grad.coalesce().values()
        if grad is not None and not grad.isfinite().all():
            return f"{_kind(grad)} in the gradient of {name}"
    return "Inf in the norm of the gradients, though each of them is finite"


def _kind(tensor: Tensor) -> str:
    return "NaN" if tensor.isnan().any() else "Inf"
