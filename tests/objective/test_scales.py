"""Where the distortion does not see all scales alike, the pressure is bounded in each."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regicomp.data import testsets
from regicomp.evaluation import classical_codecs
from regicomp.objective import scales
from regicomp.objective.rate_distortion import RateDistortion
from regicomp.objective.regularizer import AlphaSchedule, Regularizer

CROP = 192  # a multiple of 64


class LocalGaussian(nn.Module):
    """H_θ of a Gaussian around x̂ whose scale is the error's own, in windows of 9×9: a q_θ that has learned."""

    def __init__(self, x: Tensor, x_hat: Tensor) -> None:
        super().__init__()
        self.variance = F.avg_pool2d((255 * (x - x_hat)) ** 2, 9, 1, 4).clamp_min(1)

    def forward(self, x: Tensor, x_hat: Tensor) -> Tensor:
        bits = (255 * (x - x_hat)) ** 2 / (2 * math.log(2) * self.variance)
        return bits.sum() / (x.shape[0] * x.shape[2] * x.shape[3])


@pytest.fixture(scope="module")
def images() -> tuple[Tensor, Tensor]:
    """Photographs, and what a coarse JPEG makes of them: errors of all scales, whatever codec comes with regicomp."""
    photos = [image.load()[:CROP, :CROP] for image in testsets.find(["photos"], ".", [])[0].images[:3]]
    coarse = [classical_codecs.JPEG.decode(classical_codecs.JPEG.encode(photo, 5)) for photo in photos]
    x, x_hat = (torch.stack([torch.from_numpy(p.copy()).permute(2, 0, 1) for p in of]) for of in (photos, coarse))
    return x.float() / 255, x_hat.float() / 255


def _gradients(
    x: Tensor, x_hat: Tensor, kind: str, lmbda: float, max_pressure: float
) -> tuple[Tensor, Tensor, Regularizer]:
    """The regularizer's contribution to the gradient at x̂, the distortion gradient there, and the regularizer."""
    source, objective = LocalGaussian(x, x_hat), RateDistortion(lmbda, kind)
    regularizer = Regularizer(source, objective, AlphaSchedule(0.1), max_pressure)
    leaf = x_hat.clone().requires_grad_()
    regularizer(x, leaf, step=0).backward()
    assert leaf.grad is not None
    return leaf.grad, objective.distortion_gradient(x, leaf), regularizer


def _ratio(grad_h: Tensor, grad_d: Tensor) -> float:
    return float(grad_h.norm() / grad_d.norm())


def _mean_colours(gradient: Tensor) -> Tensor:
    return gradient.mean(dim=(2, 3))


def test_under_ms_ssim_a_gradient_on_brightness_is_bounded(images: tuple[Tensor, Tensor]) -> None:
    """At λ = 4.58 and α = 0.1: below 1 over pixels, many times the distortion's own gradient for most mean colours."""
    free, grad_d, regularizer = _gradients(*images, "ms_ssim", 4.58, max_pressure=1e9)
    assert _ratio(free, grad_d) < 1
    assert float((_mean_colours(free) / _mean_colours(grad_d)).abs().median()) > 10
    bounded, _, regularizer = _gradients(*images, "ms_ssim", 4.58, max_pressure=1.0)
    assert float((_mean_colours(bounded) / _mean_colours(grad_d)).abs().max()) <= 1.001
    for one, other in zip(scales.components(bounded), scales.components(grad_d), strict=True):
        assert bool((one.norm(dim=(2, 3)) <= 1.001 * other.norm(dim=(2, 3))).all())
    assert 0.5 < _ratio(bounded, free) < 1  # most of it is where the distortion sees it
    rho, capped, _ = regularizer.read_pressure()
    assert rho == pytest.approx(_ratio(free, grad_d), rel=1e-3)
    assert capped == 0
    # What the codec follows then still lowers the distortion in every scale, of every image and colour.
    for one, other in zip(scales.components(grad_d + bounded), scales.components(grad_d), strict=True):
        assert bool(((one * other).sum(dim=(2, 3)) >= -2e-3 * other.norm(dim=(2, 3)) ** 2).all())


def test_under_mse_the_scales_are_alike_and_nothing_changes(images: tuple[Tensor, Tensor]) -> None:
    """Its gradient and that of a Gaussian are multiples of one error."""
    x, x_hat = images
    grad_h, grad_d, _ = _gradients(x, x_hat, "mse", 0.0067, max_pressure=1e9)
    ratios = [_ratio(a, b) for a, b in zip(scales.components(grad_h), scales.components(grad_d), strict=True)]
    assert max(ratios) < 4 * _ratio(grad_h, grad_d)
    leaf = x_hat.clone().requires_grad_()
    LocalGaussian(x, x_hat)(x, leaf).backward()
    assert leaf.grad is not None
    assert torch.equal(grad_h, -0.1 * leaf.grad)


def test_the_two_forms_agree(images: tuple[Tensor, Tensor]) -> None:
    x, x_hat = images
    one_pass, _, regularizer = _gradients(x, x_hat, "ms_ssim", 4.58, max_pressure=1.0)
    leaf = x_hat.clone().requires_grad_()
    regularizer.literal(x, leaf, step=0).backward()
    assert leaf.grad is not None
    torch.testing.assert_close(leaf.grad, one_pass)


@pytest.mark.parametrize("size", [(8, 8), (7, 13), (1, 5), (1, 1)])
def test_components_add_up_and_are_orthogonal(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    gradient = torch.randn(2, 3, *size).double()
    parts = scales.components(gradient)
    torch.testing.assert_close(sum(parts), gradient)
    assert len(parts) == 1 + math.ceil(math.log2(max(size)))
    torch.testing.assert_close(parts[-1], gradient.mean(dim=(2, 3), keepdim=True).expand_as(gradient))
    for k, part in enumerate(parts):
        for other in parts[:k]:
            assert abs(float((part * other).sum())) < 1e-9
