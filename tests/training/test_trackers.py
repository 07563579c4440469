"""Loggers besides metrics.csv: several at once, imported only where they are asked for, missing ones named."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from regicomp.config import checks
from regicomp.config.settings import Settings
from regicomp.training import trackers

ABOUT = {
    **{"backbone": "hyperprior", "source": "elic", "alpha": 0.1, "lmbda": 0.0067, "seed": 3, "steps": 7},
    **{"distortion": "mse", "size": "tiny"},
}
ENTRY = {
    **{"bpp": 0.5, "bpp_estimated": 0.49, "psnr_db": 30.0, "ms_ssim": 0.95, "ms_ssim_db": 13.0, "source_bpp": None},
    "images": [],
}
RECORD: dict[str, Any] = {"run": ABOUT, "testsets": {"photos": ENTRY}}

# The run's own training, first with one choice of loggers, then with the next, in a process whose imports can be seen.
_SCRIPT = """
import sys
from pathlib import Path
import regicomp, regicomp.train
from hydra import compose, initialize_config_dir
from regicomp.config import settings
from regicomp.training import checkpointing, run, trackers
folder, first, second, *overrides = sys.argv[1:]
for logger in (first, second):
    with initialize_config_dir(str(settings.conf_dir()), version_base="1.3"):
        cfg = settings.resolve(compose("train", overrides=[logger, *overrides]))
    Path(folder, logger).mkdir()
    run._fit(cfg, Path(folder, logger), run.build_networks(cfg), None, checkpointing.Stopwatch(None), None)
    trackers.finish()
    print("imported:", *(name for name in ("wandb", "tensorboard", "mlflow") if name in sys.modules))
"""
TINY = ("size=tiny", "data.crop=64", "data.batch_size=2", "data.images=2", "precision=float32", "reg.alpha=0")


def _scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    accumulator: Any = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_a_logger_is_imported_where_it_is_asked_for(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="TensorBoard is in the extra regicomp[tensorboard]")
    alone, both = "logger=csv", "logger=[csv,tensorboard]"
    done = subprocess.run(
        [
            *(sys.executable, "-c", _SCRIPT, str(tmp_path), alone, both, *TINY),
            *("trainer.max_steps=3", "trainer.log_every_n_steps=1"),
        ],
        env={**os.environ, "WANDB_MODE": "offline"},
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr
    told = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("imported:")]
    assert told == [[], ["tensorboard"]]
    files = [(tmp_path / logger / "metrics.csv").read_text().splitlines() for logger in (alone, both)]
    rates = [[row.split(",")[rows[0].split(",").index("rate_bpp")] for row in rows[1:]] for rows in files]
    assert rates[0] == rates[1]
    assert not (tmp_path / alone / "tensorboard").exists()
    written = _scalars(tmp_path / both / "tensorboard")["rate_bpp"]
    assert [step for step, _ in written] == [1, 2, 3]
    assert [value for _, value in written] == pytest.approx([float(rate) for rate in rates[1]], rel=1e-6)


def test_several_loggers_are_composed(composed: Callable[..., Any]) -> None:
    asked = composed("logger=[tensorboard,wandb]", "logger.project=mine").logger
    assert (asked.wandb, asked.tensorboard, asked.mlflow, asked.project) == (True, True, False, "mine")
    usual = composed(tiny=False).logger
    assert (usual.wandb, usual.tensorboard, usual.mlflow) == (True, False, False)
    assert not any(composed("logger=csv").logger[name] for name in ("wandb", "tensorboard", "mlflow"))


@pytest.mark.parametrize("name", ["wandb", "tensorboard", "mlflow"])
def test_a_logger_that_is_not_installed_names_its_extra(
    name: str, resolved: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda asked: None if asked == name else found(asked))
    checks.check_loggers(resolved("logger=csv"))
    with pytest.raises(ValueError, match=rf"`logger\.{name}` \(=True\) needs .*pip install 'regicomp\[{name}\]'"):
        checks.check_loggers(resolved(f"logger=[csv,{name}]"))


def _measured(run: Path) -> Path:
    run.mkdir(exist_ok=True)
    (run / "results.json").write_text(json.dumps(RECORD))
    (run / "codec.safetensors").write_bytes(b"codec")
    Image.new("RGB", (8, 8), (255, 0, 0)).save(run / "summary.png")
    return run


def test_tensorboard_shows_the_record(resolved: Callable[..., Settings], tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="TensorBoard is in the extra regicomp[tensorboard]")
    trackers.log_record(resolved("logger=tensorboard"), _measured(tmp_path), RECORD, {})
    scalars = _scalars(tmp_path / "tensorboard")
    assert scalars["photos/psnr_db"] == [(7, 30.0)]
    assert set(scalars) == {f"photos/{name}" for name, value in ENTRY.items() if isinstance(value, float)}


def test_a_resumed_run_forgets_what_it_writes_again(resolved: Callable[..., Settings], tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="TensorBoard is in the extra regicomp[tensorboard]")
    cfg = resolved("logger=tensorboard")
    for resumed_at, rows in ((0, {1: 1.0, 2: 2.0, 3: 3.0}), (2, {3: 4.0})):
        (logger,) = trackers.start(cfg, tmp_path, ABOUT, resumed_at)
        for step, value in rows.items():
            logger.log_metrics({"loss": value}, step)
        logger.finalize("success")
    assert _scalars(tmp_path / "tensorboard")["loss"] == [(1, 1.0), (2, 2.0), (3, 4.0)]


@pytest.mark.filterwarnings("default")  # MLflow's own, of its database's loaders
def test_mlflow_keeps_curves_figures_and_files(
    resolved: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow.tracking

    monkeypatch.chdir(tmp_path)  # where MLflow puts files beside a database
    cfg = resolved("logger=mlflow", f"logger.tracking_uri=sqlite:///{tmp_path}/mlflow.db")
    for step in (1, 2):  # a run that goes on is the same run
        (logger,) = trackers.start(cfg, _measured(tmp_path / "run"), ABOUT, step - 1)
        logger.log_metrics({"loss": float(step)}, step)
        logger.finalize("success")
    trackers.log_record(cfg, tmp_path / "run", RECORD, {})
    client = mlflow.tracking.MlflowClient(cfg.logger.tracking_uri)
    (run,) = client.search_runs([client.get_experiment_by_name("regicomp").experiment_id])
    assert [m.value for m in client.get_metric_history(run.info.run_id, "loss")] == [1.0, 2.0]
    assert run.data.metrics["photos/psnr_db"] == 30.0
    assert run.data.params["size"] == "tiny"
    assert {f.path for f in client.list_artifacts(run.info.run_id)} == {
        "results.json",
        "summary.png",
        "codec.safetensors",
    }
