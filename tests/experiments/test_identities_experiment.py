"""The comparison at equal distortion, and the whole command at a toy size."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.identities import compare, figures, games, tables


def _rows(alpha: float, seed: int, shift: float = 0.0) -> list[dict[str, object]]:
    """Points of H(U) = 10 - log2 D + shift, at distortions that are 1 + α times as large."""
    common = {"source": "s", "alpha": alpha, "seed": seed}
    distortions = [d * (1 + alpha) for d in (4.0, 16.0, 64.0, 256.0)]
    return [common | {"mse_255": d, "h_u": 10 - math.log2(d) + shift} for d in distortions]


def test_moving_along_a_curve_is_no_difference() -> None:
    (found,) = compare.compare(_rows(0.0, 0) + _rows(0.3, 0), "h_u")
    assert found.bits == pytest.approx([0.0], abs=1e-12)


@given(st.floats(-0.5, 0.5))
def test_a_shifted_curve_differs_by_its_shift_and_back(shift: float) -> None:
    one = compare.curve(_rows(0.0, 0), "h_u")
    other = compare.curve(_rows(0.1, 0, shift), "h_u")
    assert compare.difference(one, other).bits == pytest.approx(shift, abs=1e-9)
    assert compare.difference(other, one).bits == pytest.approx(-shift, abs=1e-9)


def test_curves_that_do_not_overlap_are_refused() -> None:
    one = compare.Curve(np.array([1.0, 2.0]), np.array([3.0, 2.0]))
    with pytest.raises(ValueError, match="share no distortion"):
        compare.difference(one, compare.Curve(np.array([3.0, 4.0]), np.array([2.0, 1.0])))


@pytest.mark.parametrize("order", [1, -1], ids=["D rises with λ", "D falls with λ"])
def test_points_moved_along_a_straight_curve_stay_on_it(order: int) -> None:
    """Whichever way D follows λ: after few updates it may rise with it."""
    lmbdas = [0.003, 0.006, 0.012, 0.024][::order]
    rows = [row | {"lmbda": lmbda} for row, lmbda in zip(_rows(0.0, 0), lmbdas, strict=True)]
    assert compare.interpolation_error(rows, "h_u", 0.1) == pytest.approx(0.0, abs=1e-9)


def test_the_interval_holds_the_mean_and_narrows_with_agreement() -> None:
    wide, narrow = compare.interval([[0.0, 1.0, 2.0]]), compare.interval([[0.9, 1.0, 1.1]])
    assert wide.low < wide.mean == pytest.approx(1.0)
    assert wide.high - wide.low > 5 * (narrow.high - narrow.low) > 0
    same = compare.interval([[2.0, 2.0], [4.0, 4.0]])
    assert (same.mean, same.low, same.high) == pytest.approx((3.0, 3.0, 3.0))


@pytest.mark.slow
def test_every_table_and_figure_is_made(tmp_path: Path) -> None:
    """All games at 12 updates and 2 seeds; what is read back is what was measured."""
    played, _ = games.run(games.plan(2, 12), jobs=1)
    rows = games.rows_of(played)
    games.write(tmp_path / "results.csv", rows)
    again = games.read(tmp_path / "results.csv")
    assert len(again) == len(rows)
    assert max(row["identity_off"] for row in again if row["source"]) <= 1e-9
    page = tables.page(again)
    for shown in ("ΔH(U)", "mixture", "banana", "copied bit", "no warm-up", "4 steps of θ first"):
        assert shown in page
    figures.draw_optima(tmp_path / "optima.png")
    figures.draw_curves(tmp_path / "curves.png", again)
    figures.draw_learning(tmp_path / "learning.png", again)
    figures.draw_start(tmp_path / "start.png", again)
    figures.draw_codes(tmp_path / "codes.png", 12)
    assert all((tmp_path / f"{name}.png").stat().st_size > 10_000 for name in ("optima", "curves", "learning", "codes"))
