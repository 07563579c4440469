"""Encoding and decoding many files, a row each."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tqdm import tqdm

if TYPE_CHECKING:
    pass


SUFFIX = ".rgc"


class Job(NamedTuple):
    """One file to make of another."""

    source: Path
    target: Path


class Row(NamedTuple):
    """A line of the report."""

    name: str
    width: int  # pixels
    height: int
    bytes: int
    psnr_db: float | None
    ms_ssim: float | None
    encode_seconds: float | None
    decode_seconds: float | None


def find(sources: Sequence[Path], reads: frozenset[str]) -> list[tuple[Path, Path]]:
    """The files that are meant, each with its path below the folder it was found in.

    Args:
        sources: files and folders; folders are searched through.
        reads: suffixes of what is taken from folders.

    Raises:
        ValueError: a source is missing, or a folder holds nothing to read.
    """
    found: list[tuple[Path, Path]] = []
    for source in sources:
        if source.is_dir():
            inside = sorted(p for p in source.rglob("*") if p.suffix.lower() in reads and p.is_file())
            if not inside:
                raise ValueError(f"{source}: holds no file to read ({', '.join(sorted(reads))})")
            found += [(p, p.relative_to(source)) for p in inside]
        elif source.is_file():
            found.append((source, Path(source.name)))
        else:
            raise ValueError(f"{source}: no such file or folder")
    return found


def plan(sources: Sequence[Path], out: Path, reads: frozenset[str], writes: str, force: bool) -> list[Job]:
    """Which file becomes which.

    Args:
        sources: see `find`.
        out: a file if there is one source file and `out` has a suffix, else a folder.
        reads: see `find`.
        writes: suffix of what is made in a folder.
        force: whether files may be replaced.

    Raises:
        ValueError: see `find`; or two sources would make one file, or a file would be replaced.
    """
    found = find(sources, reads)
    if len(found) == 1 and sources[0].is_file() and out.suffix and not out.is_dir():
        jobs = [Job(found[0][0], out)]
    else:
        if out.exists() and not out.is_dir():
            raise ValueError(f"{out}: must be a folder, since there are several pictures")
        jobs = [Job(source, out / below.with_suffix(writes)) for source, below in found]
    made: dict[Path, Path] = {}
    for job in jobs:
        if (other := made.setdefault(job.target, job.source)) != job.source:
            raise ValueError(f"{job.source} and {other} would both become {job.target}")
        if job.target.exists() and job.target.samefile(job.source):
            raise ValueError(f"{job.target}: would replace its own source")
        if job.target.exists() and not force:
            raise ValueError(f"{job.target}: exists; --force replaces it")
    return jobs


@contextlib.contextmanager
def _its_error(path: Path) -> Iterator[None]:
    """Begin a mistake's message with the file's path."""
    try:
        yield
    except ValueError as error:
        text = str(error)
        raise ValueError(text if text.startswith(str(path)) else f"{path}: {text}") from error


def _each(jobs: Sequence[Job], what: str, work: Callable[[Job], Row], report: bool) -> int:
    """Do all jobs, telling a failed one in a line and going on; the exit status."""
    rows: list[Row] = []
    failed = 0
    for job in tqdm(jobs, desc=what, unit="file", leave=False, disable=None if len(jobs) > 1 else True):
        try:
            with _its_error(job.source):
                rows.append(work(job))
        except (ValueError, OSError) as error:
            failed += 1
            tqdm.write(f"error: {' '.join(str(error).split())}", file=sys.stderr)
    if report and rows:
        print(table(rows))
    return 2 if failed else 0


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def table(rows: Sequence[Row]) -> str:
    """The report: a line a file, and their means if there are several."""
    lines: list[tuple[str, ...]] = [("file", "size", "bytes", "bpp", "PSNR dB", "MS-SSIM", "encode s", "decode s")]
    measured = [
        (8 * row.bytes / (row.width * row.height), row.psnr_db, row.ms_ssim, row.encode_seconds, row.decode_seconds)
        for row in rows
    ]
    digits = (4, 3, 5, 3, 3)
    for row, numbers in zip(rows, measured, strict=True):
        size = (row.name, f"{row.width}x{row.height}", str(row.bytes))
        lines.append((*size, *(_number(n, d) for n, d in zip(numbers, digits, strict=True))))
    if len(rows) > 1:
        means = []
        for column, d in zip(zip(*measured, strict=True), digits, strict=True):
            known = [n for n in column if n is not None]
            means.append(_number(sum(known) / len(known) if known else None, d))
        lines.append(("mean", "", str(sum(row.bytes for row in rows) // len(rows)), *means))
    widths = [max(len(line[k]) for line in lines) for k in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(w) if k == 0 else cell.rjust(w) for k, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )
