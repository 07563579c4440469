"""How good a reconstruction can be by the number of y's channels: `python -m experiments.shipped.channels [CODEC …]`.

y has M numbers for each 16×16×3 = 768 of x. As a bound for transforms that differ little from linear ones, the first M
principal components of BSDS500's training images reconstruct Kodak; then the same of each codec named, from y as g_a
gives it, neither rounded nor coded, at its highest quality, and how many of its channels are alive: are rounded to
another number than zero somewhere in one place of a hundred. Needs bsds500 and kodak in $REGICOMP_DATA.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

import regicomp
from experiments.tables import markdown
from regicomp.data import testsets
from regicomp.image_codec import codec, model_file
from regicomp.objective.psnr import psnr_db

BLOCK = 16
CHANNELS = (96, 128, 192, 256, 320)
EVERY = 3  # of Kodak's images
ALIVE = 0.01  # of a channel's places


def blocks(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The image's blocks as rows, (H/16 · W/16, 768), of pixels (H, W, 3)."""
    height, width = (side // BLOCK for side in pixels.shape[:2])
    cut = pixels[: height * BLOCK, : width * BLOCK].reshape(height, BLOCK, width, BLOCK, 3)
    return cut.transpose(0, 2, 1, 3, 4).reshape(-1, BLOCK * BLOCK * 3).astype(np.float32)


def components(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Principal components as columns, the largest first, (768, 768)."""
    _, vectors = np.linalg.eigh(np.cov(rows.T))
    return vectors[:, ::-1].astype(np.float32)


def linear(train: NDArray[np.float32], images: Sequence[NDArray[np.uint8]]) -> list[dict[str, str]]:
    """Mean PSNR over images of the first M principal components."""
    basis, mean, found = components(train), train.mean(0), []
    for count in CHANNELS:
        first, values = basis[:, :count], []
        for pixels in images:
            rows = blocks(pixels) - mean
            values.append(psnr_db(float(np.square(rows - rows @ first @ first.T).mean())))
        found.append({"what": "principal components", "channels": str(count), "PSNR dB": f"{np.mean(values):.2f}"})
    return found


@torch.no_grad()
def unquantized(path: Path, images: Sequence[NDArray[np.uint8]]) -> dict[str, str]:
    """Mean PSNR over images of g_s(g_a(x))."""
    network, values, live = model_file.load_codec(path).network.eval(), [], []
    gains = getattr(network, "gains", None)
    if gains is not None:
        gains.set(torch.tensor([float(gains.levels)]))
    for pixels in images:
        x = codec.to_tensor(pixels)
        y = network.get_submodule("g_a")(x)
        x_hat = network.get_submodule("g_s")(y).clamp(0, 1)
        values.append(psnr_db(255**2 * float((x_hat - x).square().mean())))
        live.append((y.round() != 0).float().mean((0, 2, 3)))
    share = torch.stack(live).mean(0)
    of = f"{len(share)}, {int((share > ALIVE).sum())} of them alive"
    return {"what": f"g_s(g_a(x)) of {path.parent.name}", "channels": of, "PSNR dB": f"{np.mean(values):.2f}"}


def main() -> None:
    """Entry point."""
    root = os.environ.get("REGICOMP_DATA", "data")
    train, kodak = testsets.find(["bsds500/train", "kodak"], root, [])
    rows = np.concatenate([blocks(image.load()) for image in train.images])
    images = [image.load() for image in kodak.images[::EVERY]]
    paths = [Path(name) for name in sys.argv[1:]] or [regicomp.SHIPPED]
    print(markdown([*linear(rows, images), *(unquantized(path, images) for path in paths)]))


if __name__ == "__main__":
    main()
