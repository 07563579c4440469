"""The rate-distortion objective against arithmetic by hand."""

from __future__ import annotations

import math

import pytest
import torch
from pytorch_msssim import ms_ssim

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
    torch.testing.assert_close(objective.distortion_gradient(x, x_hat), expected)
    if kind == "mse":
        torch.testing.assert_close(expected, 0.5 * 2 * 255**2 * 0.1 * noise / noise.numel(), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(("lmbda", "kind"), [(0.0, "mse"), (-1.0, "mse"), (1.0, "psnr")])
def test_wrong_arguments_are_refused(lmbda: float, kind: str) -> None:
    with pytest.raises(ValueError, match=r"`objective\."):
        RateDistortion(lmbda, kind)


def _grainy(levels: float) -> tuple[torch.Tensor, torch.Tensor]:
    """A smooth image, and the same with noise of so many grey levels."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(2, 3, 6, 6, generator=generator)
    x = torch.nn.functional.interpolate(x, (176, 176), mode="bicubic").clamp(0, 1)
    return x, x + levels / 255 * torch.randn(x.shape, generator=generator)


@pytest.mark.parametrize("levels", [2, 20])
def test_ms_ssim_is_float32_under_autocast(levels: float) -> None:
    """Variances are small differences of large products: in bf16 nothing is left of them."""
    x, x_hat = _grainy(levels)
    objective = RateDistortion(1.0, "ms_ssim")
    found: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
    for bf16 in (False, True):
        leaf = x_hat.clone().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            loss = objective.terms(x, leaf, [torch.full((1, 8), 0.5)]).distortion
            grad_d = objective.distortion_gradient(x, leaf)
        loss.backward()
        assert leaf.grad is not None
        found.append((loss.detach(), leaf.grad, grad_d))
    assert float(found[1][0]) > 0
    for exact, under_autocast in zip(*found, strict=True):
        torch.testing.assert_close(under_autocast, exact, rtol=1e-5, atol=1e-9)


def test_ms_ssim_and_its_gradient_are_those_of_float64() -> None:
    x, x_hat = _grainy(20)
    leaf = x_hat.clone().requires_grad_()
    (RateDistortion(1.0, "ms_ssim").distortion(x, leaf) * 3).backward()
    double = x_hat.double().requires_grad_()
    expected = 1 - ms_ssim(x.double(), double, data_range=1.0)
    (expected * 3).backward()
    assert float(expected.detach()) == pytest.approx(
        float(RateDistortion(1.0, "ms_ssim").distortion(x, x_hat)), rel=1e-4
    )
    assert leaf.grad is not None
    assert double.grad is not None
    similarity = torch.cosine_similarity(leaf.grad.flatten(), double.grad.float().flatten(), dim=0)
    assert float(similarity) == pytest.approx(1, abs=1e-4)
    assert float(leaf.grad.norm()) == pytest.approx(float(double.grad.norm()), rel=1e-3)


def test_ms_ssim_on_cuda_is_computed_without_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    """TF32 keeps 10 bits of a product. The setting is the process's own afterwards."""
    seen: list[bool] = []

    def watched(*args: torch.Tensor, **settings: object) -> torch.Tensor:
        seen.append(torch.backends.cudnn.allow_tf32 or torch.is_autocast_enabled("cpu"))
        return ms_ssim(*args, **settings)

    monkeypatch.setattr("regicomp.objective.rate_distortion.ms_ssim", watched)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        RateDistortion(1.0, "ms_ssim").distortion(*_grainy(2))
        assert torch.is_autocast_enabled("cpu")
    assert seen == [False]
    assert torch.backends.cudnn.allow_tf32
