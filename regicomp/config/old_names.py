"""Former names of settings and experiments: accepted for one release, with a line of warning."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

SETTINGS = {
    "trainer.accumulate": "trainer.accumulate_grad_batches",
    "trainer.log_every": "trainer.log_every_n_steps",
    "optimizer.clip": "trainer.gradient_clip_val",
}
OPTIONS = {
    "experiment=night": "experiment=kodak_seeds",
    "experiment=start": "experiment=starting_codecs",
    "experiment=curves": "experiment=lambda_sweep",
}
# Lightning's names of what `precision` says.
PRECISIONS = {"bf16-mixed": "bf16", "32-true": "float32"}


def told(pairs: dict[str, str]) -> str | None:
    """The line of warning about old names that were used, with the new ones; None if there were none."""
    if not pairs:
        return None
    names = ", ".join(f"`{old}` is now `{new}`" for old, new in pairs.items())
    return f"warning: {names}; the old name works until the next release"


def in_arguments(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """A command line with the new names, and those that were old."""
    found: dict[str, str] = {}
    renamed: list[str] = []
    for argument in arguments:
        sign, name, rest = re.fullmatch(r"([+~]*)([\w.]*)(.*)", argument, re.DOTALL).groups()  # pyright: ignore
        if name in SETTINGS and not rest.startswith("@"):
            found[name] = SETTINGS[name]
            argument = f"{sign}{SETTINGS[name]}{rest}"
        elif argument in OPTIONS:
            found[argument] = OPTIONS[argument]
            argument = OPTIONS[argument]
        renamed.append(argument)
    return renamed, found


def in_configuration(cfg: DictConfig) -> tuple[DictConfig, dict[str, str]]:
    """A copy of a composed configuration with the new names, and the old ones that it had, as an own experiment may."""
    cfg = cfg.copy()
    found: dict[str, str] = {}
    with open_dict(cfg):
        for old, new in SETTINGS.items():
            group, _, key = old.rpartition(".")
            node: Any = OmegaConf.select(cfg, group)
            if isinstance(node, DictConfig) and key in node:
                OmegaConf.update(cfg, new, node.pop(key), force_add=True)
                found[old] = new
        precision = cfg.get("precision")
        if isinstance(precision, str):
            cfg.precision = PRECISIONS.get(precision, precision)
    return cfg, found


def of_records(composed: Mapping[str, Any]) -> dict[str, Any]:
    """A composed configuration, as data, with the old names, by which `config_hash` knows runs of before."""
    renamed = {key: dict(value) if isinstance(value, dict) else value for key, value in composed.items()}
    for old, new in SETTINGS.items():
        (new_group, _, new_key), (old_group, _, old_key) = new.rpartition("."), old.rpartition(".")
        if new_key in renamed.get(new_group, {}):
            renamed.setdefault(old_group, {})[old_key] = renamed[new_group].pop(new_key)
    return renamed


def understood(cfg: DictConfig) -> DictConfig:
    """The configuration in today's names; old ones are said in one line on standard error."""
    renamed, found = in_configuration(cfg)
    if line := told(found):
        print(line, file=sys.stderr, flush=True)
    return renamed
