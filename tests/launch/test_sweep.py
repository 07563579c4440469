"""Sweeps: folders by settings, failures kept apart, nothing repeated."""

from __future__ import annotations

import copy
import errno
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from regicomp.config import resolvers, settings
from regicomp.launch import run_lock, sweep


@given(st.text(min_size=1, max_size=400), st.text(min_size=1, max_size=400))
def test_folder_names_are_safe_and_tell_settings_apart(first: str, second: str) -> None:
    names = [resolvers.folder_name(text) for text in (first, second)]
    for name in names:
        assert 0 < len(name.encode()) < 200
        assert not set(name) & set("/\\ '\"[]{}")
        assert name not in {".", ".."}
    assert (names[0] == names[1]) == (first == second)


def test_a_name_that_is_fit_stays_readable() -> None:
    assert resolvers.folder_name("quality=1,reg.alpha=0.1") == "quality=1,reg.alpha=0.1"


def _folder(*overrides: str) -> str:
    """The run's folder in a sweep."""
    resolvers.register_resolvers()
    with initialize_config_dir(str(settings.conf_dir()), version_base="1.3"):
        composed = compose("train", overrides=list(overrides), return_hydra_config=True)
    return str(composed.hydra.sweep.subdir)


@pytest.mark.parametrize(
    "watched", ["trainer.val_every=5", "validation.images=2", "validation.testset=kodak"], ids=["often", "few", "other"]
)
def test_validation_names_a_folder_only_where_it_may_end_the_run(watched: str) -> None:
    assert _folder("seed=1", watched, "reg.alpha=0") == "reg.alpha=0,seed=1"
    stopping = ("early_stopping.patience=2", "trainer.val_every=7")
    assert _folder("seed=1", *stopping, watched) != _folder("seed=1", *stopping)


def test_size_of_a_sweep() -> None:
    assert sweep.size(["quality=1,2,3", "reg.alpha=0,0.1", "seed=range(4)", "size=tiny", "testsets=[a,b]"]) == 24
    assert sweep.size(["seed=0,1"], {"quality": "1,2,3", "reg.alpha": "0.1"}) == 6
    assert sweep.size(["quality=1", "seed=0,1"], {"quality": "1,2,3", "reg.alpha": "0,0.1"}) == 4


def _sweep(folder: Path, out: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    arguments = [
        *(sys.executable, "-m", "regicomp.train", "-m", f"hydra.sweep.dir={out}", "size=tiny", "data=folder"),
        *(f"data.train_dir={folder}", f"data.test_dirs=[{folder}]", "data.crop=64", "data.batch_size=2"),
        *("precision=float32", "logger=csv", "trainer.max_steps=3", "reg.warmup_steps=0", "backbone.N=8"),
        *("backbone.M=12", *overrides),
    ]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=280, cwd=out.parent)


@pytest.fixture(scope="module")
def swept(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A sweep of three runs, the middle one of which fails."""
    out = tmp_path_factory.mktemp("sweep") / "all"
    return out, _sweep(folder, out, "reg.alpha=0,-1,0.1")


def test_a_failing_run_does_not_stop_the_others(swept: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    out, done = swept
    assert done.returncode == 1, done.stderr[-2000:]
    states = [outcome.state for outcome in sweep.outcomes(out)]
    assert sorted(states) == ["failed", "finished", "finished"]
    (failed,) = [outcome for outcome in sweep.outcomes(out) if outcome.state == "failed"]
    assert "`reg.alpha` (=-1)" in failed.error
    assert "1 failed" in done.stdout
    assert "run 3 of 3" in done.stdout


def test_a_sweep_goes_on_where_it_was(
    swept: tuple[Path, subprocess.CompletedProcess[str]], folder: Path, tmp_path: Path
) -> None:
    """Started again with one half-finished run: that one is finished, the others are left alone."""
    out, _ = swept
    records = sorted(out.glob("*/results.json"))
    kept, lost = records
    before, stamp = json.loads(lost.read_text()), kept.stat().st_mtime_ns
    lost.unlink()
    done = _sweep(folder, out, "reg.alpha=0,0.1")
    assert "holds the finished run" in done.stdout + done.stderr
    assert kept.stat().st_mtime_ns == stamp
    after = json.loads(lost.read_text())
    assert after["run"] == before["run"]
    for name, entry in after["testsets"].items():
        assert entry["bpp"] == before["testsets"][name]["bpp"]


def test_a_run_that_another_process_is_at_is_left_alone(folder: Path, tmp_path: Path) -> None:
    """Refused in a line; not a file of the running run's folder is written, altered or removed."""
    run = tmp_path / "all" / "taken"
    for name in (".hydra/config.yaml", ".hydra/hydra.yaml", "error.txt", "checkpoints/.step-000000004.x.regicomp.tmp"):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text("the other's")

    def seen() -> dict[Path, tuple[int, int]]:
        return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in [run, *run.rglob("*")]}

    with run_lock.sole_user(run):
        (run / "checkpoints" / ".step-000000004.x.regicomp.tmp").write_text("half of it")
        before = seen()
        done = _sweep(folder, run.parent, "hydra.sweep.subdir=taken")
        assert seen() == before
    assert "this run failed, the sweep goes on: InUse: `hydra.run.dir`" in done.stdout + done.stderr
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def _told(out: Path, runs: int, number: int, at_once: int, ended: list[float], elapsed: float = 100.0) -> None:
    """The line at the start of run `number`, `elapsed` seconds after the sweep's, where runs ended at such seconds."""
    started = time.time() - elapsed
    for k, seconds in enumerate(ended):
        path = out / str(k) / "results.json"
        path.parent.mkdir(parents=True)
        path.write_text("{}")
        os.utime(path, (started + seconds, started + seconds))
    launcher = {"n_jobs": at_once} if at_once > 1 else {}
    hydra = {"overrides": {"task": [f"seed=range({runs})"]}, "sweeper": {}, "sweep": {"dir": str(out)}}
    progress = sweep.SweepProgress()
    progress.on_multirun_start(OmegaConf.create({"hydra": {**hydra, "launcher": launcher}}))
    progress._started = started
    job = {"num": number, "override_dirname": f"seed={number}"}
    # Each of joblib's processes has its own copy of the callback, made before the first run.
    copy.deepcopy(progress).on_job_start(OmegaConf.create({"hydra": {**hydra, "launcher": launcher, "job": job}}))


@pytest.mark.parametrize(
    ("runs", "number", "at_once", "ended", "left"),
    [
        (4, 0, 1, [], None),
        (4, 1, 1, [100.0], 300),
        (4, 3, 1, [30.0, 60.0, 100.0], 100 / 3),
        (10, 9, 1, [-50.0] * 8 + [99.0], 100),  # eight were finished before
        (10, 9, 1, [-50.0] * 9, None),  # nothing is known of how long a run takes
        (4, 2, 2, [99.0], 100),
        (4, 3, 2, [98.0, 99.0], 100),
        (6, 4, 4, [99.0], 100),
    ],
)
def test_the_time_left_is_true(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    runs: int,
    number: int,
    at_once: int,
    ended: list[float],
    left: float | None,
) -> None:
    """In the last run of a sweep, of one that was started again, and with several runs at once."""
    _told(tmp_path, runs, number, at_once, ended)
    line = capsys.readouterr().out.splitlines()[-1]
    told = f"run {number + 1} of {runs}: seed={number}"
    assert line.partition(" (")[0] == told
    if left is None:
        assert line == told
    else:
        found = re.search(r"\(about ([\d.]+) (seconds|minutes) left in all\)", line)
        assert found is not None, line
        assert float(found[1]) * {"seconds": 1, "minutes": 60}[found[2]] == pytest.approx(left, rel=0.05)


def test_a_full_disk_ends_the_sweep(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A line and status 2, and nothing is written; any other failure stays with its run."""
    full = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(SystemExit) as left, sweep.kept_apart(OmegaConf.create({}), tmp_path / "run"):
        raise full
    assert left.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith(f"error: [Errno {errno.ENOSPC}] No space left on device; the sweep ends")
    assert told.count("\n") == 1
    assert not (tmp_path / "run").exists()
    with sweep.kept_apart(OmegaConf.create({}), tmp_path / "run"):
        raise OSError(errno.EIO, "Input/output error")
    assert "Input/output error" in (tmp_path / "run" / "error.txt").read_text()


@pytest.mark.parametrize("arguments", [("hydra.run.dir=/proc/x",), ("-m", "seed=0,1", "hydra.sweep.dir=/proc/x")])
def test_a_folder_that_cannot_be_made_is_told_in_a_line(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "regicomp.train", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: `{arguments[-1].partition('=')[0]}` (=/proc/x) must be a folder")
    assert (done.stdout + done.stderr).count("\n") == 1
