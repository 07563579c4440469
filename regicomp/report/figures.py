"""rd_<testset>.png and .pdf: rate-distortion curves as a paper prints them."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from regicomp.report import published, style
from regicomp.report.comparison import Comparison
from regicomp.report.curves import METRICS, TITLES, Curve, Metric
from regicomp.report.records import Family
from regicomp.utils.files import write_bytes

_RC: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["Helvetica", "Arial", "Liberation Sans", "DejaVu Sans"],
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 7,
    "pdf.fonttype": 42,  # text stays text
    "savefig.dpi": 300,
}
# Published curves that help to place a result without filling the figure.
_SHOWN_PUBLISHED = ("vtm", "bmshj2018-hyperprior", "mlicpp")


def slug(testset: str) -> str:
    """A test set's name as part of a file name."""
    return re.sub(r"[^A-Za-z0-9.-]+", "_", testset).strip("._") or "testset"


def _limits(values: list[float], margin: float) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = max(margin * (high - low), 1e-3)
    return low - room, high + room


_SEEN = 0.05  # of the figure's width; a curve that crosses less of it is not informative


def _draw_other(axes: Axes, name: str, points: list[tuple[float, float]], line: str) -> None:
    """A grey curve with its name where it leaves the figure, unless it only grazes it; the limits stay as they are."""
    if not points:
        return
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    rates = np.linspace(max(left, points[0][0]), min(right, points[-1][0]), 200)
    qualities = np.interp(rates, *np.array(points).T)
    inside = np.flatnonzero((qualities > bottom) & (qualities < top - 0.04 * (top - bottom)))
    if not len(inside) or rates[inside[-1]] - rates[inside[0]] < _SEEN * (right - left):
        return
    axes.plot(*zip(*points, strict=True), color=style.GREY_LIGHT, linewidth=0.7, linestyle=line, zorder=1)
    options: Any = {"fontsize": 5.5, "color": style.GREY_LIGHT, "ha": "right", "va": "bottom"}
    options["bbox"] = {"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 0.5}
    place = float(rates[inside[-1]]), float(qualities[inside[-1]])
    axes.annotate(name, place, xytext=(-1, 1), textcoords="offset points", zorder=2, **options)


def _draw_curves(
    axes: Axes,
    metric: Metric,
    curves: list[Curve],
    measured: dict[str, list[dict[str, Any]]],
    looks: dict[Family, style.Style],
    labels: dict[Family, str],
) -> None:
    rates: list[float] = []
    qualities: list[float] = []
    for curve in curves:
        points, look = curve.points(metric), looks[curve.family]
        if not len(points.rate):
            continue
        rates += points.rate.tolist()
        qualities += points.quality.tolist()
        color = style.LIGHT[look.color]
        axes.plot(
            points.rate,
            points.quality,
            color=color,
            linestyle=style.TO_MATPLOTLIB[look.dash],
            linewidth=1.1,
            marker=style.TO_MATPLOTLIB[look.marker],
            markersize=3.5,
            markerfacecolor="white" if look.hollow else color,
            markeredgewidth=0.8,
            label=labels[curve.family],
            zorder=3,
        )
    axes.set_xlim(*_limits(rates, 0.12))
    axes.set_ylim(*_limits(qualities, 0.12))
    others = {name: [(p["bpp"], p[metric]) for p in pts if p.get(metric) is not None] for name, pts in measured.items()}
    for name, known in others.items():
        _draw_other(axes, name, known, "-")
    if metric == "psnr_db" and curves[0].testset == published.TESTSET:
        for other in published.curves():
            if other.name in _SHOWN_PUBLISHED:
                _draw_other(axes, other.label, list(zip(other.bpp, other.psnr_db, strict=True)), ":")
    axes.set_xlabel("rate [bits per pixel]")
    axes.set_ylabel(f"{TITLES[metric]} [dB]")
    axes.grid(color="#e3e6ea", linewidth=0.5)
    axes.set_axisbelow(True)


def _draw_differences(axes: Axes, chosen: list[Comparison], looks: dict[Family, style.Style]) -> None:
    axes.axhline(0, color=style.GREY_LIGHT, linewidth=0.7)
    for c in chosen:
        if c.difference is not None:
            look = looks[c.family]
            line = style.TO_MATPLOTLIB[look.dash]
            axes.plot(*c.difference, color=style.LIGHT[look.color], linestyle=line, linewidth=1.1)
    axes.set_xlabel(f"{TITLES[chosen[0].metric]} [dB]")
    axes.set_ylabel("rate against α = 0 [%]")
    axes.grid(color="#e3e6ea", linewidth=0.5)
    axes.set_axisbelow(True)


def _legend_columns(labels: list[str], inches: float) -> int:
    """Columns that labels of this length leave room for, at most three."""
    of_one = 0.6 + 0.062 * max(map(len, labels), default=1)  # handle, gaps and text
    return max(1, min(3, len(labels), int(inches / of_one)))


def draw(
    out: Path,
    curves: list[Curve],
    comparisons: list[Comparison],
    measured: dict[str, list[dict[str, Any]]],
    labels: dict[Family, str],
    looks: dict[Family, style.Style],
) -> list[Path]:
    """Write rd_<testset>.png and rd_<testset>.pdf: a row a metric, the curves and where the bits are saved.

    Args:
        out: folder.
        curves: of one test set.
        comparisons: of the same test set.
        measured: classical codecs' points on its images, by name.
        labels: of the families.
        looks: of the families.
    """
    matplotlib.use("Agg")
    testset = curves[0].testset
    metrics: list[Metric] = [m for m in METRICS if any(np.isfinite(getattr(c, m)).any() for c in curves)]
    shown = {m: [c for c in comparisons if c.metric == m and c.difference is not None] for m in metrics}
    columns = 2 if any(shown.values()) else 1
    with matplotlib.rc_context(_RC):
        figure = Figure(figsize=(3.45 * columns + 0.1, 2.75 * len(metrics) + 0.35), layout="constrained")
        grid = figure.subplots(len(metrics), columns, squeeze=False)
        for row, metric in zip(grid, metrics, strict=True):
            _draw_curves(row[0], metric, curves, measured, looks, labels)
            if columns == 2 and shown[metric]:
                _draw_differences(row[1], shown[metric], looks)
            elif columns == 2:
                row[1].set_axis_off()
        handles = {
            labels[c.family]: h for c in curves for h in grid[0][0].get_lines() if h.get_label() == labels[c.family]
        }
        figure.legend(
            handles=list(handles.values()),
            labels=list(handles),
            loc="outside lower center",
            ncols=_legend_columns(list(handles), 3.45 * columns),
            handlelength=4.2,
        )
        counts = " or ".join(map(str, sorted({len(c.images) for c in curves})))
        figure.suptitle(f"{testset}, {counts} images", fontsize=9)
        paths: list[Path] = []
        for suffix in ("png", "pdf"):
            buffer = io.BytesIO()
            dates = {"CreationDate": None, "Producer": None, "Creator": None} if suffix == "pdf" else {}
            figure.savefig(buffer, format=suffix, metadata=dates)
            paths.append(out / f"rd_{slug(testset)}.{suffix}")
            write_bytes(paths[-1], buffer.getvalue())
    return paths
