"""Run every chapter and solution whose execution is not current, and store the text outputs of all, or of those named.

The stored outputs are what the tests compare and what a diff can show.
"""

from __future__ import annotations

import sys
from pathlib import Path

from execution import Execution, Failure, code_cells, text_only, write

ROOT = Path(__file__).resolve().parent.parent


def store(executions: Execution, path: Path) -> bool:
    """Store the text outputs of a notebook's execution; return whether the file changed."""
    notebook, before = executions.filled(path), path.read_text(encoding="utf-8")
    for cell in code_cells(notebook):
        cell.outputs = text_only(cell.outputs)
    notebook.metadata["language_info"] = {"name": "python"}  # versions would change the file for nothing
    write(notebook, path)
    return path.read_text(encoding="utf-8") != before


def main() -> int:
    """Refresh the notebooks that were named, or all of them."""
    executions = Execution(ROOT)
    paths = [Path(name).resolve() for name in sys.argv[1:]] or executions.notebooks()
    try:
        executions.run([path for path in paths if executions.current(path) is None])
        changed = [path.relative_to(ROOT) for path in paths if store(executions, path)]
    except Failure as failure:
        print(failure)
        return 1
    print("stored: " + (", ".join(map(str, changed)) or "nothing to change"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
