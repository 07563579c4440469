"""The two backbones with a 5×5 causal context, evaluated as they are coded.

CompressAI's classes round y to whole numbers in their evaluation forward pass but round y - μ in `compress`, where μ
depends on what was coded before. Their forward pass is therefore neither the decoder's picture nor its rate. Here the
evaluation forward pass walks the positions as the coder does. Training, weights and state-dict names are CompressAI's.

Legend: B batch, M channels of y, h w latent grid.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from compressai.models import Cheng2020Attention, JointAutoregressiveHierarchicalPriors
from torch import Tensor
from torch.nn import functional as F


class _Coded(NamedTuple):
    y_hat: Tensor  # quantized latent, (B, M, h, w)
    scales: Tensor
    means: Tensor


class _CodedForward(JointAutoregressiveHierarchicalPriors):
    """Replaces the evaluation forward pass of any descendant of the autoregressive class."""

    def forward(self, x: Tensor) -> dict[str, Any]:
        """x (B, 3, H, W) in [0, 1], H and W multiples of 64 -> {"x_hat", "likelihoods": {"y", "z"}}."""
        if self.training:
            return super().forward(x)
        y = self.g_a(x)
        z_hat, z_likelihoods = self.entropy_bottleneck(self.h_a(y))
        coded = self._walk(y, self.h_s(z_hat))
        _, y_likelihoods = self.gaussian_conditional(y, coded.scales, means=coded.means)
        return {"x_hat": self.g_s(coded.y_hat), "likelihoods": {"y": y_likelihoods, "z": z_likelihoods}}

    @torch.no_grad()
    def _walk(self, y: Tensor, params: Tensor) -> _Coded:
        """Quantize position by position with the very operations of `compress` and `decompress`."""
        side = self.context_prediction.kernel_size[0]
        margin = side // 2
        mask: Tensor = self.context_prediction.mask  # pyright: ignore[reportAssignmentType]
        weight = self.context_prediction.weight * mask
        y_hat = F.pad(torch.zeros_like(y), (margin,) * 4)
        scales, means = torch.empty_like(y), torch.empty_like(y)
        for row in range(y.shape[2]):
            for column in range(y.shape[3]):
                window = y_hat[:, :, row : row + side, column : column + side]
                context = F.conv2d(window, weight, bias=self.context_prediction.bias)
                here = params[:, :, row : row + 1, column : column + 1]
                scale, mean = self.entropy_parameters(torch.cat((here, context), dim=1))[:, :, 0, 0].chunk(2, 1)
                scales[:, :, row, column], means[:, :, row, column] = scale, mean
                symbols = self.gaussian_conditional.quantize(y[:, :, row, column], "symbols", mean)
                y_hat[:, :, row + margin, column + margin] = symbols + mean
        return _Coded(F.pad(y_hat, (-margin,) * 4), scales, means)


class Autoregressive(_CodedForward):
    """Joint autoregressive and hierarchical priors (Minnen, Ballé, Toderici 2018).

    Args:
        N: channels of the transforms.
        M: channels of the latent y.
    """


class Attention(_CodedForward, Cheng2020Attention):
    """Residual blocks with attention and the same context (Cheng, Sun, Takeuchi, Katto 2020).

    Args:
        N: channels of the transforms and of the latent y.
    """

    def __init__(self, N: int = 192) -> None:
        Cheng2020Attention.__init__(self, N)
