"""The figures of experiments/one_or_six follow from the records beside it."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest

from regicomp.report import comparison, records
from regicomp.report.curves import curves_of

HERE = Path(__file__).resolve().parents[2] / "experiments" / "one_or_six"


def _line(lmbda: float, *entries: dict[str, Any]) -> str:
    """A row of the README's table."""
    cells = [f"{lmbda:g}"]
    for entry in entries:
        distortion = 255**2 * 10 ** (-entry["psnr_db"] / 10)
        cells += [f"{entry['bpp']:.3f}, {entry['psnr_db']:.2f}", f"{entry['bpp'] + lmbda * distortion:.3f}"]
    return f"| {' | '.join(cells)} |"


def test_the_page_says_what_the_records_say() -> None:
    """Every point and J, and both BD-rates with their intervals."""
    text = (HERE / "README.md").read_text()
    one = json.loads((HERE / "runs/variable/results.json").read_text())
    for quality, level in enumerate(one["levels"], 1):
        run = json.loads((HERE / f"runs/quality{quality}/results.json").read_text())
        assert run["run"]["lmbda"] == level["lmbda"]
        assert run["run"]["steps"] == one["run"]["steps"] / 3
        assert _line(level["lmbda"], level["testsets"]["kodak"], run["testsets"]["kodak"]) in text
    collection = records.collect([HERE / "runs"])
    curves, skipped = curves_of(collection.measurements)
    assert not [*collection.skipped, *skipped]
    compared = comparison.compare(curves, comparison.Options(allow_unequal_budgets=True))
    quoted = re.findall(r"−(\d+\.\d) % \[−(\d+\.\d), −(\d+\.\d)\]", text)
    assert len(quoted) == len(compared) == 2
    for numbers, c in zip(quoted, compared, strict=True):
        assert [-float(number) for number in numbers] == pytest.approx([c.percent, c.low, c.high], abs=0.051)
    assert len(list(csv.DictReader((HERE / "results.csv").read_text().splitlines()))) == 12
