"""The entries of a record that describe a training, beside its measurements."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from regicomp.config.settings import Settings
from regicomp.training import strategy

if TYPE_CHECKING:
    from regicomp.backbone.precision import Precision
    from regicomp.training.module import RegularizedCodec


def computing(settings: Settings) -> Precision:
    """The precision and memory format in which this machine trains."""
    from regicomp.backbone import precision

    return precision.resolve(settings.precision, settings.channels_last, strategy.device_type(settings.strategy))


def timing(settings: Settings, seconds: float) -> dict[str, Any]:
    """Of the record's `timing` entry what training knows; of a run that moved, the machine that ended it."""
    import torch

    from regicomp.distributed import collectives
    from regicomp.utils import machine

    return {
        "training_seconds": seconds,
        "processes": collectives.world(),
        "threads": torch.get_num_threads(),
        "trained_on": machine.name(strategy.device_type(settings.strategy)),
    }


def run(settings: Settings, module: RegularizedCodec) -> dict[str, Any]:
    """The record's `run` entry."""
    from regicomp.evaluation import record

    lambdas = settings.rate.lambdas
    return {
        "backbone": settings.backbone_label,
        "source": settings.source_label,
        "alpha": settings.regularizer.alpha,
        **({} if settings.regularizer.pressure is None else {"pressure": settings.regularizer.pressure}),
        **({} if settings.regularizer.by_level is None else {"alphas": settings.regularizer.by_level}),
        **({"lmbda": settings.objective.lmbda} if lambdas is None else {"lambdas": lambdas}),
        "distortion": settings.objective.distortion,
        "quality": settings.quality,
        "size": settings.size,
        "variant": settings.variant,
        "seed": settings.seed,
        "steps": settings.trainer.max_steps,
        "data": settings.training_data,
        "crop": settings.data.crop,
        "batch_size": settings.data.batch_size,
        "parameters": sum(p.numel() for p in module.codec.parameters()),
        "source_parameters": sum(p.numel() for p in module.theta),
        "skipped_updates": module.guard.read().skipped,
        "rollbacks": module.guard.read().lowered,
        "optimizer": settings.optimizer.name,
        "average": settings.average.decay,
        **({} if settings.quantization == "noise" else {"quantization": settings.quantization}),
        "precision": computing(settings).lightning,
        "config_hash": settings.config_hash,
        **({} if settings.license is None else {"license": settings.license}),
        "versions": record.versions(),
    }
