"""The figures of an experiment follow from the records beside it."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import pytest

from experiments import tables as experiment_tables
from experiments.branches import crops, longer, rounding, tabulate
from experiments.kodak import tabulate as five_backbones
from regicomp.report import comparison, csv_rows, lambda_control, records, style, tables, trainings
from regicomp.report.bd_rate import bd_rate
from regicomp.report.curves import curves_of

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"
BRANCHES = sorted(runs.parent for part in ("branches", "why") for runs in (EXPERIMENTS / part).rglob("runs"))
SPANS = {"short_runs": 1.0, "short_runs/longer": 1.0, "table": 2.0}  # --min-span of each README's command


@pytest.mark.parametrize("part", SPANS)
def test_tables_are_what_the_records_say(part: str) -> None:
    """Every BD-rate and interval, of every test set and seed, is found again."""
    folder = EXPERIMENTS / part
    collection = records.collect([folder / "runs"])
    assert not collection.skipped
    curves, skipped = curves_of(collection.measurements)
    assert not skipped
    options = comparison.Options(min_span=SPANS[part])
    comparisons = comparison.compare(curves, options)
    labels = style.names(list(dict.fromkeys(c.family for c in curves)))
    found = csv_rows.bd_rows(comparisons, comparison.domain_means(comparisons, options), options, labels)
    written = list(csv.DictReader((folder / "bd_rate.csv").read_text().splitlines()))
    assert [_key(row) for row in found] == [_key(row) for row in written]
    for row, there in zip(found, written, strict=True):
        for column in ("bd_rate_percent", "low_95", "high_95"):
            value, expected = row.get(column), there[column]
            assert (value is None) == (expected == ""), (_key(row), column)
            if value is not None:
                assert float(value) == pytest.approx(float(expected), abs=2e-4), (_key(row), column)


@pytest.mark.parametrize("part", SPANS)
def test_trainings_are_what_the_records_say(part: str) -> None:
    """The same rows, and the same numbers but for a last digit."""
    folder = EXPERIMENTS / part
    curves, _ = curves_of(records.collect([folder / "runs"]).measurements)
    labels = style.names(list(dict.fromkeys(c.family for c in curves)))
    options = comparison.Options(min_span=SPANS[part], replicates=100)
    comparisons = comparison.compare(curves, options)
    spreads = trainings.spreads(curves, "pchip", SPANS[part])
    controls = lambda_control.controls(comparisons, curves, options)
    found = tables.trainings_markdown(comparisons, spreads, controls, labels)
    _same(found, folder / "trainings.md")


def _same(found: str, page: Path) -> None:
    """The page says what was found, but for a last digit."""
    written = page.read_text()
    number = re.compile(r"[−+]?\d+\.\d{2,3}")
    assert number.sub("", found) == number.sub("", written)
    values = [[float(v.replace("−", "-")) for v in number.findall(text)] for text in (found, written)]
    assert values[0] == pytest.approx(values[1], abs=0.011)


def _key(row: dict[str, Any]) -> tuple[str, ...]:
    return tuple(str(row[name]) for name in ("alpha", "testset", "metric", "seed"))


def test_longer_branches_are_what_their_validations_say() -> None:
    written = (longer.FOLDER / "table.md").read_text()
    _same("BD-rate on Kodak in percent, PSNR / MS-SSIM.\n\n" + longer.table(), longer.FOLDER / "table.md")
    lines = written.splitlines()[2:]
    assert "\n".join(lines) in (longer.FOLDER.parent / "README.md").read_text()  # the README shows it whole


@pytest.mark.parametrize("name", ["kodak", "short_runs", "table", "branches"])
def test_the_page_quotes_its_tables(name: str) -> None:
    """Every number with an interval that the README gives stands in one of the tables."""
    folder = EXPERIMENTS / name
    number = re.compile(r"[−+]\d+\.\d\d \[[^\]]+\]")
    quoted = set(number.findall((folder / "README.md").read_text()))
    kinds = ("table.md", "without.md", "trainings.md", "rounding.md", "unseen.md")
    pages = [page for kind in kinds for page in folder.rglob(kind)]
    there = {found for path in pages for found in number.findall(path.read_text().replace(" | [", " ["))}
    assert quoted
    assert quoted <= there


def test_the_page_that_asks_why_quotes_tables() -> None:
    """Every number with two decimals in its rows stands in a table of its own or of the branches."""
    number = re.compile(r"[−+]\d+\.\d\d")
    rows = [line for line in (EXPERIMENTS / "why" / "README.md").read_text().splitlines() if line.startswith("|")]
    pages = [page for part in ("branches", "why") for page in (EXPERIMENTS / part).rglob("*.md")]
    there = {found for page in pages if page.name != "README.md" for found in number.findall(page.read_text())}
    quoted = set(number.findall("\n".join(rows)))
    assert quoted
    assert quoted <= there


@pytest.mark.parametrize("folder", BRANCHES, ids=lambda path: path.name)
def test_the_branches_tables_are_what_the_records_say(folder: Path) -> None:
    """The BD-rates against plain branches and against the λ control, and T at equal rate, but for a last digit."""
    for name, rows in tabulate.pages(folder, tabulate.read(folder / "runs")).items():
        _same(experiment_tables.markdown(rows), folder / name)


def test_elic_without_the_images_on_which_z_wakes_is_what_the_records_say() -> None:
    """The plain branches, which differ in the seed alone, then lie within 0.5 % of one another, as the README says."""
    folder = EXPERIMENTS / "branches" / "elic" / "silent"
    (arms,) = tabulate.read(folder / "runs").values()
    arms = tabulate.without(arms, ["kodim05", "kodim09", "kodim19"])
    _same(experiment_tables.markdown(tabulate.comparisons(arms)), folder / "without.md")
    first, *others = (arms["plain"].of_seeds([seed]).points("psnr_db") for seed in arms["plain"].seeds)
    assert len(arms["plain"].images) == 21
    assert all(abs(bd_rate(first, other, "pchip")) < 0.5 for other in others)


def test_an_image_that_was_not_measured_cannot_be_left_out() -> None:
    (arms,) = tabulate.read(EXPERIMENTS / "branches" / "runs").values()
    with pytest.raises(ValueError, match=r"`--without` \(=\['kodim25'\]\) must be images of kodak"):
        tabulate.without(arms, ["kodim25"])


def test_a_seed_that_the_control_lacks_changes_no_row() -> None:
    (arms,) = tabulate.read(EXPERIMENTS / "branches" / "runs").values()
    both = {arm: arms[arm].of_seeds([1]) for arm in ("paper", "control_paper")}
    assert tabulate.images({**both, "paper": arms["paper"]}) == tabulate.images(both)


@pytest.mark.parametrize("measured", sorted(EXPERIMENTS.rglob("rounding.csv")), ids=lambda path: path.parent.name)
def test_the_page_on_rounding_is_what_its_measurements_say(measured: Path) -> None:
    """BD-rates with noise and rounded, and how far the two lie apart, but for a last digit."""
    _same(rounding.page(experiment_tables.read_csv(measured)), measured.with_name("rounding.md"))


def test_the_page_on_crops_is_what_its_measurements_say() -> None:
    """And the README gives every number of it."""
    folder = EXPERIMENTS / "branches"
    page = crops.page(experiment_tables.read_csv(folder / "crops.csv"))
    assert page == (folder / "crops.md").read_text()
    cells = [line.split("|", 2)[2] for line in page.splitlines()[2:]]
    assert cells
    assert not [cell for cell in cells if f"|{cell}\n" not in (folder / "README.md").read_text()]


def test_the_table_of_backbones_is_what_the_records_say() -> None:
    """BD-rates on Kodak and on unseen domains, and the cost, but for a last digit."""
    pages = {
        "table.md": five_backbones.table(five_backbones.read()),
        "unseen.md": five_backbones.unseen(five_backbones.elsewhere()),
        "cost.md": five_backbones.cost(),
    }
    for name, rows in pages.items():
        assert rows
        _same(experiment_tables.markdown(rows), EXPERIMENTS / "kodak" / name)
