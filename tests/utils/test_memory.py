"""Freed memory is kept: in a process of its own, since the setting cannot be undone."""

from __future__ import annotations

import subprocess
import sys

import pytest

_FAULTS = """
import resource
import torch
from regicomp.utils import memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(4_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

before = faults()
print(memory.keep_freed(), before, (faults(), faults())[1])
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's malloc is Linux's")
def test_memory_is_fetched_from_the_system_once() -> None:
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", _FAULTS], capture_output=True, text=True, check=True)
    kept, before, after = done.stdout.split()
    if kept == "False":
        pytest.skip("this C library is not glibc")
    assert int(before) > 100
    assert int(after) < int(before) / 10
