"""Every curve against the classical codecs, and on Kodak against the published curve of its architecture.

Whether a BD-rate between two trainings means anything depends on how good the codecs are in the first place.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from regicomp.report import bd_rate, published
from regicomp.report.bd_rate import RdCurve
from regicomp.report.curves import Curve
from regicomp.report.records import Family

_PUBLISHED = {
    "hyperprior": "bmshj2018-hyperprior",
    "autoregressive": "mbt2018",
    "attention": "cheng2020-attn",
    "elic": "elic-paper",
    "mlicpp": "mlicpp",
}
PUBLISHED = "published"


class Against(NamedTuple):
    """A curve against another codec's, in PSNR."""

    percent: float | None  # BD-rate, where both curves allow one
    least: float | None  # dB above the other codec at its own rates, over the points where the other has them
    most: float | None


class Row(NamedTuple):
    """A family on a test set, averaged over seeds."""

    family: Family
    testset: str
    curve: RdCurve  # PSNR
    against: dict[str, Against]  # by the other codec's name


def rows(
    curves: Iterable[Curve], classical: Mapping[str, Mapping[str, list[dict[str, Any]]]], method: bd_rate.Method
) -> list[Row]:
    """One for each curve on a test set of which the classical codecs' points are known.

    Args:
        curves: to be held against others.
        classical: by test set and codec points with `bpp` and `psnr_db`, by rising rate.
        method: of interpolation.
    """
    found: list[Row] = []
    for curve in curves:
        if curve.testset not in classical:
            continue
        ours = curve.points("psnr_db")
        others = {
            name: RdCurve(np.array([p["bpp"] for p in points]), np.array([p["psnr_db"] for p in points]))
            for name, points in classical[curve.testset].items()
        }
        known = published_curve(curve.family.backbone)
        if curve.testset == published.TESTSET and known is not None:
            others[PUBLISHED] = RdCurve(np.array(known.bpp), np.array(known.psnr_db))
        against = {name: _against(other, ours, method) for name, other in others.items()}
        found.append(Row(curve.family, curve.testset, ours, against))
    return found


def published_curve(backbone: str) -> published.Published | None:
    """The published curve of an architecture, or None for one that has none.

    Args:
        backbone: its name, as records have it.
    """
    name = _PUBLISHED.get(backbone)
    return next((c for c in published.curves() if c.name == name), None)


def _against(other: RdCurve, ours: RdCurve, method: bd_rate.Method) -> Against:
    inside = (ours.rate >= other.rate[0]) & (ours.rate <= other.rate[-1])
    there = np.interp(np.log(ours.rate), np.log(other.rate), other.quality)
    gaps = (ours.quality - there)[inside]
    fine = not bd_rate.problems(other, ours, 0.0)
    percent = bd_rate.bd_rate(other, ours, method) if fine else math.nan
    return Against(
        percent if math.isfinite(percent) else None,
        float(gaps.min()) if inside.any() else None,
        float(gaps.max()) if inside.any() else None,
    )
