"""Several processes train as one: the same figures, one run directory, one end."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import tiny_run

from regicomp.distributed import processes as ranks


def command(folder: Path, run: Path, *overrides: str) -> list[str]:
    """A tiny run of 20 updates on global batches of four crops."""
    steps = ("trainer.max_steps=20", "trainer.checkpoint_every=10", "trainer.log_every_n_steps=1", "reg.warmup_steps=4")
    regularized = ("optimizer=adam", "optimizer.lr=1e-3", "reg.alpha=0.3", "reg.max_pressure=0.05")
    return tiny_run.command(folder, "data.batch_size=4", *steps, *regularized, f"hydra.run.dir={run}", *overrides)


def _run(folder: Path, run: Path, *overrides: str) -> str:
    done = subprocess.run(command(folder, run, *overrides), capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


def _rows(run: Path, name: str = "metrics.csv") -> list[dict[str, float]]:
    with (run / name).open(newline="") as file:
        return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]


def _assert_equal_training(one: Path, other: Path) -> None:
    first, second = _rows(one), _rows(other)
    assert len(first) == len(second) == 20
    for a, b in zip(first, second, strict=True):
        cosines = a.pop("cosine", 0), b.pop("cosine", 0)  # of sums that nearly cancel, so absolutely
        assert cosines[0] == pytest.approx(cosines[1], abs=2e-5)
        scales = a.pop("log_scale", 0), b.pop("log_scale", 0)  # a mean of logarithms: a scale's 1e-5 is 1e-5 of it
        assert scales[0] == pytest.approx(scales[1], abs=1e-5)
        assert a == pytest.approx(b, rel=1e-5, abs=1e-6)  # rounding grows from update to update
    assert first[-1]["capped"] > 0  # the bound on the pressure acted, on the whole batch's


def _entries(run: Path) -> dict[str, Any]:
    record = json.loads((run / "results.json").read_text())
    for entry in record["testsets"].values():
        for image in entry["images"]:
            del image["encode_seconds"], image["decode_seconds"]
    return {**record, "timing": None}


VALIDATED = ("trainer.val_every=20", "validation.images=3")  # which two processes cannot share out evenly


@pytest.fixture(scope="module")
def alone(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One process's run."""
    run = tmp_path_factory.mktemp("alone") / "run"
    _run(folder, run, "strategy=cpu", *VALIDATED)
    return run


def test_two_processes_equal_one(alone: Path, folder: Path, tmp_path: Path) -> None:
    """Losses to 1e-5 over 20 updates, equal records, and one run directory with one process's files."""
    said = _run(folder, tmp_path / "two", "strategy=ddp_cpu", *VALIDATED)
    two = tmp_path / "two"
    _assert_equal_training(alone, two)
    expected, found = _entries(alone), _entries(two)
    assert found["run"] == expected["run"]
    for name, entry in expected["testsets"].items():
        for a, b in zip(entry["images"], found["testsets"][name]["images"], strict=True):
            assert [a[k] for k in ("name", "width", "height")] == [b[k] for k in ("name", "width", "height")]
            for key, value in a.items():
                if isinstance(value, float):
                    assert b[key] == pytest.approx(value, rel=1e-3), key
    assert sorted(p.name for p in two.iterdir()) == sorted(p.name for p in alone.iterdir())
    assert [p.name for p in tmp_path.iterdir()] == ["two"]
    assert said.count("record: ") == 1
    (one,), (other,) = (_rows(run, "validation.csv") for run in (alone, two))
    assert one == pytest.approx(other, rel=1e-3)
    assert one["val_bpp"] > 0


@pytest.mark.slow
def test_processes_stop_at_the_same_update(folder: Path, tmp_path: Path) -> None:
    """With an image to validate for the first process alone, both end after the update that one would have ended at."""
    never_lower = ("early_stopping.patience=2", "early_stopping.min_delta=1e9")
    stopping = ("trainer.val_every=4", "validation.images=1", *never_lower)
    said = [_run(folder, tmp_path / s, f"strategy={s}", *stopping) for s in ("cpu", "ddp_cpu")]
    one, two = (_entries(tmp_path / s)["run"] for s in ("cpu", "ddp_cpu"))
    assert [text.count("update 12 of 20: stopped early") for text in said] == [1, 1]
    assert one["steps"] == two["steps"] == 12
    assert one["stopped_early"]["lowest_j"] == pytest.approx(two["stopped_early"].pop("lowest_j"), rel=1e-3)
    assert [row["step"] for row in _rows(tmp_path / "ddp_cpu")] == list(range(1, 13))


def test_a_killed_process_ends_the_run_and_it_resumes(folder: Path, tmp_path: Path) -> None:
    """SIGKILL of one process in mid-training: an error within a minute, no process left; ckpt=last goes on."""
    run, steps = tmp_path / "run", ("strategy=ddp_cpu", "trainer.max_steps=40", "trainer.log_every_n_steps=1")
    process = subprocess.Popen(
        command(folder, run, *steps), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    deadline = time.monotonic() + 200
    while not list((run / "checkpoints").glob("*.ckpt")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    (child,) = psutil.Process(process.pid).children(recursive=True)
    child.send_signal(signal.SIGKILL)
    killed = time.monotonic()
    _, said = process.communicate(timeout=60)
    assert time.monotonic() - killed < 60
    assert process.returncode not in (0, None)
    assert "process 1 of the run ended with status -9" in said
    assert not psutil.pid_exists(child.pid)
    assert not (run / "results.json").exists()
    assert "going on from" in _run(folder, run, *steps, "ckpt=last")
    assert (run / "results.json").exists()
    assert [row["step"] for row in _rows(run)] == list(range(1, 41))


@pytest.mark.slow
def test_the_first_killed_ends_the_others(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = subprocess.Popen(
        command(folder, run, "strategy=ddp_cpu", "trainer.max_steps=4000"),
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 200
    while not list((run / "checkpoints").glob("*.ckpt")) and time.monotonic() < deadline:
        time.sleep(0.05)
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(children, timeout=60)
    assert children
    assert not alive


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        ("trainer.accumulate_grad_batches=2",),
        ("strategy=ddp_cpu", "trainer.accumulate_grad_batches=2"),
        ("strategy=ddp_cpu", "strategy.devices=4"),
        ("strategy=ddp_cpu", "reg.form=two_pass"),
        ("strategy=ddp_cpu", "channels_last=false"),
        ("strategy=ddp_cpu", "rate=variable"),
        ("strategy=ddp_cpu", "rate=variable", "trainer.accumulate_grad_batches=2"),
    ],
    ids=lambda overrides: " ".join(overrides),
)
def test_however_an_update_is_shared_out(folder: Path, tmp_path: Path, overrides: tuple[str, ...]) -> None:
    """In several processes, in parts, in two passes: the losses of one process in one pass."""
    free = ("reg.max_pressure=1000", "reg.alpha=0.1")
    rate = [o for o in overrides if o.startswith("rate=")]
    _run(folder, tmp_path / "one", "strategy=cpu", *free, *rate)
    _run(folder, tmp_path / "other", *free, *overrides)
    levels = [f"{name}_{k}" for k in range(1, 7) for name in ("rate_bpp", "psnr_db")] if rate else []
    for a, b in zip(_rows(tmp_path / "one"), _rows(tmp_path / "other"), strict=True):
        assert a.keys() == b.keys()
        for key in ("loss", "rate_bpp", "mse_255", "source_bpp", *(level for level in levels if level in a)):
            assert a[key] == pytest.approx(b[key], rel=1e-5), (key, a["step"])


@pytest.mark.slow
@pytest.mark.parametrize("how", ["nodes", "torchrun"])
def test_started_from_outside(alone: Path, folder: Path, tmp_path: Path, how: str) -> None:
    """Once a node with the usual variables (two nodes on this machine), or once a process by torchrun."""
    port, arguments = ranks.free_port(), command(folder, Path("unused"))[1:-1]
    overrides = ["strategy=ddp_cpu"]
    if how == "nodes":
        overrides += ["strategy.devices=1", "strategy.num_nodes=2"]
        usual = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
        commands = [([sys.executable, *arguments, *overrides], {**usual, "NODE_RANK": str(k)}) for k in range(2)]
    else:
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", *arguments]
        commands = [([*torchrun, *overrides], {})]
    processes = [subprocess.Popen(c, env={**os.environ, **env}, cwd=tmp_path) for c, env in commands]
    assert [p.wait(280) for p in processes] == [0] * len(processes)
    (run,) = (tmp_path / "outputs").iterdir()
    assert run.name.startswith("job-")
    _assert_equal_training(alone, run)
