"""The regularizer -α H_θ(X|X̂) as a term of one loss: schedule of α, reversed gradient, pressure.

The codec should raise H_θ, the source entropy model should lower it, both by gradients at the same point. So H_θ is
added to the loss once, and its gradient is turned round (times -α) where it enters x̂: one backward pass serves both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from regicomp import collective
from regicomp.objective import RateDistortion
from regicomp.phases import Phases


class AlphaSchedule(NamedTuple):
    """α by codec step: 0 during the warm-up, then a linear rise, then constant, or what the run's phases say."""

    alpha: float
    warmup_steps: int = 0
    ramp_steps: int = 0
    phases: Phases | None = None  # α of each phase in place of `alpha`

    def at(self, step: int) -> float:
        """α of codec update `step`, counted from 0."""
        if step < self.warmup_steps:
            return 0.0
        alpha = self.alpha if self.phases is None else self.phases.at(step).alpha
        return alpha * min(1.0, (step - self.warmup_steps + 1) / (self.ramp_steps + 1))


class Pressure(NamedTuple):
    """How hard the regularizer pushes x̂ against the distortion's pull, scalars."""

    rho: Tensor  # ρ = α‖∂H/∂x̂‖ / (λ‖∂D/∂x̂‖), before the bound
    scale: Tensor  # what the reversed gradient is multiplied with besides -α: 1, or max_pressure / ρ


def pressure(push: Tensor, pull: Tensor, alpha: float, max_pressure: float) -> Pressure:
    """Pressure of the gradient `push` = ∂H/∂x̂ against `pull` = λ∂D/∂x̂, and the factor that bounds it.

    The norms are over the batch of all processes. No value is read back from the device.
    """
    tiny = torch.finfo(torch.float32).tiny
    rho = alpha * collective.norm(push) / collective.norm(pull).clamp_min(tiny)
    return Pressure(rho, (max_pressure / rho.clamp_min(tiny)).clamp_max(1.0))


class _Reverse(torch.autograd.Function):
    """Identity forward; backward multiplies with -α and bounds the pressure."""

    @staticmethod
    def forward(
        ctx: Any,
        x_hat: Tensor,
        pull: Tensor,
        alpha: float,
        max_pressure: float,
        record: Callable[[Pressure], None],
    ) -> Tensor:
        ctx.save_for_backward(pull)
        ctx.alpha, ctx.max_pressure, ctx.record = alpha, max_pressure, record
        return x_hat.view_as(x_hat)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None, None]:
        (pull,) = ctx.saved_tensors
        found = pressure(grads[0], pull, ctx.alpha, ctx.max_pressure)
        ctx.record(found)
        return (-ctx.alpha * found.scale).to(grads[0].dtype) * grads[0], None, None, None, None


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
    """

    capped: Tensor
    rho: Tensor

    def __init__(
        self, source: nn.Module, objective: RateDistortion, schedule: AlphaSchedule, max_pressure: float = 1.0
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
        self.lowering = 1.0  # what a numerical guard multiplies α with
        self.register_buffer("capped", torch.zeros(()))  # updates in which the bound acted, so far
        self.register_buffer("rho", torch.zeros(()))  # ρ of the latest update; 0 where α was 0

    def alpha_at(self, step: int) -> float:
        """α in force at codec update `step`."""
        return self.lowering * self.schedule.at(step)

    def read_pressure(self) -> tuple[float, int]:
        """ρ of the latest update and the number of updates so far in which the bound acted. Waits for the device."""
        return float(self.rho), int(self.capped)

    def _record(self, found: Pressure) -> None:
        """Keep on the device what `read_pressure` will read; no value is read back here."""
        self.rho.copy_(found.rho)
        self.capped.add_(found.scale < 1)

    def forward(self, x: Tensor, x_hat: Tensor, step: int) -> Tensor:
        """H_θ in bits per pixel, to be added to the loss: θ descends it, the codec sees -α times its gradient.

        Args:
            x, x_hat: source and reconstruction, (B, 3, H, W), in [0, 1].
            step: codec update, from 0.
        """
        alpha = self.alpha_at(step)
        if alpha == 0:
            self.rho.zero_()
            return self.source(x, x_hat.detach())
        pull = self.objective.pull(x, x_hat)
        return self.source(x, _Reverse.apply(x_hat, pull, alpha, self.max_pressure, self._record))

    def literal(self, x: Tensor, x_hat: Tensor, step: int) -> Tensor:
        """-α H_θ in bits per pixel as it stands in the objective, for the two-pass forms: θ must be held fixed.

        The bound on the pressure needs ∂H/∂x̂, which is taken first; then α carries the factor.
        """
        alpha = self.alpha_at(step)
        if alpha == 0:
            self.rho.zero_()
            return torch.zeros((), device=x.device)
        entropy = self.source(x, x_hat)
        (push,) = torch.autograd.grad(entropy, x_hat, retain_graph=True)
        found = pressure(push, self.objective.pull(x, x_hat), alpha, self.max_pressure)
        self._record(found)
        return -alpha * found.scale * entropy
