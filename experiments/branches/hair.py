"""A codec whose weights are a hair off: `python -m experiments.branches.hair CODEC OUT [--by 1e-7]`.

Branches from it and from CODEC itself see the same crops and noise; how far they end apart is the noise of training.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor


def scaled(tensor: Tensor, by: float) -> Tensor:
    """`tensor` times 1 + `by`, in at least float32; integers as they are."""
    return tensor if not tensor.is_floating_point() else (tensor.double() * (1 + by)).float()


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("codec", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--by", type=float, default=1e-7)
    arguments = parser.parse_args()
    with safe_open(arguments.codec, "pt") as file:  # pyright: ignore[reportUnknownVariableType]
        metadata: dict[str, str] = file.metadata()
        tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    kept = {name: t if name.endswith("lambdas") else scaled(t, arguments.by) for name, t in tensors.items()}
    save_file(kept, arguments.out, metadata)
    print(arguments.out)


if __name__ == "__main__":
    main()
