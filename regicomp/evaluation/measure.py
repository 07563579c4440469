"""A codec measured on its test sets: the record, the table in the terminal, the picture."""

from __future__ import annotations

import datetime
import time
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from regicomp.data.testsets import TestSet
from regicomp.distributed import environment
from regicomp.evaluation import classical_codecs, record, round_trip, summary_picture
from regicomp.source.base import SourceModel
from regicomp.utils import files, machine


class Measured(NamedTuple):
    """A run measured on its test sets."""

    record: dict[str, Any]  # as in results.json
    classical: dict[str, dict[str, list[dict[str, Any]]]]  # by test set, the classical codecs' points by name


def measure(
    run_dir: Path,
    codec: round_trip.Codec,
    source: SourceModel | None,
    testsets: list[TestSet],
    run: dict[str, Any],
    timing: dict[str, Any],
    helpers: round_trip.Helpers | None = None,
) -> Measured:
    """Code every image of every test set to bytes and back, and write `results.json` and `summary.png`.

    Args:
        run_dir: where they are written.
        codec: the trained codec.
        source: q_θ, to measure H_θ(X|X̂) too.
        testsets: what is measured; the picture shows the first.
        run: the record's `run` entry.
        timing: seconds already spent and on what, for the record.
        helpers: processes that measure images of this codec and q_θ; see `parallel`.

    Returns:
        The record, and the classical codecs' curves.

    Raises:
        RuntimeError: a decoded image is not the encoder's reconstruction.
    """
    started = time.perf_counter()
    qualities = [None] if codec.levels is None else [float(k + 1) for k in range(codec.levels)]
    found = [_at(quality, codec, source, testsets, helpers) for quality in qualities]
    if codec.levels is None:
        measured: dict[str, Any] = {"testsets": found[0]}
    else:
        measured = {
            "levels": [
                {"quality": quality, "lmbda": float(lmbda), "testsets": entries}
                for quality, lmbda, entries in zip(qualities, codec.lambdas, found, strict=True)
            ]
        }
    written = {
        "schema": record.SCHEMA,
        "run": run,
        **measured,
        "timing": {
            **timing,
            "evaluation_seconds": time.perf_counter() - started,
            "measured_on": machine.name("cpu"),
            "date": datetime.date.today().isoformat(),
        },
    }
    if not environment.is_first():
        return Measured(written, {})
    curves = {t.name: {a.name: classical_codecs.cached(a, t) for a in classical_codecs.QUICK} for t in testsets}
    rivals = [
        {
            testset: {
                name: classical_codecs.psnr_at(points, entries[testset]["bpp"]) for name, points in of_set.items()
            }
            for testset, of_set in curves.items()
        }
        for entries in found
    ]
    record.print_table(written, rivals)
    first = testsets[0]
    label = f"{run['backbone']}, {record.strength(run)}"
    shown = [entries[first.name] for entries in found]
    summary_picture.draw(run_dir / "summary.png", codec, first, shown, curves[first.name], label)
    files.write_json(run_dir / "results.json", written)  # last: a run that has its record is finished
    print(f"record: {run_dir / 'results.json'}\npicture: {run_dir / 'summary.png'}")
    return Measured(written, curves)


def _at(
    quality: float | None,
    codec: round_trip.Codec,
    source: SourceModel | None,
    testsets: list[TestSet],
    helpers: round_trip.Helpers | None,
) -> dict[str, Any]:
    """The entries of all test sets at one quality."""
    entries: dict[str, Any] = {}
    for testset in testsets:
        told = f"measuring on {testset.name}" + ("" if quality is None else f" at quality {quality:g}")
        with tqdm(total=len(testset.images), desc=told, unit="image", leave=False) as bar:
            entries[testset.name] = round_trip.evaluate(codec, testset, source, bar, helpers, quality)
    return entries
