"""The regularizer's gradients, schedule and bound."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from regicomp.objective import RateDistortion
from regicomp.regularizer import AlphaSchedule, Regularizer
from regicomp.source.hyperprior import HyperpriorSource


def _images() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    x = torch.randint(0, 256, (2, 3, 16, 16)).float() / 255
    return x, (x + 0.1 * torch.randn_like(x)).requires_grad_()


def _regularizer(alpha: float = 0.1, max_pressure: float = 1e9, warmup: int = 0, ramp: int = 0) -> Regularizer:
    torch.manual_seed(0)
    source = HyperpriorSource(width=16)
    nn.init.normal_(source.head.weight, std=0.1)
    return Regularizer(source, RateDistortion(0.01), AlphaSchedule(alpha, warmup, ramp), max_pressure)


# α is 0 or a number whose fractions do not underflow.
@given(st.just(0.0) | st.floats(1e-6, 1), st.integers(0, 50), st.integers(0, 50), st.integers(0, 200))
def test_alpha_is_zero_then_rises_then_stays(alpha: float, warmup: int, ramp: int, step: int) -> None:
    schedule = AlphaSchedule(alpha, warmup, ramp)
    at, later = schedule.at(step), schedule.at(step + 1)
    assert 0 <= at <= later <= alpha
    assert (at == 0) == (step < warmup or alpha == 0)
    assert schedule.at(warmup + ramp) == alpha


def test_codec_sees_minus_alpha_times_the_gradient_and_theta_the_gradient_itself() -> None:
    regularizer, (x, x_hat) = _regularizer(), _images()
    regularizer(x, x_hat, step=0).backward()
    theta = [p.grad.clone() for p in regularizer.source.parameters() if p.grad is not None]
    regularizer.source.zero_grad()
    leaf = x_hat.detach().requires_grad_()
    regularizer.source(x, leaf).backward()
    assert x_hat.grad is not None
    assert leaf.grad is not None
    assert float(leaf.grad.abs().max()) > 0
    torch.testing.assert_close(x_hat.grad, -0.1 * leaf.grad)
    for found, expected in zip(theta, regularizer.source.parameters(), strict=True):
        torch.testing.assert_close(found, expected.grad)


@pytest.mark.parametrize("alpha", [0.05, 0.5, 5.0])
def test_pressure_is_bounded(alpha: float) -> None:
    regularizer, (x, x_hat) = _regularizer(alpha, max_pressure=0.25), _images()
    regularizer(x, x_hat, step=0).backward()
    assert x_hat.grad is not None
    pull = torch.linalg.vector_norm(regularizer.objective.pull(x, x_hat))
    ratio = float(torch.linalg.vector_norm(x_hat.grad) / pull)
    rho, capped = regularizer.read_pressure()
    assert ratio <= 0.25 * (1 + 1e-5)
    assert ratio == pytest.approx(min(rho, 0.25), rel=1e-4)
    assert capped == int(rho > 0.25)


def test_the_literal_form_has_the_same_gradient() -> None:
    for max_pressure in (1e9, 0.01):
        regularizer, (x, x_hat) = _regularizer(max_pressure=max_pressure), _images()
        regularizer(x, x_hat, step=0).backward()
        assert x_hat.grad is not None
        one_pass, x_hat.grad = x_hat.grad, None
        regularizer.literal(x, x_hat, step=0).backward()
        torch.testing.assert_close(x_hat.grad, one_pass)


def test_during_warm_up_the_codec_sees_nothing() -> None:
    regularizer, (x, x_hat) = _regularizer(warmup=5), _images()
    regularizer(x, x_hat, step=4).backward()
    assert x_hat.grad is None
    assert all(p.grad is not None for p in regularizer.source.parameters())
    regularizer(x, x_hat, step=5).backward()
    assert x_hat.grad is not None


def test_a_plain_loop_can_use_it() -> None:
    """README's ten lines, on a CompressAI model."""
    from compressai.models import MeanScaleHyperprior

    torch.manual_seed(0)
    codec = MeanScaleHyperprior(8, 8)
    objective = RateDistortion(0.01)
    regularizer = Regularizer(HyperpriorSource(width=16), objective, AlphaSchedule(0.1))
    networks = (codec, regularizer.source)
    optimizers = [torch.optim.Adam(network.parameters(), 1e-3) for network in networks]
    x = torch.randint(0, 256, (2, 3, 64, 64)).float() / 255
    losses = []
    for step in range(8):
        out = codec(x)
        terms = objective.terms(x, out["x_hat"], out["likelihoods"].values())
        (terms.loss + regularizer(x, out["x_hat"], step)).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        losses.append(float(terms.loss.detach()))
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(("alpha", "max_pressure"), [(-0.1, 1.0), (0.1, 0.0), (0.1, -1.0)])
def test_wrong_arguments_are_refused(alpha: float, max_pressure: float) -> None:
    with pytest.raises(ValueError, match=r"`reg\."):
        _regularizer(alpha, max_pressure)
