"""Conditioning of a source model on the level of quality of each image, which encoder and decoder both know."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from regicomp.backbone.variable_rate import between

NAME = "told"  # of the child that a source model gets


class ToldLevel(nn.Module):
    """A bias by level on the first features of x̂, zero before training, interpolated between levels.

    Args:
        width: channels of the features.
        levels: L.
    """

    def __init__(self, width: int, levels: int) -> None:
        super().__init__()
        self.levels = levels
        self.bias = nn.Parameter(torch.zeros(levels * width))  # flat, as the gains are
        self._quality = torch.tensor([(1 + levels) / 2])

    def set(self, quality: Tensor) -> None:
        """Set the quality of each image of what comes next, (B,), or of all of them, (1,)."""
        self._quality = quality

    def _after_first(self, module: nn.Module, args: Any, features: Tensor) -> Tensor:
        del module, args
        rows = self.bias.float().view(self.levels, -1)
        return features + between(rows, self._quality.to(rows.device))[:, :, None, None].to(features.dtype)


def install(source: nn.Module, levels: int) -> ToldLevel:
    """Condition `source` on the level, in place, after the first layer of its `features`, by its child `told`.

    Raises:
        ValueError: it has no `features` that begin with a convolution, as `SourceModel`'s do.
    """
    features = getattr(source, "features", None)
    first = features[0] if isinstance(features, nn.Sequential) and len(features) else None
    if not isinstance(first, nn.Conv2d):
        raise ValueError(
            f"`source._target_` (={type(source).__name__}) must have `features` that begin with a convolution where "
            "`rate` is variable, to be conditioned on the level"
        )
    told = ToldLevel(first.out_channels, levels)
    source.add_module(NAME, told)
    first.register_forward_hook(told._after_first)  # pyright: ignore[reportPrivateUsage]
    return told


def levels_in(source: nn.Module, bias: Tensor) -> int:
    """How many levels a stored `bias` was for."""
    return bias.numel() // source.features[0].out_channels  # pyright: ignore


def told_of(source: nn.Module) -> ToldLevel | None:
    """The embedding that conditions a source model on the level; None in one without."""
    found = getattr(source, NAME, None)
    return found if isinstance(found, ToldLevel) else None
