"""Gain units: one codec for every rate (Cui, Wang, Gao, Guo, Feng, Bai 2021).

A level of quality has a vector of gains, which y is multiplied with before quantization, and one of inverse gains,
which ŷ is multiplied with before synthesis. Between levels both are interpolated in the exponent, so that quality is a
real number. They act as hooks around g_a and g_s, so that a codec's class, and the names of its weights, stay what they
are; everything between the transforms, h_a and the contexts too, sees y with its gain.

Legend: B batch, L levels, M channels of y, h w its grid.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

NAME = "gains"  # of the child that a codec gets
_PROBE = 64  # pixels; a side that every codec here takes


def between(rows: Tensor, quality: Tensor) -> Tensor:
    """Rows of a table at real-valued positions, interpolated linearly.

    Args:
        rows: a row a level, (L, C).
        quality: from 1, the first row, to L, (B,).

    Returns:
        (B, C).
    """
    lower = (quality.floor().long() - 1).clamp(0, len(rows) - 2)
    along = (quality - 1 - lower).to(rows.dtype)[:, None]
    return (1 - along) * rows[lower] + along * rows[lower + 1]


class Gains(nn.Module):
    """Gains and inverse gains by level; the levels' λ go with them.

    ::

        x ──► g_a ──(× gain)──► y ──► quantized, coded ──► ŷ ──(× inverse gain)──► g_s ──► x̂

    Args:
        channels: M.
        lambdas: λ of each level, rising, (L,).
        first, last: gains of the first and the last level before training, all channels alike; the levels between
            follow geometrically.

    Raises:
        ValueError: fewer than two levels, λ that do not rise from above 0, or a gain that is not above 0.
    """

    lambdas: Tensor

    def __init__(self, channels: int, lambdas: Sequence[float], first: float = 1.0, last: float = 1.0) -> None:
        super().__init__()
        values = [float(v) for v in lambdas]
        if len(values) < 2 or not all(0 < a < b < math.inf for a, b in pairwise(values)):
            raise ValueError(f"`rate.lambdas` (={values}) must be at least two numbers above 0, in rising order")
        if not (first > 0 and last > 0):
            raise ValueError(f"`rate.gains` (={[first, last]}) must be two numbers greater than 0")
        logs = torch.linspace(math.log(first), math.log(last), len(values)).repeat_interleave(channels)
        # Flat, so that no optimizer takes them for the matrix of a layer.
        self.log_gain = nn.Parameter(logs)  # (L·M,)
        self.log_inverse = nn.Parameter(-logs)
        self.register_buffer("lambdas", torch.tensor(values, dtype=torch.float64))
        self._quality = torch.tensor([(1 + len(values)) / 2])

    @property
    def levels(self) -> int:
        """L; quality goes from 1 to L."""
        return len(self.lambdas)

    def set(self, quality: Tensor) -> None:
        """Set the quality of what is coded next: of each image of the batch, (B,), or of all of them, (1,)."""
        self._quality = quality

    def check(self, quality: float) -> float:
        """`quality` itself.

        Raises:
            ValueError: it is not a number from 1 to L.
        """
        if isinstance(quality, bool) or not isinstance(quality, int | float) or not 1 <= quality <= self.levels:
            raise ValueError(f"`quality` (={quality}) must be a number from 1 to {self.levels}, the codec's levels")
        return quality

    def lmbda(self, quality: float) -> float:
        """λ at a real-valued quality, interpolated in the exponent as the gains are."""
        at = torch.tensor([self.check(quality)], dtype=torch.float64)
        return float(between(self.lambdas.log()[:, None], at.to(self.lambdas.device)).exp())

    def factors(self) -> tuple[Tensor, Tensor]:
        """Gains and inverse gains of the quality that is set, of one image, each (M,)."""
        like = torch.empty(1, 0)
        gain, inverse = (self._factor(logs, like) for logs in (self.log_gain, self.log_inverse))
        return gain.flatten(), inverse.flatten()

    def _factor(self, logs: Tensor, y: Tensor) -> Tensor:
        """(B or 1, M, 1, 1), float32."""
        if len(self._quality) not in (1, len(y)):
            raise ValueError(f"{len(self._quality)} qualities are set for a batch of {len(y)} images")
        rows = logs.float().view(self.levels, -1)
        return between(rows, self._quality.to(logs.device))[:, :, None, None].exp()

    def _after_analysis(self, module: nn.Module, args: Any, y: Tensor) -> Tensor:
        del module, args
        return y * self._factor(self.log_gain, y)

    def _before_synthesis(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        del module
        y_hat, *rest = args
        return y_hat * self._factor(self.log_inverse, y_hat), *rest


def install(codec: nn.Module, lambdas: Sequence[float], first: float = 1.0, last: float = 1.0) -> Gains:
    """Give `codec`, in place, gains around its g_a and g_s, as its child `gains`.

    Args:
        codec: of any class with transforms g_a and g_s.
        lambdas, first, last: see `Gains`.

    Raises:
        ValueError: the codec has no such transforms or has a child of that name, or see `Gains`.
    """
    g_a, g_s = getattr(codec, "g_a", None), getattr(codec, "g_s", None)
    if not isinstance(g_a, nn.Module) or not isinstance(g_s, nn.Module):
        raise ValueError(
            f"`rate` (=variable) needs a codec with transforms `g_a` and `g_s`, which {type(codec).__name__} lacks"
        )
    if hasattr(codec, NAME):
        raise ValueError(f"`rate` (=variable): {type(codec).__name__} has an attribute `{NAME}` already")
    like = next(g_a.parameters())
    with torch.no_grad():
        channels = g_a(torch.zeros(1, 3, _PROBE, _PROBE, device=like.device, dtype=like.dtype)).shape[1]
    gains = Gains(channels, lambdas, first, last).to(like.device)
    codec.add_module(NAME, gains)
    g_a.register_forward_hook(gains._after_analysis)  # pyright: ignore[reportPrivateUsage]
    g_s.register_forward_pre_hook(gains._before_synthesis)  # pyright: ignore[reportPrivateUsage]
    return gains


def gains_of(codec: nn.Module) -> Gains | None:
    """The gains of a codec of variable rate; None of another."""
    found = getattr(codec, NAME, None)
    return found if isinstance(found, Gains) else None


@contextmanager
def at_quality(codec: nn.Module, quality: float | None) -> Iterator[None]:
    """Within it, `codec` codes at `quality`, every image alike.

    Raises:
        ValueError: the codec needs a quality and none is given, or the other way round, or it is out of range.
    """
    gains = gains_of(codec)
    if gains is None:
        if quality is not None:
            raise ValueError(f"`quality` (={quality}) must be left out: the codec has one quality, it has no gains")
        yield
        return
    if quality is None:
        raise ValueError(f"`quality` must be given, a number from 1 to {gains.levels}: the codec is of variable rate")
    before = gains._quality  # pyright: ignore[reportPrivateUsage]
    gains.set(torch.tensor([gains.check(quality)]))
    try:
        yield
    finally:
        gains.set(before)
