"""Measurements -> rate-distortion curves -> BD-rates with intervals.

The numbers of a curve: averages over images, then over seeds, at each λ. An interval comes from a paired bootstrap:
images are drawn with replacement, the same ones for both curves, and seeds too, the same ones where both curves have
them; the curves and their BD-rate are recomputed from each draw.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable
from typing import Literal, NamedTuple

import numpy as np

from regicomp.report import bd_rate
from regicomp.report.bd_rate import Array, RdCurve
from regicomp.report.curves import METRICS, TITLES, Curve, Metric
from regicomp.report.records import Family

IN_DOMAIN = ("kodak", "clic", "tecnick", "photos", "bsds500")
UNSEEN = ("screen", "satellite", "medical", "art")
PLAIN = "plain"  # the variant of families without one
_VALID_SHARE = 0.95  # of the replicates must have a BD-rate for an interval to be given


class Options(NamedTuple):
    """How curves are compared."""

    method: bd_rate.Method = "pchip"
    replicates: int = 1000
    min_span: float = bd_rate.MIN_SPAN_DB
    allow_unequal_budgets: bool = False
    in_domain: tuple[str, ...] = IN_DOMAIN
    unseen: tuple[str, ...] = UNSEEN
    anchor: str | None = None  # variant of the α = 0 families that all others are held against, PLAIN for none


def domain(testset: str, options: Options) -> Literal["in-domain", "unseen"] | None:
    """The domain of a test set, by the parts of its name ("ood/art" is art, "bsds500/test" bsds500)."""
    parts = testset.split("/")
    if any(part in options.unseen for part in parts):
        return "unseen"
    return "in-domain" if any(part in options.in_domain for part in parts) else None


class Comparison(NamedTuple):
    """A regularized family against its anchor on a test set, by one metric."""

    family: Family
    anchor: Family | None
    testset: str
    metric: Metric
    method: bd_rate.Method
    percent: float | None  # BD-rate; None where `problems` say why
    low: float | None  # 95 % bootstrap interval
    high: float | None
    other: float | None  # BD-rate by the other method
    overlap: float | None  # of the shorter curve's range of quality
    points: int
    anchor_points: int
    images: int
    seeds: tuple[int, ...]  # those compared
    by_seed: dict[int, float | None]
    problems: tuple[str, ...]  # reasons why there is no number
    notes: tuple[str, ...]  # remarks on the number
    replicates: Array | None  # BD-rates of the bootstrap, (B,)
    difference: tuple[Array, Array] | None  # quality in dB, and the difference in rate there in percent


def anchors_of(family: Family, families: Iterable[Family], variant: str | None = None) -> list[Family]:
    """The α = 0 families that a family can be compared with, the best first: without q_θ, and of the same budget.

    A family of variable rate and α = 0 is held against those of fixed rate, unless `variant` asks for one.

    Args:
        family: it is not among its own anchors.
        families: all that there are.
        variant: that the anchors must have; PLAIN for none, None for any.
    """
    alike = ("backbone", "distortion", "size")
    rate = family.rate if family.alpha > 0 or variant is not None else "fixed"
    fitting = [
        f
        for f in families
        if f.alpha == 0
        and f.rate == rate
        and all(getattr(f, name) == getattr(family, name) for name in alike)
        and (variant is None or (f != family and (f.variant or PLAIN) == variant))
    ]
    return sorted(
        fitting,
        key=lambda f: (
            len(f.budget.differences(family.budget)),
            f.variant != family.variant,
            f.variant is not None,
            f.source is not None,
            f.source != family.source,
        ),
    )


def compare(found: list[Curve], options: Options) -> list[Comparison]:
    """Every family with α > 0 against its anchor, on every test set, by every metric that was measured.

    And every family of variable rate with α = 0 against the fixed rate's, where there are any. With `options.anchor`
    every family, of whatever α, against the α = 0 family of this variant.
    """
    result: list[Comparison] = []
    by_key = {(c.family, c.testset): c for c in found}
    for metric in METRICS:
        for curve in found:
            if not np.isfinite(getattr(curve, metric)).any():
                continue
            there = [f for f, testset in by_key if testset == curve.testset]
            candidates = anchors_of(curve.family, there, options.anchor)
            alone = not candidates or (curve.family.rate == "fixed" and options.anchor is None)
            if curve.family.alpha == 0 and alone:
                continue
            anchor = by_key[candidates[0], curve.testset] if candidates else None
            result.append(_compare(anchor, curve, metric, options))
    return result


def _compare(anchor: Curve | None, test: Curve, metric: Metric, options: Options) -> Comparison:
    notes: list[str] = []
    problems: list[str] = []
    if anchor is not None and anchor.family.rate != test.family.rate:
        notes.append("one codec of variable rate against codecs of fixed rate")
    blank = Comparison(
        family=test.family,
        anchor=anchor.family if anchor else None,
        testset=test.testset,
        metric=metric,
        method=options.method,
        percent=None,
        low=None,
        high=None,
        other=None,
        overlap=None,
        points=len(test.lmbdas),
        anchor_points=len(anchor.lmbdas) if anchor else 0,
        images=len(test.images),
        seeds=test.seeds,
        by_seed={},
        problems=(),
        notes=(),
        replicates=None,
        difference=None,
    )
    if anchor is None:
        of_variant = "" if options.anchor is None else f" and the variant {options.anchor}"
        return blank._replace(problems=(f"there is no run with α = 0{of_variant} to compare it with",))
    unequal = test.family.budget.differences(anchor.family.budget) + _sizes(anchor, test)
    if unequal:
        said = f"the budgets differ: {', '.join(unequal)}"
        if options.allow_unequal_budgets:
            notes.append(said)
        else:
            problems.append(f"{said} (--allow-unequal-budgets compares them nevertheless)")
    if anchor.images != test.images:
        problems.append(f"measured on different images ({len(test.images)}, the anchor {len(anchor.images)})")
    elif anchor.values(metric)[0].shape[2] != test.values(metric)[0].shape[2]:
        problems.append(f"{TITLES[metric]} was measured on different images")
    common = tuple(seed for seed in test.seeds if seed in anchor.seeds)
    paired = bool(common)
    if paired:
        dropped = sorted(set(test.seeds).symmetric_difference(anchor.seeds))
        if dropped:
            notes.append(f"seed {', '.join(map(str, dropped))} is on one side only and left out")
        anchor, test = anchor.of_seeds(common), test.of_seeds(common)
    else:
        notes.append("no seed in common, so the seeds are not paired")
    if len(test.seeds) == 1:
        notes.append("one seed: the interval does not cover the spread between training runs")
    a, t = anchor.points(metric), test.points(metric)
    if not problems:
        problems += bd_rate.problems(a, t, options.min_span)
    blank = blank._replace(seeds=test.seeds, notes=tuple(notes))
    if problems:
        shared = bd_rate.overlap(a, t) if min(len(a.rate), len(t.rate)) > 1 else None
        return blank._replace(problems=tuple(problems), overlap=shared)
    percent, other = (bd_rate.bd_rate(a, t, m) for m in _both(options.method))
    if abs(percent - other) > 1:
        notes.append(f"the methods disagree: {' and '.join(f'{v:+.2f} %' for v in (percent, other))}")
    replicates = bootstrap(anchor, test, metric, options, paired)
    low, high, said = _interval(replicates)
    by_seed: dict[int, float | None] = {}
    for seed in common if len(common) > 1 else ():
        pair = [c.of_seeds([seed]).points(metric) for c in (anchor, test)]
        fine = not bd_rate.problems(pair[0], pair[1], options.min_span)
        by_seed[seed] = bd_rate.bd_rate(pair[0], pair[1], options.method) if fine else None
    return blank._replace(
        percent=percent,
        other=other,
        low=low,
        high=high,
        overlap=bd_rate.overlap(a, t),
        images=test.values(metric)[0].shape[2],
        by_seed=by_seed,
        notes=(*notes, *said),
        replicates=replicates,
        difference=bd_rate.difference(a, t, options.method),
    )


def _sizes(anchor: Curve, test: Curve) -> list[str]:
    """Codecs of different size at one λ are not compared either."""
    sizes = dict(zip(anchor.lmbdas, anchor.parameters, strict=True))
    for lmbda, size in zip(test.lmbdas, test.parameters, strict=True):
        known = sizes.get(lmbda)
        if known is not None and size is not None and known != size:
            return [f"parameters {size} and {known} at λ {lmbda:g}"]
    return []


def _both(method: bd_rate.Method) -> tuple[bd_rate.Method, ...]:
    return (method, *(m for m in bd_rate.METHODS if m != method))


def _weights(draws: int, count: int, key: int) -> Array:
    """Shares of each of `count` things in `draws` samples with replacement, (draws, count); the same for a key."""
    generator = np.random.default_rng([key, count])
    chosen = generator.integers(count, size=(draws, count))
    return np.stack([(chosen == k).sum(axis=1) for k in range(count)], axis=1) / count


def bootstrap(anchor: Curve, test: Curve, metric: Metric, options: Options, paired: bool = True) -> Array:
    """BD-rates in percent of `options.replicates` draws of seeds and images, (B,); NaN where a draw has none.

    The draws depend on the numbers of seeds and images and on the test set's name alone, so a result can be repeated
    and the draws of seeds are the same on every test set.
    """
    count = options.replicates
    (rate_a, quality_a), (rate_t, quality_t) = anchor.values(metric), test.values(metric)
    images = _weights(count, rate_a.shape[2], zlib.crc32(test.testset.encode()))
    seeds_a = _weights(count, rate_a.shape[0], 0)
    seeds_t = seeds_a if paired else _weights(count, rate_t.shape[0], 1)

    def mean(values: Array, seeds: Array) -> Array:
        return np.einsum("bs,bi,sli->bl", seeds, images, values, optimize=True)

    return bd_rate.batched(
        RdCurve(mean(rate_a, seeds_a), mean(quality_a, seeds_a)),
        RdCurve(mean(rate_t, seeds_t), mean(quality_t, seeds_t)),
        options.method,
    )


def _interval(replicates: Array) -> tuple[float | None, float | None, tuple[str, ...]]:
    valid = replicates[np.isfinite(replicates)]
    if len(replicates) == 0 or len(valid) < _VALID_SHARE * len(replicates):
        return None, None, (f"no interval: {len(replicates) - len(valid)} of {len(replicates)} draws have no BD-rate",)
    low, high = np.quantile(valid, [0.025, 0.975])
    return float(low), float(high), ()


class DomainMean(NamedTuple):
    """A family's BD-rate averaged over the test sets of a domain."""

    family: Family
    metric: Metric
    domain: Literal["in-domain", "unseen"]
    percent: float | None
    low: float | None
    high: float | None
    testsets: tuple[str, ...]  # those averaged
    missing: tuple[str, ...]  # those without a number


def domain_means(comparisons: list[Comparison], options: Options) -> list[DomainMean]:
    """Averages over in-domain and over unseen test sets, with the interval of the average."""
    groups: dict[tuple[Family, Metric, Literal["in-domain", "unseen"]], list[Comparison]] = {}
    for c in comparisons:
        kind = domain(c.testset, options)
        if kind is not None:
            groups.setdefault((c.family, c.metric, kind), []).append(c)
    means: list[DomainMean] = []
    for (family, metric, kind), members in groups.items():
        having = [c for c in members if c.percent is not None]
        replicates = [c.replicates for c in having if c.replicates is not None]
        percent = float(np.mean([c.percent for c in having if c.percent is not None])) if having else math.nan
        low, high, _ = _interval(np.mean(replicates, axis=0)) if replicates else (None, None, ())
        means.append(
            DomainMean(
                family=family,
                metric=metric,
                domain=kind,
                percent=percent if having else None,
                low=low,
                high=high,
                testsets=tuple(c.testset for c in having),
                missing=tuple(c.testset for c in members if c.percent is None),
            )
        )
    return means
