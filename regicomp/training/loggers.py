"""Progress of a training: the bar in the terminal and metrics.csv (W&B: wandb_logger.py)."""

from __future__ import annotations

import csv
import io
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.loggers import Logger

from regicomp.utils.files import write_bytes

COLUMNS = (
    "step",
    "loss",
    "rate_bpp",
    "distortion",
    "mse_255",
    "psnr_db",
    "source_bpp",
    "alpha",
    "pressure",
    "capped",
    "cosine",
    "log_scale",
    "skipped",
    "lr",
)
_REFRESH_SECONDS = 1.0  # between two movements of the bar
_RENAMED = {"cosine": "along"}  # columns, with the names that older runs gave them


class MetricsCsv(Logger):
    """metrics.csv of the run directory: a row every `log_every` updates, flushed at once.

    A resumed run drops the rows after its checkpoint, so that the file equals an unbroken run's (Lightning's
    CSVLogger starts the file anew).

    Args:
        path: the file.
        resumed_at: update of the checkpoint that the run goes on from; 0: a new run.
        levels: of a codec of variable rate, which has two more columns each.
        columns: of the file, in place of those.
    """

    def __init__(self, path: Path, resumed_at: int, levels: int = 0, columns: Sequence[str] | None = None) -> None:
        super().__init__()
        if columns is None:
            columns = (*COLUMNS, *(f"{name}_{k + 1}" for k in range(levels) for name in ("rate_bpp", "psnr_db")))
        rows: list[dict[str, str]] = []
        if resumed_at and path.exists():
            with path.open(newline="") as file:
                whole = [row for row in csv.DictReader(file) if row["step"].isdigit() and None not in row.values()]
            rows = [row for row in whole if int(row["step"]) <= resumed_at]
        # The rows kept are rewritten whole or not at all: a kill must not cost the log of the run so far.
        kept = io.StringIO(newline="")
        self._writer: csv.DictWriter[str] = csv.DictWriter(kept, columns)
        self._writer.writeheader()
        self._writer.writerows({c: row.get(c, row.get(_RENAMED.get(c, ""), "")) for c in columns} for row in rows)
        write_bytes(path, kept.getvalue().encode())
        self._file = path.open("a", newline="")
        self._writer = csv.DictWriter(self._file, columns)

    @property
    def name(self) -> str:
        """Lightning's name of the logger."""
        return "metrics"

    @property
    def version(self) -> str:
        """Unused: the run directory is the version."""
        return ""

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing: the configuration is in .hydra/ and in the record."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Append a row."""
        self._writer.writerow({"step": step, **{k: f"{v:.9g}" for k, v in metrics.items()}})
        self._file.flush()

    def save(self) -> None:
        """Bring the rows to the disk; called before each checkpoint, which must not be ahead of them."""
        os.fsync(self._file.fileno())

    def finalize(self, status: str) -> None:
        """Close the file."""
        self._file.close()


_SHOWN = {
    "rate_bpp": ("R", ".3f"),
    "mse_255": ("D", ".1f"),
    "psnr_db": ("dB", ".2f"),
    "source_bpp": ("H", ".3f"),
    "alpha": ("α", ".3g"),
    "pressure": ("ρ", ".3f"),
}


class RateBar(TQDMProgressBar):
    """Updates done, time left, and R, D, PSNR, H_θ, α and pressure of the latest logged update; moves every second."""

    def __init__(self) -> None:
        super().__init__(refresh_rate=1)
        self._moved_at = -math.inf

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the bar, unless it moved within the last second."""
        now = time.monotonic()
        if now - self._moved_at >= _REFRESH_SECONDS or trainer.global_step == trainer.max_steps:
            self._moved_at = now
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def on_train_start(self, *args: Any) -> None:
        """A resumed run has no epoch's start: the bar begins at its update, and the time left is by its own speed."""
        super().on_train_start(*args)
        trainer: Trainer = args[0]
        bar = self.train_progress_bar
        bar.reset(trainer.max_steps)
        bar.n = bar.last_print_n = bar.initial = trainer.global_step
        bar.set_description("training")

    def on_train_epoch_start(self, trainer: Trainer, *args: Any) -> None:
        """The whole run is one epoch, so the bar need not count them."""
        super().on_train_epoch_start(trainer, *args)
        self.train_progress_bar.set_description("training")

    def get_metrics(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """The values behind the bar."""
        values: dict[str, float] = getattr(pl_module, "shown", {})
        return {label: format(values[key], spec) for key, (label, spec) in _SHOWN.items() if key in values}
