"""Discretized densities: exact masses, exact gradients, no surprises in the tails."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from regicomp.source import density as likelihood

LEVELS = torch.arange(256, dtype=torch.float64)
MEANS = st.floats(-500, 800)
SCALES = st.floats(0.1, 1000)
DENSITIES = st.sampled_from(likelihood.DENSITIES)


@given(MEANS, SCALES, DENSITIES)
@settings(deadline=None, max_examples=200)
def test_masses_sum_to_one(mean: float, scale: float, density: str) -> None:
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 2e-4)):
        bits = likelihood.bits(
            LEVELS.to(dtype), torch.tensor(mean, dtype=dtype), torch.tensor(scale, dtype=dtype), density
        )
        assert bits.dtype == dtype
        assert math.isclose(float((2.0 ** -bits.double()).sum()), 1.0, rel_tol=tolerance)


@pytest.mark.parametrize("density", likelihood.DENSITIES)
@pytest.mark.parametrize(("mean", "scale"), [(100.0, 20.0), (-3.0, 2.0), (254.0, 5.0), (127.5, 300.0)])
def test_masses_are_the_distribution_functions_differences(density: str, mean: float, scale: float) -> None:
    reference = (stats.norm if density == "gaussian" else stats.logistic)(mean, scale)
    upper = reference.cdf(LEVELS.numpy() + 0.5)
    lower = reference.cdf(LEVELS.numpy() - 0.5)
    upper[-1], lower[0] = 1.0, 0.0
    with np.errstate(divide="ignore"):
        expected = torch.from_numpy(-np.log2(upper - lower))
    found = likelihood.bits(LEVELS, torch.tensor(mean), torch.tensor(scale), density)
    seen = torch.from_numpy(upper - lower) > 1e-10  # below, the reference itself cancels
    assert int(seen.sum()) > 10
    torch.testing.assert_close(found.double()[seen], expected[seen], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("density", likelihood.DENSITIES)
def test_gradients_are_those_of_the_value(density: str) -> None:
    torch.manual_seed(0)
    v = torch.randint(0, 256, (40,)).double()
    v[:4] = torch.tensor([0.0, 255.0, 0.0, 255.0])
    mean = (v + 30 * torch.randn(40).double()).requires_grad_()
    scale = (0.5 + 20 * torch.rand(40).double()).requires_grad_()
    assert torch.autograd.gradcheck(lambda m, s: likelihood.bits(v, m, s, density), (mean, scale))


@given(st.floats(-1e5, 1e5), st.floats(0.1, 1000), st.integers(0, 255), DENSITIES)
@settings(deadline=None, max_examples=300)
def test_values_and_gradients_stay_finite_however_wrong_the_model(
    mean: float, scale: float, v: int, density: str
) -> None:
    m = torch.tensor(mean, dtype=torch.float32, requires_grad=True)
    s = torch.tensor(scale, dtype=torch.float32, requires_grad=True)
    bits = likelihood.bits(torch.tensor(float(v)), m, s, density)
    bits.backward()
    assert float(bits.detach()) >= -1e-3
    assert m.grad is not None
    assert s.grad is not None
    assert torch.isfinite(torch.stack([bits.detach(), m.grad, s.grad])).all()


def test_far_tail_has_the_gaussian_s_gradient() -> None:
    # 1000 σ away the bits grow as (v - ½ - mean)²/(2σ² ln 2) and pull with (v - ½ - mean)/(σ² ln 2).
    mean = torch.tensor(-900.0, requires_grad=True)
    likelihood.bits(torch.tensor(100.0), mean, torch.tensor(1.0)).backward()
    assert mean.grad is not None
    assert math.isclose(float(mean.grad), -999.5 / math.log(2), rel_tol=1e-4)


def _sixty_digits(v: int, mean: mpmath.mpf, scale: mpmath.mpf) -> mpmath.mpf:
    """-log2 of the Gaussian mass of v, tails folded in, in 60 digits."""
    lower = -mpmath.inf if v == 0 else (v - mpmath.mpf("0.5") - mean) / scale
    upper = mpmath.inf if v == 255 else (v + mpmath.mpf("0.5") - mean) / scale
    if lower + upper > 0:
        lower, upper = -upper, -lower
    return -mpmath.log((mpmath.erfc(-upper / mpmath.sqrt(2)) - mpmath.erfc(-lower / mpmath.sqrt(2))) / 2, 2)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-9)])
@pytest.mark.parametrize(
    ("mean", "scale"), [(100, 20), (-50, 3), (300, 0.2), (1e5, 0.14), (127.3, 0.14), (-1e4, 30), (0, 1)]
)
def test_values_and_gradients_against_sixty_digits(
    dtype: torch.dtype, tolerance: float, mean: float, scale: float
) -> None:
    m, s = (torch.full((256,), value, dtype=dtype, requires_grad=True) for value in (mean, scale))
    bits = likelihood.bits(LEVELS.to(dtype), m, s)
    bits.sum().backward()
    assert m.grad is not None
    assert s.grad is not None
    step = mpmath.mpf(10) ** -12
    with mpmath.workdps(60):
        for v in (0, 1, 100, 127, 128, 200, 254, 255):
            exact = [mpmath.mpf(float(t.detach()[v])) for t in (m, s)]
            mu, sigma = exact
            by_mean = (_sixty_digits(v, mu + step, sigma) - _sixty_digits(v, mu - step, sigma)) / step / 2
            by_scale = (_sixty_digits(v, mu, sigma + step) - _sixty_digits(v, mu, sigma - step)) / step / 2
            value = float(_sixty_digits(v, mu, sigma))
            assert float(bits.detach()[v]) == pytest.approx(value, rel=tolerance, abs=tolerance)
            assert float(m.grad[v]) == pytest.approx(float(by_mean), rel=tolerance, abs=1e-3 * tolerance)
            assert float(s.grad[v]) == pytest.approx(float(by_scale), rel=tolerance, abs=1e-3 * tolerance)


def test_float32_even_under_autocast() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        bits = likelihood.bits(torch.tensor([3]), torch.tensor([2.5]).bfloat16(), torch.tensor([1.5]).bfloat16())
    assert bits.dtype == torch.float32


def test_unknown_density_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`density` \(=cauchy\)"):
        likelihood.bits(torch.tensor(1.0), torch.tensor(1.0), torch.tensor(1.0), "cauchy")
