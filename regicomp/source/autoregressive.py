"""Source entropy model aligned with the autoregressive context: patches in raster order, each from those before."""

from __future__ import annotations

import torch
from torch import Tensor

from regicomp.source.base import SourceModel
from regicomp.source.masked_layers import CausalConv2d, head


class AutoregressiveSource(SourceModel):
    """Masked 5×5 convolution over the patch grid; all samples of a patch at once.

    ::

        x̂ ──► features ────────────────────┬──► head ──► offset, log-scale
        s - 255·x̂ ──► masked convolution ──┘

    The context is that of Minnen, Ballé, Toderici, "Joint Autoregressive and Hierarchical Priors for Learned Image
    Compression", 2018, with a patch in the place of a latent vector.

    Args and errors: `SourceModel`.
    """

    def __init__(
        self, patch: int = 8, width: int = 128, density: str = "gaussian", initial_scale: float = 20.0
    ) -> None:
        super().__init__(patch, width, density, initial_scale)
        self.context = CausalConv2d(self.samples, 2 * width, 5, padding=2)
        self.head = head(3 * width, (2 * width, 2 * width), 2 * self.samples)

    def raw_parameters(self, features: Tensor, residual: Tensor) -> Tensor:
        """See `SourceModel.raw_parameters`; position (i, j) reads the residual of earlier rows and of i's before j."""
        return self.head(torch.cat([features, self.context(residual)], dim=1))
