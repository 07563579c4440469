"""Rules for the language of docstrings, comments and messages that a search can enforce."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHON = [path for folder in ("regicomp", "bench", "experiments", "tests") for path in (ROOT / folder).rglob("*.py")]
PAGES = [
    *ROOT.glob("*.md"),
    *(path for part in ("docs", "bench", "experiments") for path in (ROOT / part).rglob("*.md")),
]
SETTINGS = list((ROOT / "conf").rglob("*.yaml"))

# Documents that are not in the repository, and words for which the field has better ones (CONTRIBUTING.md).
_AVOIDED = re.compile(r"design section|whole numbers?\b|\ba text\b|lists? of texts|ways? of pressing|\bpush and pull\b")


def test_docstrings_name_the_thing() -> None:
    """`What …` is a question; a docstring begins with the answer."""
    begin_otherwise = []
    for path in PYTHON:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                text = ast.get_docstring(node) or ""
                if text.startswith("What "):
                    begin_otherwise.append(f"{path.relative_to(ROOT)}: {text.splitlines()[0]}")
    assert not begin_otherwise, "\n".join(begin_otherwise)


def test_the_field_s_words_are_used() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in [*PYTHON, *PAGES, *SETTINGS]
        if path != Path(__file__)
        for match in _AVOIDED.finditer(path.read_text(encoding="utf-8"))
    ]
    assert not found, "\n".join(found)
