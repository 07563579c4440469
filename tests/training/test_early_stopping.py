"""A run whose validations find no lower J ends: when, what it leaves, and that a resumed one ends alike."""

from __future__ import annotations

import csv
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from lightning.pytorch import Trainer

from regicomp.config import checks, derived
from regicomp.config.settings import Settings
from regicomp.evaluation import classical_codecs, model_card, summary_picture
from regicomp.image_codec import model_file
from regicomp.training.early_stopping import EarlyStopping, Lowest, Stop, stop_of
from regicomp.training.run import train
from regicomp.training.validation import Validation

Resolved = Callable[..., Settings]
USUAL = ("trainer.log_every_n_steps=1", "trainer.checkpoint_every=4", "evaluation.images=1", "optimizer.lr=1e-3")
USUAL += ("reg.alpha=0.5", "reg.warmup_steps=1", "testsets=[]", "validation.images=1", "trainer.val_every=2")
USUAL += ("optimizer.schedule=constant",)
STOPS_AT_6 = ("trainer.max_steps=9", "early_stopping.patience=2", "early_stopping.min_delta=1e9")


def _stopping(every: int = 10, patience: int = 2, min_delta: float = 0.0) -> EarlyStopping:
    return EarlyStopping(cast(Validation, SimpleNamespace(every=every, j=None)), patience, min_delta)


def _stopped_at(stopping: EarlyStopping, js: dict[int, float], skipping: tuple[int, ...] = ()) -> int | None:
    """The update after which it ends a training with these J, by update."""
    trainer: Any = SimpleNamespace(should_stop=False, max_steps=1000)
    for step, j in js.items():
        trainer.global_step, stopping.validation.j = step, j
        row = int(step in skipping)
        module: Any = SimpleNamespace(guard=SimpleNamespace(read=lambda row=row: SimpleNamespace(row=row)))
        stopping.on_train_batch_end(trainer, module, None, None, 0)
        if trainer.should_stop:
            return step
    return None


def test_it_ends_after_patience_validations_without_a_lower_j() -> None:
    falling = {10: 3.0, 20: 2.0, 30: 2.5, 40: 1.0, 50: 1.0, 60: 1.5, 70: 0.5}
    stopping = _stopping()
    assert _stopped_at(stopping, falling) == 60
    assert stopping.stop == Stop(60, Lowest(1.0, 40))
    assert _stopped_at(_stopping(patience=3), falling) is None
    assert _stopped_at(_stopping(min_delta=1.5), falling) == 30  # 3 → 2 is no fall by more than 1.5


def test_what_does_not_count() -> None:
    """The validation after the last update unless it is due, and those while updates are skipped."""
    assert _stopped_at(_stopping(patience=1), {10: 2.0, 13: 3.0}) is None
    assert _stopped_at(_stopping(), {10: 2.0, 20: 2.0, 30: 2.0, 40: 2.0}, skipping=(20, 30)) is None
    nan = float("nan")
    assert _stopped_at(_stopping(), {10: 2.0, 20: nan, 30: nan}) == 30


def test_a_run_that_is_sent_back_is_not_stopped() -> None:
    """The guard asks for the end of this training, in order to start from an earlier checkpoint."""
    stopping = _stopping(patience=1)
    stopping.lowest, stopping.validation.j = Lowest(1.0, 10), 2.0
    trainer: Any = SimpleNamespace(should_stop=True, global_step=20)
    stopping.on_train_batch_end(trainer, cast(Any, None), None, None, 0)
    assert stopping.stop is None


def test_its_state_is_the_whole_verdict() -> None:
    js = {10: 1.0, 20: 2.0, 30: 2.0, 40: 3.0}
    for cut in (10, 20, 30):
        before, after = _stopping(patience=3), _stopping(patience=3)
        assert _stopped_at(before, {k: j for k, j in js.items() if k <= cut}) is None
        after.load_state_dict(json.loads(json.dumps(before.state_dict())))
        assert _stopped_at(after, {k: j for k, j in js.items() if k > cut}) == 40
        assert stop_of({"callbacks": {after.state_key: after.state_dict()}}) == after.stop == Stop(40, Lowest(1.0, 10))
        assert stop_of({"callbacks": {before.state_key: before.state_dict()}}) is None
    assert stop_of({}) is None


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ("early_stopping.patience=3",),
            r"patience` \(=3\) counts .* `trainer.val_every` \(=0\) makes none",
        ),
        (("early_stopping.min_delta=0.1",), r"min_delta` \(=0.1\) must be 0 where"),
        (("early_stopping.patience=-1",), r"patience` \(=-1\) must be an integer of at least 0"),
        (("trainer.val_every=1", "early_stopping.min_delta=-1"), r"min_delta` \(=-1\) must be a finite number"),
    ],
)
def test_wrong_settings_are_refused(resolved: Resolved, overrides: tuple[str, ...], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        resolved(*overrides)


def test_the_hash_knows_it_only_where_it_acts(resolved: Resolved) -> None:
    """Off, nothing changes; on, the result also depends on what is validated, and when."""
    composed = dict(resolved("trainer.val_every=2").composed)

    def hashed(patience: int, val_every: int = 2, images: int = 2, min_delta: float = 0, log: int = 50) -> str:
        trainer = {**composed["trainer"], "val_every": val_every, "log_every_n_steps": log}
        changed = {"early_stopping": {"patience": patience, "min_delta": min_delta}, "trainer": trainer}
        validation = {**composed["validation"], "images": images}
        return derived.config_hash({**composed, **changed, "validation": validation})

    before = {key: value for key, value in composed.items() if key != "early_stopping"}
    off = derived.config_hash(before)  # as it was before there was such a setting
    assert {hashed(0), hashed(0, 4), hashed(0, images=3)} == {off}
    assert len({off, hashed(3), hashed(4), hashed(3, 4), hashed(3, images=3), hashed(3, min_delta=0.1)}) == 6
    assert hashed(3, log=7) == hashed(3)


def test_a_schedule_that_would_be_cut_off_is_told(resolved: Resolved) -> None:
    on = ("data.crop=128", "trainer.val_every=2", "early_stopping.patience=3")
    (line,) = checks.doubts(resolved(*on, "optimizer.schedule=cosine", "reg.release_steps=3"))
    assert "`optimizer.schedule` (=cosine) and `reg.release_steps` (=3) would be cut off" in line
    assert not checks.doubts(resolved(*on, "optimizer.schedule=constant"))


@pytest.fixture(scope="module")
def stopped(resolved: Resolved, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of nine updates that was stopped after six."""
    run = tmp_path_factory.mktemp("stopped")
    with pytest.MonkeyPatch.context() as patch:
        _quickly(patch)
        _run(resolved, folder, run)
    return run


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    _quickly(monkeypatch)


def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summary_picture, "draw", lambda *arguments: None)
    monkeypatch.setattr(classical_codecs, "cached", lambda *arguments: [])


def _run(resolved: Resolved, folder: Path, run: Path, *overrides: str, usual: tuple[str, ...] = STOPS_AT_6) -> Any:
    return train(resolved(*USUAL, *usual, f"data.test_dirs=[{folder}]", *overrides), run)


def _rows(run: Path, name: str) -> list[dict[str, str]]:
    with (run / name).open(newline="") as file:
        return list(csv.DictReader(file))


def test_what_it_leaves(stopped: Path, resolved: Resolved, folder: Path, tmp_path: Path) -> None:
    """Record, card and codec say the updates taken, which are those of the run without it, to the bit."""
    run = json.loads((stopped / "results.json").read_text())["run"]
    first = float(_rows(stopped, "validation.csv")[0]["val_j"])
    assert run["steps"] == 6
    assert run["stopped_early"]["lowest_j"] == pytest.approx(first, rel=1e-8)
    assert {**run["stopped_early"], "lowest_j": 0} == {"max_steps": 9, "lowest_j": 0, "lowest_j_step": 2}
    assert model_file.load_codec(stopped / "codec.safetensors").run["steps"] == 6
    assert "| updates | 6, adam, stopped early at update 6 of 9 |" in model_card.of_file(stopped)
    assert sorted(p.stem for p in (stopped / "checkpoints").iterdir()) == ["step-000000004", "step-000000006"]
    whole = _run(resolved, folder, tmp_path, usual=("trainer.max_steps=7",))["run"]
    assert (whole["steps"], "stopped_early" in whole) == (7, False)
    assert _rows(tmp_path, "metrics.csv")[:6] == _rows(stopped, "metrics.csv")
    assert _rows(tmp_path, "validation.csv")[:3] == _rows(stopped, "validation.csv")


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before")  # as of the command line
@pytest.mark.parametrize("step", [4, 6])
def test_a_resumed_run_ends_alike(
    stopped: Path, resolved: Resolved, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """From a checkpoint before the end, or, killed before its record, from the last, without another update."""
    (tmp_path / "checkpoints").mkdir()
    for name in ("metrics.csv", "validation.csv", "best.safetensors", f"checkpoints/step-{step:09d}.ckpt"):
        shutil.copy(stopped / name, tmp_path / name)
    if step == 6:
        monkeypatch.delattr(Trainer, "fit")
    _run(resolved, folder, tmp_path, "ckpt=last")
    for name in ("metrics.csv", "validation.csv", "best.safetensors", "codec.safetensors", "source.safetensors"):
        assert (tmp_path / name).read_bytes() == (stopped / name).read_bytes(), name
    runs = [json.loads((run / "results.json").read_text())["run"] for run in (stopped, tmp_path)]
    assert runs[0] == runs[1]


def test_a_stopped_run_is_finished(
    stopped: Path, resolved: Resolved, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The same command reports it, and says why it ended; more updates are refused with the reason."""
    monkeypatch.delattr(Trainer, "fit")
    with caplog.at_level(logging.INFO):
        assert _run(resolved, folder, stopped, "ckpt=last")["run"]["steps"] == 6
    assert "finished run of this configuration, stopped early at update 6 of 9" in caplog.text
    with pytest.raises(ValueError, match=r"`trainer.max_steps` \(=20\) cannot extend .* of 6 updates .* stopped early"):
        _run(resolved, folder, stopped, "trainer.max_steps=20", "ckpt=last")


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before")  # as of the command line
def test_an_extended_run_stops_where_the_longer_one_would(
    stopped: Path, resolved: Resolved, folder: Path, tmp_path: Path
) -> None:
    """A run that took all its updates goes on counting, though it made a validation of its own after the last."""
    assert "stopped_early" not in _run(resolved, folder, tmp_path, "trainer.max_steps=5")["run"]
    _run(resolved, folder, tmp_path, "ckpt=last")
    for name in ("metrics.csv", "codec.safetensors"):
        assert (tmp_path / name).read_bytes() == (stopped / name).read_bytes(), name
