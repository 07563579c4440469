"""Quantization noise as a function of (seed, step, place in the batch): equal however the batch is shared out.

A codec update's noise is drawn for the whole batch, in the order of a contiguous tensor, and each process (and each
part of an accumulated update) keeps the rows of its own crops. So one process and several, contiguous tensors and
channels_last, see the same noise. With one process nothing more is drawn than is used.
"""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import torch
from compressai.entropy_models import EntropyBottleneck, EntropyModel, GaussianConditional
from torch import Tensor, nn


def noise_seed(seed: int, step: int, stream: int = 0) -> int:
    """Seed of the quantization noise of one codec update: equal for a run and its baseline (α = 0), and on resume."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{step}/{stream}".encode(), digest_size=7).digest(), "big")


class Rows(NamedTuple):
    """Which rows of an update's batch are computed now: `first`, `first + stride`, …"""

    batch: int  # crops of the whole update
    first: int = 0
    stride: int = 1
    here: int = 0  # how many

    @property
    def are_all(self) -> bool:
        """Whether nothing is shared out."""
        return self.here == self.batch


def share(batch: int, rank: int, world: int, part: int = 0, parts: int = 1) -> Rows:
    """Rows of part `part` of `parts` of what process `rank` of `world` computes; all divide evenly."""
    count = batch // (world * parts)
    return Rows(batch, rank + world * part * count, world, count)


class BatchNoise:
    """Replaces the noise of a codec's entropy models; set `rows` and seed torch before each forward pass.

    Args:
        codec: whose entropy models are changed, in place.
    """

    def __init__(self, codec: nn.Module) -> None:
        self.rows = Rows(0)
        codec.register_forward_pre_hook(self._check_images)
        for module in codec.modules():
            if isinstance(module, EntropyModel):
                module.quantize = _Quantizer(module, self)

    def _check_images(self, codec: nn.Module, args: tuple[Tensor, ...]) -> None:
        if codec.training:
            self._check(len(args[0]))

    def _check(self, batch: int) -> None:
        """Noise of other rows would be broadcast, and one crop computed as many."""
        if self.rows.here not in (0, batch):
            raise ValueError(f"noise is to be drawn for {self.rows.here} crops (`rows`) and got a batch of {batch}")

    def like(self, values: Tensor, folded: bool) -> Tensor:
        """Uniform noise on [-½, ½] of the shape of `values`.

        Args:
            values: (b, …), or (C, 1, b·n) where the batch is folded into the last axis.
            folded: whether it is, as in CompressAI's entropy bottleneck.

        Raises:
            ValueError: b is not the number of rows that are computed now.
        """
        shape, rows = list(values.shape), self.rows
        if not folded:
            self._check(shape[0])
        if rows.here == 0 or rows.are_all:
            return _uniform(shape, values)
        chosen = slice(rows.first, rows.first + rows.stride * rows.here, rows.stride)
        if not folded:
            return _uniform([rows.batch, *shape[1:]], values)[chosen]
        places = shape[2] // rows.here
        return _uniform([shape[0], rows.batch, places], values)[:, chosen].reshape(shape)


def _uniform(shape: list[int], like: Tensor) -> Tensor:
    return torch.empty(shape, dtype=like.dtype, device=like.device).uniform_(-0.5, 0.5)


class _Quantizer:
    """`EntropyModel.quantize` with the batch's noise."""

    def __init__(self, module: EntropyModel, noise: BatchNoise) -> None:
        self.module, self.noise = module, noise
        self.folded = isinstance(module, EntropyBottleneck)

    def __call__(self, inputs: Tensor, mode: str, means: Tensor | None = None) -> Any:
        if mode == "noise":
            return inputs + self.noise.like(inputs, self.folded)
        return type(self.module).quantize(self.module, inputs, mode, means)


class RoundedLatents:
    """ŷ rounded, straight-through, of the latest forward pass of a codec trained with noise.

    The gradient of rounding is taken to be one, so it reaches the analysis transform.

    Args:
        codec: with a synthesis transform `g_s` and one `gaussian_conditional` for all of its latent, as CompressAI's
            hyperprior, autoregressive and attention codecs; its `quantize` is listened to.
        setting: that asks for it, such as "`reg.feed` (=rounded) must be noisy".

    Raises:
        ValueError: the codec is built otherwise. ELIC and MLIC++ decode rounded latents in training already.
    """

    def __init__(self, codec: nn.Module, setting: str) -> None:
        model = getattr(codec, "gaussian_conditional", None)
        if not isinstance(model, GaussianConditional) or not hasattr(codec, "g_s"):
            raise ValueError(
                f"{setting} with {type(codec).__name__}: only codecs with g_s and one gaussian_conditional can be "
                "decoded from latents rounded afterwards (ELIC and MLIC++ train on rounded latents anyway)"
            )
        self._latest: tuple[Tensor, Tensor | None] | None = None
        self._quantize = model.quantize
        model.quantize = self._listen

    def _listen(self, inputs: Tensor, mode: str, means: Tensor | None = None) -> Tensor:
        if mode == "noise":
            self._latest = inputs, means
        return self._quantize(inputs, mode, means)

    def take(self) -> Tensor:
        """Those of the codec's latest forward pass in training, once, (B, M, H/16, W/16)."""
        if self._latest is None:
            raise RuntimeError("the codec has not run in training mode since its latest rounded reconstruction")
        (y, means), self._latest = self._latest, None
        rounded = self._quantize(y, "dequantize", means)
        return y + (rounded - y).detach()


class RoundedReconstruction:
    """Gives x̂ from rounded latents for the latest forward pass of a codec trained with noise.

    Call it after the codec. Costs a second synthesis transform an update.

    Args:
        codec: as `RoundedLatents` takes it.

    Raises:
        ValueError: the codec is built otherwise.
    """

    def __init__(self, codec: nn.Module) -> None:
        self.latents = RoundedLatents(codec, "`reg.feed` (=rounded) must be noisy")
        self.codec: Any = codec

    def __call__(self) -> Tensor:
        """x̂ from the rounded latents of the codec's latest forward pass in training, (B, 3, H, W), float32."""
        return self.codec.g_s(self.latents.take()).float()


def decode_rounded(codec: nn.Module) -> None:
    """In training, from now on, g_s decodes rounded latents, while the likelihoods are still those of noisy ones.

    "Mixed quantization" (Minnen and Singh 2020): D is then that of coding, but for noise in the predicted means.

    Args:
        codec: as `RoundedLatents` takes it; changed in place.

    Raises:
        ValueError: the codec is built otherwise.
    """
    latents = RoundedLatents(codec, "`quantization` (=mixed) must be noise")

    @torch.compiler.disable
    def replace(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        return (latents.take(), *args[1:]) if module.training else None

    network: Any = codec
    network.g_s.register_forward_pre_hook(replace, prepend=True)  # before the gains of a variable rate
