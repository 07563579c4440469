"""Loggers besides metrics.csv, started and imported where they are asked for: W&B, TensorBoard, MLflow."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger

from regicomp.config import derived
from regicomp.config.settings import Settings
from regicomp.evaluation.record import points
from regicomp.launch import hydra_job
from regicomp.utils import files

log = logging.getLogger(__name__)

_FOLDER = "tensorboard"  # of a run
_RUN_ID = "mlflow_run_id"  # file of a run, by which a resumed one goes on
_MEASURED = ("bpp", "bpp_estimated", "psnr_db", "ms_ssim", "ms_ssim_db", "source_bpp")


@contextlib.contextmanager
def _never_stops(name: str, what: str) -> Iterator[None]:
    """Within, whatever a tracker raises is one line of warning: the run and its record do not depend on it."""
    try:
        yield
    except Exception as error:
        log.warning("%s: %s failed, and the run goes on: %s", name, what, " ".join(str(error).split())[:300])


class _Events(TensorBoardLogger):
    """Lightning's TensorBoard logger, without the file of hyperparameters that .hydra/ holds already."""

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: the configuration is in .hydra/ and in the record."""

    def save(self) -> None:
        """Write out what waits."""
        self.experiment.flush()


class _Tracked(MLFlowLogger):
    """Lightning's MLflow logger, which the run outlives whatever happens to MLflow."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log a row of metrics at an update."""
        with _never_stops("MLflow", "logging"):
            super().log_metrics(metrics, step)

    def log_hyperparams(self, params: Any) -> None:
        """Nothing: the run was given the whole configuration when it began."""

    def finalize(self, status: str = "success") -> None:
        """Mark the run as finished, or failed."""
        with _never_stops("MLflow", "finishing"):
            super().finalize(status)


def start(settings: Settings, run_dir: Path, about: Mapping[str, Any], resumed_at: int) -> list[Logger]:
    """The loggers that a run asks for, besides metrics.csv.

    Args:
        settings: of the run; their `logger` names them.
        run_dir: of the run.
        about: the record's entry `run`.
        resumed_at: update of the checkpoint that the run goes on from; 0: a new run.
    """
    asked, started = settings.logger, list[Logger]()
    if asked.wandb:
        from regicomp.training import wandb_logger

        sweep = hydra_job.sweep_name()
        dashboard = wandb_logger.start(run_dir, asked.project, dict(settings.composed), dict(about), sweep)
        started += [] if dashboard is None else [dashboard]
    if asked.tensorboard:
        # Rows after the checkpoint are written again; TensorBoard forgets those that stand there.
        purge: dict[str, Any] = {"purge_step": resumed_at + 1} if resumed_at else {}
        started.append(_Events(run_dir, name=_FOLDER, version="", **purge))
    if asked.mlflow:
        with _never_stops("MLflow", "starting"):
            started.append(_mlflow(settings, run_dir, about))
    return started


def _mlflow(settings: Settings, run_dir: Path, about: Mapping[str, Any]) -> Logger:
    from regicomp.training.wandb_logger import title

    # A server that does not answer is told after seconds, not after the minutes of MLflow's seven tries.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "7")
    identifier, sweep = run_dir / _RUN_ID, hydra_job.sweep_name()
    tags = {name: str(about[name]) for name in ("backbone", "source", "distortion", "size") if about.get(name)}
    tracked = _Tracked(
        experiment_name=settings.logger.project,
        run_name=title(about) if sweep is None else run_dir.name,
        tracking_uri=_store(settings),
        tags=tags if sweep is None else {**tags, "sweep": sweep},
        run_id=identifier.read_text().strip() if identifier.exists() else None,
    )
    new = not identifier.exists()
    client = tracked.experiment
    files.write_bytes(identifier, str(tracked.run_id).encode())
    for name, value in derived.flat(settings.composed) if new else ():
        client.log_param(tracked.run_id, name, str(value)[:500])
    return tracked


def _store(settings: Settings) -> str:
    """Where MLflow writes, as it would choose itself; Lightning's choice, a folder, is one that MLflow now refuses."""
    import mlflow  # pyright: ignore[reportMissingImports]

    return settings.logger.tracking_uri or str(mlflow.get_tracking_uri())


def _figures(record: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """Name and value of each figure of a record, as W&B's summary names them."""
    measured = points(record)
    for point in measured:
        for testset, entry in point.testsets.items():
            name = testset if len(measured) == 1 else f"{testset}/quality {point.quality:g}"
            for metric in _MEASURED:
                if entry[metric] is not None:
                    yield f"{name}/{metric}", float(entry[metric])


def log_record(settings: Settings, run_dir: Path, record: dict[str, Any], classical: Any) -> None:
    """Add a measured run's figures, its picture and its files to the loggers that it asked for.

    Args:
        settings: of the run.
        run_dir: holds results.json, summary.png and codec.safetensors.
        record: the run's record.
        classical: by test set, the classical codecs' points by name.
    """
    asked = settings.logger
    if asked.wandb:
        from regicomp.training import wandb_logger

        wandb_logger.log_record(run_dir, record, classical)
    if asked.tensorboard:
        with _never_stops("TensorBoard", "adding the record"):
            _log_to_tensorboard(run_dir, record)
    if asked.mlflow and (run_dir / _RUN_ID).exists():
        with _never_stops("MLflow", "adding the record"):
            _log_to_mlflow(settings, run_dir, record)


def _log_to_tensorboard(run_dir: Path, record: dict[str, Any]) -> None:
    import numpy as np
    from PIL import Image
    from torch.utils.tensorboard import SummaryWriter

    steps = int(record["run"]["steps"])
    with contextlib.closing(SummaryWriter(str(run_dir / _FOLDER))) as writer:
        for name, value in _figures(record):
            writer.add_scalar(name, value, steps)
        with Image.open(run_dir / "summary.png") as picture:
            writer.add_image("summary", np.asarray(picture.convert("RGB")), steps, dataformats="HWC")


def _log_to_mlflow(settings: Settings, run_dir: Path, record: dict[str, Any]) -> None:
    tracked = _Tracked(
        settings.logger.project,
        tracking_uri=_store(settings),
        run_id=(run_dir / _RUN_ID).read_text().strip(),
    )
    client, run = tracked.experiment, str(tracked.run_id)
    for name, value in _figures(record):
        client.log_metric(run, name.replace("=", "_"), value, step=int(record["run"]["steps"]))
    for name in ("results.json", "summary.png", "codec.safetensors"):
        client.log_artifact(run, str(run_dir / name))


def finish() -> None:
    """End what this process began, so that the next run of a sweep gets its own."""
    from regicomp.training import wandb_logger

    wandb_logger.finish()
