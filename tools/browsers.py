"""Where the machine's own Chromium is: for the tests in a browser, and for what is drawn by one."""

from __future__ import annotations

import shutil

NAMES = ("chromium", "chromium-browser", "google-chrome")


def find_browser() -> str | None:
    """Return the path of the first of NAMES that is installed."""
    return next(filter(None, map(shutil.which, NAMES)), None)
