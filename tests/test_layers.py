"""Imports run downwards: a module imports only what stands above it in this list (design section 9)."""

from __future__ import annotations

import ast
from pathlib import Path

import regicomp

LAYERS = (
    "information",
    "optima",
    "bd_rate",
    "known_sources",
    "files",
    "phases",
    "ranks",
    "locking",
    "interrupts",
    "seal",
    "targets",
    "combinations",
    "config",
    "rules",
    "strategy",
    "trust",
    "likelihood",
    "rangecoder",
    "backbone",
    "source",
    "collective",
    "points",
    "objective",
    "regularizer",
    "precision",
    "noise",
    "rounded",
    "data",
    "bitstream",
    "picture",
    "transforms",
    "export",
    "coder",
    "evaluation",
    "parallel",
    "anchors",
    "record",
    "runs",
    "rd",
    "lossless",
    "summary",
    "measuring",
    "guard",
    "alarms",
    "checkpointing",
    "loggers",
    "dashboard",
    "profiling",
    "module",
    "plan",
    "sweep",
    "fetch",
    "shards",
    "check_data",
    "game",
    "train",
    "worker",
    "evaluate",
    "isolation",
    "codec",
    "identities",
    "report",
)
PACKAGE = Path(regicomp.__file__).parent


def _layer(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "regicomp":
            parts = node.module.split(".")[1:]
            found |= {parts[0]} if parts else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("regicomp.")}
    return found


def test_imports_run_downwards() -> None:
    modules = [path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py"]
    assert len(modules) > 15
    for path in modules:
        layer = _layer(path)
        assert layer in LAYERS, f"{path.name}: give `{layer}` its place in the list"
        for imported in _imported(path) - {layer}:
            assert LAYERS.index(imported) < LAYERS.index(layer), f"{path}: {layer} imports {imported}, below it"
