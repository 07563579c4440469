"""Source entropy model aligned with ELIC: uneven channel groups, coarse to fine, each as a checkerboard.

Legend: B batch, p patch, C = 3p² samples of a patch, g samples of a group, h w patch grid.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import torch
from torch import Tensor, nn

from regicomp.backbone.contexts import Checkerboard, checkerboard
from regicomp.source.base import SourceModel
from regicomp.source.coarse_to_fine import CoarseToFine
from regicomp.source.masked_layers import CheckerboardConv2d, head

# Where ELIC's groups end, as a part of all channels.
_ENDS = (Fraction(1, 24), Fraction(1, 12), Fraction(1, 6), Fraction(1, 3), Fraction(1))


def group_sizes(samples: int) -> tuple[int, ...]:
    """Channels of each group, in ELIC's proportions: (8, 8, 16, 32, 128) of 192.

    Ends of groups are rounded, so that the sizes sum to `samples`; groups left empty are dropped.
    """
    ends = [0, *(round(end * samples) for end in _ENDS)]
    return tuple(end - start for start, end in pairwise(ends) if end > start)


class _Group(nn.Module):
    """Parameters of one group, (B, 2g, h, w), offsets first.

    Args:
        before: channels of the groups before.
        channels: g.
        width: channels of the features.
    """

    def __init__(self, before: int, channels: int, width: int) -> None:
        super().__init__()
        self.channel_context = None
        if before:
            self.channel_context = nn.Sequential(
                nn.Conv2d(before, width, 3, padding=1),
                nn.GELU(),
                nn.Conv2d(width, width, 3, padding=1),
                nn.GELU(),
                nn.Conv2d(width, 2 * channels, 3, padding=1),
            )
        self.spatial_context = CheckerboardConv2d(channels, 2 * channels, 5, padding=2)
        hidden = max(width, 2 * channels)
        self.head = head(width + (4 if before else 2) * channels, (hidden, hidden), 2 * channels)

    def forward(self, features: Tensor, before: Tensor, current: Tensor, board: Checkerboard) -> Tensor:
        """Features (B, width, h, w), residuals of the groups before (B, their g, h, w) and of this one (B, g, h, w)."""
        # At the others the checkerboard's kernel meets anchors only.
        contexts = [features, torch.where(board.mask, 0, self.spatial_context(current))]
        if self.channel_context is not None:
            contexts.append(self.channel_context(before))
        return self.head(torch.cat(contexts, dim=1))


class ElicSource(SourceModel):
    """Groups of 8, 8, 16, 32, 128 samples of a patch, coarse to fine; anchors of each, then the others.

    ::

        x̂ ──► features ──────────────────────────────────┬──► head ──► offset, log-scale of group k
        s - 255·x̂ of groups < k ──► channel context ─────┤
        s - 255·x̂ of k's anchors ──► spatial context ────┘   (at the others; zero at anchors)

    The contexts are those of He, Yang, Peng, Ma, Qin, Wang, "ELIC: Efficient Learned Image Compression with Unevenly
    Grouped Space-Channel Contextual Adaptive Coding", 2022. Anchors are the patches whose row +
    column is odd.

    Args and errors: `SourceModel`.
    """

    def __init__(
        self, patch: int = 8, width: int = 128, density: str = "gaussian", initial_scale: float = 20.0
    ) -> None:
        super().__init__(patch, width, density, initial_scale)
        self.sort = CoarseToFine(patch)
        self.sizes = group_sizes(self.samples)
        self.groups = nn.ModuleList(_Group(sum(self.sizes[:k]), g, width) for k, g in enumerate(self.sizes))

    def raw_parameters(self, features: Tensor, residual: Tensor) -> Tensor:
        """See `SourceModel.raw_parameters`; all groups at once, from the true residuals of what is coded before."""
        board = checkerboard(*residual.shape[2:], device=residual.device)
        residual = self.sort(residual)
        raw: list[Tensor] = []
        start = 0
        for size, group in zip(self.sizes, self.groups, strict=True):
            raw.append(group(features, residual[:, :start], residual[:, start : start + size], board))
            start += size
        return self.sort.undo(raw)
