"""A report from its records to its page: read, compare, measure the classical codecs, write."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from regicomp.report import comparison, records
from regicomp.report.curves import curves_of
from regicomp.report.records import Skipped
from regicomp.report.shown_runs import find_images, make_pictures, shown_runs
from regicomp.utils import cli

if TYPE_CHECKING:
    from regicomp.report import page
    from regicomp.report.curves import Curve

Points = list[dict[str, Any]]  # of a classical codec


def report(parsed: argparse.Namespace, options: comparison.Options) -> None:
    """Write tables, figures and the page to `parsed.out`, and print the BD-rates.

    Args:
        parsed: the command line (options.arguments).
        options: of the comparison.

    Raises:
        ValueError: there is nothing to report on.
    """
    collection = records.collect(parsed.runs)
    cli.quiet_libraries()  # before what follows loads torch
    curves, skipped = curves_of(collection.measurements)
    skipped = [*collection.skipped, *skipped]
    comparisons = comparison.compare(curves, options)
    means = comparison.domain_means(comparisons, options)
    measured, shown, lacking = _of_images(parsed, curves, collection.measurements)
    skipped += lacking

    from regicomp.report import figures, other_codecs, page, style, tables, terminal

    families = list(dict.fromkeys(c.family for c in curves))
    labels, looks = style.names(families), style.styles(families)
    content = page.Content(collection.measurements, curves, comparisons, means, options, skipped, measured, shown)
    html = page.render(content)
    others = other_codecs.rows(curves, measured, options.method)
    tables.write(parsed.out, collection.measurements, curves, comparisons, means, options, skipped, others)
    for name in dict.fromkeys(c.testset for c in curves):
        here = [c for c in curves if c.testset == name]
        of_set = [c for c in comparisons if c.testset == name]
        figures.draw(parsed.out, here, of_set, measured.get(name, {}), labels, looks)
    page.write(parsed.out / "index.html", html)
    terminal.print_bd(comparisons, means, options, labels)
    terminal.print_skipped(skipped)
    print(f"report: {parsed.out / 'index.html'}")


def _of_images(
    parsed: argparse.Namespace, curves: list[Curve], measurements: list[records.Measurement]
) -> tuple[dict[str, dict[str, Points]], list[page.Pictures], list[Skipped]]:
    """By test set the classical codecs' points, the page's pictures, and what of it cannot be had."""
    from regicomp.evaluation import classical_codecs

    measured: dict[str, dict[str, Points]] = {}
    shown: list[page.Pictures] = []
    skipped: list[Skipped] = []
    for name in dict.fromkeys(c.testset for c in curves):
        here = [c for c in curves if c.testset == name]
        testset, lacking = find_images(name, here, parsed.data_root, parsed.test_dirs)
        if testset is None:
            if not parsed.no_classical or parsed.images:
                skipped.append(Skipped(f"test set {name}", f"no classical codecs and no pictures: {lacking}"))
            continue
        if not parsed.no_classical:
            measured[name] = {
                codec.name: classical_codecs.cached(codec, testset, parsed.classical_ms_ssim)
                for codec in classical_codecs.classical()
            }
        of_set, failed = make_pictures(testset, shown_runs(here, measurements), parsed.images)
        shown += of_set
        skipped += failed
    return measured, shown, skipped
