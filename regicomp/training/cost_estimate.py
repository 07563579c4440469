"""The cost of a run, estimated in advance: `plan=true` measures ten real updates of each batch shape and stops."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple

from regicomp.config.settings import Settings
from regicomp.launch.sweep import PLAN_FILE
from regicomp.utils import files
from regicomp.utils.cli import spell

UPDATES = 10


class Plan(NamedTuple):
    """Costs of one run."""

    parameters: int  # of the codec
    source_parameters: int  # of q_θ
    tflops_an_update: float  # forward and backward, both networks, at the first phase's batch
    pflops: float  # of the whole run
    memory_gib: float  # peak of a process: the GPU's, or without one the process's own
    crops: int  # cut in the whole run
    crops_gib: float  # as 8-bit pixels
    images: int  # in the training set
    processes: int
    seconds: float  # estimated for the training

    def line(self) -> str:
        """One line for the terminal."""
        return (
            f"{self.parameters / 1e6:.2f} M parameters + {self.source_parameters / 1e6:.2f} M of q_θ; "
            f"{self.tflops_an_update:.3f} TFLOP an update, {self.pflops:.3f} PFLOP in all; "
            f"{self.memory_gib:.2f} GiB a process × {self.processes}; "
            f"{self.crops} crops ({self.crops_gib:.1f} GiB of pixels) from {self.images} images; "
            f"training takes about {spell(self.seconds)}"
        )


def make(settings: Settings, run_dir: Path, module: Any) -> dict[str, Any]:
    """Measure, print and write the plan of one run; it trains nothing that is kept.

    Args:
        settings: of the run.
        run_dir: where plan.json is written.
        module: the run's `RegularizedCodec`, which is spent.
    """
    from regicomp.config.phases import Phases
    from regicomp.data.datamodule import CropData
    from regicomp.distributed import collectives, environment
    from regicomp.training import profiling

    steps, phases = settings.trainer.max_steps, settings.phases.phases
    if module.regularizer is not None:  # from the first update on as after the warm-up
        schedule = module.regularizer.schedule
        largest = max(phase.alpha for phase in phases)
        module.regularizer.schedule = schedule._replace(alpha=largest, warmup_steps=0, ramp_steps=0, phases=None)
    ends = [*(phase.start for phase in phases[1:]), steps]
    seconds_of: dict[tuple[int, int], float] = {}
    flops_of: dict[int, float] = {}
    seconds = flops = 0.0
    data: Any = None
    for phase, end in zip(phases, ends, strict=True):
        shape = (phase.crop, phase.batch_size)
        if shape not in seconds_of:
            data = CropData(settings.data, UPDATES + 2, settings.seed, Phases([phase._replace(start=0)]))
            flops_of.setdefault(phase.crop, sum(profiling.flops_a_crop(module, phase.crop)))
            seconds_of[shape] = _seconds_an_update(settings, module, data)
        seconds += (end - phase.start) * seconds_of[shape]
        flops += (end - phase.start) * phase.batch_size * flops_of[phase.crop]
    crops = sum((end - phase.start) * phase.batch_size for phase, end in zip(phases, ends, strict=True))
    pixels = sum((end - p.start) * p.batch_size * p.crop**2 for p, end in zip(phases, ends, strict=True))
    found = Plan(
        parameters=sum(p.numel() for p in module.codec.parameters()),
        source_parameters=sum(p.numel() for p in module.theta),
        tflops_an_update=phases[0].batch_size * flops_of[phases[0].crop] / 1e12,
        pflops=flops / 1e15,
        memory_gib=profiling.peak_memory_gib(),
        crops=crops,
        crops_gib=3 * pixels / 2**30,
        images=len(data.dataset.pool),
        processes=collectives.world(),
        seconds=seconds,
    )
    if environment.is_first():
        files.write_json(run_dir / PLAN_FILE, found._asdict())
        print(f"plan: {found.line()}", flush=True)
    return found._asdict()


def _seconds_an_update(settings: Settings, module: Any, data: Any) -> float:
    """Median seconds of real updates on the run's own crops, processes and precision."""
    import itertools
    import statistics

    from lightning.pytorch import Callback, Trainer

    from regicomp.backbone import precision
    from regicomp.training import strategy

    marks: list[float] = []

    class Marks(Callback):
        def on_train_batch_end(
            self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
        ) -> None:
            if trainer.strategy.root_device.type == "cuda":
                import torch

                torch.cuda.synchronize()
            marks.append(time.perf_counter())

    computing = precision.resolve(settings.precision, settings.channels_last, strategy.device_type(settings.strategy))
    precision.set_backends(computing)
    Trainer(
        **strategy.trainer_settings(settings),
        precision=computing.lightning,
        max_steps=UPDATES + 2,
        max_epochs=-1,
        logger=False,
        callbacks=[Marks()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    ).fit(module, datamodule=data)
    return statistics.median(b - a for a, b in itertools.pairwise(marks[1:]))
