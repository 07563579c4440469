"""Curves against other codecs: what was put in is found, and what cannot be compared has no number."""

from __future__ import annotations

from pathlib import Path

import pytest
import synthetic

from regicomp.report import other_codecs, records, style, tables
from regicomp.report.__main__ import main
from regicomp.report.curves import Curve, curves_of


def _curve(folder: Path, testset: str = "kodak") -> Curve:
    for quality in (1, 2, 3, 4):
        content = synthetic.record(quality=quality, testsets=(testset,), jitter=0.0)
        synthetic.write(folder / f"{quality}", content)
    (curve,), _ = curves_of(records.collect([folder]).measurements)
    return curve


def _points(curve: Curve, rate: float = 1.0, db: float = 0.0) -> list[dict[str, float]]:
    """The curve's own points as another codec's, with so many times the bits and so many dB more."""
    ours = curve.points("psnr_db")
    return [{"bpp": rate * r, "psnr_db": q + db} for r, q in zip(ours.rate, ours.quality, strict=True)]


def test_what_was_put_in_is_found(tmp_path: Path) -> None:
    """Against itself nothing, against twice the bits half, against one dB less one dB."""
    curve = _curve(tmp_path)
    classical = {"itself": _points(curve), "twice": _points(curve, rate=2.0), "worse": _points(curve, db=-1.0)}
    (row,) = other_codecs.rows([curve], {"kodak": classical}, "pchip")
    assert set(row.against) == {*classical, other_codecs.PUBLISHED}
    assert row.against["itself"] == pytest.approx((0, 0, 0), abs=1e-9)
    assert row.against["twice"].percent == pytest.approx(-50)
    assert row.against["worse"][1:] == pytest.approx((1, 1))


def test_rates_that_the_other_does_not_have_are_left_out(tmp_path: Path) -> None:
    """No gap is made up outside of its rates, and far from its quality there is no BD-rate."""
    curve = _curve(tmp_path)
    (row,) = other_codecs.rows([curve], {"kodak": {"far": _points(curve, rate=100.0, db=30.0)}}, "pchip")
    assert row.against["far"] == other_codecs.Against(None, None, None)


def test_only_kodak_has_published_curves_and_unmeasured_sets_have_no_row(tmp_path: Path) -> None:
    """The published figures are of Kodak's images."""
    curve = _curve(tmp_path, testset="art")
    (row,) = other_codecs.rows([curve], {"art": {"JPEG": _points(curve)}}, "pchip")
    assert list(row.against) == ["JPEG"]
    assert not other_codecs.rows([curve], {}, "pchip")


def test_the_table_has_a_column_a_codec(tmp_path: Path) -> None:
    """With a dash where there is no number."""
    curve = _curve(tmp_path)
    classical = {"JPEG": _points(curve, rate=2.0), "far": _points(curve, rate=100.0, db=30.0)}
    rows = other_codecs.rows([curve], {"kodak": classical}, "pchip")
    text = tables.others_markdown(rows, style.names([curve.family]))
    assert "| codec | test set | bpp | PSNR, dB | JPEG | far | published |" in text
    assert "−50.0 [" in text
    assert "| – |" in text
    assert "No classical codec" in tables.others_markdown([], {})


def test_a_report_writes_it(tmp_path: Path) -> None:
    """Beside the other tables, also where no test set is at hand."""
    _curve(tmp_path / "runs")
    main([str(tmp_path / "runs"), "--out", str(tmp_path / "out"), "--images", "0", "--no-classical"])
    assert (tmp_path / "out" / "other_codecs.md").read_text().startswith("# Against other codecs")
