"""Seconds and peak memory of encoding and decoding against the size of the picture: `python -m bench.image_size`.

Each size runs in its own process, whose peak memory is the operating system's figure. Full-size hyperprior with
random weights, whose latents are few; a photograph-like picture.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from typing import Any

SIZES = ((768, 512), (1536, 1024), (2304, 1536), (3000, 2000), (4243, 2828), (6000, 4000))
_CHANNELS = {"N": 128, "M": 192}


def measure(width: int, height: int, tile: int | None) -> dict[str, float]:
    """One size, in this process."""
    from regicomp.utils import cli

    cli.quiet_libraries()
    import numpy as np
    import torch

    from regicomp.image_codec import model_file
    from regicomp.image_codec.codec import Codec
    from regicomp.image_codec.model_file import Loaded, Spec

    torch.manual_seed(0)
    spec = Spec("compressai.models.ScaleHyperprior", _CHANNELS)
    network: Any = model_file.build(spec, "backbone").eval()
    with torch.no_grad():
        network.g_a[-1].weight.mul_(2.5)
    network.update(force=True, update_quantiles=True)
    codec = Codec(Loaded(network, spec, {}, bytes(32)), tile=tile)
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.uniform(0, 1, (1, 3, -(-height // 8), -(-width // 8)))).float()
    x = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")
    pixels = (x[0].permute(1, 2, 0) * 255).to(torch.uint8).numpy()
    del x, coarse
    codec.encode(pixels[:64, :64])  # what happens once
    loaded = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    data = codec.encode(pixels)
    encoded = time.perf_counter()
    codec.decompress(data)
    decoded = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "bpp": 8 * len(data) / (width * height),
        "encode_seconds": encoded - started,
        "decode_seconds": decoded - encoded,
        "before_gib": loaded / 2**20,
        "peak_gib": peak / 2**20,
    }


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", nargs=3, type=int, metavar=("W", "H", "TILE"), help="measure one size and print JSON")
    parser.add_argument("--most", type=float, default=24.1, help="megapixels, larger sizes are left out")
    args = parser.parse_args()
    if args.one:
        width, height, tile = args.one
        print(json.dumps(measure(width, height, tile or None)))
        return
    print("| picture | megapixels | tile | bpp | encode, s | decode, s | peak, GiB |\n|---|---|---|---|---|---|---|")
    for width, height in SIZES:
        if width * height > args.most * 1e6:
            continue
        command = [sys.executable, "-m", "bench.image_size", "--one", str(width), str(height), "0"]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        found = json.loads(told.splitlines()[-1])
        tile = "1024" if width * height > 1 << 22 else "whole"
        print(
            f"| {width}×{height} | {width * height / 1e6:.1f} | {tile} | {found['bpp']:.2f} | "
            f"{found['encode_seconds']:.1f} | {found['decode_seconds']:.1f} | {found['peak_gib']:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
