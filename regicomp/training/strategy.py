"""`strategy` of the configuration as Lightning's settings: accelerator, devices, machines, gradients shared or not."""

from __future__ import annotations

import inspect
from typing import Any

from omegaconf import DictConfig

from regicomp.config import settings as config
from regicomp.distributed import environment


def device_type(cfg: DictConfig) -> str:
    """ "cuda" or "cpu".

    Raises:
        ValueError: a GPU is asked for and there is none.
    """
    import torch

    if cfg.strategy.accelerator == "gpu" and not torch.cuda.is_available():
        raise ValueError(
            "`strategy` (=gpu) needs a CUDA GPU and this machine has none; strategy=cpu or strategy=ddp_cpu runs here"
        )
    return "cuda" if cfg.strategy.accelerator != "cpu" and torch.cuda.is_available() else "cpu"


def devices(cfg: DictConfig) -> int:
    """Processes on this machine; a GPU each where there are GPUs.

    Raises:
        ValueError: the machine lacks them, or they cannot share the batch out evenly.
    """
    asked = cfg.strategy.devices
    if cfg.strategy.accelerator != "gpu":
        return int(asked)
    device_type(cfg)
    import torch

    there = torch.cuda.device_count()
    if asked != "auto" and asked > there:
        raise ValueError(f"`strategy.devices` (={asked}) must be at most {there}, the GPUs of this machine")
    found = there if asked == "auto" else int(asked)
    parts = found * cfg.strategy.num_nodes * cfg.trainer.accumulate
    for phase in config.phases_of(cfg).phases:
        if phase.batch_size % parts:
            raise ValueError(
                f"`data.batch_size` (={phase.batch_size}) must be a multiple of {parts}, the processes (here a GPU "
                "each) × `trainer.accumulate`: it is the batch of all together"
            )
    return found


def trainer_settings(cfg: DictConfig) -> dict[str, Any]:
    """Arguments of Lightning's Trainer, `plugins` among them."""
    from lightning.fabric.plugins.environments.lightning import LightningEnvironment

    # Where we start the processes, no other environment is guessed: inside a Slurm job of one task Lightning would
    # take the signals that the launcher of a sweep lives by.
    return {
        "accelerator": cfg.strategy.accelerator,
        "devices": devices(cfg),
        "num_nodes": cfg.strategy.num_nodes,
        "strategy": _strategy(cfg),
        "plugins": [] if environment.started_elsewhere() else [LightningEnvironment()],
    }


def _strategy(cfg: DictConfig) -> Any:
    from lightning.pytorch.strategies import DDPStrategy
    from torch.nn.parallel import DistributedDataParallel

    if cfg.strategy.strategy != "ddp":
        return "auto"
    # Every parameter has a gradient in every update, and every buffer is equal in all processes. The setting for
    # buffers has another name from torch 2.15 on.
    known = inspect.signature(DistributedDataParallel.__init__).parameters
    buffers = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    settings: dict[str, Any] = {"find_unused_parameters": False, "gradient_as_bucket_view": True, buffers: False}
    return DDPStrategy(**settings)
