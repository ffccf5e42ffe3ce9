"""Which modules of a source folder a piece of code reaches by its imports, read without running anything.

`from seqlab import LSTM` reaches the module that defines `LSTM`, through every re-export, and not what else the package
offers: a change there cannot change a result here. What cannot be told from the text counts as reached.
"""

from __future__ import annotations

import ast
import hashlib
import itertools
from collections.abc import Collection, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

ALL = "*"  # every name of a module
NOTHING = ""  # the module is imported, and no name of it is used yet
DYNAMIC = {"import_module", "__import__"}

Use = tuple[str, str]  # a module, and a name that is taken from it


def digests(script: Path, roots: Sequence[Path], apart: Collection[str] = ()) -> dict[str, str]:
    """Module → digest: of the script, and of every module under the roots that it reaches, those set apart left out."""
    code = script.read_text(encoding="utf-8")
    reached = Sources(*roots, apart=apart).digests(code)
    return dict(sorted({f"{script.parent.name}/{script.name}": digest(ast.parse(code)), **reached}.items()))


def digest(tree: ast.AST) -> str:
    """Sixteen hexadecimal digits of what a syntax tree means."""
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


def gathers(node: ast.stmt) -> bool:
    """Whether a statement of a package only imports, or sets a name like __all__."""
    names = [ast.unparse(target) for target in node.targets] if isinstance(node, ast.Assign) else []
    return isinstance(node, ast.Import | ast.ImportFrom) or any(name.startswith("__") for name in names)


def defined(tree: ast.Module) -> set[str]:
    """The names that a module's statements bind by definition or assignment."""
    stored = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return stored | {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}


def executed(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a tree, functions' bodies included, without what only a type checker reads."""
    yield node
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
        children: Iterator[ast.AST] = iter(node.orelse)
    else:
        children = ast.iter_child_nodes(node)
    for child in children:
        yield from executed(child)


class Sources:
    """The modules under some folders, as they stand when this object is made."""

    def __init__(self, *folders: Path, apart: Collection[str] = ()) -> None:
        """Find the modules; those set apart count as if they lay elsewhere."""
        self.files: dict[str, Path] = {}
        for folder in folders:
            for path in sorted(folder.rglob("*.py")):
                parts = path.relative_to(folder).with_suffix("").parts
                name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
                if name not in apart:
                    self.files[name] = path
        self.tree = cache(lambda module: ast.parse(self.files[module].read_text(encoding="utf-8")))
        self.uses_of = cache(lambda module: self.uses(self.tree(module), module))
        self.exports_of = cache(self.exports)  # of packages

    def digests(self, code: str) -> dict[str, str]:
        """Module → digest, for the modules that code reaches; of a package what it does itself, if anything."""
        own = {module: self.own(module) for module in self.reached(code)}
        return {module: digest(tree) for module, tree in own.items() if tree.body}

    def own(self, module: str) -> ast.Module:
        """The module's tree; of a package without its imports and names like __all__, which only lead elsewhere."""
        tree = self.tree(module)
        if not self.is_package(module):
            return tree
        return ast.Module([node for node in tree.body if not (is_text(node) or gathers(node))], [])

    def reached(self, code: str) -> list[str]:
        """The modules that code imports, those that they import, and so on."""
        modules: set[str] = set()
        seen: set[Use] = set()
        waiting = list(self.uses(ast.parse(code)))
        while waiting:
            use = waiting.pop()
            if use not in seen and use[0] in self.files:
                seen.add(use)
                modules.add(use[0])
                waiting += self.behind(*use)
        return sorted(modules)

    def behind(self, module: str, name: str) -> Iterator[Use]:
        """Yield what taking a name from a module leads to."""
        if "." in module:
            yield module.rpartition(".")[0], NOTHING  # a package runs before its modules
        if not self.is_package(module):
            yield from self.uses_of(module)
            return
        exports, own = self.exports_of(module), self.own(module)
        named = {node.id for node in ast.walk(own) if isinstance(node, ast.Name)}
        yield from self.uses(own, module)
        yield from (use for bound, use in exports.items() if bound in named | {name})
        if name not in exports and f"{module}.{name}" in self.files:
            yield f"{module}.{name}", NOTHING
        elif name not in {NOTHING, *exports, *defined(self.tree(module))}:
            yield from self.uses_of(module)

    def exports(self, module: str) -> dict[str, Use]:
        """The names that a package passes on, with where they come from."""
        found: dict[str, Use] = {}
        for node in self.tree(module).body:
            if not isinstance(node, ast.ImportFrom):
                continue
            base = self.base(node, module)
            for alias in node.names:
                inside = base == module and f"{base}.{alias.name}" in self.files
                if alias.name != ALL:
                    use = (f"{base}.{alias.name}", NOTHING) if inside else (base, alias.name)
                    found[alias.asname or alias.name] = use
        return found

    def base(self, node: ast.ImportFrom, module: str) -> str:
        """The module that a from-import names, counted from the module where it stands."""
        if not node.level:
            return node.module or ""
        parts = module.split(".")
        up = node.level - self.is_package(module)
        return ".".join([*parts[: len(parts) - up], *filter(None, [node.module])])

    def is_package(self, module: str) -> bool:
        """Whether this is a package under the folder."""
        return module in self.files and self.files[module].name == "__init__.py"

    def uses(self, tree: ast.AST, module: str = "") -> set[Use]:
        """What code takes from which modules, itself standing in a module of the folder or in none."""
        found: set[Use] = set()
        packages: dict[str, str] = {}  # local names that stand for packages under the folder
        nodes = list(executed(tree))
        for node in nodes:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    found.add((alias.name, NOTHING))
                    whole = alias.name if alias.asname else alias.name.partition(".")[0]
                    packages[alias.asname or whole] = whole
            elif isinstance(node, ast.ImportFrom):
                base = self.base(node, module)
                for alias in node.names:
                    found.add((base, alias.name))
                    if self.is_submodule(base, alias.name):
                        packages[alias.asname or alias.name] = f"{base}.{alias.name}"
            elif isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in DYNAMIC:
                found |= self.dynamic(node, module)
        packages = {name: package for name, package in packages.items() if self.is_package(package)}
        inner: set[int] = set()
        for node in nodes:  # an attribute comes before the parts that it is made of
            if isinstance(node, (ast.Attribute, ast.Name)) and id(node) not in inner:
                names: list[str] = []
                part: ast.AST = node
                while isinstance(part, ast.Attribute):
                    names.insert(0, part.attr)
                    part = part.value
                    inner.add(id(part))
                if isinstance(part, ast.Name) and part.id in packages:
                    found.add(self.taken(packages[part.id], names))
        return found

    def is_submodule(self, base: str, name: str) -> bool:
        """Whether a name taken from a package is a module of it, and not a function of the same name."""
        itself = (f"{base}.{name}", NOTHING)
        return itself[0] in self.files and self.exports_of(base).get(name, itself) == itself

    def taken(self, package: str, names: list[str]) -> Use:
        """What `package.a.b` takes: modules are passed through, the first other name counts."""
        for name in names:
            if not self.is_submodule(package, name):
                return package, name
            package = f"{package}.{name}"
        return package, ALL

    def dynamic(self, call: ast.Call, module: str) -> set[Use]:
        """What a call of import_module takes: all of a module that is named there, or of any at all."""
        name = call.args[0].value if call.args and isinstance(call.args[0], ast.Constant) else None
        if not isinstance(name, str):
            return {(each, ALL) for each in self.files}
        if name.startswith("."):
            level = len(name) - len(name.lstrip("."))
            name = self.base(ast.ImportFrom(name.lstrip(".") or None, [], level), module)
        return {(name, ALL)}
