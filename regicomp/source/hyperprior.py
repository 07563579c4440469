"""Source entropy model aligned with the scale hyperprior: parameters from the side information x̂ alone."""

from __future__ import annotations

from torch import Tensor, nn

from regicomp.source.base import SourceModel


class HyperpriorSource(SourceModel):
    """Mean and scale of every sample from the features of x̂; no context (paper, figure 3a).

    Args and errors: `SourceModel`.
    """

    def __init__(
        self, patch: int = 8, width: int = 128, density: str = "gaussian", initial_scale: float = 20.0
    ) -> None:
        super().__init__(patch, width, density, initial_scale)
        self.head = nn.Conv2d(width, 2 * self.samples, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias) if self.head.bias is not None else None

    def raw_parameters(self, features: Tensor, residual: Tensor) -> Tensor:
        """See `SourceModel.raw_parameters`; `residual` is not read."""
        del residual
        return self.head(features)
