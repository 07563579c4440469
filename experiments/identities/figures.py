"""The pictures of experiments/identities, from the games' rows."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from PIL import Image

from experiments.identities import compare
from experiments.identities.tables import part
from regicomp.theory import exhaustive, known_sources, learned_game

Row = dict[str, Any]
_COLOURS = {0.0: "#252525", 0.03: "#2c7fb8", 0.1: "#41ab5d", 0.3: "#e6550d"}
_DPI = 160
_PALETTE = 256  # colours of a stored picture: plots lose nothing, and thousands of points take a third of the bytes


def save(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG with a palette."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=_DPI)
    drawn.seek(0)
    Image.open(drawn).convert("RGB").quantize(_PALETTE).save(path, optimize=True)


def _finish(axes: Axes, x: str, y: str, title: str = "") -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_title(title, fontsize=10)
    axes.set_axisbelow(True)
    axes.grid(alpha=0.3, linewidth=0.6)


def draw_optima(path: Path) -> None:
    """Every code of five points: H(U) against H(X|X̂). Direct codes lie on the line, the others above it by H(U|X̂)."""
    source = torch.tensor([0.06, 0.53, 0.14, 0.21, 0.06], dtype=torch.float64)
    codes, total = exhaustive.transform_codes(source), -float((source * torch.log2(source)).sum())
    figure = Figure(figsize=(6.2, 4.4), layout="constrained")
    axes = figure.subplots()
    order = torch.argsort(codes.price, descending=True)
    shown = axes.scatter(codes.source[order], codes.rate[order], c=codes.price[order], s=14, cmap="viridis_r")
    axes.plot([0, total], [total, 0], color="#252525", linewidth=1, label="H(U) = H(X) − H(X|X̂): injective synthesis")
    figure.colorbar(shown, ax=axes, label="H(U|X̂) [bits]")
    _finish(
        axes, "H(X|X̂) [bits]", "H(U) [bits]", "every code and synthesis of five points, p = .06, .53, .14, .21, .06"
    )
    axes.legend(fontsize=8, loc="lower left")
    save(figure, path)


def draw_curves(path: Path, rows: Sequence[Row]) -> None:
    """H(U) against distortion by source and α, and below the effect of α at equal distortion."""
    sweep = part(rows, "sweep", last=True)
    sources = list(dict.fromkeys(row["source"] for row in sweep))
    figure = Figure(figsize=(11, 6.6), layout="constrained")
    grid = figure.subplots(2, len(sources), squeeze=False, height_ratios=(1.5, 1))
    for axes, source in zip(grid[0], sources, strict=True):
        for alpha, colour in _COLOURS.items():
            mine = [row for row in sweep if row["source"] == source and row["alpha"] == alpha]
            axes.plot(
                [r["mse_255"] for r in mine], [r["h_u"] for r in mine], ".", color=colour, markersize=3, alpha=0.6
            )
            means = []
            for lmbda in sorted({row["lmbda"] for row in mine}):
                here = [row for row in mine if row["lmbda"] == lmbda]
                means.append([np.exp(np.mean(np.log([r["mse_255"] for r in here]))), np.mean([r["h_u"] for r in here])])
            axes.plot(
                *np.transpose(means), marker="o", markersize=4, linewidth=1.2, color=colour, label=f"α = {alpha:g}"
            )
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xticks([30, 100, 300, 1000, 2000], ["30", "100", "300", "1000", "2000"])
        axes.set_xlim(20, max(r["mse_255"] for r in sweep if r["source"] == source) * 1.15)
        _finish(axes, "D, squared error in grey levels²", "H(U) [bits a point], exact", source)
    grid[0, 0].legend(fontsize=8)
    found = {quantity: compare.compare(sweep, quantity) for quantity in ("h_u", "rate")}
    for axes, source in zip(grid[1], sources, strict=True):
        axes.axhline(0, color="#252525", linewidth=0.8)
        for shift, (quantity, marker, label) in enumerate((("h_u", "o", "H(U)"), ("rate", "s", "R"))):
            for at, comparison in enumerate(c for c in found[quantity] if c.source == source):
                mean, low, high = compare.interval([comparison.percent])
                colour = _COLOURS[comparison.alpha]
                place = at + 0.24 * shift - 0.12
                axes.errorbar(
                    place, mean, [[mean - low], [high - mean]], fmt=marker, color=colour, capsize=3,
                    mfc=colour if shift == 0 else "white", label=label if at == 2 else None,
                )  # fmt: skip
        axes.set_xticks(range(3), [f"α = {alpha:g}" for alpha in list(_COLOURS)[1:]])
        _finish(axes, "", "change at equal D [%]", "below 0: fewer bits (95 % over seeds)")
    grid[1, 0].legend(fontsize=8)
    save(figure, path)


def draw_learning(path: Path, rows: Sequence[Row]) -> None:
    """Entropies and cross-entropies as codec and q_θ learn, and the gap of q_θ."""
    learning = part(rows, "learning")
    sources = list(dict.fromkeys(row["source"] for row in learning))
    labels = list(dict.fromkeys(row["label"] for row in learning))
    figure = Figure(figsize=(11, 6.2), layout="constrained")
    grid = figure.subplots(2, len(sources), squeeze=False, sharex=True)

    def along(label: str, source: str, value: Any) -> tuple[list[float], list[float]]:
        mine = [row for row in learning if row["label"] == label and row["source"] == source]
        steps = sorted({row["step"] for row in mine})
        return steps, [float(np.mean([value(row) for row in mine if row["step"] == step])) for step in steps]

    for above, below, source in zip(grid[0], grid[1], sources, strict=True):
        for quantity, colour, style, name in (
            ("h_x_given_x_hat", "#e6550d", "-", "H(X|X̂), exact"),
            ("source_entropy", "#e6550d", "--", "H_θ"),
            ("h_u", "#2c7fb8", "-", "H(U), exact"),
            ("rate", "#2c7fb8", "--", "R"),
        ):
            above.plot(*along("α = 0.1", source, lambda r, q=quantity: r[q]), style, color=colour, label=name)
        h_x = learning[[row["source"] for row in learning].index(source)]["h_x"]
        above.axhline(h_x, color="#252525", linewidth=0.8, linestyle=":", label="H(X)")
        above.set_ylim(0, h_x + 5)
        _finish(above, "", "bits a point", f"{source}, α = 0.1")
        for label in labels:
            gap = along(label, source, lambda r: r["source_entropy"] - r["h_x_given_x_hat"])
            below.plot(*gap, marker=".", markersize=4, linewidth=1.2, label=label)
        below.set_ylim(0, 5)
        below.set_xscale("log")
        _finish(below, "updates", "H_θ − H(X|X̂) [bits]")
    grid[0, 0].legend(fontsize=7, ncols=2)
    grid[1, 0].legend(fontsize=7)
    save(figure, path)


def draw_start(path: Path, rows: Sequence[Row]) -> None:
    """Distortion over the first updates with and without warm-up."""
    start = part(rows, "start")
    figure = Figure(figsize=(10.5, 3.6), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    for axes, scale in zip(panels, ("20", "4", "1"), strict=True):
        labels = [label for label in dict.fromkeys(r["label"] for r in start) if label.startswith(f"σ from {scale},")]
        for label, colour in zip(labels, ("#2c7fb8", "#e6550d", "#a50f15"), strict=False):
            for seed in sorted({row["seed"] for row in start}):
                mine = [row for row in start if row["label"] == label and row["seed"] == seed]
                name = label.split(", ", 1)[1] if seed == 0 else None
                axes.plot(
                    [r["step"] for r in mine], [r["mse_255"] for r in mine], color=colour, linewidth=1.1, label=name
                )
        axes.set_xscale("log")
        axes.set_yscale("log")
        _finish(
            axes, "updates", "D [grey levels²]" if scale == "20" else "", f"q_θ's scale starts at {scale} grey levels"
        )
        axes.legend(fontsize=8)
    save(figure, path)


def draw_codes(path: Path, steps: int) -> None:
    """The three sources and the cells and reconstructions of a trained code of each, plain and regularized."""
    alphas = (0.0, 0.3)
    figure = Figure(figsize=(10.5, 7.0), layout="constrained")
    grid = figure.subplots(len(alphas), 3, squeeze=False)
    for line, alpha in zip(grid, alphas, strict=True):
        played = learned_game.Game(0.006, alpha, seeds=1, steps=steps)
        module = learned_game.train(played)[0]
        maps = learned_game.maps(module, played)
        for axes, (name, _), (u, x_hat), exact in zip(
            line, played.members, maps, learned_game.enumerated(module, played), strict=True
        ):
            p = known_sources.SOURCES[name].probabilities
            axes.imshow(p.T.sqrt(), origin="lower", cmap="Blues", extent=(-0.5, 255.5, -0.5, 255.5))
            cells = u.reshape(p.shape).T.numpy()
            edges = (np.diff(cells, axis=0, prepend=cells[:1]) != 0) | (
                np.diff(cells, axis=1, prepend=cells[:, :1]) != 0
            )
            axes.imshow(np.ma.masked_where(~edges, edges), origin="lower", cmap="gray", alpha=0.55, vmin=0, vmax=1.5,
                        extent=(-0.5, 255.5, -0.5, 255.5))  # fmt: skip
            seen = p.flatten() > 1e-9
            axes.plot(*torch.unique(x_hat[seen], dim=0).T, ".", color="#e6550d", markersize=4)
            axes.set(xlim=(-0.5, 255.5), ylim=(-0.5, 255.5), xticks=[], yticks=[])
            title = f"{name}, α = {alpha:g}: H(U) {exact.entropies.code:.2f} bits, D {exact.mse_255:.0f}"
            axes.set_title(title, fontsize=9)
    save(figure, path)
