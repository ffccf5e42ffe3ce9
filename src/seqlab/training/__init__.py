"""Training: a device, seeds, and ``fit``, one loop that can be killed and goes on bit for bit where it was.

The whole loop stands in ``loop.py``. What it leans on lies beside it, a file for each matter: ``device``, ``data``
(batches by step number), ``history``, ``checkpoint``, ``distributed`` (several processes), ``watching`` (progress
bar, TensorBoard, Ctrl-C, the place of a NaN), and ``arguments`` (what is refused).
"""

from __future__ import annotations

from .checkpoint import Checkpoint, load_weights
from .data import epochs, share
from .device import choose_device, seed_everything
from .history import Evaluation, History
from .loop import fit

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
