"""The book's build: a change executes the notebooks that it reaches and no others, and stale output never appears."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import pytest
from execution import Execution, Failure, code_cells, differences, text_only
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

ROOT = Path(__file__).resolve().parent.parent
FILES = {
    "src/lib/__init__.py": '"""Re-exports."""\nfrom .claims import claim\nfrom .one import first\n'
    "from .recorded import recorded\nfrom .two import later, second\n__all__ = ['first']\n",
    "src/lib/common.py": "BASE = 'base'\n",
    "src/lib/one.py": "from .common import BASE\n\n\ndef first():\n    return BASE + ' one'\n",
    "src/lib/two.py": "from . import common\n\n\ndef second():\n    return common.BASE + ' two'\n\n\n"
    "def later():\n    from .three import third\n\n    return third\n",
    "src/lib/three.py": "third = 'three'\n",
    "src/lib/claims.py": "from pathlib import Path\n\nfrom . import common\n\n\ndef claim():\n"
    "    return (Path(__file__).parent / 'claims.toml').read_text() + common.BASE\n",
    "src/lib/claims.toml": "a = 'holds'\n",
    "src/lib/recorded.py": "from pathlib import Path\n\nfrom .common import BASE\n\n\ndef recorded(name):\n"
    "    folder = Path(__file__).parents[2] / 'experiments' / 'results'\n"
    "    return (folder / f'{name}.json').read_text() + BASE\n",
    "experiments/results/run.json": "[1]\n",
    "experiments/results/other.json": "[2]\n",
    "requirements.txt": "torch\n",
    "book/page.md": "# A page\n",
    "book/code.md": "---\nfile_format: mystnb\n---\n# Code\n\n```{code-cell} python\nfrom lib.three import third\n"
    "third\n```\n",
    "_toc.yml": "format: jb-book\nroot: notebooks/01-one\nchapters:\n  - file: notebooks/07-two\n"
    "  - file: notebooks/08-claims\n  - file: notebooks/10-recorded\n  - file: book/page\n  - file: book/code\n",
    "_config.yml": "title: t\nonly_build_toc_files: true\nexecute: {execute_notebooks: cache, stderr_output: error}\n",
}
CODE = {
    "01-one": "from lib import first\nfirst()",
    "07-two": "import lib\nlib.second() + lib.later()",
    "08-claims": "from lib import claim\nclaim()",
    "10-recorded": "from lib import recorded\nrecorded('run') + recorded('other')",
}
EVERY = {*CODE, "code"}


@pytest.fixture
def book(tmp_path) -> Path:
    """The repository of a small book, with the tools of this one."""
    shutil.copytree(ROOT / "tools", tmp_path / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "notebooks").mkdir()
    for name, code in CODE.items():
        cells = [new_markdown_cell("# A chapter"), new_code_cell(code)]
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(
            new_notebook(cells=cells, metadata={"kernelspec": kernel}), tmp_path / "notebooks" / f"{name}.ipynb"
        )
    return tmp_path


def build(folder: Path) -> tuple[int, str, set[str]]:
    """Build the book; return the exit code, what was said, and the names of the notebooks that were executed."""
    done = subprocess.run(
        [sys.executable, "tools/build.py"], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return done.returncode, done.stdout, set(re.findall(r"executed \w+/(\S+)\.", done.stdout))


def page(folder: Path, name: str) -> str:
    return (folder / "_build" / "html" / f"{name}.html").read_text()


def keys(folder: Path) -> dict[str, str]:
    executions = Execution(folder)
    return {path.stem: executions.key(path) for path in executions.paths()}


@pytest.mark.parametrize(
    ("file", "old", "new", "reached"),
    [
        ("src/lib/two.py", "two", "TWO", {"07-two"}),
        ("src/lib/three.py", "three", "3", {"07-two", "code"}),  # in a chapter it is imported inside a function
        ("src/lib/common.py", "base", "BASE", set(CODE)),
        ("book/code.md", "\nthird\n", "\nthird * 2\n", {"code"}),
        ("book/code.md", "# Code", "# Another", set()),
        ("src/lib/claims.toml", "holds", "fails", {"08-claims"}),
        ("experiments/results/other.json", "2", "3", {"10-recorded"}),
        ("requirements.txt", "torch", "torch==2", EVERY),
        ("notebooks/01-one.ipynb", "first()", "first() * 2", {"01-one"}),
        ("notebooks/01-one.ipynb", "A chapter", "Another", set()),
        ("src/lib/__init__.py", "from .one import first", "from .three import third as first", {"01-one"}),
        ("src/lib/__init__.py", "__all__ = ['first']", "__all__ = []", set()),
        ("src/lib/common.py", "BASE", "# a comment\nBASE", set()),
        ("book/page.md", "A page", "Another page", set()),
    ],
)
def test_a_change_reaches_exactly_the_notebooks_that_import_it(book, file, old, new, reached):
    before, text = keys(book), (book / file).read_text()
    assert old in text
    (book / file).write_text(text.replace(old, new, 1))
    after = keys(book)
    assert {name for name in EVERY if before[name] != after[name]} == reached


@pytest.mark.parametrize(
    "code",
    [
        "import lib.two as x\nx.second()",
        "from lib.two import *",
        "from lib import *",
        "import lib\nprint(dir(lib))",
        "import importlib\nimportlib.import_module('lib.two')",
        "import importlib\nimportlib.import_module('lib.' + 'two')",
        "%pip --version\nfrom lib import two",
        "def f():\n    import lib.two",
    ],
)
def test_no_way_of_importing_is_missed(book, code):
    path = book / "notebooks" / "01-one.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell(code)]), path)
    before = keys(book)["01-one"]
    (book / "src/lib/two.py").write_text(FILES["src/lib/two.py"] + "\nMORE = 1\n")
    assert keys(book)["01-one"] != before


def test_keys_can_be_asked_for_by_several_threads():
    """Python 3.11's parser fails where two threads parse at once."""
    paths = Execution(ROOT).paths()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda path: Execution(ROOT).key(path), paths))
    assert len(set(found)) == len(paths)


def test_docstrings_count_where_source_is_shown(book):
    path = book / "notebooks" / "01-one.ipynb"
    cell = "import inspect\nfrom lib import first\nprint(inspect.getsource(first))"
    nbformat.write(new_notebook(cells=[new_code_cell(cell)]), path)
    before = keys(book)["01-one"]
    (book / "src/lib/one.py").write_text('"""Why."""\n' + FILES["src/lib/one.py"])
    assert keys(book)["01-one"] != before


def test_data_that_no_code_names_counts_for_all(book):
    before = keys(book)
    (book / "experiments/results/unnamed.json").write_text("[3]\n")
    after = keys(book)
    assert all(before[name] != after[name] for name in EVERY)


def test_pages_show_the_outputs_of_today(book):
    code, said, executed = build(book)
    assert code == 0, said
    assert executed == EVERY
    assert "base two" in page(book, "notebooks/07-two")
    assert "three" in page(book, "book/code")
    assert "WARNING" not in said
    assert "Executing" not in said  # by Sphinx

    code, said, executed = build(book)
    assert (code, executed) == (0, set())
    assert "Nothing changed" in said

    (book / "src/lib/two.py").write_text(FILES["src/lib/two.py"].replace(" two", " TWO"))
    notebook = book / "notebooks" / "01-one.ipynb"
    notebook.write_text(notebook.read_text().replace("# A chapter", "# Another title"))
    code, said, executed = build(book)
    assert (code, executed) == (0, {"07-two"}), said
    assert "base TWO" in page(book, "notebooks/07-two")
    assert "base two" not in page(book, "notebooks/07-two")
    assert "Another title" in page(book, "notebooks/01-one")
    assert "base one" in page(book, "notebooks/01-one")

    (book / "src/lib/two.py").write_text("raise ValueError('the planted failure')\n")
    code, said, executed = build(book)
    assert code != 0
    assert "notebooks/07-two.ipynb, code cell 1, 'import lib'" in said
    assert "the planted failure" in said
    assert not (book / "_build" / "html").exists()

    (book / "src/lib/two.py").write_text(FILES["src/lib/two.py"])
    with (book / "book/page.md").open("a") as text:
        text.write("\n[nowhere](nowhere.md)\n")
    code, said, executed = build(book)
    assert code != 0
    assert "nowhere" in said
    assert executed <= EVERY
    assert not (book / "_build" / "html").exists()


def test_a_failure_names_notebook_cell_and_error_and_keeps_nothing(book):
    path = book / "notebooks" / "01-one.ipynb"
    cells = [new_code_cell("1 + 1"), new_code_cell("2\n1 / 0"), new_code_cell("3")]
    nbformat.write(new_notebook(cells=cells), path)
    with pytest.raises(Failure, match=r"(?s)notebooks/01-one\.ipynb, code cell 2, '2':.*ZeroDivisionError"):
        Execution(book).run([path])
    assert not Execution(book).kept(path).exists()


def test_a_notebook_runs_with_one_thread_and_in_an_empty_folder(book):
    path = book / "notebooks" / "01-one.ipynb"
    cell = "import os\nprint(os.environ['OMP_NUM_THREADS'], os.listdir())"
    nbformat.write(new_notebook(cells=[new_code_cell(cell)]), path)
    Execution(book).run([path])
    assert code_cells(Execution(book).current(path))[0].outputs[0].text == "1 []\n"


def test_the_longest_comes_first(book, monkeypatch):
    executions = Execution(book)
    for number, path in enumerate(executions.notebooks()[:3]):
        executed = nbformat.read(path, as_version=4)
        executed.metadata["execution"] = {"key": "old", "seconds": float(number)}
        executions.kept(path).parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(executed, executions.kept(path))
    order = []
    monkeypatch.setattr(executions, "execute", lambda path: order.append(path.stem))
    monkeypatch.setattr("execution.AT_ONCE", 1)
    executions.run(executions.notebooks())
    assert order == ["10-recorded", "08-claims", "07-two", "01-one"]  # what never ran may be the longest


def printed(*outputs: str, tagged: bool = True, count: int | None = 1):
    cell = new_code_cell("x", execution_count=count, metadata={"tags": ["nbval-check-output"] * tagged})
    cell.outputs = [new_output("stream", name="stdout", text=text) for text in outputs]
    return new_notebook(cells=[cell])


def test_a_changed_digit_and_a_cell_that_did_not_run_are_found():
    assert not differences(printed("0.125\n"), printed("0.1", "25\n"))  # where a stream is cut is chance
    assert differences(printed("0.125\n"), printed("0.126\n")) != []
    assert differences(printed("0.125\n"), printed()) != []
    assert not differences(printed("0.125\n", tagged=False), printed("0.126\n"))
    assert differences(printed("a", tagged=False), printed("a", count=None)) == ["code cell 1 was not executed"]


def test_only_text_is_stored():
    data = {"text/plain": "text", "text/html": "<b>text</b>"}
    outputs = [
        new_output("stream", name="stderr", text="a warning"),
        new_output("display_data", data=data, metadata={"a": 1}),
        new_output("display_data", data={"image/png": "00"}),
    ]
    assert [json.loads(json.dumps(kept)) for kept in text_only(outputs)] == [
        {"output_type": "display_data", "data": {"text/plain": "text"}, "metadata": {}}
    ]
