"""Imports run downwards: a room of the package imports only rooms below it (docs/architecture.md draws them)."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import regicomp

# Levels from the top; a command is a module (or, for `report`, also a room) of the package's root.
LEVELS = (
    ("__main__",),
    ("train", "evaluate", "codec", "export", "fetch", "shards", "check_data", "identities"),
    ("theory",),
    ("report", "training"),
    ("evaluation",),
    ("image_codec",),
    ("objective", "source", "data"),
    ("backbone",),
    ("launch",),
    ("config",),
    ("distributed", "entropy_coding"),
    ("utils",),
)
LEVEL_OF = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}
PACKAGE = Path(regicomp.__file__).parent
COMMANDS = {*LEVELS[0], *LEVELS[1], "report"}


def _room(path: Path) -> str:
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


def test_rooms_import_downwards() -> None:
    modules = [path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py"]
    assert len(modules) > 15
    upwards = []
    for path in modules:
        room = _room(path)
        assert room in LEVEL_OF, f"{path.name}: give `{room}` its place in the list"
        for imported in _imported(path) - {room}:
            if LEVEL_OF[imported] <= LEVEL_OF[room]:
                upwards.append(f"{path.relative_to(PACKAGE)} imports {imported}")
    assert not upwards, "\n".join(sorted(upwards))


def test_composed_configurations_stay_above() -> None:
    """Settings are resolved once: below the commands, launch/ and config/ nothing knows OmegaConf."""
    allowed = {*COMMANDS, "config", "launch"}
    users = {path for path in PACKAGE.rglob("*.py") if re.search("DictConfig|OmegaConf|omegaconf", path.read_text())}
    assert {_room(path) for path in users} >= {"config", "train"}
    assert {path.relative_to(PACKAGE).as_posix() for path in users if _room(path) not in allowed} == set()


def test_the_root_holds_commands_alone() -> None:
    found = {path.stem for path in PACKAGE.glob("*.py")}
    assert found - {"__init__"} <= COMMANDS
    assert len(found) <= 10
