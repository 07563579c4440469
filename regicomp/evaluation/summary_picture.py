"""summary.png: originals beside reconstructions, and the run's point among classical curves on the same images."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from regicomp.data.images import Pixels
from regicomp.data.testsets import TestSet
from regicomp.evaluation.round_trip import Codec, to_pixels
from regicomp.utils.files import write_bytes

_SHOWN = 3


def _show(axes: Axes, pixels: Pixels, title: str) -> None:
    axes.imshow(pixels)
    axes.set_title(title, fontsize=9)
    axes.set_axis_off()


def _plot_curves(
    axes: Axes, curves: dict[str, list[dict[str, Any]]], entries: list[dict[str, Any]], label: str
) -> None:
    for name, points in curves.items():
        axes.plot([p["bpp"] for p in points], [p["psnr_db"] for p in points], marker=".", label=name)
    rates, qualities = [e["bpp"] for e in entries], [e["psnr_db"] for e in entries]
    line = "none" if len(entries) == 1 else "solid"
    axes.plot(rates, qualities, marker="*", markersize=14, linestyle=line, label=label)
    axes.set_xlim(0, max(1.0, 2 * rates[0], 1.1 * max(rates)))
    near = [p["psnr_db"] for points in curves.values() for p in points if p["bpp"] <= axes.get_xlim()[1]]
    axes.set_ylim(min([*qualities, *near]) - 1, max([*qualities, *near]) + 1)
    axes.set_xlabel("rate [bits per pixel]")
    axes.set_ylabel("PSNR [dB]")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=9)


def draw(
    path: Path,
    codec: Codec,
    testset: TestSet,
    entries: list[dict[str, Any]],
    curves: dict[str, list[dict[str, Any]]],
    label: str,
) -> None:
    """Write the picture.

    Args:
        path: the PNG, replaced whole.
        codec: the trained codec.
        testset: its images.
        entries: the test set's entries in the record, one for each level; reconstructions are of the middle one.
        curves: classical codecs' points by name.
        label: of the run's points.
    """
    matplotlib.use("Agg")
    shown = testset.images[:_SHOWN]
    figure = Figure(figsize=(13, 3.0 * len(shown)), layout="constrained")
    halves = figure.subfigures(1, 2, width_ratios=(1.25, 1), squeeze=False)
    left, right = halves[0, 0], halves[0, 1]
    grid = left.subplots(len(shown), 2, squeeze=False)
    entry = entries[(len(entries) - 1) // 2]
    quality = None if codec.levels is None else 1.0 + (len(entries) - 1) // 2
    for (original, coded), image, row in zip(grid, shown, entry["images"], strict=False):
        pixels = image.load()
        _show(original, pixels, f"{image.name}, {row['width']}x{row['height']}")
        x_hat = to_pixels(codec.decode(codec.encode(pixels, quality)))
        _show(coded, x_hat, f"{row['bpp']:.3f} bpp, {row['psnr_db']:.2f} dB")
    axes = right.subplots()
    axes.set_title(f"{testset.name}: average of {len(entry['images'])} images, bytes on disk")
    _plot_curves(axes, curves, entries, label)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    write_bytes(path, buffer.getvalue())
