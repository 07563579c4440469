"""The scale hyperprior (Ballé, Minnen, Singh, Hwang, Johnston 2018): CompressAI's class, coded faster.

Legend: N channels of the transforms and of z, M channels of y, h w its grid.
"""

from __future__ import annotations

import torch
from compressai.models import ScaleHyperprior
from torch import Tensor

from regicomp.backbone.fast_layers import quicken
from regicomp.backbone.latent_coding import Pass, Quantize, WalkedCodec, rows


class Hyperprior(WalkedCodec, ScaleHyperprior):
    """All of y is coded in one pass, with zero-mean Gaussians whose scales are predicted from ẑ.

    Args:
        N: channels of the transforms.
        M: channels of the latent y.
    """

    def __init__(self, N: int, M: int) -> None:
        ScaleHyperprior.__init__(self, N, M)
        quicken(self)

    def hyper_latent(self, y: Tensor) -> Tensor:
        """See `WalkedCodec`."""
        return self.h_a(y.abs())

    def walk(self, z_hat: Tensor, quantize: Quantize) -> Tensor:
        """See `WalkedCodec`."""
        scales = self.h_s(z_hat)
        h, w = scales.shape[2:]
        everywhere = torch.arange(h * w, device=scales.device)
        of_rows = rows(scales)
        everything = Pass(self.gaussian_conditional, everywhere, slice(None), of_rows, torch.zeros_like(of_rows))
        return quantize(everything).t().reshape(scales.shape).contiguous()
