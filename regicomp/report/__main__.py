"""Entry point: `python -m regicomp.report RUNS… --out DIR`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from regicomp.report import comparison, records
from regicomp.report.curves import curves_of
from regicomp.report.options import arguments, checked
from regicomp.report.shown_runs import find_images, make_pictures, shown_runs
from regicomp.utils import cli
from regicomp.utils.cli import told_in_one_line


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
