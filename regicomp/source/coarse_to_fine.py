"""Coarse-to-fine order of a patch's samples: the first groups are a thumbnail of the image.

Legend: B batch, p patch, C = 3p² samples of a patch, g samples of a group, h w patch grid.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def _spacings(patch: int) -> list[int]:
    """Spacings of ever finer lattices: p, p/2, … while even, then 1."""
    spacings = [patch]
    while spacings[-1] > 1:
        spacings.append(spacings[-1] // 2 if spacings[-1] % 2 == 0 else 1)
    return spacings


def _pass(row: int, column: int, spacings: list[int]) -> tuple[int, bool]:
    """When a position is reached: the first lattice that it lies on, and whether on a row new to that lattice."""
    level = next(k for k, spacing in enumerate(spacings) if row % spacing == column % spacing == 0)
    return level, row % spacings[max(level - 1, 0)] != 0


def coarse_to_fine(patch: int) -> Tensor:
    """Permutation of the channels of `to_patches`: its k-th entry is the channel that comes k-th.

    As Adam7 interlaces PNG: a lattice of spacing p is refined to p/2, p/4, … while the spacing is even, then to 1,
    each time first on the rows that are there already, then on new rows; raster order within. The three colours of
    one position are neighbours, so for 2^k dividing p the first 3·4^k entries are the lattice of spacing p/2^k.

    Args:
        patch: p, at least 1.

    Returns:
        int64, (C,).

    Raises:
        ValueError: `patch` is less than 1.
    """
    if patch < 1:
        raise ValueError(f"`patch` (={patch}) must be at least 1")
    positions = [(i, j) for i in range(patch) for j in range(patch)]
    spacings = _spacings(patch)
    positions.sort(key=lambda position: (*_pass(*position, spacings), *position))
    area = patch * patch
    return torch.tensor([colour * area + i * patch + j for i, j in positions for colour in range(3)])


class CoarseToFine(nn.Module):
    """Channels of the patch grid in coarse-to-fine order, (B, C, h, w) -> (B, C, h, w), and parameters back.

    Args:
        patch: p, at least 1.

    Raises:
        ValueError: `patch` is less than 1.
    """

    order: Tensor
    inverse: Tensor

    def __init__(self, patch: int) -> None:
        super().__init__()
        order = coarse_to_fine(patch)
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("inverse", torch.argsort(order), persistent=False)

    def forward(self, grid: Tensor) -> Tensor:
        """Sort the channels, coarse first."""
        return grid.index_select(1, self.order)

    def undo(self, groups: Sequence[Tensor]) -> Tensor:
        """Offsets and log-scales of consecutive groups -> of all samples, in the order of `to_patches`.

        Args:
            groups: each (B, 2g, h, w), offsets first; their g sum to C.

        Returns:
            (B, 2C, h, w), offsets first.
        """
        offsets, log_scales = zip(*(group.chunk(2, dim=1) for group in groups), strict=True)
        joined = (torch.cat(half, dim=1).index_select(1, self.inverse) for half in (offsets, log_scales))
        return torch.cat(list(joined), dim=1)
