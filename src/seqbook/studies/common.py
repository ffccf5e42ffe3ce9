"""What the studies share: the batch and the loss of a translation, and what a recorded number must be read with.

Shapes: N batch, S source symbols, L target symbols.
"""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Sequence
from pathlib import Path

import numpy
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import seqlab
from seqlab.tasks import Vocabulary, pad

__all__ = ["batch", "environment", "loss"]


def environment(device: torch.device | None = None) -> dict[str, str]:
    """What a recorded number must be read with: versions, device and date.

    Args:
        device: that computed; the CPU if None.

    Returns:
        Words, by name.

    >>> sorted(environment())
    ['date', 'device', 'numpy', 'processor', 'python', 'seqlab', 'torch']
    """
    if device is not None and device.type == "cuda":
        processor = torch.cuda.get_device_name(device)
    else:
        cpuinfo = Path("/proc/cpuinfo")  # on Linux platform.processor() does not name the model
        lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
        models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        processor = models[0] if models else platform.processor()
    kind, processes = "cpu" if device is None else device.type, os.environ.get("WORLD_SIZE", "1")
    return {
        "seqlab": seqlab.__version__,
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "python": platform.python_version(),
        "device": f"{kind}, {torch.get_num_threads()} thread(s), {processes} process(es)",
        "processor": processor,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def batch(pairs: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor, Tensor]:
    """Sources (N, S), their padding mask, and targets (N, L)."""
    source, mask = pad([source for source, _ in pairs], batch_first=True)
    return source, mask, pad([target for _, target in pairs], batch_first=True)[0]


def loss(model: nn.Module, batch: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the targets given the sources: its sum, and the number of symbols."""
    source, mask, target = batch
    logits, labels = model(source, target[:, :-1], mask).flatten(0, 1), target[:, 1:].flatten()
    total = F.cross_entropy(logits, labels, ignore_index=Vocabulary.pad, reduction="sum")
    return total, (labels != Vocabulary.pad).sum()
