"""The regularizer's gradients, schedule and bound."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from regicomp.objective.rate_distortion import RateDistortion
from regicomp.objective.regularizer import NO_SHAPE, AlphaSchedule, Regularizer, Shape
from regicomp.source.hyperprior import HyperpriorSource


def _images() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    x = torch.randint(0, 256, (2, 3, 16, 16)).float() / 255
    return x, (x + 0.1 * torch.randn_like(x)).requires_grad_()


SHAPES = [
    Shape(project=project, per_image=per_image, minimize=minimize)
    for project in (False, True)
    for per_image in (False, True)
    for minimize in (False, True)
]


def _regularizer(
    alpha: float = 0.1, max_pressure: float = 1e9, warmup: int = 0, ramp: int = 0, shape: Shape = NO_SHAPE
) -> Regularizer:
    torch.manual_seed(0)
    source = HyperpriorSource(width=16)
    nn.init.normal_(source.head.weight, std=0.1)
    return Regularizer(source, RateDistortion(0.01), AlphaSchedule(alpha, warmup, ramp), max_pressure, shape)


# α is 0 or a number whose fractions do not underflow.
@given(st.just(0.0) | st.floats(1e-6, 1), st.integers(0, 50), st.integers(0, 50), st.integers(0, 200))
def test_alpha_is_zero_then_rises_then_stays(alpha: float, warmup: int, ramp: int, step: int) -> None:
    schedule = AlphaSchedule(alpha, warmup, ramp)
    at, later = schedule.at(step), schedule.at(step + 1)
    assert 0 <= at <= later <= alpha
    assert (at == 0) == (step < warmup or alpha == 0)
    assert schedule.at(warmup + ramp) == alpha


@given(st.integers(0, 30), st.integers(0, 20), st.integers(1, 60), st.integers(0, 150))
def test_released_alpha_falls_as_it_rose_and_ends_at_zero(warmup: int, ramp: int, release: int, step: int) -> None:
    end = 140 - release
    schedule, unreleased = AlphaSchedule(0.1, warmup, ramp, release_at=end), AlphaSchedule(0.1, warmup, ramp)
    assert 0 <= schedule.at(step) <= unreleased.at(step)
    assert step < end or schedule.at(step) == 0
    assert step >= end or step < warmup or schedule.at(step) > 0
    assert step > end - 1 - ramp or schedule.at(step) == unreleased.at(step)
    rise, fall = schedule.at(warmup + step), schedule.at(end - 1 - step)
    assert step > ramp or 2 * ramp + warmup + 2 > end or rise == pytest.approx(fall)


def _gradients(regularizer: Regularizer, x: Tensor, x_hat: Tensor) -> tuple[Tensor, Tensor]:
    """The regularizer's contribution to the gradient at x̂, and the distortion gradient there."""
    leaf = x_hat.detach().requires_grad_()
    regularizer(x, leaf, step=0).backward()
    assert leaf.grad is not None
    return leaf.grad, regularizer.objective.distortion_gradient(x, leaf)


def test_projection_removes_the_parallel_component_and_nothing_else() -> None:
    x, x_hat = _images()
    plain, grad_d = _gradients(_regularizer(), x, x_hat)
    projected, _ = _gradients(_regularizer(shape=Shape(project=True)), x, x_hat)
    size = float(torch.linalg.vector_norm(plain) * torch.linalg.vector_norm(grad_d))
    assert abs(float((plain * grad_d).sum())) > 0.1 * size
    assert abs(float((projected * grad_d).sum())) < 1e-5 * size
    removed = plain - projected
    torch.testing.assert_close(removed, (removed * grad_d).sum() / (grad_d * grad_d).sum() * grad_d)


class _Weighted(nn.Module):
    """A source model whose certainty differs from image to image, so that its gradient does."""

    def __init__(self, *weights: float) -> None:
        super().__init__()
        self.register_buffer("weights", torch.tensor(weights).reshape(-1, 1, 1, 1))

    def forward(self, x: Tensor, x_hat: Tensor) -> Tensor:
        return (self.weights * (x - x_hat) ** 2).mean()


def test_per_image_every_image_has_the_batch_s_pressure_and_its_own_direction() -> None:
    x, x_hat = _images()

    def shaped_by(shape: Shape) -> tuple[Tensor, list[float]]:
        regularizer = Regularizer(_Weighted(1, 3), RateDistortion(0.01), AlphaSchedule(0.1), 1e9, shape)
        grad_h, grad_d = _gradients(regularizer, x, x_hat)
        return grad_h, (grad_h.flatten(1).norm(dim=1) / grad_d.flatten(1).norm(dim=1)).tolist()

    plain, before = shaped_by(NO_SHAPE)
    shaped, after = shaped_by(Shape(per_image=True))
    assert before[1] == pytest.approx(3 * before[0], rel=1e-4)
    assert after[1] == pytest.approx(after[0], rel=1e-4)
    assert before[0] < after[0] < before[1]
    for one, other in zip(shaped, plain, strict=True):
        assert float(torch.cosine_similarity(one.flatten(), other.flatten(), dim=0)) == pytest.approx(1, abs=1e-5)


def test_the_cosine_is_one_where_the_gradient_is_that_of_a_smaller_lambda() -> None:
    x, x_hat = _images()
    regularizer = Regularizer(_Weighted(1, 1), RateDistortion(0.01), AlphaSchedule(0.1))
    _gradients(regularizer, x, x_hat)
    assert regularizer.read_pressure()[2] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("form", ["one_pass", "two_pass"])
def test_without_alpha_there_is_no_direction(form: str) -> None:
    x, x_hat = _images()
    regularizer = Regularizer(_Weighted(1, 1), RateDistortion(0.01), AlphaSchedule(0.1, release_at=1))
    take = regularizer if form == "one_pass" else regularizer.literal
    take(x, x_hat, 0).backward()
    assert regularizer.read_pressure()[2] > 0.5
    take(x, x_hat, 1)
    assert regularizer.read_pressure() == (0, 0, 0)


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


@pytest.mark.parametrize("constant", [False, True])
def test_minimizing_turns_the_sign_of_what_the_codec_sees_and_nothing_else(constant: bool) -> None:
    x, x_hat = _images()
    maximizing, minimizing = (_regularizer(shape=Shape(constant=constant, minimize=m)) for m in (False, True))
    up, down = (_gradients(regularizer, x, x_hat)[0] for regularizer in (maximizing, minimizing))
    assert float(up.abs().max()) > 0
    torch.testing.assert_close(down, -up)
    for one, other in zip(maximizing.source.parameters(), minimizing.source.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)
    assert maximizing.read_pressure() == minimizing.read_pressure()


@pytest.mark.parametrize("alpha", [0.05, 0.5, 5.0])
def test_pressure_is_bounded(alpha: float) -> None:
    regularizer, (x, x_hat) = _regularizer(alpha, max_pressure=0.25), _images()
    regularizer(x, x_hat, step=0).backward()
    assert x_hat.grad is not None
    grad_d = torch.linalg.vector_norm(regularizer.objective.distortion_gradient(x, x_hat))
    ratio = float(torch.linalg.vector_norm(x_hat.grad) / grad_d)
    rho, capped, _ = regularizer.read_pressure()
    assert ratio <= 0.25 * (1 + 1e-5)
    assert ratio == pytest.approx(min(rho, 0.25), rel=1e-4)
    assert capped == int(rho > 0.25)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_literal_form_has_the_same_gradient(shape: Shape) -> None:
    for max_pressure in (1e9, 0.01):
        regularizer, (x, x_hat) = _regularizer(max_pressure=max_pressure, shape=shape), _images()
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
