"""Validation while training: the exported codec's own figures, the best one kept, and a training left alone."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from regicomp.config.settings import Settings
from regicomp.data import testsets
from regicomp.evaluation import classical_codecs, round_trip, summary_picture
from regicomp.image_codec import model_file
from regicomp.training.averaging import Average
from regicomp.training.run import train

Resolved = Callable[..., Settings]
USUAL = ("trainer.max_steps=5", "trainer.log_every_n_steps=1", "trainer.checkpoint_every=4", "evaluation.images=1")
USUAL += ("reg.alpha=0.5", "reg.warmup_steps=1", "optimizer.lr=1e-3", "testsets=[]", "validation.images=2")


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summary_picture, "draw", lambda *arguments: None)
    monkeypatch.setattr(classical_codecs, "cached", lambda *arguments: [])


def _run(resolved: Resolved, folder: Path, run: Path, *overrides: str) -> Settings:
    run.mkdir(exist_ok=True)
    settings = resolved(*USUAL, f"data.test_dirs=[{folder}]", *overrides)
    train(settings, run)
    return settings


def _rows(run: Path) -> list[dict[str, float]]:
    with (run / "validation.csv").open(newline="") as file:
        return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before")  # as of the command line
def test_it_leaves_the_training_alone_and_resumes(resolved: Resolved, folder: Path, tmp_path: Path) -> None:
    """Equal losses and weights, bit for bit, with validations and without; resumed, the same rows and best codec."""
    without, validated, resumed = (tmp_path / name for name in ("without", "validated", "resumed"))
    settings = _run(resolved, folder, without, "average.decay=0.5")
    same = _run(resolved, folder, validated, "trainer.val_every=2", "average.decay=0.5")
    assert same.config_hash == settings.config_hash
    for name in ("metrics.csv", "codec.safetensors", "source.safetensors"):
        assert (validated / name).read_bytes() == (without / name).read_bytes(), name
    assert not (without / "validation.csv").exists()
    assert [row["step"] for row in _rows(validated)] == [2, 4, 5]
    assert not (validated / "candidate.safetensors").exists()
    (resumed / "checkpoints").mkdir(parents=True)
    for name in ("metrics.csv", "validation.csv", "best.safetensors", "checkpoints/step-000000004.ckpt"):
        shutil.copy(validated / name, resumed / name)
    _run(resolved, folder, resumed, "trainer.val_every=2", "average.decay=0.5", "ckpt=last")
    for name in ("metrics.csv", "validation.csv", "best.safetensors", "codec.safetensors"):
        assert (resumed / name).read_bytes() == (validated / name).read_bytes(), name


def test_its_last_row_is_the_exported_codec_s(resolved: Resolved, folder: Path, tmp_path: Path) -> None:
    """At variable rate, a point a level: means over the images of what a codec's own reconstructions have."""
    settings = _run(resolved, folder, tmp_path, "rate=variable", "data.batch_size=6", "trainer.val_every=3")
    row = _rows(tmp_path)[-1]
    codec = round_trip.Codec(model_file.load_codec(tmp_path / "codec.safetensors"))
    (found,) = testsets.find([], "", [str(folder)])
    js: list[float] = []
    for k, lmbda in enumerate(settings.rate.lambdas or [], 1):
        measured = [round_trip.measure(codec, image, None, k) for image in found.images[:2]]
        bpp = sum(m.bpp_estimated or 0 for m in measured) / 2
        assert row[f"val_bpp_{k}"] == pytest.approx(bpp, rel=1e-5)
        assert row[f"val_psnr_db_{k}"] == pytest.approx(sum(m.psnr_db for m in measured) / 2, rel=1e-5)
        mse = sum(255**2 / 10 ** ((m.psnr_db_float or 0) / 10) for m in measured) / 2
        js.append(bpp + lmbda * mse)
        assert row[f"val_j_{k}"] == pytest.approx(js[-1], rel=1e-4)
    assert row["val_j"] == pytest.approx(sum(js) / 6, rel=1e-4)
    lowest = min(_rows(tmp_path), key=lambda r: r["val_j"])
    assert model_file.load_codec(tmp_path / "best.safetensors").run["steps"] == lowest["step"]


def test_averages_are_lent_and_given_back() -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    average = Average([weight], 0.5)
    average.update(0)
    with torch.no_grad():
        weight.fill_(3.0)
    average.update(1)
    with average.in_use():
        lent = weight.detach().clone()
    assert 1 < float(lent[0]) < 3
    assert weight.tolist() == [3, 3]
