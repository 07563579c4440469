"""The λ control: a plain training at other λ has the rates of a regularized one, and may be the anchor of others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import synthetic
from hypothesis import given
from hypothesis import strategies as st

from regicomp.report import comparison, lambda_control, records
from regicomp.report.curves import Curve, curves_of

LMBDAS = (0.0018, 0.0035, 0.0067, 0.013)


@given(st.floats(0.1, 1.5), st.floats(0.5, 2.0))
def test_the_rates_of_a_power_law_are_met(slope: float, factor: float) -> None:
    """Where R = λ^s, the λ found have the rates asked for."""
    anchor = np.array(LMBDAS) ** slope
    found = lambda_control.matching(LMBDAS, anchor, factor * anchor)
    assert found is not None
    assert found**slope == pytest.approx(factor * anchor, rel=1e-6)


def test_equal_rates_need_no_other_lambda_and_falling_ones_have_none() -> None:
    """And an anchor whose rate falls with λ is no curve to move along."""
    rates = np.array([0.1, 0.2, 0.3, 0.5])
    assert lambda_control.matching(LMBDAS, rates, rates) == pytest.approx(LMBDAS)
    assert lambda_control.matching(LMBDAS, rates[::-1], rates) is None


def _curves(folder: Path, **runs: dict[str, object]) -> list[Curve]:
    for name, run in runs.items():
        for quality in (1, 2, 3, 4):
            synthetic.write(folder / f"{name}-{quality}", synthetic.record(quality=quality, jitter=0.0, **run))  # pyright: ignore[reportArgumentType]
    curves, skipped = curves_of(records.collect([folder]).measurements)
    assert not skipped
    return curves


def test_only_a_family_with_an_anchor_of_its_lambda_has_one(tmp_path: Path) -> None:
    """With the shift that was put in, once, whatever metrics were measured."""
    curves = _curves(tmp_path, plain={}, regularized={"alpha": 0.1, "saving": 0.1})
    options = comparison.Options(replicates=100)
    compared = comparison.compare(curves, options)
    (found,) = lambda_control.controls(compared, curves, options)
    assert found.family.alpha == 0.1
    assert found.shift == pytest.approx(-10, abs=1e-6)
    assert (found.control < np.array(found.lmbdas)).all()
    assert not lambda_control.controls([], curves, options)


def test_another_variant_can_be_the_anchor(tmp_path: Path) -> None:
    """All but itself are held against it, those of α = 0 too; and a variant that is not there is named."""
    curves = _curves(
        tmp_path,
        plain={},
        control={"variant": "λ control", "saving": 0.05},
        regularized={"alpha": 0.1, "saving": 0.1},
    )
    by_psnr = {
        anchor: {
            (c.family.alpha, c.family.variant): c
            for c in comparison.compare(curves, comparison.Options(replicates=100, anchor=anchor))
            if c.metric == "psnr_db"
        }
        for anchor in (None, "plain", "λ control", "absent")
    }
    assert set(by_psnr[None]) == {(0.1, None)}
    assert set(by_psnr["plain"]) == {(0, "λ control"), (0.1, None)}
    assert set(by_psnr["λ control"]) == {(0, None), (0.1, None)}
    assert by_psnr["plain"][0, "λ control"].percent == pytest.approx(-5, abs=1e-6)
    assert by_psnr["λ control"][0.1, None].percent == pytest.approx(100 * (0.9 / 0.95 - 1), abs=1e-6)
    (missing,) = by_psnr["absent"].values()
    assert "variant absent" in missing.problems[0]
