"""Curves of entropy against distortion, compared at equal distortion, with intervals over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

_POINTS = 200  # at which two curves are compared
_RESAMPLES = 10_000


class Interval(NamedTuple):
    """A mean over seeds and its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float

    def text(self, digits: int = 3) -> str:
        """As in the tables."""
        return f"{self.mean:+.{digits}f} [{self.low:+.{digits}f}, {self.high:+.{digits}f}]"


class Curve(NamedTuple):
    """One seed's points over λ."""

    mse_255: NDArray[np.float64]
    bits: NDArray[np.float64]


def curve(rows: Sequence[dict[str, Any]], quantity: str) -> Curve:
    """The rows' points by rising distortion."""
    return _by_distortion([row["mse_255"] for row in rows], [row[quantity] for row in rows])


def _by_distortion(mse_255: Sequence[float], bits: Sequence[float]) -> Curve:
    points = sorted(zip(mse_255, bits, strict=True))
    return Curve(np.array([p[0] for p in points]), np.array([p[1] for p in points]))


class Difference(NamedTuple):
    """Distance by which one curve lies above another over the distortions that both span."""

    bits: float  # mean difference
    percent: float  # of the baseline's mean


def difference(baseline: Curve, other: Curve) -> Difference:
    """Mean vertical distance of two curves, each linear in log D between its points.

    Raises:
        ValueError: the curves span no common distortion.
    """
    low = max(baseline.mse_255[0], other.mse_255[0])
    high = min(baseline.mse_255[-1], other.mse_255[-1])
    if not low < high:
        raise ValueError(f"the curves share no distortion: one ends at {high:.3g}, the other begins at {low:.3g}")
    at = np.linspace(np.log(low), np.log(high), _POINTS)
    one, two = (np.interp(at, np.log(c.mse_255), c.bits) for c in (baseline, other))
    bits = float(np.mean(two - one))
    return Difference(bits, 100 * bits / float(np.mean(one)))


def interval(groups: Sequence[Sequence[float]], seed: int = 0) -> Interval:
    """Mean over groups of each group's mean over seeds; seeds are resampled within each group (percentiles)."""
    generator = np.random.default_rng(seed)
    means = np.zeros(_RESAMPLES)
    for group in groups:
        values = np.asarray(group, dtype=np.float64)
        means += values[generator.integers(0, len(values), (_RESAMPLES, len(values)))].mean(1) / len(groups)
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float(np.mean([np.mean(group) for group in groups])), float(low), float(high))


class Comparison(NamedTuple):
    """The effect of α at equal distortion, one number a seed."""

    source: str
    alpha: float
    bits: list[float]
    percent: list[float]


def compare(rows: Sequence[dict[str, Any]], quantity: str) -> list[Comparison]:
    """Each source and each α > 0 against α = 0, seed by seed.

    Args:
        rows: of the sweep, the last step of every member.
        quantity: column whose bits are compared, "h_u" or "rate".
    """
    found: list[Comparison] = []
    seeds = sorted({row["seed"] for row in rows})
    for source in dict.fromkeys(row["source"] for row in rows):
        for alpha in sorted({row["alpha"] for row in rows} - {0.0}):
            pairs = []
            for seed in seeds:
                mine = [row for row in rows if row["source"] == source and row["seed"] == seed]
                pair = (curve([row for row in mine if row["alpha"] == a], quantity) for a in (0.0, alpha))
                pairs.append(difference(*pair))
            found.append(Comparison(source, alpha, [p.bits for p in pairs], [p.percent for p in pairs]))
    return found


def interpolation_error(rows: Sequence[dict[str, Any]], quantity: str, alpha: float) -> float:
    """Largest percentage, over sources, that the comparison would report if α had no effect but λ/(1+α).

    The plain curve is compared with itself at points moved to λ/(1+α), interpolated monotonically in log λ.
    """
    found = []
    for source in dict.fromkeys(row["source"] for row in rows):
        percents = []
        for seed in sorted({row["seed"] for row in rows}):
            wanted = {"source": source, "seed": seed, "alpha": 0.0}
            mine = [row for row in rows if all(row[key] == value for key, value in wanted.items())]
            plain = sorted((row["lmbda"], row["mse_255"], row[quantity]) for row in mine)
            log_lmbda, log_d, bits = np.array([(np.log(a), np.log(b), c) for a, b, c in plain]).T
            at = log_lmbda[1:] - np.log(1 + alpha)
            # After few updates D may still rise with λ, so the moved points are sorted like the others.
            moved_d, moved_bits = (
                np.exp(PchipInterpolator(log_lmbda, log_d)(at)),
                PchipInterpolator(log_lmbda, bits)(at),
            )
            moved = _by_distortion(moved_d.tolist(), moved_bits.tolist())
            percents.append(difference(curve(mine, quantity), moved).percent)
        found.append(abs(float(np.mean(percents))))
    return max(found)
