"""Backbones that a user's own folder of configurations adds: q_θ, where that folder has none for them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from hydra.core.config_store import ConfigStore

from regicomp.config.conf_files import conf_dir

SOURCE = "hyperprior"
"""The option of `source` for a backbone without one of its own name: mean and scale from x̂ alone, for any codec."""


def give_sources(arguments: Sequence[str]) -> str | None:
    """Let `source: ${backbone}` mean SOURCE for backbones of `--config-dir` that have no source of their name.

    Args:
        arguments: of the command line.

    Returns:
        A line for the user, where such a backbone is chosen and no source.
    """
    folders = [conf_dir(), *_own_folders(arguments)]
    known = {path.stem for folder in folders for path in (folder / "source").glob("*.yaml")}
    without = {path.stem for folder in folders for path in (folder / "backbone").glob("*.yaml")} - known
    for name in without:
        ConfigStore.instance().store(group="source", name=name, node={"defaults": [SOURCE]})
    chosen = [name for a in arguments if a.startswith("backbone=") for name in a.partition("=")[2].split(",")]
    lacking = [name for name in chosen if name in without]
    if not lacking or any(argument.startswith("source=") for argument in arguments):
        return None
    return (
        f"backbone={lacking[0]} has no conf/source/{lacking[0]}.yaml: q_θ is source={SOURCE}; source=… chooses another"
    )


def _own_folders(arguments: Sequence[str]) -> list[Path]:
    """Folders that Hydra searches besides conf/: `--config-dir FOLDER` and `hydra.searchpath=[file://FOLDER]`."""
    found: list[Path] = []
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        flag, equals, value = argument.partition("=")
        if flag in ("--config-dir", "-cd"):
            found.append(Path(value if equals else following))
        elif flag == "hydra.searchpath":
            found += [Path(path) for path in re.findall(r"file://([^,\]'\"]+)", value)]
    return found
