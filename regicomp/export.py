"""`python -m regicomp.export codec.safetensors --onnx DIR`: a codec's transforms for other runtimes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from regicomp.utils import cli


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m regicomp.export", description=__doc__)
    parser.add_argument("model", metavar="MODEL", type=Path, help="codec.safetensors of a run")
    parser.add_argument(
        "--onnx", metavar="DIR", type=Path, required=True, help="folder for g_a, g_s, h_a and h_s (.onnx)"
    )
    given = parser.parse_args(arguments)
    with cli.told_in_one_line():
        cli.quiet_libraries()
        from regicomp.image_codec import model_file, onnx_export

        loaded = model_file.load_codec(given.model)
        for path in onnx_export.export(loaded.network, given.onnx):
            print(f"{path}  {path.stat().st_size / 2**20:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
