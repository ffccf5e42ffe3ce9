"""Checks by digest and by oracle: right is told from wrong, and nothing that a reader sees holds the answer."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch

import seqbook.answers
from seqbook import check
from seqbook.answers import answers, checked_entry, digest, judge

ROOT = Path(__file__).resolve().parents[1]
TOLD = {"chapter": 0, "hint": "think", "note": "So it is."}


@pytest.fixture
def with_entry(monkeypatch):
    """Add an exercise to those of the book."""

    def add(id, **entry):
        checked_entry(id, TOLD | entry)
        monkeypatch.setattr(seqbook.answers, "answers", lambda: {**answers(), id: TOLD | entry})

    return add


@pytest.mark.parametrize("answer", [0.523, 0.5228, 0.5224, 0.52351, torch.tensor(0.5228), np.float32(0.5228), [0.5228]])
def test_a_number_is_right_within_one_step(with_entry, capsys, answer):
    with_entry("share", kind="number", digest=digest("share", 0.5228, 0.001), step=0.001)
    assert check("share", answer) is True
    assert capsys.readouterr().out == "Right. So it is.\n"


@pytest.mark.parametrize("answer", [0.5241, 0.5219, -0.5228, float("nan"), float("inf")])
def test_a_wrong_number_gets_the_hint(with_entry, capsys, answer):
    with_entry("share", kind="number", digest=digest("share", 0.5228, 0.001), step=0.001)
    assert check("share", answer) is False
    assert capsys.readouterr().out == "Not yet: think\n"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((21, 10752), None),
        (torch.tensor([21, 10752]), None),
        ((22, 10752), "number 1 of 2: think"),
        ((22, 1), "number 1, number 2 of 2: think"),
        ((21, 10752, 1), "expected 2 numbers, got 3"),
        (("21", "10752"), "expected 2 numbers, got tuple"),
        ({"a": 1}, "expected 2 numbers, got dict"),
    ],
)
def test_several_numbers_are_judged_one_by_one(with_entry, answer, said):
    keys = [digest("pair", n, 0.5) for n in (21, 10752)]
    with_entry("pair", kind="numbers", digest=keys, step=0.5)
    assert judge("pair", answer) == ((True, "So it is.") if said is None else (False, said))


@pytest.mark.parametrize(
    ("answer", "right"), [(" Bag-of  words.", True), ("a window", True), ("window", False), (3, False)]
)
def test_a_word_is_compared_without_case_and_marks(with_entry, answer, right):
    with_entry("reader", kind="word", digest=[digest("reader", "bag of words"), digest("reader", "a window")])
    assert judge("reader", answer)[0] is right


def test_true_and_false_are_words(with_entry):
    with_entry("holds", kind="word", digest=[digest("holds", "True")])
    assert judge("holds", True)[0]
    assert not judge("holds", False)[0]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda x: x**0.5, None),
        (lambda x: x / 2, "for 9 it returns 4.5, whose square is 20.25"),
        (3, "square what your function returns. (checking it raised TypeError: 'int' object is not callable)"),
    ],
)
def test_a_function_is_put_to_its_oracle(answer, said):
    passed, told = judge("any-square-root", answer)
    assert passed is (said is None)
    assert said in (None, told)


@pytest.mark.parametrize("answer", [None, ...])
def test_an_exercise_without_an_answer_raises_nothing(capsys, answer):
    assert check("any-square-root", answer) is None
    assert capsys.readouterr().out == "No answer yet: put yours in and run the cell again.\n"


def test_an_unknown_exercise_is_named_before_anybody_answers():
    with pytest.raises(ValueError, match="got 'half-of-ate'; did you mean half-of-eight"):
        check("half-of-ate", ...)


def test_an_answer_that_is_text_may_still_be_tested_in_the_cell(capsys):
    assert check("bag", (lambda a: a == "bag", "no")) is True
    capsys.readouterr()


@pytest.mark.parametrize(
    ("id", "entry", "message"),
    [
        ("Two words", {"kind": "oracle"}, "expected an id of a-z, 0-9 and hyphens, got 'Two words'"),
        ("x", {"kind": "guess"}, r"expected the kind of \[x\] to be one of .*, got 'guess'"),
        (
            "x",
            {"kind": "number", "digest": ""},
            r"expected \[x\] of kind 'number' to have .*step.*; add what",
        ),
        ("x", {"kind": "oracle", "step": 1}, r"expected \[x\] of kind 'oracle' to have chapter, hint, kind, note, got"),
    ],
)
def test_an_entry_that_cannot_be_judged_by_is_refused(id, entry, message):
    with pytest.raises(ValueError, match=message):
        checked_entry(id, TOLD | entry)


def test_every_exercise_has_its_oracle():
    """What its check would reach only when a reader answers."""
    for id, entry in answers().items():
        if entry["kind"] == "oracle":
            judge(id, object())


def test_the_tool_prints_what_the_file_holds():
    command = [sys.executable, str(ROOT / "tools" / "answer.py")]
    made = subprocess.run(
        [*command, "half-of-eight", "4", "--step", "0.01"], capture_output=True, text=True, check=True
    )
    assert made.stderr == ""
    assert made.stdout in (ROOT / "src" / "seqbook" / "answers.toml").read_text().replace("kind", "\nkind")
    words = subprocess.run([*command, "x", "one", "two"], capture_output=True, text=True, check=True)
    assert words.stdout == f"digest = {json.dumps([digest('x', 'one'), digest('x', 'two')])}\n"


def calls(path, name):
    """The first arguments of every call of a function in a notebook's cells."""
    found = []
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            lines = [line for line in cell.source.splitlines() if not line.lstrip().startswith(("%", "!"))]
            for node in ast.walk(ast.parse("\n".join(lines))):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name:
                    found.append(node.args[0])
    return found


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").rglob("*.ipynb")), ids=lambda path: path.stem)
def test_check_cells_name_an_exercise_of_their_chapter(path):
    """Those of the second edition, whose setup cell calls chapter(...), name nothing else: no answer in the clear."""
    asked = [first.value for first in calls(path, "check") if isinstance(first, ast.Constant)]
    assert [id for id in asked if answers()[id]["chapter"] != int(path.name[:2])] == []
    if calls(path, "chapter"):
        assert len(asked) == len(calls(path, "check"))
        assert calls(path, "close_to") == []


def test_every_exercise_is_asked():
    paths = (ROOT / "notebooks").glob("*.ipynb")
    asked = {first.value for path in paths for first in calls(path, "check") if isinstance(first, ast.Constant)}
    assert {id for id, entry in answers().items() if entry["chapter"]} <= asked
