"""The API reference as Markdown: the modules of a room, each with its public names, by autodoc."""

from __future__ import annotations

import pkgutil
from pathlib import Path

import regicomp

PACKAGE = Path(regicomp.__file__).parent


def rooms() -> list[str]:
    """The folders of the package that hold modules."""
    return sorted(found.name for found in pkgutil.iter_modules([str(PACKAGE)]) if found.ispkg)


def modules(room: str) -> list[str]:
    """The modules of a room, or of the root with `regicomp`; those that are run rather than imported are left out."""
    folder, prefix = (PACKAGE, "regicomp") if room == "regicomp" else (PACKAGE / room, f"regicomp.{room}")
    found = [module.name for module in pkgutil.iter_modules([str(folder)]) if not module.ispkg]
    return [prefix, *(f"{prefix}.{name}" for name in sorted(found) if name != "__main__")]


def markdown(room: str) -> str:
    """A section a module."""
    return "\n\n".join(_module(name) for name in modules(room))


def _module(name: str) -> str:
    return f"## `{name}`\n\n```{{eval-rst}}\n.. automodule:: {name}\n```"
