"""Two-dimensional sources whose every probability is known: two 8-bit samples, 65,536 outcomes.

An outcome is one "pixel" of two samples, as an image's pixel has three, so that the classes that train image codecs
take it as it stands: a batch of n outcomes is a uint8 tensor (n, 2, 1, 1).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

LEVELS = 256


class KnownSource(NamedTuple):
    """A source and its exact distribution."""

    name: str
    probabilities: Tensor  # float64, (256, 256): p of (first sample, second sample), sum 1

    @property
    def points(self) -> Tensor:
        """Every outcome, uint8 (65536, 2), in the order of `probabilities.flatten()`."""
        levels = torch.arange(LEVELS, dtype=torch.uint8)
        return torch.cartesian_prod(levels, levels)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Independent outcomes, uint8 (count, 2)."""
        cumulative = self.probabilities.flatten().cumsum(0)
        uniform = torch.rand(count, dtype=torch.float64, generator=generator) * cumulative[-1]
        return self.points[torch.searchsorted(cumulative, uniform, right=True).clamp_max(LEVELS**2 - 1)]


def _grid() -> tuple[Tensor, Tensor]:
    levels = torch.arange(LEVELS, dtype=torch.float64)
    return levels[:, None], levels[None, :]


def _normalized(name: str, weights: Tensor) -> KnownSource:
    return KnownSource(name, weights / weights.sum())


def gaussian_mixture() -> KnownSource:
    """Four Gaussians of unequal weight, width and slope, cut off at 0 and 255."""
    first, second = _grid()
    total = torch.zeros(LEVELS, LEVELS, dtype=torch.float64)
    for weight, centre, scales, slope in (
        (0.4, (70.0, 75.0), (22.0, 10.0), 0.6),
        (0.3, (180.0, 90.0), (12.0, 24.0), -0.4),
        (0.2, (110.0, 185.0), (26.0, 9.0), -0.3),
        (0.1, (205.0, 200.0), (9.0, 9.0), 0.0),
    ):
        along, across = first - centre[0], second - centre[1]
        across = across - slope * along
        density = torch.exp(-0.5 * ((along / scales[0]) ** 2 + (across / scales[1]) ** 2))
        total = total + weight * density / (scales[0] * scales[1])
    return _normalized("mixture", total)


def banana() -> KnownSource:
    """A Gaussian bent into a parabola: the second sample is noise around a square of the first."""
    first, second = _grid()
    bend = 50 + 130 * ((first - 128) / 80) ** 2
    return _normalized("banana", torch.exp(-0.5 * (((first - 128) / 40) ** 2 + ((second - bend) / 14) ** 2)))


def copied_bit() -> KnownSource:
    """Uniform but for one bit: the second sample's highest bit is a copy of the first's next to highest.

    H(X) is exactly 15 bits, and all that the samples tell of each other is that one bit.
    """
    levels = torch.arange(LEVELS)
    copied = (levels[:, None] >> 6) % 2 == levels[None, :] >> 7
    return _normalized("copied bit", copied.double())


SOURCES = {source.name: source for source in (gaussian_mixture(), banana(), copied_bit())}


def entropy(source: KnownSource) -> float:
    """H(X) in bits."""
    p = source.probabilities[source.probabilities > 0]
    return -float((p * torch.log(p)).sum()) / math.log(2)
