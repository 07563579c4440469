"""README.md: its Python runs as it stands, its tree is the folder's, and it stays short."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from test_layers import LEVELS

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_the_python_runs_as_it_stands(example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "README.md", "exec"), {"__name__": "example"})
    assert not list(tmp_path.iterdir())


def test_the_tree_has_a_line_a_room_in_the_order_of_levels() -> None:
    tree = README.split("regicomp/\n", 1)[1].split("```")[0]
    inside, beside = ([line for line in tree.splitlines() if line.startswith("  ") == deep] for deep in (True, False))
    commands, *rooms = (line.split()[0].rstrip("/") for line in inside)
    assert commands == "*.py"
    assert set(re.findall(r"\w+", inside[0].split("commands: ")[1])) == set(LEVELS[1])
    assert rooms == [room for level in LEVELS[2:] for room in sorted(level, key=rooms.index)]
    assert all((ROOT / line.split()[0]).is_dir() for line in beside)


def test_it_is_short_and_has_examples() -> None:
    assert len(EXAMPLES) == 2
    assert README.count("\n") < 150
