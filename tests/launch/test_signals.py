"""Signals: Ctrl-C is like SIGTERM, the group's are left to the run, and a killed sweep's workers leave."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

SCRIPT = """
import multiprocessing, os, sys, time
from pathlib import Path
from regicomp.launch import signals

def run(folder: Path, stay: bool) -> None:
    with signals.requeued(), signals.while_training():
        (folder / "begun").touch()
        end = time.monotonic() + (2 if stay else 60)
        while not signals.asked() and time.monotonic() < end:
            time.sleep(0.05)
        (folder / ("asked" if signals.asked() else "stayed")).touch()

if __name__ == "__main__":
    worker = multiprocessing.get_context("spawn").Process(target=run, args=(Path(sys.argv[1]), "stay" in sys.argv))
    worker.start()
    worker.join()
"""


def _wait_for(path: Path) -> None:
    end = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < end, f"no {path.name}"
        time.sleep(0.05)


def _start(folder: Path, *more: str) -> subprocess.Popen[bytes]:
    script = folder / "sweep.py"
    script.write_text(SCRIPT)
    process = subprocess.Popen([sys.executable, str(script), str(folder), *more])
    _wait_for(folder / "begun")
    return process


def test_a_worker_leaves_when_its_sweep_is_killed(tmp_path: Path) -> None:
    process = _start(tmp_path)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    _, left = psutil.wait_procs(workers, timeout=30)
    assert not left
    assert (tmp_path / "asked").exists()


def test_a_worker_stays_while_its_sweep_lives(tmp_path: Path) -> None:
    assert _start(tmp_path, "stay").wait(60) == 0
    assert (tmp_path / "stayed").exists()
    assert not (tmp_path / "asked").exists()


LEAVING = """
import os, sys, time
from pathlib import Path
from regicomp.launch import signals

worker = os.fork()
if worker == 0:
    signals.left_alone()
    Path("ready").touch()
    time.sleep(60)
    os._exit(0)
with signals.requeued("X goes on"):
    try:
        with signals.while_training():
            while not Path("ready").exists():
                time.sleep(0.02)
            Path("begun").touch()
            while not signals.asked() or "hang" in sys.argv:
                time.sleep(0.02)
            assert os.waitpid(worker, os.WNOHANG) == (0, 0), "the worker did not outlive the signal"
    finally:
        os.kill(worker, 9)
"""


def _leave(folder: Path, *numbers: signal.Signals, hang: bool = False) -> tuple[int, str]:
    """Exit status and words of a process whose group is sent signals while it trains with a worker."""
    process = subprocess.Popen(
        [sys.executable, "-c", LEAVING, *(["hang"] if hang else [])],
        **{"cwd": folder, "stderr": subprocess.PIPE, "text": True, "start_new_session": True},
    )
    _wait_for(folder / "begun")
    for number in numbers:
        os.killpg(process.pid, number)
        time.sleep(0.3)
    try:
        _, told = process.communicate(timeout=60)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, told


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 75), (signal.SIGUSR1, 75)])
def test_a_signal_to_the_group_is_the_run_s(tmp_path: Path, number: signal.Signals, status: int) -> None:
    left, told = _leave(tmp_path, number)
    assert left == status, told
    assert told.count("\n") == 1
    assert "X goes on" in told


def test_a_second_interrupt_ends_at_once(tmp_path: Path) -> None:
    left, told = _leave(tmp_path, signal.SIGINT, signal.SIGINT, hang=True)
    assert left == -signal.SIGINT
    assert "ending at once" in told


def test_a_worker_s_second_sigterm_ends_it(tmp_path: Path) -> None:
    """DataLoader ends a worker so that does not end by itself."""
    script = "from regicomp.launch import signals; import time; signals.left_alone(); print(flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == -signal.SIGTERM
    process.stdout.close()
