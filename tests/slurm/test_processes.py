"""One run of several processes that Slurm's srun has started."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import node
import pytest

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(bool(node.missing()), reason="no slurm-wlm and munge; `make test-slurm` installs them"),
]

STEPS = 12


def _run(
    folder: Path, at: Path, started_by: list[str], environment: dict[str, str], *overrides: str
) -> tuple[list[dict[str, float]], str]:
    """The logged updates, and what was said."""
    command = [
        *(*started_by, sys.executable, "-m", "regicomp.train", "size=tiny", "data=folder", f"data.train_dir={folder}"),
        *(f"data.test_dirs=[{folder}]", "data.crop=64", "data.batch_size=4", "precision=float32", "logger=csv"),
        *(f"trainer.max_steps={STEPS}", "trainer.log_every=1", "reg.warmup_steps=4", *overrides),
    ]
    environment = {**environment, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, cwd=at, env=environment)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    ((metrics),) = at.rglob("metrics.csv")
    with metrics.open(newline="") as file:
        return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)], done.stdout


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="two tasks need two cores")
def test_two_tasks_of_a_job_are_one_run(slurm: node.Node, folder: Path, tmp_path: Path) -> None:
    """Losses as in one process to 1e-5, one record, in one run directory named after the job."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    alone, _ = _run(folder, tmp_path / "one", [], dict(os.environ), "strategy=cpu")
    tasks = ["srun", "--ntasks=2", "--ntasks-per-node=2", "--cpus-per-task=1"]
    rows, said = _run(folder, tmp_path / "two", tasks, slurm.environment, "strategy=ddp_cpu")
    assert len(rows) == STEPS
    for a, b in zip(alone, rows, strict=True):
        assert b == pytest.approx(a, rel=1e-5, abs=1e-6)
    (run,) = (tmp_path / "two" / "outputs").iterdir()
    assert run.name.startswith("job-")
    assert said.count("record: ") == 1
    assert json.loads((run / "results.json").read_text())["timing"]["processes"] == 2
