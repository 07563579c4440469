"""The death of a process that loads data, and its want of shared memory, are errors that say so."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import pytest

from regicomp.data import datamodule

KILLED = "DataLoader worker (pid 7) is killed by signal: Killed. \nmore"
NO_MEMORY = (
    "Caught RuntimeError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
    "RuntimeError: unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)\n"
)


@pytest.mark.parametrize(("error", "reason"), [(KILLED, "killed by signal: Killed."), (NO_MEMORY, "(28)")])
def test_a_worker_s_failure_is_told(error: str, reason: str) -> None:
    with pytest.raises(ChildProcessError) as told, datamodule.worker_failures():
        raise RuntimeError(error)
    text = str(told.value)
    assert text.startswith("a process that loads data failed, so the run ends: ")
    assert reason in text
    assert "data.workers=0" in text
    assert "\n" not in text


def test_processes_are_not_started_without_room_for_their_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=4096))
    with pytest.raises(ChildProcessError, match="/dev/shm is full"):
        datamodule._check_shared_memory(workers=1)
    datamodule._check_shared_memory(workers=0)


def test_other_failures_stay_as_they_are() -> None:
    with pytest.raises(RuntimeError, match=r"^something else$"), datamodule.worker_failures():
        raise RuntimeError("something else")
