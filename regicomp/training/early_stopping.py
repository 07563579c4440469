"""The end of a run whose validations find no lower J any more."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

from lightning.pytorch import Callback, LightningModule, Trainer

from regicomp.distributed import collectives, environment
from regicomp.training.validation import Validation

log = logging.getLogger(__name__)


class Lowest(NamedTuple):
    """The lowest J that counted as lower, and the update whose validation found it."""

    j: float
    step: int


class Stop(NamedTuple):
    """The end of a run before its last update."""

    step: int  # the last one taken
    lowest: Lowest

    def about(self, max_steps: int) -> dict[str, Any]:
        """The difference of the record's `run` entry from that of a run which took all `max_steps`."""
        if self.step == max_steps:
            return {}
        why = {"max_steps": max_steps, "lowest_j": self.lowest.j, "lowest_j_step": self.lowest.step}
        return {"steps": self.step, "stopped_early": why}


class EarlyStopping(Callback):
    """Ends the training after `patience` validations in a row whose J is not lower than the lowest by `min_delta`.

    Lightning's EarlyStopping acts at the end of an epoch or of Lightning's validation loop; a run here is one epoch and
    has no such loop. Validations while updates are being skipped do not count, since the codec has not changed; nor
    does that after the last update if it is not due, which a longer run would not make.

    It must come after `validation` and before the checkpoints, so that a checkpoint holds the verdict of its update.
    All processes follow the first's J.

    Args:
        validation: whose J is watched.
        patience: validations, at least 1.
        min_delta: by more than this must J be lower.
    """

    def __init__(self, validation: Validation, patience: int, min_delta: float) -> None:
        self.validation, self.patience, self.min_delta = validation, patience, min_delta
        self.lowest: Lowest | None = None
        self.waited = 0
        self.stop: Stop | None = None

    def state_dict(self) -> dict[str, Any]:
        """The verdict so far, for a checkpoint: plain numbers."""
        lowest, stop = self.lowest, self.stop
        return {
            "lowest": None if lowest is None else list(lowest),
            "waited": self.waited,
            "stopped_at": None if stop is None else stop.step,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint's."""
        lowest, self.waited, at = (state_dict[name] for name in ("lowest", "waited", "stopped_at"))
        self.lowest = None if lowest is None else Lowest(*lowest)
        self.stop = None if at is None or self.lowest is None else Stop(at, self.lowest)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the validation of this update, if there was one, and end the training when it is time."""
        step = trainer.global_step
        if step % self.validation.every or trainer.should_stop:  # the guard sends the run back
            return
        j = float(collectives.gather(self.validation.j)[0])
        if self.lowest is None or j < self.lowest.j - self.min_delta:
            self.lowest, self.waited = Lowest(j, step), 0
        elif pl_module.guard.read().row == 0:  # pyright: ignore
            self.waited += 1
        if self.waited >= self.patience:
            self.stop = Stop(step, self.lowest)
            trainer.should_stop = True
            if environment.is_first():
                log.info(
                    "update %d of %d: stopped early, since %d validations found no J below that of update %d, %.4f",
                    *(step, trainer.max_steps, self.waited, self.lowest.step, self.lowest.j),
                )


def stop_of(checkpoint: Mapping[str, Any]) -> Stop | None:
    """The end of the run that wrote a checkpoint, if the checkpoint is the last of a run that was stopped early."""
    stored = checkpoint.get("callbacks", {}).get("EarlyStopping")
    if stored is None or stored["stopped_at"] is None:
        return None
    return Stop(stored["stopped_at"], Lowest(*stored["lowest"]))
