"""Entropy model of one slice of a latent: its contexts, the parameters that they predict, and the residual of rounding.

Legend: B batch, M channels of y, c channels of a slice, i slices before, h w grid of y.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from regicomp.backbone.contexts import (
    ChannelContext,
    Checkerboard,
    GlobalInterContext,
    GlobalIntraContext,
    LocalContext,
)
from regicomp.backbone.mlicpp_transforms import conv


class Gaussians(NamedTuple):
    """Predicted scales and means of samples, each (B, C, h, w), float32."""

    scales: Tensor
    means: Tensor


class Coded(NamedTuple):
    """A latent, or a slice of it, after coding."""

    y_hat: Tensor  # (B, C, h, w), float32
    gaussians: Gaussians  # each position's from its own pass


class ParameterNet(nn.Module):
    """Contexts -> scales and means of a slice, position by position.

    Args:
        in_channels: of all contexts together.
        channels: c.
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            conv(in_channels, 10 * channels, kernel=1),
            nn.GELU(),
            conv(10 * channels, 8 * channels, kernel=1),
            nn.GELU(),
            conv(8 * channels, 4 * channels, kernel=1),
            nn.GELU(),
            conv(4 * channels, 2 * channels, kernel=1),
        )

    def forward(self, contexts: Sequence[Tensor]) -> Gaussians:
        """Each context (B, its channels, h, w)."""
        scales, means = self.net(torch.cat(list(contexts), dim=1)).float().chunk(2, dim=1)
        return Gaussians(scales, means)


class ResidualPrediction(nn.Module):
    """The residual of rounding, predicted from all that is decoded: within ±0.5, (B, c, h, w).

    Args:
        in_channels: of all that is decoded.
        channels: c.
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            conv(in_channels, 7 * channels),
            nn.GELU(),
            conv(7 * channels, 4 * channels),
            nn.GELU(),
            conv(4 * channels, channels),
        )

    def forward(self, decoded: Sequence[Tensor]) -> Tensor:
        """Each tensor (B, its channels, h, w)."""
        return 0.5 * torch.tanh(self.net(torch.cat(list(decoded), dim=1)).float())


class Slice(nn.Module):
    """Entropy model and residual prediction of one slice.

    ::

        slices before ──► channel, global inter ──┬──► parameters ──► anchors ──► + residual
        hyper scales, hyper means ────────────────┤                                   │
        slice before, anchors ──► global intra ───┤◄──────────────────────────────────┤
        anchors ──► local ────────────────────────┴──► parameters ──► others ──► + residual

    Args:
        before: i, slices coded before this one.
        M: channels of y.
        channels: c.
        heads: attention heads of the local and the global intra context.
    """

    compile_parts = True  # `forward` calls back, so torch.compile takes its networks one by one

    def __init__(self, before: int, M: int, channels: int, heads: int) -> None:
        super().__init__()
        self.local_context = LocalContext(channels, heads)
        self.channel_context = ChannelContext(before, channels) if before else None
        self.global_inter = GlobalInterContext(before, channels) if before else None
        self.global_intra = GlobalIntraContext(channels, heads) if before else None
        shared = 2 * M + (6 * channels if before else 0)
        own = 4 * channels if before else 2 * channels
        self.anchor_parameters = ParameterNet(shared, channels)
        self.other_parameters = ParameterNet(shared + own, channels)
        decoded = M + (before + 1) * channels
        self.anchor_residual = ResidualPrediction(decoded, channels)
        self.other_residual = ResidualPrediction(decoded, channels)

    def forward(
        self,
        hyper: Tensor,
        before: Sequence[Tensor],
        board: Checkerboard,
        quantize: Callable[[Tensor, Gaussians], Tensor],
    ) -> Coded:
        """Code the slice in its two passes.

        Args:
            hyper: hyper scales and hyper means, (B, 2M, h, w).
            before: the decoded slices before, each (B, c, h, w).
            board: of the h×w grid.
            quantize: gives the decoded values at a pass's positions.

        Returns:
            The slice, (B, c, h, w).
        """
        known = [hyper.chunk(2, dim=1)[1], *before]
        shared = [hyper]
        if self.channel_context is not None and self.global_inter is not None:
            joined = torch.cat(list(before), dim=1)
            shared += [self.global_inter(joined), self.channel_context(joined)]

        first = self.anchor_parameters(shared)
        values = quantize(board.anchors, first)
        anchors = torch.where(board.mask, values, 0)
        anchors = torch.where(board.mask, anchors + self.anchor_residual([*known, anchors]), 0)

        own = [self.local_context(anchors, board)]
        if self.global_intra is not None:
            own.append(self.global_intra(before[-1], anchors, board))
        second = self.other_parameters([*shared, *own])
        values = torch.where(board.mask, anchors, quantize(board.others, second))
        y_hat = torch.where(board.mask, anchors, values + self.other_residual([*known, values]))
        merged = (torch.where(board.mask, a, b) for a, b in zip(first, second, strict=True))
        return Coded(y_hat.contiguous(), Gaussians(*merged))
