"""Run every chapter and solution and store their text outputs: what the tests compare and what a diff can show.

Pictures and HTML are not stored: they are large, change with library versions, and are made again by every build.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent


def text_only(output: nbformat.NotebookNode) -> nbformat.NotebookNode | None:
    """Return the output with nothing but its text, or None where it has no text."""
    if output.output_type == "stream":
        return output if output.name == "stdout" else None
    if "text/plain" not in output.get("data", {}):
        return None
    output.data = nbformat.NotebookNode({"text/plain": output.data["text/plain"]})
    output.metadata = nbformat.NotebookNode()
    return output


def refresh(path: Path) -> None:
    """Execute one notebook in an empty folder and store its text outputs."""
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": folder}}).execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [kept for kept in map(text_only, cell.outputs) if kept is not None]
            cell.metadata.pop("execution", None)
    notebook.metadata["language_info"] = {"name": "python"}  # versions would change the file for nothing
    nbformat.write(notebook, path)


def main() -> None:
    """Refresh the notebooks that were named, or all of them."""
    os.environ["SEQLAB_NO_WIDGETS"] = "1"  # their state would be stored with the notebook
    paths = [Path(name) for name in sys.argv[1:]] or sorted(ROOT.glob("notebooks/**/*.ipynb"))
    for path in paths:
        start = time.perf_counter()
        refresh(path)
        print(f"{path.name}: {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
