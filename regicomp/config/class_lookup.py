"""Classes named by `_target_`, looked up in their sources: a misspelt one is refused without importing torch.

`hydra.utils.get_class` would import the class's module, and `importlib.util.find_spec` the packages around it; either
takes the seconds that torch takes to load (`compressai` imports it). So sources are found and parsed instead.
"""

from __future__ import annotations

import ast
import importlib.machinery
import sys
from pathlib import Path
from typing import Any, NamedTuple


class ClassSpec(NamedTuple):
    """How to build a network: class and keyword arguments."""

    target: str  # module.Class
    arguments: dict[str, Any]


class Class(NamedTuple):
    """A class's constructor, as read from its source."""

    arguments: frozenset[str] | None  # keyword arguments; None if it takes any


def _module_file(name: str) -> Path | None:
    """Source file of a module, found as an import would find it, without running anything."""
    search: list[str] | None = None
    spec = None
    for part in name.split("."):
        spec = importlib.machinery.PathFinder.find_spec(part, search)
        if spec is None:
            return None
        search = list(spec.submodule_search_locations or [])
    origin = spec.origin if spec is not None else None
    return Path(origin) if origin is not None and origin.endswith(".py") else None


def _package(name: str, file: Path) -> str:
    return name if file.name == "__init__.py" else name.rpartition(".")[0]


def _absolute(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    base = package.split(".")[: len(package.split(".")) - node.level + 1]
    return ".".join([*base, *([node.module] if node.module else [])])


def _arguments(node: ast.ClassDef) -> frozenset[str] | None:
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            if item.args.kwarg is not None or item.args.vararg is not None:
                return None
            return frozenset(a.arg for a in [*item.args.args[1:], *item.args.kwonlyargs])
    return None  # inherited, from a class that may stand elsewhere


def find(target: str, depth: int = 3) -> Class | None:
    """The class `module.Class`, or None if its module or the name in it does not exist.

    Where a source does not show it (names made at run time, compiled modules), the class is taken to exist.
    """
    module, _, name = target.rpartition(".")
    if depth < 0:
        return Class(None)
    file = _module_file(module) if module else None
    if file is None:  # or made at run time
        return Class(None) if hasattr(sys.modules.get(module), name) else None
    tree = ast.parse(file.read_text(encoding="utf-8"))
    package = _package(module, file)
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return Class(_arguments(node))
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return find(f"{_absolute(node, package)}.{alias.name}", depth - 1) or Class(None)
                if alias.name == "*" and depth and (found := find(f"{_absolute(node, package)}.{name}", depth - 1)):
                    return found
        if isinstance(node, ast.FunctionDef) and node.name in (name, "__getattr__"):
            return Class(None)
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets):
            return Class(None)
    return None
