"""`strategy` of the configuration as Lightning's settings: accelerator, devices, machines, gradients shared or not."""

from __future__ import annotations

import inspect
from typing import Any

from regicomp.config.settings import Settings, Strategy
from regicomp.distributed import environment


def device_type(strategy: Strategy) -> str:
    """ "cuda" or "cpu".

    Raises:
        ValueError: a GPU is asked for and there is none.
    """
    import torch

    if strategy.accelerator == "gpu" and not torch.cuda.is_available():
        raise ValueError(
            "`strategy` (=gpu) needs a CUDA GPU and this machine has none; strategy=cpu or strategy=ddp_cpu runs here"
        )
    return "cuda" if strategy.accelerator != "cpu" and torch.cuda.is_available() else "cpu"


def devices(settings: Settings) -> int:
    """Processes on this machine; a GPU each where there are GPUs.

    Raises:
        ValueError: the machine lacks them, or they cannot share the batch out evenly.
    """
    strategy = settings.strategy
    asked = strategy.devices
    if strategy.accelerator != "gpu":
        return int(asked)
    device_type(strategy)
    import torch

    there = torch.cuda.device_count()
    if isinstance(asked, int) and asked > there:
        raise ValueError(f"`strategy.devices` (={asked}) must be at most {there}, the GPUs of this machine")
    found = asked if isinstance(asked, int) else there
    parts = found * strategy.num_nodes * settings.trainer.accumulate_grad_batches
    for phase in settings.phases.phases:
        if phase.batch_size % parts:
            raise ValueError(
                f"`data.batch_size` (={phase.batch_size}) must be a multiple of {parts}, the processes (here a GPU "
                "each) × `trainer.accumulate_grad_batches`: it is the batch of all together"
            )
    return found


def trainer_settings(settings: Settings) -> dict[str, Any]:
    """Arguments of Lightning's Trainer, `plugins` among them."""
    from lightning.fabric.plugins.environments.lightning import LightningEnvironment

    # Where we start the processes, no other environment is guessed: inside a Slurm job of one task Lightning would
    # take the signals that the launcher of a sweep lives by.
    return {
        "accelerator": settings.strategy.accelerator,
        "devices": devices(settings),
        "num_nodes": settings.strategy.num_nodes,
        "strategy": _strategy(settings.strategy.strategy),
        "plugins": [] if environment.started_elsewhere() else [LightningEnvironment()],
    }


def _strategy(name: str) -> Any:
    from lightning.pytorch.strategies import DDPStrategy
    from torch.nn.parallel import DistributedDataParallel

    if name != "ddp":
        return "auto"
    # Every parameter has a gradient in every update, and every buffer is equal in all processes. The setting for
    # buffers has another name from torch 2.15 on.
    known = inspect.signature(DistributedDataParallel.__init__).parameters
    buffers = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    arguments: dict[str, Any] = {"find_unused_parameters": False, "gradient_as_bucket_view": True, buffers: False}
    return DDPStrategy(**arguments)
