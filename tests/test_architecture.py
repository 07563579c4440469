"""The names in the documentation exist, and docs/architecture.md draws the rooms as they are."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
from test_layers import LEVELS

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("docs/architecture.md", "docs/theory.md")
_NAMED = re.compile(r"\[`([\w.]+)`\]\(\.\./(regicomp/[\w/]+)\.py\)")


@pytest.mark.parametrize("page", PAGES)
def test_every_function_that_a_page_names_exists(page: str) -> None:
    named = _NAMED.findall((ROOT / page).read_text(encoding="utf-8"))
    assert len(named) > 5
    for name, path in named:
        module = importlib.import_module(path.removesuffix("/__init__").replace("/", "."))
        first, *rest = name.split(".")
        assert module.__name__.split(".")[-1] == first, f"{name} is linked to {path}.py"
        found = module
        for part in rest:
            assert hasattr(found, part), f"{page}: {name} is not in {path}.py"
            found = getattr(found, part)
        assert getattr(found, "__module__", module.__name__) == module.__name__, f"{name} is imported by {path}.py"


def test_the_rooms_are_drawn_as_they_are() -> None:
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    rows = text.split("|---|---|\n")[1].split("\n\n")[0].splitlines()
    drawn = [set(re.findall(r"`(\w+)/?`", row.split(" | ")[0])) for row in rows]
    assert drawn == [set(level) for level in LEVELS]


def test_files_that_pages_name_exist() -> None:
    pages = [
        ROOT / "README.md",
        ROOT / "SECURITY.md",
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "experiments").rglob("*.md"),
    ]
    named = {(m, p.name) for p in pages for m in re.findall(r"\b((?:regicomp|tests|conf)/[\w/]+\.\w+)", p.read_text())}
    assert len(named) > 10
    assert not [(path, page) for path, page in named if not (ROOT / path).exists()]


def test_links_between_pages_lead_somewhere() -> None:
    pages = [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "experiments").rglob("*.md"),
        *ROOT.glob("bench/*.md"),
    ]
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages
        for target in re.findall(r"\]\((?!https?:)([^)#\s]+)", page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]
    assert len(pages) > 20
    assert not broken, "\n".join(broken)
