"""index.html: one file that holds the curves, tables, pictures and training histories, and needs no network."""

from __future__ import annotations

import csv
import html
import math
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from regicomp.data.images import Pixels
from regicomp.report import comparison, csv_rows, pictures, published, style, tables
from regicomp.report.comparison import Comparison, DomainMean
from regicomp.report.curves import METRICS, TITLES, Curve
from regicomp.report.records import Family, Measurement, Skipped
from regicomp.utils.files import write_bytes

_MOST_HISTORY_POINTS = 300
_HISTORY = ("rate_bpp", "mse_255", "source_bpp", "pressure")
_OPEN_PUBLISHED = ("vtm", "bmshj2018-hyperprior", "mlicpp")  # shown at first; the others wait in the legend


class Picture(NamedTuple):
    """A run's reconstruction of an image, its error and its bits, as data URIs."""

    run: str  # the run's label
    x_hat: str
    error: str
    bits: str
    bits_top: float  # bits per pixel at the top of the bit map's scale
    rest_bpp: float  # bits of the side information, per pixel


class Pictures(NamedTuple):
    """An image of a test set and what runs did to it."""

    testset: str
    image: str  # its name
    original: str
    cut: bool  # whether only the middle is shown
    error_levels: int  # grey levels at the top of the error maps' scale
    of_runs: list[Picture]


def pictures_of(testset: str, image: str, pixels: Pixels, coded: dict[str, pictures.CodedImage]) -> Pictures:
    """An image's pictures; `coded` is by run, and all bit maps have one scale."""
    top = max(float(np.quantile(c.bits, 0.995)) for c in coded.values())
    of_runs = [
        Picture(run, pictures.photo(c.x_hat), pictures.error_map(c), pictures.bit_map(c, top), top, c.rest_bpp)
        for run, c in coded.items()
    ]
    cut = max(pixels.shape[:2]) > pictures.MOST_PIXELS
    return Pictures(testset, image, pictures.photo(pixels), cut, pictures.ERROR_LEVELS, of_runs)


class Content(NamedTuple):
    """All that the page shows."""

    measurements: list[Measurement]
    curves: list[Curve]
    comparisons: list[Comparison]
    means: list[DomainMean]
    options: comparison.Options
    skipped: list[Skipped]
    measured: dict[str, dict[str, list[dict[str, Any]]]]  # classical codecs' points by test set and name
    shown: list[Pictures]


def _unbroken(labels: dict[Family, str]) -> dict[Family, str]:
    """Labels that break between their parts only."""
    return {family: label.replace(" = ", "\u00a0=\u00a0") for family, label in labels.items()}


def _name(m: Measurement, labels: dict[Family, str]) -> str:
    """A run's name."""
    return f"{labels[m.family]}, {m.settings}".replace(" = ", "\u00a0=\u00a0").replace("seed ", "seed\u00a0")


def _numbers(values: Any, digits: int = 5) -> list[float | None]:
    return [round(float(v), digits) if v is not None and math.isfinite(v) else None for v in values]


def _curve_rows(content: Content, testset: str, labels: dict[Family, str], looks: dict[Family, style.Style]) -> Any:
    """Plotly's lines of a test set: the runs', the classical codecs' and the published ones."""
    lines: list[dict[str, Any]] = []
    for curve in (c for c in content.curves if c.testset == testset):
        look = looks[curve.family]
        metrics = {}
        for metric in METRICS:
            points = curve.points(metric)
            metrics[metric] = {"x": _numbers(points.rate), "y": _numbers(points.quality, 4)}
        lines.append(
            {
                "name": html.escape(labels[curve.family]),
                "group": "runs",
                "style": look._asdict(),
                "metrics": metrics,
                "text": [f"λ = {v:g}" for v in curve.lmbdas],
                "visible": True,
            }
        )
    for name, points in content.measured.get(testset, {}).items():
        metrics = {}
        for metric in METRICS:
            known = [p for p in points if p.get(metric) is not None]
            metrics[metric] = {
                "x": _numbers(p["bpp"] for p in known),
                "y": _numbers((p[metric] for p in known), 4),
            }
        lines.append(
            {
                "name": html.escape(name),
                "group": "measured",
                "style": None,
                "metrics": metrics,
                "text": [f"quality {p['quality']}" for p in points],
                "visible": True,
            }
        )
    if testset == published.TESTSET:
        lines += [
            {
                "name": html.escape(p.label),
                "group": "published",
                "style": None,
                "metrics": {"psnr_db": {"x": p.bpp, "y": p.psnr_db}, "ms_ssim_db": {"x": [], "y": []}},
                "text": [],
                "visible": p.name in _OPEN_PUBLISHED,
            }
            for p in published.curves()
        ]
    return lines


def _differences(content: Content, testset: str, labels: dict[Family, str], looks: dict[Family, style.Style]) -> Any:
    return [
        {
            "name": html.escape(labels[c.family]),
            "metric": c.metric,
            "style": looks[c.family]._asdict(),
            "x": _numbers(c.difference[0], 3),
            "y": _numbers(c.difference[1], 3),
        }
        for c in content.comparisons
        if c.testset == testset and c.difference is not None
    ]


def _images(content: Content, testset: str) -> dict[str, Any]:
    """Per-image numbers of every run on a test set."""
    members = [m for m in content.measurements if m.testset == testset]
    names = list(dict.fromkeys(image for m in members for image in m.images))
    runs: list[dict[str, Any]] = []
    for m in members:
        place = {image: k for k, image in enumerate(m.images)}
        order = [place.get(name) for name in names]
        h = [i.get("source_bpp") for i in m.entry["images"]]
        runs.append(
            {
                "label": m.point,
                "bpp": _numbers((None if k is None else m.rate[k] for k in order), 4),
                "psnr": _numbers((None if k is None else m.psnr_db[k] for k in order), 3),
                "ms_ssim": _numbers((None if k is None else m.ms_ssim_db[k] for k in order), 3),
                "source": _numbers((None if k is None else h[k] for k in order), 3),
            }
        )
    return {"names": [n.rsplit(" ", 1)[0] for n in names], "sizes": [n.rsplit(" ", 1)[1] for n in names], "runs": runs}


def history(folder: Path) -> dict[str, list[float | None]] | None:
    """A run's metrics.csv, thinned to a few hundred rows; None where there is none.

    Raises:
        ValueError: the file cannot be read as a table with a `step` column.
    """
    path = folder / "metrics.csv"
    if not path.is_file():
        return None
    try:
        with path.open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if (row.get("step") or "").isdigit()]
    except (OSError, csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"metrics.csv cannot be read ({error})") from error
    if not rows:
        return None
    rows = rows[:: max(1, math.ceil(len(rows) / _MOST_HISTORY_POINTS))]

    def column(key: str) -> list[float | None]:
        values: list[float | None] = []
        for row in rows:
            try:
                value = float(row.get(key) or "nan")
            except ValueError:
                value = math.nan
            values.append(value if math.isfinite(value) else None)
        return _numbers([math.nan if v is None else v for v in values])

    return {"step": column("step"), **{key: column(key) for key in _HISTORY}}


def _histories(
    content: Content, labels: dict[Family, str], looks: dict[Family, style.Style]
) -> tuple[list[dict[str, Any]], list[Skipped]]:
    found: list[dict[str, Any]] = []
    skipped: list[Skipped] = []
    seen: set[Path] = set()
    for m in content.measurements:
        if m.folder in seen:
            continue
        seen.add(m.folder)
        try:
            columns = history(m.folder)
        except ValueError as error:
            skipped.append(Skipped(m.label, str(error)))
            continue
        if columns is not None:
            name = html.escape(_name(m, labels))
            family = html.escape(labels[m.family])
            found.append({"name": name, "family": family, "style": looks[m.family]._asdict(), **columns})
    return found, skipped


def _bd_tables(content: Content, labels: dict[Family, str]) -> list[dict[str, Any]]:
    """The BD-rate tables as the template wants them."""
    result: list[dict[str, Any]] = []
    for metric in METRICS:
        chosen = [c for c in content.comparisons if c.metric == metric]
        if not chosen:
            continue
        table = tables.Wide(chosen, [m for m in content.means if m.metric == metric], content.options)
        rows: list[dict[str, Any]] = []
        for family in table.families:
            cells: list[dict[str, Any] | None] = []
            for testset in table.testsets:
                c = table.cells.get((family, testset))
                if c is None:
                    cells.append(None)
                    continue
                anchor = labels[c.anchor] if c.anchor else "none"
                shared = "–" if c.overlap is None else f"{c.overlap:.0%}"
                about = (
                    f"anchor: {anchor}; overlap {shared}; {c.points} and {c.anchor_points} points; {c.images} images"
                )
                if c.other is not None:
                    other = next(m for m in ("pchip", "akima") if m != c.method)
                    about += f"; {tables.signed(c.other)} % by {other}"
                cells.append(_cell(c.percent, c.low, c.high, table.remarks(c), about))
            for kind in table.domains:
                mean = table.means.get((family, kind))
                if mean is None:
                    cells.append(None)
                    continue
                notes = [table.note(f"mean without {', '.join(mean.missing)}")] if mean.missing else []
                cells.append(
                    _cell(mean.percent, mean.low, mean.high, notes, f"of {', '.join(mean.testsets) or 'none'}")
                )
            rows.append({"label": labels[family], "cells": cells})
        heads = [{"name": t, "domain": comparison.domain(t, content.options)} for t in table.testsets]
        result.append(
            {"title": TITLES[metric], "heads": heads, "means": table.domains, "rows": rows, "notes": table.reasons}
        )
    return result


def _cell(percent: float | None, low: float | None, high: float | None, notes: list[int], about: str) -> dict[str, Any]:
    significant = low is not None and high is not None and (high < 0 or low > 0)
    return {
        "value": tables.signed(percent),
        "interval": tables.interval(low, high),
        "notes": notes,
        "about": about,
        "sign": "" if not significant or percent is None else ("gain" if percent < 0 else "loss"),
    }


def _asset(name: str) -> str:
    return files("regicomp").joinpath("report", "assets", name).read_text(encoding="utf-8")


def render(content: Content) -> str:
    """The page's HTML."""
    families = list(dict.fromkeys(c.family for c in content.curves))
    labels, looks = _unbroken(style.names(families)), style.styles(families)
    histories, unread = _histories(content, labels, looks)
    skipped = [*content.skipped, *unread]
    rank = {"in-domain": 0, "unseen": 1, None: 2}
    testsets = sorted(
        {c.testset for c in content.curves}, key=lambda t: (rank[comparison.domain(t, content.options)], t)
    )
    sets: list[dict[str, Any]] = []
    for testset in testsets:
        here = [c for c in content.curves if c.testset == testset]
        sets.append(
            {
                "name": testset,
                "domain": comparison.domain(testset, content.options),
                "count": max(len(c.images) for c in here),
                "lines": _curve_rows(content, testset, labels, looks),
                "differences": _differences(content, testset, labels, looks),
                "metrics": [m for m in METRICS if any(np.isfinite(getattr(c, m)).any() for c in here)],
                "images": _images(content, testset),
            }
        )
    about_runs = [
        {
            "label": m.point,
            "name": _name(m, labels) + ("" if m.level is None else f", quality\u00a0{m.level:g}"),
            "family": labels[m.family],
        }
        for m in {m.point: m for m in content.measurements}.values()
        if m.family in labels
    ]
    data = {
        "testsets": sets,
        "runs": about_runs,
        "histories": histories,
        "pictures": [{**p._asdict(), "of_runs": [x._asdict() for x in p.of_runs]} for p in content.shown],
        "titles": TITLES,
        "colors": {
            "light": style.LIGHT,
            "dark": style.DARK,
            "greyLight": style.GREY_LIGHT,
            "greyDark": style.GREY_DARK,
        },
    }
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(_asset("page.html"))
    return template.render(
        data=data,
        sets=sets,
        bd_tables=_bd_tables(content, labels),
        results=csv_rows.result_rows(content.measurements),
        runs=len({m.label for m in content.measurements}),
        backbones=sorted({m.family.backbone for m in content.measurements}),
        seeds=sorted({m.seed for m in content.measurements}),
        skipped=skipped,
        notes=tables.method_notes(content.comparisons, content.options),
        sources=list(published.curves()) if published.TESTSET in testsets else [],
        measured=sorted({name for by_name in content.measured.values() for name in by_name}),
        version=version("regicomp"),
        css=Markup(_asset("page.css")),
        js=Markup(_asset("page.js")),
        plotly=Markup(get_plotlyjs()),
    )


def write(path: Path, page: str) -> None:
    """Write the page, whole or not at all."""
    write_bytes(path, page.encode())
