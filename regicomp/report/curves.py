"""Rate-distortion curves from records."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple, get_args

import numpy as np

from regicomp.report.bd_rate import Array, RdCurve
from regicomp.report.records import Family, Measurement, Skipped


class Curve(NamedTuple):
    """A family on a test set: every λ by every seed on the same images."""

    family: Family
    testset: str
    lmbdas: tuple[float, ...]  # rising, (L,)
    qualities: tuple[float | None, ...]  # the record's `quality` at each λ, (L,)
    seeds: tuple[int, ...]  # (S,)
    images: tuple[str, ...]  # (I,)
    rate: Array  # bits per pixel, (S, L, I)
    psnr_db: Array
    ms_ssim_db: Array  # NaN where an image is too small for it
    parameters: tuple[int | None, ...]  # of the codec at each λ

    def of_seeds(self, seeds: Iterable[int]) -> Curve:
        """The same with some seeds only."""
        seeds = tuple(seeds)
        chosen = [self.seeds.index(seed) for seed in seeds]
        return self._replace(
            seeds=seeds, rate=self.rate[chosen], psnr_db=self.psnr_db[chosen], ms_ssim_db=self.ms_ssim_db[chosen]
        )

    def values(self, metric: Metric) -> tuple[Array, Array]:
        """Rate and quality of the images that have this metric at every point, (S, L, I')."""
        quality: Array = getattr(self, metric)
        usable = np.isfinite(quality).all(axis=(0, 1))
        return self.rate[:, :, usable], quality[:, :, usable]

    def points(self, metric: Metric) -> RdCurve:
        """Averages over seeds and images, (L,)."""
        rate, quality = self.values(metric)
        if rate.shape[2] == 0:
            return RdCurve(np.empty(0), np.empty(0))
        return RdCurve(rate.mean(axis=(0, 2)), quality.mean(axis=(0, 2)))


def curves_of(measurements: Iterable[Measurement]) -> tuple[list[Curve], list[Skipped]]:
    """Curves by family and test set, and what fits into none of them."""
    groups: dict[tuple[Family, str], list[Measurement]] = {}
    for m in measurements:
        groups.setdefault((m.family, m.testset), []).append(m)
    found: list[Curve] = []
    skipped: list[Skipped] = []
    for members in groups.values():
        curve, left_out = _curve(members)
        found.append(curve)
        skipped += left_out
    order = sorted(found, key=lambda c: (c.testset, _sort_key(c.family)))
    return order, skipped


def _sort_key(family: Family) -> tuple[object, ...]:
    return tuple("" if value is None else str(value) for value in family._replace(alpha=0)), family.alpha


def _curve(members: list[Measurement]) -> tuple[Curve, list[Skipped]]:
    """A full grid of λ and seeds on one list of images, and the measurements outside it."""
    skipped: list[Skipped] = []
    lists = [m.images for m in members]
    images = max(dict.fromkeys(lists), key=lists.count)
    for m in members:
        if m.images != images:
            why = f"was measured on other images than the rest of its curve ({len(m.images)}, not those {len(images)})"
            skipped.append(Skipped(f"{m.label}, {m.testset}", why))
    cells = {(m.seed, m.lmbda): m for m in members if m.images == images}
    of_seed = {seed: {lm for s, lm in cells if s == seed} for seed in sorted({s for s, _ in cells})}
    most = max(map(len, of_seed.values()))
    seeds = tuple(seed for seed, lmbdas in of_seed.items() if len(lmbdas) == most)
    lmbdas = tuple(sorted(set.intersection(*(of_seed[seed] for seed in seeds))))
    for (seed, lmbda), m in cells.items():
        if seed not in seeds:
            missing = ", ".join(f"{v:g}" for v in sorted(set().union(*of_seed.values()) - of_seed[seed]))
            skipped.append(Skipped(f"{m.label}, {m.testset}", f"seed {seed} has no run at λ {missing}"))
        elif lmbda not in lmbdas:
            lacking = ", ".join(str(s) for s in seeds if lmbda not in of_seed[s])
            skipped.append(Skipped(f"{m.label}, {m.testset}", f"λ {lmbda:g} has no run of seed {lacking}"))
    grid = [[cells[seed, lmbda] for lmbda in lmbdas] for seed in seeds]
    shape = (len(seeds), len(lmbdas), len(images))

    def stack(column: str) -> Array:
        return np.array([[getattr(m, column) for m in row] for row in grid], dtype=np.float64).reshape(shape)

    first = members[0]
    return Curve(
        family=first.family,
        testset=first.testset,
        lmbdas=lmbdas,
        qualities=tuple(m.quality for m in grid[0]),
        seeds=seeds,
        images=images,
        rate=stack("rate"),
        psnr_db=stack("psnr_db"),
        ms_ssim_db=stack("ms_ssim_db"),
        parameters=tuple(m.run.get("parameters") for m in grid[0]),
    ), skipped


Metric = Literal["psnr_db", "ms_ssim_db"]


METRICS: tuple[Metric, ...] = get_args(Metric)


TITLES: dict[Metric, str] = {"psnr_db": "PSNR", "ms_ssim_db": "MS-SSIM"}
