"""Checkpoints of a run: written whole, the last two kept, read without running any code of theirs."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.io import CheckpointIO

from regicomp.files import write_atomically

log = logging.getLogger(__name__)

_KEPT = 2


class AtomicCheckpointIO(CheckpointIO):
    """torch.save to a temporary file, flushed and renamed; loading allows tensors and plain values only."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write `checkpoint` to `path` whole or not at all."""
        write_atomically(Path(path), lambda file: torch.save(checkpoint, file))

    def load_checkpoint(self, path: Any, map_location: Any | None = None, weights_only: bool | None = None) -> Any:
        """Read a checkpoint to the CPU."""
        return read(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        """Remove a checkpoint if it is there."""
        Path(path).unlink(missing_ok=True)


class Checkpoints(Callback):
    """Writes `step-<n>.ckpt` every `every` codec updates and at the end, and keeps the last two.

    Lightning's own ModelCheckpoint expects, under manual optimization, to store the state before the update.
    """

    def __init__(self, folder: Path, every: int) -> None:
        self.folder = folder
        self.every = every

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save when the step is due."""
        step = trainer.global_step
        if step % self.every == 0 or step == trainer.max_steps:
            trainer.save_checkpoint(self.folder / f"step-{step:09d}.ckpt")
            if trainer.is_global_zero:
                for old in _by_age(self.folder)[:-_KEPT]:
                    old.unlink(missing_ok=True)


def _by_age(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*.ckpt"))


def read(path: Path) -> dict[str, Any]:
    """Load a checkpoint to the CPU.

    Raises:
        ValueError: it is missing or unreadable.
    """
    if not path.is_file():
        raise ValueError(f"`ckpt` (={path}) must be `last` or the path of a checkpoint; there is no such file")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever its unpickler meets in a damaged file
        raise ValueError(f"`ckpt` (={path}) cannot be read: {' '.join(str(error).split())[:200]}") from error


def find(setting: str | None, folder: Path, identity: dict[str, Any]) -> Path | None:
    """The checkpoint a run goes on from, or None for a new run.

    Args:
        setting: `ckpt` of the configuration.
        folder: the run's checkpoints.
        identity: what the run's own checkpoints carry.

    Raises:
        ValueError: a new run in a folder that holds one, or a checkpoint that is missing, unreadable or another's.
    """
    there = _by_age(folder)
    if setting is None:
        if there:
            raise ValueError(
                f"`hydra.run.dir` (={folder.parent}) already holds a run; ckpt=last goes on with it, another "
                "hydra.run.dir starts a new one"
            )
        return None
    if setting != "last":
        _check(Path(setting), identity)
        return Path(setting)
    for path in reversed(there):
        try:
            _check(path, identity)
        except ValueError as error:
            if "cannot be read" not in str(error):
                raise
            log.warning("%s; trying the one before", error)
            continue
        return path
    return None


def _check(path: Path, identity: dict[str, Any]) -> None:
    stored = read(path).get("regicomp")
    if not isinstance(stored, dict):
        raise ValueError(f"`ckpt` (={path}) must be a checkpoint of regicomp.train")
    for key, expected in identity.items():
        if stored.get(key) != expected:
            raise ValueError(
                f"`ckpt` (={path}) is of another run: its {key} is {stored.get(key)}, this run's is {expected}"
            )
