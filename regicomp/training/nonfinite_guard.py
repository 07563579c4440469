"""The numerical guard: updates with a non-finite loss or gradient are skipped, counted, and acted upon.

Whether an update is finite is decided, applied and counted on the device, so that a step never waits for it: fused Adam
takes the verdict (`found_inf`, as gradient scaling uses it), as the others of optimizers.py do, and leaves parameters
and moments alone. The counts are read every `patience` updates. They are buffers, hence part of the checkpoint.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn

from regicomp.distributed import collectives

log = logging.getLogger(__name__)


class Counts(NamedTuple):
    """The guard's counts, read from the device."""

    skipped: int  # updates skipped so far
    row: int  # of them, those just before now, in a row
    longest: int  # the longest such row since the run last went back
    lowered: int  # how often the run went back


class Guard(nn.Module):
    """Verdict and counts of one run.

    Call `begin` before an update, `see` with its losses and gradient norms, `agree` and then `govern` on every
    optimizer before its step, and `end` after the last.

    Args:
        patience: skipped updates in a row after which the run acts.
        action: "rollback": back to the last good checkpoint, with α and the learning rates lowered; "stop": an error.
        lower: what α and the learning rates are multiplied with each time the run goes back, in (0, 1].
        rollbacks: times that the run goes back before it ends with an error.
    """

    bad: Tensor  # 1 if this update has met something that is not finite, else 0
    skipped: Tensor
    row: Tensor
    longest: Tensor
    lowered: Tensor

    def __init__(self, patience: int = 20, action: str = "rollback", lower: float = 0.5, rollbacks: int = 3) -> None:
        super().__init__()
        self.patience, self.action, self.lower, self.rollbacks = patience, action, lower, rollbacks
        self.register_buffer("bad", torch.zeros(()), persistent=False)
        for name in Counts._fields:
            self.register_buffer(name, torch.zeros(()))

    def begin(self) -> None:
        """A new update: nothing bad seen yet."""
        self.bad.zero_()

    def see(self, *values: Tensor) -> None:
        """Take losses and gradient norms, scalars, into this process's verdict on the update."""
        finite = torch.isfinite(torch.stack([v.detach().float().to(self.bad.device) for v in values])).all()
        torch.maximum(self.bad, 1 - finite.float(), out=self.bad)

    def agree(self) -> None:
        """Make the verdict that of all processes: bad if any has seen something bad."""
        torch.clamp_max(collectives.total(self.bad), 1.0, out=self.bad)

    def govern(self, optimizer: LightningOptimizer | torch.optim.Optimizer) -> None:
        """Make the optimizer's next step do nothing if the verdict is bad. It must heed `found_inf`."""
        inner = optimizer.optimizer if isinstance(optimizer, LightningOptimizer) else optimizer
        inner.found_inf = self.bad  # pyright: ignore[reportAttributeAccessIssue]

    def end(self) -> None:
        """Count."""
        self.skipped.add_(self.bad)
        self.row.add_(1).mul_(self.bad)
        torch.maximum(self.longest, self.row, out=self.longest)

    def read(self) -> Counts:
        """The counts so far. Waits for the device."""
        found = torch.stack([getattr(self, name) for name in Counts._fields]).tolist()
        return Counts(*map(int, found))

    def lowering(self) -> float:
        """Factor of α and the learning rates: 1 until the run goes back. Waits for the device."""
        return self.lower ** self.read().lowered


def is_good(state_dict: dict[str, Any]) -> bool:
    """Whether a run may go back to this state: all its numbers are finite, and it was not skipping updates."""
    row = state_dict.get("guard.row")
    return is_finite(state_dict) and (row is None or int(row) == 0)


def is_finite(state_dict: dict[str, Any]) -> bool:
    """Whether a module's state holds finite numbers only (but for what measures the last update's pressure)."""
    tensors = (t for name, t in state_dict.items() if isinstance(t, Tensor) and not name.endswith("regularizer.rho"))
    return all(bool(torch.isfinite(t).all()) for t in tensors if t.is_floating_point())


def lower_once_more(state_dict: dict[str, Any]) -> None:
    """Change the state of a checkpoint so that the run going on from it has α and the learning rates lowered."""
    state_dict["guard.lowered"] = state_dict["guard.lowered"] + 1
    for name in ("guard.row", "guard.longest"):
        state_dict[name] = torch.zeros_like(state_dict[name])


class Watch(Callback):
    """Reads the guard's counts every `patience` updates; ends the training when there were too many in a row.

    Afterwards `tripped` says whether the run must go back to an earlier checkpoint.

    Args:
        guard: finds it in the module that is trained, as `pl_module.guard`.
        alarms: given the logged values and the step, returns warnings about a collapsing q_θ.
    """

    def __init__(self, alarms: Callable[[dict[str, float], int], list[str]] = lambda values, step: []) -> None:
        self.alarms = alarms
        self.tripped: Counts | None = None
        self._told = 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Read, tell, act.

        Raises:
            ValueError: `guard.patience` updates in a row were skipped and the run may not go back (again).
        """
        guard, step = pl_module.guard, trainer.global_step
        assert isinstance(guard, Guard)
        if step % trainer.log_every_n_steps == 0:  # pyright: ignore[reportAttributeAccessIssue]
            for line in self.alarms(getattr(pl_module, "shown", {}), step):
                log.warning("update %d: %s", step, line)
        if step % guard.patience and step != trainer.max_steps:
            return
        counts = guard.read()
        if counts.skipped > self._told:
            log.warning(
                "update %d: %d updates skipped so far, whose loss or gradient was not finite", step, counts.skipped
            )
            self._told = counts.skipped
        if counts.longest < guard.patience:
            return
        if guard.action == "stop" or counts.lowered >= guard.rollbacks:
            raise ValueError(
                f"{counts.longest} updates in a row up to update {step} had a loss or gradient that is not finite "
                f"(`guard.patience` (={guard.patience}), gone back {counts.lowered} times); lower `reg.alpha` or "
                "`optimizer.lr`, or lengthen `reg.warmup_steps`"
            )
        self.tripped = counts
        trainer.should_stop = True
