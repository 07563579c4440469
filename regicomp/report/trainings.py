"""How far trainings of the same thing lie apart, and what that leaves of a BD-rate: intervals over trainings.

Training is chaotic: two runs that differ in the last digit of a weight end in different codecs. So a BD-rate of one
training against another holds the effect sought and the noise of both. The bootstrap over images (comparison.py) does
not see the latter, and over two or three seeds it underestimates it; here it is estimated by Student's t.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from regicomp.report import bd_rate
from regicomp.report.curves import METRICS, Curve, Metric
from regicomp.report.records import Family

AIM = 0.5  # percent: half of the interval over trainings that a comparison should have
_MOST = 1000  # trainings, up to which the number that reaches AIM is looked for


class OverTrainings(NamedTuple):
    """Mean of the BD-rates of single trainings, in percent, with its 95 % interval by Student's t."""

    percent: float
    low: float
    high: float
    trainings: int


def over_trainings(percents: Sequence[float | None]) -> OverTrainings | None:
    """The mean of BD-rates by seed with its interval; None with fewer than two, or where one of them is missing.

    Args:
        percents: BD-rate of each seed's pair of trainings.
    """
    values = [value for value in percents if value is not None]
    if len(values) < 2 or len(values) < len(percents):
        return None
    mean, half = float(np.mean(values)), _half(float(np.std(values, ddof=1)), len(values))
    return OverTrainings(mean, mean - half, mean + half, len(values))


def _half(deviation: float, count: int) -> float:
    """Half of the 95 % interval of the mean of `count` values that have this standard deviation."""
    from scipy.stats import t  # slow to load

    return float(t.ppf(0.975, count - 1)) * deviation / math.sqrt(count)


class Spread(NamedTuple):
    """Trainings of one family, which differ in the seed alone, against each other on a test set."""

    family: Family
    testset: str
    metric: Metric
    seeds: tuple[int, ...]
    largest: float | None  # BD-rate in percent of the best training against the worst, as a positive number
    deviation: float | None  # standard deviation of one training, in percent of its rate
    needed: int | None  # trainings of each of two families for an interval of ± AIM of their BD-rate
    problems: tuple[str, ...]  # reasons why there is no number


def spreads(curves: Iterable[Curve], method: bd_rate.Method, min_span: float) -> list[Spread]:
    """The spread of every family with at least two seeds, on every test set, by every metric that was measured."""
    curves = list(curves)
    return [
        spread(curve, metric, method, min_span)
        for metric in METRICS
        for curve in curves
        if len(curve.seeds) > 1 and np.isfinite(getattr(curve, metric)).any()
    ]


def spread(curve: Curve, metric: Metric, method: bd_rate.Method, min_span: float) -> Spread:
    """How far a family's trainings lie apart: BD-rates between all pairs of its seeds.

    With d_ij the logarithm of the rate of j relative to i, the mean of d_ij over all j, i itself included, is minus i's
    deviation from the mean training, from which the standard deviation follows.

    Args:
        curve: of at least two seeds.
        metric: of the quality at which rates are compared.
        method: of interpolation.
        min_span: dB that each training's curve must span (bd_rate.problems).
    """
    points = [curve.of_seeds([seed]).points(metric) for seed in curve.seeds]
    problems = [
        f"seeds {a} and {b}: {said}"
        for (a, p), (b, q) in itertools.combinations(zip(curve.seeds, points, strict=True), 2)
        for said in bd_rate.problems(p, q, min_span)
    ]
    blank = Spread(curve.family, curve.testset, metric, curve.seeds, None, None, None, tuple(problems))
    if problems:
        return blank
    count = len(points)
    logs = np.zeros((count, count))
    for i, j in itertools.combinations(range(count), 2):
        logs[i, j] = math.log1p(bd_rate.bd_rate(points[i], points[j], method) / 100)
        logs[j, i] = -logs[i, j]
    deviation = float(np.std(logs.mean(axis=1), ddof=1))
    return blank._replace(
        largest=100 * math.expm1(float(np.abs(logs).max())),
        deviation=100 * deviation,
        needed=_needed(100 * deviation * math.sqrt(2)),
    )


def _needed(deviation: float) -> int | None:
    """The least number of values of this standard deviation whose mean has an interval of ± AIM."""
    return next((n for n in range(2, _MOST) if _half(deviation, n) <= AIM), None)
