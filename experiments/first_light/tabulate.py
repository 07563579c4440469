"""results.csv, table.md and rd.png of first light, from its records.

`python -m experiments.first_light.tabulate RECORD …`, records or the folders of their runs, with $REGICOMP_DATA set.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
from pathlib import Path
from typing import Any

from regicomp.utils import cli

cli.quiet_libraries()

import matplotlib  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

from regicomp.data import testsets  # noqa: E402
from regicomp.evaluation import classical_codecs, record  # noqa: E402
from regicomp.report import published  # noqa: E402

HERE = Path(__file__).parent
PUBLISHED = "bmshj2018-hyperprior"


def _row(run: dict[str, Any], testset: str, curves: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    about, entry = run["run"], run["testsets"][testset]
    keys = ("backbone", "alpha", "lmbda", "quality", "optimizer", "seed", "steps", "config_hash")
    row = {key: about.get(key, "adam") for key in keys}  # which only records of before the optimizers lack
    row |= {"testset": testset, "images": len(entry["images"])}
    row |= {key: entry[key] for key in ("bpp", "bpp_estimated", "psnr_db", "ms_ssim", "source_bpp")}
    row |= {
        f"{name.lower()}_psnr_db": classical_codecs.psnr_at(points, entry["bpp"]) for name, points in curves.items()
    }
    row["training_seconds"] = run["timing"]["training_seconds"]
    return {key: f"{value:.5f}" if isinstance(value, float) else value for key, value in row.items()}


def _draw(path: Path, runs: list[dict[str, Any]], testset: str, curves: dict[str, list[dict[str, Any]]]) -> None:
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for name, points in curves.items():
        axes.plot([p["bpp"] for p in points], [p["psnr_db"] for p in points], marker=".", label=name)
    for run, marker in zip(runs, "o*sd", strict=False):
        entry = run["testsets"][testset]
        label = f"{run['run']['backbone']}, α = {run['run']['alpha']:g}, {run['run'].get('optimizer', 'adam')}"
        axes.plot([entry["bpp"]], [entry["psnr_db"]], marker=marker, markersize=11, linestyle="none", label=label)
    axes.set(xlim=(0.05, 0.8), ylim=(20, 33), xlabel="rate [bits per pixel]", ylabel="PSNR [dB]")
    axes.set_title(f"{testset}, bytes on disk")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="records, or the folders of their runs")
    arguments = parser.parse_args()
    matplotlib.use("Agg")
    runs = [record.read(path / "results.json" if path.is_dir() else path) for path in arguments.runs]
    testset = next(iter(runs[0]["testsets"]))
    images = testsets.find([testset], os.environ.get("REGICOMP_DATA", "data"), [])[0]
    curves = {codec.name: classical_codecs.curve(codec, images) for codec in classical_codecs.QUICK}
    learned = next(curve for curve in published.curves() if curve.name == PUBLISHED)
    points = [{"bpp": bpp, "psnr_db": psnr} for bpp, psnr in zip(learned.bpp, learned.psnr_db, strict=True)]
    curves["published"] = points
    rows = [_row(run, testset, curves) for run in runs]
    with (HERE / "results.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    lines = ["| " + " | ".join(rows[0]) + " |", "|" + "---|" * len(rows[0])]
    lines += ["| " + " | ".join(str(value) for value in row.values()) + " |" for row in rows]
    versions = ", ".join(f"{name} {value}" for name, value in runs[0]["run"]["versions"].items())
    note = (
        "`*_psnr_db` of JPEG, WebP (Pillow) and the published hyperprior: at the same bpp on the same images. "
        f"{versions}, {platform.machine()}."
    )
    (HERE / "table.md").write_text("\n".join([*lines, "", note]) + "\n", encoding="utf-8")
    _draw(HERE / "rd.png", runs, testset, curves)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
