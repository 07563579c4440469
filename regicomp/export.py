"""`python -m regicomp.export MODEL`: a codec's transforms for other runtimes, or its weights for CompressAI."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from regicomp.utils import cli


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m regicomp.export", description=__doc__)
    parser.add_argument("model", metavar="MODEL", type=Path, help="a run's codec.safetensors, or CompressAI's .pth.tar")
    formats = parser.add_mutually_exclusive_group(required=True)
    formats.add_argument("--onnx", metavar="DIR", type=Path, help="folder for g_a, g_s, h_a and h_s (.onnx)")
    formats.add_argument(
        "--compressai",
        metavar="FILE",
        type=Path,
        help="checkpoint (.pth.tar) that CompressAI's class of the codec loads",
    )
    parser.add_argument(
        "--quality", metavar="Q", type=float, help="with --compressai, of a codec of variable rate: which one to write"
    )
    given = parser.parse_args(arguments)
    with cli.told_in_one_line():
        cli.quiet_libraries()
        from regicomp.image_codec import compressai_weights, model_file, onnx_export

        loaded = model_file.load_codec(given.model)
        if given.compressai is not None:
            name = compressai_weights.write(given.compressai, loaded.network, given.quality)
            print(f"{given.compressai}  {given.compressai.stat().st_size / 2**20:.1f} MB, for compressai.models.{name}")
            return 0
        for path in onnx_export.export(loaded.network, given.onnx):
            print(f"{path}  {path.stat().st_size / 2**20:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
