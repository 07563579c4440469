"""The table of BD-rates in the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from regicomp.report import bd_rate, comparison, curves
from regicomp.report.comparison import Comparison, DomainMean
from regicomp.report.curves import TITLES
from regicomp.report.records import Family, Skipped
from regicomp.report.tables import interval, signed


def print_bd(
    comparisons: list[Comparison], means: list[DomainMean], options: comparison.Options, labels: dict[Family, str]
) -> None:
    """Print a line a comparison, with its anchor and overlap, and a line a domain."""
    console = Console(width=None if Console().is_terminal else 160)
    if not comparisons:
        console.print("no run with α > 0: curves, but nothing to compare")
        return
    other = next(m for m in bd_rate.METHODS if m != options.method)
    table = Table(title=f"BD-rate in percent, {options.method}; 95 % interval over seeds and images")
    columns = ("codec", "anchor", "test set", "metric", "BD-rate", "95 %", other, "overlap", "points", "seeds")
    for column in columns:
        table.add_column(column, justify="left" if column in columns[:4] else "right")
    for metric in curves.METRICS:
        for family in dict.fromkeys(c.family for c in comparisons if c.metric == metric):
            for c in comparisons:
                if (c.family, c.metric) == (family, metric):
                    table.add_row(*_printed(c, labels))
            for m in means:
                if (m.family, m.metric) == (family, metric):
                    where = f"{m.domain} mean of {len(m.testsets)}"
                    where += f" (of {len(m.testsets) + len(m.missing)})" if m.missing else ""
                    values = signed(m.percent), escape(interval(m.low, m.high))
                    table.add_row("", "", where, TITLES[metric], *values, style="bold")
            table.add_section()
    console.print(table)
    for c in comparisons:
        mark = "no number" if c.problems else "note"
        for said in c.problems or c.notes:
            console.print(f"{mark}: {labels[c.family]}, {c.testset}, {TITLES[c.metric]}: {said}", markup=False)


def _printed(c: Comparison, labels: dict[Family, str]) -> list[str]:
    return [
        escape(labels[c.family]),
        escape(labels[c.anchor]) if c.anchor else "–",
        escape(c.testset),
        TITLES[c.metric],
        signed(c.percent),
        escape(interval(c.low, c.high)),
        signed(c.other),
        "–" if c.overlap is None else f"{c.overlap:.0%}",
        f"{c.points}/{c.anchor_points}",
        str(len(c.seeds)),
    ]


def print_skipped(skipped: list[Skipped]) -> None:
    """Print a line for each thing that is in no table."""
    console = Console(width=None if Console().is_terminal else 400, soft_wrap=True)
    for s in skipped:
        console.print(f"left out: {s.where}: {s.why}", markup=False, highlight=False)
