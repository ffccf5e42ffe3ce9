"""Training: a device, seeds, and ``fit``, one loop that can be killed and goes on bit for bit where it was.

``training_loop`` has the whole loop. Each matter that it calls on has a file: ``argument_checks``, ``device``, ``data``
(batches by step number), ``history``, ``checkpoint``, ``distributed`` (several processes), ``progress`` (bar and
TensorBoard) and ``stops`` (Ctrl-C, and the place of a NaN).
"""

from __future__ import annotations

from .checkpoint import Checkpoint, load_weights
from .data import epochs, share
from .device import choose_device, seed_everything
from .history import Evaluation, History
from .training_loop import fit

__all__ = [
    "Checkpoint",
    "Evaluation",
    "History",
    "choose_device",
    "epochs",
    "fit",
    "load_weights",
    "seed_everything",
    "share",
]
