"""Checkpoints of a run: written whole, the last two kept, read without running any code of theirs."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from regicomp.launch import signals
from regicomp.training import nonfinite_guard
from regicomp.training.checkpoint_file import read, write

log = logging.getLogger(__name__)

_KEPT = 2


class Checkpoints(Callback):
    """Writes `step-<n>.ckpt` every `every` codec updates, at the end, and on a signal; keeps the last two.

    The end is the last update, or the one after which `ended` says so.

    While updates are being skipped the periodic checkpoint waits, so that a good one stays among the two.
    Lightning's own ModelCheckpoint expects, under manual optimization, to store the state before the update.
    """

    def __init__(self, folder: Path, every: int, ended: Callable[[], bool] = lambda: False) -> None:
        self.folder = folder
        self.every = every
        self.ended = ended

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lightning has put its signal handlers before ours by now."""
        signals.take_over()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save when the step is due or the process was asked to leave."""
        step = trainer.global_step
        leaving = _asked_to_leave(trainer, step)
        due = step % self.every == 0 and not trainer.should_stop and pl_module.guard.read().row == 0  # pyright: ignore
        if not (due or leaving or step == trainer.max_steps or self.ended()):
            return
        for logger in trainer.loggers:
            logger.save()
        trainer.save_checkpoint(self.folder / f"step-{step:09d}.ckpt", weights_only=False)
        if trainer.is_global_zero:
            for old in _by_age(self.folder)[:-_KEPT]:
                old.unlink(missing_ok=True)
        if leaving:
            signals.follow()
            trainer.should_stop = True


class Stopwatch(Callback):
    """Seconds of training of a run, over all the processes that went on with it: its checkpoints carry them.

    Args:
        ckpt: the checkpoint that the run goes on from, if any.
    """

    def __init__(self, ckpt: Path | None) -> None:
        self._before = 0.0
        self._started: float | None = None
        if ckpt is not None:
            self._before = float(read(ckpt).get("callbacks", {}).get(self.state_key, {}).get("seconds", 0.0))

    def seconds(self) -> float:
        """Seconds so far."""
        return self._before + (0.0 if self._started is None else time.perf_counter() - self._started)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Start."""
        self._started = time.perf_counter()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Stop."""
        self._before, self._started = self.seconds(), None

    def state_dict(self) -> dict[str, float]:
        """The seconds so far, for a checkpoint."""
        return {"seconds": self.seconds()}


_RANKS_AGREE_EVERY = 8  # codec updates; agreeing waits for the device


def _asked_to_leave(trainer: Trainer, step: int) -> bool:
    """Whether a signal has come to this process, or to any rank: all must leave after the same update."""
    if trainer.world_size == 1:
        return signals.asked()
    if step % _RANKS_AGREE_EVERY:
        return False
    return trainer.strategy.reduce_boolean_decision(signals.asked(), all=False)


def _by_age(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*.ckpt"))


Shorter = Callable[[int], dict[str, Any] | None]


def _none(steps: int) -> None:
    return None


def find(setting: str | None, folder: Path, identity: dict[str, Any], shorter: Shorter = _none) -> Path | None:
    """The checkpoint a run goes on from, or None for a new run.

    Args:
        setting: `ckpt` of the configuration.
        folder: the run's checkpoints.
        identity: what the run's own checkpoints carry.
        shorter: of a number of updates, what the last checkpoint of a finished run of so many carries that this run
            extends; None where it cannot.

    Raises:
        ValueError: a new run in a folder that holds one, a checkpoint that is missing or another's, or no readable one
            among several.
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
        _check(Path(setting), identity, shorter)
        return Path(setting)
    for path in reversed(there):
        try:
            _check(path, identity, shorter)
        except ValueError as error:
            if "cannot be read" not in str(error):
                raise
            log.warning("%s; trying the one before", error)
            continue
        return path
    if there:
        raise ValueError(
            f"`ckpt` (=last): none of the {len(there)} checkpoints in {folder} can be read; remove them to start again"
        )
    return None


def roll_back(folder: Path) -> Path | None:
    """Make the newest good checkpoint the newest of all, with α and the learning rates lowered.

    Good: intact, all numbers finite, and no update skipped just before it. Later ones are removed.

    Returns:
        The checkpoint to go on from; None if there is no good one, and then none is left.
    """
    found: Path | None = None
    for path in reversed(_by_age(folder)):
        try:
            checkpoint = read(path)
        except ValueError as error:
            log.warning("%s", error)
            path.unlink()
            continue
        if nonfinite_guard.is_good(checkpoint["state_dict"]):
            nonfinite_guard.lower_once_more(checkpoint["state_dict"])
            write(checkpoint, path)
            found = path
            break
        path.unlink()
    return found


def _check(path: Path, identity: dict[str, Any], shorter: Shorter) -> None:
    checkpoint = read(path)
    stored = checkpoint.get("regicomp")
    if not isinstance(stored, dict):
        raise ValueError(f"`ckpt` (={path}) must be a checkpoint of regicomp.train")
    extended = stored == shorter(int(checkpoint.get("global_step", 0)))
    for key, expected in identity.items() if not extended else ():
        if stored.get(key) != expected:
            raise ValueError(
                f"`ckpt` (={path}) is of another run: its {key} is {stored.get(key)}, this run's is {expected}"
            )
    if not nonfinite_guard.is_finite(checkpoint.get("state_dict", {})):
        raise ValueError(
            f"`ckpt` (={path}) cannot be read as a state to go on from: it holds numbers that are not finite"
        )
