"""Whole images against crops of them: `python -m experiments.branches.crops [NAME=CODEC …] --data ROOT`.

A codec that trained on crops is used on whole images. crops.csv gets the bits (rounded latents, estimated) that each
codec spends on whole images and on the same images cut into squares of 256² and of 128², each coded by itself; crops.md
says how many more bits the whole ones take. Codecs that crops.csv has already are not measured again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from experiments import on_kodak, tables
from experiments.on_kodak import Pixels
from regicomp.image_codec.codec import Codec
from regicomp.report.tables import signed

SIDES = (256, 128)  # both divide those of Kodak's images


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
    given = on_kodak.parse(__doc__, Path(__file__).parent, images=4)
    on_kodak.table(given, "crops", lambda name, codec: measure(name, codec, given.images), page)


if __name__ == "__main__":
    main()
