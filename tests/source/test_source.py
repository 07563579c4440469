"""Source entropy models: a density for every sample of images of any size, from x̂ alone where it should be."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from regicomp.source.base import from_patches, to_patches
from regicomp.source.hyperprior import HyperpriorSource


def _pair(height: int, width: int, batch: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(height * 1000 + width)
    x = torch.randint(0, 256, (batch, 3, height, width)).float() / 255
    return x, (x + 0.05 * torch.randn_like(x)).clamp(0, 1)


def _trained_by_chance() -> HyperpriorSource:
    torch.manual_seed(0)
    model = HyperpriorSource(patch=8, width=16)
    torch.nn.init.normal_(model.head.weight, std=0.1)
    return model


@given(st.integers(1, 40), st.integers(1, 40))
@settings(deadline=None, max_examples=25)
def test_bits_of_any_size_are_finite_and_every_sample_s(height: int, width: int) -> None:
    x, x_hat = _pair(height, width)
    model = _trained_by_chance()
    with torch.no_grad():
        bits, entropy = model.bits(x, x_hat), model(x, x_hat)
    assert bits.shape == x.shape
    assert torch.isfinite(bits).all()
    assert float(bits.min()) >= -1e-6
    torch.testing.assert_close(entropy, bits.sum() / (2 * height * width))


@given(st.integers(1, 5), st.integers(1, 5), st.sampled_from([1, 2, 4, 8]))
@settings(deadline=None, max_examples=25)
def test_patches_and_back(h: int, w: int, patch: int) -> None:
    image = torch.randn(2, 3, h * patch, w * patch)
    grid = to_patches(image, patch)
    assert grid.shape == (2, 3 * patch * patch, h, w)
    torch.testing.assert_close(grid, torch.nn.functional.pixel_unshuffle(image, patch), rtol=0, atol=0)
    torch.testing.assert_close(from_patches(grid, patch), image, rtol=0, atol=0)


def test_untrained_model_is_a_gaussian_of_sigma_20_around_x_hat() -> None:
    x, x_hat = _pair(16, 16)
    model = HyperpriorSource(width=16)
    error = 255 * (x - x_hat).double()
    s = torch.round(255 * x).double()
    normal = torch.distributions.Normal(255 * x_hat.double(), 20.0)
    upper = torch.where(s == 255, 1.0, normal.cdf(s + 0.5))
    lower = torch.where(s == 0, 0.0, normal.cdf(s - 0.5))
    by_hand = -torch.log2(upper - lower).sum() / (2 * 16 * 16)
    assert float(error.abs().max()) < 100  # else the reference would cancel
    assert math.isclose(float(model(x, x_hat).detach()), float(by_hand), rel_tol=1e-5)


def test_hyperprior_family_never_reads_the_source() -> None:
    model = _trained_by_chance()
    x, x_hat = _pair(16, 16)
    grid = to_patches(x_hat, 8)
    first = model.parameters_of(torch.round(255 * to_patches(x, 8)), grid)
    second = model.parameters_of(torch.zeros_like(grid), grid)
    assert torch.equal(first.mean, second.mean)
    assert torch.equal(first.scale, second.scale)


def test_learns_what_x_hat_tells() -> None:
    """With x = x̂ the model must approach certainty: H_θ falls far below the 19 bits of its start."""
    model = HyperpriorSource(width=16)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    x, _ = _pair(32, 32)
    before = float(model(x, x).detach())
    for _ in range(100):
        optimizer.zero_grad()
        entropy = model(x, x)
        entropy.backward()
        optimizer.step()
    assert before > 15
    assert float(entropy.detach()) < 4


@pytest.mark.parametrize(
    ("argument", "value"), [("patch", 0), ("width", 0), ("density", "cauchy"), ("initial_scale", 0.0)]
)
def test_arguments_out_of_range_are_refused(argument: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"`{argument}`"):
        HyperpriorSource(**{argument: value})
