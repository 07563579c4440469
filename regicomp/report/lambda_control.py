"""The λ control: λ at which a plain training has the rates of a regularized one (docs/theory.md).

The regularizer lowers the rate at a given λ. On codecs that are not done training such a shift along the curve moves
the BD-rate by itself, so a regularized codec is to be held against a plain one of the same rates, too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from regicomp.report.bd_rate import Array
from regicomp.report.comparison import Comparison, Options, domain
from regicomp.report.curves import Curve
from regicomp.report.records import Family


class Control(NamedTuple):
    """Where a family lies on the curve of its anchor, and the λ that would bring the anchor there."""

    family: Family
    testset: str
    lmbdas: tuple[float, ...]  # of both, (L,)
    shift: Array  # rate relative to the anchor's at the same λ, minus 1, in percent, (L,)
    control: Array  # λ of the control, (L,)


def controls(comparisons: Iterable[Comparison], curves: Iterable[Curve], options: Options) -> list[Control]:
    """One for each family that is compared with an anchor of the same λ, on the first test set, in-domain if it may be.

    Args:
        comparisons: of the families.
        curves: theirs and the anchors'.
        options: which test sets are in-domain.
    """
    by_key = {(c.family, c.testset): c for c in curves}
    found: dict[Family, Control] = {}
    for c in sorted(comparisons, key=lambda c: domain(c.testset, options) != "in-domain"):
        if c.anchor is None or c.family in found:
            continue
        anchor, test = by_key[c.anchor, c.testset], by_key[c.family, c.testset]
        seeds = [seed for seed in test.seeds if seed in anchor.seeds]
        if anchor.lmbdas != test.lmbdas or len(test.lmbdas) < 2 or not seeds:
            continue
        rates = [curve.of_seeds(seeds).rate.mean(axis=(0, 2)) for curve in (anchor, test)]
        lmbdas = matching(test.lmbdas, *rates)
        if lmbdas is not None:
            found[c.family] = Control(c.family, c.testset, test.lmbdas, 100 * (rates[1] / rates[0] - 1), lmbdas)
    return list(found.values())


def matching(lmbdas: Iterable[float], anchor: Array, test: Array) -> Array | None:
    """λ at which the anchor would have the rates `test`, by the local slope of its log R over log λ.

    Args:
        lmbdas: rising, of both curves, (L,) with L ≥ 2.
        anchor: rates of the anchor, (L,).
        test: rates to be met, (L,).

    Returns:
        (L,), or None where the anchor's rates do not rise with λ.
    """
    logs = np.log(np.array(list(lmbdas)))
    slopes = np.gradient(np.log(anchor), logs)
    if not (np.diff(anchor) > 0).all():
        return None
    return np.exp(logs + np.log(test / anchor) / slopes)
