"""Build the book strictly, and never publish stale output.

First every notebook whose code, data or versions changed is executed, and no other (execution.py); then all pages are
made anew from what was kept, since a sitemap or a ledger of a partial build is partial. Where nothing changed nothing
is done. Pages are made aside and put in their place when they are whole: a failed or broken-off build leaves none.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from execution import Execution, Failure
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "_build"
HTML = BUILD / "html"
ASIDE = BUILD / "unfinished"
INPUTS = [
    *("_config.yml", "_toc.yml", "requirements.txt", "pyproject.toml"),
    *("assets", "book", "experiments", "ext", "notebooks", "src"),
]


def digest(executions: Execution) -> str:
    """Hash everything that pages are made of, and the version of Python."""
    sha = hashlib.sha256(sys.version.encode())
    for name in INPUTS:
        path = ROOT / name
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path] * path.exists()
        for file in files:
            if not {"__pycache__", ".ipynb_checkpoints"} & set(file.parts):
                sha.update(f"{file.relative_to(ROOT)}\0".encode() + file.read_bytes())
    for path in executions.paths():
        kept = executions.kept(path)
        sha.update(kept.read_bytes() if kept.exists() else b"")
    return sha.hexdigest()


def pages(executions: Execution) -> int:
    """Make all pages aside, from nothing but the executions of now; return the exit code of jupyter-book."""
    jupyter_book = str(Path(sys.executable).parent / "jupyter-book")
    cache = get_cache(ASIDE / "_build" / ".jupyter_cache")
    for path in executions.paths():
        cache.cache_notebook_bundle(CacheBundleIn(executions.filled(path), str(path)), check_validity=False)
    command = [jupyter_book, "build", ".", "--path-output", str(ASIDE), "--all", "-W", "-n", "--keep-going"]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONUNBUFFERED": "1"}).returncode


def main() -> int:
    """Execute what changed, then make the pages; return the exit code."""
    start, executions = time.perf_counter(), Execution(ROOT)
    stale = [path for path in executions.paths() if executions.current(path) is None]
    stamp = BUILD / "digest.txt"
    if not stale and HTML.exists() and stamp.exists() and stamp.read_text() == digest(executions):
        print(f"Nothing changed since the last build: open {HTML / 'index.html'}")
        return 0
    for path in (HTML, ASIDE):
        shutil.rmtree(path, ignore_errors=True)
    BUILD.mkdir(exist_ok=True)
    print(f"{len(stale)} of {len(executions.paths())} notebooks to execute", flush=True)
    try:
        executions.run(stale)
        print(f"notebooks: {time.perf_counter() - start:.0f} s", flush=True)
        whole = digest(executions)
        code = pages(executions)
    except Failure as failure:
        print(f"{failure}\n\nThe book was NOT built: see above.")
        return 1
    if code:
        shutil.rmtree(ASIDE, ignore_errors=True)
        print("\nThe book was NOT built: the first error above names the page.")
        return code
    (ASIDE / "_build" / "html").rename(HTML)
    shutil.rmtree(ASIDE, ignore_errors=True)
    stamp.write_text(whole)
    print(f"\nThe book is built ({time.perf_counter() - start:.0f} s): open {HTML / 'index.html'}")
    print("or serve it with `make serve` at http://127.0.0.1:8000/")
    return 0


if __name__ == "__main__":
    sys.exit(main())
