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
        Among others ``about``, ``settings``, ``results``, ``made with`` (versions, device, date) and ``seconds``;
        ``confirmed`` if a sample was run again later, with newer code, and agreed.

    Raises:
        FileNotFoundError: there is no such recording; the message lists those that there are.
        ValueError: the file is damaged.

    >>> recorded("longest_lag")["settings"]["lags"]
    [10, 20, 50, 100]
    """
    folder = INSTALLED if INSTALLED.is_dir() else REPOSITORY
    path = folder / f"{name}.json"
    if not path.exists():
        known = ", ".join(sorted(file.stem for file in folder.glob("*.json"))) or "none"
        raise FileNotFoundError(f"recorded: expected the name of a recorded experiment ({known}), got {name!r}")
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"recorded: expected a recording in {path}, got no JSON ({error}); restore the file"
        ) from error
    return data


def provenance(recording: dict[str, Any]) -> str:
    """When and with what a recording was made, and when a sample of it was last run again.

    Args:
        recording: as :func:`recorded` returns it.

    Returns:
        A line to show under its results.

    >>> "confirmed" in provenance(recorded("longest_lag"))
    True
    """
    when = [("recorded", recording)]
    if "confirmed" in recording:
        when.append(("a sample confirmed", recording["confirmed"]))
    return "; ".join(
        "{what} on {date} with torch {torch}, numpy {numpy}, Python {python} on {processor}".format(
            what=what, **each["made with"]
        )
        for what, each in when
    )
