"""Sweeps by other launchers than Hydra's own: several runs at a time, and jobs that are pre-empted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import tiny_run

pytest.importorskip("submitit")

SEEDS = (0, 1)


def command(folder: Path, out: Path, *overrides: str) -> list[str]:
    """A sweep of tiny runs over two seeds."""
    steps = ("trainer.max_steps=30", "trainer.checkpoint_every=5", "trainer.log_every_n_steps=1", "reg.warmup_steps=5")
    seeds = f"seed={','.join(map(str, SEEDS))}"
    return tiny_run.command(folder, "-m", f"hydra.sweep.dir={out}", "strategy=cpu", *steps, seeds, *overrides)


def _records(out: Path) -> dict[int, Any]:
    found = {}
    for path in out.rglob("results.json"):
        record = json.loads(path.read_text())
        for entry in record["testsets"].values():
            for image in entry["images"]:
                del image["encode_seconds"], image["decode_seconds"]
        found[record["run"]["seed"]] = {**record, "timing": record["timing"]["threads"]}
    return found


def _submitted(process: subprocess.Popen[str]) -> list[psutil.Process]:
    def is_job(child: psutil.Process) -> bool:
        try:
            return "submitit.core._submit" in child.cmdline()
        except psutil.Error:
            return False

    return [child for child in psutil.Process(process.pid).children(recursive=True) if is_job(child)]


def _wait_for(what: Any, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 200
    while not what() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)


def _preempted(folder: Path, out: Path) -> str:
    """A sweep of two jobs on this machine, all that run pre-empted after the first checkpoint; what was said."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // 2))}
    process = subprocess.Popen(
        command(folder, out, "hydra/launcher=submitit_local"),
        **{"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "env": environment},
    )
    try:
        _wait_for(lambda: len(list(out.rglob("step-*.ckpt"))) >= 1, process)
        jobs = [job for job in _submitted(process) if job.is_running()]
        for job in jobs:
            job.send_signal(signal.SIGUSR2)
        said, _ = process.communicate(timeout=250)
    finally:
        if process.poll() is None:
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
            process.kill()
            process.communicate()
    said += "".join(path.read_text() for path in (out / ".submitit").rglob("*.out"))
    assert jobs
    assert process.returncode == 0, said
    return said


def test_a_preempted_job_is_requeued_and_goes_on(folder: Path, tmp_path: Path) -> None:
    said = _preempted(folder, tmp_path)
    assert "preempted" in said
    assert "going on from" in said
    assert sorted(_records(tmp_path)) == list(SEEDS)
    for path in tmp_path.rglob("metrics.csv"):
        assert [row.partition(",")[0] for row in path.read_text().splitlines()[1:]] == [str(k) for k in range(1, 31)]


@pytest.mark.slow
def test_runs_at_a_time_share_the_cores_and_equal_preempted_jobs(folder: Path, tmp_path: Path) -> None:
    """joblib runs both at once with half of the cores each; pre-empted jobs leave the same records bit for bit."""
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    done = subprocess.run(
        command(folder, tmp_path / "joblib", "hydra/launcher=joblib"),
        **{"capture_output": True, "text": True, "timeout": 280, "env": environment},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Warning" not in done.stdout + done.stderr
    expected = _records(tmp_path / "joblib")
    assert sorted(expected) == list(SEEDS)
    assert {record["timing"] for record in expected.values()} == {max(1, (os.cpu_count() or 1) // 2)}
    _preempted(folder, tmp_path / "submitit")
    assert _records(tmp_path / "submitit") == expected


@pytest.mark.slow
def test_a_killed_sweep_takes_its_workers_along(folder: Path, tmp_path: Path) -> None:
    """SIGKILL of the launcher alone: its workers checkpoint and leave, and the same command goes on at once after."""
    sweep = [*command(folder, tmp_path / "sweep", "hydra/launcher=joblib"), "trainer.max_steps=300"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(sweep, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    _wait_for(lambda: len(list(tmp_path.rglob("step-*.ckpt"))) >= 1, process)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    _, left = psutil.wait_procs(workers, timeout=30)
    assert not left
    assert not _records(tmp_path / "sweep")
    done = subprocess.run(sweep, capture_output=True, text=True, timeout=280, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert sorted(_records(tmp_path / "sweep")) == list(SEEDS)
