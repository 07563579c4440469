"""MLIC++: a codec whose latent is coded slice by slice with local, global and channel contexts.

Source: Jiang, Yang, Zhai, Gao, Wang, "MLIC++: Linear Complexity Multi-Reference Entropy Modeling for Learned
Image Compression", 2023. What is left open there and how it is settled here: docs/decisions/mlicpp.md.

Legend: B batch, H W pixels, N channels of the transforms, M channels of y, c = M/slices channels of a slice,
h = H/16, w = W/16 grid of y.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from compressai.entropy_models import EntropyBottleneck, GaussianConditional
from compressai.models import CompressionModel
from torch import Tensor, nn

from regicomp.backbone.contexts import checkerboard, gather, scatter
from regicomp.backbone.fast_layers import quicken
from regicomp.backbone.latent_coding import STRIDE, one_image_of, one_thread, steps
from regicomp.backbone.mlicpp_slices import Coded, Gaussians, Slice
from regicomp.backbone.mlicpp_transforms import analysis, hyper_analysis, hyper_synthesis, synthesis
from regicomp.entropy_coding import symbol_streams

# Decoded values of slice i, (B, c, h, w), float32, right at the given positions and anything elsewhere.
Quantize = Callable[[int, Tensor, Gaussians], Tensor]


class _Round(torch.autograd.Function):
    """Rounding, exactly; the gradient passes straight through."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.round(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0]


def round_around(values: Tensor, centre: Tensor) -> Tensor:
    """The integer number of steps from `centre` nearest to `values`, added to it; gradient straight through."""
    rounded: Tensor = _Round.apply(values - centre)  # pyright: ignore[reportAssignmentType]
    return rounded + centre


def _laid_out(grid: Tensor) -> Tensor:
    """In the memory format that is faster; while training in the one given, for the run has chosen it."""
    return grid if torch.is_grad_enabled() else grid.contiguous(memory_format=torch.channels_last)


def _back(grid: Tensor) -> Tensor:
    """After `_laid_out` and a transform: the usual memory format again."""
    return grid if torch.is_grad_enabled() else grid.contiguous()


class MLICPlusPlus(CompressionModel):
    """Transforms, hyperprior, and a latent coded slice by slice, each slice's anchors before its others.

    ::

               ┌───┐    y                               ┌────────┐  ŷ   ┌───┐
        x ──►──┤g_a├──►─┬──────────────────────────────►│slice 0 ├──┬─►─┤g_s├──►── x_hat
               └───┘    │                               │slice 1 │◄─┘   └───┘
                        ▼                               │   ⋮    │ contexts
                      ┌───┐ z ┌────────────┐ ẑ  ┌───┐   │        │
                      │h_a├─►─┤ bottleneck ├──►─┤h_s├──►│        │
                      └───┘   └────────────┘    └───┘   └────────┘
                                     hyper scales and means

    Decoded values are rounded around the predicted means (ẑ around the medians), with a straight-through
    gradient; in training the likelihoods are those of values with uniform noise. One function, `code_slices`,
    serves `forward`, `compress` and `decompress`, so that on one machine all three compute the same numbers
    for one image, to the last bit.

    Args:
        N: channels of the transforms and of z.
        M: channels of y.
        slices: number of slices that y is cut into.
        heads: attention heads of the local and the global intra context.

    Raises:
        ValueError: an argument is out of range, or does not divide what it must.
    """

    quantizer = "ste"  # of z in training, in CompressAI's words

    def __init__(self, N: int = 192, M: int = 320, slices: int = 10, heads: int = 2) -> None:
        super().__init__()
        for name, value in {"N": N, "M": M, "slices": slices, "heads": heads}.items():
            if value < 1:
                raise ValueError(f"`{name}` (={value}) must be at least 1")
        if M % slices:
            raise ValueError(f"`slices` (={slices}) must divide `M` (={M})")
        channels = M // slices
        if channels % heads:
            raise ValueError(f"`heads` (={heads}) must divide the channels of a slice (={channels})")
        if M % 2:
            raise ValueError(f"`M` (={M}) must be even, for h_s passes through 3M/2 channels")
        self.N, self.M = N, M
        self.g_a = analysis(N, M)
        self.g_s = synthesis(N, M)
        self.h_a = hyper_analysis(N, M)
        self.h_s = hyper_synthesis(N, M)
        self.entropy_bottleneck = EntropyBottleneck(N)
        self.gaussian_conditional = GaussianConditional(None)
        self.slices = nn.ModuleList(Slice(i, M, channels, heads) for i in range(slices))
        quicken(self)

    @property
    def downsampling_factor(self) -> int:
        """Pixels that the height and width of an image must be multiples of."""
        return STRIDE

    def _encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """y (B, M, H/16, W/16) and z (B, N, H/64, W/64) of an image, float32."""
        if x.shape[-2] % STRIDE or x.shape[-1] % STRIDE:
            raise ValueError(f"`x` (={tuple(x.shape)}) must have a height and a width that {STRIDE} divides")
        y = _back(self.g_a(_laid_out(x)).float())
        return y, self.h_a(y).float()

    def _synthesize(self, y_hat: Tensor) -> Tensor:
        """g_s, (B, M, h, w) -> (B, 3, H, W)."""
        return _back(self.g_s(_laid_out(y_hat)))

    def _medians(self) -> Tensor:
        """Of z, which ẑ is rounded around, (1, N, 1, 1)."""
        return self.entropy_bottleneck.quantiles[:, 0, 1].detach().reshape(1, -1, 1, 1)

    def code_slices(self, z_hat: Tensor, quantize: Quantize) -> Coded:
        """Walk through the slices of y in coding order.

        Args:
            z_hat: decoded hyper-latent, (B, N, H/64, W/64).
            quantize: called once a pass with the slice's number, the pass's positions in the grid and what is
                predicted; gives the decoded values, (B, c, h, w).

        Returns:
            The whole latent, (B, M, h, w).
        """
        with nullcontext() if torch.is_grad_enabled() else one_thread():
            return self._code_slices(z_hat, quantize)

    def _code_slices(self, z_hat: Tensor, quantize: Quantize) -> Coded:
        hyper = self.h_s(z_hat.contiguous()).float()
        board = checkerboard(*hyper.shape[2:], device=hyper.device)
        coded: list[Coded] = []
        y_hat: list[Tensor] = []
        for i, model in enumerate(self.slices):

            def of_slice(positions: Tensor, predicted: Gaussians, i: int = i) -> Tensor:
                # For another memory layout convolutions may choose an algorithm with other last bits.
                return quantize(i, positions, predicted).contiguous()

            coded.append(model(hyper, y_hat, board, of_slice))
            y_hat.append(coded[-1].y_hat)
        scales = torch.cat([s.gaussians.scales for s in coded], dim=1)
        means = torch.cat([s.gaussians.means for s in coded], dim=1)
        return Coded(torch.cat(y_hat, dim=1), Gaussians(scales, means))

    def forward(self, x: Tensor) -> dict[str, Any]:
        """Reconstruction and likelihoods.

        Args:
            x: images in [0, 1], (B, 3, H, W), H and W multiples of 64.

        Returns:
            {"x_hat": (B, 3, H, W), "likelihoods": {"y": (B, M, H/16, W/16), "z": (B, N, H/64, W/64)}}.
        """
        y, z = self._encode(x)
        _, z_likelihoods = self.entropy_bottleneck(z)
        y_slices = y.chunk(len(self.slices), dim=1)

        def quantize(i: int, positions: Tensor, predicted: Gaussians) -> Tensor:
            del positions
            return round_around(y_slices[i], predicted.means)

        coded = self.code_slices(round_around(z, self._medians()), quantize)
        _, y_likelihoods = self.gaussian_conditional(y, *coded.gaussians)
        return {"x_hat": self._synthesize(coded.y_hat), "likelihoods": {"y": y_likelihoods, "z": z_likelihoods}}

    @torch.no_grad()
    def compress(self, x: Tensor) -> dict[str, Any]:
        """Bytes of one image.

        Args:
            x: an image in [0, 1], (1, 3, H, W), H and W multiples of 64.

        Returns:
            {"strings": [[bytes of y], [bytes of z]], "shape": z's height and width, "y_hat": (1, M, h, w)}.

        Raises:
            ValueError: several images, sides that 64 does not divide, or no entropy tables yet.
        """
        if x.shape[0] != 1:
            raise ValueError(f"`x` (={tuple(x.shape)}) must be one image, (1, 3, H, W)")
        symbol_streams.tables(self.gaussian_conditional)
        y, z = self._encode(x)
        y_slices = y.chunk(len(self.slices), dim=1)
        parts: list[symbol_streams.Part] = []

        def quantize(i: int, positions: Tensor, predicted: Gaussians) -> Tensor:
            rounded = steps(y_slices[i], predicted.means)
            indexes = symbol_streams.scale_indexes(self.gaussian_conditional, gather(predicted.scales, positions))
            parts.append((self.gaussian_conditional, gather(rounded, positions), indexes))
            return rounded + predicted.means

        symbols = steps(z, self._medians())
        y_hat = self.code_slices(symbols + self._medians(), quantize).y_hat
        of_z = symbol_streams.encode(
            [symbol_streams.of_z(self.entropy_bottleneck, symbols)]
        )  # first, as it is decoded first
        of_y = symbol_streams.encode(symbol_streams.joined(parts))
        return {"strings": [[of_y], [of_z]], "shape": z.shape[-2:], "y_hat": y_hat}

    @torch.no_grad()
    def decompress(self, strings: Sequence[Sequence[bytes]], shape: Sequence[int]) -> dict[str, Tensor]:
        """The image that `compress` made bytes of.

        Args:
            strings: [[bytes of y], [bytes of z]].
            shape: z's height and width.

        Returns:
            {"x_hat": (1, 3, H, W), in [0, 1], "y_hat": (1, M, h, w)}.

        Raises:
            ValueError: the strings are not one image's, or there are no entropy tables yet.
        """
        of_y, of_z = one_image_of(strings)
        symbol_streams.tables(self.gaussian_conditional)
        z_hat = symbol_streams.read_z(self.entropy_bottleneck, of_z, *shape) + self._medians()
        decoder = symbol_streams.Decoder(of_y)

        def quantize(i: int, positions: Tensor, predicted: Gaussians) -> Tensor:
            del i
            indexes = symbol_streams.scale_indexes(self.gaussian_conditional, gather(predicted.scales, positions))
            symbols = decoder.take(self.gaussian_conditional, indexes)
            return scatter(symbols, positions, *predicted.means.shape[2:]) + predicted.means

        y_hat = self.code_slices(z_hat, quantize).y_hat
        return {"x_hat": self._synthesize(y_hat).clamp(0, 1), "y_hat": y_hat}
