"""R + H_θ on photographs against PNG and lossless WebP: a table, a CSV and a figure.

`python -m experiments.identities.lossless --codec RUN/codec.safetensors --source RUN/source.safetensors --images KODAK`
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from regicomp.data import testsets
from regicomp.evaluation.round_trip import Codec
from regicomp.image_codec import model_file
from regicomp.theory import lossless_bound
from regicomp.theory.lossless_bound import LosslessResult
from regicomp.utils import cli, files

HERE = Path(__file__).parent
_FIRST = ("image", "width", "height", "psnr_db", "rate_bpp", "file_bpp", "source_bpp", "total_bpp")


def _fields(found: LosslessResult) -> list[str]:
    numbers = (found.psnr_db, found.rate_bpp, found.file_bpp, found.source_bpp, found.total_bpp)
    numbers += (*found.others.values(), 100 * found.excess)
    return [found.name, str(found.width), str(found.height), *(f"{number:.4f}" for number in numbers)]


def _header() -> list[str]:
    return [
        *_FIRST,
        *(f"{codec.name.lower().replace(' ', '_')}_bpp" for codec in lossless_bound.LOSSLESS),
        "excess_percent",
    ]


def write_csv(path: Path, results: list[LosslessResult]) -> None:
    """A row an image."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_header())
        writer.writerows(_fields(found) for found in results)


def table(results: list[LosslessResult], about: str) -> str:
    """Markdown: a row an image, and their mean."""
    names = [codec.name for codec in lossless_bound.LOSSLESS]
    columns = ["image", "PSNR dB", "R", "H_θ", "**R + H_θ**", *names, "to the best"]
    lines = [
        f"{about}. Bits per pixel.",
        "",
        "| " + " | ".join(columns) + " |",
        "|---" + "|---:" * len(names + columns),
    ]
    lines[-1] = "|---|" + "---:|" * (len(columns) - 1)

    def row(name: str, values: list[float], excess: float) -> str:
        psnr, *bits = values
        return f"| {name} | {psnr:.2f} | " + " | ".join(f"{v:.3f}" for v in bits) + f" | {100 * excess:+.1f} % |"

    every = [
        [found.psnr_db, found.rate_bpp, found.source_bpp, found.total_bpp, *found.others.values()] for found in results
    ]
    lines += [row(found.name, values, found.excess) for found, values in zip(results, every, strict=True)]
    mean = np.mean(every, axis=0).tolist()
    lines.append(row("**mean**", mean, mean[3] / float(np.mean([found.best_bpp for found in results])) - 1))
    return "\n".join(lines)


def draw(path: Path, results: list[LosslessResult], title: str) -> None:
    """Stacked R and H_θ beside the lossless files, image by image."""
    figure = Figure(figsize=(max(7.0, 0.46 * len(results) + 2), 4.2), layout="constrained")
    axes = figure.subplots()
    at = np.arange(len(results))
    rate = np.array([found.rate_bpp for found in results])
    axes.bar(at, [found.source_bpp for found in results], 0.62, bottom=rate, color="#9ecae1", label="H_θ(X|X̂)")
    axes.bar(at, rate, 0.62, color="#08519c", label="R")
    for name, colour, marker in zip(results[0].others, ("#d94801", "#238b45"), "vD", strict=False):
        axes.plot(at, [found.others[name] for found in results], marker, color=colour, label=name, markersize=6)
    axes.set_xticks(at, [Path(found.name).stem for found in results], rotation=90, fontsize=8)
    axes.set_ylabel("bits per pixel")
    axes.set_title(title, fontsize=10)
    axes.set_axisbelow(True)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(ncols=4, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.08), frameon=False)
    figure.savefig(path, dpi=160)


def run(codec_path: Path, source_path: Path, images: str, out: Path) -> str:
    """Measure, write lossless.csv, lossless.md and lossless.png, and return the table.

    Args:
        codec_path, source_path: of one training run.
        images: `photos`, or a folder.
        out: where the files go.

    Raises:
        ValueError: a file or a folder is missing or unreadable.
    """
    loaded, source = model_file.load_codec(codec_path), model_file.load_source(source_path)
    testset = testsets.find(*((["photos"], ".", []) if images == "photos" else ([], ".", [images])))[0]
    codec = Codec(loaded)
    bar = tqdm(testset.images, desc=f"lossless on {testset.name}", unit="image", leave=False)
    results = [lossless_bound.of_image(codec, source.network, image) for image in bar]
    run = loaded.run
    about = (
        f"{run['backbone']}, α = {run['alpha']:g}, λ = {run['lmbda']:g}, {run['steps']} steps, seed {run['seed']}, "
        f"q_θ {run['source']}, on {testset.name} ({len(results)} images)"
    )
    files.write_bytes(out / "lossless.md", (table(results, about) + "\n").encode())
    write_csv(out / "lossless.csv", results)
    draw(out / "lossless.png", results, about)
    return table(results, about)


def main(argv: list[str] | None = None) -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codec", type=Path, required=True, help="codec.safetensors of a run")
    parser.add_argument("--source", type=Path, required=True, help="source.safetensors of the same run")
    parser.add_argument("--images", default="photos", help="folder of images, or photos (those that ship)")
    parser.add_argument("--out", type=Path, default=HERE, help="folder for lossless.csv, .md and .png")
    args = parser.parse_args(argv)
    print(run(args.codec, args.source, args.images, args.out))


if __name__ == "__main__":
    with cli.told_in_one_line():
        main()
