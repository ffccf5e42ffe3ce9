"""Results of the long experiments, recorded once and shown in chapters; `experiments/` has the scripts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

INSTALLED = Path(__file__).parent / "recorded"  # in a wheel, which has no experiments folder
REPOSITORY = Path(__file__).parents[2] / "experiments" / "results"


def recorded(name: str) -> dict[str, Any]:
    """Read what ``experiments/<name>.py`` recorded.

    Returns:
        Among others ``about``, ``settings``, ``results``, ``made with`` (versions, device, date) and ``seconds``.

    Raises:
        FileNotFoundError: there is no such recording; the message lists those that there are.
        ValueError: the recording was stopped before its end.

    >>> recorded("longest_lag")["settings"]["lags"]
    [10, 20, 50, 100]
    """
    folder = INSTALLED if INSTALLED.is_dir() else REPOSITORY
    path = folder / f"{name}.json"
    if not path.exists():
        known = ", ".join(sorted(file.stem for file in folder.glob("*.json"))) or "none"
        raise FileNotFoundError(f"recorded: expected the name of a recorded experiment ({known}), got {name!r}")
    data = json.loads(path.read_text(encoding="utf-8"))
    if not data["complete"]:
        raise ValueError(f"recorded: expected a complete recording, got {name!r} unfinished; run its script once more")
    return data
