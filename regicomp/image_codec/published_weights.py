"""The MLIC++ authors' checkpoints as codec files: `python -m regicomp.image_codec.published_weights IN OUT`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from regicomp.backbone import mlicpp_published
from regicomp.image_codec import model_file, torch_checkpoint


def convert(path: Path, out: Path) -> None:
    """Write the codec of an authors' checkpoint, with fresh entropy tables.

    Raises:
        ValueError: the checkpoint is unreadable or not theirs; the message names what does not fit.
    """
    try:
        sizes, state = mlicpp_published.translate(torch_checkpoint.read(path))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    spec = model_file.Spec("regicomp.backbone.mlicpp.MLICPlusPlus", sizes._asdict())
    codec = model_file.build(spec, "backbone")
    nn.Module.load_state_dict(codec, state, strict=False)
    model_file.save_codec(out, codec, spec, {"backbone": "mlicpp"})


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its status."""
    parser = argparse.ArgumentParser(prog="regicomp.image_codec.published_weights", description=__doc__)
    parser.add_argument(
        "checkpoint", type=Path, help="of the authors: .pth, .pth.tar, or its state dict in safetensors"
    )
    parser.add_argument("codec", type=Path, help="codec.safetensors to write")
    given = parser.parse_args(arguments)
    try:
        convert(given.checkpoint, given.codec)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
