"""Record an experiment that is too long for a chapter: resumable, with progress, and honest about its age.

An experiment is a script beside this file that calls :func:`record`. Its results go to ``results/<name>.json``, with
the versions, device and date that made them and a digest of the code that they depend on; the tests compare the
digests with the code of today and say which recording is out of date.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import inspect
import json
import os
import textwrap
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from seqbook.studies import environment

HERE = Path(__file__).parent


def record(
    name: str, parts: Mapping[str, Callable[[dict], Any]], *, about: str, settings: Any, depends: tuple[str, ...]
) -> Path:
    """Run every part that is not recorded yet, and write the file anew after each.

    Args:
        name: of the script without .py, and of the JSON file.
        parts: label → function of the results so far (label → result) that returns what JSON can hold. Stop the script
            and call it again: finished parts are kept while code and settings stay the same.
        about: what was measured, in a sentence.
        settings: everything that was chosen: sizes, learning rates, seeds, thresholds.
        depends: the code that decides the numbers, besides the script: "seqlab.cells:lstm_step".

    Returns:
        The path of the file.
    """
    path = HERE / "results" / f"{name}.json"
    code = {what: digest(what) for what in (f"experiments/{name}.py", *depends)}
    settings = json.loads(json.dumps(settings))
    old = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    same = old.get("code") == code and old.get("settings") == settings
    results, seconds = (old["results"], old["seconds"]) if same else ({}, 0.0)
    for number, (part, run) in enumerate(parts.items(), start=1):
        if part in results:
            print(f"{name} {number}/{len(parts)} {part}: recorded", flush=True)
            continue
        start = time.perf_counter()
        results[part] = run(results)
        seconds += time.perf_counter() - start
        print(f"{name} {number}/{len(parts)} {part}: {time.perf_counter() - start:.0f} s", flush=True)
        head = {"experiment": name, "about": about, "complete": len(results) == len(parts), "settings": settings}
        facts = {"code": code, "made with": environment(), "seconds": round(seconds, 1), "results": results}
        unfinished = path.with_suffix(".tmp")  # renamed when whole, so that a stop never leaves half a file
        unfinished.write_text(layout({**head, **facts}) + "\n", encoding="utf-8")
        os.replace(unfinished, path)
    return path


def stale(path: Path) -> list[str]:
    """The code whose meaning has changed since the file was recorded.

    Comments, docstrings, annotations' layout and blank lines don't count, nor does code that the file does not name.
    """
    recorded = json.loads(path.read_text(encoding="utf-8"))["code"]
    return [what for what, then in recorded.items() if digest(what) != then]


def digest(what: str) -> str:
    """Sixteen hexadecimal digits of the meaning of "experiments/script.py" or "package.module:function"."""
    if what.endswith(".py"):
        source = (HERE.parent / what).read_text(encoding="utf-8")
    else:
        module, _, function = what.partition(":")
        source = textwrap.dedent(inspect.getsource(getattr(importlib.import_module(module), function)))
    return hashlib.sha256(repr(meaning(ast.parse(source))).encode()).hexdigest()[:16]


def meaning(node: Any) -> Any:
    """A syntax tree as tuples, without strings that stand alone and empty fields, which differ between Pythons."""
    if isinstance(node, list):
        return [meaning(part) for part in node if not is_text(part)]
    if isinstance(node, ast.AST):
        fields = [(name, meaning(value)) for name, value in ast.iter_fields(node) if value is not None and value != []]
        return (type(node).__name__, *fields)
    return node


def is_text(node: Any) -> bool:
    """Whether this is a docstring, or another string that stands alone."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def layout(value: Any, indent: str = "") -> str:
    """JSON with one short list or object on one line: small, and a diff shows which run changed."""
    line = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict) or len(indent + line) <= 118:
        return line
    inner = indent + " "
    items = (f"{inner}{json.dumps(key, ensure_ascii=False)}: {layout(part, inner)}" for key, part in value.items())
    return "{\n" + ",\n".join(items) + f"\n{indent}}}"
