"""Lightning's trainer without files, bars and tables."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Trainer

from regicomp.config.settings import Settings
from regicomp.data.datamodule import CropData
from regicomp.training.module import RegularizedCodec


def trainer(steps: int, **settings: Any) -> Trainer:
    """One that trains for so many updates on the CPU."""
    return Trainer(
        accelerator="cpu",
        max_steps=steps,
        max_epochs=-1,
        logger=settings.pop("logger", False),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **settings,
    )


def fit(module: RegularizedCodec, cfg: Settings, **arguments: Any) -> Trainer:
    """Train a module on a run's own crops; the trainer that did."""
    used = trainer(cfg.trainer.max_steps, **arguments)
    used.fit(module, datamodule=CropData(cfg.data, cfg.trainer.max_steps, cfg.seed))
    return used
