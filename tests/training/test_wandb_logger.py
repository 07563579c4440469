"""W&B offline runs: what `wandb sync` would send, read back from the file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image
from wandb.proto import wandb_internal_pb2

from regicomp.training import wandb_logger

_BLOCK = 32768
_FILE_HEADER, _RECORD_HEADER = 7, 7


def _entries(path: Path) -> list[Any]:
    """Records of an offline run: a LevelDB log of protocol buffers after a header of its own."""
    data = path.read_bytes()
    assert data.startswith(b":W&B")
    found, partial, at = [], b"", _FILE_HEADER
    while at + _RECORD_HEADER <= len(data):
        left = _BLOCK - at % _BLOCK
        if left < _RECORD_HEADER:
            at += left
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        if at + _RECORD_HEADER + length > len(data):  # is being written
            break
        partial += data[at + _RECORD_HEADER : at + _RECORD_HEADER + length]
        at += _RECORD_HEADER + length
        if kind in (1, 4):  # whole, or the last part of one
            record = wandb_internal_pb2.Record()
            record.ParseFromString(partial)
            found.append(record)
            partial = b""
    return found


RECORD = {
    "run": {
        **{"backbone": "hyperprior", "source": "elic", "alpha": 0.1, "lmbda": 0.0067, "seed": 3},
        **{"distortion": "mse", "size": "tiny"},
    },
    "testsets": {
        "photos": {
            **{"bpp": 0.5, "bpp_estimated": 0.49, "psnr_db": 30.0, "ms_ssim": 0.95, "ms_ssim_db": 13.0},
            "source_bpp": 12.5,
            "images": [
                {
                    **{"name": "cat", "width": 64, "height": 48, "bytes": 192, "bpp": 0.5, "bpp_estimated": 0.49},
                    **{"psnr_db": 30.0, "ms_ssim": 0.95, "source_bpp": 12.5},
                }
            ],
        }
    },
}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """Entries of an offline run that was given two training rows and a record."""
    run_dir = tmp_path_factory.mktemp("run")
    (run_dir / "results.json").write_text(json.dumps(RECORD))
    Image.new("RGB", (8, 8)).save(run_dir / "summary.png")
    logger = wandb_logger.start(run_dir, "regicomp", {"reg": {"alpha": 0.1}}, RECORD["run"], "a-sweep")
    assert logger is not None
    try:
        logger.log_metrics({"rate_bpp": 1.5, "source_bpp": 13.0}, 50)
        logger.log_metrics({"rate_bpp": 1.25, "source_bpp": 12.0}, 100)
        wandb_logger.log_record(run_dir, RECORD, {"photos": {"JPEG": [{"bpp": 0.6, "psnr_db": 29.0}]}})
    finally:
        wandb_logger.finish()
    (path,) = run_dir.glob("wandb/offline-run-*/*.wandb")
    for _ in range(300):  # W&B's own process writes the file; on a busy machine it ends after us
        if any(entry.HasField("exit") for entry in _entries(path)):
            break
        time.sleep(0.2)
    return _entries(path)


def test_the_run_is_grouped_and_configured(written: list[Any]) -> None:
    (run,) = [entry.run for entry in written if entry.HasField("run")][:1]
    assert run.run_group == "a-sweep"
    assert run.job_type == "train"
    assert set(run.tags) == {"hyperprior", "elic", "mse", "tiny"}
    assert run.project == "regicomp"
    keys = {item.key: item.value_json for item in run.config.update}
    assert json.loads(keys["reg"]) == {"alpha": 0.1}


def test_training_rows_have_the_records_names(written: list[Any]) -> None:
    rows = [
        {(item.key or "/".join(item.nested_key)): json.loads(item.value_json) for item in entry.history.item}
        for entry in written
        if entry.HasField("history")
    ]
    rates = [row["rate_bpp"] for row in rows if "rate_bpp" in row]
    assert rates == [1.5, 1.25]
    panels = {name for row in rows for name in row}
    for panel in ("summary", "photos/images", "photos/rd"):
        assert any(name.startswith(panel) for name in panels), sorted(panels)


def test_the_summary_carries_the_test_sets(written: list[Any]) -> None:
    summary = {
        (item.key or "/".join(item.nested_key)): json.loads(item.value_json)
        for entry in written
        if entry.HasField("summary")
        for item in entry.summary.update
    }
    for metric in ("bpp", "psnr_db", "ms_ssim", "source_bpp"):
        assert summary[f"photos/{metric}"] == RECORD["testsets"]["photos"][metric]


def test_record_is_an_artifact(written: list[Any]) -> None:
    artifacts = [entry.artifact for entry in written if entry.HasField("artifact")]
    artifacts += [
        entry.request.log_artifact.artifact
        for entry in written
        if entry.HasField("request") and entry.request.HasField("log_artifact")
    ]
    files = {content.path for artifact in artifacts for content in artifact.manifest.contents}
    assert "results.json" in files


def test_the_x_axis_is_the_update(written: list[Any]) -> None:
    metrics = [entry.metric for entry in written if entry.HasField("metric")]
    assert ("*", "trainer/global_step") in {(m.name or m.glob_name, m.step_metric) for m in metrics}


def test_a_single_run_is_named_by_what_it_is() -> None:
    assert wandb_logger.title(RECORD["run"]) == "hyperprior λ=0.0067 α=0.1 seed=3"


_SCRIPT = f"""
import logging, sys
from pathlib import Path
from PIL import Image
from regicomp.training import wandb_logger
assert "wandb" not in sys.modules  # runs without it need not wait for its import
logging.basicConfig(format="%(message)s")
run_dir, about = Path.cwd(), {RECORD["run"]!r}
Image.new("RGB", (8, 8)).save(run_dir / "summary.png")
(run_dir / "results.json").write_text("1")
logger = wandb_logger.start(run_dir, "regicomp", {{}}, about)
logger.log_metrics({{"loss": 1.0}}, 1)
wandb_logger.log_record(run_dir, {{"run": about, "testsets": {{}}}}, {{}})
wandb_logger.finish()
"""


def test_without_a_network_or_a_home_the_run_is_logged_offline_after_a_line(tmp_path: Path) -> None:
    """W&B looks up the key of the host that it is told of."""
    assert wandb_logger._INIT_SECONDS < 10
    (tmp_path / "netrc").write_text(f"machine 127.0.0.1:9 login user password {'a' * 40}\n")
    (tmp_path / "netrc").chmod(0o600)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    host = {"NETRC": str(tmp_path / "netrc"), "WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_INIT_TIMEOUT": "1"}
    home = {"HOME": "/proc/none", "MPLCONFIGDIR": str(tmp_path), "WANDB_SILENT": "true"}
    run = subprocess.run(
        [sys.executable, "-c", _SCRIPT],
        **{"cwd": tmp_path, "env": {**inherited, **host, **home}, "timeout": 120},
        **{"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "check": False},
    )
    assert run.returncode == 0, run.stdout
    (line,) = run.stdout.splitlines()
    assert line.startswith("W&B cannot be reached; the run is logged offline, and `wandb sync")
    (path,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    assert any(entry.HasField("history") for entry in _entries(path))
    assert b"results.json" in path.read_bytes()  # the artifact


def test_whatever_wandb_raises_is_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import wandb

    def fail(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(wandb, "login", fail)  # as with a malformed key
    monkeypatch.setenv("WANDB_MODE", "online")
    offline = wandb_logger.start(tmp_path, "regicomp", {}, RECORD["run"])
    assert offline is not None
    assert offline.experiment.settings._offline
    wandb_logger.finish()
    monkeypatch.setattr(wandb, "init", fail)
    assert wandb_logger.start(tmp_path, "regicomp", {}, RECORD["run"]) is None
    monkeypatch.setattr(wandb, "run", SimpleNamespace(summary={}, log=fail))
    monkeypatch.setattr(wandb, "finish", fail)
    wandb_logger.log_record(tmp_path, RECORD, {})
    wandb_logger.finish()
    told = [record.getMessage() for record in caplog.records if record.name == wandb_logger.log.name]
    assert len(told) == 5  # offline, offline, not at all, no record, no end
    assert all(line.startswith("W&B") for line in told)


def test_no_run_no_complaint(tmp_path: Path) -> None:
    wandb_logger.log_record(tmp_path, RECORD, {})
    wandb_logger.finish()
