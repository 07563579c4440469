"""From training at variable rate to the report: a point a level, one run an arm."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

import regicomp
from regicomp.config.settings import Settings
from regicomp.data import testsets
from regicomp.evaluation import summary_picture
from regicomp.image_codec import model_file
from regicomp.report import __main__ as command
from regicomp.report import cost, pictures, records
from regicomp.report.comparison import Options, compare
from regicomp.report.curves import curves_of
from regicomp.training.run import train

Resolved = Callable[..., Settings]
SHIPPED = Path(regicomp.__file__).parent / "pretrained" / "codec.safetensors"
LAMBDAS = [0.0008, 0.0018, 0.0035, 0.0067, 0.013, 0.025, 0.0483]  # of the codec that comes with regicomp
ARMS = [(alpha, seed) for alpha in (0, 0.1) for seed in (0, 1)]


class Made(NamedTuple):
    """Two arms of two seeds, and their report."""

    runs: Path
    photos: Path
    out: Path
    printed: str


@pytest.fixture(scope="module")
def made(resolved: Resolved, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Runs of two updates from the codec that comes with regicomp, whose curve rises, measured on photographs."""
    root = tmp_path_factory.mktemp("variable")
    photos = root / "photos128"
    photos.mkdir()
    (shipped,) = testsets.find(["photos"], "", [])
    for image in shipped.images[:2]:
        Image.fromarray(image.load()[64:192, 64:192]).save(photos / f"{image.name}.png")
    sizes = model_file.load_codec(SHIPPED).spec.arguments
    levels = f"rate.lambdas={LAMBDAS}".replace(" ", "")
    usual = ("rate=variable", levels, *(f"backbone.{k}={sizes[k]}" for k in "NM"), f"init_from={SHIPPED}")
    usual += ("data.batch_size=6", "trainer.max_steps=2", "trainer.log_every_n_steps=1", "optimizer.lr=1e-5")
    usual += (f"data.test_dirs=[{photos}]", "testsets=[]")
    with contextlib.redirect_stdout(io.StringIO()) as printed, pytest.MonkeyPatch.context() as patch:
        patch.setattr(summary_picture, "draw", lambda *arguments: None)  # half of the time, and tested elsewhere
        for alpha, seed in ARMS:
            run = root / "runs" / f"alpha={alpha},seed={seed}"
            run.mkdir(parents=True)
            train(resolved(*usual, f"reg.alpha={alpha}", f"seed={seed}"), run)
        arguments = [root / "runs", "--out", root / "out", "--no-classical", "--images", 1, "--bootstrap", 200]
        command.main([*map(str, arguments), "--test-dirs", str(photos)])
    return Made(root / "runs", photos, root / "out", printed.getvalue())


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_gives_a_point_a_level(made: Made) -> None:
    """Six points a run in results.csv, whose rate and PSNR rise; the curves have every seed and λ."""
    rows = _rows(made.out / "results.csv")
    assert len(rows) == len(LAMBDAS) * len(ARMS)
    assert {row["rate"] for row in rows} == {"variable"}
    for run in {row["run"] for row in rows}:
        own = sorted((row for row in rows if row["run"] == run), key=lambda row: float(row["quality"]))
        assert [float(row["quality"]) for row in own] == [1, 2, 3, 4, 5, 6, 7]
        assert [float(row["lmbda"]) for row in own] == LAMBDAS
        for metric in ("bpp", "psnr_db"):
            values = [float(row[metric]) for row in own]
            assert values == sorted(set(values)), (run, metric)
    curves, skipped = curves_of(records.collect([made.runs]).measurements)
    assert not skipped
    assert [(c.family.alpha, c.lmbdas, c.seeds) for c in curves] == [(a, tuple(LAMBDAS), (0, 1)) for a in (0.0, 0.1)]


def test_bd_rate_by_seed_and_image(made: Made) -> None:
    """Between the two arms, with an interval over seeds and images, and a row a seed."""
    rows = [r for r in _rows(made.out / "bd_rate.csv") if r["testset"] == "photos128" and r["metric"] == "psnr_db"]
    assert [row["seed"] for row in rows] == ["all", "0", "1"]
    together, *by_seed = (float(row["bd_rate_percent"]) for row in rows)
    assert float(rows[0]["low_95"]) < together < float(rows[0]["high_95"])
    assert min(by_seed) < together < max(by_seed)
    assert (rows[0]["points"], rows[0]["anchor_points"], rows[0]["images"]) == ("7", "7", "2")
    assert rows[0]["anchor"] == "hyperprior, α = 0, variable rate"
    assert "hyperprior, α = 0.1, variable rate" in (made.out / "bd_rate.md").read_text()


def test_each_run_is_timed_once(made: Made) -> None:
    (row,) = cost.of(records.collect([made.runs]).measurements)
    timing = [json.loads(path.read_text())["timing"] for path in made.runs.rglob("results.json")]
    assert (row.runs, row.untimed) == (len(ARMS), 0)
    assert row.training_hours == pytest.approx(sum(t["training_seconds"] for t in timing) / 3600)
    assert f"| runs | {len(ARMS)} |" in (made.out / "cost.md").read_text()


def test_the_page_names_runs_by_seed_and_points_by_quality(made: Made) -> None:
    """A run of variable rate has no λ of its own; its pictures are of the level that is named beside them."""
    html = (made.out / "index.html").read_text()
    data = json.loads(re.search(r"<script[^>]*application/json[^>]*>(.*?)</script>", html, re.DOTALL).group(1))  # pyright: ignore
    names = [run["name"].replace("\xa0", " ") for run in data["runs"]]
    assert len(set(names)) == len(names) == len(LAMBDAS) * len(ARMS)
    assert "hyperprior, α = 0.1, variable rate, seed 1, quality 7" in names
    assert all("λ" not in history["name"] for history in data["histories"])
    assert len(data["histories"]) == len(ARMS)
    (shown,) = data["pictures"]
    assert [picture["run"].rpartition(", ")[2] for picture in shown["of_runs"]] == ["quality 4", "quality 4"]


def test_pictures_are_of_the_quality_that_is_asked_for(made: Made) -> None:
    from regicomp.evaluation import round_trip

    codec = round_trip.Codec(model_file.load_codec(SHIPPED))
    pixels = testsets.find([], "", [str(made.photos)])[0].images[0].load()
    for quality in (1.0, 7.0):
        expected, _ = codec.reconstruct(pixels, quality)
        np.testing.assert_array_equal(pictures.code(codec, pixels, quality).x_hat, round_trip.to_pixels(expected))
    with pytest.raises(ValueError, match="`quality` must be given"):
        pictures.code(codec, pixels)


def _also(made: Made, folder: Path, change: Callable[[dict[str, Any]], object]) -> records.Collection:
    """All runs, and those of α = 0 once more, changed."""
    for path in made.runs.glob("alpha=0,*/results.json"):
        content = json.loads(path.read_text())
        change(content)
        (folder / path.parent.name).mkdir()
        (folder / path.parent.name / "results.json").write_text(json.dumps(content))
    return records.collect([made.runs, folder])


def test_unequal_steps_are_refused(made: Made, tmp_path: Path) -> None:
    def longer(content: dict[str, Any]) -> None:
        content["run"] |= {"alpha": 0.3, "source": "hyperprior", "steps": 3}

    curves, _ = curves_of(_also(made, tmp_path, longer).measurements)
    found = {c.family.alpha: c for c in compare(curves, Options(replicates=100)) if c.metric == "psnr_db"}
    assert found[0.1].percent is not None
    assert found[0.3].percent is None
    assert found[0.3].problems[0].startswith("the budgets differ: steps 3 and 2")


def test_variable_rate_is_held_against_fixed_rate(made: Made, tmp_path: Path) -> None:
    """With α = 0, where the same backbone has runs of fixed rate; with α > 0 against variable rate alone."""

    def fixed(content: dict[str, Any]) -> None:
        lowest = content.pop("levels")[0]
        del content["run"]["lambdas"]
        content["run"] |= {"lmbda": lowest["lmbda"], "quality": 1}
        content["testsets"] = lowest["testsets"]

    curves, _ = curves_of(_also(made, tmp_path, fixed).measurements)
    found = [c for c in compare(curves, Options(replicates=100)) if c.metric == "psnr_db"]
    pairs = {(c.family.rate, c.family.alpha, c.anchor.rate) for c in found if c.anchor is not None}
    assert pairs == {("variable", 0.1, "variable"), ("variable", 0.0, "fixed")}
    (alone,) = (c for c in found if c.family.alpha == 0)
    assert alone.problems == ("the anchor has 1 point, 4 are needed",)
    assert "one codec of variable rate against codecs of fixed rate" in alone.notes
