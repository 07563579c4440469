"""The objective of a codec of variable rate: every image of a batch has its own λ.

Legend: B batch, H W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from regicomp.objective.rate_distortion import RateDistortion, Terms, ms_ssim_of_each, rate_bpp


class ImageTerms(NamedTuple):
    """Rate and error of each image of the latest batch, (B,), detached."""

    rate_bpp: Tensor
    mse_255: Tensor


class ByImage(RateDistortion):
    """L = mean over images of R_b + λ_b D_b; set `of_images` to the images' λ before each batch.

    Args:
        lambdas: λ of the levels, rising.
        distortion: as in `RateDistortion`.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(self, lambdas: Iterable[float], distortion: str = "mse") -> None:
        self.lambdas = tuple(lambdas)
        for lmbda in self.lambdas:
            super().__init__(lmbda, distortion)
        self.of_images = torch.tensor([self.lambdas[0]])  # (B,)
        self.latest: ImageTerms | None = None

    def terms(self, x: Tensor, x_hat: Tensor, likelihoods: Iterable[Tensor]) -> Terms:
        """The loss and its terms, means over images, for x, x̂ (B, 3, H, W) and the latents' likelihoods (B, …)."""
        likelihoods = list(likelihoods)
        pixels = x.shape[2] * x.shape[3]
        errors = _mse_by_image(x, x_hat)
        distortions = errors if self.kind == "mse" else 1 - ms_ssim_of_each(x, x_hat)
        rate = rate_bpp(likelihoods, x.shape[0] * pixels)
        with torch.no_grad():
            nats = torch.stack([-torch.log(p.detach().float()).flatten(1).sum(1) for p in likelihoods]).sum(0)
            self.latest = ImageTerms(nats / (math.log(2) * pixels), errors.detach())
        loss = rate + (self._lambdas_for(x) * distortions).mean()
        return Terms(loss, rate, errors.mean(), distortions.mean())

    def distortion_gradient(self, x: Tensor, x_hat: Tensor) -> Tensor:
        """∂/∂x̂ of the mean over images of λ_b D_b, (B, 3, H, W), detached."""
        with torch.enable_grad():
            leaf = x_hat.detach().float().requires_grad_()
            distortions = _mse_by_image(x, leaf) if self.kind == "mse" else 1 - ms_ssim_of_each(x, leaf)
            return torch.autograd.grad((self._lambdas_for(x) * distortions).mean(), leaf)[0]

    def _lambdas_for(self, x: Tensor) -> Tensor:
        if self.of_images.shape != x.shape[:1]:
            raise ValueError(f"λ of {len(self.of_images)} images are set for a batch of {len(x)}")
        return self.of_images.to(x.device)


def _mse_by_image(x: Tensor, x_hat: Tensor) -> Tensor:
    """Mean squared error of each image on the 0..255 scale, (B,)."""
    return torch.mean((255 * (x_hat.float() - x.float())) ** 2, dim=(1, 2, 3))
