"""Source entropy model aligned with MLIC++: equal slices, coarse to fine, with four contexts each.

Legend: B batch, p patch, C = 3p² samples of a patch, c samples of a slice, i slices before, h w patch grid.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from regicomp.backbone.contexts import (
    ChannelContext,
    Checkerboard,
    GlobalInterContext,
    GlobalIntraContext,
    LocalContext,
    checkerboard,
)
from regicomp.source.base import SourceModel
from regicomp.source.coarse_to_fine import CoarseToFine
from regicomp.source.masked_layers import head


class _Slice(nn.Module):
    """Parameters of one slice, (B, 2c, h, w), offsets first.

    Args:
        before: i.
        channels: c.
        width: channels of the features.
        heads: attention heads of the local and the global intra context.
    """

    def __init__(self, before: int, channels: int, width: int, heads: int) -> None:
        super().__init__()
        self.local_context = LocalContext(channels, heads)
        self.channel_context = ChannelContext(before, channels) if before else None
        self.global_inter = GlobalInterContext(before, channels) if before else None
        self.global_intra = GlobalIntraContext(channels, heads) if before else None
        hidden = (8 * channels, 4 * channels)
        shared = width + (6 * channels if before else 0)
        own = 4 * channels if before else 2 * channels
        self.anchor_head = head(shared, hidden, 2 * channels)
        self.other_head = head(shared + own, hidden, 2 * channels)

    def forward(self, features: Tensor, before: Sequence[Tensor], current: Tensor, board: Checkerboard) -> Tensor:
        """Features (B, width, h, w), residuals of the slices before and of this one, each (B, c, h, w)."""
        shared = [features]
        if self.channel_context is not None and self.global_inter is not None:
            joined = torch.cat(list(before), dim=1)
            shared += [self.global_inter(joined), self.channel_context(joined)]
        anchors = torch.where(board.mask, current, 0)
        own = [self.local_context(anchors, board)]
        if self.global_intra is not None:
            own.append(self.global_intra(before[-1], anchors, board))
        first = self.anchor_head(torch.cat(shared, dim=1))
        second = self.other_head(torch.cat([*shared, *own], dim=1))
        return torch.where(board.mask, first, second)


class MlicppSource(SourceModel):
    """Slices of equally many samples of a patch, coarse to fine; anchors of each, then the others.

    ::

        x̂ ──► features ────────────────────────────────────────────┬──► head ──► offset, log-scale of slice i
        s - 255·x̂ of slices < i ──► channel, global inter context ──┤
        … of i's anchors ──► local context (at the others) ─────────┤
        … and of slice i-1 ──► global intra context (at the others) ┘

    The contexts are those of Jiang, Yang, Zhai, Gao, Wang, "MLIC++: Linear Complexity Multi-Reference Entropy
    Modeling for Learned Image Compression", 2023. Anchors are the patches whose row + column is odd.

    Args:
        patch, width, density, initial_scale: see `SourceModel`.
        slices: number of slices; divides 3·patch².
        heads: attention heads of the local and the global intra context; divides 3·patch²/slices.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        patch: int = 8,
        width: int = 128,
        density: str = "gaussian",
        initial_scale: float = 20.0,
        slices: int = 6,
        heads: int = 2,
    ) -> None:
        super().__init__(patch, width, density, initial_scale)
        if slices < 1 or self.samples % slices:
            raise ValueError(f"`slices` (={slices}) must divide the samples of a patch, 3·patch² (={self.samples})")
        self.sort = CoarseToFine(patch)
        self.slices = nn.ModuleList(_Slice(i, self.samples // slices, width, heads) for i in range(slices))

    def raw_parameters(self, features: Tensor, residual: Tensor) -> Tensor:
        """See `SourceModel.raw_parameters`; all slices at once, from the true residuals of what is coded before."""
        board = checkerboard(*residual.shape[2:], device=residual.device)
        slices = self.sort(residual).chunk(len(self.slices), dim=1)
        raw = [model(features, slices[:i], slices[i], board) for i, model in enumerate(self.slices)]
        return self.sort.undo(raw)
