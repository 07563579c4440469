"""`python -m regicomp.train`: one run from its configuration to its record."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from omegaconf import DictConfig, OmegaConf

from regicomp import combinations, config, files, interrupts, locking, ranks, rules, strategy, sweep

if TYPE_CHECKING:
    from regicomp.checkpointing import Stopwatch
    from regicomp.export import Spec
    from regicomp.guard import Counts
    from regicomp.module import RegularizedCodec

log = logging.getLogger(__name__)
config.register_resolvers()


def train(cfg: DictConfig, run_dir: Path) -> dict[str, Any]:
    """Train, export, measure, and write the record of one run; no other may use `run_dir` meanwhile.

    Args:
        cfg: a composed and checked configuration (conf/train.yaml).
        run_dir: where everything is written; a finished run there is reported, not repeated.

    Returns:
        The record (results.json).

    Raises:
        ValueError: a setting, a folder, an image or a checkpoint is not as expected, or `run_dir` is in use.
        SystemExit: a signal asked the process to leave (interrupts.REQUEUE).
    """
    with locking.sole_user(run_dir):
        if ranks.rank() == 0:
            sweep.begin(cfg, run_dir)
        with ranks.others(cfg, run_dir, strategy.devices(cfg)):
            return _train(cfg, run_dir)


def take_part(cfg: DictConfig, run_dir: Path) -> None:
    """What a process does that `ranks.others` started: train with the first, measure its share, write nothing."""
    config.register_resolvers()
    config.quiet_libraries()
    logging.getLogger("regicomp").setLevel(logging.ERROR)  # the first process tells
    try:
        with interrupts.requeued():
            _train(cfg, run_dir)
    except SystemExit as left:
        if left.code != interrupts.REQUEUE:  # which the first process tells
            raise


def _train(cfg: DictConfig, run_dir: Path) -> dict[str, Any]:
    from regicomp.data import testsets  # imports no torch: a missing folder is told at once

    combinations.check_files(cfg)
    found = testsets.find(cfg.testsets, cfg.data.root, cfg.data.test_dirs, cfg.evaluation.images)
    from regicomp import checkpointing, collective, dashboard, evaluation, export, measuring, parallel, record

    finished = run_dir / "results.json"
    if finished.exists() and cfg.ckpt == "last":
        known = record.read(finished)
        if known["run"]["config_hash"] == config.config_hash(cfg):
            if ranks.rank() == 0:
                log.info("%s holds the finished run of this configuration", run_dir)
                record.print_table(known)
            return known
        raise ValueError(f"`hydra.run.dir` (={run_dir}) holds the finished run of another configuration")
    for line in rules.doubts(cfg) if ranks.rank() == 0 else []:
        log.warning(line)
    module, spec, source_spec = build_networks(cfg)
    ckpt = checkpointing.find(cfg.ckpt, run_dir / "checkpoints", module.identity)
    if cfg.plan:
        from regicomp import plan

        try:
            return plan.make(cfg, run_dir, module)
        finally:
            collective.leave()
    if ranks.rank() == 0:
        files.write_bytes(run_dir / "config.yaml", OmegaConf.to_yaml(cfg, resolve=True).encode())
    try:
        module, seconds = _fit_or_go_back(cfg, run_dir, module, ckpt)
        about = _about(cfg, module)
        if ranks.rank() == 0:
            export.save_codec(run_dir / "codec.safetensors", module.codec, spec, about)
            if module.regularizer is not None:
                export.save_source(run_dir / "source.safetensors", module.regularizer.source, source_spec, about)
        elif collective.world() == 1:  # nothing was left to train, so the processes never met: the first measures
            return {}
        collective.gather(None)  # the files are written
        source_file = run_dir / "source.safetensors" if module.regularizer is not None else None
        trained = parallel.Files(run_dir / "codec.safetensors", source_file)
        codec = evaluation.Codec(export.load_codec(trained.codec))
        source = None if source_file is None else export.load_source(source_file).network
        with parallel.processes(cfg.evaluation.workers, trained) as helpers:
            measured = measuring.measure(run_dir, codec, source, found, about, _timing(seconds), helpers)
        dashboard.log_record(run_dir, measured.record, measured.anchors)
    finally:
        dashboard.finish()
        collective.leave()
    return measured.record


def _fit_or_go_back(
    cfg: DictConfig, run_dir: Path, module: RegularizedCodec, ckpt: Path | None
) -> tuple[RegularizedCodec, float]:
    """Train to the last step, from an earlier checkpoint again whenever the guard says so; seconds spent."""
    from regicomp import checkpointing, collective, dashboard

    stopwatch = checkpointing.Stopwatch(ckpt)
    while True:
        with interrupts.while_training():
            tripped = _fit(cfg, run_dir, module, ckpt, stopwatch)
        if tripped is None:
            return module, stopwatch.seconds()
        dashboard.finish()
        first = collective.rank() == 0
        ckpt = collective.gather(checkpointing.roll_back(run_dir / "checkpoints") if first else None)[0]
        module, _, _ = build_networks(cfg)
        if ckpt is None:
            module.guard.lowered.fill_(tripped.lowered + 1)
        log.warning("going back to %s, with α and the learning rates lowered", ckpt or "the start")


def build_networks(cfg: DictConfig) -> tuple[RegularizedCodec, Spec, Spec]:
    """The module with freshly initialized networks; a run and its anchor get the same codec."""
    import torch

    from regicomp import export, guard, precision
    from regicomp.module import Optimization, RegularizedCodec
    from regicomp.objective import RateDistortion
    from regicomp.regularizer import AlphaSchedule, Regularizer, Shape

    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    spec, source_spec = export.spec_of(plain["backbone"]), export.spec_of(plain["source"])
    torch.manual_seed(cfg.seed)
    codec = export.build(spec, "backbone")
    if cfg.init_from is not None:
        export.initialize(codec, Path(cfg.init_from))
    objective = RateDistortion(config.lmbda(cfg), cfg.objective.distortion)
    phases = config.phases_of(cfg) if cfg.phases else None
    regularizer = None
    if config.uses_source(cfg):
        torch.manual_seed(cfg.seed)
        steps = config.warmup_steps(cfg), config.ramp_steps(cfg)
        schedule = AlphaSchedule(cfg.reg.alpha, *steps, phases, config.release_at(cfg))
        source, shape = export.build(source_spec, "source"), Shape(cfg.reg.project, cfg.reg.per_image)
        if cfg.init_source_from is not None:
            export.initialize_source(source, Path(cfg.init_source_from))
        regularizer = Regularizer(source, objective, schedule, cfg.reg.max_pressure, shape)
    rates = plain["optimizer"]
    optimization = Optimization(
        steps=cfg.trainer.max_steps,
        **rates,
        order=cfg.reg.order,
        form=cfg.reg.form,
        source_steps=cfg.reg.source_steps,
        feed=cfg.reg.feed,
        accumulate=cfg.trainer.accumulate,
        phases=phases,
    )
    computing = precision.resolve(cfg.precision, cfg.channels_last, codec, strategy.device_type(cfg))
    identity = {"backbone": spec.target, **{f"backbone.{k}": v for k, v in spec.arguments.items()}}
    identity |= {"configuration": config.config_hash(cfg)}
    module = RegularizedCodec(
        codec,
        objective,
        regularizer,
        optimization,
        cfg.seed,
        identity,
        computing.channels_last,
        guard.Guard(guard.Settings(**plain["guard"])),
    )
    return module, spec, source_spec


def _fit(
    cfg: DictConfig, run_dir: Path, module: RegularizedCodec, ckpt: Path | None, stopwatch: Stopwatch
) -> Counts | None:
    """Train to the last step; the guard's counts if the run must go back."""
    from lightning.pytorch import Trainer

    from regicomp import alarms, checkpointing, dashboard, guard, loggers, precision, profiling
    from regicomp.data.datamodule import CropData

    resumed_at = 0
    if ckpt:
        checkpoint = checkpointing.read(ckpt)
        resumed_at = int(checkpoint["global_step"])
        if resumed_at >= cfg.trainer.max_steps:  # killed after training and before the record
            module.load_state_dict(checkpoint["state_dict"])
            return None
    computing = precision.resolve(cfg.precision, cfg.channels_last, module.codec, strategy.device_type(cfg))
    if cfg.compile:
        precision.compile_networks(module.codec, module.regularizer.source if module.regularizer else None)
    data = CropData(cfg.data, cfg.trainer.max_steps, cfg.seed, config.phases_of(cfg))
    first = ranks.rank() == 0
    written: list[Any] = [loggers.MetricsCsv(run_dir / "metrics.csv", resumed_at)] if first else []
    if cfg.logger.wandb and first:
        plain: Any = OmegaConf.to_container(cfg, resolve=True)
        written.append(dashboard.start(run_dir, cfg.logger.project, plain, config.sweep_name()))
    if ckpt and first:
        log.info("going on from %s, update %d of %d", ckpt, resumed_at, cfg.trainer.max_steps)
    processes = strategy.trainer_settings(cfg)
    processes["plugins"].append(checkpointing.AtomicCheckpointIO())
    watch = guard.Watch(alarms.Alarms(cfg.guard.alarm_rows))
    trainer = Trainer(
        **processes,
        precision=computing.lightning,
        max_steps=cfg.trainer.max_steps,
        max_epochs=-1,
        log_every_n_steps=cfg.trainer.log_every,
        logger=written,
        callbacks=[
            stopwatch,
            watch,
            checkpointing.Checkpoints(run_dir / "checkpoints", cfg.trainer.checkpoint_every),
            loggers.RateBar(refresh_rate=cfg.trainer.log_every),
            *([profiling.FirstUpdate()] if cfg.compile and first else []),
            *([profiling.Profile(run_dir)] if cfg.profile else []),
        ],
        enable_checkpointing=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        deterministic=cfg.deterministic,
        default_root_dir=run_dir,
    )
    trainer.fit(module, datamodule=data, ckpt_path=ckpt, weights_only=True)
    return watch.tripped


def _timing(seconds: float) -> dict[str, float]:
    """The record's `timing` entry: what the figures depend on beside the machine."""
    import torch

    from regicomp import collective

    return {"training_seconds": seconds, "processes": collective.world(), "threads": torch.get_num_threads()}


def _about(cfg: DictConfig, module: RegularizedCodec) -> dict[str, Any]:
    """The record's `run` entry."""
    from regicomp import record

    return {
        "backbone": config.label("backbone", cfg.backbone._target_),
        "source": config.label("source", cfg.source._target_) if config.uses_source(cfg) else None,
        "alpha": cfg.reg.alpha,
        "lmbda": config.lmbda(cfg),
        "distortion": cfg.objective.distortion,
        "quality": cfg.quality,
        "size": cfg.size,
        "variant": config.variant(cfg),
        "seed": cfg.seed,
        "steps": cfg.trainer.max_steps,
        "data": config.training_data(cfg),
        "crop": cfg.data.crop,
        "batch_size": cfg.data.batch_size,
        "parameters": sum(p.numel() for p in module.codec.parameters()),
        "source_parameters": sum(p.numel() for p in module.theta),
        "skipped_updates": module.guard.read().skipped,
        "rollbacks": module.guard.read().lowered,
        "config_hash": config.config_hash(cfg),
        "versions": record.versions(),
    }


@hydra.main(version_base="1.3", config_path=str(config.conf_dir()), config_name="train")
def main(cfg: DictConfig) -> None:
    """Entry point."""
    with interrupts.requeued():
        if config.in_sweep():
            with sweep.kept_apart(cfg, config.run_dir()):
                _checked(sweep.resuming(cfg))
        else:
            with files.told_in_one_line():
                _checked(cfg)


def _checked(cfg: DictConfig) -> None:
    rules.check_train(cfg)
    config.quiet_libraries()
    train(cfg, config.run_dir())


if __name__ == "__main__":
    main()
