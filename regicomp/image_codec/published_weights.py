"""The MLIC++ authors' checkpoints as codec files: `python -m regicomp.image_codec.published_weights IN OUT`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from regicomp.backbone import mlicpp_published
from regicomp.image_codec import model_file


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a state dict in safetensors, or of a PyTorch checkpoint that is one or holds one as `state_dict`.

    Of a pickle only tensors and plain values are read.

    Raises:
        ValueError: the file is missing, unreadable, or holds no state dict.
    """
    try:
        found: Any = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever its unpickler meets in a damaged file
        raise ValueError(f"{path}: is no readable checkpoint ({error})") from error
    if isinstance(found, Mapping) and isinstance(found.get("state_dict"), Mapping):
        found = found["state_dict"]
    if not isinstance(found, Mapping):
        raise ValueError(f"{path}: holds a {type(found).__name__}; expected a state dict")
    return {str(name): tensor for name, tensor in found.items() if isinstance(tensor, Tensor)}


def convert(path: Path, out: Path) -> None:
    """Write the codec of an authors' checkpoint, with fresh entropy tables.

    Raises:
        ValueError: the checkpoint is unreadable or not theirs; the message names what does not fit.
    """
    try:
        sizes, state = mlicpp_published.translate(read(path))
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
