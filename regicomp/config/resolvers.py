"""The resolvers that conf/ uses."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from regicomp.config.conf_files import label
from regicomp.distributed import environment


def _width(paper: Any, tiny: Any, *, _root_: DictConfig) -> int:
    """Resolver `width`: a number, or a list by quality, at size=paper; half of it at size=half; `tiny` at size=tiny."""
    if _root_.size == "tiny":
        return int(tiny)
    share = 2 if _root_.size == "half" else 1
    if not isinstance(paper, ListConfig | list):
        return int(paper) // share
    quality = _root_.quality
    if not isinstance(quality, int) or not 1 <= quality <= len(paper):
        raise ValueError(f"`quality` (={quality}) must be an integer from 1 to {len(paper)}")
    return int(paper[quality - 1]) // share


def _by_size(paper: Any, tiny: Any, *, _root_: DictConfig) -> Any:
    """Resolver `by_size`: the first value at size=paper and size=half, the second at size=tiny, for budgets."""
    return tiny if _root_.size == "tiny" else paper


def _label(group: str, *, _root_: DictConfig) -> str:
    """Resolver `label`: the name of what is chosen in a group, such as `elic` of `backbone`."""
    return label(group, _root_[group]._target_)


def register_resolvers() -> None:
    """Register the resolvers that conf/ uses with OmegaConf."""
    OmegaConf.register_new_resolver("width", _width, replace=True)
    OmegaConf.register_new_resolver("by_size", _by_size, replace=True)
    OmegaConf.register_new_resolver("label", _label, replace=True)
    OmegaConf.register_new_resolver("run_folder", _run_folder, replace=True)
    OmegaConf.register_new_resolver("job_name", environment.job_name, replace=True)


_LONGEST_NAME = 160  # file systems allow 255 bytes
# Settings that change a run's result only where validations may end it.
_OF_VALIDATION = re.compile(r"(?<![^,])(?:trainer\.val_every|validation\.testset|validation\.images)=[^,]*(?:,|$)")


def _run_folder(overrides: str, *, _root_: DictConfig) -> str:
    """Resolver `run_folder`: `folder_name`, in which validation counts where it may end the run."""
    stopping = OmegaConf.select(_root_, "early_stopping.patience", default=0)
    return folder_name(overrides if stopping else _OF_VALIDATION.sub("", overrides).rstrip(","))


def folder_name(overrides: str) -> str:
    """A run's folder in its sweep: its overrides, made fit for a file system; long ones end in a digest.

    Args:
        overrides: Hydra's `hydra.job.override_dirname`, such as "quality=1,reg.alpha=0.1".
    """
    name = re.sub(r"[^A-Za-z0-9=.,+_-]+", "-", overrides).strip("-.") or "run"
    if len(name) <= _LONGEST_NAME and name == overrides:
        return name
    digest = hashlib.sha256(overrides.encode()).hexdigest()[:8]
    return f"{name[:_LONGEST_NAME]}-{digest}"
