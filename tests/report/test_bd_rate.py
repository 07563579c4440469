"""BD-rate: the golden values, its symmetries, and where it refuses a number."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regicomp.report import bd_rate, published
from regicomp.report.bd_rate import METHODS, RdCurve

GOLDEN = Path(__file__).parents[1] / "data" / "bd_rate_golden.csv"


def _golden() -> list[dict[str, str]]:
    with GOLDEN.open() as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


def _curve(name: str) -> RdCurve:
    found = next(curve for curve in published.curves() if curve.name == name)
    return RdCurve(np.array(found.bpp), np.array(found.psnr_db))


@pytest.mark.parametrize("row", _golden(), ids=lambda row: "-".join((row["anchor"], row["test"], row["method"])))
def test_golden_values(row: dict[str, str]) -> None:
    """Both forms give the golden values, to a hundredth of a point."""
    anchor, test = _curve(row["anchor"]), _curve(row["test"])
    method = next(m for m in METHODS if m == row["method"])
    expected = float(row["bd_rate_percent"])
    assert bd_rate.bd_rate(anchor, test, method) == pytest.approx(expected, abs=0.01)
    many = bd_rate.batched(*(RdCurve(c.rate[None], c.quality[None]) for c in (anchor, test)), method)
    assert many[0] == pytest.approx(expected, abs=0.01)


@st.composite
def curves(draw: st.DrawFn) -> RdCurve:
    """Rising curves that share at least the qualities from 30 to 33 dB."""
    points = draw(st.integers(4, 8))
    steps = st.lists(st.floats(0.05, 1), min_size=points - 1, max_size=points - 1)
    quality = np.cumsum([0.0, *draw(steps)])
    low, high = draw(st.floats(26, 30)), draw(st.floats(33, 38))
    quality = low + (high - low) * quality / quality[-1]
    log_rate = np.cumsum([draw(st.floats(-3, -1)), *draw(steps)])
    return RdCurve(np.exp(log_rate), quality)


@settings(deadline=None)
@given(curves(), curves(), st.sampled_from(METHODS))
def test_swapping_inverts(first: RdCurve, second: RdCurve, method: bd_rate.Method) -> None:
    """(1 + a)(1 + b) = 1 for the BD-rates of two curves against each other."""
    there, back = (bd_rate.bd_rate(*pair, method) / 100 for pair in ((first, second), (second, first)))
    assert (1 + there) * (1 + back) == pytest.approx(1, rel=1e-9)


@settings(deadline=None)
@given(curves(), st.sampled_from(METHODS), st.floats(0.5, 2))
def test_scaled_rate_is_the_scale(curve: RdCurve, method: bd_rate.Method, factor: float) -> None:
    """A curve against itself gives 0; with all rates times f it gives 100·(f - 1), at every quality."""
    assert bd_rate.bd_rate(curve, curve, method) == pytest.approx(0, abs=1e-9)
    scaled = RdCurve(curve.rate * factor, curve.quality)
    assert bd_rate.bd_rate(curve, scaled, method) == pytest.approx(100 * (factor - 1), abs=1e-6)
    _, percent = bd_rate.difference(curve, scaled, method)
    np.testing.assert_allclose(percent, 100 * (factor - 1), atol=1e-6)


@settings(deadline=None)
@given(st.lists(st.tuples(curves(), curves()), min_size=1, max_size=4), st.sampled_from(METHODS))
def test_batched_is_the_package(pairs: list[tuple[RdCurve, RdCurve]], method: bd_rate.Method) -> None:
    """The batched form gives the package's values."""
    for anchor, test in pairs:
        stacked = (RdCurve(np.stack([c.rate] * 3), np.stack([c.quality] * 3)) for c in (anchor, test))
        expected = bd_rate.bd_rate(anchor, test, method)
        np.testing.assert_allclose(bd_rate.batched(*stacked, method), expected, rtol=1e-7, atol=1e-7)


def _line(low: float, high: float, points: int = 4) -> RdCurve:
    quality = np.linspace(low, high, points)
    return RdCurve(np.exp((quality - 30) / 5), quality)


@pytest.mark.parametrize(
    ("anchor", "test", "said"),
    [
        (_line(28, 36, 3), _line(28, 36), "the anchor has 3 points, 4 are needed"),
        (_line(28, 36), _line(28, 28, 1), "the curve has 1 point, 4 are needed"),
        (_line(28, 36), _line(29.5, 31), "the curve spans 1.50 dB, less than 2 dB"),
        (_line(28, 32), _line(30.5, 36), "the curves share 38% of the shorter one's range of quality, less than 50%"),
        (_line(28, 30), _line(31, 36), "the curves share 0%"),
        (
            _line(28, 36),
            RdCurve(np.array([0.1, 0.2, 0.3, 0.4]), np.array([28, 33, 32, 36.0])),
            "the curve is not monotone",
        ),
        (
            RdCurve(np.array([0.1, 0.3, 0.2, 0.4]), np.array([28, 32, 33, 36.0])),
            _line(28, 36),
            "the anchor is not monotone",
        ),
    ],
)
def test_refuses(anchor: RdCurve, test: RdCurve, said: str) -> None:
    """Curves that say nothing get a reason in place of a number."""
    assert any(said in problem for problem in bd_rate.problems(anchor, test))
    assert bd_rate.problems(_line(28, 36), _line(29, 37)) == []


def test_batched_leaves_out_what_has_no_value() -> None:
    """A replicate that is not monotone or shares no quality is NaN and harms no other."""
    good, crossed = _line(28, 36), RdCurve(np.array([0.1, 0.2, 0.3, 0.4]), np.array([28, 33, 32, 36.0]))
    rows = (good, crossed, _line(40, 45))
    test = RdCurve(np.stack([c.rate for c in rows]), np.stack([c.quality for c in rows]))
    anchor = RdCurve(np.stack([good.rate] * 3), np.stack([good.quality] * 3))
    for method in METHODS:
        values = bd_rate.batched(anchor, test, method)
        assert values[0] == pytest.approx(0, abs=1e-9)
        assert np.isnan(values[1:]).all()
