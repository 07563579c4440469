"""The table of tiles in README.md: `python -m experiments.first_light.tiles CODEC KODAK`.

The same codec on the same pixels, cut into tiles that are coded separately. A codec trained on crops of one size
that needs more bits for larger tiles has not learned to use the neighbours of its hyper-latents.
"""

from __future__ import annotations

import argparse
import math
import statistics
from pathlib import Path
from typing import Any, NamedTuple

from regicomp.utils import cli

cli.quiet_libraries()

import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from regicomp.data import images  # noqa: E402
from regicomp.image_codec import model_file  # noqa: E402
from regicomp.image_codec.codec import to_tensor  # noqa: E402
from regicomp.utils import cli  # noqa: E402

IMAGES = ("kodim03", "kodim08", "kodim15", "kodim21")
SIZES = (64, 128, 256, None)  # pixels a side; None: whole images


class Measured(NamedTuple):
    """One image's estimate."""

    bpp: float
    psnr_db: float


def tiled(x: Tensor, size: int | None) -> Tensor:
    """An image (1, 3, H, W) as tiles (n, 3, size, size); what is left over at the right and the bottom is dropped."""
    if size is None:
        return x
    rows = x.unfold(2, size, size).unfold(3, size, size)  # 1, 3, rows, columns, size, size
    return rows.permute(0, 2, 3, 1, 4, 5).flatten(0, 2)


def measure(network: Any, x: Tensor) -> Measured:
    """Estimated rate and PSNR of a batch of tiles, over all their pixels."""
    with torch.inference_mode():
        out = network(x)
    bits = sum(float(-torch.log2(p).sum()) for p in out["likelihoods"].values())
    mse = float((out["x_hat"].clamp(0, 1) - x).square().mean())
    return Measured(bits / (x.numel() / x.shape[1]), -10 * math.log10(mse))


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("codec", type=Path, help="a run's codec.safetensors")
    parser.add_argument("kodak", type=Path, help="the folder of Kodak's images")
    given = parser.parse_args()
    with cli.told_in_one_line():
        network = model_file.load_codec(given.codec).network
        read = [to_tensor(images.read(given.kodak / f"{name}.png")) for name in IMAGES]
        print(f"| tiles of {', '.join(IMAGES)} | estimated bpp | PSNR dB |\n|---|---|---|")
        for size in SIZES:
            rows = [measure(network, tiled(x, size)) for x in read]
            bpp, psnr = (statistics.fmean(column) for column in zip(*rows, strict=True))
            print(f"| {f'{size}²' if size else 'whole'} | {bpp:.3f} | {psnr:.2f} |", flush=True)


if __name__ == "__main__":
    main()
