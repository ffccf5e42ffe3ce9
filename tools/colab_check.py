"""Run every chapter and solution as Colab would: its versions, seqlab as an installed package, an empty folder.

The environment is kept in .venv-colab and made again when tests/colab.txt changes. Colab's torch is a CUDA build; so is
the one that is installed here on Linux (several gigabytes, once).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PINS = ROOT / "tests" / "colab.txt"
VENV = ROOT / ".venv-colab"
RUN = """
import sys, nbformat
from nbclient import NotebookClient
book = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(book, timeout=300, kernel_name="python3").execute()
outputs = [output.get("data", {}) for cell in book.cells for output in cell.get("outputs", [])]
if "slider(" in "".join(cell.source for cell in book.cells):
    assert any("application/vnd.jupyter.widget-view+json" in data for data in outputs), "no figure has live controls"
"""


def runs(name: str) -> bool:
    """Tell whether a Python of this name can be started (a version manager's shim may stand for none)."""
    return bool(shutil.which(name)) and subprocess.run([name, "--version"], capture_output=True).returncode == 0


def environment() -> Path:
    """Make the environment where it is missing or out of date; return its Python."""
    python, stamp = VENV / "bin" / "python", VENV / "pins.txt"
    if not stamp.exists() or stamp.read_text() != PINS.read_text():
        base = next(filter(runs, ["python3.12", "python3.13"]), sys.executable)
        print(f"making .venv-colab with {base} and the versions of {PINS.name} ...", flush=True)
        subprocess.run([base, "-m", "venv", "--clear", VENV], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "-r", PINS], check=True)
        stamp.write_text(PINS.read_text())
    install = [str(python), "-m", "pip", "install", "-q", "--no-deps", "--force-reinstall", str(ROOT)]
    subprocess.run(install, check=True)
    return python


def main() -> int:
    """Run the notebooks one by one; report each."""
    python = environment()
    paths = [Path(name).resolve() for name in sys.argv[1:]] or sorted(ROOT.glob("notebooks/**/*.ipynb"))
    failed = []
    for path in paths:
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            copy = shutil.copy(path, folder)
            clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
            code = subprocess.run([python, "-c", RUN, copy], cwd=folder, env=clean).returncode
        failed += [path.name] * bool(code)
        print(
            f"{path.relative_to(ROOT)}: {'FAILED' if code else 'ran'} in {time.perf_counter() - start:.0f} s",
            flush=True,
        )
    print(f"{len(paths) - len(failed)} passed, {len(failed)} failed")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
