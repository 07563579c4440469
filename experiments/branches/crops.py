"""Whole images against crops of them: `python -m experiments.branches.crops [NAME=CODEC …] --data ROOT`.

A codec that trained on crops is used on whole images. crops.csv gets the bits (rounded latents, estimated) that each
codec spends on whole images and on the same images cut into squares of 256² and of 128², each coded by itself; crops.md
says how many more bits the whole ones take. Codecs that crops.csv has already are not measured again.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import regicomp
from experiments import tables
from regicomp.data import testsets
from regicomp.image_codec.codec import Codec
from regicomp.report.tables import signed
from regicomp.utils import files

HERE = Path(__file__).parent
SIDES = (256, 128)  # both divide those of Kodak's images
Pixels = NDArray[np.uint8]


def cut(pixels: Pixels, side: int) -> list[Pixels]:
    """The squares of an image (H, W, 3) whose sides are multiples of `side`.

    Raises:
        ValueError: they are not.
    """
    height, width = pixels.shape[:2]
    if height % side or width % side:
        raise ValueError(f"an image of {width}×{height} pixels cannot be cut into squares of {side}")
    return [pixels[y : y + side, x : x + side] for y in range(0, height, side) for x in range(0, width, side)]


def rate(codec: Codec, parts: list[Pixels], quality: float) -> float:
    """Bits per pixel of parts that are equally large, each coded by itself."""
    return float(np.mean([codec.reconstruct(part, quality)[1] for part in parts]))


def measure(name: str, codec: Codec, images: list[Pixels]) -> list[dict[str, Any]]:
    """A row for the lowest and the highest level of a codec of variable rate, averaged over the images."""
    found: list[dict[str, Any]] = []
    for level in (1, codec.levels or 1):
        row: dict[str, Any] = {"codec": name, "level": level}
        row["bpp, whole"] = f"{np.mean([rate(codec, [image], level) for image in images]):.6f}"
        for side in SIDES:
            row[f"bpp, {side}²"] = f"{np.mean([rate(codec, cut(image, side), level) for image in images]):.6f}"
        found.append(row)
    return found


def page(rows: list[dict[str, Any]]) -> str:
    """How many more bits whole images take than squares, percent."""
    found: list[dict[str, Any]] = []
    for row in rows:
        line: dict[str, Any] = {"codec": row["codec"], "level": int(row["level"])}
        for side in SIDES:
            more = float(row["bpp, whole"]) / float(row[f"bpp, {side}²"]) - 1
            line[f"against {side}², %"] = signed(100 * more, 1)
        found.append(line)
    return tables.markdown(found)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("codecs", nargs="*", metavar="NAME=CODEC")
    parser.add_argument("--data", required=True, help="folder that holds kodak/")
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--out", type=Path, default=HERE, help="folder of crops.csv and crops.md")
    arguments = parser.parse_args()
    (testset,) = testsets.find(["kodak"], arguments.data, [], arguments.images)
    images = [np.asarray(image.load()) for image in testset.images]
    rows = tables.measured(
        arguments.out / "crops.csv", arguments.codecs, lambda name, codec: measure(name, regicomp.load(codec), images)
    )
    files.write_bytes(arguments.out / "crops.md", page(rows).encode())
    print(page(rows))


if __name__ == "__main__":
    main()
