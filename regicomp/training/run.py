"""One run from its configuration to its record."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from regicomp.config import checks, extension
from regicomp.config.settings import Settings, as_yaml, differing
from regicomp.distributed import environment, processes
from regicomp.launch import signals
from regicomp.training import about, strategy
from regicomp.training.build import build_networks
from regicomp.utils import cli, files, memory

if TYPE_CHECKING:
    from regicomp.data.testsets import TestSet
    from regicomp.training.checkpointing import Stopwatch
    from regicomp.training.cuda_graph import UpdateGraphs
    from regicomp.training.early_stopping import Stop
    from regicomp.training.module import RegularizedCodec
    from regicomp.training.nonfinite_guard import Counts
    from regicomp.training.validation import Validation


log = logging.getLogger(__name__)


def train(settings: Settings, run_dir: Path) -> dict[str, Any]:
    """Train, export, measure, and write the record of one run.

    Args:
        settings: of the run.
        run_dir: where everything is written, used by no other run meanwhile (launch/run_lock.py); a finished run there
            is reported, not repeated.

    Returns:
        The record (results.json).

    Raises:
        ValueError: a setting, a folder, an image or a checkpoint is not as expected.
        SystemExit: a signal asked the process to leave (signals.REQUEUE, signals.INTERRUPTED).
    """
    told = {"config": settings.composed, "run_dir": str(run_dir.resolve())}
    with processes.others(told, strategy.devices(settings), settings.strategy.num_nodes):
        return _train(settings, run_dir)


def take_part(settings: Settings, run_dir: Path) -> None:
    """The run in a process that `processes.others` started: train with the first, measure its share, write nothing."""
    cli.quiet_libraries()
    logging.getLogger("regicomp").setLevel(logging.ERROR)  # the first process tells
    try:
        with signals.requeued():
            _train(settings, run_dir)
    except SystemExit as left:
        if left.code not in (signals.REQUEUE, signals.INTERRUPTED):  # which the first process tells
            raise


def _train(settings: Settings, run_dir: Path) -> dict[str, Any]:
    from regicomp.data import testsets  # imports no torch: a missing folder is told at once

    checks.check_files(settings)
    checks.check_loggers(settings)
    data = settings.data
    found = testsets.find(settings.testsets, data.root, data.test_dirs, settings.evaluation.images)
    from regicomp.distributed import collectives
    from regicomp.training import checkpointing, cost_estimate, trackers

    if (known := _finished(settings, run_dir)) is not None:
        return known
    try:
        module = build_networks(settings)
        shorter = partial(_shorter_run, settings, module.identity)
        ckpt = checkpointing.find(settings.ckpt, run_dir / "checkpoints", module.identity, shorter)
        if settings.plan:
            return cost_estimate.make(settings, run_dir, module)
        _put_aside(settings, run_dir, ckpt)
        _tell(settings, run_dir)
        trained = _fit_or_go_back(settings, run_dir, module, ckpt, _validated_on(settings))
        return _measure(settings, run_dir, trained, found)
    finally:
        trackers.finish()
        collectives.leave()


def _finished(settings: Settings, run_dir: Path) -> dict[str, Any] | None:
    """The record of these settings, if `run_dir` holds it already and the run may go on there.

    Raises:
        ValueError: it holds the record of other settings, and not of a shorter run that these can extend.
    """
    from regicomp.evaluation import record

    path = run_dir / "results.json"
    if not path.exists() or settings.ckpt != "last":
        return None
    known = record.read(path)
    steps = known["run"]["steps"]
    if known["run"]["config_hash"] != settings.config_hash:
        early = known["run"].get("stopped_early")
        if known["run"]["config_hash"] == extension.hash_with(settings, early["max_steps"] if early else steps):
            if why := extension.obstacle(settings, steps, early is not None):
                raise ValueError(
                    f"`trainer.max_steps` (={settings.trainer.max_steps}) cannot extend the finished run of {steps} "
                    f"updates in {run_dir}: {why}"
                )
            return None
        names = ", ".join(f"`{name}`" for name in differing(settings, run_dir / "config.yaml")[:8])
        raise ValueError(
            f"`hydra.run.dir` (={run_dir}) holds the finished run of another configuration, which differs in {names}; "
            "choose another folder"
        )
    if environment.is_first():
        log.info("%s holds the finished run of this configuration%s", run_dir, record.stopped_early(known["run"]))
        record.print_table(known)
    return known


def _shorter_run(settings: Settings, identity: dict[str, Any], steps: int) -> dict[str, Any] | None:
    """The identity of the run of `steps` updates that these settings extend; None if they cannot."""
    if extension.obstacle(settings, steps):
        return None
    return {**identity, "configuration": extension.hash_with(settings, steps)}


def _put_aside(settings: Settings, run_dir: Path, ckpt: Path | None) -> None:
    """Rename the record of the shorter run that is extended now; it is finished, this one is not.

    Raises:
        ValueError: there is no checkpoint to extend it from.
    """
    from regicomp.evaluation import record

    path = run_dir / "results.json"
    if settings.ckpt != "last" or not environment.is_first() or not path.exists():
        return
    steps = record.read(path)["run"]["steps"]
    if ckpt is None:
        raise ValueError(
            f"`hydra.run.dir` (={run_dir}) holds the finished run of {steps} updates and no checkpoint, so "
            f"`trainer.max_steps` (={settings.trainer.max_steps}) cannot extend it"
        )
    log.info("extending the finished run of %d updates; its record is results-%d.json now", steps, steps)
    path.rename(path.with_name(f"results-{steps}.json"))


def _tell(settings: Settings, run_dir: Path) -> None:
    """Say what is doubtful and write down what is run."""
    if environment.is_first():
        for line in checks.doubts(settings):
            log.warning(line)
        files.write_bytes(run_dir / "config.yaml", as_yaml(settings).encode())


class _Trained(NamedTuple):
    """The networks after the last update of a run."""

    module: RegularizedCodec
    seconds: float
    stop: Stop | None  # where the run was stopped early


def _fit_or_go_back(
    settings: Settings, run_dir: Path, module: RegularizedCodec, ckpt: Path | None, images: TestSet | None
) -> _Trained:
    """Train to the last step, from an earlier checkpoint again whenever the guard says so."""
    from regicomp.distributed import collectives
    from regicomp.training import checkpointing, trackers

    stopwatch = checkpointing.Stopwatch(ckpt)
    while True:
        with signals.while_training():
            tripped, stop = _fit(settings, run_dir, module, ckpt, stopwatch, images)
        if tripped is None:
            if module.average is not None:
                module.average.use()
            return _Trained(module, stopwatch.seconds(), stop)
        trackers.finish()
        mine = checkpointing.roll_back(run_dir / "checkpoints") if environment.is_first() else None
        ckpt = collectives.gather(mine)[0]
        module = build_networks(settings)
        if ckpt is None:
            module.guard.lowered.fill_(tripped.lowered + 1)
        log.warning("going back to %s, with α and the learning rates lowered", ckpt or "the start")


def _fit(
    settings: Settings,
    run_dir: Path,
    module: RegularizedCodec,
    ckpt: Path | None,
    stopwatch: Stopwatch,
    images: TestSet | None,
) -> tuple[Counts | None, Stop | None]:
    """Train to the last step; the guard's counts if the run must go back, and where it was stopped early."""
    from lightning.pytorch import Trainer

    from regicomp.backbone import precision
    from regicomp.data.datamodule import CropData, worker_failures
    from regicomp.training import (
        checkpoint_file,
        checkpointing,
        collapse_alarms,
        early_stopping,
        loggers,
        nonfinite_guard,
        profiling,
        silent_units,
        trackers,
    )

    resumed_at = 0
    if ckpt:
        checkpoint = checkpoint_file.read(ckpt)
        resumed_at, stop = int(checkpoint["global_step"]), early_stopping.stop_of(checkpoint)
        if resumed_at >= settings.trainer.max_steps or stop:  # killed after training and before the record
            module.load_state_dict(checkpoint["state_dict"])
            return None, stop
    device = strategy.device_type(settings.strategy)
    if device == "cpu":
        memory.keep_freed()
    computing = about.computing(settings)
    precision.set_backends(computing)
    if settings.compile:
        precision.compile_networks(module.codec, module.regularizer.source if module.regularizer else None)
    if settings.cuda_graph:
        module.graphs = _graphs(device)
    data = CropData(settings.data, settings.trainer.max_steps, settings.seed, settings.phases)
    first, levels = environment.is_first(), len(settings.rate.lambdas or ())
    written: list[Any] = [loggers.MetricsCsv(run_dir / "metrics.csv", resumed_at, levels)] if first else []
    written += trackers.start(settings, run_dir, about.run(settings, module), resumed_at) if first else []
    if settings.precision == "auto" and first:
        log.info("precision=auto is %s on this machine (docs/decisions/precision.md)", computing.lightning)
    if ckpt and first:
        log.info("going on from %s, update %d of %d", ckpt, resumed_at, settings.trainer.max_steps)
    arguments = strategy.trainer_settings(settings)
    arguments["plugins"].append(checkpoint_file.AtomicCheckpointIO())
    watch = nonfinite_guard.Watch(collapse_alarms.Alarms(settings.guard.alarm_rows))
    validating = [] if images is None else [_validation(settings, run_dir, module, images, resumed_at)]
    patience, min_delta = settings.early_stopping.patience, settings.early_stopping.min_delta
    stopping = [early_stopping.EarlyStopping(v, patience, min_delta) for v in validating if patience]
    trainer = Trainer(
        **arguments,
        precision=computing.lightning,
        max_steps=settings.trainer.max_steps,
        max_epochs=-1,
        # Lightning warns where its epoch, here the whole run, is shorter than that; the last update is logged anyway.
        log_every_n_steps=min(settings.trainer.log_every_n_steps, settings.trainer.max_steps),
        logger=written,
        callbacks=[
            stopwatch,
            watch,
            *validating,
            *stopping,
            checkpointing.Checkpoints(
                run_dir / "checkpoints", settings.trainer.checkpoint_every, lambda: any(s.stop for s in stopping)
            ),
            loggers.RateBar(),
            *([] if settings.compile else [silent_units.SilentUnits(settings.trainer.max_steps, tell=first)]),
            *([profiling.FirstUpdate()] if settings.compile and first else []),
            *([profiling.Profile(run_dir)] if settings.profile else []),
        ],
        enable_checkpointing=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        deterministic=settings.deterministic,
        benchmark=device == "cuda" and not settings.deterministic,  # crops have few shapes: cuDNN may try its kernels
        default_root_dir=run_dir,
    )
    with worker_failures():
        trainer.fit(module, datamodule=data, ckpt_path=ckpt, weights_only=True)
    return watch.tripped, next((s.stop for s in stopping), None)


def _graphs(device: str) -> UpdateGraphs:
    """Of the updates.

    Raises:
        ValueError: there is no GPU.
    """
    from regicomp.training.cuda_graph import UpdateGraphs

    if device != "cuda":
        raise ValueError("`cuda_graph` (=true) must be false: this machine has no CUDA GPU")
    return UpdateGraphs()


def _validated_on(settings: Settings) -> TestSet | None:
    """The images of validations; None where there are none."""
    from regicomp.data import testsets

    if not settings.trainer.val_every:
        return None
    name, data = settings.validation.testset, settings.data
    names, folders = (settings.testsets, data.test_dirs) if name is None else ([name], [])
    chosen = testsets.find(names, data.root, folders)[0]  # whole, whatever `evaluation.images` is
    return chosen._replace(images=chosen.images[: settings.validation.images])


def _validation(
    settings: Settings, run_dir: Path, module: RegularizedCodec, images: TestSet, resumed_at: int
) -> Validation:
    from regicomp.image_codec import model_file
    from regicomp.training import loggers, validation

    lambdas = settings.rate.lambdas

    def export(path: Path, step: int) -> None:
        so_far = {**about.run(settings, module), "steps": step}
        model_file.save_codec(path, module.codec, settings.backbone, so_far)

    written = None
    if environment.is_first():
        columns = validation.columns(len(lambdas or ()))
        written = loggers.MetricsCsv(run_dir / "validation.csv", resumed_at, columns=columns)
    return validation.Validation(
        run_dir,
        settings.trainer.val_every,
        images,
        lambdas or [settings.objective.lmbda],
        settings.objective.distortion,
        export,
        _named(settings),
        written,
    )


def _named(settings: Settings) -> tuple[str, ...]:
    """Modules that the command line names: what it names may be read from the run's files, too."""
    return tuple(s.target.partition(".")[0] for s in (settings.backbone, settings.source) if s is not None)


def _measure(settings: Settings, run_dir: Path, of: _Trained, testsets: list[TestSet]) -> dict[str, Any]:
    """Export what was trained, measure the exported files, and write the record."""
    from regicomp.distributed import collectives
    from regicomp.evaluation import measure, model_card, round_trip, workers
    from regicomp.image_codec import model_file
    from regicomp.training import trackers

    module = of.module
    entry = about.run(settings, module) | (of.stop.about(settings.trainer.max_steps) if of.stop else {})
    source_file = run_dir / "source.safetensors" if module.regularizer is not None else None
    trained = workers.Files(run_dir / "codec.safetensors", source_file, trusted=_named(settings))
    if environment.is_first():
        model_file.save_codec(trained.codec, module.codec, settings.backbone, entry)
        if trained.source is not None and module.regularizer is not None and settings.source is not None:
            model_file.save_source(trained.source, module.regularizer.source, settings.source, entry)
    elif collectives.world() == 1:  # nothing was left to train, so the processes never met: the first measures
        return {}
    collectives.gather(None)  # the files are written
    codec = round_trip.Codec(model_file.load_codec(trained.codec, trained.trusted))
    source = None if trained.source is None else model_file.load_source(trained.source, trained.trusted).network
    with workers.processes(settings.evaluation.workers, trained) as helpers:
        measured = measure.measure(run_dir, codec, source, testsets, entry, about.timing(settings, of.seconds), helpers)
    if environment.is_first():
        model_card.write(trained.codec, trained.trusted)
        trackers.log_record(settings, run_dir, measured.record, measured.classical)
    return measured.record
