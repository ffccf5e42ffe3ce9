"""The book's build: what changes makes it start afresh, and what a failure leaves behind."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = """{"cells": [{"cell_type": "markdown", "id": "a", "metadata": {}, "source": "# A chapter"},
{"cell_type": "code", "id": "b", "metadata": {}, "source": %s, "outputs": [], "execution_count": null}],
"metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
"nbformat": 4, "nbformat_minor": 5}"""


@pytest.fixture
def book(tmp_path, monkeypatch):
    """A book of one notebook that prints a number of a module in src/, and the build tool pointed at it."""
    (tmp_path / "tools").mkdir()
    shutil.copy(ROOT / "tools" / "build.py", tmp_path / "tools")
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "answer.py").write_text("VALUE = 'first value'\n")
    (tmp_path / "notebooks").mkdir()
    code = f"import sys; sys.path.insert(0, {str(tmp_path / 'src')!r}); import answer; answer.VALUE"
    (tmp_path / "notebooks" / "01-one.ipynb").write_text(NOTEBOOK % json.dumps(code))
    (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: notebooks/01-one\n")
    (tmp_path / "_config.yml").write_text(
        "title: t\nexecute: {execute_notebooks: cache}\nsphinx: {config: {nb_execution_raise_on_error: true}}\n"
    )
    spec = importlib.util.spec_from_file_location("build_tool", tmp_path / "tools" / "build.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool, tmp_path


def page(folder: Path) -> str:
    return (folder / "_build" / "html" / "notebooks" / "01-one.html").read_text()


def test_a_change_in_src_reruns_the_notebook_and_no_change_runs_nothing(book, capfd):
    tool, folder = book
    assert tool.main() == 0
    assert "first value" in page(folder)
    assert "executed notebooks/01-one.ipynb" in capfd.readouterr().out

    assert tool.main() == 0
    assert "Nothing changed" in capfd.readouterr().out

    with (folder / "_toc.yml").open("a") as toc:  # not a page, so that nothing executed is trusted
        toc.write("# a comment\n")
    assert tool.main() == 0
    assert "executed notebooks/01-one.ipynb" in capfd.readouterr().out

    (folder / "src" / "answer.py").write_text("VALUE = 'second value'\n")
    assert tool.main() == 0
    assert "second value" in page(folder)
    assert "first value" not in page(folder)


def test_a_change_of_text_makes_the_pages_anew_from_executed_notebooks(book, capfd):
    tool, folder = book
    assert tool.main() == 0
    capfd.readouterr()
    notebook = folder / "notebooks" / "01-one.ipynb"
    notebook.write_text(notebook.read_text().replace("# A chapter", "# Another title"))
    assert tool.main() == 0
    assert "executed notebooks/01-one.ipynb" not in capfd.readouterr().out
    assert "Another title" in page(folder)
    assert "first value" in page(folder)


def test_a_failing_cell_stops_the_build_is_named_and_leaves_no_pages(book, capfd):
    tool, folder = book
    assert tool.main() == 0
    (folder / "src" / "answer.py").write_text("raise ValueError('the planted failure')\n")
    assert tool.main() != 0
    shown = capfd.readouterr().out
    assert "01-one.ipynb" in shown
    assert "the planted failure" in shown
    assert "import answer" in shown
    assert not (folder / "_build" / "html").exists()
