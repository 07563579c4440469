"""Memory of the C library's allocator: kept by the process instead of fetched from the system anew in each update."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # malloc.h
_PAD = 64 * 2**20  # bytes fetched at a time


def keep_freed() -> bool:
    """Make glibc's malloc keep what is freed, for this process and until it ends.

    By default it maps a tensor of some megabytes anew each time, and the system fills its pages with zeros at their
    first touch: a fifth of the time of a training step on a CPU (experiments/recipe). Peaks of memory stay about the
    same; what a process holds between them no longer falls.

    Returns:
        Whether the allocator is glibc's and took the settings.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None or not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"):
        return False
    return all(mallopt(key, value) == 1 for key, value in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1), (_TOP_PAD, _PAD)))
