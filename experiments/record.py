"""Record an experiment that is too long for a chapter: resumable, with progress, and honest about its age.

An experiment is a script beside this file that calls :func:`record`. Its results go to ``results/<name>.json``, with
the versions, device and date that made them and a digest of every module that the script reaches
(``tools/closure.py``).
Where one of them changes, the recording is stale: a test says so, and ``python experiments/<name>.py`` records anew.
Where the change was not meant to change a number, ``python experiments/<name>.py --confirm`` runs a small sample again
instead, compares it with what is recorded, and notes the new digests if it agrees.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from seqbook.studies import environment

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "tools"))
from closure import digest, digests  # noqa: E402

KEYS = ("experiment", "about", "settings", "code", "made with", "seconds", "results")

Pairs = Iterable[tuple[float, float]]  # what is recorded and what was found now
Sample = Mapping[str, tuple[float, Callable[[dict[str, Any]], Pairs]]]


def record(name: str, parts: Mapping[str, Callable[[], Any]], *, about: str, settings: Any, sample: Sample) -> Path:
    """What a script does when it is called: record what is not recorded yet, or with ``--confirm`` confirm it.

    Args:
        name: of the script without .py, and of the JSON file.
        parts: label → function that returns what JSON can hold. Stop the script and call it again: finished parts are
            kept while code and settings stay the same. :func:`so_far` has the results of those before.
        about: what was measured, in a sentence.
        settings: everything that was chosen: sizes, learning rates, seeds, thresholds.
        sample: what ``--confirm`` runs again: label → (the largest difference that counts as agreement, function of the
            recorded results that yields pairs of a recorded number and the same one as computed now). Each kind of
            model must be in it, and the script says why the differences are as large as they may be.

    Returns:
        The path of the file.

    Raises:
        ValueError: the file that is there is no recording of this experiment; it is left as it is.
        SystemExit: the sample disagrees; nothing is written.
    """
    parser = argparse.ArgumentParser(prog=f"{name}.py", description=about)
    parser.add_argument("--confirm", action="store_true", help="run a sample again: does the recording hold?")
    settings = json.loads(json.dumps(settings))
    if parser.parse_args().confirm:
        return confirm(name, settings, sample)
    return measure(name, parts, about, settings)


def measure(name: str, parts: Mapping[str, Callable[[], Any]], about: str, settings: Any) -> Path:
    """Run every part that is not recorded yet. An older recording stays until the new one is whole."""
    path, unfinished, code = file_of(name), file_of(name).with_suffix(".unfinished"), code_of(name)
    for file in (path, unfinished):
        old = read(file) if file.exists() else None
        if old and old["settings"] == settings and not changes(old, code):
            results, seconds = old["results"], old["seconds"]
            break
    else:
        results, seconds = {}, 0.0
    for number, (part, run) in enumerate(parts.items(), start=1):
        if part in results:
            print(f"{name} {number}/{len(parts)} {part}: recorded", flush=True)
            continue
        start = time.perf_counter()
        results[part] = run()
        seconds += time.perf_counter() - start
        print(f"{name} {number}/{len(parts)} {part}: {time.perf_counter() - start:.0f} s", flush=True)
        values = (name, about, settings, code, environment(), round(seconds, 1), results)
        write(unfinished, dict(zip(KEYS, values, strict=True)))
        if len(results) == len(parts):
            os.replace(unfinished, path)
    return path


def confirm(name: str, settings: Any, sample: Sample) -> Path:
    """Run the sample; if it agrees with the recording, add the present digests to it, or else say what differs."""
    path, code, again = file_of(name), code_of(name), f"record it again: python experiments/{name}.py"
    if not path.exists():
        raise SystemExit(f"{name}: expected a recording to confirm, got none; {again}")
    data = read(path)
    if data["settings"] != settings:
        raise SystemExit(f"{name}: expected the settings of the recording, got others; {again}")
    if not changes(data, code):
        print(f"{name}: recorded or confirmed with the present code, nothing to do")
        return path
    rows, failed, begin = {}, [], time.perf_counter()
    for row, (within, pairs) in sample.items():
        start = time.perf_counter()
        found = [abs(now - then) for then, now in pairs(data["results"])]
        rows[row] = {"largest difference": round(max(found), 6), "within": within}
        agrees = all(difference <= within for difference in found)  # NaN does not
        line = f"{row}: largest difference {max(found):.4g}, {'within' if agrees else 'more than'} {within:g}"
        print(f"{name} {line}, {time.perf_counter() - start:.0f} s", flush=True)
        if not agrees:
            failed.append(line)
    if failed:
        which = "\n".join(failed)
        raise SystemExit(f"{name}: does not agree with its recording, which is left as it is; {again}\n{which}")
    facts = {"made with": environment(), "seconds": round(time.perf_counter() - begin, 1), "sample": rows, "code": code}
    head = {key: value for key, value in data.items() if key not in ("results", "confirmed")}
    write(path, {**head, "confirmed": facts, "results": data["results"]})
    return path


def stale(path: Path) -> list[str]:
    """What changed since the file was recorded or last confirmed: "seqlab.cells changed"."""
    return changes(read(path), code_of(path.stem))


def changes(data: dict[str, Any], code: dict[str, str]) -> list[str]:
    """How this code differs from that of a recording."""
    then = data.get("confirmed", data)["code"]
    how = {module: "changed" if module in then else "is new" for module in code}
    differ = sorted(module for module in {*then, *code} if then.get(module) != code.get(module))
    return [f"{module} {how.get(module, 'is gone')}" for module in differ]


def code_of(name: str) -> dict[str, str]:
    """The digests of all that a script reaches. Of this file only :func:`measure` can decide a number."""
    code = digests(HERE / f"{name}.py", (HERE.parent / "src", HERE), apart=("record",))
    return {**code, "experiments/record.py:measure": digest(ast.parse(inspect.getsource(measure)))}


def so_far(name: str) -> dict[str, Any]:
    """The results of the parts that are finished, while :func:`measure` runs."""
    return read(file_of(name).with_suffix(".unfinished"))["results"]


def file_of(name: str) -> Path:
    """Where a recording is."""
    return HERE / "results" / f"{name}.json"


def read(path: Path) -> dict[str, Any]:
    """A recording, or a ValueError that says what is wrong with the file."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        wrong = None if isinstance(data, dict) else "another kind of JSON"
    except ValueError as error:
        data, wrong = {}, f"no JSON ({error})"
    if not wrong and (missing := [key for key in KEYS if key not in data]):
        wrong = f"one without {', '.join(missing)}"
    if not wrong and data["experiment"] != path.stem:
        wrong = f"one of {data['experiment']}"
    if wrong:
        raise ValueError(
            f"record: expected a recording of {path.stem} in {path}, got {wrong}; restore the file from version "
            "control, or move it away to record anew"
        )
    return data


def write(path: Path, data: dict[str, Any]) -> None:
    """The file is whole, old or new, whenever this is stopped."""
    part = path.with_suffix(".tmp")
    part.write_text(layout(data) + "\n", encoding="utf-8")
    os.replace(part, path)


def layout(value: Any, indent: str = "") -> str:
    """JSON with one short list or object on one line: small, and a diff shows which run changed."""
    line = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict) or len(indent + line) <= 118:
        return line
    inner = indent + " "
    items = (f"{inner}{json.dumps(key, ensure_ascii=False)}: {layout(part, inner)}" for key, part in value.items())
    return "{\n" + ",\n".join(items) + f"\n{indent}}}"
