"""The base of every source model q_θ(x|x̂): the patch grid, the features of x̂, the head, the bits.

Legend: B batch, H W pixels, p patch, h = ⌈H/p⌉, w = ⌈W/p⌉, C = 3p² samples of a patch.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regicomp.source import density as likelihood

# The head's outputs are of order one; these turn them into grey levels and octaves of scale.
_OFFSET_UNIT = 16.0
_LOG_SCALE_RANGE = 5.0


class Parameters(NamedTuple):
    """Location and scale of every sample, in grey levels, each (B, C, h, w)."""

    mean: Tensor
    scale: Tensor


def to_patches(image: Tensor, patch: int) -> Tensor:
    """Space to depth: (B, 3, H, W) with p | H, W -> (B, 3p², h, w).

    Written with `permute`, not `pixel_unshuffle`, whose channels_last kernels are not safe on every build.
    """
    b, c, height, width = image.shape
    cells = image.reshape(b, c, height // patch, patch, width // patch, patch)
    return cells.permute(0, 1, 3, 5, 2, 4).reshape(b, c * patch * patch, height // patch, width // patch)


def from_patches(grid: Tensor, patch: int) -> Tensor:
    """Depth to space, the inverse of `to_patches`: (B, 3p², h, w) -> (B, 3, H, W)."""
    b, c, h, w = grid.shape
    cells = grid.reshape(b, c // (patch * patch), patch, patch, h, w)
    return cells.permute(0, 1, 4, 2, 5, 3).reshape(b, -1, h * patch, w * patch)


class SourceModel(nn.Module, ABC):
    """A discretized density for every 8-bit sample of x given the reconstruction x̂.

    ::

        x̂ ──► to_patches ──► features ──► context(s) ──► head ──► mean, scale ──► -log2 q(s)
        x ──► 255·x, to_patches = s ───────────┴───────────────────────────────────┘

    The mean is 255·x̂ plus a learned offset; the scale starts at `initial_scale` grey levels and stays within a
    factor of e^±5 of it, so that neither end is reached by a clamp.

    Args:
        patch: p, side of a patch in pixels.
        width: channels of the feature network.
        density: "gaussian" or "logistic".
        initial_scale: σ (or s) in grey levels before training.
        channels: samples of a pixel, three for images; wherever this module says 3, it means these.

    Raises:
        ValueError: an argument is out of range.
    """

    log_scale: Tensor

    def __init__(
        self,
        patch: int = 8,
        width: int = 128,
        density: str = "gaussian",
        initial_scale: float = 20.0,
        channels: int = 3,
    ) -> None:
        super().__init__()
        if patch < 1 or width < 1:
            raise ValueError(f"`patch` (={patch}) and `width` (={width}) must be at least 1")
        if density not in likelihood.DENSITIES:
            raise ValueError(f"`density` (={density}) must be one of {', '.join(likelihood.DENSITIES)}")
        if not initial_scale > 0:
            raise ValueError(f"`initial_scale` (={initial_scale}) must be greater than 0")
        self.patch = patch
        self.density = density
        self.initial_log_scale = math.log(initial_scale)
        self.samples = channels * patch * patch
        # Mean log-scale of the latest training batch as a part of its bound, in [-1, 1]; alarms read it.
        self.register_buffer("log_scale", torch.zeros(()), persistent=False)
        self.features = nn.Sequential(
            nn.Conv2d(self.samples, width, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.GELU(),
        )

    @abstractmethod
    def raw_parameters(self, features: Tensor, residual: Tensor) -> Tensor:
        """Untransformed offsets and log-scales, (B, 2C, h, w), offsets first.

        Args:
            features: of x̂, (B, width, h, w).
            residual: s - 255·x̂ in units of 16 grey levels, (B, C, h, w); what a context may read, causally.
        """

    def parameters_of(self, s: Tensor, x_hat_patches: Tensor) -> Parameters:
        """Location and scale of every sample of the grid.

        Args:
            s: 255·x on the patch grid, (B, C, h, w).
            x_hat_patches: x̂ on the patch grid, in [0, 1], (B, C, h, w).
        """
        level = 255 * x_hat_patches.float()
        residual = (s - level) / _OFFSET_UNIT
        raw = self.raw_parameters(self.features(x_hat_patches - 0.5), residual).float()
        offset, log_scale = raw.chunk(2, dim=1)
        part = torch.tanh(log_scale / _LOG_SCALE_RANGE)
        if self.training:
            self.log_scale.copy_(part.detach().mean())
        log_scale = _LOG_SCALE_RANGE * part
        return Parameters(level + _OFFSET_UNIT * offset, torch.exp(self.initial_log_scale + log_scale))

    def bits(self, x: Tensor, x_hat: Tensor) -> Tensor:
        """Bits -log2 q_θ of every sample of x given x̂.

        Args:
            x: 8-bit image as value/255, (B, 3, H, W), any H, W ≥ 1.
            x_hat: reconstruction, same shape; its gradient is the regularizer's.

        Returns:
            Bits, float32, (B, 3, H, W).
        """
        height, width = x.shape[-2:]
        padding = (0, -width % self.patch, 0, -height % self.patch)
        if any(padding):
            x, x_hat = (F.pad(image, padding, mode="replicate") for image in (x, x_hat))
        s = torch.round(255 * to_patches(x, self.patch).float())
        mean, scale = self.parameters_of(s, to_patches(x_hat, self.patch))
        bits = likelihood.bits(s, mean, scale, self.density)
        return from_patches(bits, self.patch)[..., :height, :width]

    def forward(self, x: Tensor, x_hat: Tensor) -> Tensor:
        """H_θ(X|X̂) in bits per pixel (three samples a pixel), averaged over the batch: scalar, float32."""
        return self.bits(x, x_hat).sum() / (x.shape[0] * x.shape[2] * x.shape[3])
