"""On a real Slurm, `make test-slurm`: a sweep as a job array, pre-empted and requeued; a run of several tasks."""

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
import resumable
import tiny_run
from omegaconf import OmegaConf

pytest.importorskip("submitit")
pytestmark = [
    pytest.mark.slurm,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(bool(node.missing()), reason="no slurm-wlm and munge; `make test-slurm` installs them"),
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
    steps = ("trainer.checkpoint_every=4", "trainer.log_every_n_steps=1", "reg.warmup_steps=4")
    sweep = ("-m", f"hydra.sweep.dir={out}", "strategy=cpu", f"trainer.max_steps={STEPS}")
    return tiny_run.command(folder, *sweep, *steps, *overrides)


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
        """Ids of jobs that have stored a checkpoint and are still to be finished."""
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
        """The states of its jobs, once Slurm has noticed that they have ended."""
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
    told = [sys.executable, "-m", "regicomp.report", str(out), "--out", str(report), "--no-classical", "--images", "0"]
    done = subprocess.run(told, capture_output=True, text=True, timeout=_SECONDS)
    assert done.returncode == 0, done.stderr[-3000:]
    with (report / "results.csv").open(newline="") as file:
        results = [{k: v for k, v in row.items() if not k.endswith("_seconds")} for row in csv.DictReader(file)]
    return {"results": results, **{name: (report / name).read_text() for name in ("bd_rate.csv", "bd_rate.md")}}


@pytest.mark.parametrize("how", ["USR2", "TERM", "USR1", "displaced", "cancelled"])
def test_who_asks_a_job_to_leave(slurm: node.Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """It is put back into the queue and ends well, unless it was cancelled."""
    import submitit

    for name, value in slurm.environment.items():
        monkeypatch.setenv(name, value)
    here = str(Path(__file__).resolve().parent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([here, os.environ.get("PYTHONPATH", "")]))
    executor = submitit.SlurmExecutor(tmp_path / "logs")
    executor.update_parameters(time=60, cpus_per_task=1, stderr_to_stdout=True)
    job = executor.submit(resumable.Resumable(tmp_path))
    _wait_for((tmp_path / "ready").exists)
    asking: subprocess.Popen[bytes] | None = None
    if how == "displaced":
        slurm.ask("sbatch", "--partition=urgent", f"--ntasks={slurm.cpus}", "--output=/dev/null", "--wrap=sleep 1")
    elif how == "cancelled":
        slurm.ask("scancel", job.job_id)
    else:  # the signal arrives at once, but scancel 22.05 may be told that it did not, and send it again
        asking = subprocess.Popen(["scancel", f"--signal={how}", job.job_id], env=slurm.environment)
    expected = "CANCELLED" if how == "cancelled" else "COMPLETED"
    try:
        _wait_for((tmp_path / "stored").exists)
        if how != "cancelled":
            _wait_for(lambda: slurm.job(job.job_id)["Restarts"] == "1")
        if asking is not None:
            asking.kill()
        _wait_for(lambda: slurm.job(job.job_id)["JobState"] not in ("PENDING", "RUNNING", "COMPLETING"))
        told = slurm.job(job.job_id)
    finally:
        if asking is not None:
            asking.kill()
            asking.wait()
        node.end_jobs(slurm)
    again = how != "cancelled"
    assert (told["JobState"], told["Restarts"]) == (expected, str(int(again)))
    assert (tmp_path / "starts").read_text().count("start") == 1 + again


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="two jobs at once need two cores")
def test_every_task_of_an_array_is_put_back(slurm: node.Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last one, too, whose id is the array's own."""
    import submitit

    for name, value in slurm.environment.items():
        monkeypatch.setenv(name, value)
    here = str(Path(__file__).resolve().parent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([here, os.environ.get("PYTHONPATH", "")]))
    folders = [tmp_path / "first", tmp_path / "last"]
    executor = submitit.SlurmExecutor(tmp_path / "logs")
    executor.update_parameters(time=60, cpus_per_task=1, stderr_to_stdout=True)
    with executor.batch():
        jobs = []
        for folder in folders:
            folder.mkdir()
            jobs.append(executor.submit(resumable.Resumable(folder)))
    try:
        _wait_for(lambda: all((folder / "ready").exists() for folder in folders))
        cores = f"--ntasks={slurm.cpus}"
        slurm.ask("sbatch", "--partition=urgent", cores, "--output=/dev/null", "--wrap=sleep 1")
        _wait_for(lambda: all((folder / "stored").exists() for folder in folders))
        _wait_for(lambda: all(slurm.job(job.job_id)["Restarts"] == "1" for job in jobs))
        _wait_for(lambda: {slurm.job(job.job_id)["JobState"] for job in jobs} == {"COMPLETED"})
    finally:
        node.end_jobs(slurm)
    assert [(folder / "starts").read_text().count("start") for folder in folders] == [2, 2]


def _wait_for(what: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 120
    while not what():
        assert time.monotonic() < deadline, "too slow"
        time.sleep(0.05)


def test_a_job_array_with_one_preempted_reports_the_same(slurm: node.Node, folder: Path, tmp_path: Path) -> None:
    """Four runs; one gets the signal of a pre-emption after its first checkpoint, waits in the queue and goes on."""
    sweep = Sweep(slurm, folder, tmp_path / "slurm", *FOUR_RUNS)
    try:
        (job, *_) = sweep.until(sweep.training)
        # The signal arrives at once, but scancel 22.05 is told that the job cannot be altered and would send it again.
        scancel = subprocess.Popen(["scancel", "--signal=USR2", job], env=slurm.environment)
        try:
            sweep.until(lambda: slurm.job(job)["Restarts"] == "1")
        finally:
            scancel.kill()
            scancel.wait()
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


TASK_STEPS = 12


def _run_of(
    folder: Path, at: Path, started_by: list[str], environment: dict[str, str], *overrides: str
) -> tuple[list[dict[str, float]], str]:
    """The logged updates, and what was said."""
    command = [
        *(*started_by, sys.executable, "-m", "regicomp.train", "size=tiny", "data=folder", f"data.train_dir={folder}"),
        *(f"data.test_dirs=[{folder}]", "data.crop=64", "data.batch_size=4", "precision=float32", "logger=csv"),
        *(f"trainer.max_steps={TASK_STEPS}", "trainer.log_every_n_steps=1", "reg.warmup_steps=4", *overrides),
    ]
    environment = {**environment, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, cwd=at, env=environment)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    (metrics,) = at.rglob("metrics.csv")
    with metrics.open(newline="") as file:
        return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)], done.stdout


@pytest.mark.skipif(
    (os.cpu_count() or 1) < 2,
    reason="srun starts two tasks only where there are two cores",
)
def test_two_tasks_of_a_job_are_one_run(slurm: node.Node, folder: Path, tmp_path: Path) -> None:
    """Losses as in one process to 1e-5, one record, in one run directory named after the job."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    alone, _ = _run_of(folder, tmp_path / "one", [], dict(os.environ), "strategy=cpu")
    tasks = ["srun", "--ntasks=2", "--ntasks-per-node=2", "--cpus-per-task=1"]
    rows, said = _run_of(folder, tmp_path / "two", tasks, slurm.environment, "strategy=ddp_cpu")
    assert len(rows) == TASK_STEPS
    for a, b in zip(alone, rows, strict=True):
        assert b == pytest.approx(a, rel=1e-5, abs=1e-6)
    (run,) = (tmp_path / "two" / "outputs").iterdir()
    assert run.name.startswith("job-")
    assert said.count("record: ") == 1
    assert json.loads((run / "results.json").read_text())["timing"]["processes"] == 2
