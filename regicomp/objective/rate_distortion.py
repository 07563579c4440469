"""The rate-distortion objective R + λD of one batch, from what a codec returns."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from pytorch_msssim import ms_ssim
from torch import Tensor

from regicomp.backbone.precision import exact_float32

DISTORTIONS = ("mse", "ms_ssim")


class Terms(NamedTuple):
    """Terms of the loss, scalars in float32."""

    loss: Tensor  # R + λ D
    rate_bpp: Tensor  # R, bits per pixel
    mse_255: Tensor  # mean squared error on the 0..255 scale
    distortion: Tensor  # D: mse_255, or 1 - MS-SSIM


def rate_bpp(likelihoods: Iterable[Tensor], pixels: int) -> Tensor:
    """R in bits per pixel: -Σ log2 p over all latents and hyper-latents, divided by B·H·W.

    Args:
        likelihoods: probabilities of the quantized latents, any shapes.
        pixels: B·H·W of the source images.
    """
    nats = torch.stack([-torch.log(p.float()).sum() for p in likelihoods]).sum()
    return nats / (math.log(2) * pixels)


def mse_255(x: Tensor, x_hat: Tensor) -> Tensor:
    """Mean squared error over all samples on the 0..255 scale, of images in [0, 1], (B, 3, H, W)."""
    return torch.mean((255 * (x_hat.float() - x.float())) ** 2)


class _MsSsim(torch.autograd.Function):
    """MS-SSIM of each image, in exact float32 whatever autocast and CUDA's settings are, and so its gradient.

    The variances that it compares are small differences of large products: of two grey levels of noise bf16 leaves
    nothing. The gradient is taken in the forward pass, for backward passes run under settings of their own.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, x_hat: Tensor) -> Tensor:
        differentiate = ctx.needs_input_grad[1]
        with exact_float32(x.device.type), torch.set_grad_enabled(differentiate):
            leaf = x_hat.detach().float().requires_grad_(differentiate)
            similarity = ms_ssim(x.detach().float(), leaf, data_range=1.0, size_average=False)
            if differentiate:
                ctx.save_for_backward(torch.autograd.grad(similarity.sum(), leaf)[0].to(x_hat.dtype))
        return similarity.detach()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor]:
        return None, grads[0].reshape(-1, 1, 1, 1) * ctx.saved_tensors[0]


def ms_ssim_of_each(x: Tensor, x_hat: Tensor) -> Tensor:
    """MS-SSIM of each image, (B,), float32; differentiable once, in x̂.

    Args:
        x, x_hat: source and reconstruction in [0, 1], (B, 3, H, W) with sides of at least 161 pixels.
    """
    return _MsSsim.apply(x, x_hat)  # pyright: ignore[reportReturnType]


class RateDistortion:
    """L = R + λD (CompressAI's convention for λ).

    Args:
        lmbda: λ > 0.
        distortion: "mse" (D = mse_255) or "ms_ssim" (D = 1 - MS-SSIM).

    Raises:
        ValueError: an argument is out of range.
    """

    shares: Tensor | None = None  # of α in each image of the batch, (B,); None: all of it in each

    def __init__(self, lmbda: float, distortion: str = "mse") -> None:
        if not lmbda > 0:
            raise ValueError(f"`objective.lmbda` (={lmbda}) must be greater than 0")
        if distortion not in DISTORTIONS:
            raise ValueError(f"`objective.distortion` (={distortion}) must be one of {', '.join(DISTORTIONS)}")
        self.lmbda = lmbda
        self.kind = distortion

    @property
    def sees_scales_alike(self) -> bool:
        """Whether an error counts alike as fine grain and as a shift of an image's colours; for MS-SSIM it does not."""
        return self.kind == "mse"

    def distortion(self, x: Tensor, x_hat: Tensor) -> Tensor:
        """D of a batch, scalar."""
        if self.kind == "mse":
            return mse_255(x, x_hat)
        return 1 - ms_ssim_of_each(x, x_hat).mean()

    def terms(self, x: Tensor, x_hat: Tensor, likelihoods: Iterable[Tensor]) -> Terms:
        """The loss and its terms for images x, x̂ (B, 3, H, W) and the latents' likelihoods."""
        rate = rate_bpp(likelihoods, x.shape[0] * x.shape[2] * x.shape[3])
        error = mse_255(x, x_hat)
        distortion = error if self.kind == "mse" else self.distortion(x, x_hat)
        return Terms(rate + self.lmbda * distortion, rate, error, distortion)

    def distortion_gradient(self, x: Tensor, x_hat: Tensor) -> Tensor:
        """λ ∂D/∂x̂, (B, 3, H, W), detached."""
        with torch.enable_grad():
            leaf = x_hat.detach().float().requires_grad_()
            return torch.autograd.grad(self.lmbda * self.distortion(x, leaf), leaf)[0]
