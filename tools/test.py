"""Run every test of the project: the library's, the notebooks', and those of the built book in a browser.

Called by `make test`, after `make book`, whose execution of chapters and solutions is compared with the stored outputs.
Prints what ran and how long it took, and ends with the combined verdict.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from browsers import find_browser

ROOT = Path(__file__).resolve().parent.parent


def need_browser() -> None:
    """Find Chromium, or install it from the system's packages, or say clearly what is missing."""
    if find_browser() or os.environ.get("SEQLAB_NO_BROWSER"):
        return
    if shutil.which("apt-get") and os.geteuid() == 0:
        print("installing chromium from the system's packages for the browser tests ...", flush=True)
        subprocess.run(["apt-get", "update", "-qq"], stdout=subprocess.DEVNULL, check=False)
        subprocess.run(["apt-get", "install", "-y", "-qq", "chromium"], stdout=subprocess.DEVNULL, check=False)
    if not find_browser():
        print(
            "The browser tests need Chromium and none was found: install it (Debian, Ubuntu: sudo apt-get install "
            "chromium; macOS: brew install chromium), or leave these tests out with SEQLAB_NO_BROWSER=1 make test."
        )
        sys.exit(1)


def run(title: str, *arguments: str) -> bool:
    """Run one pytest session with one thread a process; return whether it passed."""
    print(f"\n== {title}", flush=True)
    start = time.perf_counter()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    code = subprocess.run([sys.executable, "-m", "pytest", "-q", *arguments], cwd=ROOT, env=environment).returncode
    print(f"== {title}: {'passed' if code == 0 else 'FAILED'} in {time.perf_counter() - start:.0f} s", flush=True)
    return code == 0


def main() -> int:
    """Run all sessions, also after a failure, so that one run shows everything that is wrong."""
    need_browser()
    two = ("-n", "2", "--dist")
    passed = [
        run(
            "library, tools, examples, and the outputs of chapters and solutions",
            *(*two, "worksteal", "--doctest-modules", "--ignore=tests/browser", "tests", "src"),
        ),
        run("the built book, in Chromium", *two, "loadgroup", "tests/browser"),
    ]
    print("\nAll tests passed." if all(passed) else "\nSome tests FAILED: see above.")
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
