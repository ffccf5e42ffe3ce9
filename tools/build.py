"""Build the book strictly, and never publish stale output.

Jupyter Book re-runs a notebook when its code cells change, but not when the code that they import does; and a sitemap
or a ledger of a partial build is partial. So everything is hashed: where nothing changed since the last good build
nothing is done, where something did all pages are made anew, and where it is more than pages the cache of executed
notebooks is dropped first. A failed build leaves no pages behind.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "_build"
HTML = BUILD / "html"
CODE = ["src", "ext", "assets", "experiments", "requirements.txt", "pyproject.toml", "_config.yml", "_toc.yml"]
PAGES = ["book", "notebooks"]


def digest(names: list[str]) -> str:
    """Hash these files and folders, and the version of Python."""
    sha = hashlib.sha256(sys.version.encode())
    for name in names:
        path = ROOT / name
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path] * path.exists()
        for file in files:
            if not {"__pycache__", ".ipynb_checkpoints"} & set(file.parts):
                sha.update(f"{file.relative_to(ROOT)}\0".encode() + file.read_bytes())
    return sha.hexdigest()


def main() -> int:
    """Run jupyter-book; return its exit code."""
    stamp, code, pages = BUILD / "hashes.txt", digest(CODE), digest(PAGES)
    last = stamp.read_text().split() if stamp.exists() and HTML.exists() else ["", ""]
    if last == [code, pages]:
        print(f"Nothing changed since the last build: open {HTML / 'index.html'}")
        return 0
    if last[0] != code:
        shutil.rmtree(BUILD, ignore_errors=True)
    stamp.unlink(missing_ok=True)
    jupyter_book = str(Path(sys.executable).parent / "jupyter-book")
    command = [jupyter_book, "build", ".", "--all", "-W", "-n", "--keep-going"]

    start, times = time.perf_counter(), []
    environment = {
        **os.environ,
        "PYTHONUNBUFFERED": "1",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        "SEQLAB_NO_WIDGETS": "1",  # a page has no kernel
    }
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        for line in process.stdout or ():
            print(line, end="", flush=True)
            if done := re.search(r"(\S+\.(?:ipynb|md)): Executed notebook in ([\d.]+) seconds", line):
                times.append((float(done[2]), os.path.relpath(done[1], ROOT)))
    if process.returncode:
        shutil.rmtree(HTML, ignore_errors=True)
        print("\nThe book was NOT built: the first error above names the page and, for a notebook, the cell.")
        return process.returncode
    BUILD.mkdir(exist_ok=True)
    stamp.write_text(f"{code} {pages}")
    for seconds, name in times:
        print(f"executed {name} in {seconds:.0f} s")
    print(f"\nThe book is built ({time.perf_counter() - start:.0f} s): open {HTML / 'index.html'}")
    print("or serve it with `make serve` at http://127.0.0.1:8000/")
    return 0


if __name__ == "__main__":
    sys.exit(main())
