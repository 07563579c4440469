"""Noise between trainings: what is put into records is found, and intervals cover as often as they say."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import synthetic
from hypothesis import given
from hypothesis import strategies as st

from regicomp.report import comparison, lambda_control, records, trainings
from regicomp.report.curves import Curve, curves_of


def _curve(folder: Path, factors: dict[int, float]) -> Curve:
    """A curve whose seeds need so many times the bits of the same thing."""
    for seed, factor in factors.items():
        for quality in (1, 2, 3, 4):
            content = synthetic.record(quality=quality, saving=1 - factor, jitter=0.0)
            content["run"] |= {"seed": seed, "config_hash": f"{seed}-{quality}"}
            synthetic.write(folder / f"{seed}-{quality}", content)
    collection = records.collect([folder])
    (curve,), skipped = curves_of(collection.measurements)
    assert not [*collection.skipped, *skipped]
    return curve


def test_the_spread_that_was_put_in_is_found(tmp_path: Path) -> None:
    """Rates of e^-0.02, 1 and e^0.02 deviate by 2 %, the outer two by e^0.04 - 1; ±0.5 needs over 100 trainings."""
    curve = _curve(tmp_path, {0: math.exp(-0.02), 1: 1.0, 2: math.exp(0.02)})
    found = trainings.spread(curve, "psnr_db", "pchip", 2.0)
    assert not found.problems
    assert found.deviation == pytest.approx(2.0, rel=1e-6)
    assert found.largest == pytest.approx(100 * math.expm1(0.04), rel=1e-6)
    assert found.needed is not None
    assert 110 < found.needed < 140  # (1.96 · 2 √2 / 0.5)² = 123, and a little more by Student's t


def test_equal_trainings_have_no_spread(tmp_path: Path) -> None:
    """Two of them are enough, and the order of the seeds is of no account."""
    found = trainings.spread(_curve(tmp_path, {0: 1.0, 1: 1.0}), "psnr_db", "pchip", 2.0)
    assert (found.largest, found.deviation, found.needed) == (pytest.approx(0, abs=1e-9), pytest.approx(0, abs=1e-9), 2)


def test_a_curve_without_a_number_says_why(tmp_path: Path) -> None:
    """A span of less than the least asked for is a reason, and a spread of None."""
    found = trainings.spread(_curve(tmp_path, {0: 1.0, 1: 1.1}), "psnr_db", "pchip", 50.0)
    assert found.deviation is None
    assert "less than 50 dB" in found.problems[0]


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=8), st.floats(-5, 5))
def test_the_interval_moves_with_its_values(values: list[float], shift: float) -> None:
    """It lies around their mean, and a shift of all is a shift of it."""
    first = trainings.over_trainings(values)
    moved = trainings.over_trainings([value + shift for value in values])
    assert first is not None
    assert moved is not None
    assert first.low <= first.percent <= first.high
    assert (moved.low, moved.high) == (
        pytest.approx(first.low + shift, abs=1e-8),
        pytest.approx(first.high + shift, abs=1e-8),
    )


@pytest.mark.parametrize("count", [2, 3, 6])
def test_the_interval_covers_as_often_as_it_says(count: int) -> None:
    """Of 2,000 sets of normal values 95 % have 0 within; percentiles of draws from three values would have fewer."""
    generator = np.random.default_rng(count)
    covered = 0
    for _ in range(2000):
        found = trainings.over_trainings(list(generator.normal(size=count)))
        assert found is not None
        covered += found.low <= 0 <= found.high
    assert 0.935 < covered / 2000 < 0.965


def test_fewer_than_two_or_a_missing_number_has_no_interval() -> None:
    """A mean of those that happen to have a number would be another quantity."""
    assert trainings.over_trainings([]) is None
    assert trainings.over_trainings([1.0]) is None
    assert trainings.over_trainings([1.0, None, 2.0]) is None


def test_the_tables_hold_both(tmp_path: Path) -> None:
    """trainings.md has the BD-rate over trainings and the spread of the plain ones; bd_rate.csv the former."""
    from regicomp.report import csv_rows, style, tables

    synthetic.sweep(tmp_path, seeds=(0, 1, 2), jitter=0.01)
    measurements = records.collect([tmp_path]).measurements
    curves, _ = curves_of(measurements)
    options = comparison.Options(replicates=100)
    compared = comparison.compare(curves, options)
    labels = style.names(list(dict.fromkeys(c.family for c in curves)))
    spreads = trainings.spreads(curves, "pchip", 2.0)
    controls = lambda_control.controls(compared, curves, options)
    text = tables.trainings_markdown(compared, spreads, controls, labels)
    (c,) = (c for c in compared if c.metric == "psnr_db")
    over = trainings.over_trainings(list(c.by_seed.values()))
    assert over is not None
    assert f"| 3 | {tables.signed(over.percent)} | {tables.interval(over.low, over.high)} |" in text
    assert text.count("| kodak | PSNR | 3 |") == 3  # the comparison, and both families' spreads
    rows = csv_rows.bd_rows(compared, [], comparison.Options(), labels)
    (row,) = (row for row in rows if row["metric"] == "psnr_db" and row["seed"] == "all")
    assert float(row["trainings_low_95"]) == pytest.approx(over.low, abs=1e-3)
    json.dumps(rows)  # nothing but plain values
