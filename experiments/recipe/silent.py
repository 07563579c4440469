"""Which units of trained codecs still work: `python -m experiments.recipe.silent NAME=CODEC … --data ROOT`.

silent.csv gets, of each codec, the part of the ReLU and GELU units of each of its transforms that stay at 0 on 512² of
eight Kodak images at its lowest and at its highest level, and the bits of z and y at the highest; silent.md shows them.
Codecs that silent.csv has already are not measured again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments import on_kodak
from regicomp.backbone.variable_rate import at_quality
from regicomp.image_codec.codec import Codec, to_tensor
from regicomp.objective.rate_distortion import rate_bpp
from regicomp.training import silent_units

PARTS = ("g_a", "h_a", "h_s", "g_s")  # the rest are contexts and entropy parameters


def part_of(layer: str) -> str:
    """The transform that a layer belongs to, from its name."""
    return next((part for part in PARTS if part in layer.split(".")), "contexts")


def shares(layers: list[silent_units.Layer]) -> dict[str, str]:
    """By transform the silent units of all, percent; of all transforms, too."""
    found: dict[str, str] = {}
    for part in (*PARTS, "contexts", "all"):
        of_part = [layer for layer in layers if part in ("all", part_of(layer.name))]
        units = sum(layer.units for layer in of_part)
        found[part] = f"{100 * sum(layer.silent for layer in of_part) / units:.1f}" if units else "–"
    return found


def measure(name: str, codec: Codec, images: Tensor) -> dict[str, Any]:
    """A row: silent units in training mode over both levels, and bits of z, coded, at the highest.

    Args:
        name: of the codec.
        codec: of variable rate.
        images: (B, 3, H, W) in [0, 1].
    """
    network = codec.network
    levels = (1.0, float(codec.levels or 1))

    def run() -> None:
        for level in levels:
            with torch.no_grad(), at_quality(network, level):
                network(images)

    network.train()
    torch.manual_seed(0)
    row = {"codec": name, **shares(silent_units.layers(network, run))}
    network.eval()
    with torch.no_grad(), at_quality(network, levels[-1]):
        likelihoods = network(images)["likelihoods"]
    pixels = images.shape[0] * images.shape[2] * images.shape[3]
    row["z, bpp"] = f"{abs(float(rate_bpp([likelihoods['z']], pixels))):.4f}"
    row["y, bpp"] = f"{float(rate_bpp([likelihoods['y']], pixels)):.4f}"
    return row


def main() -> None:
    """Entry point."""
    given = on_kodak.parse(__doc__, Path(__file__).parent, images=8)
    squares = torch.cat([to_tensor(image[:512, :512]) for image in given.images])
    on_kodak.table(given, "silent", lambda name, codec: [measure(name, codec, squares)])


if __name__ == "__main__":
    main()
