"""Records found in folders, checked, and cut into measurements: one run on one test set each."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from regicomp.evaluation import record

RECORD = "results.json"
_CLOSE = 1e-4  # of an average in a record to the one computed from its images


class Budget(NamedTuple):
    """Steps and data of a training run; None where the record does not say."""

    steps: int | None
    data: str | None
    crop: int | None
    batch_size: int | None

    def differences(self, other: Budget) -> list[str]:
        """Fields that both name and that differ, such as "steps 1000 and 2000"."""
        return [
            f"{field} {mine} and {theirs}"
            for field, mine, theirs in zip(self._fields, self, other, strict=True)
            if mine is not None and theirs is not None and mine != theirs
        ]


class Family(NamedTuple):
    """The settings that the points of one curve, over λ and seeds, have in common."""

    backbone: str
    source: str | None
    alpha: float
    distortion: str  # mse or ms_ssim
    size: str | None
    variant: str | None
    budget: Budget
    rate: str = "fixed"  # or variable: one run for all points
    constant_pressure: bool = False  # alpha is ρ

    @property
    def label(self) -> str:
        """A short name, such as "hyperprior, α = 0.1"."""
        named = [self.backbone, f"{'ρ' if self.constant_pressure else 'α'} = {self.alpha:g}"]
        if self.source is not None and self.source != self.backbone:
            named.append(f"q_θ {self.source}")
        elif self.source is not None and self.alpha == 0:
            named.append("with q_θ beside it")
        named += ["MS-SSIM"] if self.distortion != "mse" else []
        named += ["variable rate"] if self.rate != "fixed" else []
        return ", ".join([*named, *([self.variant] if self.variant else [])])


class Measurement(NamedTuple):
    """A run on a test set; arrays hold a value an image, NaN where the record has none."""

    family: Family
    lmbda: float
    seed: int
    quality: float | None
    testset: str
    images: tuple[str, ...]  # name and size, "kodim01.png 768x512"
    rate: NDArray[np.float64]  # bits per pixel, real bytes
    psnr_db: NDArray[np.float64]
    ms_ssim_db: NDArray[np.float64]
    entry: dict[str, Any]  # the record's entry of the test set
    run: dict[str, Any]  # the record's run entry
    timing: dict[str, Any]
    folder: Path  # of the run
    label: str  # the folder's name below what all runs have in common

    @property
    def point(self) -> str:
        """A name of its own among the points on a test set: the run's label, and the quality where it has several."""
        return self.label if self.family.rate == "fixed" else f"{self.label}, quality {self.quality:g}"

    @property
    def settings(self) -> str:
        """The rest of a run's name after its family, such as "λ = 0.0067, seed 0"; of variable rate the seed alone."""
        return f"λ = {self.lmbda:g}, seed {self.seed}" if self.family.rate == "fixed" else f"seed {self.seed}"

    @property
    def level(self) -> float | None:
        """The quality that its codec must be told; None where it has but one."""
        return None if self.family.rate == "fixed" else self.quality


class Skipped(NamedTuple):
    """Something that is in no table, and why."""

    where: str
    why: str


class Collection(NamedTuple):
    """Measurements found in folders, and what was left out."""

    measurements: list[Measurement]
    skipped: list[Skipped]


def collect(paths: Iterable[Path]) -> Collection:
    """Read every record in files and, recursively, folders; nothing is dropped without an entry in `skipped`.

    Raises:
        ValueError: there is not one usable measurement.
    """
    paths = list(paths)
    skipped: list[Skipped] = []
    files: dict[Path, None] = {}
    for path in paths:
        found = sorted(path.rglob(RECORD)) if path.is_dir() else [path]
        if not path.exists():
            skipped.append(Skipped(str(path), "no such file or folder"))
        elif not found:
            skipped.append(Skipped(str(path), f"holds no {RECORD}"))
        else:
            files |= {file.resolve(): None for file in found}
    labels = _labels(list(files))
    measurements: list[Measurement] = []
    for file in files:
        try:
            known = record.read(file)
            about = known["run"]
            family = _family(about)
            seed = int(_number(about, "seed"))
            points = [(_number(p, "lmbda"), p.get("quality"), dict(p["testsets"])) for p in _points(known)]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            skipped.append(Skipped(labels[file], _reason(error, file)))
            continue
        if not any(entries for _, _, entries in points):
            skipped.append(Skipped(labels[file], "was measured on no test set"))
        for lmbda, quality, entries in points:
            level = "" if len(points) == 1 else f" at quality {quality:g}"
            for testset, entry in entries.items():
                try:
                    arrays = _arrays(entry)
                except (ValueError, KeyError, TypeError, AttributeError) as error:
                    skipped.append(Skipped(f"{labels[file]}, {testset}{level}", _reason(error, file)))
                    continue
                measurements.append(
                    Measurement(
                        family=family,
                        lmbda=lmbda,
                        seed=seed,
                        quality=quality,
                        testset=testset,
                        **arrays,
                        entry=entry,
                        run=about,
                        timing=known.get("timing") or {},
                        folder=file.parent,
                        label=labels[file],
                    )
                )
    measurements, doubles = _without_doubles(measurements)
    skipped += doubles
    if not measurements:
        said = "; ".join(f"{s.where}: {s.why}" for s in skipped[:5])
        raise ValueError(f"`RUNS` ({', '.join(map(str, paths))}) must hold at least one usable {RECORD}: {said}")
    return Collection(measurements, skipped)


def _points(known: dict[str, Any]) -> list[dict[str, Any]]:
    """λ, quality and test sets of each point of a record: one, or one for each level."""
    return known["levels"] if "levels" in known else [{**known["run"], "testsets": known["testsets"]}]


def _labels(files: list[Path]) -> dict[Path, str]:
    """Each run folder's name below the folder they share; a lone one's own name."""
    folders = [file.parent for file in files]
    if len(set(folders)) < 2:
        return {file: file.parent.name for file in files}
    shared = Path(os.path.commonpath(folders))
    return {
        file: shared.name if file.parent == shared else file.parent.relative_to(shared).as_posix() for file in files
    }


def _reason(error: Exception, file: Path) -> str:
    if isinstance(error, KeyError):
        return f"lacks {error}"
    if isinstance(error, TypeError | AttributeError):
        return f"is not laid out as a record ({error})"
    return str(error).removeprefix(f"{file}: ")


def _number(about: dict[str, Any], key: str) -> float:
    value = about[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"`{key}` is {value}, not a number")
    return float(value)


def _family(about: dict[str, Any]) -> Family:
    steps = about.get("steps")
    return Family(
        backbone=str(about["backbone"]),
        source=None if about.get("source") is None else str(about["source"]),
        alpha=_number(about, "alpha"),
        distortion=str(about.get("distortion") or "mse"),
        size=about.get("size"),
        variant=about.get("variant"),
        budget=Budget(
            None if steps is None else int(steps), _data(about.get("data")), about.get("crop"), about.get("batch_size")
        ),
        rate="fixed" if about.get("lambdas") is None else "variable",
        constant_pressure=about.get("pressure") is not None,
    )


def _data(named: Any) -> str | None:
    """A run's training data as one string: records list their folders."""
    return ", ".join(map(str, named)) if isinstance(named, list) else named


def _arrays(entry: dict[str, Any]) -> dict[str, Any]:
    """The measurements' columns.

    Raises:
        ValueError: no images, a metric is missing or not finite, or the averages do not follow from the images.
    """
    rows = entry["images"]
    if not rows:
        raise ValueError("its record lists no images")
    columns: dict[str, NDArray[np.float64]] = {}
    for key, metric in (("rate", "bpp"), ("psnr_db", "psnr_db"), ("ms_ssim_db", "ms_ssim_db")):
        values: list[float] = []
        for row in rows:
            value = row.get(metric)
            if value is None and metric == "ms_ssim_db":
                values.append(math.nan)  # the image is too small for it
            elif not isinstance(value, int | float) or not math.isfinite(value):
                raise ValueError(f"`{metric}` of image {row.get('name')} is {value}")
            elif metric == "bpp" and value <= 0:
                raise ValueError(f"`bpp` of image {row.get('name')} is {value}, not above 0")
            else:
                values.append(float(value))
        columns[key] = np.array(values)
        average = entry.get(metric)
        if average is not None and np.isfinite(columns[key]).any():
            mean = float(np.nanmean(columns[key]))
            if not math.isfinite(average) or abs(average - mean) > _CLOSE * max(1, abs(mean)):
                raise ValueError(f"its average `{metric}` ({average}) does not follow from its images ({mean:.6g})")
    images = tuple(f"{row['name']} {row['width']}x{row['height']}" for row in rows)
    return {"images": images, **columns}


def _without_doubles(measurements: list[Measurement]) -> tuple[list[Measurement], list[Skipped]]:
    """Keep one measurement of each family, λ, seed and test set, the first by path, and say which went."""
    kept: dict[tuple[Family, float, int, str], Measurement] = {}
    skipped: list[Skipped] = []
    for m in measurements:
        first = kept.setdefault((m.family, m.lmbda, m.seed, m.testset), m)
        if first is m:
            continue
        hashes = [run.run.get("config_hash") for run in (first, m)]
        if hashes[0] == hashes[1]:
            same = np.array_equal(first.rate, m.rate) and np.array_equal(first.psnr_db, m.psnr_db)
            why = f"is a duplicate of {first.label} (configuration {hashes[0]}, seed {m.seed}), which is kept; "
            why += "their figures are equal" if same else "their figures differ"
        else:
            why = (
                f"is the same point as {first.label} (λ {m.lmbda:g}, seed {m.seed}) by another configuration "
                f"({hashes[1]} and {hashes[0]}), which is kept; give them different names by `variant` to compare them"
            )
        skipped.append(Skipped(f"{m.label}, {m.testset}", why))
    return list(kept.values()), skipped
