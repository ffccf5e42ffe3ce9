"""Execute chapters, solutions and pages with code, two at a time: the one execution that all share.

The book shows its outputs (build.py), the tests compare them with the stored ones, and `make notebooks` stores them. An
execution belongs to a key: the notebook's code, the code and the data that it reaches, the pinned versions, the version
of Python and the number of threads. Whoever asks for outputs of another key gets none.
"""

from __future__ import annotations

import ast
import asyncio
import hashlib
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from threading import Lock

import nbformat
from closure import Sources
from IPython.core.inputtransformer2 import TransformerManager
from myst_nb.core.read import is_myst_markdown_notebook, myst_nb_reader_plugin
from nbclient import NotebookClient
from nbformat import NotebookNode

AT_ONCE = 2
THREADS = os.environ.get("SEQLAB_THREADS", "1")  # of each notebook
SECONDS = 300  # that one cell may take
SHOWS_SOURCE = {"getsource", "getsourcelines", "getdoc", "help"}  # and x.__doc__
PARSING = Lock()  # Python 3.11 can fail with "AST constructor recursion depth mismatch" where two threads parse
DECIDE = {"raises-exception", "skip-execution"}  # tags that decide whether and how a cell runs


class Failure(Exception):
    """A notebook did not run to its end; says which, in which cell, and why."""


class Execution:
    """The notebooks of the repository in a folder, and their executions in its _build."""

    def __init__(self, root: Path) -> None:
        """Name the repository's folder."""
        self.root = root

    @cached_property
    def sources(self) -> Sources:
        """The modules under src/."""
        return Sources(self.root / "src")

    @cached_property
    def data(self) -> dict[Path, set[str]]:
        """The data files that notebooks can read, each with the names by which code can ask for it."""
        inside = (path for path in (self.root / "src").rglob("*") if path.suffix not in (".py", ".pyc", ".typed"))
        found = {path: {path.name} for path in sorted(inside) if path.is_file()}
        for path in sorted((self.root / "experiments" / "results").glob("*.json")):
            found[path] = {path.name, path.stem}
        return found

    @cached_property
    def unnamed(self) -> set[Path]:
        """Data that no code asks for by name, so that any may be reading it."""
        trees = [self.sources.tree(module) for module in self.sources.files]
        said = strings(*trees, *(ast.parse(code(load(path))) for path in self.paths()))
        return {path for path, names in self.data.items() if not names & said}

    def paths(self) -> list[Path]:
        """Every chapter, solution, and page with code that is to be executed."""
        pages = [path for path in self.root.glob("book/*.md") if is_myst_markdown_notebook(path.read_text("utf-8"))]
        return [*self.notebooks(), *sorted(pages)]

    def notebooks(self) -> list[Path]:
        """Every chapter, then every solution."""
        return sorted(self.root.glob("notebooks/*.ipynb")) + sorted(self.root.glob("notebooks/*/*.ipynb"))

    def key(self, path: Path) -> str:
        """What the outputs of a notebook depend on, as a digest."""
        with PARSING:
            return self.key_now(path)

    def key_now(self, path: Path) -> str:
        """The key, while no other thread parses."""
        notebook = load(path)
        text = code(notebook)
        modules = self.sources.reached(text)
        trees = [ast.parse(text), *map(self.sources.tree, modules)]
        said = strings(*trees)
        shown = modules if any(map(shows_source, trees)) else []
        files = [self.sources.files[module] for module in shown]
        files += [file for file, names in self.data.items() if names & said or file in self.unnamed]
        pins = self.root / "requirements.txt"
        cells = [(cell.source, sorted(DECIDE & set(cell.metadata.get("tags", [])))) for cell in code_cells(notebook)]
        facts = [
            *(cells, self.sources.digests(text), sys.version, THREADS),
            *({str(f.relative_to(self.root)): hashlib.sha256(f.read_bytes()).hexdigest()} for f in files),
            pins.read_text(encoding="utf-8") if pins.exists() else "",
        ]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def kept(self, path: Path) -> Path:
        """Where the execution of a notebook is kept."""
        return self.root / "_build" / "executed" / path.relative_to(self.root).with_suffix(".ipynb")

    def read(self, path: Path) -> NotebookNode | None:
        """The kept execution of a notebook, of whatever key."""
        kept = self.kept(path)
        return nbformat.read(kept, as_version=4) if kept.exists() else None

    def current(self, path: Path) -> NotebookNode | None:
        """The execution that belongs to the notebook, the code and the data of now, or None."""
        executed = self.read(path)
        return executed if executed and executed.metadata.execution.key == self.key(path) else None

    def filled(self, path: Path) -> NotebookNode:
        """The notebook as it is now, with the outputs of its current execution.

        Raises:
            Failure: there is none.
        """
        notebook, executed = load(path), self.current(path)
        if executed is None:
            raise Failure(
                f"{path.relative_to(self.root)}: it, or code or data that it uses, changed since it was executed"
            )
        for cell, done in zip(code_cells(notebook), code_cells(executed), strict=True):
            cell.outputs, cell.execution_count = done.outputs, done.execution_count
        notebook.metadata["language_info"] = executed.metadata.language_info
        return notebook

    def run(self, paths: Sequence[Path]) -> None:
        """Execute notebooks, those that take longest first.

        Raises:
            Failure: of the first notebook that failed; those that had begun were let finish, and are kept.
        """
        pool = ThreadPoolExecutor(AT_ONCE)
        futures = [pool.submit(self.execute, path) for path in sorted(paths, key=self.length, reverse=True)]
        try:
            for future in futures:
                future.result()
        finally:
            pool.shutdown(cancel_futures=True)

    def length(self, path: Path) -> tuple[float, int]:
        """How long a notebook took last time, and how long its code is."""
        executed = self.read(path)
        taken = executed.metadata.execution.seconds if executed else float("inf")
        chapter = path.parent.name == "notebooks"
        return taken, len(code(load(path))) if chapter else 0

    def execute(self, path: Path) -> None:
        """Execute one notebook in an empty folder, with one thread, and keep the execution."""
        key, notebook, start = Execution(self.root).key(path), load(path), time.perf_counter()
        for cell in code_cells(notebook):
            cell.outputs, cell.execution_count = [], None
            cell.metadata.pop("execution", None)
        python_path = os.pathsep.join(filter(None, [str(self.root / "src"), os.environ.get("PYTHONPATH")]))
        settings = {
            "PYTHONPATH": python_path,
            "OMP_NUM_THREADS": THREADS,
            "SEQLAB_NO_WIDGETS": "1",  # a page has no kernel
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",  # a debugger's advice on frozen modules
        }
        name = path.relative_to(self.root)
        with tempfile.TemporaryDirectory() as folder:
            (empty := Path(folder) / "empty").mkdir()
            client = NotebookClient(notebook, timeout=SECONDS, kernel_name="python3")
            manager = client.create_kernel_manager()
            manager.transport, manager.ip = "ipc", f"{folder}/kernel"  # of TCP the kernel warns, and ports can be taken
            try:
                asyncio.run(client.async_execute(env={**os.environ, **settings}, cwd=str(empty)))
            except Exception as error:  # a cell's own, the kernel's death, or time that ran out
                raise Failure(f"{name}, {cell_in_work(notebook)}:\n{plain(str(error))}") from error
        seconds = round(time.perf_counter() - start, 1)
        notebook.metadata["execution"] = {"key": key, "seconds": seconds}
        if Execution(self.root).key(path) == key:  # nothing was edited while it ran
            write(notebook, self.kept(path))
        print(f"executed {name} in {seconds:.0f} s", flush=True)


def load(path: Path) -> NotebookNode:
    """Read a notebook, from Markdown too."""
    return myst_nb_reader_plugin(str(path)) if path.suffix == ".md" else nbformat.read(path, as_version=4)


def write(notebook: NotebookNode, path: Path) -> None:
    """Write a notebook, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(nbformat.writes(notebook).rstrip("\n") + "\n", encoding="utf-8")
    os.replace(unfinished, path)


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """The code cells that hold anything."""
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


def code(notebook: NotebookNode) -> str:
    """The notebook's code as Python, magics translated."""
    return "\n".join(TransformerManager().transform_cell(cell.source) for cell in code_cells(notebook))


def strings(*trees: ast.AST) -> set[str]:
    """The string constants in some code, without the folders of those that are paths."""
    nodes = (node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return {node.value.rpartition("/")[2] for node in nodes if isinstance(node.value, str)}


def shows_source(tree: ast.AST) -> bool:
    """Whether code may print source or docstrings, so that every letter of what it reaches counts."""
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return bool(SHOWS_SOURCE & (names | attributes)) or "__doc__" in attributes


def cell_in_work(notebook: NotebookNode) -> str:
    """Which cell was the last that began."""
    begun = [cell for cell in code_cells(notebook) if "iopub.execute_input" in cell.metadata.get("execution", {})]
    return f"code cell {len(begun)}, {begun[-1].source.strip().splitlines()[0]!r}" if begun else "before its first cell"


def plain(text: str) -> str:
    """Text without the colours of a terminal."""
    return re.sub(r"\x1b\[[\d;]*m", "", text)


def text_only(outputs: Sequence[NotebookNode]) -> list[NotebookNode]:
    """Outputs as they are stored in the repository: what was printed, and the text of what was shown.

    Pictures and HTML are not stored: they are large, change with library versions, and are made by every build.
    """
    kept: list[NotebookNode] = []
    for output in outputs:
        if output.output_type == "stream" and output.name == "stdout":
            if kept and kept[-1].output_type == "stream":  # where a stream is cut is chance
                output = NotebookNode({**output, "text": kept.pop().text + output.text})
            kept.append(output)
        elif "text/plain" in output.get("data", {}):
            text = {"text/plain": output.data["text/plain"]}
            kept.append(NotebookNode({**output, "data": NotebookNode(text), "metadata": NotebookNode()}))
    return kept


def differences(stored: NotebookNode, executed: NotebookNode) -> list[str]:
    """Say which cells were not executed, and which of those to be compared gave other text than is stored."""
    found = []
    for number, (cell, done) in enumerate(zip(code_cells(stored), code_cells(executed), strict=True), start=1):
        expected, got = text_only(cell.outputs), text_only(done.outputs)
        if done.execution_count is None:
            found.append(f"code cell {number} was not executed")
        elif "nbval-check-output" in cell.metadata.get("tags", []) and got != expected:
            found.append(f"code cell {number}: expected the stored output {expected}, got {got}")
    return found
