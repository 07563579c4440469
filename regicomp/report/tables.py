"""bd_rate.md, trainings.md and other_codecs.md, and the writing of all tables of a report."""

from __future__ import annotations

from pathlib import Path

from regicomp.report import bd_rate, comparison, cost, csv_rows, curves, lambda_control, other_codecs, style, trainings
from regicomp.report.comparison import Comparison, DomainMean
from regicomp.report.curves import TITLES
from regicomp.report.records import Family, Measurement, Skipped
from regicomp.utils.files import write_bytes

METHOD_NAMES = {"pchip": "piecewise cubic (pchip)", "akima": "Akima"}


def signed(value: float | None, digits: int = 2) -> str:
    """A number with its sign, a true minus, and a dash where there is none."""
    return "–" if value is None else f"{value:+.{digits}f}".replace("-", "−")


def interval(low: float | None, high: float | None) -> str:
    """An interval in brackets."""
    return "" if low is None or high is None else f"[{signed(low)}, {signed(high)}]"


class Wide:
    """The paper's kind of table: a row a family, a column a test set, and the domains' means.

    Args:
        comparisons: of one metric.
        means: of the same metric.
        options: which test sets are in-domain and which are unseen.
    """

    def __init__(self, comparisons: list[Comparison], means: list[DomainMean], options: comparison.Options) -> None:
        rank = {"in-domain": 0, "unseen": 1, None: 2}
        self.testsets = sorted(
            {c.testset for c in comparisons}, key=lambda name: (rank[comparison.domain(name, options)], name)
        )
        self.domains = [d for d in ("in-domain", "unseen") if any(m.domain == d for m in means)]
        self.families = list(dict.fromkeys(c.family for c in comparisons))
        self.cells = {(c.family, c.testset): c for c in comparisons}
        self.means = {(m.family, m.domain): m for m in means}
        self.reasons: list[str] = []  # footnotes, in the order of their numbers

    def note(self, said: str) -> int:
        """The number of a footnote, from 1."""
        if said not in self.reasons:
            self.reasons.append(said)
        return self.reasons.index(said) + 1

    def remarks(self, c: Comparison) -> list[int]:
        """Footnotes of a cell: why it has no number, or remarks on it."""
        return [self.note(said) for said in (c.problems or c.notes)]


def markdown(
    comparisons: list[Comparison],
    means: list[DomainMean],
    options: comparison.Options,
    labels: dict[Family, str],
    skipped: list[Skipped],
) -> str:
    """bd_rate.md."""
    lines = ["# BD-rate in percent against α = 0", ""]
    if not comparisons:
        lines += ["No run with α > 0, so there is nothing to compare.", ""]
    for metric in curves.METRICS:
        chosen = [c for c in comparisons if c.metric == metric]
        if not chosen:
            continue
        table = Wide(chosen, [m for m in means if m.metric == metric], options)
        heads = [*table.testsets, *(f"{d} mean" for d in table.domains)]
        lines += [f"## {TITLES[metric]}", "", "| " + " | ".join(["codec", "seeds", *map(_plain, heads)]) + " |"]
        lines.append("|" + "---|" + "--:|" * (len(heads) + 1))
        for family in table.families:
            seeds = sorted({s for t in table.testsets if (c := table.cells.get((family, t))) for s in c.seeds})
            row = [_plain(labels[family]), str(len(seeds))]
            for testset in table.testsets:
                c = table.cells.get((family, testset))
                row.append("" if c is None else _cell(c.percent, c.low, c.high, table.remarks(c)))
            for kind in table.domains:
                mean = table.means.get((family, kind))
                notes = [table.note(f"mean without {', '.join(mean.missing)}")] if mean and mean.missing else []
                row.append(_cell(mean.percent, mean.low, mean.high, notes) if mean else "")
            lines.append("| " + " | ".join(row) + " |")
        lines += ["", *(f"{k}. {_plain(said)}" for k, said in enumerate(table.reasons, 1)), ""]
    lines += [f"{paragraph}\n" for paragraph in method_notes(comparisons, options)]
    if skipped:
        lines += ["## Left out", "", *(f"- {_plain(s.where)}: {_plain(s.why)}" for s in skipped), ""]
    return "\n".join(lines).rstrip() + "\n"


def trainings_markdown(
    comparisons: list[Comparison],
    spreads: list[trainings.Spread],
    controls: list[lambda_control.Control],
    labels: dict[Family, str],
) -> str:
    """trainings.md: BD-rates over trainings, trainings of the same thing against each other, and the λ control."""
    lines = [
        "# Trainings",
        "",
        "Percent of bits at equal quality; negative is fewer. Runs of one family differ in their seed alone: initial "
        "weights, crops and noise.",
        "",
        "## Against α = 0, over trainings",
        "",
        "The mean of the BD-rates of single seeds with its 95 % interval by Student's t. The bootstrap over two or "
        "three seeds (bd_rate.md) makes it too narrow.",
        "",
    ]
    heads = ["codec", "test set", "metric", "trainings", "BD-rate", "95 % over trainings", "by seed"]
    rows: list[list[str]] = []
    for c in comparisons:
        over = trainings.over_trainings(list(c.by_seed.values()))
        if over is not None:
            by_seed = ", ".join(signed(value) for value in c.by_seed.values())
            about = [_plain(labels[c.family]), _plain(c.testset), TITLES[c.metric], str(over.trainings)]
            rows.append([*about, signed(over.percent), interval(over.low, over.high), by_seed])
    lines += _table(heads, rows) or ["No comparison has two seeds with a number.", ""]
    lines += [
        "## The same thing trained again",
        "",
        "Every pair of seeds of a family. *Largest*: the most that one needs more than another; *deviation*: the "
        "standard deviation of one training; *needed*: independent trainings of each of two families for an interval "
        f"of ±{trainings.AIM:g} points of the BD-rate between them.",
        "",
    ]
    heads = ["codec", "test set", "metric", "trainings", "largest, %", "deviation, %", "needed"]
    rows = []
    for s in spreads:
        about = [_plain(labels[s.family]), _plain(s.testset), TITLES[s.metric], str(len(s.seeds))]
        if s.problems:
            rows.append([*about, "–", "–", _plain(s.problems[0])])
        else:
            needed = "over 1000" if s.needed is None else str(s.needed)
            rows.append([*about, f"{s.largest:.2f}", f"{s.deviation:.2f}", needed])
    lines += _table(heads, rows) or ["No family has two seeds.", ""]
    if controls:
        lines += [
            "## The λ control",
            "",
            "Bits at the same λ, against α = 0, in percent by level, and the λ with which a run of α = 0 and the "
            "variant `λ control` should have these rates. On codecs that are not done training a shift along the "
            "curve moves the BD-rate by itself; what is left against such a run (`--anchor 'λ control'`) is no shift.",
            "",
        ]
        heads = ["codec", "test set", "bits at the same λ, %", "λ of the control"]
        rows = [
            [
                _plain(labels[c.family]),
                _plain(c.testset),
                ", ".join(signed(float(value), 1) for value in c.shift),
                ", ".join(f"{value:.3g}" for value in c.control),
            ]
            for c in controls
        ]
        lines += _table(heads, rows)
    return "\n".join(lines).rstrip() + "\n"


def others_markdown(rows: list[other_codecs.Row], labels: dict[Family, str]) -> str:
    """other_codecs.md: every curve against JPEG, WebP, AVIF and the published curve of its architecture."""
    lines = [
        "# Against other codecs",
        "",
        "In PSNR, averaged over images and seeds: BD-rate in percent, and in brackets how many dB the curve lies above "
        "the other at the rates of its own points, from the least to the most.",
        "",
    ]
    names = list(dict.fromkeys(name for row in rows for name in row.against))
    cells: list[list[str]] = []
    for row in rows:
        rate, psnr = row.curve
        about = [_plain(labels[row.family]), _plain(row.testset)]
        about += [f"{rate.min():.3f}–{rate.max():.3f}", f"{psnr.min():.2f}–{psnr.max():.2f}"]
        for name in names:
            found = row.against.get(name)
            percent = None if found is None else found.percent
            gaps = "" if found is None else interval(found.least, found.most)
            about.append(" ".join(filter(None, [signed(percent, 1), gaps])))
        cells.append(about)
    heads = ["codec", "test set", "bpp", "PSNR, dB", *(_plain(name) for name in names)]
    lines += _table(heads, cells) or ["No classical codec was measured on these test sets.", ""]
    return "\n".join(lines).rstrip() + "\n"


def _table(heads: list[str], rows: list[list[str]]) -> list[str]:
    """Lines of a table whose first three columns are names; none without rows."""
    if not rows:
        return []
    rule = "|---|---|---|" + "--:|" * (len(heads) - 3)
    return [f"| {' | '.join(heads)} |", rule, *(f"| {' | '.join(row)} |" for row in rows), ""]


def _plain(text: str) -> str:
    """`text` with Markdown's special characters escaped."""
    for sign in "\\`*_[]<>|#":
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())


def _cell(percent: float | None, low: float | None, high: float | None, notes: list[int]) -> str:
    marks = f" <sup>{','.join(map(str, notes))}</sup>" if notes else ""
    return f"{' '.join(filter(None, [signed(percent), interval(low, high)]))}{marks}"


def method_notes(comparisons: list[Comparison], options: comparison.Options) -> list[str]:
    """Sentences that say how the numbers were computed."""
    shared = [c.overlap for c in comparisons if c.percent is not None and c.overlap is not None]
    overlaps = f" The curves compared here share at least {min(shared):.0%} of it." if shared else ""
    return [
        "Negative numbers mean fewer bits at equal quality. The anchor of each row is the same backbone trained with "
        f"α = 0{'' if options.anchor is None else f', variant {options.anchor},'} on the same distortion, for as many "
        "steps on the same data, at fixed or at variable rate as the row's; a codec of variable rate with α = 0 is "
        "held against those of fixed rate. Rate is real bytes on disk, headers included.",
        f"BD-rate by the package bjontegaard, {METHOD_NAMES[options.method]} interpolation of log rate over quality "
        f"in dB. There is no number where a curve has fewer than {bd_rate.MIN_POINTS} points, is not monotone, spans "
        f"less than {options.min_span:g} dB, or where the curves share less than {bd_rate.MIN_OVERLAP:.0%} of the "
        f"shorter one's range of quality.{overlaps}",
        f"In brackets: 95 % interval of {options.replicates} bootstrap draws of images (the same ones for both "
        "curves) and of seeds. MS-SSIM is averaged in dB, −10 log10(1 − MS-SSIM), over the images whose sides are at "
        "least 161 pixels.",
        f"In-domain test sets: {', '.join(options.in_domain)}; unseen: {', '.join(options.unseen)}.",
    ]


def write(
    out: Path,
    measurements: list[Measurement],
    found: list[curves.Curve],
    comparisons: list[Comparison],
    means: list[DomainMean],
    options: comparison.Options,
    skipped: list[Skipped],
    others: list[other_codecs.Row],
) -> None:
    """Write results.csv, bd_rate.csv, bd_rate.md, trainings.md, other_codecs.md and, apart, as it varies, cost.md."""
    labels = style.names(list(dict.fromkeys(m.family for m in measurements)))
    csv_rows.write_csv(out / "results.csv", csv_rows.result_rows(measurements), csv_rows.RESULT_COLUMNS)
    csv_rows.write_csv(out / "bd_rate.csv", csv_rows.bd_rows(comparisons, means, options, labels), csv_rows.BD_COLUMNS)
    write_bytes(out / "bd_rate.md", markdown(comparisons, means, options, labels, skipped).encode())
    spreads = trainings.spreads(found, options.method, options.min_span)
    controls = lambda_control.controls(comparisons, found, options)
    write_bytes(out / "trainings.md", trainings_markdown(comparisons, spreads, controls, labels).encode())
    write_bytes(out / "other_codecs.md", others_markdown(others, labels).encode())
    write_bytes(out / "cost.md", cost.markdown(cost.of(measurements)).encode())
