"""Give each notebook that is read the outputs of its execution, which tools/build.py has made and kept.

Sphinx executes nothing. A notebook whose execution is missing, or belongs to other code or data, stops the build.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))
from execution import Execution, code_cells


def fill(app: Sphinx, executions: Execution, docname: str, content: list[str]) -> None:
    """Put the outputs into the text of a notebook."""
    path = Path(app.env.doc2path(docname))
    if path.suffix != ".ipynb":
        return
    executed = executions.current(path)
    if executed is None:
        raise ExtensionError(f"{docname}: expected an execution of the notebook as it is now; run tools/build.py")
    notebook = nbformat.reads(content[0], as_version=4)
    for cell, done in zip(code_cells(notebook), code_cells(executed), strict=True):
        cell.outputs, cell.execution_count = done.outputs, done.execution_count
    notebook.metadata["language_info"] = executed.metadata.language_info
    content[0] = nbformat.writes(notebook)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension."""
    executions = Execution(Path(app.srcdir))
    app.connect("source-read", lambda app, name, content: fill(app, executions, name, content))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
