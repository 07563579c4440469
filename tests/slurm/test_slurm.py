"""A sweep as a job array of a real Slurm, pre-empted and requeued: `make test-slurm`."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import node
import pytest
from omegaconf import OmegaConf

pytest.importorskip("submitit")
pytestmark = [
    pytest.mark.slurm,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(bool(node.missing()), reason="Debian's slurm-wlm and munge are not installed"),
]

STEPS = 24
FOUR_RUNS = ("quality=1,2", "reg.alpha=0,0.1")
TWO_RUNS = ("seed=0,1",)
_SECONDS = 900  # for a sweep, on a machine that is busy with other work


@pytest.fixture(scope="module")
def slurm() -> Iterator[node.Node]:
    """A Slurm of this machine alone."""
    with node.running() as found:
        yield found


def command(folder: Path, out: Path, *overrides: str) -> list[str]:
    """A sweep of tiny runs."""
    return [
        *(sys.executable, "-m", "regicomp.train", "-m", f"hydra.sweep.dir={out}", "size=tiny", "data=folder"),
        *(f"data.train_dir={folder}", f"data.test_dirs=[{folder}]", "data.crop=64", "data.batch_size=2"),
        *("precision=float32", "logger=csv", "strategy=cpu", f"trainer.max_steps={STEPS}"),
        *("trainer.checkpoint_every=4", "trainer.log_every=1", "reg.warmup_steps=4", *overrides),
    ]


class Sweep:
    """A sweep that waits for its jobs of the cluster."""

    def __init__(self, slurm: node.Node, folder: Path, out: Path, *overrides: str) -> None:
        self.slurm, self.out = slurm, out
        environment = {**slurm.environment, "OMP_NUM_THREADS": "1"}
        cluster = ("hydra/launcher=submitit_slurm", "hydra.launcher.cpus_per_task=1")
        self.process = subprocess.Popen(
            command(folder, out, *cluster, *overrides),
            **{"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "env": environment},
        )

    def until(self, what: Callable[[], Any]) -> Any:
        """Wait for something; its value."""
        deadline = time.monotonic() + _SECONDS
        while not (found := what()) and self.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        assert found, self.process.communicate()[0] if self.process.poll() is not None else "too slow"
        return found

    def training(self) -> list[str]:
        """Ids of jobs that have stored a checkpoint and are still to be finished.

        Slurm's own ids: told to signal a task of an array by the array's id, scancel 22.05 says that it could not, and
        tries again and again.
        """
        found = {path.parent.parent for path in self.out.rglob("step-*.ckpt")}
        unfinished = [run for run in found if not (run / "results.json").exists()]
        tasks = [OmegaConf.load(run / ".hydra" / "hydra.yaml").hydra.job.id for run in unfinished]
        return [self.slurm.job(task)["JobId"] for task in sorted(tasks)]

    def finish(self) -> str:
        """Wait for the end; what the sweep and its jobs said."""
        said, _ = self.process.communicate(timeout=_SECONDS)
        said += "".join(path.read_text() for path in sorted((self.out / ".submitit").rglob("*.out")))
        assert self.process.returncode == 0, said
        return said

    def states(self, count: int) -> set[str]:
        """What becomes of its jobs, once Slurm has noticed that they have ended."""
        (folder, *_) = sorted((self.out / ".submitit").glob("*_0"))
        jobs = [f"{folder.name.partition('_')[0]}_{k}" for k in range(count)]
        deadline = time.monotonic() + 60
        while (found := {self.slurm.job(job)["JobState"] for job in jobs}) & {"RUNNING", "COMPLETING", "PENDING"}:
            assert time.monotonic() < deadline, found
            time.sleep(0.2)
        return found

    def end(self) -> None:
        """End it and its jobs, if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()
            node.end_jobs(self.slurm)


def _rows_of(out: Path) -> list[list[str]]:
    """The updates that each run logged."""
    return [
        [row.partition(",")[0] for row in path.read_text().splitlines()[1:]]
        for path in sorted(out.rglob("metrics.csv"))
    ]


def _tables(out: Path) -> dict[str, Any]:
    """The report's tables, without seconds."""
    report = out.parent / f"report of {out.name}"
    told = [sys.executable, "-m", "regicomp.report", str(out), "--out", str(report), "--no-anchors", "--images", "0"]
    done = subprocess.run(told, capture_output=True, text=True, timeout=_SECONDS)
    assert done.returncode == 0, done.stderr[-3000:]
    with (report / "results.csv").open(newline="") as file:
        results = [{k: v for k, v in row.items() if not k.endswith("_seconds")} for row in csv.DictReader(file)]
    return {"results": results, **{name: (report / name).read_text() for name in ("bd_rate.csv", "bd_rate.md")}}


def test_a_job_array_with_one_preempted_reports_the_same(slurm: node.Node, folder: Path, tmp_path: Path) -> None:
    """Four runs; one gets the signal of a pre-emption after its first checkpoint, waits in the queue and goes on."""
    sweep = Sweep(slurm, folder, tmp_path / "slurm", *FOUR_RUNS)
    try:
        (job, *_) = sweep.until(sweep.training)
        slurm.ask("scancel", "--signal=USR2", job)
        sweep.until(lambda: slurm.job(job)["Restarts"] == "1")
        said = sweep.finish()
    finally:
        sweep.end()
    assert sweep.states(4) == {"COMPLETED"}
    told = slurm.job(job)
    assert (told["Requeue"], told["Restarts"]) == ("1", "1")
    assert "this job is preempted" in said
    assert said.count("going on from") == 1
    assert _rows_of(sweep.out) == [[str(k) for k in range(1, STEPS + 1)]] * 4
    plain = subprocess.run(
        command(folder, tmp_path / "plain", *FOUR_RUNS),
        **{"capture_output": True, "text": True, "timeout": _SECONDS, "env": {**os.environ, "OMP_NUM_THREADS": "1"}},
    )
    assert plain.returncode == 0, plain.stderr[-3000:]
    tables = _tables(sweep.out)
    assert len(tables["results"]) == 4
    assert tables == _tables(tmp_path / "plain")


def test_jobs_that_an_urgent_one_displaces_go_on_after_it(slurm: node.Node, folder: Path, tmp_path: Path) -> None:
    """Slurm's own pre-emption: SIGTERM, some seconds to leave, back into the queue until the urgent job has ended."""
    sweep = Sweep(slurm, folder, tmp_path / "slurm", *TWO_RUNS)
    try:
        (job, *_) = sweep.until(sweep.training)
        cores = f"--ntasks={slurm.cpus}"
        urgent = slurm.ask("sbatch", "--parsable", "--partition=urgent", cores, "--output=/dev/null", "--wrap=sleep 1")
        sweep.until(lambda: slurm.job(job)["Restarts"] == "1")
        said = sweep.finish()
    finally:
        sweep.end()
    assert sweep.states(2) == {"COMPLETED"}
    assert slurm.job(urgent.strip())["JobState"] == "COMPLETED"
    assert "SIGTERM: checkpoint at the next update" in said
    assert "going on from" in said
    assert _rows_of(sweep.out) == [[str(k) for k in range(1, STEPS + 1)]] * 2
    assert sorted(json.loads(p.read_text())["run"]["seed"] for p in sweep.out.rglob("results.json")) == [0, 1]
