"""Discretized densities on the grey levels 0..255, and their bits.

`v` is an integer grey level, `mean` and `scale` are in grey levels; all three broadcast. The mass of v is the
density's integral over [v-½, v+½]; everything below ½ belongs to 0 and everything above 254½ to 255, so that the
256 masses sum to one exactly. Computed in float32 (or wider) in log space: far in the tails the mass is smaller than
any float, but its logarithm and its gradient are ordinary numbers.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

LEVELS = 256
_LOG2_E = 1 / math.log(2)
_LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)
# Stands for an infinite bound: far enough for a mass of one, near enough that its square is finite in float32.
_FAR = 1e9


class _Bin(NamedTuple):
    """Standardized ends of v's bin, mirrored at the mean so that |lower| ≥ |upper|: the tail where Φ is exact."""

    lower: Tensor
    upper: Tensor
    sign: Tensor  # -1 where mirrored, else 1


def _bin(v: Tensor, mean: Tensor, scale: Tensor) -> _Bin:
    offset = v - mean
    lower = torch.where(v <= 0, -_FAR, (offset - 0.5) / scale)
    upper = torch.where(v >= LEVELS - 1, _FAR, (offset + 0.5) / scale)
    mirrored = lower + upper > 0
    return _Bin(
        torch.where(mirrored, -upper, lower),
        torch.where(mirrored, -lower, upper),
        torch.where(mirrored, -1.0, 1.0),
    )


class _GaussianLogMass(torch.autograd.Function):
    """log(Φ(upper) - Φ(lower)) with its analytic gradient, which no automatic one keeps finite far in the tails."""

    @staticmethod
    def forward(ctx: Any, v: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
        bin = _bin(v, mean, scale)
        log_upper = torch.special.log_ndtr(bin.upper)
        log_ratio = torch.special.log_ndtr(bin.lower) - log_upper
        log_mass = log_upper + torch.log(-torch.expm1(log_ratio))
        ctx.save_for_backward(*bin, scale, log_mass)
        return log_mass

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor, Tensor]:
        lower, upper, sign, scale, log_mass = ctx.saved_tensors
        at_lower = torch.exp(-0.5 * lower * lower - _LOG_SQRT_2PI - log_mass)  # φ(lower) / mass
        at_upper = torch.exp(-0.5 * upper * upper - _LOG_SQRT_2PI - log_mass)
        by_standardized = grads[0] / scale
        by_mean = by_standardized * sign * (at_lower - at_upper)
        by_scale = by_standardized * (lower * at_lower - upper * at_upper)
        return None, by_mean, by_scale


def _logistic_log_mass(v: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    """log(S(b) - S(a)) for the logistic function S, by S(b) - S(a) = S(b)·S(-a)·(1 - e^(a-b))."""
    bin = _bin(v, mean, scale)
    return F.logsigmoid(bin.upper) + F.logsigmoid(-bin.lower) + torch.log(-torch.expm1(bin.lower - bin.upper))


DENSITIES = ("gaussian", "logistic")


def bits(v: Tensor, mean: Tensor, scale: Tensor, density: str = "gaussian") -> Tensor:
    """Bits -log2 q(v) of integer grey levels under a discretized density with folded tails.

    Args:
        v: grey levels 0..255, any shape.
        mean, scale: location and scale in grey levels, broadcastable to `v`; scale > 0.
        density: "gaussian" (scale is σ) or "logistic" (scale is s, with σ = s·π/√3).

    Returns:
        Bits, shape of `v`, float32 (float64 if the parameters are), whatever autocast is on.

    Raises:
        ValueError: `density` is not one of the two.
    """
    if density not in DENSITIES:
        raise ValueError(f"`density` (={density}) must be one of {', '.join(DENSITIES)}")
    with torch.autocast(mean.device.type, enabled=False):
        dtype = torch.promote_types(mean.dtype, torch.float32)
        v, mean, scale = torch.broadcast_tensors(v.to(dtype), mean.to(dtype), scale.to(dtype))
        log_mass = _GaussianLogMass.apply if density == "gaussian" else _logistic_log_mass
        return log_mass(v, mean, scale) * -_LOG2_E  # pyright: ignore[reportOperatorIssue, reportReturnType]
