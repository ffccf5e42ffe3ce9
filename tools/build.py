"""Build the book strictly, and never publish stale output.

Jupyter Book re-runs a notebook when its code cells change, but not when the code that they import does. So what the
notebooks depend on is hashed: when the hash differs from that of the last good build, the cache of executed notebooks
is dropped and every page is made again. A failed build leaves no pages behind.
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
INPUTS = ["src", "ext", "assets", "experiments", "requirements.txt", "pyproject.toml", "_config.yml", "_toc.yml"]


def digest() -> str:
    """Hash every file that an executed notebook or a page may depend on, besides the pages themselves."""
    sha = hashlib.sha256(sys.version.encode())
    for name in INPUTS:
        path = ROOT / name
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path] * path.exists()
        for file in files:
            if "__pycache__" not in file.parts:
                sha.update(f"{file.relative_to(ROOT)}\0".encode() + file.read_bytes())
    return sha.hexdigest()


def main() -> int:
    """Run jupyter-book; return its exit code."""
    stamp, now = BUILD / "inputs.sha256", digest()
    fresh = stamp.exists() and stamp.read_text() == now and HTML.exists()
    command = [str(Path(sys.executable).parent / "jupyter-book"), "build", ".", "-W", "-n", "--keep-going"]
    if not fresh:
        shutil.rmtree(BUILD, ignore_errors=True)
        command.append("--all")
    stamp.unlink(missing_ok=True)

    start, times = time.perf_counter(), []
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        for line in process.stdout or ():
            print(line, end="", flush=True)
            if done := re.search(r"(\S+\.ipynb): Executed notebook in ([\d.]+) seconds", line):
                times.append((float(done[2]), Path(done[1]).name))
    if process.returncode:
        shutil.rmtree(HTML, ignore_errors=True)
        print("\nThe book was NOT built: the first error above names the page and, for a notebook, the cell.")
        return process.returncode
    BUILD.mkdir(exist_ok=True)
    stamp.write_text(now)
    for seconds, name in times:
        print(f"executed {name} in {seconds:.0f} s")
    print(f"\nThe book is built ({time.perf_counter() - start:.0f} s): open {HTML / 'index.html'}")
    print("or serve it with `make serve` at http://127.0.0.1:8000/")
    return 0


if __name__ == "__main__":
    sys.exit(main())
