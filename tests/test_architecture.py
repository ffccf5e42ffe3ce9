"""The layers of seqlab: each module imports only what its row allows, nothing imports in a circle, files stay small.

The imports are read from the source by ast, those inside functions too. A module or package that is missing from the
table fails the test: decide where it belongs, and add its row.
"""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "seqlab"
LINES = 350

# From the bottom up. A row may name only modules of the rows before it.
LAYERS: dict[str, set[str]] = {
    "_torch": set(),
    "_tokens": set(),
    "_tree": set(),
    "checks": set(),
    "cells": {"checks"},
    "attention": {"_torch", "checks"},
    "initialization": set(),
    "tasks": set(),
    "metrics": set(),
    "backprop": {"_torch", "cells", "checks"},
    "recurrent": {"_torch", "backprop", "cells", "checks"},
    "tbptt": {"_tree", "checks"},
    "gradients": {"_torch", "checks", "recurrent"},
    "seq2seq": {"_tokens", "_tree", "attention", "checks", "recurrent"},
    "transformer": {"_tokens", "attention", "checks"},
    "convolution": {"checks"},
    "memory": {"cells", "checks"},
    "training": {"_torch", "_tree", "checks", "gradients"},
    "experiments": {"attention", "metrics", "seq2seq", "tasks", "training", "transformer"},
    "plotting": set(),
    "interactive": {"plotting"},
    "book": set(),
}


def files(source: Path) -> list[Path]:
    return sorted(source.rglob("*.py"))


def unit(path: Path, source: Path) -> str:
    """The module or package, directly below seqlab, that a file belongs to; empty for seqlab/__init__.py."""
    first = path.relative_to(source).parts[0]
    return "" if first == "__init__.py" else first.removesuffix(".py")


def imported_units(path: Path, source: Path) -> set[str]:
    """The modules and packages of seqlab that a file imports, other than its own; "seqlab" for the root itself."""
    package = ["seqlab", *path.relative_to(source).parent.parts]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = [*base, *(node.module.split(".") if node.module else [])]
            names = [".".join([*module, alias.name]) for alias in node.names]
        else:
            continue
        for name in names:
            root, _, rest = name.partition(".")
            if root == "seqlab":
                first = rest.partition(".")[0]
                known = (source / f"{first}.py").exists() or (source / first / "__init__.py").exists()
                found.add(first if first and known else "seqlab")
    return found - {unit(path, source)}


def problems(source: Path, layers: dict[str, set[str]], lines: int = LINES) -> list[str]:
    """Everything in a source tree that breaks the rules, in words."""
    found, graph = [], {}
    for path in files(source):
        name, here = unit(path, source), path.relative_to(source)
        if len(path.read_text(encoding="utf-8").splitlines()) > lines:
            found.append(f"{here} has more than {lines} lines; split it by topic")
        if not name:  # seqlab/__init__.py gathers the public names of all
            continue
        if name not in layers:
            found.append(f"{here}: {name!r} is missing from the table of layers")
            continue
        imports = imported_units(path, source)
        graph.setdefault(name, set()).update(imports)
        found += [f"{here} imports {other}, which its row does not allow" for other in sorted(imports - layers[name])]
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found.append(f"imports in a circle: {' -> '.join(error.args[1])}")
    return found


def test_the_library_keeps_its_layers():
    assert problems(SOURCE, LAYERS) == []


def test_the_table_itself_goes_from_the_bottom_up():
    below: set[str] = set()
    for name, allowed in LAYERS.items():
        assert allowed <= below, f"{name} may import {allowed - below}, which comes later"
        below.add(name)


# The test's own test: planted faults are found.


@pytest.fixture
def tree(tmp_path):
    def write(**modules):
        (tmp_path / "__init__.py").write_text("from .low import a\nfrom .high import b\n")
        for name, text in modules.items():
            path = tmp_path / f"{name.replace('__', '/', 1)}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        return problems(tmp_path, {"low": set(), "high": {"low"}, "pack": {"low"}}, lines=3)

    return write


def test_allowed_imports_pass(tree):
    fine = {"low": "import math\n", "high": "from .low import a\nfrom seqlab.low import b\nimport seqlab.low as low\n"}
    package = {"pack____init__": "from .inner import a\n", "pack__inner": "from ..low import a\nfrom . import other\n"}
    assert tree(**fine, **package, pack__other="") == []


@pytest.mark.parametrize(
    "upward",
    [
        "from .high import b",
        "from . import high",
        "import seqlab.high",
        "from seqlab import high",
        "from seqlab.high import b",
        "def f():\n    from .high import b",
    ],
)
def test_an_upward_import_is_found(tree, upward):
    found = tree(low=upward, high="")
    assert found == ["low.py imports high, which its row does not allow"]


def test_an_import_of_the_root_is_found(tree):
    assert tree(low="from seqlab import a", high="") == ["low.py imports seqlab, which its row does not allow"]
    assert tree(low="import seqlab", high="") == ["low.py imports seqlab, which its row does not allow"]


def test_an_upward_import_from_inside_a_package_is_found(tree):
    found = tree(low="", high="", pack____init__="", pack__inner="from ..high import b")
    assert found == ["pack/inner.py imports high, which its row does not allow"]


def test_a_circle_is_found(tree):
    found = tree(low="from .high import b", high="from .low import a")
    assert any(line.startswith("imports in a circle: ") for line in found)


def test_a_long_module_is_found(tree):
    assert tree(low="\n" * 4, high="") == ["low.py has more than 3 lines; split it by topic"]


def test_a_module_without_a_row_is_found(tree):
    assert tree(low="", high="", stray="") == ["stray.py: 'stray' is missing from the table of layers"]
