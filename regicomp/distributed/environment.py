"""The rank of this process, from the environment that its launcher set."""

from __future__ import annotations

import os

_TOLD_BY_US = ("LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "WORLD_SIZE")


def started_elsewhere() -> bool:
    """Whether every process of the run was started from outside: by torchrun, or by srun with several tasks."""
    by_torchrun = "TORCHELASTIC_RUN_ID" in os.environ or ("RANK" in os.environ and "LOCAL_RANK" in os.environ)
    return by_torchrun or ("SLURM_PROCID" in os.environ and int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1)


def is_first() -> bool:
    """Whether this is the run's first process, which writes and tells; known before torch is loaded."""
    if "RANK" in os.environ:
        return int(os.environ["RANK"]) == 0
    if started_elsewhere():
        return int(os.environ["SLURM_PROCID"]) == 0
    return int(os.environ.get("LOCAL_RANK", 0)) == int(os.environ.get("NODE_RANK", 0)) == 0


def job_name(now: str) -> str:
    """Resolver `job_name`: the same string in every process of a run: `now`, or the id under which all were started."""
    if started_elsewhere() or "NODE_RANK" in os.environ:
        name = os.environ.get("TORCHELASTIC_RUN_ID", "none")
        if name == "none":
            name = os.environ.get("SLURM_JOB_ID") or os.environ.get("MASTER_PORT", "0")
        return f"job-{name}"
    return now
