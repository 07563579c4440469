"""The regularizer -α H_θ(X|X̂) as a term of one loss: schedule of α, reversed gradient and its shape, pressure.

The codec should raise H_θ, the source entropy model should lower it, both by gradients at the same point. So H_θ is
added to the loss once, and its gradient is reversed (times -α) where it enters x̂: one backward pass serves both.
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
    """Changes of the regularizer gradient ∂H/∂x̂ before it is reversed; by default none."""

    project: bool = False  # remove its component parallel to the distortion gradient, which acts like a smaller λ
    per_image: bool = False  # the same pressure on every image of the batch as on the batch as a whole
    by_scale: bool = False  # bound the pressure in each scale, image and colour: where D does not see them alike
    apart: bool = False  # every image has its own pressure and bound, as where each has its own λ
    constant: bool = False  # the pressure is α: the regularizer gradient is scaled so that ρ equals it
    minimize: bool = False  # the codec lowers H_θ as q_θ does, against the paper: +α H_θ, a likelihood term beside λD

    @property
    def sign(self) -> float:
        """Of α H_θ in the codec's loss."""
        return 1.0 if self.minimize else -1.0

    shares: Tensor | None = None  # of α in each image, (B,), where levels differ in it

    @property
    def changes_direction(self) -> bool:
        """Whether the regularizer gradient of a batch is changed by more than one factor."""
        return self.project or self.per_image or self.by_scale or self.apart

    def of(self, grad_h: Tensor, grad_d: Tensor) -> Tensor:
        """The shaped regularizer gradient.

        Args:
            grad_h: ∂H/∂x̂, (B, 3, H, W).
            grad_d: λ∂D/∂x̂, same shape.
        """
        if self.shares is not None:
            grad_h = grad_h * self.shares.view(-1, 1, 1, 1).to(grad_h.dtype)
        if self.project:
            grad_h = (
                grad_h - collectives.dot(grad_h, grad_d) / collectives.dot(grad_d, grad_d).clamp_min(_TINY) * grad_d
            )
        if self.per_image:
            norms_h, norms_d = (
                torch.linalg.vector_norm(g.float(), dim=(1, 2, 3), keepdim=True) for g in (grad_h, grad_d)
            )
            rho = collectives.norm(grad_h) / collectives.norm(grad_d).clamp_min(_TINY)
            grad_h = grad_h * (rho * norms_d / norms_h.clamp_min(_TINY)).to(grad_h.dtype)
        return grad_h


NO_SHAPE = Shape()


class Pressure(NamedTuple):
    """The regularizer gradient against the distortion gradient, scalars."""

    rho: Tensor  # ρ = α‖∂H/∂x̂‖ / (λ‖∂D/∂x̂‖) before the bound; of `apart` images the mean
    scale: Tensor  # factor of the reversed gradient besides -α: 1, or max_pressure / ρ; or (B, 1, 1, 1)
    bounded: Tensor  # share of the batch on which the bound acts, 0 to 1
    cosine: Tensor  # of both gradients, unshaped; at 1, -αH_θ acts like a smaller λ


_TINY = torch.finfo(torch.float32).tiny


def pressure(
    grad_h: Tensor, grad_d: Tensor, alpha: float, max_pressure: float, shape: Shape
) -> tuple[Tensor, Pressure]:
    """The shaped regularizer gradient, its pressure, and the factor that bounds the pressure.

    The norms are over the batch of all processes, or of each image where the shape has them apart. No value is read
    back from the device.

    Args:
        grad_h: ∂H/∂x̂, (B, 3, H, W).
        grad_d: λ∂D/∂x̂, same shape.
        alpha: α in force; the pressure itself where the shape has it constant.
        max_pressure: bound on ρ.
        shape: changes of the regularizer gradient.
    """
    shaped, against = shape.of(grad_h, grad_d), collectives.norm(grad_d).clamp_min(_TINY)
    cosine = collectives.dot(grad_h, grad_d) / (collectives.norm(grad_h) * against).clamp_min(_TINY)
    if shape.apart:
        length, norms_d = (torch.linalg.vector_norm(g.float(), dim=(1, 2, 3), keepdim=True) for g in (shaped, grad_d))
        against = norms_d.clamp_min(_TINY)
    else:
        length = collectives.norm(shaped)
    rho = alpha * length / against
    scale = (max_pressure / rho.clamp_min(_TINY)).clamp_max(1.0)
    if shape.constant:
        scale = min(alpha, max_pressure) / rho.clamp_min(_TINY)
        rho = torch.full_like(rho, alpha)
    if shape.by_scale:
        shaped = scales.bounded(shaped * scale if shape.constant else shaped, grad_d, alpha, max_pressure)
        scale = torch.ones_like(scale)
    bounded = rho > max_pressure
    if shape.apart:
        rho, bounded = (collectives.total(v.float().mean()) / collectives.world() for v in (rho, bounded))
    return shaped, Pressure(rho, scale, bounded, cosine)


class _Reverse(torch.autograd.Function):
    """Identity forward; backward shapes the gradient, multiplies it with -α, or α, and bounds the pressure."""

    @staticmethod
    def forward(
        ctx: Any,
        x_hat: Tensor,
        grad_d: Tensor,
        alpha: float,
        max_pressure: float,
        shape: Shape,
        record: Callable[[Pressure], None],
    ) -> Tensor:
        ctx.save_for_backward(grad_d)
        ctx.alpha, ctx.max_pressure, ctx.shape, ctx.record = alpha, max_pressure, shape, record
        return x_hat.view_as(x_hat)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        (grad_d,) = ctx.saved_tensors
        shaped, found = pressure(grads[0], grad_d, ctx.alpha, ctx.max_pressure, ctx.shape)
        ctx.record(found)
        return (ctx.shape.sign * ctx.alpha * found.scale).to(shaped.dtype) * shaped, None, None, None, None, None


class Regularizer(nn.Module):
    """The term that makes any loss R + λD a regularized one.

    In a plain loop, with one optimizer for the codec and one for `regularizer.source`::

        out = codec(x)
        terms = objective.terms(x, out["x_hat"], out["likelihoods"].values())
        (terms.loss + regularizer(x, out["x_hat"], step)).backward()

    Args:
        source: the source entropy model q_θ, called as `source(x, x_hat)` for bits per pixel.
        objective: gives the distortion gradient λ∂D/∂x̂, to which pressure relates.
        schedule: α by codec step.
        max_pressure: bound on ρ.
        shape: changes of the regularizer gradient ∂H/∂x̂ before it is reversed.
    """

    capped: Tensor
    rho: Tensor
    cosine: Tensor

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
        self.register_buffer("cosine", torch.zeros(()), persistent=False)  # of the latest update; see Pressure

    def alpha_at(self, step: int) -> float:
        """α in force at codec update `step`."""
        return self.lowering * self.schedule.at(step)

    def read_pressure(self) -> tuple[float, int, float]:
        """ρ of the latest update, how often the bound has acted so far, `Pressure.cosine`. Waits for the device."""
        return float(self.rho), int(self.capped), float(self.cosine)

    @property
    def _shape_now(self) -> Shape:
        """The shape for the images that the objective weighs now."""
        return self.shape._replace(shares=self.objective.shares)

    def _record(self, found: Pressure) -> None:
        """Keep on the device what `read_pressure` will read; no value is read back here."""
        self.rho.copy_(found.rho)
        self.cosine.copy_(found.cosine)
        self.capped.add_(found.bounded)

    def _record_nothing(self) -> None:
        self.rho.zero_()
        self.cosine.zero_()

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
        grad_d = self.objective.distortion_gradient(x, x_hat)
        reversed_ = _Reverse.apply(x_hat, grad_d, alpha, self.max_pressure, self._shape_now, self._record)
        return self.source(x, reversed_)

    def reversed(self, grad_h: Tensor, grad_d: Tensor, step: int) -> Tensor:
        """The gradient that the codec sees at x̂ in place of ∂H/∂x̂, which is known already: shaped, bounded, times -α.

        Args:
            grad_h: ∂H/∂x̂ of the update's whole batch, (B, 3, H, W).
            grad_d: λ∂D/∂x̂, same shape.
            step: codec update, from 0.
        """
        alpha = self.alpha_at(step)
        shaped, found = pressure(grad_h, grad_d, alpha, self.max_pressure, self._shape_now)
        self._record(found)
        return (self.shape.sign * alpha * found.scale).to(shaped.dtype) * shaped

    def literal(self, x: Tensor, x_hat: Tensor, step: int) -> Tensor:
        """-α H_θ in bits per pixel as it stands in the objective, for the two-pass forms: θ must be held fixed.

        The bound on the pressure and the shape need ∂H/∂x̂, which is taken first. Then α carries the bound's factor,
        and a shaped gradient replaces that of H_θ.
        """
        alpha = self.alpha_at(step)
        if alpha == 0:
            self._record_nothing()
            return torch.zeros((), device=x.device)
        entropy = self.source(x, x_hat)
        (grad_h,) = torch.autograd.grad(entropy, x_hat, retain_graph=True)
        shaped, found = pressure(
            grad_h, self.objective.distortion_gradient(x, x_hat), alpha, self.max_pressure, self._shape_now
        )
        self._record(found)
        if not self.shape.changes_direction:
            return self.shape.sign * alpha * found.scale * entropy
        return self.shape.sign * alpha * (entropy.detach() + (found.scale * shaped * (x_hat - x_hat.detach())).sum())
