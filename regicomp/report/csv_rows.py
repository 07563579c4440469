"""Rows of results.csv and bd_rate.csv."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from regicomp.report import bd_rate, comparison, trainings
from regicomp.report.comparison import Comparison, DomainMean
from regicomp.report.records import Family, Measurement
from regicomp.utils.files import write_bytes


def write_csv(path: Path, rows: list[dict[str, Any]], columns: Iterable[str]) -> None:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_bytes(path, buffer.getvalue().encode())


def _rounded(value: float | None, digits: int = 6) -> str | None:
    return None if value is None or not np.isfinite(value) else f"{value:.{digits}f}"


def _about(family: Family) -> dict[str, Any]:
    fields = {**family._asdict(), **family.budget._asdict()}
    return {k: f"{v:g}" if isinstance(v, float) else v for k, v in fields.items() if k != "budget"}


_ABOUT = (
    *("backbone", "rate", "source", "alpha", "constant_pressure", "distortion", "size", "variant"),
    *("steps", "data", "crop", "batch_size"),
)
_METRICS = ("bpp", "bpp_estimated", "psnr_db", "psnr_db_float", "ms_ssim", "ms_ssim_db", "source_bpp")
RESULT_COLUMNS = (
    *("run", *_ABOUT, "lmbda", "quality", "seed", "testset", "images", *_METRICS),
    *("encode_seconds", "decode_seconds", "training_seconds", "evaluation_seconds"),
    *("trained_on", "measured_on", "date"),
    *("parameters", "source_parameters", "config_hash"),
    *("regicomp", "torch"),
)


def result_rows(measurements: list[Measurement]) -> list[dict[str, Any]]:
    """A row a run and test set."""
    rows: list[dict[str, Any]] = []
    for m in measurements:
        images = m.entry["images"]
        seconds = {
            key: _rounded(float(np.mean([i[key] for i in images])), 4) if all(key in i for i in images) else None
            for key in ("encode_seconds", "decode_seconds")
        }
        versions = m.run.get("versions") or {}
        rows.append(
            {
                "run": m.label,
                **_about(m.family),
                "lmbda": f"{m.lmbda:g}",
                "quality": m.quality,
                "seed": m.seed,
                "testset": m.testset,
                "images": len(images),
                **{key: _rounded(m.entry.get(key)) for key in _METRICS},
                **seconds,
                **{key: _rounded(m.timing.get(key), 1) for key in ("training_seconds", "evaluation_seconds")},
                **{key: m.timing.get(key) for key in ("trained_on", "measured_on", "date")},
                **{key: m.run.get(key) for key in ("parameters", "source_parameters", "config_hash")},
                **{key: versions.get(key) for key in ("regicomp", "torch")},
            }
        )
    return sorted(rows, key=lambda row: (row["testset"], row["run"]))


BD_COLUMNS = (
    *(*_ABOUT, "testset", "domain", "metric", "method", "seed"),
    *("bd_rate_percent", "low_95", "high_95", "bd_rate_other_percent", "other_method"),
    *("trainings_percent", "trainings_low_95", "trainings_high_95"),
    *("overlap", "points", "anchor_points", "images", "anchor", "problems", "notes"),
)


def bd_rows(
    comparisons: list[Comparison], means: list[DomainMean], options: comparison.Options, labels: dict[Family, str]
) -> list[dict[str, Any]]:
    """A row a comparison, one for each of its seeds, and one a domain's mean."""
    rows: list[dict[str, Any]] = []
    for c in comparisons:
        base = {
            **_about(c.family),
            "testset": c.testset,
            "domain": comparison.domain(c.testset, options),
            "metric": c.metric,
            "method": c.method,
            "anchor": labels[c.anchor] if c.anchor else None,
        }
        over = trainings.over_trainings(list(c.by_seed.values()))
        rows.append(
            {
                **base,
                "seed": "all" if len(c.seeds) != 1 else next(iter(c.seeds)),
                "bd_rate_percent": _rounded(c.percent, 4),
                "low_95": _rounded(c.low, 4),
                "high_95": _rounded(c.high, 4),
                "bd_rate_other_percent": _rounded(c.other, 4),
                "other_method": next(m for m in bd_rate.METHODS if m != c.method),
                "trainings_percent": _rounded(over.percent, 4) if over else None,
                "trainings_low_95": _rounded(over.low, 4) if over else None,
                "trainings_high_95": _rounded(over.high, 4) if over else None,
                "overlap": _rounded(c.overlap, 3),
                "points": c.points,
                "anchor_points": c.anchor_points,
                "images": c.images,
                "problems": "; ".join(c.problems),
                "notes": "; ".join(c.notes),
            }
        )
        rows += [
            {**base, "seed": seed, "bd_rate_percent": _rounded(percent, 4), "images": c.images}
            for seed, percent in c.by_seed.items()
        ]
    for mean in means:
        rows.append(
            {
                **_about(mean.family),
                "testset": f"mean of {', '.join(mean.testsets)}" if mean.testsets else "mean",
                "domain": mean.domain,
                "metric": mean.metric,
                "method": options.method,
                "seed": "all",
                "bd_rate_percent": _rounded(mean.percent, 4),
                "low_95": _rounded(mean.low, 4),
                "high_95": _rounded(mean.high, 4),
                "notes": f"without {', '.join(mean.missing)}" if mean.missing else "",
            }
        )
    return rows
