"""The bar moves by the clock, and the last update of a run has a row whatever `trainer.log_every_n_steps`."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import quiet

from regicomp.config.settings import Settings
from regicomp.training import loggers, run
from regicomp.training.build import build_networks


def test_the_last_update_has_a_row(resolved: Callable[..., Settings], tmp_path: Path) -> None:
    cfg = resolved("trainer.max_steps=3", "reg.alpha=0")
    quiet.fit(build_networks(cfg), cfg, log_every_n_steps=2, logger=loggers.MetricsCsv(tmp_path / "metrics.csv", 0))
    with (tmp_path / "metrics.csv").open(newline="") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["2", "3"]


def test_a_run_shorter_than_the_logging_interval_is_no_warning(
    resolved: Callable[..., Settings], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "_measure", lambda *given: {})
    cfg = resolved("trainer.max_steps=2", "reg.alpha=0", "testsets=[]", f"data.test_dirs=[{folder}]")
    assert cfg.trainer.log_every_n_steps == 50
    run.train(cfg, tmp_path)
    with (tmp_path / "metrics.csv").open(newline="") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["2"]


def test_the_bar_moves_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[int] = []
    monkeypatch.setattr(loggers.TQDMProgressBar, "on_train_batch_end", lambda *given: moved.append(given[-1]))
    clock = iter([0.0, 0.4, 0.9, 1.2, 1.5, 1.6])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    bar = loggers.RateBar()
    for update in range(6):
        trainer: Any = type("Trainer", (), {"global_step": update + 1, "max_steps": 6})
        bar.on_train_batch_end(trainer, None, None, None, update)  # pyright: ignore[reportArgumentType]
    assert moved == [0, 3, 5]


def test_the_bar_of_a_resumed_run_knows_its_end_and_its_own_speed() -> None:
    bar = loggers.RateBar()
    trainer: Any = SimpleNamespace(global_step=600, max_steps=1000)
    bar._trainer = trainer
    bar.on_train_start(trainer, None)
    shown = bar.train_progress_bar
    assert (shown.initial, shown.n, shown.total) == (600, 600, 1000)
    assert shown.desc == "training: "
    shown.close()
