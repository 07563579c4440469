"""`python -m regicomp.check_data FOLDER…`: decode every image of a training set and say which would not be used."""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from regicomp.data import images
from regicomp.data.images import NOTED, REFUSED, BadImage
from regicomp.utils import files

_SHOWN = 3  # names a row of the table


class Finding(NamedTuple):
    """What was found out about one file; `refused` is a key of REFUSED, `noted` are keys of NOTED."""

    path: str
    bytes: int
    width: int | None
    height: int | None
    refused: str | None
    message: str
    noted: tuple[str, ...]


def examine(path: Path, crop: int) -> Finding:
    """Decode one file as training does."""
    size, width, height, noted = 0, None, None, ()
    try:
        size = path.stat().st_size
        width, height, noted = images.header(path)
        if min(width, height) < crop:
            raise BadImage(f"{path}: {width}x{height} is smaller than `--crop` (={crop})", "small")
        images.read(path)
    except BadImage as error:
        return Finding(str(path), size, width, height, error.kind, str(error), noted)
    except OSError as error:
        return Finding(str(path), size, None, None, "storage", f"{path}: {error}", ())
    return Finding(str(path), size, width, height, None, "", noted)


def scan(folders: Iterable[Path], crop: int, jobs: int) -> list[Finding]:
    """Examine all image files below some folders in parallel processes.

    Raises:
        ValueError: a folder is missing or holds no image.
    """
    paths = images.find(folders)
    with ProcessPoolExecutor(jobs) as processes:
        found = processes.map(partial(examine, crop=crop), paths, chunksize=max(1, min(64, len(paths) // (4 * jobs))))
        return list(tqdm(found, total=len(paths), desc="checking", unit="image", delay=1))


def unused(folders: Iterable[Path]) -> dict[str, int]:
    """Files below some folders that are not looked at, counted by suffix."""
    counts: Counter[str] = Counter()
    for folder in folders:
        for path in folder.rglob("*"):
            if path.suffix.lower() not in images.SUFFIXES and path.is_file():
                counts[path.suffix.lower() or path.name] += 1
    return dict(counts.most_common())


def report(findings: Sequence[Finding], others: dict[str, int], crop: int) -> dict[str, object]:
    """The report as a JSON value: counts, and every file that is refused or changed."""
    used = [f for f in findings if f.refused is None]
    return {
        "schema": 1,
        "crop": crop,
        "images": len(findings),
        "used": len(used),
        "refused": {kind: [f._asdict() for f in findings if f.refused == kind] for kind in REFUSED},
        "noted": {kind: [f._asdict() for f in used if kind in f.noted] for kind in NOTED},
        "other_files": others,
        "pixels": sum((f.width or 0) * (f.height or 0) for f in used),
        "bytes": sum(f.bytes for f in used),
    }


def _table(findings: Sequence[Finding], others: dict[str, int]) -> Table:
    table = Table(title=f"{len(findings)} images", title_justify="left")
    for column, justify in (
        ("kind", "left"),
        ("images", "right"),
        ("what becomes of them", "left"),
        ("such as", "left"),
    ):
        table.add_column(column, justify=justify, overflow="fold")  # pyright: ignore[reportArgumentType]

    def row(kind: str, paths: list[str], fate: str) -> None:
        if paths:
            more = f", and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
            table.add_row(kind, str(len(paths)), fate, ", ".join(Path(p).name for p in paths[:_SHOWN]) + more)

    plain = [f.path for f in findings if f.refused is None and not f.noted]
    table.add_row("as they are", str(len(plain)), "used", "")
    for kind, change in NOTED.items():
        row(kind, [f.path for f in findings if f.refused is None and kind in f.noted], f"used: {change}")
    for kind, what in REFUSED.items():
        row(kind, [f.path for f in findings if f.refused == kind], f"refused: {what}")
    if others:
        suffixes = ", ".join(f"{suffix} {count}" for suffix, count in list(others.items())[:8])
        table.add_row("other files", str(sum(others.values())), "not looked at", suffixes)
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m regicomp.check_data", description=__doc__)
    parser.add_argument("folders", metavar="FOLDER", type=Path, nargs="+", help="as in data.train_dir")
    parser.add_argument("--out", type=Path, metavar="JSON", help="write every finding here")
    parser.add_argument("--crop", type=int, default=256, help="side of the training crops, as data.crop (256)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (one a core)")
    given = parser.parse_args(arguments)
    with files.told_in_one_line():
        if given.crop < 1:
            raise ValueError(f"`--crop` (={given.crop}) must be at least 1")
        if given.jobs < 1:
            raise ValueError(f"`--jobs` (={given.jobs}) must be at least 1")
        findings = scan(given.folders, given.crop, given.jobs)
        others = unused(given.folders)
        if given.out:
            files.write_json(given.out, report(findings, others, given.crop))
        Console().print(_table(findings, others))
    refused = sum(finding.refused is not None for finding in findings)
    print(f"{len(findings) - refused} of {len(findings)} images are used in training, {refused} are refused")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
