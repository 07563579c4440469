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
_SQRT_HALF = math.sqrt(0.5)
_SQRT_2_OVER_PI = math.sqrt(2 / math.pi)
_INV_SQRT_2PI = 1 / math.sqrt(2 * math.pi)
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
    """log(Φ(upper) - Φ(lower)) and its gradient, both exact thousands of σ away from the mean.

    Φ(-t) = ½ erfcx(t/√2) e^(-t²/2) for t ≥ 0, where erfcx varies slowly: ratios of Φ and of the density φ to Φ are
    taken of erfcx, and the exponents' difference as (l-u)(l+u)/2, so that no two huge numbers are subtracted.
    """

    @staticmethod
    def forward(ctx: Any, v: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
        lower, upper, sign = _bin(v, mean, scale)
        erfcx_lower = torch.special.erfcx(lower.neg() * _SQRT_HALF)
        erfcx_upper = torch.special.erfcx(upper.abs() * _SQRT_HALF)
        half_square = 0.5 * upper * upper
        density = torch.exp(-half_square)  # φ(upper)·√2π
        inside = upper >= 0  # the bin holds the mean: Φ(upper) ≥ ½
        below = 1 - 0.5 * erfcx_upper * density
        log_upper = torch.where(inside, torch.log(below), torch.log(0.5 * erfcx_upper) - half_square)
        log_ratio = torch.where(
            inside,
            torch.log(0.5 * erfcx_lower) - 0.5 * lower * lower - log_upper,
            torch.log(erfcx_lower / erfcx_upper) - 0.5 * (upper - lower) * -(upper + lower),
        )
        rest = -torch.expm1(log_ratio)  # mass / Φ(upper)
        at_lower = _SQRT_2_OVER_PI / erfcx_lower * torch.exp(log_ratio) / rest  # φ(lower) / mass
        at_upper = torch.where(inside, density / below * _INV_SQRT_2PI, _SQRT_2_OVER_PI / erfcx_upper) / rest
        ctx.save_for_backward(sign * (at_lower - at_upper) / scale, (lower * at_lower - upper * at_upper) / scale)
        return log_upper + torch.log(rest)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor, Tensor]:
        by_mean, by_scale = ctx.saved_tensors
        return None, grads[0] * by_mean, grads[0] * by_scale


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
