"""A codec and a source entropy model for points of two samples, small enough to enumerate what they do.

Both fit the classes that train image codecs. Legend: B batch, C samples of a point, S members, M latents of a member.
A tensor (B, C, S, 1) is to those classes a batch of images one pixel wide; here its S positions belong to S codecs
that share no weight, so that one training run holds S seeds side by side.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from compressai.entropy_models import EntropyBottleneck
from compressai.models.base import CompressionModel
from torch import Tensor, nn
from torch.nn import functional as F

from regicomp.source.base import SourceModel

SAMPLES = 2
_SPREAD = 4.0  # brings points of [0, 1], less 0.5, to about unit variance


class MemberLinear(nn.Module):
    """One linear layer for each member, (S, in, B) -> (S, out, B), initialized as `nn.Linear`."""

    def __init__(self, members: int, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(inputs)
        self.weight = nn.Parameter(torch.empty(members, outputs, inputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(members, outputs, 1).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        """(S, in, B) -> (S, out, B)."""
        return torch.baddbmm(self.bias, self.weight, x)


class MemberMLP(nn.Module):
    """One MLP with two hidden layers for each member, (B, in, S, 1) -> (B, out, S, 1)."""

    def __init__(self, members: int, inputs: int, width: int, outputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            MemberLinear(members, inputs, width),
            nn.GELU(),
            MemberLinear(members, width, width),
            nn.GELU(),
            MemberLinear(members, width, outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, S, 1) -> (B, out, S, 1)."""
        return _by_batch(self.layers(_by_member(x)))


def _by_member(x: Tensor) -> Tensor:
    """(B, C, S, 1) -> (S, C, B)."""
    return x[..., 0].permute(2, 1, 0)


def _by_batch(x: Tensor) -> Tensor:
    """(S, C, B) -> (B, C, S, 1)."""
    return x.permute(2, 1, 0)[..., None]


class CodedPoints(NamedTuple):
    """Points coded with rounded latents."""

    symbols: Tensor  # U, int64 (B, S, M)
    x_hat: Tensor  # (B, 2, S, 1), in [0, 1] where the point is
    bits: Tensor  # -log2 p(U), (B, S)


class PointCodec(CompressionModel):
    """A transform code for points: two MLPs around CompressAI's factorized entropy model.

    ::

        x ──► g_a ──► y ──► EntropyBottleneck (noise in training, rounding in use) ──► ŷ ──► g_s ──► x̂

    Args:
        N: width of the hidden layers.
        M: latents of a point.
        members: S, codecs side by side.
        gain: quantization steps per unit of g_a's output.

    Raises:
        ValueError: an argument is out of range.
    """

    downsampling_factor = 1

    def __init__(self, N: int = 32, M: int = 2, members: int = 1, gain: float = 8.0) -> None:
        super().__init__()
        if min(N, M, members) < 1 or not gain > 0:
            raise ValueError(f"`N` (={N}), `M` (={M}), `members` (={members}), `gain` (={gain}) must be positive")
        self.M = M
        self.gain = gain
        self.g_a = MemberMLP(members, SAMPLES, N, M)
        self.g_s = MemberMLP(members, M, N, SAMPLES)
        self.entropy_bottleneck = EntropyBottleneck(members * M)

    def analysis(self, x: Tensor) -> Tensor:
        """(B, 2, S, 1) in [0, 1] -> y, (1, S·M, B): to the entropy model members are channels."""
        y = _by_member(self.gain * self.g_a(_SPREAD * (x - 0.5)))
        return y.reshape(1, -1, y.shape[-1])

    def synthesis(self, y_hat: Tensor) -> Tensor:
        """ŷ, (1, S·M, B) -> x̂, (B, 2, S, 1)."""
        y_hat = y_hat.reshape(-1, self.M, y_hat.shape[-1])
        return 0.5 + self.g_s(_by_batch(y_hat) / self.gain) / _SPREAD

    def forward(self, x: Tensor) -> dict[str, Tensor | dict[str, Tensor]]:
        """As every backbone: {"x_hat": (B, 2, S, 1), "likelihoods": {"y": (1, S·M, B)}}."""
        y_hat, likelihoods = self.entropy_bottleneck(self.analysis(x))
        return {"x_hat": self.synthesis(y_hat), "likelihoods": {"y": likelihoods}}

    @torch.no_grad()
    def code(self, x: Tensor) -> CodedPoints:
        """Code points, (B, 2, S, 1), as a finished codec would: rounding to the medians that `update` has set."""
        y = self.analysis(x)
        medians = self.entropy_bottleneck.quantiles[:, 0, 1][None, :, None]
        symbols = self.entropy_bottleneck.quantize(y, "symbols", medians)
        y_hat, likelihoods = self.entropy_bottleneck(y, training=False)
        shape = (-1, self.M, y.shape[-1])
        bits = -torch.log2(likelihoods.double()).reshape(shape).sum(1)
        return CodedPoints(symbols.long().reshape(shape).permute(2, 0, 1), self.synthesis(y_hat), bits.T)


class PointSource(SourceModel):
    """q_θ(x|x̂) for points: the images' density, with an MLP of x̂ for each member in place of convolutions.

    Args:
        width: of the hidden layers.
        members: S, models side by side.
        context: whether the second sample's parameters may also read the first sample.
        density, initial_scale: as `SourceModel`.
    """

    def __init__(
        self,
        width: int = 32,
        members: int = 1,
        context: bool = False,
        density: str = "gaussian",
        initial_scale: float = 20.0,
    ) -> None:
        super().__init__(1, width, density, initial_scale, channels=SAMPLES)
        self.features = MemberMLP(members, SAMPLES, width, width)
        self.heads = nn.ModuleList(MemberLinear(members, width + int(context and k > 0), 2) for k in range(SAMPLES))
        for parameter in self.heads.parameters():
            nn.init.zeros_(parameter)
        self.context = context

    def raw_parameters(self, features: Tensor, residual: Tensor) -> Tensor:
        """See `SourceModel.raw_parameters`; with `context` the second sample's read the first's residual."""
        known = _by_member(F.gelu(features))
        first = self.heads[0](known)
        second = self.heads[1](torch.cat([known, _by_member(residual[:, :1])], 1) if self.context else known)
        return _by_batch(torch.stack([first, second], 2).flatten(1, 2))
