"""The figures of experiments/kodak follow from the records beside it."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import pytest

from regicomp.report import comparison, lambda_control, records, style, tables, trainings
from regicomp.report.curves import curves_of

KODAK = Path(__file__).resolve().parents[2] / "experiments" / "kodak"
SPAN = 1.0  # the --min-span of its README's command


@pytest.mark.parametrize("part", [".", "longer"])
def test_tables_are_what_the_records_say(part: str) -> None:
    """Every BD-rate and interval, of every test set and seed, is found again."""
    folder = KODAK / part
    collection = records.collect([folder / "runs"])
    assert not collection.skipped
    curves, skipped = curves_of(collection.measurements)
    assert not skipped
    options = comparison.Options(min_span=SPAN)
    comparisons = comparison.compare(curves, options)
    labels = style.names(list(dict.fromkeys(c.family for c in curves)))
    found = tables.bd_rows(comparisons, comparison.domain_means(comparisons, options), options, labels)
    written = list(csv.DictReader((folder / "bd_rate.csv").read_text().splitlines()))
    assert [_key(row) for row in found] == [_key(row) for row in written]
    for row, there in zip(found, written, strict=True):
        for column in ("bd_rate_percent", "low_95", "high_95"):
            value, expected = row.get(column), there[column]
            assert (value is None) == (expected == ""), (_key(row), column)
            if value is not None:
                assert float(value) == pytest.approx(float(expected), abs=2e-4), (_key(row), column)


@pytest.mark.parametrize("part", [".", "longer"])
def test_trainings_are_what_the_records_say(part: str) -> None:
    """The same rows, and the same numbers but for a last digit."""
    folder = KODAK / part
    curves, _ = curves_of(records.collect([folder / "runs"]).measurements)
    labels = style.names(list(dict.fromkeys(c.family for c in curves)))
    options = comparison.Options(min_span=SPAN, replicates=100)
    comparisons = comparison.compare(curves, options)
    spreads, controls = trainings.spreads(curves, "pchip", SPAN), lambda_control.controls(comparisons, curves, options)
    found = tables.trainings_markdown(comparisons, spreads, controls, labels)
    written = (folder / "trainings.md").read_text()
    number = re.compile(r"[−+]?\d+\.\d\d")
    assert number.sub("", found) == number.sub("", written)
    values = [[float(v.replace("−", "-")) for v in number.findall(text)] for text in (found, written)]
    assert values[0] == pytest.approx(values[1], abs=0.011)


def _key(row: dict[str, Any]) -> tuple[str, ...]:
    return tuple(str(row[name]) for name in ("alpha", "testset", "metric", "seed"))


def test_the_page_quotes_its_tables() -> None:
    """Every number with an interval that the README gives stands in one of the tables."""
    number = re.compile(r"[−+]\d+\.\d\d \[[^\]]+\]")
    quoted = set(number.findall((KODAK / "README.md").read_text()))
    pages = [*KODAK.rglob("table.md"), *KODAK.rglob("trainings.md")]
    there = {found for path in pages for found in number.findall(path.read_text().replace(" | [", " ["))}
    assert quoted
    assert quoted <= there
