"""The Makefile's targets, and what is said of them, exist."""

from __future__ import annotations

import re
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
MAKEFILE = (PROJECT / "Makefile").read_text(encoding="utf-8")
RULES = set(re.findall(r"^([a-z][a-z-]*):", MAKEFILE, re.MULTILINE))


def test_every_phony_target_has_a_rule() -> None:
    phony = re.search(r"^\.PHONY:((?:.*\\\n)*.*)", MAKEFILE, re.MULTILINE)
    assert phony
    assert set(phony[1].replace("\\", " ").split()) == RULES


def test_documents_name_targets_that_exist() -> None:
    pages = [path for pattern in ("*.md", "docs/**/*.md", "experiments/**/*.md") for path in PROJECT.glob(pattern)]
    named = {(m, p.name) for p in pages for m in re.findall(r"(?:`|^)make ([a-z-]+)", p.read_text(), re.MULTILINE)}
    assert len(named) > 10
    assert not [(target, page) for target, page in named if target not in RULES]
