"""The networks of a run, freshly initialized."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from regicomp.config import settings
from regicomp.training import strategy

if TYPE_CHECKING:
    from regicomp.image_codec.model_file import Spec
    from regicomp.training.module import RegularizedCodec


def build_networks(cfg: DictConfig) -> tuple[RegularizedCodec, Spec, Spec]:
    """The module with freshly initialized networks; a run and its anchor get the same codec."""
    import torch

    from regicomp.backbone import precision
    from regicomp.image_codec import model_file
    from regicomp.objective.rate_distortion import RateDistortion
    from regicomp.objective.regularizer import AlphaSchedule, Regularizer, Shape
    from regicomp.training import nonfinite_guard, optimizers
    from regicomp.training.module import Optimization, RegularizedCodec

    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    spec, source_spec = model_file.spec_of(plain["backbone"]), model_file.spec_of(plain["source"])
    torch.manual_seed(cfg.seed)
    codec = model_file.build(spec, "backbone")
    if cfg.init_from is not None:
        model_file.initialize(codec, Path(cfg.init_from))
    objective = RateDistortion(settings.lmbda(cfg), cfg.objective.distortion)
    phases = settings.phases_of(cfg) if cfg.phases else None
    regularizer = None
    if settings.uses_source(cfg):
        torch.manual_seed(cfg.seed)
        steps = settings.warmup_steps(cfg), settings.ramp_steps(cfg)
        schedule = AlphaSchedule(cfg.reg.alpha, *steps, phases, settings.release_at(cfg))
        source, shape = model_file.build(source_spec, "source"), Shape(cfg.reg.project, cfg.reg.per_image)
        if cfg.init_source_from is not None:
            model_file.initialize_source(source, Path(cfg.init_source_from))
        regularizer = Regularizer(source, objective, schedule, cfg.reg.max_pressure, shape)
    method, rates = optimizers.read(plain["optimizer"])
    optimization = Optimization(
        steps=cfg.trainer.max_steps,
        **rates,
        method=method,
        average=plain["average"]["decay"],
        order=cfg.reg.order,
        form=cfg.reg.form,
        source_steps=cfg.reg.source_steps,
        feed=cfg.reg.feed,
        accumulate=cfg.trainer.accumulate,
        phases=phases,
    )
    computing = precision.resolve(cfg.precision, cfg.channels_last, strategy.device_type(cfg))
    identity = {"backbone": spec.target, **{f"backbone.{k}": v for k, v in spec.arguments.items()}}
    identity |= {"configuration": settings.config_hash(cfg)}
    module = RegularizedCodec(
        codec,
        objective,
        regularizer,
        optimization,
        cfg.seed,
        identity,
        computing.channels_last,
        nonfinite_guard.Guard(nonfinite_guard.Settings(**plain["guard"])),
    )
    return module, spec, source_spec
