"""A worker of a sweep that was killed leaves; one whose sweep lives stays."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

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
