"""Hydra's current job: its sweep and its folder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from regicomp.utils import files


def in_sweep() -> bool:
    """Whether this is a run of a Hydra multirun."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    return HydraConfig.get().mode == RunMode.MULTIRUN


def sweep_name() -> str | None:
    """The folder name of the multirun this run belongs to, if any."""
    from hydra.core.hydra_config import HydraConfig

    if not HydraConfig.initialized() or not in_sweep():
        return None
    return Path(HydraConfig.get().sweep.dir).name


def run_dir() -> Path:
    """The run directory that Hydra chose for this job."""
    from hydra.core.hydra_config import HydraConfig

    return Path(HydraConfig.get().runtime.output_dir)


def how_to_go_on() -> str:
    """The message when a signal ends this job."""
    return "the same command goes on" if in_sweep() else f"hydra.run.dir={run_dir()} ckpt=last goes on"


def write_composed(cfg: DictConfig, run_dir: Path) -> None:
    """Write the composed configuration to `run_dir`/.hydra as Hydra does; nothing, where Hydra did not start the run.

    Hydra itself would write it before the folder is known to be free (`hydra.output_subdir` is null for that reason).
    """
    from hydra.core.hydra_config import HydraConfig

    if not HydraConfig.initialized():
        return
    composed: Any = HydraConfig.instance().cfg
    for name, value in (("config", cfg), ("hydra", composed), ("overrides", composed.hydra.overrides.task)):
        files.write_bytes(run_dir / ".hydra" / f"{name}.yaml", OmegaConf.to_yaml(value).encode())


class FolderCheck(Callback):
    """Makes the folder of the run, or of the sweep, before Hydra does, whose own failure is a traceback.

    Raises:
        SystemExit: with status 2 and a line, if it cannot be made.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Of a single run."""
        _make("hydra.run.dir", config.hydra.run.dir)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Of a sweep."""
        _make("hydra.sweep.dir", config.hydra.sweep.dir)


def _make(setting: str, folder: str) -> None:
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:  # which Hydra would only warn of in a callback
        print(f"error: `{setting}` (={folder}) must be a folder that can be made: {error}", file=sys.stderr, flush=True)
        raise SystemExit(2) from error
