"""A search of settings: `hydra/sweeper=optuna` gets a figure of each run and finds the lowest."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from regicomp.evaluation import record

SHIPPED = Path(record.__file__).parents[1] / "pretrained" / "results.json"


def test_three_trials(folder: Path, tmp_path: Path) -> None:
    arguments = [
        *(sys.executable, "-m", "regicomp.train", "-m", "experiment=tune", "size=tiny", "trainer.max_steps=3"),
        *("data=folder", f"data.train_dir={folder}", f"data.test_dirs=[{folder}]", "data.crop=64", "data.batch_size=2"),
        *("precision=float32", "evaluation.images=1", "hydra.sweeper.n_trials=3", f"hydra.sweep.dir={tmp_path}"),
    ]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "run 3 of 3" in done.stdout
    records = {path.parent: json.loads(path.read_text()) for path in tmp_path.rglob("results.json")}
    assert len(records) == 3
    best: Any = OmegaConf.load(tmp_path / "optimization_results.yaml")
    found = {run: record.optimized(content, "j") for run, content in records.items()}
    assert best.best_value == pytest.approx(min(v for v in found.values() if v is not None))
    lowest = min(found, key=lambda run: found[run] or 0)
    assert records[lowest]["run"]["alpha"] == pytest.approx(best.best_params["reg.alpha"])


def test_a_run_s_figure() -> None:
    """J of the first test set, the mean over its images and over the levels; or a metric; a plan has none."""
    known = record.read(SHIPPED)
    js: list[float] = []
    for level in known["levels"]:
        images = next(iter(level["testsets"].values()))["images"]
        js += [i["bpp"] + level["lmbda"] * 255**2 / 10 ** (i["psnr_db"] / 10) for i in images]
    assert record.optimized(known, "j") == pytest.approx(sum(js) / len(js))
    of_levels = [next(iter(level["testsets"].values()))["bpp"] for level in known["levels"]]
    assert record.optimized(known, "bpp") == pytest.approx(sum(of_levels) / len(of_levels))
    assert record.optimized({"seconds": 3.0}, "j") is None
    without = copy.deepcopy(known)
    for level in without["levels"]:
        next(iter(level["testsets"].values()))["ms_ssim"] = None
    with pytest.raises(ValueError, match=r"`optimized_metric` \(=ms_ssim\) must be measured"):
        record.optimized(without, "ms_ssim")
