"""What every chapter and solution must look like as a file, and that it still prints what is stored in it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import nbformat
import pytest
from execution import Execution, differences

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SOLUTIONS = sorted((ROOT / "notebooks" / "solutions").glob("*.ipynb"))
CLAIMS = tomllib.loads((ROOT / "src" / "seqbook" / "claims.toml").read_text())
RAW_IN_COLAB = {
    "a backtick directive or role": r"\{[a-z:-]+\}`|```\{",
    "a colon fence": r"^:::",
    "a target": r"^\([\w-]+\)=",
    "a labelled equation": r"\$\$ *\([\w:-]+\)",
}

chapters = pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
notebooks = pytest.mark.parametrize("path", [*CHAPTERS, *SOLUTIONS], ids=lambda p: f"{p.parent.name}/{p.stem}")


def cells(path: Path, kind: str) -> list[nbformat.NotebookNode]:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == kind and cell.source.strip()]


def sources(path: Path, kind: str) -> str:
    return "\n".join(cell.source for cell in cells(path, kind))


@notebooks
def test_code_cells_are_short_and_were_all_run(path):
    for cell in cells(path, "code"):
        lines = cell.source.strip().split("\n")
        assert len(lines) <= 25, f"{len(lines)} lines in the cell that begins {lines[0]!r}"
        assert cell.execution_count is not None, f"never run: {lines[0]!r}"


@notebooks
def test_the_execution_of_today_prints_what_is_stored(path):
    """The build has executed every cell, with this code and these data; its outputs are compared here."""
    executed = Execution(ROOT).current(path)
    assert executed, "not executed as it is now: run `make book`"
    assert not differences(nbformat.read(path, as_version=4), executed), "if this is meant, run `make notebooks`"


@notebooks
def test_only_text_is_stored(path):
    for cell in cells(path, "code"):
        for output in cell.outputs:
            assert output.output_type == "stream" or set(output.data) <= {"text/plain"}, cell.source


@notebooks
def test_text_reads_the_same_in_colab(path):
    text = sources(path, "markdown")
    for what, pattern in RAW_IN_COLAB.items():
        assert not re.search(pattern, text, re.MULTILINE), f"{what}: {re.search(pattern, text, re.MULTILINE)[0]!r}"


@notebooks
def test_no_warning_is_silenced(path):
    assert not re.search(r"filterwarnings|simplefilter|catch_warnings", sources(path, "code"))


@chapters
def test_the_chapter_has_all_its_parts(path):
    text, code = sources(path, "markdown"), sources(path, "code")
    for heading in ["What this does not show", "Conventions differ", "Check yourself", "Takeaways", "Sources"]:
        assert re.search(rf"^#+ .*{heading}", text, re.MULTILINE), f"no heading {heading!r}"
    for part in ["explore(", "claim(", "quiz(", "cards(", "check(", "choose_device(", "assert_close("]:
        assert part in code, f"no {part}...) in the chapter"
    assert 1500 <= len(text.split()) <= 3200


@chapters
def test_the_chapter_has_a_solution_notebook_and_links_to_it(path):
    assert (path.parent / "solutions" / path.name).exists()
    assert f"solutions/{path.stem}" in sources(path, "markdown")


@chapters
def test_claims_in_the_chapter_are_those_of_the_registry(path):
    used = set(re.findall(r'claim\(\s*"([\w-]+)"', sources(path, "code")))
    registered = {name for name, entry in CLAIMS.items() if entry["chapter"] == path.stem}
    assert used == registered


def test_every_claim_belongs_to_a_chapter_that_exists():
    assert {entry["chapter"] for entry in CLAIMS.values()} <= {path.stem for path in CHAPTERS}


@notebooks
def test_code_in_view_fits_its_column(path):
    for cell in cells(path, "code"):
        if "remove-input" not in cell.metadata.get("tags", []):
            wide = [line for line in cell.source.split("\n") if len(line) > 88]
            assert not wide, "88 characters can be read without scrolling"
