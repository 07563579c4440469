"""Codecs that evaluate, compress and decompress a latent by one function, the walk.

A walk visits the samples of y in coding order, in passes. Each pass predicts Gaussians of some samples from what is
decoded and asks for their decoded values: the encoder rounds its y, the decoder reads them from the stream. Since both
run the very same function on tensors of the same shapes, they compute the same numbers to the last bit. Images of a
batch are walked one at a time, so the batch does not matter either.

Legend: B batch, H W pixels, M channels of y, h w its grid, L = h·w positions in row-major order, n of them in a pass.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from compressai.entropy_models import EntropyBottleneck, GaussianConditional
from compressai.layers import MaskedConv2d
from compressai.models import CompressionModel
from torch import Tensor, nn
from torch.nn import functional as F

from regicomp.entropy_coding import symbol_streams

STRIDE = 64  # pixels between neighbouring samples of z


class Pass(NamedTuple):
    """Samples of y that are coded at once, with their predicted scales and means."""

    model: GaussianConditional
    positions: Tensor  # of the L, (n,)
    channels: slice  # c of the M
    scales: Tensor  # (n, c), float32
    means: Tensor


# Decoded values of a pass's samples, (n, c), float32.
Quantize = Callable[[Pass], Tensor]


class Walked(NamedTuple):
    """A latent after its walk: its decoded values, and the passes that predicted them."""

    y_hat: Tensor  # (1, M, h, w)
    passes: list[Pass]


class _Known(NamedTuple):
    """The latent that an encoder walked last."""

    y: Tensor
    z_hat: Tensor
    walked: Walked


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread in the block: how sums are split among threads changes the last bits of some layers.

    So an entropy model gives the same on one machine however many threads encoder and decoder have.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def steps(values: Tensor, centre: Tensor) -> Tensor:
    """The integer number of steps from `centre` nearest to `values`; no negative zero, as decoded symbols have none."""
    return torch.round(values - centre) + 0.0


def rows(grid: Tensor) -> Tensor:
    """One image's samples, position by position: (1, C, h, w) -> (L, C)."""
    return grid[0].flatten(1).t().contiguous()


def unmasked(layer: MaskedConv2d) -> list[tuple[int, int]]:
    """Row and column of a kernel's weights that are not masked; reads the mask back from its device."""
    mask: Tensor = layer.mask  # pyright: ignore[reportAssignmentType]
    return [(row, column) for row, column in mask[0, 0].nonzero().tolist()]


class PartialConvolution:
    """A masked convolution with padding, computed at chosen positions of one image and from unmasked weights only.

    Args:
        layer: k×k, stride 1; C channels to D.
        h, w: the grid.
    """

    def __init__(self, layer: MaskedConv2d, h: int, w: int) -> None:
        side = layer.kernel_size[0]
        self.margin = side // 2
        self.width = w + 2 * self.margin
        self.size = (h + 2 * self.margin) * self.width
        places = unmasked(layer)
        kernel = [layer.weight[:, :, r, c] for r, c in places]
        self.weight = torch.cat(kernel, dim=1)  # (D, unmasked positions of the kernel · C)
        self.bias = layer.bias
        shifts = [r * self.width + c for r, c in places]
        self.shifts = torch.tensor(shifts, device=layer.weight.device)

    def padded_grid(self, channels: int) -> Tensor:
        """Zeros for the grid and the padding that this convolution reads, (positions of the padded grid, C)."""
        return torch.zeros(self.size, channels, device=self.weight.device)

    def in_padded(self, positions: Tensor, w: int) -> Tensor:
        """Indices in the padded grid of positions of the grid, (n,)."""
        return (positions // w + self.margin) * self.width + positions % w + self.margin

    def __call__(self, padded: Tensor, centres: Tensor) -> Tensor:
        """Outputs at `centres`, indices in the padded grid: (positions of the padded grid, C), (n,) -> (n, D)."""
        corners = centres - self.margin * (self.width + 1)
        patches = padded.index_select(0, (corners[:, None] + self.shifts).flatten())
        return F.linear(patches.reshape(len(centres), -1), self.weight, self.bias)

    def unpadded(self, padded: Tensor, h: int, w: int) -> Tensor:
        """The grid without its padding, (1, C, h, w)."""
        grid = padded.unflatten(0, (-1, self.width))[self.margin : self.margin + h, self.margin : self.margin + w]
        return grid.permute(2, 0, 1)[None].contiguous()


class Head:
    """A stack of 1×1 convolutions at single positions; the first layer's inputs may arrive in parts.

    Args:
        layers: convolutions and pointwise activations; the first is a convolution.
    """

    def __init__(self, layers: nn.Module) -> None:
        first, *self.rest = [m for m in layers.modules() if not list(m.children())]
        assert isinstance(first, nn.Conv2d)
        self.weight, self.bias = first.weight.flatten(1), first.bias

    def begin(self, inputs: Tensor, at: slice) -> Tensor:
        """The first layer on its inputs `at`, (n, channels of `at`), with its bias."""
        return F.linear(inputs, self.weight[:, at], self.bias)

    def more(self, begun: Tensor, inputs: Tensor, at: slice) -> Tensor:
        """`begun` and the first layer's share of the inputs `at`."""
        return torch.addmm(begun, inputs, self.weight[:, at].t())

    def end(self, begun: Tensor) -> Tensor:
        """The other layers, on the first one's output; it may be overwritten."""
        for layer in self.rest:
            begun = (
                F.linear(begun, layer.weight.flatten(1), layer.bias) if isinstance(layer, nn.Conv2d) else layer(begun)
            )
        return begun


class WalkedCodec(CompressionModel):
    """A descendant of one of CompressAI's classes, evaluated, compressed and decompressed by a walk.

    Training, weights and state-dict names are those of the class that stands behind this one in the order of bases.
    Transforms run in channels_last; everything between them is float32 whatever autocast is on.
    """

    g_a: nn.Module
    g_s: nn.Module
    _remembers = False
    _known: _Known | None = None

    @contextmanager
    def remembering(self) -> Iterator[None]:
        """Within the block, evaluation does not repeat the walk of a latent that `compress` has just walked."""
        self._remembers = True
        try:
            yield
        finally:
            self._remembers, self._known = False, None

    @property
    def bottleneck(self) -> EntropyBottleneck:
        """Of z."""
        return self.entropy_bottleneck  # pyright: ignore

    @abstractmethod
    def hyper_latent(self, y: Tensor) -> Tensor:
        """z of y: (1, M, h, w) -> (1, N, h/4, w/4)."""

    @abstractmethod
    def walk(self, z_hat: Tensor, quantize: Quantize) -> Tensor:
        """Visit all of y in coding order.

        Args:
            z_hat: decoded hyper-latent, (1, N, h/4, w/4).
            quantize: gives the decoded values of a pass's samples; each sample is in exactly one pass.

        Returns:
            The decoded latent, (1, M, h, w), contiguous.
        """

    @property
    def downsampling_factor(self) -> int:
        """Pixels that the height and width of an image must be multiples of."""
        return STRIDE

    def forward(self, x: Tensor) -> dict[str, Any]:
        """Reconstruction and likelihoods; in evaluation without gradients, and those of `compress`'s stream.

        Args:
            x: images in [0, 1], (B, 3, H, W), H and W multiples of 64.

        Returns:
            {"x_hat": (B, 3, H, W), "likelihoods": {"y": (B, M, H/16, W/16), "z": (B, N, H/64, W/64)}}.
        """
        if self.training:
            return super().forward(x)
        outs = [self._evaluate(image) for image in x.split(1)]
        x_hat, y, z = (torch.cat(parts) for parts in zip(*outs, strict=True))
        return {"x_hat": x_hat, "likelihoods": {"y": y, "z": z}}

    @torch.no_grad()
    def _evaluate(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y = self._analyse(x)
        with torch.autocast(x.device.type, enabled=False):
            z = self.hyper_latent(y)
            _, z_likelihoods = self.bottleneck(z, training=False)
            medians = self._medians()
            walked = self._walk_of(y, steps(z, medians) + medians)
            given = rows(y)
            y_likelihoods = torch.empty_like(given)
            for current in walked.passes:
                own = given[current.positions, current.channels]
                _, likelihoods = current.model(own, current.scales, current.means, training=False)
                y_likelihoods[current.positions, current.channels] = likelihoods
        y_likelihoods = y_likelihoods.t().unflatten(1, y.shape[2:])[None]
        return self._synthesize(walked.y_hat), y_likelihoods, z_likelihoods

    def _analyse(self, x: Tensor) -> Tensor:
        if x.shape[-2] % STRIDE or x.shape[-1] % STRIDE:
            raise ValueError(f"`x` (={tuple(x.shape)}) must have a height and a width that {STRIDE} divides")
        return self.g_a(x.contiguous(memory_format=torch.channels_last)).float().contiguous()

    def _synthesize(self, y_hat: Tensor) -> Tensor:
        return self.g_s(y_hat.contiguous(memory_format=torch.channels_last)).float().contiguous()

    def _walk_of(self, y: Tensor, z_hat: Tensor) -> Walked:
        known = self._known
        if known is not None and torch.equal(known.y, y) and torch.equal(known.z_hat, z_hat):
            return known.walked
        given = rows(y)
        passes: list[Pass] = []

        def quantize(current: Pass) -> Tensor:
            passes.append(current)
            return steps(given[current.positions, current.channels], current.means) + current.means

        with one_thread():
            walked = Walked(self.walk(z_hat, quantize), passes)
        if self._remembers:
            self._known = _Known(y, z_hat, walked)
        return walked

    def _medians(self) -> Tensor:
        return self.bottleneck.quantiles[:, 0, 1].detach().reshape(1, -1, 1, 1)

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
        symbol_streams.tables(self.bottleneck)
        y = self._analyse(x)
        with torch.autocast(x.device.type, enabled=False):
            z = self.hyper_latent(y)
            medians = self._medians()
            symbols = steps(z, medians)
            walked = self._walk_of(y, symbols + medians)
            given = rows(y)
            parts: list[symbol_streams.Part] = []
            for current in walked.passes:
                own = steps(given[current.positions, current.channels], current.means)
                parts.append((current.model, own, symbol_streams.scale_indexes(current.model, current.scales)))
        of_z = symbol_streams.encode([symbol_streams.of_z(self.bottleneck, symbols)])  # first, as it is decoded first
        of_y = symbol_streams.encode(symbol_streams.joined(parts))
        return {"strings": [[of_y], [of_z]], "shape": z.shape[-2:], "y_hat": walked.y_hat}

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
        z_hat = symbol_streams.read_z(self.bottleneck, of_z, *shape) + self._medians()
        decoder = symbol_streams.Decoder(of_y)

        def quantize(current: Pass) -> Tensor:
            return (
                decoder.take(current.model, symbol_streams.scale_indexes(current.model, current.scales)) + current.means
            )

        with torch.autocast(z_hat.device.type, enabled=False), one_thread():
            y_hat = self.walk(z_hat, quantize)
        return {"x_hat": self._synthesize(y_hat).clamp(0, 1), "y_hat": y_hat}


def one_image_of(strings: Sequence[Sequence[bytes]]) -> tuple[bytes, bytes]:
    """The streams of y and z.

    Raises:
        ValueError: there are others, or several images'.
    """
    if len(strings) != 2 or any(len(s) != 1 for s in strings):
        lengths = [len(s) for s in strings]
        raise ValueError(f"`strings` (of lengths {lengths}) must be one image's, [[of y], [of z]]")
    return strings[0][0], strings[1][0]
