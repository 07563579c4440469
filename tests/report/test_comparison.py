"""Records become curves and BD-rates; whatever does not fit is named, never dropped."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import synthetic

from regicomp.report import comparison, records
from regicomp.report.comparison import Comparison, Options
from regicomp.report.curves import METRICS, curves_of

FEW = Options(replicates=200)


def _compared(folder: Path, options: Options = FEW) -> tuple[list[Comparison], list[str]]:
    """Comparisons by PSNR, and the lines about what was left out."""
    collection = records.collect([folder])
    curves, skipped = curves_of(collection.measurements)
    said = [f"{s.where}: {s.why}" for s in (*collection.skipped, *skipped)]
    return [c for c in comparison.compare(curves, options) if c.metric == "psnr_db"], said


def _edit(path: Path, change: Any) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_known_saving_is_found(tmp_path: Path) -> None:
    """Rates 2 % lower at equal quality give −2 %, on every test set, by both metrics, with an interval of no width."""
    synthetic.sweep(tmp_path, ("hyperprior", "elic"), jitter=0.0, testsets=("kodak", "ood/art"))
    curves, skipped = curves_of(records.collect([tmp_path]).measurements)
    comparisons = comparison.compare(curves, FEW)
    assert not skipped
    assert {(c.family.backbone, c.testset, c.metric) for c in comparisons} == {
        (b, t, m) for b in ("hyperprior", "elic") for t in ("kodak", "ood/art") for m in METRICS
    }
    for c in comparisons:
        assert c.percent == pytest.approx(-2, abs=1e-6)
        assert c.other == pytest.approx(-2, abs=1e-6)
        assert (c.low, c.high) == (pytest.approx(-2, abs=1e-6), pytest.approx(-2, abs=1e-6))
        assert c.overlap == 1
        assert c.anchor is not None
        assert c.anchor.alpha == 0
        assert c.by_seed == {0: pytest.approx(-2, abs=1e-6), 1: pytest.approx(-2, abs=1e-6)}
    means = comparison.domain_means(comparisons, FEW)
    assert {(m.domain, m.testsets) for m in means} == {("in-domain", ("kodak",)), ("unseen", ("ood/art",))}
    assert all(m.percent == pytest.approx(-2, abs=1e-6) for m in means)


def test_interval_holds_the_number_and_repeats(tmp_path: Path) -> None:
    """The interval lies around the BD-rate, grows with the noise, and is the same each time."""
    wide: list[float] = []
    for jitter in (0.005, 0.05):
        folder = synthetic.sweep(tmp_path / str(jitter), seeds=(0, 1, 2), jitter=jitter)
        (first,), _ = _compared(folder, Options())
        (again,), _ = _compared(folder, Options())
        assert first.percent is not None
        assert first.low is not None
        assert first.high is not None
        assert first.low < first.percent < first.high
        assert (first.low, first.high) == (again.low, again.high)
        wide.append(first.high - first.low)
    assert wide[1] > 4 * wide[0]


def test_pairing_narrows_the_interval(tmp_path: Path) -> None:
    """The same images for both curves: how much images differ from each other does not blur the comparison."""
    synthetic.sweep(tmp_path, jitter=0.002, images=12)
    curves, _ = curves_of(records.collect([tmp_path]).measurements)
    plain, regularized = sorted(curves, key=lambda c: c.family.alpha)
    paired = comparison.bootstrap(plain, regularized, "psnr_db", FEW)
    order = np.random.default_rng(0).permutation(12)
    shuffled = regularized._replace(rate=regularized.rate[:, :, order], psnr_db=regularized.psnr_db[:, :, order])
    assert np.nanstd(comparison.bootstrap(plain, shuffled, "psnr_db", FEW)) > 5 * np.nanstd(paired)


def test_unequal_budgets_are_refused_unless_told(tmp_path: Path) -> None:
    """Runs of different steps, crop, batch or data are not compared by default; an unknown field is no hurdle."""
    synthetic.sweep(tmp_path, savings={0.0: 0.0}, crop=256)
    synthetic.sweep(tmp_path, savings={0.1: 0.02}, crop=128, steps=40000, batch_size=8)
    (refused,), _ = _compared(tmp_path)
    assert refused.percent is None
    assert "steps 40000 and 20000, crop 128 and 256" in refused.problems[0]
    (told,), _ = _compared(tmp_path, FEW._replace(allow_unequal_budgets=True))
    assert told.percent is not None
    assert "the budgets differ" in told.notes[0]


def test_a_run_that_was_stopped_early_is_on_no_curve_of_other_steps(tmp_path: Path) -> None:
    """Its record says the updates taken, so it stands alone, and without a number of its own."""
    synthetic.sweep(tmp_path)
    path = next(p for p in tmp_path.rglob("results.json") if json.loads(p.read_text())["run"]["alpha"] == 0.1)
    _edit(path, lambda r: r["run"].update(steps=7000, stopped_early={"max_steps": 20000}))
    compared, _ = _compared(tmp_path)
    alone, rest = sorted(compared, key=lambda c: c.points)
    assert alone.percent is None
    assert "steps 7000 and 20000" in alone.problems[0]
    assert rest.family.budget.steps == 20000
    assert rest.percent is not None


def test_anchor_of_the_same_budget_is_preferred(tmp_path: Path) -> None:
    """With anchors of several budgets, each family is held against its own."""
    for steps in (20000, 40000):
        synthetic.sweep(tmp_path / str(steps), steps=steps)
    compared, _ = _compared(tmp_path)
    assert len(compared) == 2
    for c in compared:
        assert c.percent is not None
        assert c.anchor is not None
        assert c.anchor.budget == c.family.budget


def test_anchor_of_the_same_name_is_preferred(tmp_path: Path) -> None:
    """A curve is held against the anchor of its own `variant`, and a curve without that against the plain one."""
    for name in (None, "fast"):
        synthetic.sweep(tmp_path / str(name), variant=name)
    synthetic.sweep(tmp_path / "critic", savings={0.1: 0.02}, variant="source_steps=2")
    compared, _ = _compared(tmp_path)
    anchors = {c.family.variant: c.anchor.variant for c in compared if c.anchor}
    assert anchors == {None: None, "fast": "fast", "source_steps=2": None}


def test_codecs_of_other_sizes_are_no_anchor(tmp_path: Path) -> None:
    """A codec with fewer parameters at the same λ is not what to compare with."""
    synthetic.sweep(tmp_path, savings={0.0: 0.0}, parameters=1000)
    synthetic.sweep(tmp_path, savings={0.1: 0.02})
    (refused,), _ = _compared(tmp_path)
    assert "parameters 5000000 and 1000 at λ 0.0018" in refused.problems[0]


def test_seeds_are_matched(tmp_path: Path) -> None:
    """Seeds that only one side has are left out of the comparison, and said so."""
    synthetic.sweep(tmp_path, savings={0.0: 0.0}, seeds=(0, 1))
    synthetic.sweep(tmp_path, savings={0.1: 0.02}, seeds=(1, 2))
    (c,), _ = _compared(tmp_path)
    assert c.seeds == (1,)
    assert any("seed 0, 2 is on one side only" in note for note in c.notes)
    assert any("one seed" in note for note in c.notes)


@pytest.mark.parametrize("qualities", [(3,), (1, 2, 3)])
def test_too_few_points_say_so(tmp_path: Path, qualities: tuple[int, ...]) -> None:
    """One-point curves, and any of fewer than four points, get a reason and no number."""
    synthetic.sweep(tmp_path, qualities=qualities)
    (c,), _ = _compared(tmp_path)
    assert c.percent is None
    assert len(c.problems) == 2
    assert all("4 are needed" in said for said in c.problems)


def test_missing_anchor_says_so(tmp_path: Path) -> None:
    """Without α = 0 there is nothing to hold a curve against."""
    synthetic.sweep(tmp_path, savings={0.1: 0.02})
    (c,), _ = _compared(tmp_path)
    assert c.problems == ("there is no run with α = 0 to compare it with",)


def test_quality_that_does_not_follow_lambda_says_so(tmp_path: Path) -> None:
    """Two swapped records, as an unfinished training makes them: no number."""
    synthetic.sweep(tmp_path, seeds=(0,))
    paths = [tmp_path / f"hyperprior/alpha=0.1,quality={q},seed=0/results.json" for q in (2, 3)]
    first, second = (json.loads(path.read_text()) for path in paths)
    for path, content, other in zip(paths, (first, second), (second, first), strict=True):
        path.write_text(json.dumps({**content, "testsets": other["testsets"]}))
    (c,), _ = _compared(tmp_path)
    assert c.percent is None
    assert "not monotone" in c.problems[0]


def _nan_metric(content: dict[str, Any]) -> None:
    content["testsets"]["kodak"]["images"][2]["psnr_db"] = math.nan


def _none_rate(content: dict[str, Any]) -> None:
    content["testsets"]["kodak"]["images"][0]["bpp"] = None


def _false_average(content: dict[str, Any]) -> None:
    content["testsets"]["kodak"]["psnr_db"] += 0.5


def _no_images(content: dict[str, Any]) -> None:
    content["testsets"]["kodak"]["images"] = []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_nan_metric, "`psnr_db` of image kodim03.png is nan"),
        (_none_rate, "`bpp` of image kodim01.png is None"),
        (_false_average, "its average `psnr_db`"),
        (_no_images, "lists no images"),
        (lambda content: content.update(schema=2), "is a record of schema 2; expected 1"),
        (lambda content: content["run"].pop("lmbda"), "lacks 'lmbda'"),
        (lambda content: content["run"].update(alpha="much"), "`alpha` is much, not a number"),
        (lambda content: content.update(testsets={}), "was measured on no test set"),
        (lambda content: content.update(testsets=[1]), ""),
        (lambda content: content.update(run=None), ""),
    ],
)
def test_bad_record_is_named(tmp_path: Path, change: Any, said: str) -> None:
    """A record that cannot be used is named with its fault, and the others are used."""
    synthetic.sweep(tmp_path, seeds=(0,))
    _edit(tmp_path / "hyperprior/alpha=0.1,quality=3,seed=0/results.json", change)
    collection = records.collect([tmp_path])
    assert len(collection.measurements) == 7
    (skipped,) = collection.skipped
    assert skipped.where.startswith("alpha=0.1,quality=3,seed=0")
    assert said in skipped.why


def test_unreadable_and_missing_are_named(tmp_path: Path) -> None:
    """Empty folders, missing paths and files that are no JSON."""
    synthetic.sweep(tmp_path / "good", seeds=(0,))
    (tmp_path / "empty").mkdir()
    (tmp_path / "good" / "results.json").write_text("{")
    collection = records.collect([tmp_path / "good", tmp_path / "empty", tmp_path / "none"])
    assert len(collection.measurements) == 8
    said = [s.why for s in collection.skipped]
    assert any("no such file" in why for why in said)
    assert any("holds no results.json" in why for why in said)
    assert any("is not a readable record" in why for why in said)
    with pytest.raises(ValueError, match=r"`RUNS` .*empty.* must hold at least one usable results\.json"):
        records.collect([tmp_path / "empty"])


def test_duplicates_are_named(tmp_path: Path) -> None:
    """The same configuration and seed twice: the first is kept and the second named; another configuration too."""
    synthetic.sweep(tmp_path / "a", seeds=(0,))
    twin = synthetic.record("hyperprior", 0.1, 3, 0, 0.02)
    synthetic.write(tmp_path / "b" / "twin", twin)
    _edit(
        synthetic.write(tmp_path / "b" / "other", twin),
        lambda content: content["run"].update(config_hash="other"),
    )
    collection = records.collect([tmp_path])
    assert len(collection.measurements) == 8
    said = {s.where: s.why for s in collection.skipped}
    assert "is a duplicate of a/hyperprior/alpha=0.1,quality=3,seed=0" in said["b/twin, kodak"]
    assert "their figures are equal" in said["b/twin, kodak"]
    assert "by another configuration" in said["b/other, kodak"]
    # The same file by two arguments is one file.
    assert len(records.collect([tmp_path / "a", tmp_path / "a" / "hyperprior"]).measurements) == 8


def test_further_test_sets_of_a_run_are_joined(tmp_path: Path) -> None:
    """A codec evaluated later on another test set adds to its curve there, in a folder of its own."""
    for name, testset in (("train", "kodak"), ("later", "ood/art")):
        synthetic.sweep(tmp_path / name, seeds=(0,), testsets=(testset,))
    compared, said = _compared(tmp_path)
    assert {c.testset for c in compared} == {"kodak", "ood/art"}
    assert not said


def test_mixed_images_are_named(tmp_path: Path) -> None:
    """A test set of other images under the same name does not enter the curve."""
    synthetic.sweep(tmp_path, seeds=(0,), savings={0.0: 0.0})
    synthetic.sweep(tmp_path, seeds=(0,), savings={0.1: 0.02}, images=5)
    (c,), _ = _compared(tmp_path)
    assert c.problems == ("measured on different images (5, the anchor 6)",)
    synthetic.write(tmp_path / "hyperprior/alpha=0,quality=2,seed=0", synthetic.record(quality=2, images=4))
    _, said = _compared(tmp_path)
    assert any("quality=2" in line and "on other images than the rest of its curve" in line for line in said)


def test_incomplete_seeds_are_named(tmp_path: Path) -> None:
    """A seed that lacks a λ is left out whole, so that every point averages the same seeds."""
    synthetic.sweep(tmp_path)
    (tmp_path / "hyperprior/alpha=0.1,quality=3,seed=1/results.json").unlink()
    (c,), said = _compared(tmp_path)
    assert c.seeds == (0,)
    assert sum("seed 1 has no run at λ 0.0067" in line for line in said) == 3


def test_probed_anchor_serves_where_there_is_no_other(tmp_path: Path) -> None:
    """An unregularized codec with q_θ trained beside it is an anchor too, the second choice."""
    synthetic.sweep(tmp_path / "probe", savings={0.0: 0.0}, source="hyperprior", jitter=0.0)
    synthetic.sweep(tmp_path / "reg", savings={0.1: 0.02}, jitter=0.0)
    (c,), _ = _compared(tmp_path)
    assert c.percent == pytest.approx(-2, abs=1e-6)
    synthetic.sweep(tmp_path / "plain", savings={0.0: 0.0}, jitter=0.0)
    (c,), _ = _compared(tmp_path)
    assert c.anchor is not None
    assert c.anchor.source is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [("kodak", "in-domain"), ("bsds500/test", "in-domain"), ("ood/art", "unseen"), ("art", "unseen"), ("party", None)],
)
def test_domains(name: str, expected: str | None) -> None:
    """A test set's domain follows from the parts of its name."""
    assert comparison.domain(name, Options()) == expected
