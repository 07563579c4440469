"""Looking over a folder of training images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from rich.table import Table
from tqdm import tqdm

from regicomp.data import images
from regicomp.data.images import NOTED, REFUSED, BadImage
from regicomp.utils.pool import process_pool


class Finding(NamedTuple):
    """The findings about one file; `refused` is a key of REFUSED, `noted` are keys of NOTED."""

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
    with process_pool(jobs) as processes:
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


_SHOWN = 3  # names a row of the table


def table(findings: Sequence[Finding], others: dict[str, int]) -> Table:
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
