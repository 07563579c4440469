"""The rate-distortion objective against arithmetic by hand."""

from __future__ import annotations

import math

import pytest
import torch

from regicomp.objective.rate_distortion import RateDistortion, mse_255, rate_bpp


def test_rate_is_bits_over_pixels_in_float64() -> None:
    torch.manual_seed(0)
    y, z = torch.rand(2, 5, 4, 4) * 0.98 + 0.01, torch.rand(2, 3, 1, 1) * 0.98 + 0.01
    by_hand = sum(-math.log2(float(p)) for tensor in (y, z) for p in tensor.double().flatten()) / (2 * 64 * 64)
    assert math.isclose(float(rate_bpp([y, z], 2 * 64 * 64)), by_hand, rel_tol=1e-6)


def test_mse_is_on_the_255_scale() -> None:
    x = torch.zeros(1, 3, 4, 4)
    assert math.isclose(float(mse_255(x, x + 2 / 255)), 4.0, rel_tol=1e-6)


def test_terms_add_up() -> None:
    torch.manual_seed(0)
    x, x_hat = torch.rand(2, 1, 3, 64, 64)
    terms = RateDistortion(0.01).terms(x, x_hat, [torch.full((1, 8), 0.5)])
    assert math.isclose(float(terms.rate_bpp), 8 / 4096, rel_tol=1e-6)
    assert math.isclose(float(terms.loss), 8 / 4096 + 0.01 * float(terms.mse_255), rel_tol=1e-6)


@pytest.mark.parametrize("kind", ["mse", "ms_ssim"])
def test_pull_is_the_distortion_s_gradient(kind: str) -> None:
    torch.manual_seed(0)
    x, noise = torch.rand(1, 3, 176, 176), torch.randn(1, 3, 176, 176)
    objective = RateDistortion(0.5, kind)
    x_hat = (x + 0.1 * noise).requires_grad_()
    (expected,) = torch.autograd.grad(0.5 * objective.distortion(x, x_hat), x_hat)
    torch.testing.assert_close(objective.pull(x, x_hat), expected)
    if kind == "mse":
        torch.testing.assert_close(expected, 0.5 * 2 * 255**2 * 0.1 * noise / noise.numel(), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(("lmbda", "kind"), [(0.0, "mse"), (-1.0, "mse"), (1.0, "psnr")])
def test_wrong_arguments_are_refused(lmbda: float, kind: str) -> None:
    with pytest.raises(ValueError, match=r"`objective\."):
        RateDistortion(lmbda, kind)
