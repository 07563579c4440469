"""Entry point: `python -m regicomp.report RUNS… --out DIR`."""

from __future__ import annotations

import argparse
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regicomp.report import bd_rate, comparison, records
from regicomp.report.curves import curves_of
from regicomp.utils import cli
from regicomp.utils.cli import told_in_one_line

if TYPE_CHECKING:
    from regicomp.data.testsets import TestSet
    from regicomp.report.curves import Curve
    from regicomp.report.page import Pictures
    from regicomp.report.records import Measurement, Skipped


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m regicomp.report",
        description="Make tables, figures and a page from the records of runs.",
        epilog="Written to --out: bd_rate.csv, bd_rate.md, results.csv, rd_<test set>.png and .pdf, index.html.",
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
    )


def find_images(name: str, curves: list[Curve], root: str, folders: list[str]) -> tuple[TestSet | None, str | None]:
    """The images that a test set was measured on, or None and the reason."""
    from regicomp.data import testsets

    own = [folder for folder in folders if Path(folder).resolve().name == name]
    try:
        found = testsets.find([] if own else [name], root, own)[0]
    except ValueError as error:
        # The page may be published: it names no folder of this machine.
        nameless = re.sub(rf"(?<![\w./-]){re.escape(root)}(?=[/\s)`]|$)", "DIR", str(error))
        return None, f"its images were not found in --data-root DIR ({nameless})"
    wanted = [image.rsplit(" ", 1)[0] for image in max((c.images for c in curves), key=len)]
    there = {image.name: image for image in found.images}
    missing = [image for image in wanted if image not in there]
    if missing:
        return None, f"{len(missing)} of its {len(wanted)} images were not found, such as {missing[0]}"
    return found._replace(images=[there[image] for image in wanted]), None


def shown_runs(curves: list[Curve], measurements: list[Measurement]) -> list[Measurement]:
    """The runs that pictures are made of: of each curve, the one in the middle of its λ and of its first seed."""
    chosen: list[Measurement] = []
    for curve in curves:
        lmbda = curve.lmbdas[len(curve.lmbdas) // 2]
        chosen += [
            m
            for m in measurements
            if (m.family, m.testset, m.seed, m.lmbda) == (curve.family, curve.testset, curve.seeds[0], lmbda)
        ]
    return chosen


def make_pictures(testset: TestSet, chosen: list[Measurement], most: int) -> tuple[list[Pictures], list[Skipped]]:
    """Originals, reconstructions, error and bit maps of a test set's first images."""
    from regicomp.evaluation import round_trip
    from regicomp.image_codec import model_file
    from regicomp.report import page, pictures
    from regicomp.report.records import Skipped

    coded: dict[str, dict[str, pictures.CodedImage]] = {}
    skipped: list[Skipped] = []
    images = testset.images[:most]
    for m in chosen if images else []:
        path = m.folder / "codec.safetensors"
        if not path.is_file():
            continue
        try:
            codec = round_trip.Codec(model_file.load_codec(path))
            for image in images:
                coded.setdefault(image.name, {})[m.label] = pictures.code(codec, image.load())
        except (ValueError, KeyError, RuntimeError) as error:
            skipped.append(Skipped(f"{m.label}, {testset.name}", f"no pictures: {_first_line(error, m.folder)}"))
    result: list[page.Pictures] = []
    for image in images:
        of_runs = coded.get(image.name)
        if of_runs:
            result.append(page.pictures_of(testset.name, image.name, image.load(), of_runs))
    return result, skipped


def _first_line(error: Exception, folder: Path) -> str:
    """An error's first line without the folder, which the caller names."""
    return (str(error).splitlines() or [type(error).__name__])[0].replace(f"{folder}{os.sep}", "")


def main(command_line: Sequence[str] | None = None) -> None:
    """Entry point."""
    parsed = arguments().parse_args(command_line)
    with told_in_one_line():
        options = checked(parsed)
        collection = records.collect(parsed.runs)
        cli.quiet_libraries()
        curves, skipped = curves_of(collection.measurements)
        skipped = [*collection.skipped, *skipped]
        comparisons = comparison.compare(curves, options)
        means = comparison.domain_means(comparisons, options)

        from regicomp.evaluation import classical_codecs
        from regicomp.report import figures, page, style, tables
        from regicomp.report.records import Skipped

        measured: dict[str, dict[str, list[dict[str, Any]]]] = {}
        shown: list[page.Pictures] = []
        for name in dict.fromkeys(c.testset for c in curves):
            here = [c for c in curves if c.testset == name]
            testset, lacking = find_images(name, here, parsed.data_root, parsed.test_dirs)
            if testset is None:
                if not parsed.no_classical or parsed.images:
                    why = f"no classical codecs and no pictures: {lacking}"
                    skipped.append(Skipped(f"test set {name}", why))
                continue
            if not parsed.no_classical:
                measured[name] = {
                    codec.name: classical_codecs.cached(codec, testset, parsed.classical_ms_ssim)
                    for codec in classical_codecs.classical()
                }
            of_set, failed = make_pictures(testset, shown_runs(here, collection.measurements), parsed.images)
            shown += of_set
            skipped += failed
        families = list(dict.fromkeys(c.family for c in curves))
        labels, looks = style.names(families), style.styles(families)
        content = page.Content(collection.measurements, curves, comparisons, means, options, skipped, measured, shown)
        html = page.render(content)
        tables.write(parsed.out, collection.measurements, comparisons, means, options, skipped)
        for name in dict.fromkeys(c.testset for c in curves):
            here = [c for c in curves if c.testset == name]
            of_set = [c for c in comparisons if c.testset == name]
            figures.draw(parsed.out, here, of_set, measured.get(name, {}), labels, looks)
        page.write(parsed.out / "index.html", html)
        tables.print_bd(comparisons, means, options, labels)
        tables.print_skipped(skipped)
        print(f"report: {parsed.out / 'index.html'}")


if __name__ == "__main__":
    main()
