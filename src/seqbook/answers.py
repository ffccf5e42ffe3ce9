"""The answers of the exercises, as digests: ``answers.toml`` lets a check say *right* and gives no answer away.

A number is compared as the number of steps that it holds, a word without case, space and marks; what is stored is a
digest of that, salted with the exercise's id. What no digest can decide, such as a function, is put to an oracle: the
function of `seqbook.oracles.chapterNN` that bears the exercise's id, with underscores.

`tools/answer.py` prints what ``answers.toml`` holds of an answer.
"""

from __future__ import annotations

import difflib
import functools
import hashlib
import importlib
import json
import math
import re
import tomllib
import unicodedata
from importlib import resources
from typing import Any

KINDS = {"number", "numbers", "word", "oracle"}
FIELDS = {"chapter", "kind", "digest", "step", "hint", "note"}


@functools.cache
def answers() -> dict[str, dict[str, Any]]:
    """Return ``answers.toml``: exercise → chapter, kind, hint, note, and digest and step where it has them.

    Raises:
        ValueError: an entry misses a field, has an unknown one, or is of an unknown kind.

    >>> answers()["half-of-eight"]["kind"]
    'number'
    """
    entries = tomllib.loads((resources.files(__package__) / "answers.toml").read_text(encoding="utf-8"))
    for id, entry in entries.items():
        checked_entry(id, entry)
    return entries


def checked_entry(id: str, entry: dict[str, Any]) -> None:
    """Raise if an entry of ``answers.toml`` cannot be judged by.

    >>> checked_entry("sum", {"chapter": 1, "kind": "word", "digest": [digest("sum", "bag")], "hint": "", "note": ""})
    """
    kind = entry.get("kind")
    if not re.fullmatch(r"[a-z][a-z0-9-]*", id):
        raise ValueError(f"answers.toml: expected an id of a-z, 0-9 and hyphens, got {id!r}; rename the exercise")
    if kind not in KINDS:
        raise ValueError(f"answers.toml: expected the kind of [{id}] to be one of {sorted(KINDS)}, got {kind!r}")
    wanted = FIELDS - ({"digest", "step"} if kind == "oracle" else {"step"} if kind == "word" else set())
    if set(entry) != wanted:
        raise ValueError(
            f"answers.toml: expected [{id}] of kind {kind!r} to have {', '.join(sorted(wanted))}, "
            f"got {', '.join(sorted(entry))}; add what is missing and remove the rest"
        )


def digest(id: str, answer: float | str, step: float | None = None) -> str:
    """Return the digest of a word, or of a number rounded to a multiple of ``step``.

    >>> digest("sum", "A bag!") == digest("sum", "a  bag")
    True
    >>> digest("sum", 0.3001, step=0.01) == digest("sum", 0.3, step=0.01) != digest("product", 0.3, step=0.01)
    True
    """
    text = normal(answer) if step is None else str(round(float(answer) / step))
    return hashlib.sha256(f"{id}: {text}".encode()).hexdigest()[:16]


def normal(word: Any) -> str:
    """Return a word without case, marks and double spaces.

    >>> normal(" The  BAG-of-words. ")
    'the bag of words'
    """
    text = unicodedata.normalize("NFKC", str(word)).casefold()
    return " ".join(re.findall(r"[\w<>=+*/]+", text))


def exercise(id: str) -> dict[str, Any]:
    """Return the entry of an exercise.

    Raises:
        ValueError: there is no such exercise.

    >>> exercise("half-of-eight")["step"]
    0.01
    """
    if id not in answers():
        near = difflib.get_close_matches(id, answers(), n=3, cutoff=0.4) or sorted(answers())
        raise ValueError(
            f"check: expected an exercise of answers.toml, got {id!r}; did you mean {', '.join(near)}? "
            "A new one is added there first"
        )
    return answers()[id]


def judge(id: str, answer: Any) -> tuple[bool, str]:
    """Return whether an answer is right, and the hint or, where it is right, the note.

    A number is right within one step of the answer, as is each of several numbers; of a list of words, one.

    Raises:
        ValueError: there is no such exercise.

    >>> judge("half-of-eight", "four")
    (False, 'expected a number, got str')
    """
    entry = exercise(id)
    if entry["kind"] == "oracle":
        hint = _ask_oracle(id, entry, answer)
    elif entry["kind"] == "word":
        hint = None if digest(id, answer) in entry["digest"] else entry["hint"]
    else:
        hint = _judge_numbers(id, entry, answer)
    return (True, entry["note"]) if hint is None else (False, hint)


def _judge_numbers(id: str, entry: dict[str, Any], answer: Any) -> str | None:
    """Return what is off, or None."""
    wanted = entry["digest"] if entry["kind"] == "numbers" else [entry["digest"]]
    given = answer.tolist() if hasattr(answer, "tolist") else answer
    given = list(given) if isinstance(given, (list, tuple)) else [given]
    try:
        numbers = [float(value) for value in given if not isinstance(value, (str, bool))]
    except (TypeError, ValueError):
        numbers = []
    if not numbers or len(numbers) < len(given):
        what = "a number" if entry["kind"] == "number" else f"{len(wanted)} numbers"
        return f"expected {what}, got {type(answer).__name__}"
    if len(numbers) != len(wanted):
        return f"expected {len(wanted)} number{'s' * (len(wanted) != 1)}, got {len(numbers)}"
    wrong = [k for k, (n, key) in enumerate(zip(numbers, wanted, strict=True)) if not _near(id, n, key, entry["step"])]
    if not wrong:
        return None
    if len(wanted) == 1:
        return str(entry["hint"])
    return f"{', '.join(f'number {k + 1}' for k in wrong)} of {len(wanted)}: {entry['hint']}"


def _near(id: str, number: float, key: str, step: float) -> bool:
    """Say whether a number lies within one step of the one whose digest this is."""
    if not math.isfinite(number):
        return False
    steps = {math.floor(number / step), round(number / step), math.ceil(number / step)}
    return any(digest(id, n * step, step) == key for n in steps)


def _ask_oracle(id: str, entry: dict[str, Any], answer: Any) -> str | None:
    """Return the oracle's hint, or None where it finds nothing wrong; what it raises is told."""
    module = importlib.import_module(f"{__package__}.oracles.chapter{entry['chapter']:02}")
    oracle = getattr(module, id.replace("-", "_"))
    try:
        hint = oracle(answer)
    except Exception as error:  # whatever the reader's answer makes of the oracle
        return f"{entry['hint']} (checking it raised {type(error).__name__}: {error})"
    return None if hint is None else str(hint)


def lines(id: str, given: list[str], step: float | None) -> str:
    """Return the lines of ``answers.toml`` that hold these answers.

    >>> print(lines("half-of-eight", ["4"], 0.01))
    digest = "54a12a120ce79a9e"
    step = 0.01
    """
    keys = [digest(id, one if step is None else float(one), step) for one in given]
    single = step is not None and len(keys) == 1
    return f"digest = {json.dumps(keys[0] if single else keys)}" + ("" if step is None else f"\nstep = {step:g}")
