"""results.json, the record of a run, and the table made from it."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

SCHEMA = 1


def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    packages = ("regicomp", "torch", "compressai", "lightning", "numpy", "pillow")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def read(path: Path) -> dict[str, Any]:
    """Read a record.

    Raises:
        ValueError: it is unreadable or of another schema.
    """
    try:
        record = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: is not a readable record ({error})") from error
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        found = record.get("schema") if isinstance(record, dict) else None
        raise ValueError(f"{path}: is a record of schema {found}; expected {SCHEMA}")
    return record


class Point(NamedTuple):
    """One operating point of a record: a run's only one, or one of a codec of variable rate."""

    quality: float | None
    lmbda: float | None
    testsets: dict[str, Any]  # as in the record


def points(record: dict[str, Any]) -> list[Point]:
    """A record's points: a level each where the rate is variable, else one."""
    if "levels" not in record:
        run = record["run"]
        return [Point(run.get("quality"), run.get("lmbda"), record["testsets"])]
    return [Point(level["quality"], level["lmbda"], level["testsets"]) for level in record["levels"]]


def strength(run: Mapping[str, Any]) -> str:
    """The regularizer's strength in a record's `run` entry, such as "α = 0.1", or "ρ = 0.05" of a constant pressure."""
    return f"α = {run['alpha']:g}" if run.get("pressure") is None else f"ρ = {run['pressure']:g}"


def stopped_early(run: Mapping[str, Any]) -> str:
    """Of a record's `run` entry: ", stopped early at update 4000 of 10000"; nothing of a run that was not."""
    early = run.get("stopped_early")
    return "" if early is None else f", stopped early at update {run['steps']} of {early['max_steps']}"


OPTIMIZED = ("j", "bpp", "psnr_db", "ms_ssim", "source_bpp")


def optimized(record: dict[str, Any], metric: str) -> float | None:
    """One figure of a run, for a sweeper that searches settings: of its first test set, a mean over the points.

    Args:
        record: of a run; another mapping, such as a plan, has no figure.
        metric: "j" for R + λD of the record's bytes and reconstructions, or a metric of the record.

    Raises:
        ValueError: the run was not measured by that metric.
    """
    if "run" not in record:
        return None
    values: list[float] = []
    for point in points(record):
        entry = next(iter(point.testsets.values()))
        found = _lagrangian(entry, point.lmbda or 0.0, record["run"]["distortion"]) if metric == "j" else entry[metric]
        if found is None:
            raise ValueError(f"`optimized_metric` (={metric}) must be measured in every run; this one has none")
        values.append(found)
    return sum(values) / len(values)


def _lagrangian(entry: dict[str, Any], lmbda: float, distortion: str) -> float | None:
    """J = R + λD, the mean over a test set's images; None where MS-SSIM was not measured on one of them."""
    total = 0.0
    for image in entry["images"]:
        if distortion == "ms_ssim":
            if image["ms_ssim"] is None:
                return None
            error = 1 - image["ms_ssim"]
        else:
            error = 255**2 / 10 ** (image["psnr_db"] / 10)
        total += image["bpp"] + lmbda * error
    return total / len(entry["images"])


def _cell(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def print_table(record: dict[str, Any], classical: list[dict[str, dict[str, float | None]]] | None = None) -> None:
    """Print a row a test set and point; `classical` gives for each point, by test set and codec, the PSNR in dB at its
    rate."""
    run, measured = record["run"], points(record)
    alpha = "" if run.get("alpha") is None else f", {strength(run)}"
    if alpha and len(measured) == 1 and measured[0].lmbda is not None:
        alpha += f", λ = {measured[0].lmbda:g}"
    told = f"{run.get('steps')} steps{stopped_early(run)}, seed {run.get('seed')}"
    table = Table(title=f"{run['backbone']}{alpha}, {told}")
    columns = [
        "test set",
        "images",
        "bpp",
        "bpp estimated",
        "PSNR dB",
        "MS-SSIM",
        "H_θ bpp",
        "encode s",
        "decode s",
    ]
    if len(measured) > 1:
        columns[1:1] = ["quality", "λ"]
    rivals = sorted({name for of_point in classical or [] for rows in of_point.values() for name in rows})
    for column in [*columns, *(f"{name} dB" for name in rivals)]:
        table.add_column(column, justify="left" if column == "test set" else "right")
    for name in measured[0].testsets:
        for k, point in enumerate(measured):
            entry = point.testsets[name]
            images = entry["images"]
            seconds = [sum(i[key] for i in images) / len(images) for key in ("encode_seconds", "decode_seconds")]
            of_rivals = classical[k].get(name, {}) if classical else {}
            table.add_row(
                name,
                *([f"{point.quality:g}", f"{point.lmbda:g}"] if len(measured) > 1 else []),
                str(len(images)),
                _cell(entry["bpp"], 4),
                _cell(entry["bpp_estimated"], 4),
                _cell(entry["psnr_db"], 3),
                _cell(entry["ms_ssim"], 4),
                _cell(entry["source_bpp"], 3),
                *(_cell(s, 2) for s in seconds),
                *(_cell(of_rivals.get(rival), 3) for rival in rivals),
            )
    Console(width=None if Console().is_terminal else 140).print(table)
    if rivals:
        print(f"{', '.join(rivals)}: PSNR at the run's bpp on the same images (Pillow; - where out of its range)")
