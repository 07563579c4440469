"""The Makefile's targets, and what is said of them, exist."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
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


def test_a_set_up_that_failed_says_what_it_needs_and_is_tried_again(tmp_path: Path) -> None:
    shutil.copy(PROJECT / "Makefile", tmp_path)
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).touch()
    # "-m venv .venv" makes another of itself; "pip install --editable" fails until there is room.
    python = tmp_path / "python"
    python.write_text(
        "#!/bin/sh\n"
        'case "$*" in\n'
        '  *venv*) mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;\n'
        '  *--editable*) test -e room || { echo "No space left on device" >&2; exit 1; } ;;\n'
        "esac\n"
    )
    python.chmod(0o755)
    setup = ["make", "setup", f"PYTHON={python}"]
    # Without what was said to the make that runs the tests.
    environment = {name: value for name, value in os.environ.items() if name != "MAKEFLAGS"}
    full = subprocess.run(setup, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert full.returncode != 0
    assert re.search(r"Installing takes about \d+ GB: here are \S+ free, in \S+ \S+\.", full.stderr)
    (tmp_path / "room").touch()
    assert subprocess.run(setup, cwd=tmp_path, env=environment, capture_output=True, check=False).returncode == 0
