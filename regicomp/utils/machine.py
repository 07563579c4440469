"""The name of the machine that computes, which figures of time and last digits depend on."""

from __future__ import annotations

import os
import platform
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")


def name(device_type: str) -> str:
    """Such as "NVIDIA H100 80GB HBM3", or "2 cores of AMD EPYC".

    Args:
        device_type: "cuda" for the GPU of this process; of any other the processor is named.
    """
    if device_type == "cuda":
        import torch

        return torch.cuda.get_device_name()
    return f"{_cores()} cores of {processor(_CPUINFO.read_text() if _CPUINFO.exists() else '')}"


def processor(cpuinfo: str) -> str:
    """The first processor's name in the text of /proc/cpuinfo; where it has none, what Python knows of it."""
    lines = (line.partition(":") for line in cpuinfo.splitlines())
    names = (value.strip() for key, _, value in lines if key.strip() == "model name")
    return next(names, "") or platform.processor() or platform.machine() or "an unknown processor"


def _cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
