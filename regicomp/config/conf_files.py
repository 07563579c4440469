"""Where the configuration's files lie, and which option of a group names a class."""

from __future__ import annotations

import warnings
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

# Our files of launchers' settings bear the plugins' names, which Hydra 1.3 remarks on, also in the launchers' workers,
# where nothing but this import runs before.
warnings.filterwarnings("ignore", message="(?s).*is validated against ConfigStore schema")


def conf_dir() -> Path:
    """Folder of the configuration: inside an installed package, beside the package in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "conf"
    return installed if installed.is_dir() else package.parent / "conf"


def label(group: str, target: str) -> str:
    """Name under which a run's record files a class: the option of `conf/<group>/` that names it, or its own."""
    for path in sorted((conf_dir() / group).glob("*.yaml")):
        node = OmegaConf.load(path)
        if isinstance(node, DictConfig) and OmegaConf.select(node, "_target_") == target:
            return path.stem
    return target.rsplit(".", 1)[-1]
