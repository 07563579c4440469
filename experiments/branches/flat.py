"""Errors where an image is flat: `python -m experiments.branches.flat [NAME=CODEC …] --data ROOT`.

flat.csv gets, of each codec at its highest level, the PSNR of the mean error in the flat squares of Kodak's images and
in the rest of them, and on a slow ramp of colours; flat.md shows them, and flat.png what is left of the ramp. paid.csv
and paid.md get, of those with a q_θ beside them, its bits for that ramp. What a file has already is not measured again,
but drawn.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from regicomp.utils import cli

cli.quiet_libraries()

import matplotlib  # noqa: E402
import torch  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

import regicomp  # noqa: E402
from experiments import on_kodak  # noqa: E402
from experiments.on_kodak import Pixels  # noqa: E402
from regicomp.image_codec import model_file  # noqa: E402
from regicomp.image_codec.codec import Codec, to_pixels, to_tensor  # noqa: E402
from regicomp.source.base import SourceModel  # noqa: E402

SIDE = 16  # of a square, which divides those of Kodak's images
BOUND = 4.0  # grey levels: the greatest standard deviation of each colour in a flat square


def flat(pixels: Pixels) -> NDArray[np.bool_]:
    """Which squares of an image (H, W, 3) are flat, (H/16, W/16); H and W multiples of 16."""
    height, width, colours = pixels.shape
    squares = pixels.reshape(height // SIDE, SIDE, width // SIDE, SIDE, colours).astype(float)
    return (squares.std(axis=(1, 3)) <= BOUND).all(axis=-1)


def ramp(side: int = 256) -> Pixels:
    """A square whose colours change by less than half a grey level from pixel to pixel, (side, side, 3)."""
    down, right = np.mgrid[:side, :side] / side
    return np.stack([120 + 100 * right, 140 + 60 * down, np.full_like(down, 200)], axis=-1).round().astype(np.uint8)


def squared_errors(codec: Codec, pixels: Pixels) -> NDArray[np.float64]:
    """Of an image at the highest level, mean over the colours, (H, W), grey levels squared."""
    return ((decoded(codec, pixels) - pixels) ** 2).mean(axis=-1)


def decoded(codec: Codec, pixels: Pixels) -> NDArray[np.float64]:
    """The image that a codec makes of one at its highest level, or its only one, (H, W, 3), grey levels, rounded."""
    found, _ = codec.reconstruct(pixels, codec.levels)
    return np.asarray(to_pixels(found), dtype=float)


def psnr(squares: NDArray[np.float64]) -> float:
    """Of the mean of squared errors, dB."""
    return float(10 * np.log10(255**2 / squares.mean()))


def measure(name: str, codec: Codec, images: list[Pixels]) -> dict[str, Any]:
    """A row: PSNR of the mean error in flat squares of all images, in the others, and on the ramp."""
    parts: dict[bool, list[NDArray[np.float64]]] = {True: [], False: []}
    for image in images:
        where = flat(image).repeat(SIDE, axis=0).repeat(SIDE, axis=1)
        errors = squared_errors(codec, image)
        for kind, found in parts.items():
            found.append(errors[where == kind])
    return {
        "codec": name,
        "flat squares, dB": f"{psnr(np.concatenate(parts[True])):.2f}",
        "elsewhere, dB": f"{psnr(np.concatenate(parts[False])):.2f}",
        "a ramp, dB": f"{psnr(squared_errors(codec, ramp())):.2f}",
    }


def smoothed(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean of the 16×16 pixels around each, (H, W, 3), which leaves nothing of a pattern with that period."""
    return uniform_filter(image, SIDE, mode="nearest", axes=(0, 1))


def paid(name: str, codec: Codec, source: SourceModel) -> dict[str, Any]:
    """A row: H_θ of the ramp given what the codec makes of it, and given the same smoothed, bits per pixel."""
    image = decoded(codec, ramp())
    row = {"codec": name}
    for about, x_hat in (("as it is", image), ("smoothed", smoothed(image))):
        with torch.no_grad():
            bits = source(to_tensor(ramp()), torch.from_numpy(x_hat / 255).float().permute(2, 0, 1)[None])
        row[about] = f"{float(bits):.2f}"
    return row


def draw(path: Path, codecs: dict[str, Codec]) -> None:
    """The middle of the ramp as each codec has it, four pixels for one."""
    matplotlib.use("Agg")
    figure = Figure(figsize=(3 * len(codecs), 3.3), layout="constrained")
    for axes, (name, codec) in zip(np.ravel(figure.subplots(1, len(codecs))), codecs.items(), strict=True):
        axes.imshow(decoded(codec, ramp())[64:192, 64:192].astype(np.uint8), interpolation="nearest")
        axes.set_title(name)
        axes.set_axis_off()
    figure.savefig(path, dpi=140)


def main() -> None:
    """Entry point."""
    given = on_kodak.parse(__doc__, Path(__file__).parent / "elic")
    on_kodak.table(given, "flat", lambda name, codec: [measure(name, codec, given.images)])
    named = {name: Path(path) for name, _, path in (codec.partition("=") for codec in given.codecs)}
    beside = {name: path.with_name("source.safetensors") for name, path in named.items()}
    regularized = [f"{name}={path}" for name, path in named.items() if beside[name].exists()]
    with_source = given._replace(codecs=regularized)
    on_kodak.table(with_source, "paid", lambda name, codec: [paid(name, codec, _source(beside[name]))])
    if named:
        draw(given.out / "flat.png", {name: regicomp.load(path) for name, path in named.items()})


def _source(path: Path) -> SourceModel:
    source = model_file.load_source(path).network
    assert isinstance(source, SourceModel)
    return source


if __name__ == "__main__":
    main()
