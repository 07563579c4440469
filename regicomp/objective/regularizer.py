"""The regularizer -α H_θ(X|X̂) as a term of one loss: schedule of α, reversed gradient and its shape, pressure.

The codec should raise H_θ, the source entropy model should lower it, both by gradients at the same point. So H_θ is
added to the loss once, and its gradient is turned round (times -α) where it enters x̂: one backward pass serves both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from regicomp.config.phases import Phases
from regicomp.distributed import collectives
from regicomp.objective import scales
from regicomp.objective.rate_distortion import RateDistortion


class AlphaSchedule(NamedTuple):
    """α by codec step: 0 during the warm-up, a linear rise, constant or what the phases say, and 0 after a release."""

    alpha: float
    warmup_steps: int = 0
    ramp_steps: int = 0
    phases: Phases | None = None  # α of each phase in place of `alpha`
    release_at: int | None = None  # the first update of the end with α = 0, to which it falls as it rose; None: no end

    def at(self, step: int) -> float:
        """α of codec update `step`, counted from 0."""
        if step < self.warmup_steps:
            return 0.0
        alpha = self.alpha if self.phases is None else self.phases.at(step).alpha
        left = self.ramp_steps + 1 if self.release_at is None else max(0, self.release_at - step)
        return alpha * min(1.0, (step - self.warmup_steps + 1) / (self.ramp_steps + 1), left / (self.ramp_steps + 1))


class Shape(NamedTuple):
    """What is made of the push ∂H/∂x̂ before it is turned round; by default nothing."""

    project: bool = False  # take out its component along the pull, which alone does what a smaller λ does
    per_image: bool = False  # press every image of the batch as hard as the batch as a whole
    by_scale: bool = False  # bound the pressure in each scale, image and colour: where D does not see them alike
    apart: bool = False  # every image has its own pressure and bound, as where each has its own λ
    constant: bool = False  # the pressure is α: the push is made so long that ρ equals it

    @property
    def changes_the_push(self) -> bool:
        """Whether more is done to the push than to multiply all of it with one number."""
        return self.project or self.per_image or self.by_scale or self.apart

    def of(self, push: Tensor, pull: Tensor) -> Tensor:
        """The shaped push.

        Args:
            push: ∂H/∂x̂, (B, 3, H, W).
            pull: λ∂D/∂x̂, same shape.
        """
        if self.project:
            push = push - collectives.dot(push, pull) / collectives.dot(pull, pull).clamp_min(_TINY) * pull
        if self.per_image:
            pushes, pulls = (torch.linalg.vector_norm(g.float(), dim=(1, 2, 3), keepdim=True) for g in (push, pull))
            rho = collectives.norm(push) / collectives.norm(pull).clamp_min(_TINY)
            push = push * (rho * pulls / pushes.clamp_min(_TINY)).to(push.dtype)
        return push


NO_SHAPE = Shape()


class Pressure(NamedTuple):
    """How hard the regularizer pushes x̂ against the distortion's pull, scalars."""

    rho: Tensor  # ρ = α‖∂H/∂x̂‖ / (λ‖∂D/∂x̂‖) of the shaped push, before the bound; the mean of images that are apart
    scale: Tensor  # what the reversed gradient is multiplied with besides -α: 1, or max_pressure / ρ; or (B, 1, 1, 1)
    bounded: Tensor  # how much of the batch the bound acts on, 0 to 1
    along: Tensor  # cosine of the unshaped push and the pull; where it is 1, -αH_θ does what a smaller λ does


_TINY = torch.finfo(torch.float32).tiny


def pressure(push: Tensor, pull: Tensor, alpha: float, max_pressure: float, shape: Shape) -> tuple[Tensor, Pressure]:
    """The shaped push, its pressure against `pull` = λ∂D/∂x̂, and the factor that bounds the pressure.

    The norms are over the batch of all processes, or of each image where the shape has them apart. No value is read
    back from the device.

    Args:
        push: ∂H/∂x̂, (B, 3, H, W).
        pull: λ∂D/∂x̂, same shape.
        alpha: α in force; the pressure itself where the shape has it constant.
        max_pressure: bound on ρ.
        shape: what is made of the push.
    """
    shaped, against = shape.of(push, pull), collectives.norm(pull).clamp_min(_TINY)
    along = collectives.dot(push, pull) / (collectives.norm(push) * against).clamp_min(_TINY)
    if shape.apart:
        length, pulls = (torch.linalg.vector_norm(g.float(), dim=(1, 2, 3), keepdim=True) for g in (shaped, pull))
        against = pulls.clamp_min(_TINY)
    else:
        length = collectives.norm(shaped)
    rho = alpha * length / against
    scale = (max_pressure / rho.clamp_min(_TINY)).clamp_max(1.0)
    if shape.constant:
        scale = min(alpha, max_pressure) / rho.clamp_min(_TINY)
        rho = torch.full_like(rho, alpha)
    if shape.by_scale:
        shaped = scales.bounded(shaped * scale if shape.constant else shaped, pull, alpha, max_pressure)
        scale = torch.ones_like(scale)
    bounded = rho > max_pressure
    if shape.apart:
        rho, bounded = (collectives.total(v.float().mean()) / collectives.world() for v in (rho, bounded))
    return shaped, Pressure(rho, scale, bounded, along)


class _Reverse(torch.autograd.Function):
    """Identity forward; backward shapes the gradient, multiplies it with -α and bounds the pressure."""

    @staticmethod
    def forward(
        ctx: Any,
        x_hat: Tensor,
        pull: Tensor,
        alpha: float,
        max_pressure: float,
        shape: Shape,
        record: Callable[[Pressure], None],
    ) -> Tensor:
        ctx.save_for_backward(pull)
        ctx.alpha, ctx.max_pressure, ctx.shape, ctx.record = alpha, max_pressure, shape, record
        return x_hat.view_as(x_hat)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        (pull,) = ctx.saved_tensors
        shaped, found = pressure(grads[0], pull, ctx.alpha, ctx.max_pressure, ctx.shape)
        ctx.record(found)
        return (-ctx.alpha * found.scale).to(shaped.dtype) * shaped, None, None, None, None, None


class Regularizer(nn.Module):
    """The term that makes any loss R + λD a regularized one.

    In a plain loop, with one optimizer for the codec and one for `regularizer.source`::

        out = codec(x)
        terms = objective.terms(x, out["x_hat"], out["likelihoods"].values())
        (terms.loss + regularizer(x, out["x_hat"], step)).backward()

    Args:
        source: the source entropy model q_θ, called as `source(x, x_hat)` for bits per pixel.
        objective: gives the distortion's pull λ∂D/∂x̂, which pressure is measured against.
        schedule: α by codec step.
        max_pressure: bound on ρ.
        shape: what is made of the push ∂H/∂x̂ before it is turned round.
    """

    capped: Tensor
    rho: Tensor
    along: Tensor

    def __init__(
        self,
        source: nn.Module,
        objective: RateDistortion,
        schedule: AlphaSchedule,
        max_pressure: float = 1.0,
        shape: Shape = NO_SHAPE,
    ) -> None:
        super().__init__()
        if schedule.alpha < 0:
            raise ValueError(f"`reg.alpha` (={schedule.alpha}) must be a finite number of at least 0")
        if not max_pressure > 0:
            raise ValueError(f"`reg.max_pressure` (={max_pressure}) must be greater than 0")
        self.source = source
        self.objective = objective
        self.schedule = schedule
        self.max_pressure = max_pressure
        self.shape = shape._replace(by_scale=shape.by_scale or not objective.sees_scales_alike)
        self.lowering = 1.0  # what a numerical guard multiplies α with
        self.register_buffer("capped", torch.zeros(()))  # updates in which the bound acted, so far
        self.register_buffer("rho", torch.zeros(()))  # ρ of the latest update; 0 where α was 0
        self.register_buffer("along", torch.zeros(()), persistent=False)  # of the latest update; see Pressure

    def alpha_at(self, step: int) -> float:
        """α in force at codec update `step`."""
        return self.lowering * self.schedule.at(step)

    def read_pressure(self) -> tuple[float, int, float]:
        """ρ of the latest update, how often the bound has acted so far, `Pressure.along`. Waits for the device."""
        return float(self.rho), int(self.capped), float(self.along)

    def _record(self, found: Pressure) -> None:
        """Keep on the device what `read_pressure` will read; no value is read back here."""
        self.rho.copy_(found.rho)
        self.along.copy_(found.along)
        self.capped.add_(found.bounded)

    def _record_nothing(self) -> None:
        self.rho.zero_()
        self.along.zero_()

    def forward(self, x: Tensor, x_hat: Tensor, step: int) -> Tensor:
        """H_θ in bits per pixel, to be added to the loss: θ descends it, the codec sees -α times its gradient.

        Args:
            x, x_hat: source and reconstruction, (B, 3, H, W), in [0, 1].
            step: codec update, from 0.
        """
        alpha = self.alpha_at(step)
        if alpha == 0:
            self._record_nothing()
            return self.source(x, x_hat.detach())
        pull = self.objective.pull(x, x_hat)
        reversed_ = _Reverse.apply(x_hat, pull, alpha, self.max_pressure, self.shape, self._record)
        return self.source(x, reversed_)

    def reversed(self, push: Tensor, pull: Tensor, step: int) -> Tensor:
        """The gradient that the codec sees at x̂ in place of ∂H/∂x̂, which is known already: shaped, bounded, times -α.

        Args:
            push: ∂H/∂x̂ of the update's whole batch, (B, 3, H, W).
            pull: λ∂D/∂x̂, same shape.
            step: codec update, from 0.
        """
        alpha = self.alpha_at(step)
        shaped, found = pressure(push, pull, alpha, self.max_pressure, self.shape)
        self._record(found)
        return (-alpha * found.scale).to(shaped.dtype) * shaped

    def literal(self, x: Tensor, x_hat: Tensor, step: int) -> Tensor:
        """-α H_θ in bits per pixel as it stands in the objective, for the two-pass forms: θ must be held fixed.

        The bound on the pressure and the shape need ∂H/∂x̂, which is taken first. Then α carries the bound's factor,
        and a shaped push stands in for the gradient of H_θ.
        """
        alpha = self.alpha_at(step)
        if alpha == 0:
            self._record_nothing()
            return torch.zeros((), device=x.device)
        entropy = self.source(x, x_hat)
        (push,) = torch.autograd.grad(entropy, x_hat, retain_graph=True)
        shaped, found = pressure(push, self.objective.pull(x, x_hat), alpha, self.max_pressure, self.shape)
        self._record(found)
        if not self.shape.changes_the_push:
            return -alpha * found.scale * entropy
        return -alpha * (entropy.detach() + (found.scale * shaped * (x_hat - x_hat.detach())).sum())
