"""Recorded experiments: whole, made by the code of today, and made by a recorder that can be trusted."""

from __future__ import annotations

import ast
import importlib.util
import json
import shutil
import sys
from pathlib import Path

import closure
import pytest
import torch
from torch import nn

from seqbook import provenance

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "experiments"
RECORDINGS = sorted((FOLDER / "results").glob("*.json"))
recordings = pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)


def load(name: str):
    """Import a script of experiments/, which is no package."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


sys.path.insert(0, str(FOLDER))  # as for a script that is run
record = load("record")


@recordings
def test_a_recording_is_whole_and_says_how_it_was_made(path):
    data = record.read(path)
    assert {"seqlab", "torch", "numpy", "python", "device", "date"} <= set(data["made with"])
    assert (FOLDER / f"{path.stem}.py").exists()


@recordings
def test_a_recording_is_recorded_or_confirmed_with_the_code_of_today(path):
    changed = record.stale(path)
    assert not changed, (
        f"{path.name}: {', '.join(changed)}. If no number was meant to change: python experiments/{path.stem}.py "
        f"--confirm; else python experiments/{path.stem}.py, which took {record.read(path)['seconds'] / 60:.0f} minutes"
    )


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of experiments with one script and a library of three modules, in which record() works."""
    (tmp_path / "experiments" / "results").mkdir(parents=True)
    library = tmp_path / "src" / "library"
    library.mkdir(parents=True)
    (library / "__init__.py").write_text(
        '"""Gathers."""\n__version__ = "1"\nfrom .cell import Cell\nfrom .other import Other\n'
    )
    (library / "cell.py").write_text('"""A cell."""\nfrom .gate import gate\n\nclass Cell:\n    size = gate(4)\n')
    (library / "gate.py").write_text("def gate(x):\n    return x  # as it is\n")
    (library / "other.py").write_text("class Other: ...\n")
    (tmp_path / "experiments" / "toy.py").write_text('"""Doc."""\nfrom library import Cell\nx = 1  # why\n')
    monkeypatch.setattr(record, "HERE", tmp_path / "experiments")
    monkeypatch.setattr(sys, "argv", ["toy.py"])
    return tmp_path / "experiments"


def run(parts, sample=None, **settings):
    return record.record("toy", parts, about="a toy", settings=settings, sample=sample or {})


def test_a_stopped_recording_goes_on_where_it_was(folder):
    calls = []

    def part(name, stop=False):
        calls.append(name)
        if stop:
            raise KeyboardInterrupt
        return sorted(record.so_far("toy")) if name == "b" else []

    with pytest.raises(KeyboardInterrupt):
        run({"a": lambda: part("a"), "b": lambda: part("b", stop=True)})
    assert not (folder / "results" / "toy.json").exists()
    path = run({"a": lambda: part("a"), "b": lambda: part("b")})
    assert calls == ["a", "b", "b"]
    assert record.read(path)["results"] == {"a": [], "b": ["a"]}
    assert [file.name for file in path.parent.iterdir()] == ["toy.json"]
    run({"a": lambda: part("a"), "b": lambda: part("b")})
    assert len(calls) == 3


@pytest.mark.parametrize("change", ["settings", "script", "library"])
def test_another_setting_or_code_begins_anew_and_keeps_the_old_recording_until_it_is_whole(folder, change):
    path = run({"a": lambda: 1, "b": lambda: 1}, width=4)
    old = path.read_text()
    if change == "script":
        (folder / "toy.py").write_text("x = 2\n")
    if change == "library":
        (folder.parent / "src/library/gate.py").write_text("def gate(x):\n    return -x\n")

    def stop():
        raise KeyboardInterrupt

    width = 5 if change == "settings" else 4
    with pytest.raises(KeyboardInterrupt):
        run({"a": lambda: 2, "b": stop}, width=width)
    assert path.read_text() == old
    run({"a": lambda: 3, "b": lambda: 2}, width=width)
    assert record.read(path)["results"] == {"a": 2, "b": 2}


def test_a_stop_while_the_file_is_written_loses_nothing(folder, monkeypatch):
    path = run({"a": lambda: 1})
    old = path.read_text()

    def half(self, text, **_):
        with self.open("w") as file:
            file.write(text[: len(text) // 2])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_text", half)
    with pytest.raises(KeyboardInterrupt):
        run({"a": lambda: 2}, width=1)
    monkeypatch.undo()
    assert path.read_text() == old


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ('{"experiment": "toy", "res', r"no JSON \(Unterminated string"),
        ("[1, 2]", "another kind of JSON"),
        ('{"experiment": "toy"}', "one without about, settings, code, made with, seconds, results"),
        (json.dumps(dict.fromkeys(record.KEYS, "other")), "one of other"),
    ],
)
@pytest.mark.parametrize("suffix", [".json", ".unfinished"])
def test_a_damaged_or_foreign_file_is_named_and_left_alone(folder, text, wrong, suffix):
    path = folder / "results" / f"toy{suffix}"
    path.write_text(text)
    with pytest.raises(
        ValueError, match=rf"record: expected a recording of toy in .*, got {wrong}.*; restore the file"
    ):
        run({"a": lambda: 1})
    assert path.read_text() == text


def change(file: Path, old: str, new: str) -> None:
    """Put one text for another, which must be there."""
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")


MEANINGLESS = ('"""Another docstring."""\n', "\n\n# a comment\n", "('a string that stands alone')\n")


@pytest.mark.parametrize("what", ["experiments/toy.py", "library.cell", "library.gate"])
def test_only_a_change_of_meaning_makes_a_recording_stale(folder, what):
    path = run({"a": lambda: 1})
    assert record.stale(path) == []
    file = folder.parent / (what if what.endswith(".py") else f"src/{what.replace('.', '/')}.py")
    for nothing in MEANINGLESS:
        file.write_text(file.read_text() + nothing)
    assert record.stale(path) == []
    file.write_text(file.read_text() + "y = 1.5\n")
    assert record.stale(path) == [f"{what} changed"]


def test_a_module_that_only_the_package_gathers_makes_nothing_stale(folder):
    path = run({"a": lambda: 1})
    library = folder.parent / "src" / "library"
    (library / "other.py").write_text("class Other:\n    x = 1\n")
    change(library / "__init__.py", "from .other", "from .third import third\nfrom .other")
    (library / "third.py").write_text("third = 3\n")
    assert record.stale(path) == []
    change(library / "__init__.py", "from .third", "third_of_it = third\nfrom .third")  # now it does something itself
    assert record.stale(path) == ["library is new", "library.third is new"]


@pytest.mark.parametrize(
    ("script", "reached"),
    [
        ("import library", ""),
        ("import library\nx = library.Cell", "cell gate"),
        ("import library as l\nx = [l]", "cell gate other"),  # through which all of it can be had
        ("import library.gate", "gate"),
        ("import library\nx = library.__version__", ""),
        ("import library.gate as g", "gate"),
        ("from library import gate", "gate"),
        ("from library import *", "cell gate other"),
        ("from library.other import Other as O", "other"),
        ("def f():\n    from library import Cell", "cell gate"),
        ("try:\n    import library.other as o\nexcept ImportError:\n    o = None", "other"),
        ("if TYPE_CHECKING:\n    import library\nelse:\n    import library.gate as g", "gate"),
        ("import json, torch", ""),
    ],
)
def test_imports_are_followed_as_python_executes_them(folder, script, reached):
    (folder / "toy.py").write_text(script)
    found = closure.digests(folder / "toy.py", (folder.parent / "src",))
    assert sorted(found) == ["experiments/toy.py", *(f"library.{name}" for name in reached.split())]


def test_relative_imports_and_modules_beside_the_script_are_followed(folder):
    library = folder.parent / "src" / "library"
    (library / "inner").mkdir()
    (library / "inner" / "__init__.py").write_text("from ..gate import gate\nfrom . import deep\nK = 2\n")
    (library / "inner" / "deep.py").write_text("from .. import other as o\nfrom ..cell import Cell\n")
    (folder / "helper.py").write_text("from library.inner import K\n")
    (folder / "toy.py").write_text("import helper\nfrom library.inner import deep\n")
    found = closure.digests(folder / "toy.py", (folder.parent / "src", folder))
    inner = ["library.cell", "library.gate", "library.inner", "library.inner.deep", "library.other"]
    assert sorted(found) == ["experiments/toy.py", "helper", *inner]


def test_of_a_package_that_lacks_a_name_everything_counts(folder):
    (folder / "toy.py").write_text("from library import Nothing\n")
    found = closure.digests(folder / "toy.py", (folder.parent / "src",))
    assert sorted(found) == ["experiments/toy.py", "library.cell", "library.gate", "library.other"]


def test_digests_are_the_same_on_every_python():
    """A number written here, so that each Python that runs the tests compares itself with the one that wrote it."""
    tree = ast.parse("""
async def f(x: int = 1, /, *, y=2j, **z) -> None:
    "doc"
    match x:
        case {"a": [1, *_]} if y: return f"{x!r:>{y}} {y=}" "more"
        case _: return ..., b"x", x[1:2, ::3], lambda: (yield)
""")
    assert closure.digest(tree) == "3fdc0e5485994021"


REAL = [  # what is broken, and which recordings must say so
    (
        "seqlab/cells.py",
        "(1 - z) * n + z * h\n",
        "z * n + (1 - z) * h\n",
        "longest_lag number_words pronunciation score_scale truncation",
    ),
    (
        "seqlab/seq2seq/search.py",
        "log_probs.argmax(dim=1)",
        "log_probs.argmin(dim=1)",
        "number_words pronunciation score_scale",
    ),
    ("seqlab/attention/luong.py", "torch.exp(-2 *", "torch.exp(-3 *", "number_words pronunciation score_scale"),
    ("*/number_words.py", "HALF_WIDTH = 4", "HALF_WIDTH = 9", "number_words score_scale"),
    ("*/number_words.py", "LONGEST = 45", "LONGEST = 5", "number_words score_scale"),
    ("seqlab/initialization.py", "import annotations\n", "import annotations\nx = 1\n", "longest_lag"),
    ("seqlab/convolution.py", "import annotations\n", "import annotations\nx = 1\n", ""),
    ("seqlab/cells.py", "import annotations\n", "import annotations\n\n'a text'  # a comment\n\n\n", ""),
]


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of the library and the scripts, a function that reads the digests there, and what it reads at first."""
    root = tmp_path_factory.mktemp("tree")
    for name in ("src", "experiments"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "*.json"))

    def read():
        scripts = [root / f"experiments/{path.stem}.py" for path in RECORDINGS]
        return {s.stem: closure.digests(s, (root / "src", root / "experiments"), ("record",)) for s in scripts}

    return root, read, read()


@pytest.mark.parametrize(("module", "old", "new", "expected"), REAL, ids=lambda x: x.split()[0] if x else "none")
def test_what_breaks_the_library_makes_the_recordings_stale_that_use_it(tree, module, old, new, expected):
    """In the real library: cells, search, attention and constants, which no list typed by hand had."""
    root, read, before = tree
    file = next(file for file in (root / "src").rglob("*.py") if file.match(module) and old in file.read_text())
    whole = file.read_text(encoding="utf-8")
    change(file, old, new)
    after = read()
    file.write_text(whole, encoding="utf-8")
    changed = {name for name in before if before[name] != after[name]}
    assert changed == set(expected.split())


def confirmed(monkeypatch, found, within=1.0):
    """Call the script with --confirm; its sample finds this."""
    monkeypatch.setattr(sys, "argv", ["toy.py", "--confirm"])
    return run({}, sample={"row": (within, lambda results: [(results["a"], found)])})


def test_a_stale_recording_is_confirmed_and_keeps_its_provenance(folder, monkeypatch):
    path = run({"a": lambda: 10.0})
    old = record.read(path)
    change(folder.parent / "src/library/gate.py", "return x", "return +x")
    assert record.stale(path) == ["library.gate changed"]
    confirmed(monkeypatch, 10.5)
    new = record.read(path)
    facts = new.pop("confirmed")
    assert new == old
    assert facts["sample"] == {"row": {"largest difference": 0.5, "within": 1.0}}
    assert {"date", "torch", "processor"} <= set(facts["made with"])
    assert record.stale(path) == []
    assert "confirmed on" in provenance({**new, "confirmed": facts})
    monkeypatch.setattr(sys, "argv", ["toy.py"])
    assert run({"a": lambda: pytest.fail("recorded again")}) == path  # what is confirmed is current


@pytest.mark.parametrize("found", [11.5, float("nan"), float("inf")])
def test_a_sample_that_disagrees_writes_nothing_and_says_by_how_much(folder, monkeypatch, found):
    path = run({"a": lambda: 10.0})
    change(folder.parent / "src/library/gate.py", "return x", "return -x")
    old = path.read_text()
    with pytest.raises(
        SystemExit, match=r"(?s)toy: does not agree .*record it again.*row: largest difference \S+, more"
    ):
        confirmed(monkeypatch, found)
    assert path.read_text() == old


def test_other_settings_and_no_recording_cannot_be_confirmed(folder, monkeypatch):
    with pytest.raises(SystemExit, match="toy: expected a recording to confirm, got none; record it again"):
        confirmed(monkeypatch, 10.0)
    monkeypatch.setattr(sys, "argv", ["toy.py"])
    run({"a": lambda: 10.0}, width=3)
    with pytest.raises(SystemExit, match="toy: expected the settings of the recording, got others; record it again"):
        confirmed(monkeypatch, 10.0)


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_longest_lag_computes_what_the_layers_compute(kind):
    experiment = load("longest_lag")
    start = next(iter(experiment.STARTS[kind]))
    networks = [experiment.network(experiment.STARTS[kind][start], seed) for seed in (0, 1)]
    parameters, _ = torch.func.stack_module_state(networks)
    generators = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
    symbols, _ = experiment.batch(3, 7, generators)
    found = experiment.forward(kind, False, parameters, symbols)
    for k, network in enumerate(networks):
        output, _ = network["layer"](nn.functional.one_hot(symbols[:, k], 16).float())
        torch.testing.assert_close(found[k], network["answer"](output[-1]))


def test_longest_lag_trains_each_network_as_adam_does_alone(monkeypatch):
    """The stacked optimiser against torch.optim.Adam and clip_grad_norm_, on a network of its own."""
    experiment = load("longest_lag")
    monkeypatch.setattr(experiment, "UPDATES", 60)
    monkeypatch.setattr(experiment, "CHECK", 1)  # so that the number found is exact
    monkeypatch.setattr(experiment, "CLIP", 0.2)  # so that it is often reached
    settings = [("ReLU, identity", 3e-3, 0), ("ReLU, identity", 1e-2, 1)]
    together = experiment.train("RNN", 3, settings, relu=True)
    for (start, rate, seed), found in zip(settings, together, strict=True):
        network = experiment.network(experiment.STARTS["RNN"][start], seed)
        optimizer = torch.optim.Adam(network.parameters(), lr=rate)
        training = torch.Generator().manual_seed(1000 + seed)
        testing = torch.Generator().manual_seed(2000 + seed)
        solved = None
        for update in range(1, 61):
            x, y = experiment.delayed_recall(32, lag=3, generator=training)
            output, _ = network["layer"](nn.functional.one_hot(x, 16).float())
            optimizer.zero_grad()
            nn.functional.cross_entropy(network["answer"](output[-1]), y).backward()
            nn.utils.clip_grad_norm_(network.parameters(), 0.2)
            optimizer.step()
            if solved is None:
                x, y = experiment.delayed_recall(256, lag=3, generator=testing)
                output, _ = network["layer"](nn.functional.one_hot(x, 16).float())
                share = (network["answer"](output[-1]).argmax(-1) == y).double().mean()
                solved = update if share >= 0.95 else None
        assert found == solved
