"""MLIC++'s transforms: g_a, g_s between pixels and the latent y, h_a, h_s between y and the hyper-latent z.

Legend: B batch, N channels of the transforms, M channels of y, H W pixels. Convolutions are 3×3 unless said.
"""

from __future__ import annotations

import torch
from compressai.layers import GDN
from torch import Tensor, nn


def conv(in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    """Convolution that keeps the size, or divides it by `stride`."""
    return nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2)


def subpixel(in_channels: int, out_channels: int) -> nn.Sequential:
    """Convolution to four times the channels, shuffled to twice the size."""
    return nn.Sequential(conv(in_channels, 4 * out_channels), nn.PixelShuffle(2))


class _Sum(nn.Module):
    """body(x) + skip(x)."""

    def __init__(self, body: nn.Module, skip: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.skip = skip

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels in, h, w) -> (B, channels out, h', w')."""
        out = self.body(x)
        return out + self.skip(x) if torch.is_grad_enabled() else out.add_(self.skip(x))


def down(in_channels: int, out_channels: int) -> nn.Module:
    """Residual block to half the size, normalized by GDN."""
    body = nn.Sequential(
        conv(in_channels, out_channels, stride=2),
        nn.GELU(),
        conv(out_channels, out_channels),
        GDN(out_channels),
    )
    return _Sum(body, conv(in_channels, out_channels, kernel=1, stride=2))


def residual(channels: int) -> nn.Module:
    """Residual block at the same size and width."""
    body = nn.Sequential(conv(channels, channels), nn.GELU(), conv(channels, channels), nn.GELU())
    return _Sum(body, nn.Identity())


def up(in_channels: int, out_channels: int) -> nn.Module:
    """Residual block to twice the size, normalized by inverse GDN."""
    body = nn.Sequential(
        subpixel(in_channels, out_channels),
        nn.GELU(),
        conv(out_channels, out_channels),
        GDN(out_channels, inverse=True),
    )
    return _Sum(body, subpixel(in_channels, out_channels))


def analysis(N: int, M: int) -> nn.Sequential:
    """g_a: x (B, 3, H, W) -> y (B, M, H/16, W/16)."""
    return nn.Sequential(
        down(3, N), residual(N), down(N, N), residual(N), down(N, N), residual(N), conv(N, M, stride=2)
    )


def synthesis(N: int, M: int) -> nn.Sequential:
    """g_s: ŷ (B, M, H/16, W/16) -> x̂ (B, 3, H, W)."""
    return nn.Sequential(
        residual(M), up(M, N), residual(N), up(N, N), residual(N), up(N, N), residual(N), subpixel(N, 3)
    )


def hyper_analysis(N: int, M: int) -> nn.Sequential:
    """h_a: y (B, M, H/16, W/16) -> z (B, N, H/64, W/64)."""
    return nn.Sequential(
        conv(M, N),
        nn.GELU(),
        conv(N, N),
        nn.GELU(),
        conv(N, N, stride=2),
        nn.GELU(),
        conv(N, N),
        nn.GELU(),
        conv(N, N, stride=2),
    )


def hyper_synthesis(N: int, M: int) -> nn.Sequential:
    """h_s: ẑ (B, N, H/64, W/64) -> hyper scales and hyper means, (B, 2M, H/16, W/16)."""
    return nn.Sequential(
        conv(N, M),
        nn.GELU(),
        subpixel(M, M),
        nn.GELU(),
        conv(M, 3 * M // 2),
        nn.GELU(),
        subpixel(3 * M // 2, 3 * M // 2),
        nn.GELU(),
        conv(3 * M // 2, 2 * M),
    )
