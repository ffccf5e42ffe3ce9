"""The ledger page: made from executed notebooks, never behind them, and a warning wherever they disagree."""

from __future__ import annotations

import json
import re
import sys
from html import escape
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from sphinx.cmd.build import main as sphinx_build

ROOT = Path(__file__).resolve().parent.parent
CLAIM = '[{id}]\nstatement = "{statement}"\ntold = "A < B"\nurl = "https://example.org/?a&b"\nchapter = "{chapter}"\n'
CLAIM += 'verdict = "{verdict}"\n'
CELL = """\
import sys
sys.path.insert(0, {src!r})
import tomllib
from pathlib import Path
from seqbook import claim, claims
claims.registry = lambda: tomllib.loads(Path({registry!r}).read_text())
"""

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::PendingDeprecationWarning", "ignore::ResourceWarning"
)


class Book:
    """A book of two chapters and a ledger in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.notebooks = folder / "notebooks"
        self.notebooks.mkdir()
        (folder / "conf.py").write_text(
            f"import sys\nsys.path.insert(0, {str(ROOT / 'ext')!r})\n"
            "project = 'book'\nextensions = ['myst_nb', 'ledger']\nexclude_patterns = ['_build']\n"
            "ledger_registry = 'claims.toml'\nnb_execution_mode = 'force'\nnb_execution_raise_on_error = True\n"
            "html_theme = 'basic'\nlinkcheck_ignore = ['.*']\n"
        )
        (folder / "index.md").write_text(
            "# Ledger\n\n```{claims-ledger}\n```\n\n```{toctree}\n:glob:\nnotebooks/*\n```\n"
        )
        self.register(first=("One & two.", "01-one", "holds"), second=("It <fails>.", "01-one", "fails"))
        self.write("01-one", 'claim("first", holds=True, measured="0.9 to 100", seeds=3)\n' + SECOND)

    def register(self, **entries: tuple[str, str, str]) -> None:
        text = [CLAIM.format(id=k, statement=s, chapter=c, verdict=v) for k, (s, c, v) in entries.items()]
        (self.folder / "claims.toml").write_text("\n".join(text))

    def write(self, name: str, source: str) -> None:
        head = CELL.format(src=str(ROOT / "src"), registry=str(self.folder / "claims.toml"))
        notebook = new_notebook(cells=[new_markdown_cell(f"# Chapter {name}"), new_code_cell(head + source)])
        self.save(name, notebook)

    def store(self, name: str, *claims: dict) -> None:
        """Write a notebook whose outputs are stored, for a build that executes nothing."""
        notebook = new_notebook(cells=[new_markdown_cell(f"# Chapter {name}"), new_code_cell("...")])
        html = "".join(f'<div class="claim" data-claim="{escape(json.dumps(claim))}"></div>' for claim in claims)
        output = nbformat.v4.new_output("display_data", data={"text/html": html, "text/plain": "claim"})
        notebook.cells[1].update(outputs=[output], execution_count=1)
        self.save(name, notebook)

    def save(self, name: str, notebook: nbformat.NotebookNode) -> None:
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        notebook.metadata["language_info"] = {"name": "python", "pygments_lexer": "ipython3"}
        nbformat.write(notebook, self.notebooks / f"{name}.ipynb")

    def build(self, *options: str) -> int:
        """Build strictly in this process and return the exit code."""
        return sphinx_build(["-q", "-W", "--keep-going", *options, str(self.folder), str(self.folder / "_build/html")])

    @property
    def ledger(self) -> str:
        return (self.folder / "_build/html/index.html").read_text()


SECOND = 'claim("second", holds=False, measured="ratio 1e-20")'
OFF = ["-D", "nb_execution_mode=off"]


@pytest.fixture
def book(tmp_path):
    yield Book(tmp_path)
    sys.modules.pop("ledger", None)


def stored(id: str, statement: str, verdict: str, **others) -> dict:
    return {
        "id": id,
        "statement": statement,
        "verdict": verdict,
        "measured": "1",
        "seeds": None,
        "caveat": None,
    } | others


def test_the_page_follows_the_cells_and_a_wrong_verdict_stops_the_build(book, capfd):
    assert book.build() == 0
    page = book.ledger
    assert "2 claims (holds: 1, holds with a caveat: 0, fails: 1, not shown here: 0)" in page
    assert 'href="notebooks/01-one.html#claim-first">0.9 to 100</a>' in page
    assert "One &amp; two." in page
    assert "It &lt;fails&gt;." in page
    assert 'href="https://example.org/?a&amp;b">A &lt; B</a>' in page
    assert re.search(r'id="claim-first"', (book.folder / "_build/html/notebooks/01-one.html").read_text())

    book.write("01-one", 'claim("first", holds=True, measured="0.8 to 100", seeds=5)\n' + SECOND)
    assert book.build() == 0
    assert "0.8 to 100" in book.ledger
    assert "0.9 to 100" not in book.ledger

    # the registry alone changes: the chapter runs again, its verdict is now the wrong one, and the build stops
    book.register(first=("One & two.", "01-one", "fails"), second=("It <fails>.", "01-one", "fails"))
    assert book.build("-T") != 0
    said = capfd.readouterr().err
    assert "01-one.ipynb" in said
    assert "claim 'first': expected the registered verdict 'fails', got 'holds'" in said


@pytest.mark.parametrize(
    ("claims", "message"),
    [
        ([("first", "S.", "holds")], "claim 'second' is registered, but no executed cell printed it"),
        (
            [("first", "S.", "fails"), ("second", "T.", "fails")],
            "claim 'first' was printed here with verdict 'fails', registered is 'holds'; run the notebook again",
        ),
        (
            [("first", "Old.", "holds"), ("second", "T.", "fails")],
            "claim 'first' was printed here with statement 'Old.', registered is 'S.'; run the notebook again",
        ),
        (
            [("first", "S.", "holds"), ("second", "T.", "fails"), ("first", "S.", "holds")],
            "claim 'first' was printed here, and by another cell too; keep one",
        ),
        (
            [("first", "S.", "holds"), ("second", "T.", "fails"), ("third", "U.", "holds")],
            "claim 'third' was printed here, but is not registered",
        ),
        (
            [("first", "S.", "holds"), ("second", "T.", "fails"), ("other", "V.", "holds")],
            "claim 'other' was printed here, but is registered for chapter '02-two'; correct one",
        ),
    ],
    ids=["missing", "verdict", "statement", "twice", "unregistered", "elsewhere"],
)
def test_a_disagreement_fails_a_strict_build(book, capfd, claims, message):
    book.register(first=("S.", "01-one", "holds"), second=("T.", "01-one", "fails"), other=("V.", "02-two", "holds"))
    book.store("01-one", *[stored(*claim) for claim in claims])
    assert book.build(*OFF) == 1
    said = capfd.readouterr().err
    assert message in said
    assert "01-one.ipynb" in said
    assert said.count("WARNING") == 1


def test_chapters_are_read_in_parallel_listed_in_order_and_leave_with_their_notebook(book):
    book.register(
        second=("T.", "02-two", "holds with a caveat"), first=("S.", "01-one", "holds"), later=("U.", "03-x", "holds")
    )
    caveat = stored("second", "T.", "holds with a caveat", caveat="Only <here>", seeds=1)
    book.store("01-one", stored("first", "S.", "holds"))
    book.store("02-two", caveat)
    for n in range(3, 8):  # Sphinx reads in parallel from six pages on
        book.store(f"{n:02}-plain")
    assert book.build(*OFF, "-j", "2") == 0
    assert book.ledger.index("Chapter 01-one</a></h2>") < book.ledger.index("Chapter 02-two</a></h2>")
    assert "2 claims (holds: 1, holds with a caveat: 1, fails: 0, not shown here: 0)" in book.ledger
    assert "1 claim (" in book.ledger
    assert "Only &lt;here&gt;." in book.ledger
    assert "U." not in book.ledger

    (book.notebooks / "02-two.ipynb").unlink()
    assert book.build(*OFF) == 0
    assert "1 claim (holds: 1, holds with a caveat: 0, fails: 0, not shown here: 0)" in book.ledger
    assert "02-two" not in book.ledger


def test_linkcheck_is_given_where_each_claim_is_told(book):
    book.store("01-one")
    assert sphinx_build(["-q", *OFF, "-b", "linkcheck", str(book.folder), str(book.folder / "links")]) == 0
    asked = (json.loads(line) for line in (book.folder / "links" / "output.json").read_text().splitlines())
    assert "https://example.org/?a&b" in [link["uri"] for link in asked]
