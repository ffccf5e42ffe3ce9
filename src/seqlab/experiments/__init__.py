"""Experiments at full scale, to be run as programs: resumable, in one process or several, with results as JSON.

They add settings to the rest of the library, and nothing else. What they found here is in the repository's
``experiments/results``; :func:`seqlab.book.recorded` reads it.
"""

from __future__ import annotations

import datetime
import os
import platform
from importlib.metadata import version
from pathlib import Path

import numpy
import torch

__all__ = ["environment"]


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
        "seqlab": version("seqlab"),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "python": platform.python_version(),
        "device": f"{kind}, {torch.get_num_threads()} thread(s), {processes} process(es)",
        "processor": processor,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }
