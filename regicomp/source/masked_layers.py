"""Layers that the families share: masked convolutions and the head.

Legend: B batch, h w patch grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from compressai.layers import CheckerboardMaskedConv2d, MaskedConv2d
from torch import Tensor, nn


class CausalConv2d(MaskedConv2d):
    """Convolution over the positions before, in raster order, (B, channels in, h, w) -> (B, channels out, h, w).

    CompressAI's class overwrites its weight with the masked one at each call. Here the mask is a product in the
    graph: hidden weights get no gradient, so they take no share of the clipped norm, and no call changes the model.
    """

    mask: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Arguments and size of the result as `nn.Conv2d`."""
        return self._conv_forward(x, self.weight * self.mask, self.bias)


class CheckerboardConv2d(CheckerboardMaskedConv2d):
    """Convolution over positions of the other colour of the checkerboard; masked as `CausalConv2d` is."""

    mask: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Arguments and size of the result as `nn.Conv2d`."""
        return self._conv_forward(x, self.weight * self.mask, self.bias)


def head(in_channels: int, hidden: Sequence[int], out_channels: int) -> nn.Sequential:
    """1×1 convolutions with GELU between, whose output is zero before training: (B, in, h, w) -> (B, out, h, w).

    Args:
        in_channels: of features and contexts together.
        hidden: widths between.
        out_channels: offsets and log-scales together.
    """
    layers: list[nn.Module] = []
    for narrow, wide in pairwise((in_channels, *hidden)):
        layers += [nn.Conv2d(narrow, wide, 1), nn.GELU()]
    last = nn.Conv2d((in_channels, *hidden)[-1], out_channels, 1)
    for parameter in last.parameters():
        nn.init.zeros_(parameter)
    return nn.Sequential(*layers, last)
