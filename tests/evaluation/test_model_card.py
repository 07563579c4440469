"""A codec's card says how it was made and what it reaches, and nothing that its file does not say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import regicomp
from regicomp import codec as command
from regicomp.evaluation import model_card, record
from regicomp.image_codec import model_file

SPEC = model_file.Spec("regicomp.backbone.hyperprior.Hyperprior", {"N": 8, "M": 12})
RUN: dict[str, Any] = {
    **{"backbone": "hyperprior", "source": "hyperprior", "alpha": 0.1, "lmbda": 0.0067, "distortion": "mse"},
    **{"data": ["bsds500/train"], "crop": 128, "batch_size": 8, "steps": 12345, "optimizer": "soap", "seed": 3},
    **{"config_hash": "0123456789ab", "versions": {"regicomp": "0.1.0"}},
}
FIGURES = {"bpp": 0.5, "psnr_db": 30.0, "ms_ssim": None, "images": [{}, {}]}


def _exported(folder: Path, **changed: Any) -> Path:
    torch.manual_seed(0)
    path = folder / "codec.safetensors"
    model_file.save_codec(path, model_file.build(SPEC, "backbone"), SPEC, {**RUN, **changed})
    return path


def _rows(card: str) -> dict[str, str]:
    cells = [line.strip("| ").split(" | ", 1) for line in card.splitlines() if line.startswith("| ")]
    return {row[0]: row[1] for row in cells if len(row) == 2}


def test_a_card_tells_what_the_file_says(tmp_path: Path) -> None:
    rows = _rows(model_card.of_file(_exported(tmp_path, license="CC-BY-4.0")))
    assert rows["architecture"] == f"`{SPEC.target}` with M=12, N=8"
    assert rows["rate"] == "λ = 0.0067"
    assert rows["regularizer"] == "α = 0.1, q_θ of the family hyperprior"
    assert rows["training data"] == "bsds500/train; 8 crops of 128² an update"
    assert rows["updates"] == "12,345, soap"
    assert rows["licence"] == "CC-BY-4.0"
    bare = tmp_path / "bare.safetensors"
    model_file.save_codec(bare, model_file.build(SPEC, "backbone"), SPEC, {})
    told = _rows(model_card.of_file(bare))
    assert told["regularizer"] == told["training data"] == told["updates"] == told["distortion"] == "not recorded"
    assert told["licence"].startswith("not stated")


def test_figures_are_those_of_the_file_s_own_record(tmp_path: Path) -> None:
    path = _exported(tmp_path)
    assert "kodak" not in model_card.of_file(path)
    (tmp_path / "results.json").write_text(json.dumps({"schema": 1, "run": RUN, "testsets": {"kodak": FIGURES}}))
    model_card.write(path)
    card = (tmp_path / "codec.md").read_text()
    assert "| kodak | - | 0.5000 | 30.000 | - | 2 |" in card
    assert card == model_card.of_file(tmp_path)  # of the run's folder
    other = {"schema": 1, "run": {**RUN, "config_hash": "another"}, "testsets": {"kodak": FIGURES}}
    (tmp_path / "results.json").write_text(json.dumps(other))
    assert "kodak" not in model_card.of_file(path)


def test_info_prints_cards_and_describes_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = _exported(tmp_path)
    command.main(["info", str(path), str(tmp_path)])
    assert capsys.readouterr().out.count("# hyperprior, λ = 0.0067\n") == 2
    command.main(["info"])
    card = capsys.readouterr().out
    measured = record.points(record.read(regicomp.SHIPPED.with_name("results.json")))
    for point in measured:
        entry = point.testsets["kodak"]
        assert f"| kodak | {point.quality:g} | {entry['bpp']:.4f} | {entry['psnr_db']:.3f} |" in card
    assert _rows(card)["licence"] == "Apache-2.0"
