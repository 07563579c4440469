"""The report's command line, and the options that it sets."""

from __future__ import annotations

import argparse
import math
import os
from pathlib import Path

from regicomp.report import bd_rate, comparison


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m regicomp.report",
        description="Make tables, figures and a page from the records of runs.",
        epilog="Written to --out: bd_rate.csv, .md, trainings.md, other_codecs.md, results.csv, rd_<test set>.png and "
        ".pdf, index.html.",
    )
    add = parser.add_argument
    add("runs", nargs="+", type=Path, metavar="RUNS", help="folders searched for results.json, or such files")
    add("--out", type=Path, default=Path("report"), help="folder to write to (default: %(default)s)")
    add("--method", choices=bd_rate.METHODS, default="pchip", help="interpolation (default: %(default)s)")
    add("--bootstrap", type=int, default=1000, metavar="N", help="draws for the intervals (default: %(default)s)")
    add(
        "--min-span",
        type=float,
        default=bd_rate.MIN_SPAN_DB,
        metavar="DB",
        help="no BD-rate for curves that span less (default: %(default)s dB)",
    )
    add("--allow-unequal-budgets", action="store_true", help="compare runs of different steps, data, crop or batch")
    add("--anchor", metavar="VARIANT", help="hold all against the α = 0 runs of this variant; plain: of none")
    add("--in-domain", nargs="*", default=comparison.IN_DOMAIN, metavar="NAME", help="test sets of the in-domain mean")
    add("--unseen", nargs="*", default=comparison.UNSEEN, metavar="NAME", help="test sets of the unseen-domain mean")
    add("--images", type=int, default=3, metavar="N", help="images a test set with pictures (default: %(default)s)")
    add("--no-classical", "--no-anchors", action="store_true", help="do not measure JPEG, WebP and AVIF")
    add("--classical-ms-ssim", "--anchor-ms-ssim", action="store_true", help="measure their MS-SSIM too (minutes)")
    add(
        "--data-root",
        default=os.environ.get("REGICOMP_DATA", "data"),
        metavar="DIR",
        help="folder of the named test sets ($REGICOMP_DATA, else ./data)",
    )
    add("--test-dirs", nargs="*", default=[], metavar="DIR", help="further test sets, each named after its folder")
    return parser


def checked(parsed: argparse.Namespace) -> comparison.Options:
    """The options of the comparison.

    Raises:
        ValueError: an option is out of its range.
    """
    if parsed.bootstrap < 100:
        raise ValueError(f"`--bootstrap` (={parsed.bootstrap}) must be at least 100")
    if not (parsed.min_span >= 0 and math.isfinite(parsed.min_span)):
        raise ValueError(f"`--min-span` (={parsed.min_span:g}) must be a finite number of dB, at least 0")
    if parsed.images < 0:
        raise ValueError(f"`--images` (={parsed.images}) must be at least 0")
    both = sorted(set(parsed.in_domain) & set(parsed.unseen))
    if both:
        raise ValueError(f"`--in-domain` and `--unseen` must not share {', '.join(both)}")
    if parsed.out.exists() and not parsed.out.is_dir():
        raise ValueError(f"`--out` (={parsed.out}) must be a folder")
    return comparison.Options(
        parsed.method,
        parsed.bootstrap,
        parsed.min_span,
        parsed.allow_unequal_budgets,
        tuple(parsed.in_domain),
        tuple(parsed.unseen),
        parsed.anchor,
    )
