"""The networks of a run, freshly initialized."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from regicomp.config.settings import Settings
from regicomp.training import strategy

if TYPE_CHECKING:
    from regicomp.training.module import RegularizedCodec


def build_networks(settings: Settings) -> RegularizedCodec:
    """The module with freshly initialized networks; a run and its baseline get the same codec."""
    import torch

    from regicomp.backbone import contract, precision, variable_rate
    from regicomp.image_codec import model_file
    from regicomp.objective.by_image import ByImage
    from regicomp.objective.rate_distortion import RateDistortion
    from regicomp.objective.regularizer import AlphaSchedule, Regularizer, Shape
    from regicomp.source import told_level
    from regicomp.training import nonfinite_guard, optimizers
    from regicomp.training.levels import Levels
    from regicomp.training.module import Optimization, RegularizedCodec

    torch.manual_seed(settings.seed)
    codec = model_file.build(settings.backbone, "backbone")
    contract.check(codec, settings.backbone.target)
    lambdas, gains = settings.rate.lambdas, None
    if lambdas is not None:
        gains = variable_rate.install(codec, lambdas, *(settings.rate.gains or ()))
    if settings.init_from is not None:
        model_file.initialize(codec, Path(settings.init_from))
    if lambdas is None:
        objective = RateDistortion(settings.objective.lmbda, settings.objective.distortion)
    else:
        objective = ByImage(lambdas, settings.objective.distortion)
    phases = settings.phases if settings.uses_phases else None
    reg, regularizer, told = settings.regularizer, None, None
    shares = [alpha / reg.alpha for alpha in reg.by_level] if reg.by_level is not None and reg.alpha > 0 else None
    if settings.source is not None:
        torch.manual_seed(settings.seed)
        schedule = AlphaSchedule(reg.alpha, reg.warmup_steps, reg.ramp_steps, phases, reg.release_at)
        source = model_file.build(settings.source, "source")
        shape = Shape(
            project=reg.project,
            per_image=reg.per_image,
            apart=lambdas is not None,
            constant=reg.pressure is not None,
            minimize=reg.direction == "minimize",
        )
        told = None if lambdas is None else told_level.install(source, len(lambdas))
        if settings.init_source_from is not None:
            model_file.initialize_source(source, Path(settings.init_source_from))
        regularizer = Regularizer(source, objective, schedule, reg.max_pressure, shape)
    levels = None
    if gains is not None and isinstance(objective, ByImage):
        levels = Levels(gains, objective, told, settings.seed, shares)
    optimizer = settings.optimizer
    first, second = optimizer.betas
    optimization = Optimization(
        steps=settings.trainer.max_steps,
        lr=optimizer.lr,
        gains_lr=settings.rate.gains_lr,
        source_lr=optimizer.source_lr,
        schedule=optimizer.schedule,
        decay=optimizer.decay,
        clip=settings.trainer.gradient_clip_val,
        warmup=optimizer.warmup,
        method=optimizers.Method(optimizer.name, (first, second), optimizer.momentum, optimizer.every),
        average=settings.average.decay,
        order=reg.order,
        form=reg.form,
        source_steps=reg.source_steps,
        quantization=settings.quantization,
        feed=reg.feed,
        accumulate=settings.trainer.accumulate_grad_batches,
        phases=phases,
    )
    guard, device = settings.guard, strategy.device_type(settings.strategy)
    computing = precision.resolve(settings.precision, settings.channels_last, device)
    return RegularizedCodec(
        codec,
        objective,
        regularizer,
        optimization,
        settings.seed,
        identity(settings),
        computing.channels_last,
        nonfinite_guard.Guard(guard.patience, guard.action, guard.lower, guard.rollbacks),
        levels,
    )


def identity(settings: Settings) -> dict[str, Any]:
    """Plain values stored in a run's checkpoints, by which a resuming run knows its own."""
    spec = settings.backbone
    return {
        "backbone": spec.target,
        **{f"backbone.{k}": v for k, v in spec.arguments.items()},
        "configuration": settings.config_hash,
    }
