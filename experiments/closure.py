"""The code behind a script: digests of every module that its imports reach, so that a change of meaning is seen.

Read from the text, without importing anything. What counts of a module is its syntax tree without docstrings, comments
and formatting. A package's ``__init__`` that only gathers names is seen through: ``from seqlab import LSTM`` leads to
the module that defines LSTM, and to what that imports, not to the rest of the library.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import itertools
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

Import = tuple[str, str | None]  # a module, and the name taken out of it; None: all that it has


def digests(script: Path, roots: Sequence[Path], apart: Collection[str] = ()) -> dict[str, str]:
    """Module → digest, for the script and for every module under the roots that it reaches.

    Args:
        script: its imports count wherever they stand, in functions too; not those for a type checker alone.
        roots: folders in which top-level modules and packages lie. What lies elsewhere is not followed.
        apart: modules that are not followed either.

    Raises:
        ImportError: a package has no such name.

    Reached are the modules that are imported, those that they import, and each package's ``__init__`` on the way. Of
    an ``__init__`` only what it does itself counts; of its imports those that lead to a wanted name, or that it uses.
    """
    tree = ast.parse(script.read_text(encoding="utf-8"))
    found = {f"{script.parent.name}/{script.name}": digest(tree)}
    todo, seen = list(_imports(tree, "")), set[Import]()
    whole = set[str]()
    while todo:
        wanted = todo.pop()
        module = wanted[0]
        file = _file(module, roots)
        if wanted in seen or module in whole or file is None or module in apart:
            continue
        seen.add(wanted)
        above = module.rpartition(".")[0]
        if above:
            todo.append((above, ""))  # its __init__ is executed first; no name of it is wanted
        tree = _parse(file.read_text(encoding="utf-8"))
        if file.name != "__init__.py":
            found[module] = digest(tree)
            whole.add(module)
            todo += _imports(tree, above)
            continue
        own = ast.Module([node for node in tree.body if not _gathers(node)], [])
        if any(not is_text(node) for node in own.body):
            found[module] = digest(own)
        todo += _of_package(wanted, tree, own, roots)
    return dict(sorted(found.items()))


def _of_package(wanted: Import, tree: ast.Module, own: ast.Module, roots: Sequence[Path]) -> list[Import]:
    """Where a package's ``__init__`` leads somebody who wants this name, or all, or with "" nothing of it."""
    module, name = wanted
    if name is None:
        return list(_imports(tree, module))
    uses = {node.id for node in ast.walk(own) if isinstance(node, ast.Name)}
    gathered = {bound: source for node in tree.body if _gathers(node) for bound, source in _bound(node, module)}
    leads = [*_imports(own, module), *(gathered[use] for use in uses if use in gathered)]
    if not name:
        return leads
    if gathered.get(name, wanted) != wanted:  # "from . import name" is the module of that name
        return [*leads, gathered[name]]
    if _file(f"{module}.{name}", roots):
        return [*leads, (f"{module}.{name}", None)]
    if name in _defined(own):
        return leads
    if everything := [source for bound, source in gathered.items() if bound.startswith("*")]:
        return [*leads, *everything]
    raise ImportError(f"closure: expected {module} to define or import {name}, or to have a module of that name")


@functools.cache
def _parse(text: str) -> ast.Module:
    """The tree of a module, which several scripts read."""
    return ast.parse(text)


def _file(module: str, roots: Sequence[Path]) -> Path | None:
    """The file of a module under one of the roots."""
    for root in roots:
        path = root.joinpath(*module.split("."))
        for file in (path / "__init__.py", path.with_name(path.name + ".py")):
            if file.is_file():
                return file
    return None


def _imports(tree: ast.AST, package: str) -> Iterator[Import]:
    """Every import in the tree that is executed, in functions too; relative ones resolved against the package."""
    todo: list[ast.AST] = [tree]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            for _, source in _bound(node, package):
                yield source
        elif isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            todo += node.orelse
        else:
            todo += ast.iter_child_nodes(node)


def _bound(node: ast.AST, package: str) -> Iterator[tuple[str, Import]]:
    """The names that an import statement binds, and where each comes from."""
    if isinstance(node, ast.ImportFrom):
        base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
        module = ".".join([*base, *([node.module] if node.module else [])])
        for alias in node.names:
            star = alias.name == "*"
            yield (f"*{module}" if star else alias.asname or alias.name), (module, None if star else alias.name)
    elif isinstance(node, ast.Import):
        for alias in node.names:
            top = alias.name.partition(".")[0]
            yield alias.asname or top, (alias.name, None)
            if not alias.asname:  # "import a.b" binds a, through which all of a can be had
                yield top, (top, None)


def _gathers(node: ast.stmt) -> bool:
    """Whether a statement of an ``__init__`` only imports, or sets a name like ``__all__``."""
    names = [ast.unparse(target) for target in node.targets] if isinstance(node, ast.Assign) else []
    return isinstance(node, ast.Import | ast.ImportFrom) or any(name.startswith("__") for name in names)


def _defined(own: ast.Module) -> set[str]:
    """The names that these statements bind by definition or assignment."""
    nodes = list(ast.walk(own))
    stored = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return stored | {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}


def digest(tree: ast.AST) -> str:
    """Sixteen hexadecimal digits of a syntax tree's meaning."""
    return hashlib.sha256(repr(meaning(tree)).encode()).hexdigest()[:16]


def meaning(node: Any) -> Any:
    """A syntax tree as tuples, without strings that stand alone and empty fields, which differ between Pythons."""
    if isinstance(node, list):
        return [meaning(part) for part in node if not is_text(part)]
    if isinstance(node, ast.JoinedStr):  # some Pythons leave the text of an f-string in more pieces than others
        pieces = itertools.groupby(map(meaning, node.values), key=lambda piece: piece[0] == "Constant")
        texts = ["".join(piece[1][1] for piece in some) if text else list(some) for text, some in pieces]
        return ("JoinedStr", *filter(None, texts))
    if isinstance(node, ast.AST):
        fields = [(name, meaning(value)) for name, value in ast.iter_fields(node) if value is not None and value != []]
        return (type(node).__name__, *fields)
    return node


def is_text(node: Any) -> bool:
    """Whether this is a docstring, or another string that stands alone."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
