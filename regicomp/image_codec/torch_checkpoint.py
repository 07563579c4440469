"""State dicts in PyTorch's own files, read so that nothing in them runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from regicomp.image_codec import trust

_MAGIC = (b"PK\x03\x04", b"\x80\x02\x8a\x0a")  # what torch.save has written since 1.6, and before


def is_one(path: Path) -> bool:
    """Whether a file begins as those of torch.save do."""
    with path.open("rb") as file:
        return file.read(4) in _MAGIC


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a state dict in safetensors, or of a PyTorch checkpoint that is one or holds one as `state_dict`.

    Of a pickle only tensors and plain values are read.

    Returns:
        Tensors by name, on the CPU, in float32 where they are floating; none takes more memory than the file has bytes
        for it.

    Raises:
        ValueError: the file is missing, unreadable, or holds no state dict.
    """
    try:
        if path.stat().st_size > trust.LARGEST_FILE_BYTES:
            raise ValueError(f"it has more than {trust.LARGEST_FILE_BYTES} bytes")
        found: Any = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever its unpickler meets in a damaged file
        reason = str(error).strip().split("\n")[0].strip()
        raise ValueError(f"{path}: is no readable checkpoint ({reason or type(error).__name__})") from error
    if isinstance(found, Mapping) and isinstance(found.get("state_dict"), Mapping):
        found = found["state_dict"]
    if not isinstance(found, Mapping):
        raise ValueError(f"{path}: holds a {type(found).__name__}; expected a state dict")
    tensors = {str(name): tensor for name, tensor in found.items() if isinstance(tensor, Tensor)}
    for name, tensor in tensors.items():
        # A view may repeat few stored numbers without end.
        if tensor.layout != torch.strided or tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():
            raise ValueError(f"{path}: {name} is no plain tensor; expected a state dict as torch.save writes them")
    return {name: t.detach().float() if t.is_floating_point() else t.detach() for name, t in tensors.items()}
