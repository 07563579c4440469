"""table.md and rd.png of the codec that comes with regicomp, from its record, beside classical codecs.

`python -m experiments.shipped.tabulate`, with $REGICOMP_DATA set; the classical codecs are measured on the same images.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

import regicomp
from regicomp.utils import cli

cli.quiet_libraries()

import matplotlib  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

from regicomp.data import testsets  # noqa: E402
from regicomp.evaluation import classical_codecs, record  # noqa: E402
from regicomp.report import published  # noqa: E402
from regicomp.report.bd_rate import RdCurve, bd_rate  # noqa: E402

HERE = Path(__file__).parent
FIRST = "kodak"
PUBLISHED = "bmshj2018-hyperprior"  # what a full training of the same architecture reaches

Points = list[dict[str, Any]]


def _curve(points: Points) -> RdCurve:
    return RdCurve(np.array([p["bpp"] for p in points]), np.array([p["psnr_db"] for p in points]))


def _saving(anchor: Points, test: Points) -> str:
    """BD-rate against a classical codec, percent, over the quality that both reach."""
    return f"{bd_rate(_curve(anchor), _curve(test), 'pchip'):+.1f} %"


def _gap(classical: Points, point: dict[str, Any]) -> str:
    psnr = classical_codecs.psnr_at(classical, point["bpp"])
    return "-" if psnr is None else f"{point['psnr_db'] - psnr:+.2f}"


def _draw(path: Path, ours: Points, classical: dict[str, Points]) -> None:
    matplotlib.use("Agg")
    figure = Figure(figsize=(7.5, 4.8), layout="constrained")
    axes = figure.subplots()
    for name, points in classical.items():
        axes.plot(*_curve(points), marker=".", markersize=4, linewidth=1, label=name)
    for curve in published.curves():
        if PUBLISHED in curve.label.lower() or PUBLISHED in curve.name.lower():
            axes.plot(
                curve.bpp, curve.psnr_db, color="0.6", linestyle="--", linewidth=1, label=f"{curve.label}, published"
            )
    axes.plot(*_curve(ours), marker="o", color="black", label="the codec that comes with regicomp")
    axes.set(
        xlim=(0.1, 1.0), ylim=(24, 36), xlabel="rate [bits per pixel, bytes on disk]", ylabel="PSNR [dB]", title="Kodak"
    )
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Entry point."""
    levels = record.points(record.read(regicomp.SHIPPED.parent / "results.json"))
    names = list(levels[0].testsets)
    lines = ["| test set | quality | λ | bpp | PSNR dB | MS-SSIM | dB above JPEG | dB above WebP |", "|" + "---|" * 8]
    savings = ["| test set | images | against JPEG | against WebP |", "|" + "---|" * 4]
    for testset in testsets.find(names, os.environ.get("REGICOMP_DATA", "data"), []):
        classical = {
            c.name: classical_codecs.cached(c, testset) for c in (classical_codecs.JPEG, classical_codecs.WEBP)
        }
        ours = [level.testsets[testset.name] for level in levels]
        for level, point in zip(levels, ours, strict=True):
            gaps = " | ".join(_gap(points, point) for points in classical.values())
            similarity = "-" if point["ms_ssim"] is None else f"{point['ms_ssim']:.4f}"
            lines.append(
                f"| {testset.name} | {level.quality:g} | {level.lmbda:g} | {point['bpp']:.4f} | {point['psnr_db']:.2f} "
                f"| {similarity} | {gaps} |"
            )
        against = " | ".join(_saving(points, ours) for points in classical.values())
        savings.append(f"| {testset.name} | {len(testset.images)} | {against} |")
        if testset.name == FIRST:
            _draw(HERE / "rd.png", ours, classical)
    text = "\n".join(
        [
            "BD-rate in PSNR, pchip, over the quality that both curves reach; negative: fewer bits.",
            "",
            *savings,
            "",
            *lines,
        ]
    )
    (HERE / "table.md").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
